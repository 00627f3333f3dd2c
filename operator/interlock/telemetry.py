"""Every Prometheus series of the operator, declared in one place. No label takes a value that users write."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

RECONCILES = Counter("interlock_reconciles_total", "Looks at an agent, by result.", ["result"])
RECONCILE_SECONDS = Histogram(
    "interlock_reconcile_seconds",
    "Seconds from taking up an agent to having written its status.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)
QUEUED = Gauge("interlock_queued_agents", "Agents that wait to be looked at.")
POLICIES_QUEUED = Gauge("interlock_queued_policies", "AgentPolicies whose access table waits to be looked at.")
BINDINGS_QUEUED = Gauge("interlock_queued_bindings", "MCPBindings whose verification waits to be looked at.")
VERIFICATIONS = Counter("interlock_verifications_total", "Verifications of servers that came to an end.", ["result"])
AGENTS = Gauge("interlock_agents", "Agents known.")
AGENTS_KILLED = Gauge("interlock_agents_killed", "Agents whose kill switch is engaged.")
API_REQUESTS = Counter("interlock_api_requests_total", "Requests to the API server.", ["method", "code"])
API_SECONDS = Histogram(
    "interlock_api_request_seconds",
    "Seconds that a request to the API server took.",
    ["method"],
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10),
)


def count_answer(method: str, code: int, seconds: float) -> None:
    """Count one answer of the API server."""
    API_REQUESTS.labels(method, str(code)).inc()
    API_SECONDS.labels(method).observe(seconds)


KILLS = Counter("interlock_kills_total", "Kill switches seen engaged.")
KILL_SECONDS = Histogram(
    "interlock_kill_zero_pods_seconds",
    "Seconds from seeing a kill switch engaged until no pod of the agent was left.",
    buckets=(0.5, 1, 2, 3, 5, 10, 30, 60),
)


_FIELDS = {"asctime": "time", "levelname": "level", "name": "logger"}


def configure_logs(level: str) -> None:
    """Send all logging of the process to stderr as JSON lines.

    Args:
        level: Name of the lowest level that is shown, such as INFO.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=_FIELDS))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # one line per object and watch event else


StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Silent(WSGIRequestHandler):
    @override
    def log_message(self, *_: Any) -> None:
        """Say nothing: probes come every few seconds."""


def serve(port: int, unhealthy: Callable[[], str | None]) -> WSGIServer:
    """Start serving on all addresses and return the server.

    Args:
        port: The TCP port; 0 takes a free one.
        unhealthy: Says what is wrong, None while all is well.
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
