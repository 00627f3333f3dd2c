"""The operator's Prometheus series, its log format and its HTTP endpoint. No label takes a value that users write."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

_log = logging.getLogger(__name__)

RECONCILES = Counter("interlock_reconciles_total", "Reconciles, by kind and result.", ["kind", "result"])
RECONCILE_FAILURES = Counter(
    "interlock_reconcile_failures_total",
    "Failed reconciles, by kind and cause: defect (of the operator), refused or unreachable (the API server).",
    ["kind", "cause"],
)
EVENTS_DROPPED = Counter("interlock_events_dropped_total", "Kubernetes Events that could not be posted.")
WATCH_FAILURES = Counter(
    "interlock_watch_event_failures_total",
    "Watch events of one object that the operator skipped because of a defect, by kind.",
    ["kind"],
)
TASKS_ENDED = Counter("interlock_tasks_ended_total", "Long-lived tasks of the operator that ended: it then restarts.")
RECONCILE_SECONDS = Histogram(
    "interlock_reconcile_seconds",
    "Seconds that one reconcile took, by kind.",
    ["kind"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
QUEUED = Gauge("interlock_queued_agents", "Agents that wait for a reconcile.")
POLICIES_QUEUED = Gauge("interlock_queued_policies", "AgentPolicies that wait for a reconcile.")
BINDINGS_QUEUED = Gauge("interlock_queued_bindings", "MCPBindings that wait for a reconcile.")
VERIFICATIONS = Counter(
    "interlock_verifications_total", "Finished verifications of MCP servers, by result.", ["result"]
)
AGENTS = Gauge("interlock_agents", "Agents in the cluster.")
AGENTS_KILLED = Gauge("interlock_agents_killed", "Agents whose kill switch is engaged.")
API_REQUESTS = Counter(
    "interlock_api_requests_total", "Requests to the API server, by HTTP method and status code.", ["method", "code"]
)
API_SECONDS = Histogram(
    "interlock_api_request_seconds",
    "Seconds that a request to the API server took, by HTTP method.",
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
        _log.exception("watch event skipped because of a defect of the operator", extra={"kind": kind, "object": name})


KILLS = Counter("interlock_kills_total", "Kill switches that were engaged.")
KILL_SECONDS = Histogram(
    "interlock_kill_zero_pods_seconds",
    "Seconds from observing an engaged kill switch until no pod of the agent was left.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60),
)


_FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}


def configure_logs(level: str) -> None:
    """Send all logging of the process to stderr as JSON lines.

    Args:
        level: Name of the lowest level that is logged, such as INFO.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=_FIELDS))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # kopf logs one line per watch event


StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Silent(WSGIRequestHandler):
    @override
    def log_message(self, *_: Any) -> None:
        """Log nothing: probes come every few seconds."""


def serve(port: int, unhealthy: Callable[[], str | None]) -> WSGIServer:
    """Start serving on all addresses and return the server.

    Args:
        port: The TCP port; 0 takes a free one.
        unhealthy: Returns what is wrong, None while the operator is healthy.
    """
    metrics = make_wsgi_app()

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            return cast("Iterable[bytes]", metrics(environ, start_response))
        problem = unhealthy()
        status = "503 Service Unavailable" if problem else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{problem or 'ok'}\n".encode()]

    server = make_server("", port, application, ThreadingWSGIServer, handler_class=_Silent)
    threading.Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
    return server
