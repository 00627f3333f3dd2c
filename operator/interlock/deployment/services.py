"""The agent's Service: one stable name for whatever placement serves."""

from typing import Any

from interlock.api.agent import Agent
from interlock.api.meta import GUARD_LABEL
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.guard_sidecar import OBSERVE_PORT, TASK_PORT
from interlock.deployment.labels import agent_labels

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
    return [observe] if agent.spec.orchestration is None else [observe, tasks]
