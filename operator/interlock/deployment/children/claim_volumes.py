"""The claims of an agent's pod, and the group by which the agent may write to them."""

from typing import Any

from interlock.deployment.children.user_volumes import USER_VOLUME
from interlock.deployment.placement import Placement
from interlock.orchestration.claim_checks import claim_volumes


def build_claim_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes of the agent's template that are claims, with those of the placement's environment."""
    found = []
    for name, volume in claim_volumes(placement.agent.spec).items():
        claim = volume.name_in(placement.stage.environment)
        if claim is None:
            raise ValueError(f"volume {name} has no claim for its environment")  # the layers refuse such an agent
        source = {"claimName": claim, **({"readOnly": True} if volume.read_only else {})}
        found.append({"name": f"{USER_VOLUME}{name}", "persistentVolumeClaim": source})
    return found


def claims_group(placement: Placement, agent: dict[str, Any]) -> dict[str, Any]:
    """Return what a separate agent's pod says about its volumes: with claims, they belong to the agent's own group.

    Only a pod without a guard has claims, so the guard is in no group of the agent.

    Args:
        placement: The placement.
        agent: The agent's container.
    """
    if not placement.claims:
        return {}
    return {"fsGroup": agent["securityContext"]["runAsGroup"], "fsGroupChangePolicy": "OnRootMismatch"}
