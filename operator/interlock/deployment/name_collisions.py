"""Collisions of names: two placements that exist at the same time never share an object.

A name holds a few digits of a placement's digest, and an author who chooses what is hashed finds two placements with
the same digits. If they shared a bundle, the guards of one would obey the bundle of the other. So the number of
collisions is part of the name and kept in the status, as `collisionCount` of a Deployment is.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from interlock.deployment.names import ChildKey, key_of, placement_digest
from interlock.deployment.placement import Peer, Placement
from interlock.deployment.plan import SECRET, LiveChild, desired_children
from interlock_contract.names import PLACEMENT_DIGEST

_SOME_ADDRESS = ("127.0.0.1",)
_SOME_PEERS = (Peer(stage="other", revision="other", url="http://other.other.svc:80", scope=(), excluded=()),)


def without_collisions(
    placement: Placement, live: Mapping[ChildKey, LiveChild], others: tuple[Placement, ...] = ()
) -> Placement:
    """Return the placement, which has no objects yet, with names that no object of another placement has.

    Args:
        placement: The placement.
        live: The live objects of its agent.
        others: Placements that have their names and may have no objects yet.
    """
    taken = {key for one in others for key in _keys(one)}
    numbered = (replace(placement, collisions=count) for count in itertools.count())
    return next(one for one in numbered if not _collides(one, live, taken))


def _collides(placement: Placement, live: Mapping[ChildKey, LiveChild], taken: set[ChildKey]) -> bool:
    own = _keys(placement)
    keys = set(own)
    digest = placement_digest(placement.agent.metadata, placement.stage.name, placement.revision)
    found = [live[key].manifest["metadata"].get("annotations") or {} for key in keys if key in live]
    return (
        len(keys) < len(own)
        or not keys.isdisjoint(taken)
        or any(annotations.get(PLACEMENT_DIGEST) != digest for annotations in found)
    )


def _keys(placement: Placement) -> list[ChildKey]:
    """Return the keys of a placement's own objects, also of those that it may need later."""
    # A separate agent's Deployment is desired once its guard has an address, and the Service for tasks with peers.
    complete = replace(placement, guard_addresses=placement.guard_addresses or _SOME_ADDRESS, peers=_SOME_PEERS)
    # Secrets are never among the live objects, and their names are digests of a secret key.
    return [
        key_of(manifest)
        for manifest in desired_children(complete)
        if manifest["kind"] != SECRET and "annotations" in manifest["metadata"]
    ]
