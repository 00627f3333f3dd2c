"""MCP over HTTP as the guard speaks it to a server: headers, one POST and its answer, resuming.

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
from contextlib import suppress
from dataclasses import replace
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
from interlock_guard.upstream.dropped_messages import DroppedMessages
from interlock_guard.upstream.http_client import HttpAnswer, HttpClient, StreamBroken, UpstreamError
from interlock_guard.wire.jsonrpc import (
    INVALID_PARAMS,
    MAX_RESULT,
    METHOD_NOT_FOUND,
    Id,
    Message,
    MessageInvalid,
    MessageTooLarge,
    RpcResponse,
    dump_request,
)
from interlock_guard.wire.large_messages import MAX_OWN_MESSAGE, LargeMessages, NoRoom, Pace
from interlock_guard.wire.server_messages import FROM_SERVER
from interlock_guard.wire.streams import EventParser, cut_short

_PLAIN: Final = re.compile(r"[\x20-\x7e]*\Z")
_ENCODED: Final = re.compile(r"=\?base64\?.*\?=\Z")
_SLICE: Final = 16 * 1024
_SECONDS: Final = re.compile(r"[0-9]{1,6}\Z")
_SESSION: Final = re.compile(r"[\x21-\x7e]+\Z")
MAX_SESSION: Final = 8 * 1024
"""Longest session id of a server, in bytes: gateways put the sessions of all their servers into one."""


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


def refuse_session_id(text: str) -> str:
    """Return why a server's session id cannot be sent back to it; empty if it can: visible ASCII, of bounded length."""
    if len(text) > MAX_SESSION:
        return f"gave a session id of {len(text)} bytes; one has at most {MAX_SESSION}"
    return "" if _SESSION.match(text) else "gave a session id with other characters than visible ASCII"


