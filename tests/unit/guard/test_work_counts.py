"""The counts by which gates judge: they add up exactly, and no other text passes as one of ours."""

import pytest

from interlock_contract.names import COUNTS_ENDED, COUNTS_PREFIX
from interlock_contract.work_counts import (
    BOUNDS,
    MAX_COUNT,
    MAX_TEXT,
    NO_COUNTS,
    SettledCounts,
    WorkCounts,
    bucket_of,
    dump_counts,
    dump_ended,
    find_percentile,
    parse_counts,
    parse_ended,
    read_counts,
    strip_buckets,
)

RUN = "0123456789abcdef"
SOME = WorkCounts((0, 2, 1), 1, (4,), 2, 3, 1_500_000_001)


def test_what_is_written_is_read_and_the_largest_counts_fit_too() -> None:
    most = WorkCounts(*([((MAX_COUNT,) * (len(BOUNDS) + 1)), MAX_COUNT] * 2), MAX_COUNT, MAX_COUNT)
    for counts in (NO_COUNTS, SOME, most):
        text = dump_counts(SettledCounts(RUN, counts))
        assert len(text) <= MAX_TEXT
        assert parse_counts(text) == SettledCounts(RUN, counts)
        assert parse_ended(dump_ended(counts)) == counts


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "[]",
        "{}",  # without a run
        '{"run":"0123456789abcdeg"}',
        '{"run":"0123456789abcdef","more":1}',
        '{"run":"0123456789abcdef","cost":-1}',
        '{"run":"0123456789abcdef","cost":1.5}',
        '{"run":"0123456789abcdef","cost":1,"cost":1}',
        '{"run":"0123456789abcdef","cost":9007199254740992}',
        '{"run":"0123456789abcdef","taskBuckets":[true]}',
        '{"run":"0123456789abcdef","taskBuckets":[' + ",".join("0" * (len(BOUNDS) + 2)) + "]}",
        '{"run":"0123456789abcdef","taskBuckets":[1],"tasksFailed":2}',
        '{"run":"0123456789abcdef","callBuckets":[1],"callsFailed":2}',
        '{"run":"0123456789abcdef"}' + " " * MAX_TEXT,
    ],
)
def test_any_other_text_counts_nothing(text: str | None) -> None:
    assert parse_counts(text) is None
    assert read_counts({f"{COUNTS_PREFIX}a-0": text or ""}) == NO_COUNTS


def test_the_counts_of_a_placement_are_the_sum_of_its_pods_and_of_those_that_are_gone() -> None:
    annotations = {
        f"{COUNTS_PREFIX}a-0": dump_counts(SettledCounts(RUN, SOME)),
        f"{COUNTS_PREFIX}a-1": dump_counts(SettledCounts(RUN, WorkCounts(task_buckets=(1,), cost=5))),
        COUNTS_ENDED: dump_ended(WorkCounts(calls_denied=7)),
        f"selftest.interlock.dev/{RUN}": dump_counts(SettledCounts(RUN, SOME)),
    }
    assert read_counts(annotations) == WorkCounts((1, 2, 1), 1, (4,), 2, 10, 1_500_000_006)


def test_a_difference_has_what_came_after_its_baseline_and_never_less_than_nothing() -> None:
    more = SOME + WorkCounts((1,), 1, (0, 1), 0, 1, 9)
    assert more.since(SOME) == WorkCounts((1,), 1, (0, 1), 0, 1, 9)
    assert SOME.since(more) == NO_COUNTS
    # A forged text in which the ended tasks fell, but not the failed ones, does not show more failures than tasks.
    assert WorkCounts((1,), 1).since(WorkCounts((1,))).tasks_failed == 0


def test_a_sum_stops_at_the_largest_count_that_can_be_read_again() -> None:
    most = WorkCounts(task_buckets=(MAX_COUNT,), calls_denied=MAX_COUNT, cost=MAX_COUNT)
    assert most + most == most


def test_a_latency_belongs_to_the_first_bucket_whose_bound_it_does_not_exceed() -> None:
    assert [bucket_of(one) for one in (0.0, 0.005, 0.0051, 3600.0, 3600.001)] == [0, 0, 1, 17, 18]
    assert strip_buckets([0, 1, 0]) == (0, 1)


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ((0, 0, 1), 25),
        ((95, 5), 5),
        ((94, 6), 10),
        ((19, 1), 5),
        ((18, 2), 10),
        ((0,) * 18 + (1,), None),  # longer than an hour
    ],
)
def test_a_percentile_is_the_upper_bound_of_its_bucket(buckets: tuple[int, ...], expected: int | None) -> None:
    assert find_percentile(buckets, 95) == expected


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no latencies"):
        find_percentile((0, 0), 95)
