"""The gates of a stage: exact verdicts, none below the minimum sample, and none that an agent weakens."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from interlock.api.agent import Stage
from interlock.api.gates import GateLimits, Latency, MetricGate, StageGates
from interlock.api.shared_types import parse_duration
from interlock.orchestration.gate_limits import find_gates, gate_refusals, has_gates
from interlock.orchestration.gates import (
    DEFAULT_SAMPLE,
    MetricResult,
    TestOutcome,
    TestResult,
    find_baseline,
    judge_gates,
)
from interlock.orchestration.rollout_state import GateReport, GateVerdict, PlacementKey
from interlock.orchestration.soak import StageFacts
from interlock_contract.work_counts import BOUNDS, NO_COUNTS, WorkCounts, bucket_of
from tests.support.gate_values import GATES, WEAKER_GATES

KEY = PlacementKey("staging", "ab" * 32)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
PASSED, PENDING, NONE, BREACHED = (
    GateVerdict.PASSED,
    GateVerdict.PENDING,
    GateVerdict.NO_VERDICT,
    GateVerdict.BREACHED,
)


def tasks(number: int, failed: int = 0, cost: int = 0) -> WorkCounts:
    return WorkCounts(task_buckets=(number,), tasks_failed=failed, cost=cost)


def calls(number: int, failed: int = 0, denied: int = 0) -> WorkCounts:
    return WorkCounts(call_buckets=(number,), calls_failed=failed, calls_denied=denied)


def judge(gates: dict[str, Any], counts: WorkCounts = NO_COUNTS, *, has_tasks: bool = True, **more: Any) -> GateReport:
    found = StageGates.model_validate(gates)
    return judge_gates(
        KEY, found, counts, has_tasks=has_tasks, metrics=more.get("metrics", {}), tests=more.get("tests", {})
    )


CENT = 10**7


@pytest.mark.parametrize(
    ("gates", "counts", "verdict", "message"),
    [
        ({}, tasks(0), PASSED, ""),
        ({"minTasks": 100}, tasks(0), PENDING, "at least 0 of 100 tasks"),
        ({"minTasks": 100}, tasks(99), PENDING, "at least 90 of 100 tasks"),
        ({"minTasks": 100}, tasks(100), PASSED, ""),
        ({"minCalls": 10}, calls(4, denied=5), PENDING, "at least 9 of 10 calls"),
        ({"minCalls": 10}, calls(4, denied=6), PASSED, ""),
        # The error rate of tasks.
        ({"maxErrorPercent": 5}, tasks(100, failed=5), PASSED, ""),
        ({"maxErrorPercent": 5}, tasks(100, failed=6), BREACHED, "error rate 6 % of tasks, at most 5 %"),
        ({"maxErrorPercent": 5}, tasks(1999, failed=100), BREACHED, "error rate 6 % of tasks, at most 5 %"),
        ({"maxErrorPercent": 0}, tasks(100_000, failed=1), BREACHED, "error rate 1 % of tasks, at most 0 %"),
        ({"maxErrorPercent": 5}, tasks(19, failed=19), NONE, "error rate: at least 18 of 20 tasks"),
        ({"maxErrorPercent": 5}, tasks(20, failed=20), BREACHED, "error rate 100 % of tasks, at most 5 %"),
        ({"maxErrorPercent": 5, "minTasks": 10}, tasks(10, failed=10), BREACHED, "error rate 100 % of tasks"),
        ({"maxErrorPercent": 5, "minTasks": 50}, tasks(49, failed=49), PENDING, "at least 45 of 50 tasks"),
        # Latencies.
        ({"maxP95Latency": "5ms"}, WorkCounts(task_buckets=(95, 5)), PASSED, ""),
        (
            {"maxP95Latency": "5ms"},
            WorkCounts(task_buckets=(94, 6)),
            BREACHED,
            "p95 latency of tasks 10 ms, at most 5ms",
        ),
        ({"maxP95Latency": "1h"}, WorkCounts(task_buckets=(0,) * 17 + (20,)), PASSED, ""),
        ({"maxP95Latency": "1h"}, WorkCounts(task_buckets=(0,) * 18 + (20,)), BREACHED, "above 3600000 ms"),
        ({"maxP95Latency": "5ms"}, tasks(1), NONE, "p95 latency: at least 0 of 20 tasks"),
        # Denials.
        ({"maxDeniedPercent": 10}, calls(90, denied=10), PASSED, ""),
        ({"maxDeniedPercent": 10}, calls(89, denied=11), BREACHED, "denied calls 11 %, at most 10 %"),
        ({"maxDeniedPercent": 10}, calls(0, denied=19), NONE, "denied calls: at least 18 of 20 calls"),
        ({"maxDeniedPercent": 10}, calls(0, denied=20), BREACHED, "denied calls 100 %, at most 10 %"),
        # Cost.
        ({"maxCostPerTask": "0.01"}, tasks(20, cost=20 * CENT), PASSED, ""),
        ({"maxCostPerTask": "0.01"}, tasks(20, cost=20 * CENT + 1), BREACHED, "cost per task $0.0101, at most $0.01"),
        ({"maxCostPerTask": "0.01"}, tasks(0, cost=CENT), NONE, "cost per task: at least 0 of 20 tasks"),
    ],
)
def test_the_verdict_by_counts_is_exact(
    gates: dict[str, Any], counts: WorkCounts, verdict: GateVerdict, message: str
) -> None:
    report = judge(gates, counts)
    assert (report.key, report.verdict) == (KEY, verdict)
    assert report.message.startswith(message) or message in report.message
    assert bool(report.message) == (verdict is not PASSED)


def test_an_agent_without_tasks_is_judged_by_its_calls() -> None:
    gates = {"maxErrorPercent": 5, "maxP95Latency": "5ms"}
    assert judge(gates, calls(100, failed=6), has_tasks=False).message == "error rate 6 % of calls, at most 5 %"
    assert judge(gates, calls(100, failed=5), has_tasks=False).verdict is PASSED
    assert judge(gates, calls(19, denied=100), has_tasks=False).verdict is NONE
    assert judge(gates, WorkCounts(call_buckets=(0, 20)), has_tasks=False).verdict is BREACHED


METRIC: dict[str, Any] = {"metrics": [{"name": "errors", "query": "q", "min": "-1.5", "max": "0.05"}]}


@pytest.mark.parametrize(
    ("result", "verdict", "message"),
    [
        (None, NONE, "metric errors: no result yet"),
        (MetricResult(trouble="Prometheus did not answer"), NONE, "metric errors: Prometheus did not answer"),
        (MetricResult(Decimal("0.05")), PASSED, ""),
        (MetricResult(Decimal("5E-2")), PASSED, ""),
        (MetricResult(Decimal("-1.5")), PASSED, ""),
        (MetricResult(Decimal("0.050001")), BREACHED, "metric errors is 0.050001, at least -1.5 and at most 0.05"),
        (MetricResult(Decimal("-1.500001")), BREACHED, "metric errors is -1.500001, at least -1.5 and at most 0.05"),
    ],
)
def test_a_metric_is_within_its_bounds_or_has_no_verdict_while_its_source_is_away(
    result: MetricResult | None, verdict: GateVerdict, message: str
) -> None:
    report = judge(METRIC, metrics={} if result is None else {"errors": result})
    assert (report.verdict, report.message) == (verdict, message)


@pytest.mark.parametrize(
    ("result", "verdict", "message"),
    [
        (TestResult(TestOutcome.RUNNING), PENDING, "test smoke has not ended"),
        (TestResult(TestOutcome.PASSED, 0, "ok"), PASSED, ""),
        (
            TestResult(TestOutcome.FAILED, 3, "a\nno answer\n\n"),
            BREACHED,
            "test smoke failed with exit code 3: no answer",
        ),
        (TestResult(TestOutcome.FAILED), BREACHED, "test smoke failed: it has written no log"),
        (TestResult(TestOutcome.LOST, None, "its node is gone"), NONE, "test smoke has no result: its node is gone"),
    ],
)
def test_a_test_passes_fails_or_is_lost(result: TestResult, verdict: GateVerdict, message: str) -> None:
    report = judge({}, tests={"smoke": result})
    assert (report.verdict, report.message) == (verdict, message)


def test_the_most_severe_verdict_stands_and_a_minimum_is_never_hidden_by_a_source_that_is_away() -> None:
    # A promote goes past NoVerdict. It must not go past the minimum with it.
    both = judge({**METRIC, "minTasks": 10}, tasks(5))
    assert (both.verdict, both.message) == (PENDING, "at least 5 of 10 tasks; metric errors: no result yet")
    worse = judge({**METRIC, "minTasks": 10, "maxDeniedPercent": 0}, tasks(5) + calls(0, denied=20))
    assert worse.verdict is BREACHED
    assert worse.message.startswith("denied calls 100 %")


def test_a_message_is_short_whatever_a_test_has_written() -> None:
    tests = {f"t{number}": TestResult(TestOutcome.FAILED, 1, "\x1b" * 9999) for number in range(8)}
    message = judge({}, tests=tests).message
    assert len(message) <= 1024
    assert message.isprintable()


# Which gates hold


def test_each_limit_of_latencies_is_a_bound_of_the_histogram_and_each_bound_can_be_a_limit() -> None:
    assert [parse_duration(one) // timedelta(milliseconds=1) for one in get_args(Latency)] == list(BOUNDS)
    assert [bucket_of(bound / 1000) for bound in BOUNDS] == list(range(len(BOUNDS)))


POLICY = GateLimits.model_validate(GATES)
WEAKER: dict[str, Any] = WEAKER_GATES | {"maxCostPerTask": "0.500000001"}
STRICTER: dict[str, Any] = {
    "minTasks": 101,
    "minCalls": 11,
    "maxErrorPercent": 4,
    "maxP95Latency": "2500ms",
    "maxDeniedPercent": 0,
    "maxCostPerTask": "0.49",
    "onBreach": "Rollback",
}


def gates(fields: dict[str, Any]) -> StageGates:
    return StageGates.model_validate(fields)


@pytest.mark.parametrize("field", WEAKER)
def test_a_gate_weaker_than_the_policys_is_refused_and_does_not_hold(field: str) -> None:
    own = gates({field: WEAKER[field]})
    [refusal] = gate_refusals("canary", own, POLICY, "support", has_tasks=True)
    assert f"stage canary: gates.{field} {WEAKER[field]} is weaker than" in refusal
    found = find_gates(own, POLICY, has_tasks=True, is_last=False)
    assert found.to_kubernetes() == {**POLICY.to_kubernetes(), "metrics": []}


def test_stricter_gates_hold_and_are_not_refused() -> None:
    own = gates(STRICTER)
    assert gate_refusals("canary", own, POLICY, "support", has_tasks=True) == []
    assert find_gates(own, POLICY, has_tasks=True, is_last=False) == own


def test_the_policys_gates_are_defaults_before_each_stage_but_not_after_the_last() -> None:
    assert find_gates(None, POLICY, has_tasks=True, is_last=False).min_tasks == 100
    assert not has_gates(find_gates(None, POLICY, has_tasks=True, is_last=True))
    assert find_gates(gates({"maxErrorPercent": 1}), POLICY, has_tasks=True, is_last=True).min_tasks == 100
    assert not has_gates(find_gates(None, None, has_tasks=True, is_last=False))
    assert not has_gates(gates({"onBreach": "Rollback"}))


def test_gates_on_tasks_are_refused_to_an_agent_that_takes_none_and_the_policys_do_not_hold_for_it() -> None:
    for field in ("minTasks", "maxCostPerTask"):
        [refusal] = gate_refusals("canary", gates({field: STRICTER[field]}), None, "support", has_tasks=False)
        assert "the agent takes none: use gates.minCalls" in refusal
    found = find_gates(None, POLICY, has_tasks=False, is_last=False)
    assert (found.min_tasks, found.max_cost_per_task, found.min_calls) == (None, None, 10)
    assert gate_refusals("canary", None, POLICY, "support", has_tasks=False) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"minTasks": 0},
        {"maxErrorPercent": 101},
        {"maxErrorPercent": -1},
        {"maxP95Latency": "3s"},
        {"maxCostPerTask": "1e3"},
        {"onBreach": "Ignore"},
        {"metrics": [{"name": "a", "query": "q"}]},
        {"metrics": [{"name": "a", "query": "", "max": "1"}]},
        {"metrics": [{"name": "a", "query": "q", "max": "NaN"}]},
        {"metrics": [{"name": "a", "query": "q", "max": "1e9"}]},
    ],
)
def test_gates_that_say_nothing_definite_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        gates(fields)


def test_a_metric_may_have_one_bound() -> None:
    assert MetricGate(name="a", query="q", min="1").max is None
    assert DEFAULT_SAMPLE == 20


# The baseline

FACTS = StageFacts(Stage(name="staging", environment="staging"), "r", NOW)
READY = replace(FACTS, ready_since=NOW)


def test_gates_judge_from_the_beginning_of_a_soak_which_no_pause_and_no_restart_of_the_operator_moves() -> None:
    assert find_baseline(None, FACTS, tasks(3)) is None
    assert find_baseline(FACTS, READY, tasks(3)) == tasks(3)
    ready = replace(READY, baseline=tasks(3))
    assert find_baseline(ready, ready, tasks(9)) == tasks(3)
    paused = replace(ready, ready_since=None, soaked=timedelta(seconds=9))
    assert find_baseline(ready, paused, tasks(9)) == tasks(3)
    assert find_baseline(paused, replace(paused, ready_since=NOW), tasks(9)) == tasks(3)


def test_a_soak_that_starts_again_is_judged_by_what_comes_after_that() -> None:
    ready = replace(READY, baseline=tasks(3))
    assert find_baseline(ready, replace(ready, restarted_at=NOW), tasks(9)) == tasks(9)
    assert find_baseline(ready, replace(ready, ready_since=None), tasks(9)) is None
    entered = replace(READY, entered_at=NOW + timedelta(seconds=1))
    assert find_baseline(ready, entered, tasks(9)) == tasks(9)
    assert find_baseline(ready, replace(ready, revision="other"), tasks(9)) == tasks(9)
    unready = replace(FACTS, baseline=tasks(3))  # an edited status
    assert find_baseline(unready, READY, tasks(9)) == tasks(9)
