"""Collisions of names: two placements that exist at the same time never share an object.

A name holds a few digits of a placement's digest, and an author who chooses what is hashed finds two placements with
the same digits. If they shared a bundle, the guards of one would obey the bundle of the other. So the number of
collisions is part of the name and kept in the status, as `collisionCount` of a Deployment is.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from interlock.deployment.names import ChildKey, key_of, placement_digest
from interlock.deployment.placement import Placement
from interlock.deployment.plan import SECRET, LiveChild, desired_children
from interlock_contract.names import PLACEMENT_DIGEST

_SOME_ADDRESS = ("127.0.0.1",)


def without_collisions(placement: Placement, live: Mapping[ChildKey, LiveChild]) -> Placement:
    """Return the placement, which has no objects yet, with names that no object of another placement has.

    Args:
        placement: The placement.
        live: The live objects of its agent.
    """
    numbered = (replace(placement, collisions=count) for count in itertools.count())
    return next(one for one in numbered if not _collides(one, live))


def _collides(placement: Placement, live: Mapping[ChildKey, LiveChild]) -> bool:
    # The Deployment of a separate agent is desired once its guard has an address, on which no name depends.
    complete = replace(placement, guard_addresses=placement.guard_addresses or _SOME_ADDRESS)
    # Secrets are never among the live objects, and their names are digests of a secret key.
    children = (manifest for manifest in desired_children(complete) if manifest["kind"] != SECRET)
    own = [manifest for manifest in children if "annotations" in manifest["metadata"]]
    keys = {key_of(manifest) for manifest in own}
    digest = placement_digest(placement.agent.metadata, placement.stage.name, placement.revision)
    found = [live[key].manifest["metadata"].get("annotations") or {} for key in keys if key in live]
    return len(keys) < len(own) or any(annotations.get(PLACEMENT_DIGEST) != digest for annotations in found)
