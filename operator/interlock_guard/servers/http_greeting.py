"""How a server over HTTP is greeted: `server/discover` first, and `initialize` where that is no sign of the newer era.

What is asked and how an answer is read is `greeting`'s. Here is what HTTP adds: servers of before 2026 refuse what they
do not know by a status, in many ways, and a session has its id in a header.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from interlock_guard.servers.greeting import (
    PROBE_SECONDS,
    initialize_params,
    is_stateless_after_all,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.servers.http_eras import is_session_id, session_headers, stateless_headers
from interlock_guard.servers.http_exchange import HttpExchange, SessionLost
from interlock_guard.servers.http_session import LinkFailed
from interlock_guard.servers.upstream import Hello
from interlock_guard.wire import methods
from interlock_guard.wire.jsonrpc import Message, Response, dump_notification, dump_request

_INITIALIZE_SECONDS: Final = 30.0
GREETING_ID: Final = 0
"""Id of what the guard asks beside calls, whose ids begin with 1."""
_NO_VERSION: Final = "speaks no protocol version that the guard does; nothing else was sent to it"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What the server said, and the session that it gave; none in the stateless era, and where it keeps none."""

    hello: Hello
    session: str


async def greet(exchange: HttpExchange, capabilities: dict[str, Any]) -> Greeting:
    """Greet a server.

    Args:
        exchange: The way to the server.
        capabilities: What the server may be told that its client can do.

    Raises:
        LinkFailed: It cannot be reached, or speaks no version that the guard does.
    """
    discovered = await discover(exchange, capabilities)
    if discovered is not None:
        return Greeting(discovered, "")
    try:
        async with asyncio.timeout(_INITIALIZE_SECONDS):
            return await _initialize(exchange, capabilities)
    except TimeoutError:
        raise LinkFailed("did not answer the greeting in time; nothing else was sent to it", is_sent=True) from None
    except SessionLost:
        raise LinkFailed("lost the session at once", is_sent=True) from None


async def discover(exchange: HttpExchange, capabilities: dict[str, Any]) -> Hello | None:
    """Ask a server for what one of the stateless era says of itself; None where this is no such server.

    Raises:
        LinkFailed: It cannot be reached, or speaks no version that the guard does.
    """
    params = probe_params(capabilities)
    headers = stateless_headers(methods.DISCOVER, params, methods.LATEST_STATELESS)
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            body = dump_request(GREETING_ID, methods.DISCOVER, params)
            response, _ = await exchange.request(GREETING_ID, body, headers, _drop)
    except TimeoutError:
        return None
    except LinkFailed as failed:
        if failed.is_sent:
            return None  # a refusal of whatever kind; should it be another trouble, the handshake meets it, too
        raise
    if _speaks_none(response):
        raise LinkFailed(_NO_VERSION, is_sent=True)
    return read_discovered(response)


async def _initialize(exchange: HttpExchange, capabilities: dict[str, Any]) -> Greeting:
    body = dump_request(GREETING_ID, "initialize", initialize_params(capabilities))
    response, session = await exchange.request(GREETING_ID, body, {}, _drop)
    hello = read_initialized(response)
    if hello is None and is_stateless_after_all(response):
        hello = await discover(exchange, capabilities)
        if hello is not None:
            return Greeting(hello, "")
    if hello is None:
        raise LinkFailed(_NO_VERSION, is_sent=True)
    if session and not is_session_id(session):
        raise LinkFailed("gave a malformed session id; nothing else was sent to it", is_sent=True)
    notification = dump_notification("notifications/initialized", {})
    await exchange.deliver(notification, session_headers(session, hello.version))
    return Greeting(hello, session)


def _speaks_none(response: Response) -> bool:
    """Say whether a server names the versions that it speaks, and the guard speaks none of them."""
    error = response.error or {}
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    known = (*methods.HANDSHAKE_VERSIONS, *methods.STATELESS_VERSIONS)
    return (
        error.get("code") == methods.UNSUPPORTED_VERSION
        and isinstance(supported, list)
        and not any(version in known for version in supported)
    )


def _drop(_: Message) -> None:
    """Hear nothing: before the greeting is over a server has nothing to say to anybody."""
