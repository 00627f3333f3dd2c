"""The counts of a placement's Lease, and the sum of those of pods that are gone."""

from typing import Any

from interlock.deployment.observed.work_counts import MOST_ENDED, add_up_ended, counts_of
from interlock_contract.names import COUNTS_ENDED, COUNTS_PREFIX
from interlock_contract.work_counts import NO_COUNTS, SettledCounts, WorkCounts, dump_counts, parse_ended

RUN = "0123456789abcdef"


def lease(pods: int, **more: str) -> dict[str, Any]:
    text = dump_counts(SettledCounts(RUN, WorkCounts((1,), cost=7)))
    annotations = {f"{COUNTS_PREFIX}a-{number}": text for number in range(pods)}
    return {"metadata": {"resourceVersion": "9", "annotations": {**annotations, **more}}}


def apply(found: dict[str, Any], patch: list[dict[str, Any]]) -> None:
    """Apply a JSON patch to a Lease as the API server does."""
    for operation in patch:
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place = found
        for part in way:
            place = place[part]
        match operation["op"]:
            case "test":
                assert place[last] == operation["value"]
            case "remove":
                del place[last]
            case _:
                place[last] = operation["value"]


def test_no_lease_has_no_counts() -> None:
    assert counts_of(None) == counts_of({"metadata": {}}) == NO_COUNTS


def test_few_texts_of_ended_pods_stay_and_more_are_added_up_without_a_change_of_the_sum() -> None:
    few = lease(MOST_ENDED + 1)
    assert add_up_ended(few, {"a-3"}) == []
    for before in ({}, {COUNTS_ENDED: '{"cost":5}'}, {COUNTS_ENDED: "nonsense"}):
        many = lease(MOST_ENDED + 2, **before, other="x")
        total = counts_of(many)
        apply(many, add_up_ended(many, {"a-3"}))
        left = many["metadata"]["annotations"]
        assert set(left) == {f"{COUNTS_PREFIX}a-3", COUNTS_ENDED, "other"}
        assert counts_of(many) == total
        assert add_up_ended(many, {"a-3"}) == []


def test_each_text_that_is_replaced_is_named_so_that_a_guard_that_still_writes_loses_nothing() -> None:
    for before in ({}, {COUNTS_ENDED: "{}"}):
        many = lease(MOST_ENDED + 1, **before)
        patch = add_up_ended(many, ())
        tested = {one["path"] for one in patch if one["op"] == "test"}
        changed = {one["path"] for one in patch if one["op"] in ("remove", "replace")}
        assert changed <= tested
        assert before or "/metadata/resourceVersion" in tested  # which says that no sum is there


def test_a_text_that_is_none_of_ours_adds_nothing() -> None:
    many = lease(MOST_ENDED + 1)
    many["metadata"]["annotations"][f"{COUNTS_PREFIX}a-0"] = "nonsense"
    apply(many, add_up_ended(many, ()))
    assert parse_ended(many["metadata"]["annotations"][COUNTS_ENDED]) == WorkCounts((16,), cost=7 * 16)
