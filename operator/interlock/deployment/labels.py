"""Labels and owner references that every child carries."""

from typing import Any

from interlock.api.agent import Agent
from interlock.api.meta import (
    AGENT_LABEL,
    API_VERSION,
    APP_COMPONENT_LABEL,
    APP_INSTANCE_LABEL,
    APP_MANAGED_BY_LABEL,
    APP_NAME,
    APP_NAME_LABEL,
    APP_PART_OF_LABEL,
    MANAGED_BY,
    PART_OF,
    REVISION_LABEL,
    STAGE_LABEL,
)
from interlock.deployment.placement import Placement


def agent_labels(agent: Agent, component: str) -> dict[str, str]:
    """Return the labels of a child that belongs to the agent as a whole.

    `app.kubernetes.io/*` as in the Kubernetes documentation, "Recommended Labels".
    """
    return {
        APP_NAME_LABEL: APP_NAME,
        APP_INSTANCE_LABEL: agent.metadata.name,
        APP_COMPONENT_LABEL: component,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
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
