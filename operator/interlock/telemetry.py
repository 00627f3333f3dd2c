"""The operator's own metrics, and its HTTP endpoint. No label takes a value that users write."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import Counter, Gauge, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from typing_extensions import override

EVENTS_DROPPED = Counter("interlock_events_dropped_total", "Kubernetes Events that could not be posted.")
QUEUED = Gauge("interlock_queued_agents", "Agents that wait for a reconcile.")
POLICIES_QUEUED = Gauge("interlock_queued_policies", "AgentPolicies that wait for a reconcile.")
BINDINGS_QUEUED = Gauge("interlock_queued_bindings", "MCPBindings that wait for a reconcile.")
VERIFICATIONS = Counter(
    "interlock_verifications_total", "Finished verifications of MCP servers, by result.", ["result"]
)
AGENTS = Gauge("interlock_agents", "Agents in the cluster.")
KILL_CONTROLLER_AWAY = Gauge(
    "interlock_kill_controller_away", "Whether the kill controller is away (1): no new pod starts then."
)

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
