"""Figures about tasks, as Prometheus reads them. No I/O."""

from bisect import bisect_left
from collections import Counter
from typing import Final

from interlock_contract.exposition import Sample, render_family, render_labels
from interlock_guard.tasks.outcome_classifier import FAILURES
from interlock_guard.tasks.request_classes import RequestClass

BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the histogram of durations in seconds."""

_PREFIX: Final = "interlock_guard_task"


class TaskMetrics:
    """What became of tasks since the guard's start."""

    def __init__(self) -> None:
        self.ended: Counter[tuple[RequestClass, str]] = Counter()
        """What reached the agent or should have, by kind and outcome."""
        self.refused: Counter[str] = Counter()
        """What was refused before it could, by reason."""
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
        by_outcome = [
            (render_labels(kind=kind, outcome=word), count) for (kind, word), count in sorted(self.ended.items())
        ]
        by_kind = [(render_labels(kind=kind), count) for kind, count in sorted(failures.items())]
        by_reason = [(render_labels(reason=reason), count) for reason, count in sorted(self.refused.items())]
        return [
            *render_family(
                f"{_PREFIX}s_running",
                "gauge",
                "Tasks that run, at most spec.tasks.maxConcurrentTasks.",
                [("", running)],
            ),
            *render_family(f"{_PREFIX}s_waiting", "gauge", "Tasks that wait to run.", [("", waiting)]),
            *render_family(
                f"{_PREFIX}s_total",
                "counter",
                "Requests that the agent got, or would have got, by outcome.",
                by_outcome,
            ),
            *render_family(
                f"{_PREFIX}_failures_total", "counter", "Requests that count as failures of the agent.", by_kind
            ),
            *render_family(
                f"{_PREFIX}_refusals_total", "counter", "Requests that the agent did not get, by reason.", by_reason
            ),
            *self._histogram(),
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
        text = "From the first byte of a request to the last of its answer."
        return render_family(f"{_PREFIX}_duration_seconds", "histogram", text, samples)
