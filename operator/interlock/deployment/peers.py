"""The placements of one agent side by side: their names, and what each of them knows of the others."""

from collections.abc import Mapping
from dataclasses import replace

from interlock.deployment.children.services import task_url
from interlock.deployment.name_collisions import without_collisions
from interlock.deployment.names import ChildKey
from interlock.deployment.placement import Peer, Placement
from interlock.deployment.plan import LiveChild

PlacementId = tuple[str, str]
"""The name of a placement's stage, and its revision."""


def id_of(placement: Placement) -> PlacementId:
    """Return what tells a placement from the agent's others."""
    return placement.stage.name, placement.revision


def named(
    placements: tuple[Placement, ...], collisions: Mapping[PlacementId, int], live: Mapping[ChildKey, LiveChild]
) -> tuple[Placement, ...]:
    """Return the placements, in their order, with names that no two of them and no other placement's objects share.

    Args:
        placements: The agent's placements.
        collisions: The recorded collision counts. A placement that is recorded keeps its names.
        live: The live objects of the agent.
    """
    known = {
        id_of(one): replace(one, collisions=collisions[id_of(one)]) for one in placements if id_of(one) in collisions
    }
    for one in placements:
        if id_of(one) not in known:
            known[id_of(one)] = without_collisions(one, live, tuple(known.values()))
    return tuple(known[id_of(one)] for one in placements)


def with_peers(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
    """Return the placements, in their order and named, each with the others that share its tasks.

    These are all others that take tasks in an environment of the same class, also those that drain: what belongs to a
    task under way goes to where the task began.
    """
    return tuple(
        replace(one, peers=tuple(_peer(other) for other in placements if _share_tasks(one, other)))
        for one in placements
    )


def _share_tasks(one: Placement, other: Placement) -> bool:
    if id_of(one) == id_of(other) or one.agent.spec.tasks is None or other.agent.spec.tasks is None:
        return False
    class_of = one.policy.spec.class_of
    return class_of(one.stage.environment) == class_of(other.stage.environment)


def _peer(placement: Placement) -> Peer:
    return Peer(
        stage=placement.stage.name,
        revision=placement.revision,
        url=task_url(placement),
        scope=placement.scope,
        excluded=placement.excluded_now,
        is_draining=placement.is_draining,
    )
