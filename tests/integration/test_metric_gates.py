"""Metric gates judged by a real Prometheus, with the operator's own queries."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock.api.gates import MetricGate, StageGates
from interlock.cluster.metric_source import MetricSource
from interlock.orchestration.gates import judge_gates
from interlock.orchestration.rollout_state import GateReport, GateVerdict, PlacementKey
from interlock_contract.work_counts import WorkCounts
from tests.requirements import requirement
from tests.support.bounds import eventually, until
from tests.support.prometheus import Exporter, Prometheus, running_prometheus

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(1800)]  # Prometheus may have to be built

AGENT = ("team-a", "triage")
SAMPLES = """\
# TYPE agent_tasks_total counter
agent_tasks_total{agent="triage",outcome="answered"} 970
agent_tasks_total{agent="triage",outcome="failed"} 30
"""
FAILED, ALL = 'sum(agent_tasks_total{agent="triage",outcome="failed"})', 'sum(agent_tasks_total{agent="triage"})'
ERRORS = f"100 * {FAILED} / {ALL}"
"""Failed tasks in percent: 3."""
UNANSWERED_SECONDS = 30.0


@pytest.fixture(scope="module")
def exporter() -> Iterator[Exporter]:
    with Exporter(SAMPLES) as served:
        yield served


@pytest.fixture(scope="module")
def prometheus(exporter: Exporter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), exporter) as running:
        yield running


async def judge(url: str, query: str, **bounds: str) -> GateReport:
    """Return the verdict of a stage with one metric gate, once its query has an answer."""
    gate = MetricGate(name="errors", query=query, **bounds)
    async with MetricSource({AGENT[0]: url}, lambda _agent: None, lambda: 0.0) as source:
        await until(lambda: "errors" in source.results(AGENT, [gate]), "the query has a result", UNANSWERED_SECONDS)
        results = source.results(AGENT, [gate])
    return judge_gates(
        PlacementKey("staging", "d1"),
        StageGates(metrics=(gate,)),
        WorkCounts(),
        has_tasks=True,
        metrics=results,
        tests={},
    )


@pytest.mark.parametrize(
    ("query", "bounds", "verdict", "message"),
    [
        (ERRORS, {"max": "3"}, GateVerdict.PASSED, ""),
        (ERRORS, {"min": "3", "max": "3.0"}, GateVerdict.PASSED, ""),
        (ERRORS, {"max": "2.999"}, GateVerdict.BREACHED, "metric errors is 3, at most 2.999"),
        (ERRORS, {"min": "3.001"}, GateVerdict.BREACHED, "metric errors is 3, at least 3.001"),
        (f"scalar({ERRORS})", {"max": "3"}, GateVerdict.PASSED, ""),
        (f"{FAILED} / 1e9", {"max": "0.0000001"}, GateVerdict.PASSED, ""),
        ("sum(agent_steps_total)", {"max": "3"}, GateVerdict.NO_VERDICT, "metric errors: it has no result"),
        ("agent_tasks_total", {"max": "3"}, GateVerdict.NO_VERDICT, "it has 2 results: ask for one number"),
        (f"({FAILED} - {FAILED}) / 0", {"max": "3"}, GateVerdict.NO_VERDICT, "its result is NaN or infinite"),
        (f"{FAILED} / 0", {"min": "3"}, GateVerdict.NO_VERDICT, "its result is NaN or infinite"),
        ("agent_tasks_total[5m]", {"max": "3"}, GateVerdict.NO_VERDICT, "its result is a matrix: ask for one number"),
        ('"3"', {"max": "3"}, GateVerdict.NO_VERDICT, "its result is a string: ask for one number"),
        ("sum(", {"max": "3"}, GateVerdict.NO_VERDICT, "Prometheus answered with HTTP 400: invalid parameter"),
    ],
)
@requirement("rollout.gate-prometheus")
async def test_a_real_result_passes_within_its_bounds_breaches_outside_and_holds_without_a_number(
    prometheus: Prometheus, query: str, bounds: dict[str, str], verdict: GateVerdict, message: str
) -> None:
    report = await judge(prometheus.url, query, **bounds)
    assert report.verdict is verdict, report.message
    assert message in report.message


@requirement("rollout.gate-prometheus")
async def test_a_verdict_follows_what_is_scraped_and_holds_while_prometheus_is_away(tmp_path: Path) -> None:
    with Exporter(SAMPLES) as exporter, running_prometheus(tmp_path, exporter) as prometheus:
        assert (await judge(prometheus.url, ERRORS, max="3")).verdict is GateVerdict.PASSED
        exporter.text = SAMPLES.replace("} 30", "} 130")
        eventually(lambda: prometheus.has_samples(f"{FAILED} > 100"), "the change is scraped", UNANSWERED_SECONDS)
        assert (await judge(prometheus.url, ERRORS, max="3")).verdict is GateVerdict.BREACHED
        prometheus.end()
        report = await judge(prometheus.url, ERRORS, max="3")
    assert report.verdict is GateVerdict.NO_VERDICT
    assert "Prometheus cannot be reached" in report.message
