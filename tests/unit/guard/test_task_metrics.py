import re

from interlock_guard.tasks.metrics import BUCKETS, TaskMetrics
from interlock_guard.tasks.outcome_classifier import TaskOutcome
from interlock_guard.tasks.request_classes import RequestClass


def figures(counts: TaskMetrics, running: int = 0, waiting: int = 0) -> dict[str, float]:
    lines = [line for line in counts.lines(running, waiting) if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_what_counts_against_the_agent_is_counted_apart() -> None:
    counts = TaskMetrics()
    for outcome in TaskOutcome:
        counts.end(RequestClass.TASK, outcome, 0.1)
    counts.end(RequestClass.READ, TaskOutcome.FAILED, 0.1)
    found = figures(counts)
    assert found['interlock_guard_task_failures_total{kind="Task"}'] == 5
    assert found['interlock_guard_task_failures_total{kind="Read"}'] == 1
    assert found['interlock_guard_task_failures_total{kind="Control"}'] == 0
    for outcome in TaskOutcome:
        assert found[f'interlock_guard_tasks_total{{kind="Task",outcome="{outcome}"}}'] == 1


def test_durations_are_a_cumulative_histogram() -> None:
    counts = TaskMetrics()
    for seconds in (0.01, 0.02, 4.0, 10_000.0):
        counts.end(RequestClass.TASK, TaskOutcome.ANSWERED, seconds)
    found = figures(counts)
    name = "interlock_guard_task_duration_seconds"
    buckets = [found[f'{name}_bucket{{kind="Task",le="{bound}"}}'] for bound in (*BUCKETS, "+Inf")]
    assert buckets == [1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert (found[f'{name}_count{{kind="Task"}}'], found[f'{name}_sum{{kind="Task"}}']) == (4, 10004.03)


def test_every_figure_has_a_help_and_a_type() -> None:
    lines = TaskMetrics().lines(1, 2)
    described = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    assert described == {line.split()[2] for line in lines if line.startswith("# HELP")}
    for name in figures(TaskMetrics(), 1, 2):
        assert re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) in described
