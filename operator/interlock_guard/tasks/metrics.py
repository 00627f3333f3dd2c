"""Figures about tasks, as Prometheus reads them. No I/O."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from interlock_contract.exposition import Metric, Sample, render_labels
from interlock_guard.tasks.outcome_classifier import FAILURES
from interlock_guard.tasks.request_classes import RequestClass

BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the histogram of durations in seconds."""

RUNNING: Final = Metric(
    "interlock_guard_tasks_running", "gauge", "Tasks that run, at most `spec.tasks.maxConcurrentTasks`."
)
WAITING: Final = Metric("interlock_guard_tasks_waiting", "gauge", "Callers whose tasks wait.")
ENDED: Final = Metric(
    "interlock_guard_tasks_total", "counter", "Tasks that the agent got, or would have got.", ("kind", "outcome")
)
FAILED: Final = Metric(
    "interlock_guard_task_failures_total", "counter", "Tasks that count as failures of the agent.", ("kind",)
)
REFUSED: Final = Metric(
    "interlock_guard_task_refusals_total",
    "counter",
    "Refused tasks. `GaveUp` are callers that disconnected while they waited.",
    ("reason",),
)
PASSED_ON: Final = Metric(
    "interlock_guard_tasks_passed_on_total", "counter", "Tasks that another placement of the agent got.", ("outcome",)
)
UNDER_WAY: Final = Metric(
    "interlock_guard_tasks_under_way",
    "gauge",
    "Requests that are in the guard, and A2A tasks whose last seen state is not final.",
)
DRAINS: Final = Metric("interlock_guard_draining", "gauge", "1 while the guard is on its way out.")
DURATION: Final = Metric(
    "interlock_guard_task_duration_seconds",
    "histogram",
    "From the first byte of a request to the last of its answer, waiting included.",
    ("kind",),
)


class TaskMetrics:
    """What became of tasks since the guard's start."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[RequestClass, str]] = Counter()
        """What reached the agent or should have, by kind and outcome."""
        self.refused: Counter[str] = Counter()
        """What was refused before it could, by reason."""
        self.passed_on: Counter[str] = Counter()
        """What was passed on to another placement, by outcome."""
        self._buckets = {kind: [0] * (len(BUCKETS) + 1) for kind in RequestClass}
        self._seconds = dict.fromkeys(RequestClass, 0.0)

    def end(self, kind: RequestClass, outcome: str, seconds: float) -> None:
        """Count a task that has ended.

        Args:
            kind: What it was.
            outcome: A word of `Outcome`, or why it was cut off.
            seconds: From its first byte to the last of the answer.
        """
        self.ended[kind, outcome] += 1
        self._buckets[kind][bisect_left(BUCKETS, seconds)] += 1
        self._seconds[kind] += seconds

    def lines(self, running: int, waiting: int) -> list[str]:
        """Return everything in Prometheus' text format; kinds, outcomes and reasons are words of ours."""
        failures: Counter[RequestClass] = Counter(dict.fromkeys(RequestClass, 0))
        for (kind, outcome), count in self.ended.items():
            failures[kind] += count if outcome in FAILURES else 0
        return [
            *RUNNING.render(running),
            *WAITING.render(waiting),
            *ENDED.render_by(sorted(self.ended.items())),
            *FAILED.render_by(((kind,), count) for kind, count in sorted(failures.items())),
            *REFUSED.render_by(((reason,), count) for reason, count in sorted(self.refused.items())),
            *self._histogram(),
        ]

    def drain_lines(self, under_way: int, *, drains: bool) -> list[str]:
        """Return what shows whether the guard can be ended, in Prometheus' text format."""
        return [
            *PASSED_ON.render_by(((outcome,), count) for outcome, count in sorted(self.passed_on.items())),
            *UNDER_WAY.render(under_way),
            *DRAINS.render(int(drains)),
        ]

    def _histogram(self) -> list[str]:
        samples: list[Sample] = []
        for kind in RequestClass:
            below = 0
            for bound, count in zip((*BUCKETS, "+Inf"), self._buckets[kind], strict=True):
                below += count
                samples.append((f"_bucket{render_labels(kind=kind, le=str(bound))}", below))
            samples.append((f"_sum{render_labels(kind=kind)}", f"{self._seconds[kind]:.6f}"))
            samples.append((f"_count{render_labels(kind=kind)}", below))
        return DURATION.render_samples(samples)
