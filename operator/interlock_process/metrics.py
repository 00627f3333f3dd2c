"""The metrics that all programs of the control plane have. No label takes a value that users write."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import Counter, Histogram

from interlock_kube.reconcile_loop import Cause

_log = logging.getLogger(__name__)

RECONCILES = Counter("interlock_reconciles_total", "Reconciles.", ["kind", "result"])
RECONCILE_FAILURES = Counter(
    "interlock_reconcile_failures_total",
    "Failed reconciles. Causes: `defect` of Interlock, `refused` or `unreachable` (the API server), `too-costly`.",
    ["kind", "cause"],
)
WATCH_FAILURES = Counter(
    "interlock_watch_event_failures_total",
    "Watch events of one object that were skipped because of a defect.",
    ["kind"],
)
TASKS_ENDED = Counter(
    "interlock_tasks_ended_total", "Long-lived tasks that ended because of a defect. The program then restarts."
)
RECONCILE_SECONDS = Histogram(
    "interlock_reconcile_seconds",
    "Seconds that one reconcile took.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)

API_REQUESTS = Counter(
    "interlock_api_requests_total", "Requests to the API server, by HTTP method and status code.", ["method", "code"]
)
API_SECONDS = Histogram(
    "interlock_api_request_seconds",
    "Seconds that a request to the API server took.",
    ["method"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)


def count_answer(method: str, code: int, seconds: float) -> None:
    """Count one response of the API server.

    Args:
        method: The HTTP method.
        code: The HTTP status code.
        seconds: Seconds that the request took.
    """
    API_REQUESTS.labels(method, str(code)).inc()
    API_SECONDS.labels(method).observe(seconds)


@contextmanager
def skip_on_defect(kind: str, found: Mapping[str, Any]) -> Iterator[None]:
    """Log and count an unexpected exception in handling one object's watch event, so that the others are handled.

    Args:
        kind: The object's kind.
        found: The object.
    """
    try:
        yield
    except Exception:  # noqa: BLE001 - a defect on one object must not end the watch of all others
        WATCH_FAILURES.labels(kind).inc()
        metadata = found.get("metadata") or {}
        name = f"{metadata.get('namespace')}/{metadata.get('name')}"
        _log.exception("watch event skipped because of a defect of Interlock", extra={"kind": kind, "object": name})


class PrometheusLoopMetrics:
    """Counts what reconcile loops do."""

    def turn(self, kind: str, *, is_ok: bool, seconds: float) -> None:
        """Count one reconcile of an object, and the seconds that it took."""
        RECONCILES.labels(kind, "ok" if is_ok else "failed").inc()
        RECONCILE_SECONDS.labels(kind).observe(seconds)

    def failure(self, kind: str, cause: Cause) -> None:
        """Count one failure."""
        RECONCILE_FAILURES.labels(kind, cause).inc()
