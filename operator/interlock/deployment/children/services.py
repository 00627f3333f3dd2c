"""The Services of an agent: one public name for tasks and probes, and two between separate pods."""

from typing import Any

from interlock.api.agent import Agent
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_labels,
    agent_service,
    build_child,
    build_placement_child,
    guard_service,
    public_service,
    selector,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import GUARD_LABEL
from interlock_contract.pod import GUARD_HOST, LOOPBACK, MCP_PORT, OBSERVE_PORT, TASK_PORT

SERVICE_PORT = 80
"""Port at which the public Service takes tasks, so that a URL needs no port."""


def guard_url(placement: Placement) -> str:
    """Return the beginning of every URL at which the agent reaches its guard."""
    return f"http://{GUARD_HOST if placement.is_separate else LOOPBACK}:{MCP_PORT}"


def addresses_of(service: Manifest | None) -> tuple[str, ...]:
    """Return the cluster IPs of a Service, none before the API server has assigned them."""
    spec: dict[str, Any] = {} if service is None else service.get("spec", {})
    first = [spec["clusterIP"]] if spec.get("clusterIP") else []
    return tuple(spec.get("clusterIPs") or first)


def build_public_service(agent: Agent) -> Manifest:
    """Return the agent's one public Service: for all placements, and always in front of the guard."""
    ports = [_port("observe", OBSERVE_PORT)]
    if agent.spec.tasks is not None:
        ports.append(_port("tasks", SERVICE_PORT, TASK_PORT) | {"appProtocol": "http"})
    spec = {"type": "ClusterIP", "selector": {GUARD_LABEL: agent.metadata.name}, "ports": ports}
    return build_child(agent, "v1", "Service", public_service(agent), agent_labels(agent, "guard"), spec=spec)


def build_internal_services(placement: Placement) -> tuple[Manifest, ...]:
    """Return the Services through which separate pods reach each other; none where agent and guard share a pod."""
    if not placement.is_separate:
        return ()
    to_guard = {
        "type": "ClusterIP",
        "selector": selector(placement, GUARD_POD),
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


def _port(name: str, port: int, target: int | None = None) -> dict[str, Any]:
    return {"name": name, "port": port, "targetPort": target or port, "protocol": "TCP"}
