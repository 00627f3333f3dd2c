"""The counts of what an agent did, by which the gates of its stages judge: tasks, calls, latencies and cost. Pure.

Each guard adds what ended to an annotation of its placement's Lease. The text of one pod:

    counts.interlock.dev/<pod>: {"callBuckets":[0,3],"callsDenied":1,"cost":4200000,"run":"9f2c..."}

Counts only grow. A restarted guard goes on from the text that it finds, and `run` names the process that wrote it. The
operator adds the texts of pods that are gone to one text, `interlock.dev/counts-ended`.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, structs

from interlock_contract.budget.money import MAX_MONEY, add_money
from interlock_contract.names import COUNTS_ENDED, COUNTS_PREFIX
from interlock_contract.strict_fields import StrictStruct, dump_document, like
from interlock_contract.strict_json import JsonInvalid, parse_json

BOUNDS: Final = (
    *(5, 10, 25, 50, 100, 250, 500),
    *(1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000),
)
"""Upper bounds of the buckets of latencies in milliseconds. As in Prometheus, a latency belongs to the first bucket
whose bound it does not exceed. One more bucket has what took longer than the last bound, an hour."""
MAX_COUNT: Final = 2**53 - 1
"""Largest count. A sum beyond it is written as that, so that it can always be read again."""
MAX_TEXT: Final = 1536
"""Longest text of one annotation, in characters; all counts at `MAX_COUNT` are shorter."""

Count = Annotated[int, Meta(ge=0, le=MAX_COUNT)]
Buckets = Annotated[tuple[Count, ...], Meta(max_length=len(BOUNDS) + 1)]
"""How many latencies were in each bucket. Empty buckets at the end are left out."""
_Counts = TypeVar("_Counts", bound="WorkCounts")
Run = Annotated[str, like(r"[0-9a-f]{16}", "16 hexadecimal digits")]


class WorkCounts(StrictStruct, frozen=True):
    """What was counted since a beginning.

    Attributes:
        task_buckets: The latencies of ended tasks, from the first byte of the request to the last of the answer.
        tasks_failed: Ended tasks that count as failures of the agent.
        call_buckets: The latencies of ended calls of tools and models, from the decision to the end of the answer.
        calls_failed: Ended calls that had an error as their answer, or none because the server was not there.
        calls_denied: Calls that a rule of the policy, a binding, the agent or the stage's scope denied. None of them
            ended, and none is one that another placement serves.
        cost: What calls have cost, in nano-dollars.
        unmapped_passed: Calls of tools that are not mapped, which passed because their source is in mode `Audit`.
        ungranted_passed: Requests without a grant, which passed for the same reason.
    """

    task_buckets: Buckets = ()
    tasks_failed: Count = 0
    call_buckets: Buckets = ()
    calls_failed: Count = 0
    calls_denied: Count = 0
    cost: Annotated[int, Meta(ge=0, le=MAX_MONEY)] = 0
    unmapped_passed: Count = 0
    ungranted_passed: Count = 0

    @property
    def tasks(self) -> int:
        """The tasks that ended."""
        return sum(self.task_buckets)

    @property
    def calls(self) -> int:
        """The calls that ended. Denied calls are not among them."""
        return sum(self.call_buckets)

    def __add__(self, other: "WorkCounts") -> "WorkCounts":
        """Return the sum."""
        return WorkCounts(
            task_buckets=_sum_buckets(self.task_buckets, other.task_buckets),
            tasks_failed=_sum(self.tasks_failed, other.tasks_failed),
            call_buckets=_sum_buckets(self.call_buckets, other.call_buckets),
            calls_failed=_sum(self.calls_failed, other.calls_failed),
            calls_denied=_sum(self.calls_denied, other.calls_denied),
            cost=add_money(self.cost, other.cost),
            unmapped_passed=_sum(self.unmapped_passed, other.unmapped_passed),
            ungranted_passed=_sum(self.ungranted_passed, other.ungranted_passed),
        )

    def grow(self, earlier: "WorkCounts", later: "WorkCounts") -> "WorkCounts":
        """Return these counts with what one process has counted between two moments.

        Args:
            earlier: What it had counted at the first moment.
            later: What it had counted at the second one. A task may fail long after it was counted as ended.
        """
        total = self + later.since(earlier)
        failed = _sum(self.tasks_failed, later.tasks_failed - earlier.tasks_failed)
        return structs.replace(total, tasks_failed=min(total.tasks, failed))

    def since(self, baseline: "WorkCounts") -> "WorkCounts":
        """Return what was counted after a baseline.

        A count below its baseline, which only a deleted or forged text can cause, counts as zero.
        """
        task_buckets = _difference(self.task_buckets, baseline.task_buckets)
        call_buckets = _difference(self.call_buckets, baseline.call_buckets)
        return WorkCounts(
            task_buckets=task_buckets,
            tasks_failed=min(sum(task_buckets), max(0, self.tasks_failed - baseline.tasks_failed)),
            call_buckets=call_buckets,
            calls_failed=min(sum(call_buckets), max(0, self.calls_failed - baseline.calls_failed)),
            calls_denied=max(0, self.calls_denied - baseline.calls_denied),
            cost=max(0, self.cost - baseline.cost),
            unmapped_passed=max(0, self.unmapped_passed - baseline.unmapped_passed),
            ungranted_passed=max(0, self.ungranted_passed - baseline.ungranted_passed),
        )


NO_COUNTS: Final = WorkCounts()


class _SettledDocument(WorkCounts, frozen=True):
    run: Run = ""


@dataclass(frozen=True, slots=True)
class SettledCounts:
    """The counts of one pod, as its annotation has them.

    Attributes:
        run: The process that wrote them, 16 hexadecimal digits. It makes the text of each writer its own.
        counts: All that the guards of the pod have counted.
    """

    run: str
    counts: WorkCounts


def bucket_of(seconds: float) -> int:
    """Return the index of the bucket of a latency."""
    return bisect_left(BOUNDS, seconds * 1000)


def strip_buckets(buckets: Sequence[int]) -> tuple[int, ...]:
    """Return the buckets without empty ones at the end."""
    length = next((index for index in range(len(buckets), 0, -1) if buckets[index - 1]), 0)
    return tuple(buckets[:length])


def find_percentile(buckets: Sequence[int], percent: int) -> int | None:
    """Return a percentile of latencies by the method of the nearest rank: the upper bound of its bucket.

    A limit that is one of `BOUNDS` therefore compares exactly: so many latencies are within the limit, or they are not.
    Nothing is interpolated.

    Args:
        buckets: How many latencies were in each bucket, at least one in all.
        percent: Which percentile, 1 to 100.

    Returns:
        Milliseconds, None if the percentile is longer than the last bound: then it exceeds every limit.

    Raises:
        ValueError: There are no latencies.
    """
    total = sum(buckets)
    if total == 0:
        raise ValueError("no latencies have no percentile")
    left = -(-total * percent // 100)
    for bound, count in zip(BOUNDS, buckets, strict=False):
        left -= count
        if left <= 0:
            return bound
    return None


def dump_counts(settled: SettledCounts) -> str:
    """Return the annotation's value for the counts of one pod."""
    fields = {name: getattr(settled.counts, name) for name in WorkCounts.__struct_fields__}
    return dump_document(_SettledDocument(**fields, run=settled.run))


