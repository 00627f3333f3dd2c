"""What a request to the guard must look like before its body is even read."""

from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from interlock_guard.wire.http_names import MCP_JSON, METHOD_HEADER, NAME_HEADER, SESSION_HEADER, VERSION_HEADER

_MAX_SESSION: Final = 128
_CHUNKED: Final = "chunked"
_VERSIONS: Final = (HttpVersion10, HttpVersion11)
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_ONCE: Final = (
    "Host",
    "Authorization",
    "X-Api-Key",
    "Origin",
    "Content-Type",
    "Transfer-Encoding",
    "Last-Event-ID",
    SESSION_HEADER,
    VERSION_HEADER,
    METHOD_HEADER,
    NAME_HEADER,
)


class HttpChecks:
    """Refuses requests that were not meant for this guard or that two parsers might read differently.

    Args:
        port: The guard's.
        host: The one name that a guard in a pod of its own is called by; empty, those of loopback.
    """

    def __init__(self, port: int, host: str = "") -> None:
        self._hosts = frozenset(f"{name}:{port}" for name in ((host,) if host else _LOOPBACK_NAMES))
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    def refuse_caller(self, http: web.Request) -> web.Response | None:
        """Refuse what was not addressed to this guard: a page may have made its own name resolve to 127.0.0.1."""
        headers = http.headers
        if http.version not in _VERSIONS:  # the parser takes a request line without a version for HTTP/0.9
            return web.Response(status=505, text="This speaks HTTP/1.1.\n")
        if any(len(headers.getall(name, ())) > 1 for name in _ONCE):
            return web.Response(status=400, text="A header is there twice.\n")
        origin = headers.get("Origin")
        if headers.get("Host") not in self._hosts or (origin is not None and origin not in self._origins):
            return web.Response(status=403, text="Host or Origin is not this guard's.\n")
        return None

    def refuse_body(self, http: web.Request) -> web.Response | None:
        """Refuse a body that is not plain JSON, and a session id that is none."""
        coding = http.headers.get("Transfer-Encoding", _CHUNKED)
        if http.content_type != MCP_JSON or "Content-Encoding" in http.headers or coding != _CHUNKED:
            return web.Response(status=415, text="The body must be plain application/json.\n")
        return self.refuse_session(http)

    def refuse_session(self, http: web.Request) -> web.Response | None:
        """Refuse a session id that is none."""
        session = http.headers.get(SESSION_HEADER, "")
        if len(session) > _MAX_SESSION or not (session.isascii() and (session.isprintable() or not session)):
            return web.Response(status=400, text=f"{SESSION_HEADER} is malformed.\n")
        return None
