"""Labels and owner references that every child carries."""

from typing import Any

from interlock.api.agent import Agent
from interlock.api.meta import AGENT_LABEL, API_VERSION, MANAGED_BY, REVISION_LABEL, STAGE_LABEL
from interlock.deployment.placement import Placement


def agent_labels(agent: Agent, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to the agent as a whole.

    `app.kubernetes.io/*` as in the Kubernetes documentation, "Recommended Labels".
    """
    return {
        "app.kubernetes.io/name": "interlock-agent",
        "app.kubernetes.io/instance": agent.metadata.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "interlock",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        AGENT_LABEL: agent.metadata.name,
    }


def placement_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to one placement."""
    return agent_labels(placement.agent, component) | {
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: placement.revision,
    }


def selector(placement: Placement) -> dict[str, str]:
    """Return the labels that select the pods of this placement and no others."""
    return {
        AGENT_LABEL: placement.agent.metadata.name,
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: placement.revision,
    }


def owner_reference(agent: Agent) -> dict[str, Any]:
    """Return the reference through which Kubernetes deletes a child with its Agent."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "name": agent.metadata.name,
        "uid": agent.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
