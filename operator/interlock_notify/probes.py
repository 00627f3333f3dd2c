"""Probes and metrics of the notifier. Labels hold names of webhooks, which the policy bounds, and nothing of Agents."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from interlock_contract.exposition import Metric, join_lines
from interlock_http.probes import build_probe_app
from interlock_notify.dispatcher import Dispatcher

DELIVERIES: Final = Metric(
    "interlock_notifier_deliveries_total",
    "counter",
    "Attempts to post an alert by outcome: Delivered, Failed (tried again) and Expired (given up after three days).",
    ("webhook", "outcome"),
)
PENDING: Final = Metric(
    "interlock_notifier_pending_alerts", "gauge", "Alerts that a webhook has not taken yet.", ("webhook",)
)
UNREADABLE: Final = Metric(
    "interlock_notifier_unreadable_ledgers", "gauge", "BudgetLedgers whose alerts cannot be read because of a defect."
)
OLDEST: Final = Metric(
    "interlock_notifier_oldest_alert_seconds",
    "gauge",
    "Age of the oldest alert that a webhook has not taken yet, 0 without one.",
    ("webhook",),
)
WATCH_AGE: Final = Metric(
    "interlock_notifier_watch_age_seconds", "gauge", "Age of the last contact to the API server, -1 before the first."
)
UNRECORDED: Final = Metric(
    "interlock_notifier_record_failures", "gauge", "Failed attempts in a row to record what was delivered."
)


class NotifierProbes:
    """Answers the kubelet and Prometheus.

    Args:
        dispatcher: Whose numbers are shown.
        record_failures: Returns how many writes of the record have failed in a row.
        monotonic: Returns seconds that never go back.
    """

    def __init__(
        self, dispatcher: Dispatcher, record_failures: Callable[[], int], monotonic: Callable[[], float]
    ) -> None:
        self._dispatcher, self._record_failures, self._monotonic = dispatcher, record_failures, monotonic
        self._contact_at: float | None = None

    def record_contact(self) -> None:
        """Note that all changes until now have been seen."""
        self._contact_at = self._monotonic()

    def build_app(self) -> web.Application:
        """Return the HTTP application with /healthz, /readyz and /metrics."""
        return build_probe_app(metrics=lambda: join_lines(self._lines()), unready=self._unready)

    def _unready(self) -> str | None:
        if self._contact_at is None:
            return "the BudgetLedgers have not been listed yet"
        unusable = self._dispatcher.find_unusable()
        return "\n".join(f"webhook {name}: {why}" for name, why in unusable.items()) or None

    def _lines(self) -> list[str]:
        shown = self._dispatcher
        age = -1 if self._contact_at is None else self._monotonic() - self._contact_at
        return [
            *DELIVERIES.render_by(sorted(shown.counts.items())),
            *PENDING.render_by(((name,), count) for name, count in shown.pending().items()),
            *OLDEST.render_by(((name,), f"{seconds:.0f}") for name, seconds in shown.oldest_seconds().items()),
            *UNREADABLE.render(shown.unreadable),
            *WATCH_AGE.render(f"{age:.3f}"),
            *UNRECORDED.render(self._record_failures()),
        ]
