"""The Services of an agent: one public name, one for each stage, and those of a placement.

Their selectors name labels that pods have from their beginning. So another placement becomes public, or the one of a
stage, without any pod's restart. Tasks come by the public Service, by that of a stage, or from other placements by the
Service of this one. These three lead to no pod that was chosen to go, since it lacks `ENDPOINT_LABEL`.
"""

from collections.abc import Iterable
from typing import Any

from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_labels,
    agent_service,
    build_child,
    build_placement_child,
    endpoint_selector,
    guard_service,
    public_service,
    selector,
    stage_service,
    task_service,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import STAGE_LABEL
from interlock_contract.pod import GUARD_HOST, LOOPBACK, MCP_PORT, OBSERVE_PORT, TASK_PORT

SERVICE_PORT = 80
"""Port at which the Services in front of guards take tasks, so that a URL needs no port."""


def guard_url(placement: Placement) -> str:
    """Return the beginning of every URL at which the agent reaches its guard."""
    return f"http://{GUARD_HOST if placement.is_separate else LOOPBACK}:{MCP_PORT}"


def addresses_of(service: Manifest | None) -> tuple[str, ...]:
    """Return the cluster IPs of a Service, none before the API server has assigned them."""
    spec: dict[str, Any] = {} if service is None else service.get("spec", {})
    first = [spec["clusterIP"]] if spec.get("clusterIP") else []
    return tuple(spec.get("clusterIPs") or first)


def task_url(placement: Placement) -> str:
    """Return the address at which the guards of other placements reach this one's port for tasks."""
    return f"http://{task_service(placement)}.{placement.agent.metadata.namespace}.svc:{SERVICE_PORT}"


def build_public_service(placement: Placement) -> Manifest:
    """Return the agent's public Service, in front of the guards of its public placement."""
    return _build_front(placement, public_service(placement.agent), {})


def build_stage_services(placements: Iterable[Placement]) -> tuple[Manifest, ...]:
    """Return a Service for each stage that has a placement, in front of its guards.

    Of several placements in one stage it selects the first one that is serving, or else the first one.

    Args:
        placements: The agent's placements, the newest first.
    """
    chosen: dict[str, Placement] = {}
    for one in placements:
        known = chosen.get(one.stage.name)
        if known is None or (_is_taking_work(one) and not _is_taking_work(known)):
            chosen[one.stage.name] = one
    return tuple(
        _build_front(one, stage_service(one.agent, stage), {STAGE_LABEL: stage}) for stage, one in chosen.items()
    )


def _is_taking_work(placement: Placement) -> bool:
    return placement.is_serving and not placement.is_draining


def _build_front(placement: Placement, name: str, labels: dict[str, str]) -> Manifest:
    """Return a Service in front of a placement's guards that belongs to the agent as a whole."""
    agent, ports = placement.agent, [_port("observe", OBSERVE_PORT)]
    if agent.spec.tasks is not None:
        ports.append(_task_port())
    spec = {"type": "ClusterIP", "selector": endpoint_selector(placement), "ports": ports}
    return build_child(agent, "v1", "Service", name, agent_labels(agent, "guard") | labels, spec=spec)


def build_task_service(placement: Placement) -> tuple[Manifest, ...]:
    """Return the Service at which other placements' guards pass tasks on; none where no other one takes tasks."""
    if not placement.peers:
        return ()
    spec = {"type": "ClusterIP", "selector": endpoint_selector(placement), "ports": [_task_port()]}
    return (_build(placement, task_service(placement), "guard", spec),)


def build_internal_services(placement: Placement) -> tuple[Manifest, ...]:
    """Return the Services through which separate pods reach each other; none where agent and guard share a pod."""
    if not placement.is_separate:
        return ()
    to_guard = {
        "type": "ClusterIP",
        # Calls go to a guard that stays, if there is one. If all go, they still serve the tasks that are under way.
        "selector": endpoint_selector(placement) if placement.leaves_guards else selector(placement, GUARD_POD),
        # An agent's pod stays with one guard, because sessions and their streams live there.
        "sessionAffinity": "ClientIP",
        # The observe port is here for the egress check: it answers wherever it is not closed.
        "ports": [_port("mcp", MCP_PORT), _port("observe", OBSERVE_PORT)],
    }
    services = [_build(placement, guard_service(placement), GUARD_POD, to_guard)]
    if placement.agent.spec.tasks is not None:
        # Headless: the guard finds the agent's pods by DNS and sends tasks to the agent's own port.
        to_agent = {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector(placement, AGENT_POD),
            "ports": [_port("agent", placement.agent.spec.tasks.port)],
        }
        services.append(_build(placement, agent_service(placement), AGENT_POD, to_agent))
    return tuple(services)


def _build(placement: Placement, name: str, component: str, spec: dict[str, Any]) -> Manifest:
    return build_placement_child(placement, "v1", "Service", name, component, spec=spec)


def _task_port() -> dict[str, Any]:
    return _port("tasks", SERVICE_PORT, TASK_PORT) | {"appProtocol": "http"}


def _port(name: str, port: int, target: int | None = None) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target or port, "protocol": "TCP"}