def parse_counts(text: Any) -> SettledCounts | None:
    """Return what an annotation's value says; None where it is none of ours, or contradicts itself."""
    found = _parse(text, _SettledDocument)
    if found is None or not found.run:
        return None
    return SettledCounts(found.run, WorkCounts(**{name: getattr(found, name) for name in WorkCounts.__struct_fields__}))


def dump_ended(counts: WorkCounts) -> str:
    """Return the value of the annotation with the counts of pods that are gone, also used in an Agent's status."""
    return dump_document(counts)


def parse_ended(text: Any) -> WorkCounts | None:
    """Return what the counts of ended pods say; None where the text is none of ours."""
    return _parse(text, WorkCounts)


def sum_counts(counts: Iterable[WorkCounts]) -> WorkCounts:
    """Return the sum of several counts."""
    return sum(counts, NO_COUNTS)


def read_counts(annotations: Mapping[str, str]) -> WorkCounts:
    """Return all that the guards of a placement have counted, by its Lease's annotations. Other texts are left out."""
    of_pods = (parse_counts(text) for key, text in annotations.items() if key.startswith(COUNTS_PREFIX))
    ended = parse_ended(annotations.get(COUNTS_ENDED))
    return sum_counts((*(one.counts for one in of_pods if one is not None), ended or NO_COUNTS))


def _parse(text: Any, kind: type[_Counts]) -> _Counts | None:
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        return None
    try:
        found = msgspec.convert(parse_json(text, max_depth=2), kind)
    except (JsonInvalid, msgspec.ValidationError):
        return None
    is_consistent = found.tasks_failed <= found.tasks and found.calls_failed <= found.calls
    return found if is_consistent else None


def _sum(*counts: int) -> int:
    return min(MAX_COUNT, sum(counts))


def _sum_buckets(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(_sum(*pair) for pair in zip_longest(one, other, fillvalue=0))


def _difference(later: Sequence[int], earlier: Sequence[int]) -> tuple[int, ...]:
    return strip_buckets([max(0, left - right) for left, right in zip_longest(later, earlier, fillvalue=0)])
