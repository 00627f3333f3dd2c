"""One forwarded request: waited for, its progress and its answer passed back."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from interlock_guard.decide import Deny, check_cut
from interlock_guard.jsonrpc import Id, Notification, Request, dump_notification
from interlock_guard.mcp import progress_params
from interlock_guard.replies import Reply, answer, deny
from interlock_guard.state import LiveState
from interlock_guard.upstream import Call, Outcome, Upstream

EVENT_STREAM: Final = "text/event-stream"

_MAX_QUEUED: Final = 64
_NO_HEADERS: Final[Mapping[str, str]] = {}
_JSON_HEADERS: Final = {"Content-Type": "application/json"}
_STREAM_HEADERS: Final = {"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}


def to_response(reply: Reply, headers: Mapping[str, str] = _NO_HEADERS) -> web.Response:
    """Return a reply as an HTTP response."""
    return web.Response(status=reply.status, body=reply.body, headers={**_JSON_HEADERS, **headers})


class ProgressQueue:
    """Progress on its way to one client; what a slow client does not take in time is dropped."""

    def __init__(self, token: Id) -> None:
        self._token = token
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()

    def put(self, event: Notification | Request) -> None:
        """Take in a server's progress notification."""
        if isinstance(event, Notification) and self._events.qsize() < _MAX_QUEUED:
            message = dump_notification("notifications/progress", progress_params(event.params, self._token))
            self._events.put_nowait(_event(message))

    def end(self, _: object = None) -> None:
        """Say that there will be no more."""
        self._events.put_nowait(None)

    async def get(self) -> bytes | None:
        """Return the next event, None after the last."""
        return await self._events.get()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request under way, and who waits for it."""

    http: web.Request
    source: str
    request: Request
    upstream: Upstream
    call: Call


class Relay:
    """Passes answers back."""

    def __init__(self, live: LiveState) -> None:
        self._live = live

    async def wait(self, waiting: Waiting, progress: ProgressQueue | None) -> web.StreamResponse:
        """Return the answer: in one piece, or at the end of a stream if there was progress before it."""
        try:
            stream = None if progress is None else await self._stream_progress(waiting, progress)
            reply = self._reply(waiting, await waiting.call.future)
            if stream is None:
                return to_response(reply)
            if reply.is_answer:
                await stream.write(_event(reply.body))
                await stream.write_eof()
            elif waiting.http.transport is not None:
                # Its status is sent already: an end without an answer is all that can still be said.
                waiting.http.transport.abort()
        except (asyncio.CancelledError, ConnectionError):
            # Nobody is left to hear the answer, and there is no resumption: better that the server stops.
            waiting.upstream.abandon(waiting.call, "the client hung up")
            raise
        else:
            return stream

    async def _stream_progress(self, waiting: Waiting, progress: ProgressQueue) -> web.StreamResponse | None:
        stream: web.StreamResponse | None = None
        waiting.call.future.add_done_callback(progress.end)
        while (event := await progress.get()) is not None:
            if check_cut(self._live.bundle, self._live.state) is not None:
                continue  # it came before a kill and is passed on after it
            if stream is None:
                stream = web.StreamResponse(headers=_STREAM_HEADERS)
                await stream.prepare(waiting.http)
            await stream.write(event)
        return stream

    def _reply(self, waiting: Waiting, outcome: Outcome) -> Reply:
        # The answer may have come before a kill and be passed on after it: look again.
        cut = check_cut(self._live.bundle, self._live.state)
        if cut is not None:
            return deny(waiting.request, cut)
        if isinstance(outcome, Deny):
            return deny(waiting.request, outcome)
        return answer(waiting.request, outcome, self._live.bundle, waiting.source)


def _event(message: bytes) -> bytes:
    return b"event: message\ndata: " + message + b"\n\n"
