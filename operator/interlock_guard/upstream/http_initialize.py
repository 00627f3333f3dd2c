"""The first messages to a server over HTTP: the sessionless probe, `initialize` and the notification after it."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.mcp import SESSION_HEADER
from interlock_guard.upstream.http_client import UpstreamError
from interlock_guard.upstream.http_protocol import (
    HttpExchange,
    SessionLost,
    refuse_session_id,
    session_headers,
    sessionless_headers,
)
from interlock_guard.upstream.initialize import (
    PROBE_SECONDS,
    find_older_version,
    initialize_params,
    is_sessionless_error,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import Message, RpcResponse, dump_notification, dump_request

_INITIALIZE_SECONDS: Final = 30.0
_INITIALIZED_SECONDS: Final = 5.0
"""How long a server may take for the notification that the client is initialized."""
INITIALIZE_ID: Final = 0
"""Id of the guard's own requests; ids of calls begin with 1."""
_NO_VERSION: Final = "speaks no protocol version that the guard does; nothing else was sent to it"


@dataclass(frozen=True, slots=True)
class Initialized:
    """What the server said, and its session.

    Attributes:
        server_info: What it said.
        session: Its session id; empty in sessionless versions and for a server without sessions.
        warning: How it refused `notifications/initialized`, for the log; empty if it did not.
    """

    server_info: ServerInfo
    session: str
    warning: str = ""


async def initialize_http(exchange: HttpExchange, capabilities: dict[str, Any], *, is_probed: bool) -> Initialized:
    """Initialize a server.

    Args:
        exchange: The way to the server.
        capabilities: What the server may be told that its client can do.
        is_probed: Whether the sessionless version is tried first.

    Raises:
        UpstreamError: It cannot be reached, or speaks no version that the guard speaks.
    """
    discovered = await discover(exchange, capabilities) if is_probed else None
    if discovered is not None:
        return Initialized(discovered, "")
    try:
        async with asyncio.timeout(_INITIALIZE_SECONDS):
            return await _initialize(exchange, capabilities)
    except TimeoutError:
        raise UpstreamError("did not answer initialize in time; nothing else was sent to it", is_sent=True) from None
    except SessionLost:
        raise UpstreamError("lost the session immediately", is_sent=True) from None


async def discover(exchange: HttpExchange, capabilities: dict[str, Any]) -> ServerInfo | None:
    """Return what a server of a sessionless version says about itself; None from every other server.

    Raises:
        UpstreamError: It cannot be reached, or speaks no version that the guard speaks.
    """
    params = probe_params(capabilities)
    headers = sessionless_headers(mcp.DISCOVER, params, mcp.LATEST_SESSIONLESS)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            body = dump_request(INITIALIZE_ID, mcp.DISCOVER, params)
            response, _ = await exchange.request(INITIALIZE_ID, body, headers, _drop)
    except TimeoutError:
        return None
    except UpstreamError as failed:
        if failed.is_sent:
            return None  # refused for some reason; if the reason is another one, `initialize` meets it, too
        raise
    if _speaks_none(response):
        raise UpstreamError(_NO_VERSION, is_sent=True)
    return read_discovered(response)


async def _initialize(exchange: HttpExchange, capabilities: dict[str, Any]) -> Initialized:
    body = dump_request(INITIALIZE_ID, "initialize", initialize_params(capabilities))
    response, session = await exchange.request(INITIALIZE_ID, body, {}, _drop)
    server_info = read_initialized(response)
    if server_info is None and is_sessionless_error(response):
        server_info = await discover(exchange, capabilities)
        if server_info is not None:
            return Initialized(server_info, "")
    older = find_older_version(response)
    if older:
        body = dump_request(INITIALIZE_ID, "initialize", initialize_params(capabilities, older))
        response, session = await exchange.request(INITIALIZE_ID, body, {}, _drop)
        server_info = read_initialized(response)
    malformed = refuse_session_id(session) if session else ""
    if malformed:
        raise UpstreamError(f"{malformed}; nothing else was sent to it", is_sent=True)
    if server_info is None:
        if session:
            await exchange.end_session({SESSION_HEADER: session})
        raise UpstreamError(_NO_VERSION, is_sent=True)
    warning = await _tell_initialized(exchange, session_headers(session, server_info.version))
    return Initialized(server_info, session, warning)


async def _tell_initialized(exchange: HttpExchange, headers: dict[str, str]) -> str:
    """Send `notifications/initialized`; return how it was refused, empty if it was taken.

    Nothing is lost with it: a server that has answered `initialize` answers calls, or refuses each of them itself.

    Raises:
        UpstreamError: It could not be sent.
    """
    try:
        async with asyncio.timeout(_INITIALIZED_SECONDS):
            await exchange.deliver(dump_notification("notifications/initialized", {}), headers)
    except TimeoutError:
        return f"did not answer within {_INITIALIZED_SECONDS:g} s"
    except UpstreamError as failed:
        if not failed.is_sent:
            raise
        return failed.detail
    return ""


def _speaks_none(response: RpcResponse) -> bool:
    """Return True if a server names its versions, and the guard speaks none of them."""
    error = response.error or {}
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    known = (*mcp.SESSION_VERSIONS, *mcp.SESSIONLESS_VERSIONS)
    return (
        error.get("code") == mcp.UNSUPPORTED_VERSION
        and isinstance(supported, list)
        and not any(version in known for version in supported)
    )


def _drop(_: Message) -> None:
    """Ignore a message: a server has none to send before it is initialized."""
