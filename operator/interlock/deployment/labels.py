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
    GUARD_LABEL,
    ISOLATION_LABEL,
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


AGENT_POD, GUARD_POD = "agent", "guard"
"""Components of pods: the one with the agent in it (and the guard, where they share one), and the guard's own."""


def pod_labels(placement: Placement, component: str) -> dict[str, str]:
    """Return the labels of a pod; the one that a guard runs in says whose it is."""
    has_guard = component == GUARD_POD or not placement.is_separate
    return {
        **placement_labels(placement, component),
        ISOLATION_LABEL: placement.isolation,
        **({GUARD_LABEL: placement.agent.metadata.name} if has_guard else {}),
    }


def selector(placement: Placement, component: str = AGENT_POD) -> dict[str, str]:
    """Return the labels that select the pods of one component of this placement and no others.

    The isolation is among them: a policy that changes it must not end the pods of the new kind with those of the old.
    """
    return {
        AGENT_LABEL: placement.agent.metadata.name,
        STAGE_LABEL: placement.stage.name,
        REVISION_LABEL: placement.revision,
        APP_COMPONENT_LABEL: component,
        ISOLATION_LABEL: placement.isolation,
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
