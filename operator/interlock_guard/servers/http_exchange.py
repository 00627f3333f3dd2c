"""Messages to and from a server over HTTP: one POST each, whose answer is JSON or a stream of events.

A request is posted once. Where its stream ends before the answer, the stream is asked for again, never the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from interlock_guard.servers.http_link import Answer, HttpLink, StreamBroken
from interlock_guard.servers.http_session import LinkFailed
from interlock_guard.wire.eventstream import EventParser
from interlock_guard.wire.http_names import EVENT_STREAM, MCP_JSON, SESSION_HEADER
from interlock_guard.wire.jsonrpc import (
    MAX_RESULT,
    Id,
    Message,
    MessageInvalid,
    Response,
    parse_message,
)
from interlock_guard.wire.strictjson import dump_json

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
    """The server does not know the session any more, or is another; it executed nothing of what it answered so."""


class StatusRefused(LinkFailed):
    """The server answered with an HTTP status and nothing that says more."""

    def __init__(self, status: int) -> None:
        what = "does not accept the guard's credentials" if status in _REFUSED else "answered with an error"
        super().__init__(f"{what} (HTTP {status})", is_sent=True)
        self.status = status


class HttpExchange:
    """Speaks with one server."""

    def __init__(self, link: HttpLink, max_result: Callable[[], int], is_known: Callable[[], Awaitable[bool]]) -> None:
        """Begin.

        Args:
            link: The way to the server.
            max_result: Bound in bytes of one message, asked for at each.
            is_known: Says whether the server is still the one that was greeted, as far as can be found out.
        """
        self._link = link
        self._max_result = max_result
        self._is_known = is_known

    async def request(
        self, request_id: Id, body: bytes, headers: Mapping[str, str], on_message: OnMessage
    ) -> tuple[Response, str]:
        """Post a request; return its answer, and the session id in the answer's header, empty without one.

        Args:
            request_id: The request's id, which the answer must have.
            body: The request.
            headers: Those of MCP.
            on_message: Told what the server says, the answer included, as soon as it is there.

        Raises:
            LinkFailed: No answer came.
            SessionLost: The request was refused, since its session is lost.
        """
        parser = EventParser(self._max_result())
        async with self._link.send("POST", body, headers) as answer:
            await self._check_session(answer, headers)
            session = answer.header(SESSION_HEADER)
            if not answer.is_success:
                found: Response | None = await self._read_error(answer, request_id)
            elif answer.media_type == MCP_JSON:
                found = _own(self._parse(await answer.read(self._max_result())), request_id)
            elif answer.media_type == EVENT_STREAM:
                found = await self._follow(answer, parser, request_id, on_message)
            else:
                raise LinkFailed("answered with neither JSON nor a stream of events", is_sent=True)
            if found is not None:
                on_message(found)
                await answer.drain()
                return found, session
        found = await self._resume(parser, request_id, headers, on_message)
        on_message(found)
        return found, session

    async def deliver(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Post a message that wants no answer.

        Raises:
            LinkFailed: It was not accepted.
            SessionLost: Its session is lost.
        """
        async with self._link.send("POST", body, headers) as answer:
            await self._check_session(answer, headers)
            if not answer.is_success:
                raise StatusRefused(answer.status)

    async def listen(self, headers: Mapping[str, str], on_message: OnMessage, parser: EventParser) -> None:
        """Hear what the server says of its own accord, until the stream ends.

        Raises:
            LinkFailed: There is no such stream, or it broke off.
            SessionLost: Its session is lost.
        """
        async with self._link.send("GET", None, _from(parser, headers)) as answer:
            await self._check_session(answer, headers)
            if not answer.is_success or answer.media_type != EVENT_STREAM:
                raise StatusRefused(answer.status)
            if await self._follow(answer, parser, None, on_message) is not None:
                raise LinkFailed("answered a request that was never made", is_sent=True)

    async def _follow(
        self, answer: Answer, parser: EventParser, request_id: Id | None, on_message: OnMessage
    ) -> Response | None:
        """Read a stream up to the answer; None if it ends before, or breaks off where it can be taken up again."""
        try:
            async for event in answer.events(parser):
                if event.name != _MESSAGE or not event.data:
                    continue
                message = self._parse(event.data)
                if isinstance(message, Response):
                    return message if request_id is None else _own(message, request_id)
                on_message(message)
        except StreamBroken:
            if not parser.last_id:
                raise
        return None

    async def _resume(
        self, parser: EventParser, request_id: Id, headers: Mapping[str, str], on_message: OnMessage
    ) -> Response:
        fruitless = 0
        while parser.last_id and fruitless < _FRUITLESS_RESUMES:
            before = parser.last_id
            pause = _RESUME_SECONDS if parser.retry_seconds is None else parser.retry_seconds
            await asyncio.sleep(min(pause, _MAX_RESUME_SECONDS))
            async with self._link.send("GET", None, _from(parser, headers)) as answer:
                await self._check_session(answer, headers)
                if not answer.is_success or answer.media_type != EVENT_STREAM:
                    break
                found = await self._follow(answer, parser, request_id, on_message)
            if found is not None:
                return found
            fruitless = 0 if parser.last_id != before else fruitless + 1
        raise LinkFailed("ended its answer half-way; the call may have been executed or not", is_sent=True)

    async def takes(self, body: bytes, headers: Mapping[str, str]) -> bool:
        """Post a question that the server of a session must be able to answer; return whether it takes it.

        Raises:
            LinkFailed: It cannot be reached.
        """
        async with self._link.send("POST", body, headers) as answer:
            return answer.status not in _DOUBTFUL

    async def _check_session(self, answer: Answer, headers: Mapping[str, str]) -> None:
        """Find out whether the server is no more the one that was greeted.

        MCP has 404 for a session that is lost; many servers answer 400 instead, and so do those of the other era. Both
        can have other reasons too, so the server is asked.

        Raises:
            SessionLost: It is another one.
        """
        if answer.status == _NOT_FOUND and SESSION_HEADER in headers:
            raise SessionLost
        if answer.status in _DOUBTFUL and not await self._is_known():
            raise SessionLost

    async def _read_error(self, answer: Answer, request_id: Id) -> Response:
        """Return the JSON-RPC error that came with an HTTP status."""
        raw = await answer.read_error()
        try:
            message = self._parse(raw)
        except LinkFailed:
            if raw and self._link.shows_secret(raw):
                raise
            raise StatusRefused(answer.status) from None
        if isinstance(message, Response) and message.error is not None and message.id in {request_id, None}:
            return message
        raise StatusRefused(answer.status)

    def _parse(self, raw: bytes) -> Message:
        """Return the one message in a text.

        Raises:
            LinkFailed: It is none, or one of our own credentials stands in it.
        """
        try:
            message = parse_message(raw, max_bytes=MAX_RESULT)
        except MessageInvalid as error:
            raise LinkFailed(f"answered with what is no message: {error}", is_sent=True) from None
        if self._shows_secret(raw, message):
            raise LinkFailed("answered with a credential of its own in it, so the answer is withheld", is_sent=True)
        return message

    def _shows_secret(self, raw: bytes, message: Message) -> bool:
        if self._link.shows_secret(raw):
            return True
        if b"\\" not in raw:
            return False
        # The same text can be written with escapes: look at it as it would be passed on.
        parts = (message.result, message.error) if isinstance(message, Response) else (message.params,)
        return self._link.shows_secret(dump_json(parts))


def _own(message: Message, request_id: Id) -> Response:
    if not isinstance(message, Response) or message.id not in {request_id, None}:
        raise LinkFailed("answered something else than it was asked", is_sent=True)
    if message.id is None and message.error is None:
        raise LinkFailed("answered something else than it was asked", is_sent=True)
    return message


def _from(parser: EventParser, headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, _RESUME_HEADER: parser.last_id} if parser.last_id else dict(headers)
