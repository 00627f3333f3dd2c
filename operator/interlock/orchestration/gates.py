"""The verdict of a stage's gates by counts, metrics and tests. Pure.

A verdict is exact: counts are integers, money is nano-dollars, and a limit of latencies is a bound of the histogram.
Nothing is judged below the minimum sample. A minimum that spec or policy state is one that no command goes past
(`Pending`). A gate that only lacks the default sample, or whose metric source is away, has no verdict, and a promote
goes past it.

    error rate of 3 failed in 50 tasks, maxErrorPercent 5, minTasks 100    Pending
                                        maxErrorPercent 5                  Breached (6 %)
    3 failed in 10 tasks,               maxErrorPercent 5                  NoVerdict: the default sample is 20
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from interlock.api.gates import MetricGate, StageGates
from interlock.orchestration.gate_limits import milliseconds
from interlock.orchestration.rollout_state import GateReport, GateVerdict, PlacementKey
from interlock.orchestration.soak import StageFacts
from interlock_contract.budget.money import parse_money, shorten_money
from interlock_contract.work_counts import BOUNDS, WorkCounts, find_percentile

DEFAULT_SAMPLE: Final = 20
"""Tasks or calls that a gate needs for a verdict where neither spec nor policy states a minimum."""
PERCENTILE: Final = 95
_STEPS: Final = 10
"""Into how many steps the progress towards a minimum is divided in messages. Each change is a write of the status."""
_MAX_MESSAGE: Final = 1024
_MAX_DETAIL: Final = 200
_SEVERITY: Final = (GateVerdict.BREACHED, GateVerdict.PENDING, GateVerdict.NO_VERDICT, GateVerdict.PASSED)


class TestOutcome(StrEnum):
    """How far a test of a stage is."""

    __test__ = False  # no test of pytest's

    RUNNING = "Running"
    """It has not ended, or has not begun."""
    PASSED = "Passed"
    """It ended with exit code 0."""
    FAILED = "Failed"
    """It ended with another exit code, or exceeded its deadline."""
    LOST = "Lost"
    """It ended, and how is not known: its pod went with its node, or was deleted."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """The result of one test of a stage.

    Attributes:
        outcome: How far it is.
        exit_code: Its exit code; None without one.
        log: The last 4 KiB of its log, or why it has none.
    """

    __test__ = False  # no test of pytest's

    outcome: TestOutcome
    exit_code: int | None = None
    log: str = ""


@dataclass(frozen=True, slots=True)
class MetricResult:
    """The result of a query.

    Attributes:
        value: The number; None without a verdict.
        trouble: Why there is none.
    """

    value: Decimal | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class _Finding:
    verdict: GateVerdict
    message: str


def judge_gates(
    key: PlacementKey,
    gates: StageGates,
    counts: WorkCounts,
    *,
    has_tasks: bool,
    metrics: Mapping[str, MetricResult],
    tests: Mapping[str, TestResult],
) -> GateReport:
    """Return the verdict about a placement.

    Args:
        key: The placement.
        gates: The gates that hold, see `find_gates`.
        counts: What its guards have counted since its baseline.
        has_tasks: Whether the agent takes tasks.
        metrics: The results of the metrics' queries by name. A missing one was not asked yet.
        tests: The results of the stage's tests by name, one for each.

    Returns:
        The most severe verdict of any gate: Breached, Pending, NoVerdict, Passed. The message names each gate that did
        not pass, the most severe first.
    """
    findings = [
        *_judge_minimums(gates, counts),
        *_judge_counts(gates, counts, has_tasks=has_tasks),
        *(_judge_metric(metric, metrics.get(metric.name)) for metric in gates.metrics),
        *(_judge_test(name, result) for name, result in sorted(tests.items())),
    ]
    findings.sort(key=lambda finding: _SEVERITY.index(finding.verdict))
    verdict = findings[0].verdict if findings else GateVerdict.PASSED
    message = "; ".join(one.message for one in findings if one.verdict is not GateVerdict.PASSED)
    return GateReport(key, verdict, message if len(message) <= _MAX_MESSAGE else f"{message[: _MAX_MESSAGE - 3]}...")


def find_baseline(before: StageFacts | None, after: StageFacts, counts: WorkCounts) -> WorkCounts | None:
    """Return the counts from which on a stage is judged: those at the beginning of its soak.

    A soak that pauses keeps its baseline, since its time is kept, too. One that starts again from zero gets a new one.

    Args:
        before: The facts as recorded.
        after: The facts to record now.
        counts: What the guards of the stage's placement have counted until now.
    """
    if after.ready_since is None and not after.soaked:
        return None
    if before is None or before.baseline is None:
        return counts
    is_same = (before.revision, before.entered_at) == (after.revision, after.entered_at)
    began_again = after.restarted_at != before.restarted_at or (before.ready_since is None and not before.soaked)
    return before.baseline if is_same and not began_again else counts


def _judge_minimums(gates: StageGates, counts: WorkCounts) -> Iterator[_Finding]:
    for minimum, number, unit in (
        (gates.min_tasks, counts.tasks, "tasks"),
        (gates.min_calls, counts.calls + counts.calls_denied, "calls"),
    ):
        if minimum is not None and number < minimum:
            yield _Finding(GateVerdict.PENDING, _progress(number, minimum, unit))


def _progress(number: int, minimum: int, unit: str) -> str:
    step = -(-minimum // _STEPS)
    return f"at least {number // step * step} of {minimum} {unit}"


def _judge_counts(gates: StageGates, counts: WorkCounts, *, has_tasks: bool) -> Iterator[_Finding]:
    calls = counts.calls + counts.calls_denied
    of_tasks = (counts.tasks, gates.min_tasks, "tasks")
    of_calls = (calls, gates.min_calls, "calls")
    unit = "tasks" if has_tasks else "calls"
    failed, ended, buckets = (
        (counts.tasks_failed, counts.tasks, counts.task_buckets)
        if has_tasks
        else (counts.calls_failed, counts.calls, counts.call_buckets)
    )
    # Denied calls have not ended: rate and latency of calls are judged by those that have.
    of_work = of_tasks if has_tasks else (ended, gates.min_calls, "ended calls")
    if gates.max_error_percent is not None:
        limit = gates.max_error_percent
        yield _without_sample("error rate", *of_work) or _judge(
            failed * 100 <= limit * ended, f"error rate {_percent(failed, ended)} of {unit}, at most {limit} %"
        )
    if gates.max_p95_latency is not None:
        yield _without_sample("p95 latency", *of_work) or _judge_latency(buckets, gates.max_p95_latency, unit)
    if gates.max_denied_percent is not None:
        limit, denied = gates.max_denied_percent, counts.calls_denied
        yield _without_sample("denied calls", *of_calls) or _judge(
            denied * 100 <= limit * calls, f"denied calls {_percent(denied, calls)}, at most {limit} %"
        )
    if gates.max_cost_per_task is not None:
        nanos = parse_money(gates.max_cost_per_task)
        yield _without_sample("cost per task", *of_tasks) or _judge(
            counts.cost <= nanos * counts.tasks,
            f"cost per task {shorten_money(-(-counts.cost // counts.tasks))}, at most ${gates.max_cost_per_task}",
        )


def _without_sample(gate: str, number: int, minimum: int | None, unit: str) -> _Finding | None:
    """Return the finding of a gate that lacks its sample, None if it has it."""
    if number >= (minimum or DEFAULT_SAMPLE):
        return None
    verdict = GateVerdict.NO_VERDICT if minimum is None else GateVerdict.PENDING
    return _Finding(verdict, f"{gate}: {_progress(number, minimum or DEFAULT_SAMPLE, unit)}")


def _judge_latency(buckets: tuple[int, ...], limit: str, unit: str) -> _Finding:
    found, most = find_percentile(buckets, PERCENTILE), milliseconds(limit)
    # Longer than the last bound exceeds every limit, since the largest limit is the last bound.
    is_within = found is not None and found <= most
    figure = f"above {BOUNDS[-1]} ms" if found is None else f"{found} ms"
    return _judge(is_within, f"p95 latency of {unit} {figure}, at most {limit}")


def _percent(part: int, whole: int) -> str:
    """Return a rate rounded up, so that a rate beyond its limit looks so."""
    return f"{-(-part * 100 // whole)} %"


def _judge(is_within: bool, message: str) -> _Finding:  # noqa: FBT001 - the verdict itself
    return _Finding(GateVerdict.PASSED if is_within else GateVerdict.BREACHED, message)


def _judge_metric(metric: MetricGate, result: MetricResult | None) -> _Finding:
    if result is None or result.value is None:
        trouble = "no result yet" if result is None else result.trouble
        return _Finding(GateVerdict.NO_VERDICT, f"metric {metric.name}: {trouble[:_MAX_DETAIL]}")
    bounds = [
        *([] if metric.min is None else [f"at least {metric.min}"]),
        *([] if metric.max is None else [f"at most {metric.max}"]),
    ]
    is_within = (metric.min is None or result.value >= Decimal(metric.min)) and (
        metric.max is None or result.value <= Decimal(metric.max)
    )
    return _judge(is_within, f"metric {metric.name} is {result.value}, {' and '.join(bounds)}")


def _judge_test(name: str, result: TestResult) -> _Finding:
    match result.outcome:
        case TestOutcome.PASSED:
            return _Finding(GateVerdict.PASSED, f"test {name} passed")
        case TestOutcome.FAILED:
            code = "" if result.exit_code is None else f" with exit code {result.exit_code}"
            return _Finding(GateVerdict.BREACHED, f"test {name} failed{code}: {_last_line(result.log)}")
        case TestOutcome.LOST:
            return _Finding(GateVerdict.NO_VERDICT, f"test {name} has no result: {_last_line(result.log)}")
        case _:
            return _Finding(GateVerdict.PENDING, f"test {name} has not ended")


def _last_line(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    text = "".join(one if one.isprintable() else "?" for one in lines[-1][:_MAX_DETAIL]) if lines else ""
    return text or "it has written no log"
