"""The counts of a placement's guards, from its Lease, and the sum of those whose pods are gone.

Each pod leaves its annotation behind. The operator adds the texts of pods that are gone to one text and deletes them.
One patch does both, and it names every text that it replaces. The API server refuses the patch if one of them has
changed, so a guard that still writes loses nothing. A guard whose text was deleted although it runs writes only what is
new.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from interlock.deployment.names import Manifest
from interlock_contract.names import COUNTS_ENDED, COUNTS_PREFIX
from interlock_contract.work_counts import (
    NO_COUNTS,
    WorkCounts,
    dump_ended,
    parse_counts,
    parse_ended,
    read_counts,
    sum_counts,
)

MOST_ENDED: Final = 16
"""How many texts of pods that are gone may stand in a Lease. More are added up, so that 100 pods always have room."""


def counts_of(lease: Manifest | None) -> WorkCounts:
    """Return all that the guards of a placement have counted, None of it where its Lease does not exist yet."""
    return NO_COUNTS if lease is None else read_counts(_annotations(lease))


def add_up_ended(lease: Manifest, pods: Collection[str]) -> list[dict[str, Any]]:
    """Return the JSON patch that adds up the counts of pods that are gone; empty while there are few of them.

    Args:
        lease: The placement's Lease.
        pods: The names of all pods of the agent that exist, those that are ending included.
    """
    annotations = _annotations(lease)
    ended = sorted(
        key for key in annotations if key.startswith(COUNTS_PREFIX) and key.removeprefix(COUNTS_PREFIX) not in pods
    )
    if len(ended) <= MOST_ENDED:
        return []
    parsed = (parse_counts(annotations[key]) for key in ended)
    before = annotations.get(COUNTS_ENDED)
    total = sum_counts(((parse_ended(before) or NO_COUNTS), *(one.counts for one in parsed if one is not None)))
    removals = [operation for key in ended for operation in _replace(key, annotations[key], None)]
    if before is None:
        # JSON Patch cannot test that a member is absent. The version of the Lease says so.
        version = {"op": "test", "path": "/metadata/resourceVersion", "value": lease["metadata"]["resourceVersion"]}
        return [version, *removals, {"op": "add", "path": _path(COUNTS_ENDED), "value": dump_ended(total)}]
    return [*removals, *_replace(COUNTS_ENDED, before, dump_ended(total))]


def _replace(key: str, before: str, after: str | None) -> list[dict[str, Any]]:
    test = {"op": "test", "path": _path(key), "value": before}
    if after is None:
        return [test, {"op": "remove", "path": _path(key)}]
    return [test, {"op": "replace", "path": _path(key), "value": after}]


def _path(key: str) -> str:
    return f"/metadata/annotations/{key.replace('~', '~0').replace('/', '~1')}"


def _annotations(lease: Manifest) -> Mapping[str, str]:
    found: Mapping[str, str] = lease["metadata"].get("annotations") or {}
    return found
