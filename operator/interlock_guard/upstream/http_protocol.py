"""MCP over HTTP as the guard speaks it to a server: headers, one POST and its answer, resuming, initializing.

The guard speaks two kinds of protocol versions. Session-based ones follow "Streamable HTTP" of the specification
2025-11-25: `initialize` gives a session id, which every later message carries. Sessionless ones follow 2026-07-28: each
request stands alone, and its routing headers repeat what its body says.

One call of a session-based server, whose stream breaks and is resumed:

    POST  Mcp-Session-Id: s1                    {"id": 7, "method": "tools/call", ...}
    <- 200 text/event-stream
       id: e1, data: {"method": "notifications/progress", ...}    -> `on_message`
       the connection breaks
    GET   Mcp-Session-Id: s1, Last-Event-ID: e1
    <- 200 text/event-stream
       id: e2, data: {"id": 7, "result": ...}                     -> `on_message`, and the result of `request`

A request is never posted twice: the server may have executed it.
"""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.mcp import (
    EVENT_STREAM,
    MCP_JSON,
    METHOD_HEADER,
    NAME_HEADER,
    SESSION_HEADER,
    VERSION_HEADER,
)
from interlock_guard.upstream.credentials import SECRET_REACH
from interlock_guard.upstream.http_client import HttpAnswer, HttpClient, StreamBroken, UpstreamError
from interlock_guard.upstream.initialize import (
    PROBE_SECONDS,
    initialize_params,
    is_sessionless_error,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import (
    MAX_RESULT,
    Id,
    Message,
    MessageInvalid,
    MessageTooLarge,
    RpcResponse,
    dump_notification,
    dump_request,
)
from interlock_guard.wire.large_messages import MAX_OWN_MESSAGE, LargeMessages, NoRoom, Pace
from interlock_guard.wire.streams import EventParser

_PLAIN: Final = re.compile(r"[\x20-\x7e]*\Z")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=\Z")
_SLICE: Final = 16 * 1024
_SESSION: Final = re.compile(r"[\x21-\x7e]{1,1024}\Z")


def sessionless_headers(method: str, params: Mapping[str, Any], version: str) -> dict[str, str]:
    """Return the routing headers of a request of a sessionless version, made from the body that goes out."""
    headers = {VERSION_HEADER: version, METHOD_HEADER: method}
    name = params.get(mcp.NAME_PARAMETERS.get(method, ""))
    if isinstance(name, str):
        headers[NAME_HEADER] = encode_header(name)
    return headers


def session_headers(session: str, version: str) -> dict[str, str]:
    """Return the headers of a message of a session-based version, after `initialize`."""
    return {VERSION_HEADER: version} | ({SESSION_HEADER: session} if session else {})


def is_session_id(text: str) -> bool:
    """Return True if a server's session id is one that the specification allows: visible ASCII."""
    return _SESSION.match(text) is not None


def encode_header(value: str) -> str:
    """Return a value as a header carries it: plain, or in the specification's Base64 form where plain is ambiguous.

    `crm` stays `crm`. `größe` becomes `=?base64?Z3LDtsOfZQ==?=`, and so does a text that already has that form.
    """
    if _PLAIN.match(value) and value == value.strip() and not _ENCODED.match(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


_RESUME_HEADER: Final = "Last-Event-ID"
_RESUME_SECONDS: Final = 1.0
_MAX_RESUME_SECONDS: Final = 30.0
_FRUITLESS_RESUMES: Final = 3
_NOT_FOUND: Final = 404
_DOUBTFUL: Final = (400, _NOT_FOUND)
_REFUSED: Final = (401, 403)
_MESSAGE: Final = "message"

OnMessage = Callable[[Message], None]


class SessionLost(Exception):  # noqa: N818 - says what happened
    """The server no longer knows the session, or is another server; it did not execute the request."""


class StatusRefused(UpstreamError):  # noqa: N818 - says what happened
    """The server answered with an HTTP status and no JSON-RPC error."""

    def __init__(self, status: int) -> None:
        what = "does not accept the guard's credentials" if status in _REFUSED else "answered with an error"
        super().__init__(f"{what} (HTTP {status})", is_sent=True)
        self.status = status


class HttpExchange:
    """Sends messages to one server and reads its answers."""

    def __init__(
        self,
        client: HttpClient,
        max_result: Callable[[], int],
        is_known: Callable[[], Awaitable[bool]],
        large: LargeMessages,
    ) -> None:
        """Begin.

        Args:
            client: Sends the requests.
            max_result: Bound in bytes of one message, asked for at each.
            is_known: Returns whether the server is still the one that was initialized, as far as can be found out.
            large: The large messages of this guard.
        """
        self._client, self._large = client, large
        self._max_result = max_result
        self._is_known = is_known

    async def request(
        self, request_id: Id, body: bytes, headers: Mapping[str, str], on_message: OnMessage
    ) -> tuple[RpcResponse, str]:
        """Post a request; return its answer, and the session id in the answer's header, empty without one.

        Args:
            request_id: The request's id, which the answer must have.
            body: The request.
            headers: Those of MCP.
            on_message: Called with each message of the server as it arrives, the answer included.

        Raises:
            UpstreamError: No answer came.
            SessionLost: The request was refused, since its session is lost.
        """
        parser = EventParser(self._max_result())
        async with self._client.send("POST", body, headers) as answer:
            await self._check_session(answer, headers)
            session = answer.header(SESSION_HEADER)
            if not answer.is_success:
                found: RpcResponse | None = await self._read_error(answer, request_id)
            elif answer.media_type == MCP_JSON:
                found = _own(await self._parse(await answer.read(self._max_result(), self._large.results)), request_id)
            elif answer.media_type == EVENT_STREAM:
                found = await self._follow(answer, parser, request_id, on_message)
            else:
                raise UpstreamError("answered with neither JSON nor a stream of events", is_sent=True)
            if found is not None:
                on_message(found)
                await answer.drain()
                return found, session
        found = await self._resume(parser, request_id, headers, on_message)
        on_message(found)
        return found, session

    async def deliver(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a message that has no answer.

        Raises:
            UpstreamError: It was not accepted.
            SessionLost: Its session is lost.
        """
        async with self._client.send("POST", body, headers) as answer:
            await self._check_session(answer, headers)
            if not answer.is_success:
                raise StatusRefused(answer.status)

    async def listen(self, headers: Mapping[str, str], on_message: OnMessage, parser: EventParser) -> None:
        """Handle the messages that the server sends on its own, until the stream ends.

        Raises:
            UpstreamError: There is no such stream, or it broke off.
            SessionLost: Its session is lost.
        """
        async with self._client.send("GET", None, _from(parser, headers)) as answer:
            await self._check_session(answer, headers)
            if not answer.is_success or answer.media_type != EVENT_STREAM:
                raise StatusRefused(answer.status)
            if await self._follow(answer, parser, None, on_message) is not None:
                raise UpstreamError("answered a request that was never made", is_sent=True)

    async def _follow(
        self, answer: HttpAnswer, parser: EventParser, request_id: Id | None, on_message: OnMessage
    ) -> RpcResponse | None:
        """Read a stream up to the answer; None if it ends before, or breaks where it can be resumed.

        A stream can be resumed once one of its events had an id.
        """
        try:
            async for event in answer.events(parser, self._large.results):
                if event.name != _MESSAGE or not event.data:
                    continue
                message = await self._parse(event.data)
                if isinstance(message, RpcResponse):
                    return message if request_id is None else _own(message, request_id)
                if message.size > MAX_OWN_MESSAGE:
                    raise UpstreamError(
                        f"sent a request or notification of more than {MAX_OWN_MESSAGE} bytes", is_sent=True
                    )
                on_message(message)
        except StreamBroken:
            if not parser.last_id:
                raise
        return None

    async def _resume(
        self, parser: EventParser, request_id: Id, headers: Mapping[str, str], on_message: OnMessage
    ) -> RpcResponse:
        fruitless = 0
        while parser.last_id and fruitless < _FRUITLESS_RESUMES:
            before = parser.last_id
            pause = _RESUME_SECONDS if parser.retry_seconds is None else parser.retry_seconds
            await asyncio.sleep(min(pause, _MAX_RESUME_SECONDS))
            async with self._client.send("GET", None, _from(parser, headers)) as answer:
                await self._check_session(answer, headers)
                if not answer.is_success or answer.media_type != EVENT_STREAM:
                    break
                found = await self._follow(answer, parser, request_id, on_message)
            if found is not None:
                return found
            fruitless = 0 if parser.last_id != before else fruitless + 1
        raise UpstreamError("ended its answer half-way; the call may have been executed or not", is_sent=True)

    async def takes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Post a request that the server of a session must accept; return whether it does.

        Raises:
            UpstreamError: It cannot be reached.
        """
        async with self._client.send("POST", body, headers) as answer:
            return answer.status not in _DOUBTFUL

    async def _check_session(self, answer: HttpAnswer, headers: Mapping[str, str]) -> None:
        """Find out whether the server is no longer the one that was initialized.

        MCP has 404 for a lost session. Many servers answer 400 instead, and so do servers of another protocol version.
        Both statuses can have other reasons too, so the guard sends a ping:

            404 with a session           the session is lost
            400, and a ping gets 400     the session is lost
            400, and a ping gets 200     the request itself was wrong

        Raises:
            SessionLost: The server is another one, or has lost the session.
        """
        if answer.status == _NOT_FOUND and SESSION_HEADER in headers:
            raise SessionLost
        if answer.status in _DOUBTFUL and not await self._is_known():
            raise SessionLost

    async def _read_error(self, answer: HttpAnswer, request_id: Id) -> RpcResponse:
        """Return the JSON-RPC error that came with an HTTP status."""
        raw = await answer.read_error()
        try:
            message = await self._parse(raw)
        except UpstreamError:
            if await self._shows_secret(raw):
                raise
            raise StatusRefused(answer.status) from None
        if isinstance(message, RpcResponse) and message.error is not None and message.id in {request_id, None}:
            return message
        raise StatusRefused(answer.status)

    async def _parse(self, raw: bytes | bytearray) -> Message:
        """Return the one message in a text.

        Raises:
            UpstreamError: The text is no message, or one of the guard's credentials is in it.
        """
        try:
            message = await self._large.parse_message(raw, max_bytes=MAX_RESULT, hold=self._large.results.hold())
        except (MessageTooLarge, NoRoom) as error:
            raise UpstreamError(f"answered with a message that {error}", is_sent=True) from None
        except MessageInvalid as error:
            raise UpstreamError(f"answered with what is no message: {error}", is_sent=True) from None
        if await self._shows_secret(raw):
            raise UpstreamError("answered with a credential of its own in it, so the answer is withheld", is_sent=True)
        return message

    async def _shows_secret(self, raw: bytes | bytearray) -> bool:
        """Search a message in steps for the guard's credentials, in whatever way JSON writes them."""
        pace = Pace()
        for start in range(0, len(raw), _SLICE):
            if self._client.shows_secret(raw[max(0, start - SECRET_REACH) : start + _SLICE]):
                return True
            await pace.pause()
        return False


def _own(message: Message, request_id: Id) -> RpcResponse:
    if not isinstance(message, RpcResponse) or message.id not in {request_id, None}:
        raise UpstreamError("answered something else than it was asked", is_sent=True)
    if message.id is None and message.error is None:
        raise UpstreamError("answered something else than it was asked", is_sent=True)
    return message


def _from(parser: EventParser, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, _RESUME_HEADER: parser.last_id} if parser.last_id else dict(headers)


_INITIALIZE_SECONDS: Final = 30.0
INITIALIZE_ID: Final = 0
"""Id of the guard's own requests; ids of calls begin with 1."""
_NO_VERSION: Final = "speaks no protocol version that the guard does; nothing else was sent to it"


@dataclass(frozen=True, slots=True)
class Initialized:
    """What the server said, and its session id; empty in sessionless versions and for a server without sessions."""

    server_info: ServerInfo
    session: str


async def initialize_http(exchange: HttpExchange, capabilities: dict[str, Any]) -> Initialized:
    """Initialize a server, the sessionless version first.

    Args:
        exchange: The way to the server.
        capabilities: What the server may be told that its client can do.

    Raises:
        UpstreamError: It cannot be reached, or speaks no version that the guard speaks.
    """
    discovered = await discover(exchange, capabilities)
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
    if server_info is None:
        raise UpstreamError(_NO_VERSION, is_sent=True)
    if session and not is_session_id(session):
        raise UpstreamError("gave a malformed session id; nothing else was sent to it", is_sent=True)
    notification = dump_notification("notifications/initialized", {})
    await exchange.deliver(notification, session_headers(session, server_info.version))
    return Initialized(server_info, session)


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