def encode_header(value: str) -> str:
    """Return a value as a header carries it: plain, or in the specification's Base64 form where plain is ambiguous.

    `crm` stays `crm`. `größe` becomes `=?base64?Z3LDtsOfZQ==?=`, and so does a text that already has that form.
    """
    if _PLAIN.match(value) and value == value.strip() and not _ENCODED.match(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


_RESUME_HEADER: Final = "Last-Event-ID"
_RESUME_SECONDS: Final = 1.0
_LEAST_RESUME_SECONDS: Final = 0.1  # however soon a server wants its client back
_MAX_RESUME_SECONDS: Final = 30.0
_FRUITLESS_RESUMES: Final = 3
_BAD_REQUEST, _NOT_FOUND = 400, 404
_REFUSED: Final = (401, 403)
DOUBTFUL: Final = frozenset({_BAD_REQUEST, _NOT_FOUND})
"""Statuses with which servers refuse messages of a session, or of a protocol version, that they do not know."""
_OF_A_SESSION: Final = DOUBTFUL | {*_REFUSED, 410, 422}
"""The same in a session: the Rust SDK has 401 for a session that is not found, other servers have 403, 410 or 422."""
MAY_BE_LOST: Final = _OF_A_SESSION | {500, 503}
"""Statuses that a few servers have for a lost session, and many for something else."""
_OF_A_METHOD: Final = (METHOD_NOT_FOUND, INVALID_PARAMS)
"""Error codes of a server that has looked the method up, so it knows the session."""
_OF_SESSIONS: Final = re.compile("session|initiali[sz]", re.IGNORECASE)
_MAX_SEARCHED: Final = 256
_MAX_OTHER_ERROR, _OTHER_ERROR_SECONDS = 64 * 1024, 5.0
_NO_MESSAGES: Final = frozenset({"ping", "endpoint", "heartbeat", "keepalive", "keep-alive", "open", "close", "done"})
"""Types of events that are no message. A message may have another type than `message`, such as `response`."""
_END_SECONDS: Final = 0.5  # a pod's guard has one second to end

OnMessage = Callable[[Message], None]


class SessionLost(Exception):  # noqa: N818 - says what happened
    """The server no longer knows the session, or is another server.

    Attributes:
        is_executable: Whether the server may have executed the request. False only where it refused the request and
            the check after it, a ping and its lists, with the status that MCP has for a lost session.
    """

    def __init__(self, *, is_executable: bool = True) -> None:
        super().__init__()
        self.is_executable = is_executable


class StatusRefused(UpstreamError):  # noqa: N818 - says what happened
    """The server answered with an HTTP status and no JSON-RPC error, or with something else than a stream."""

    def __init__(self, answer: HttpAnswer) -> None:
        status, wait = answer.status, answer.header("Retry-After")
        what = "does not accept the guard's credentials" if status in _REFUSED else "answered with an error"
        code = f"HTTP {status}, Retry-After: {wait}" if _SECONDS.match(wait) else f"HTTP {status}"
        super().__init__(f"{what if status >= _BAD_REQUEST else 'opened no stream'} ({code})", is_sent=True)
        self.status = status
        self.retry_seconds = float(wait) if _SECONDS.match(wait) else 0.0
        """How long the server wants its client to wait."""


class _Unreadable(UpstreamError):  # noqa: N818 - says what happened
    """The server sent what is no message, or none that there is room for."""

    def __init__(self, why: str) -> None:
        super().__init__(f"answered with {why}", is_sent=True)
        self.why = why


class Unanswered(UpstreamError):  # noqa: N818 - says what happened
    """The server answered a request with nothing. Its answer may come on the stream of its own messages."""

    def __init__(self) -> None:
        super().__init__("answered with nothing; the call may have been executed or not", is_sent=True)


class HttpExchange:
    """Sends messages to one server and reads its answers."""

    def __init__(
        self,
        client: HttpClient,
        max_result: Callable[[], int],
        check: Callable[[], Awaitable[int | None]],
        large: LargeMessages,
        dropped: DroppedMessages,
        resolve: Callable[[RpcResponse], bool] = lambda _: False,
    ) -> None:
        """Begin.

        Args:
            client: Sends the requests.
            max_result: Bound in bytes of one message, asked for at each.
            check: Finds out whether the server is still the one that was initialized; see `refusal_status`.
            large: The large messages of this guard.
            dropped: Takes messages on streams that answer no request.
            resolve: Called with each answer on the stream of the server's own messages; returns whether it is that of a
                call under way.
        """
        self._resolve = resolve
        self._client, self._large, self._dropped = client, large, dropped
        self._messages = 0  # on all streams so far
        self._max_result = max_result
        self._check = check

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
            Unanswered: Nothing came at all.
            SessionLost: The session is lost. The answer, if one came all the same, was given to `on_message` before.
        """
        parser = EventParser(self._max_result())
        async with self._client.send("POST", body, headers) as answer:
            session = answer.header(SESSION_HEADER)
            if not answer.is_success:
                return await self._read_refusal(answer, request_id, headers, on_message), session
            if answer.media_type == EVENT_STREAM:
                found = await self._follow(answer, parser, request_id, on_message)
            else:
                found = await self._read_body(answer, request_id, on_message)
            if found is not None:
                on_message(found)
                await answer.drain()
        if found is None:
            if parser.is_blank:
                raise Unanswered
            found = await self._resume(parser, request_id, headers, on_message)
            on_message(found)
        if _speaks_of_session(found) and await self._check() is not None:
            raise SessionLost
        return found, session

    async def _read_body(self, answer: HttpAnswer, request_id: Id, on_message: OnMessage) -> RpcResponse | None:
        """Return the answer in a body that is no stream; None if the body is empty.

        JSON may have another type, such as that of a web page, which PHP gives it. Such a body must come soon.
        """
        try:
            async with asyncio.timeout(None if answer.may_be_json else _OTHER_ERROR_SECONDS):
                raw = await answer.read(self._max_result(), self._large.results)
            messages = await self._parse(raw) if raw else []
        except (TimeoutError, _Unreadable):
            if answer.may_be_json:
                raise
            raise UpstreamError("answered with neither JSON nor a stream of events", is_sent=True) from None
        found = await self._take(messages, raw, request_id, on_message)
        if found is None and raw:
            raise UpstreamError("answered something else than it was asked", is_sent=True)
        return found

    async def deliver(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a message that has no answer.

        Raises:
            UpstreamError: It was not accepted.
            SessionLost: Its session is lost.
        """
        async with self._client.send("POST", body, headers) as answer:
            if not answer.is_success:
                await self._check_session(answer, headers)
                raise StatusRefused(answer)

    async def listen(
        self, headers: Mapping[str, str], on_message: OnMessage, parser: EventParser, on_open: Callable[[], None]
    ) -> None:
        """Handle the messages that the server sends on its own, until the stream ends.

        Args:
            headers: Those of MCP.
            on_message: Called with each message.
            parser: Takes the stream apart, and knows after which event it goes on.
            on_open: Called when the server has opened the stream.

        Raises:
            StatusRefused: The server does not open the stream. Nothing of the session follows from that.
            UpstreamError: The stream broke off.
        """
        async with self._client.send("GET", None, _from(parser, headers)) as answer:
            if not answer.is_success or answer.media_type != EVENT_STREAM:
                raise StatusRefused(answer)
            on_open()
            await self._follow(answer, parser, None, on_message)

    async def _follow(
        self, answer: HttpAnswer, parser: EventParser, request_id: Id | None, on_message: OnMessage
    ) -> RpcResponse | None:
        """Read a stream up to the answer; None if it ends before, or breaks where it can be resumed.

        A stream can be resumed once one of its events had an id. An event that answers no request, or cannot be read,
        is dropped, and the others go on.
        """
        try:
            async for event in answer.events(parser, self._large.results):
                if event.name in _NO_MESSAGES or not event.data:
                    continue
                self._messages += 1
                try:
                    messages = await self._parse(event.data)
                except _Unreadable as unreadable:
                    if request_id is not None and cut_short(event.data).response_id() == request_id:
                        raise
                    await self._drop(event.data, unreadable.why)
                    continue
                found = await self._take(messages, event.data, request_id, on_message)
                if found is not None:
                    return found
        except StreamBroken:
            if not parser.last_id:
                raise
        return None

    async def _take(
        self, messages: list[Message], raw: bytes | bytearray, request_id: Id | None, on_message: OnMessage
    ) -> RpcResponse | None:
        """Handle the messages of one text; return the answer to the request if it is one of them."""
        found = None
        for message in messages:
            if not isinstance(message, RpcResponse):
                if message.size > MAX_OWN_MESSAGE:
                    await self._drop(raw, f"a request or notification of more than {MAX_OWN_MESSAGE} bytes")
                else:
                    on_message(message)
            elif found is None and request_id is not None and _answers(message, request_id):
                found = message
            elif request_id is not None or not self._resolve(message):
                await self._drop(raw, "it answers no request")
        return found

    async def _resume(
        self, parser: EventParser, request_id: Id, headers: Mapping[str, str], on_message: OnMessage
    ) -> RpcResponse:
        fruitless = 0
        while parser.last_id and fruitless < _FRUITLESS_RESUMES:
            before = parser.last_id
            pause = _RESUME_SECONDS if parser.retry_seconds is None else parser.retry_seconds
            await asyncio.sleep(min(max(pause, _LEAST_RESUME_SECONDS), _MAX_RESUME_SECONDS))
            async with self._client.send("GET", None, _from(parser, headers)) as answer:
                if is_doubtful(answer.status, headers) and await self._check() is not None:
                    raise SessionLost
                if not answer.is_success or answer.media_type != EVENT_STREAM:
                    break
                found = await self._follow(answer, parser, request_id, on_message)
            if found is not None:
                return found
            fruitless = 0 if parser.last_id != before else fruitless + 1
        raise UpstreamError("ended its answer half-way; the call may have been executed or not", is_sent=True)

    async def refusal_status(self, request_id: Id, method: str, headers: Mapping[str, str]) -> int | None:
        """Post a request that the server of a session must accept; return the status of its refusal, or None.

        A server that says that it has no such method knows the session: only then methods are looked up. After a
        status of success, only an error that speaks of the session is a refusal.

        Raises:
            UpstreamError: It cannot be reached.
        """
        async with self._client.send("POST", dump_request(request_id, method, {}), headers) as answer:
            if answer.is_success:
                if answer.media_type == EVENT_STREAM:
                    found = await self._follow(answer, EventParser(self._max_result()), request_id, _ignore)
                else:
                    found = await self._read_error(answer)
                return answer.status if found is not None and _speaks_of_session(found) else None
            if answer.status not in MAY_BE_LOST:
                return None
            found = await self._read_error(answer)
            code = None if found is None or found.error is None else found.error["code"]
            return None if code == METHOD_NOT_FOUND else answer.status

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """Tell the server that a session has ended, as far as it can be told; what it answers is of no interest."""
        with suppress(TimeoutError, UpstreamError):
            async with asyncio.timeout(_END_SECONDS), self._client.send("DELETE", None, headers):
                pass

    async def _check_session(self, answer: HttpAnswer, headers: Mapping[str, str]) -> None:
        """Find out, after a request was refused, whether the server is no longer the one that was initialized.

        MCP has 404 for a lost session. Many servers answer 400, 401, 403, 410 or 422 instead, and servers of another
        protocol version answer 400. All of these can have other reasons too, so the guard sends a ping, and asks for
        the lists that are offered:

            404, and all of these are refused with 404       the session is lost, and the request was not executed
            any, and all of these are refused                the session is lost, and what the server did is not known
            any, and one of these is answered                the request itself was refused

        Raises:
            SessionLost: The server is another one, or has lost the session.
        """
        if not is_doubtful(answer.status, headers):
            return
        refused_with = await self._check()
        if refused_with is not None:
            is_lost_by_mcp = answer.status == refused_with == _NOT_FOUND and SESSION_HEADER in headers
            raise SessionLost(is_executable=not is_lost_by_mcp)

    async def _read_refusal(
        self, answer: HttpAnswer, request_id: Id, headers: Mapping[str, str], on_message: OnMessage
    ) -> RpcResponse:
        """Return the JSON-RPC message that answers a request with an HTTP status of an error.

        A message with the request's own id is its answer, whatever the status. Only then the session is doubted, unless
        a method of the server gave the answer.

        Raises:
            StatusRefused: There is none.
            SessionLost: The session is lost.
        """
        found = await self._read_error(answer)
        if found is not None and not isinstance(found.id, int):
            found = None if found.error is None else replace(found, id=None)
        if found is not None and found.id == request_id:
            on_message(found)
            if found.error is None or found.error["code"] in _OF_A_METHOD:
                return found
        await self._check_session(answer, headers)
        if found is None or found.id not in {request_id, None}:
            raise StatusRefused(answer)
        if found.id is None:
            on_message(found)
        return found

    async def _read_error(self, answer: HttpAnswer) -> RpcResponse | None:
        """Return the JSON-RPC response that came with an HTTP status of an error, or None.

        Raises:
            UpstreamError: One of the guard's credentials is in it.
        """
        is_json = answer.media_type == MCP_JSON
        raw: bytes | bytearray = b""
        try:
            # Frameworks send errors with other types, too: those are short, and come soon or are none.
            async with asyncio.timeout(None if is_json else _OTHER_ERROR_SECONDS):
                raw = await answer.read(self._max_result() if is_json else _MAX_OTHER_ERROR, self._large.results)
            messages = await self._parse(raw)
        except TimeoutError:
            return None
        except UpstreamError:
            if await self._shows_secret(raw):
                raise
            return None
        return next((message for message in messages if isinstance(message, RpcResponse)), None)

    async def _parse(self, raw: bytes | bytearray) -> list[Message]:
        """Return the messages in a text, one or several in an array.

        Raises:
            UpstreamError: The text is no message, or one of the guard's credentials is in it.
        """
        try:
            messages = await self._large.parse_messages(
                raw, max_bytes=MAX_RESULT, hold=self._large.results.hold(), reader=FROM_SERVER
            )
        except (MessageTooLarge, NoRoom) as error:
            raise _Unreadable(f"a message that {error}") from None
        except MessageInvalid as error:
            raise _Unreadable(f"what is no message: {error}") from None
        if await self._shows_secret(raw):
            raise UpstreamError("answered with a credential of its own in it, so the answer is withheld", is_sent=True)
        return messages

    async def _drop(self, raw: bytes | bytearray, why: str) -> None:
        """Drop a message; none of its text is logged if one of the guard's credentials is in it."""
        self._dropped.note(b"" if await self._shows_secret(raw) else raw, self._messages, why)

    async def _shows_secret(self, raw: bytes | bytearray) -> bool:
        """Search a message in steps for the guard's credentials, in whatever way JSON writes them."""
        pace = Pace()
        for start in range(0, len(raw), _SLICE):
            if self._client.shows_secret(raw[max(0, start - SECRET_REACH) : start + _SLICE]):
                return True
            await pace.pause()
        return False


def is_doubtful(status: int, headers: Mapping[str, str]) -> bool:
    """Return True if a status to a message with these headers may mean that the server has lost its session."""
    return status in (_OF_A_SESSION if SESSION_HEADER in headers else DOUBTFUL)


def _speaks_of_session(answer: RpcResponse) -> bool:
    """Return True if an answer is an error whose text may mean that the server has lost its session.

    Gateways send HTTP 200 with `{"code": -32001, "message": "Session not found"}`, for example, and servers without
    session ids say that they are not initialized. A check decides whether that is so.
    """
    if answer.error is None or answer.error["code"] == METHOD_NOT_FOUND:
        return False
    return _OF_SESSIONS.search(answer.error["message"][:_MAX_SEARCHED]) is not None


def _ignore(_: Message) -> None:
    """Ignore a message that a server sends during a check."""


def _answers(message: RpcResponse, request_id: Id) -> bool:
    """Return True if a message answers the request that it came for.

    An error may lack the id, or have a text that the guard never sends, such as the Python SDK's "server-error".
    """
    return message.id == request_id or (not isinstance(message.id, int) and message.error is not None)


def _from(parser: EventParser, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, _RESUME_HEADER: parser.last_id} if parser.last_id else dict(headers)
