"""`/healthz` and `/metrics`, served by a thread of its own: a hanging event loop must not hang the answer about it."""

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer
from typing_extensions import override

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
