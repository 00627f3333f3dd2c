"""The agent's Service: one stable name for whatever placement serves."""

from typing import Any

from interlock.api.agent import Agent
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_labels,
    agent_service,
    build_child,
    guard_service,
    placement_labels,
    selector,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import GUARD_LABEL
from interlock_contract.pod import GUARD_HOST, LOOPBACK, MCP_PORT, OBSERVE_PORT, TASK_PORT

SERVICE_PORT = 80
"""Where the Service takes tasks, so that a URL needs no port."""


def service_name(agent: Agent) -> str:
    """Return the Service's name: it must begin with a letter (RFC 1035), which an agent's name need not."""
    return f"guard-{agent.metadata.name}"


def build_service(agent: Agent) -> Manifest:
    """Return the Service; it points at the guard, never at the agent's container, for tasks too."""
    return build_child(
        agent,
        "v1",
        "Service",
        service_name(agent),
        agent_labels(agent, "guard"),
        spec={
            "type": "ClusterIP",
            "selector": {GUARD_LABEL: agent.metadata.name},
            "ports": _ports(agent),
        },
    )


def _ports(agent: Agent) -> list[dict[str, Any]]:
    observe = {"name": "observe", "port": OBSERVE_PORT, "targetPort": OBSERVE_PORT, "protocol": "TCP"}
    tasks = {"name": "tasks", "port": SERVICE_PORT, "targetPort": TASK_PORT, "protocol": "TCP", "appProtocol": "http"}
    return [observe] if agent.spec.tasks is None else [observe, tasks]


def guard_url(placement: Placement) -> str:
    """Return the beginning of every URL at which the agent finds its guard."""
    return f"http://{GUARD_HOST if placement.is_separate else LOOPBACK}:{MCP_PORT}"


def build_services_between(placement: Placement) -> tuple[Manifest, ...]:
    """Return the Services by which the two pods find each other; none where they are one."""
    if not placement.is_separate:
        return ()
    taken = placement.agent.spec.tasks
    tasks = () if taken is None else (build_agent_service(placement, taken.port),)
    return (build_guard_service(placement), *tasks)


def build_guard_service(placement: Placement) -> Manifest:
    """Return the Service before the guard's pods.

    It is of the cluster's first family of addresses, as is the address that a guard listens at. An agent's pod stays
    with one guard, since sessions and their streams live there. The port for probes is among the
    ports so that the gate has something to find closed that answers for certain.
    """
    return build_child(
        placement.agent,
        "v1",
        "Service",
        guard_service(placement),
        placement_labels(placement, GUARD_POD),
        spec={
            "type": "ClusterIP",
            "selector": selector(placement, GUARD_POD),
            "sessionAffinity": "ClientIP",
            "ports": [
                {"name": "mcp", "port": MCP_PORT, "targetPort": MCP_PORT, "protocol": "TCP"},
                {"name": "observe", "port": OBSERVE_PORT, "targetPort": OBSERVE_PORT, "protocol": "TCP"},
            ],
        },
    )


def build_agent_service(placement: Placement, port: int) -> Manifest:
    """Return the headless Service by which the guard finds its agent's pods.

    Args:
        placement: The placement.
        port: The agent's own port, at which it takes tasks.
    """
    return build_child(
        placement.agent,
        "v1",
        "Service",
        agent_service(placement),
        placement_labels(placement, AGENT_POD),
        spec={
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": selector(placement, AGENT_POD),
            "ports": [{"name": "agent", "port": port, "targetPort": port, "protocol": "TCP"}],
        },
    )


def addresses_of(service: Manifest | None) -> tuple[str, ...]:
    """Return the addresses that the API server has given a Service; none where there is none yet."""
    spec: dict[str, Any] = {} if service is None else service.get("spec", {})
    first = [spec["clusterIP"]] if spec.get("clusterIP") else []
    return tuple(spec.get("clusterIPs") or first)
