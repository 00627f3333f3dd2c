"""The guard as the MCP client of one server over HTTP, in the protocol version that the server speaks.

A connection is one session of a session-based version, or one answer to `server/discover` of a sessionless one. No
pending call survives it: a call that was under way gets an answer that says so, and is never sent again.
"""

# mypy: disable-error-code="explicit-override"
# Python 3.11 has no `override`, and the guard's image has no typing_extensions.

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from interlock_contract import mcp
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.http_client import HttpClient, UpstreamError
from interlock_guard.upstream.http_initialize import INITIALIZE_ID, Initialized, discover, initialize_http
from interlock_guard.upstream.http_protocol import (
    MAY_BE_LOST,
    HttpExchange,
    SessionLost,
    StatusRefused,
    Unanswered,
    is_doubtful,
    session_headers,
    sessionless_headers,
)
from interlock_guard.upstream.initialize import FirstMessage
from interlock_guard.upstream.reconnect_pause import ReconnectPause
from interlock_guard.upstream.upstream import (
    ABSENT,
    CALL_SECONDS,
    Call,
    ServerInfo,
    Upstream,
    UpstreamEvents,
    unavailable,
)
from interlock_guard.wire.jsonrpc import (
    MAX_RESULT,
    Message,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_notification,
    dump_request,
    dump_response,
)
from interlock_guard.wire.large_messages import LargeMessages
from interlock_guard.wire.streams import EventParser
from interlock_kube.background import log_failure

_MAX_DELIVERIES: Final = 256
_CHECK_SECONDS: Final = 10.0
"""How long a server may take to prove that it still knows the session; what is not disproved holds."""
_NOT_FOUND: Final = 404
_NO_STATUS: Final = 0
_MOST_REFUSED: Final = 3
"""Calls in a row that a server may refuse in a session that it knows, before another session is begun."""
_SESSIONS_TO_END: Final = 4
_STREAM_SECONDS: Final = 5.0
"""How long an answer may take on the stream of the server's own messages, from a server that never answered there."""
_LEAST_RETRY_SECONDS, _MAX_RETRY_SECONDS = 1.0, 30.0
"""How soon and how late a server's stream is asked for again, whatever the server wishes."""
_NOT_NOW: Final = frozenset({408, 409, 425, 429, *range(500, 600)}) - {501, 505}
"""Statuses that do not say that a server offers no stream, even if it has never opened one.

Gateways have their own above 504, such as 520 to 530."""


T = TypeVar("T")


class HttpUpstream(Upstream):
    """One source's server over HTTP, through all of its sessions."""

    def __init__(
        self,
        source: str,
        client: HttpClient,
        listener: UpstreamEvents,
        log: Callable[[str], None],
        large: LargeMessages | None = None,
    ) -> None:
        super().__init__(source, listener, log)
        self._client = client
        self._exchange = HttpExchange(
            client,
            lambda: self.limits.result_bytes,
            self._check_server,
            large or LargeMessages(),
            self.dropped,
            self._resolve_from_stream,
        )
        self._over = asyncio.Event()  # this connection, or the attempt at one
        self._session = ""
        self._first_message = FirstMessage()
        self._refused = 0  # calls in a row
        self._check: asyncio.Task[int | None] | None = None  # finds out whether the server knows the session
        self._to_end: deque[dict[str, str]] = deque(maxlen=_SESSIONS_TO_END)  # headers of sessions that are over
        self._may_end_sessions = False
        self._trouble = ABSENT
        self._has_stream = False  # of the server's own messages
        self._answers_on_stream = False  # the server does so, at least now and then
        self._unanswered: dict[int, asyncio.Event] = {}  # by call; set by an answer on that stream
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by call
        self._others: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Serve session after session, until cancelled."""
        try:
            while True:
                await self._open.wait()
                self._may_end_sessions = True
                self._client.open()
                self._over.clear()
                self._spawn(self._end_sessions())
                began_at = self._loop.time()
                lasted = 0.0
                if await self._begin():
                    await self._over.wait()
                    lasted = self._loop.time() - began_at
                if self._open.is_set():  # else the guard itself has closed it
                    self._reconnect_pause.note_end(lasted)
                    await self._reconnect_pause.wait()
        finally:
            self._end("the guard is ending")
            if self._may_end_sessions:
                await self._end_sessions()
            await self._client.close()

    def close(self, denial: Deny) -> None:
        """End the connection immediately; the server is told that its session is over after the next `open`."""
        self._may_end_sessions = False
        super().close(denial)

    def retire(self, denial: Deny) -> None:
        """End the connection immediately and for good; the server is told that its session is over."""
        super().retire(denial)
        self._may_end_sessions = True

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification; sessionless versions have none from client to server."""
        if self.server_info is not None and not self.server_info.is_sessionless:
            self._deliver(dump_notification(method, params))

    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""
        if self.server_info is not None and not self.server_info.is_sessionless:
            self._deliver(dump_response(response))

    def _send_request(self, call: Call, method: str, params: dict[str, Any]) -> None:
        task = self._loop.create_task(self._ask(call, method, params), name=f"call of {self.source}")
        task.add_done_callback(partial(log_failure, log=self._log))
        self._tasks[call.id] = task

    def _disconnect(self, why: str) -> None:
        self._end(why)
        self._client.reset()

    def _absence(self) -> str:
        return self._trouble

    async def _begin(self) -> bool:
        """Initialize the server; return whether a connection has begun."""
        initializing = self._keep(self._initialize())
        await asyncio.wait({initializing})
        return self.server_info is not None

    async def _initialize(self) -> None:
        self._calls.begin_generation()
        self._client.cookies.clear()  # `_end_sessions` was started before, and has sent them with the last one's end
        first = self._first_message.choose(self.verified_version)
        capabilities = self._listener.client_capabilities(self)
        try:
            found = await initialize_http(self._exchange, capabilities, is_probed=first == mcp.DISCOVER)
        except UpstreamError as failed:
            self._note(failed)
            if isinstance(failed, StatusRefused):
                self._reconnect_pause.note_wish(failed.retry_seconds)
            if failed.is_sent and first != mcp.DISCOVER:
                self._first_message.note_failure(first)
            # A connection that was kept may lead to a process that never was the server, or no longer is.
            self._client.reset()
        else:
            self._accept(found)

    def _accept(self, found: Initialized) -> None:
        self.generation += 1
        self.server_info, self._session, self._trouble = found.server_info, found.session, ABSENT
        self._first_message.note_agreement(found.server_info)
        self._refused = 0
        self._log(f"server of {self.source}: generation {self.generation} begins, MCP {found.server_info.version}")
        if found.warning:
            self._log(f"server of {self.source}: it did not accept notifications/initialized: {found.warning}")
        if not found.server_info.is_sessionless:
            self._spawn(self._listen())
        self._listener.handle_connected(self)

    def _end(self, why: str, *, is_lost: bool = False) -> None:
        if self.server_info is not None and self._session and not is_lost:
            self._to_end.append(session_headers(self._session, self.server_info.version))
        had_begun, self.server_info = self.server_info is not None, None
        self._session, self._has_stream, self._answers_on_stream = "", False, False
        for task in [*self._tasks.values(), *self._others]:
            task.cancel()
        self._tasks.clear()
        self._calls.resolve_all(
            unavailable(self.source, "ended the session before it answered; the call may have been executed or not")
        )
        self._over.set()
        if had_begun:
            self._log(f"server of {self.source}: generation {self.generation} is over: {why}")
            self._listener.handle_disconnected(self)

    async def _ask(self, call: Call, method: str, params: dict[str, Any]) -> None:
        """Send one request and give the call its outcome."""
        info = self.server_info
        if info is None:
            self._calls.resolve(call.id, unavailable(self.source, ABSENT))
            return
        if info.is_sessionless:
            headers = sessionless_headers(method, params, info.version)
        else:
            headers = session_headers(self._session, info.version)
        body = dump_request(call.id, method, params)
        generation = self.generation
        try:
            response, _ = await self._exchange.request(
                call.id, body, headers, lambda message: self._hear(call, message)
            )
        except Unanswered as failed:
            if not await self._is_answered_on_stream(call):
                self._log(f"server of {self.source}: {failed.detail}")
                self._calls.resolve(call.id, unavailable(self.source, str(failed)))
        except UpstreamError as failed:
            self._log(f"server of {self.source}: {failed.detail}")
            self._calls.resolve(call.id, unavailable(self.source, str(failed)))
            await self._count_refusal(failed, generation)
        except SessionLost as lost:
            what = "may have been executed or not" if lost.is_executable else "was not executed"
            self._calls.resolve(call.id, unavailable(self.source, f"has lost the session; the call {what}"))
            self._lose(generation)
        else:
            self._refused = 0
            if response.error is not None and response.error["code"] == mcp.UNSUPPORTED_VERSION:
                self._lose(generation)  # it speaks other versions than it did
        finally:
            self._tasks.pop(call.id, None)
            self._calls.resolve(call.id, unavailable(self.source, "gave no answer; the call may have been executed"))

    async def _is_answered_on_stream(self, call: Call) -> bool:
        """Wait for an answer on the stream of the server's own messages; return whether it came.

        Early versions of the Rust SDK answer there, and only there. Of a server that has never done so, such an answer
        is waited for a moment.
        """
        if self._calls.get(call.id) is None:
            return True
        if not self._has_stream:
            return False
        answered = self._unanswered[call.id] = asyncio.Event()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CALL_SECONDS if self._answers_on_stream else _STREAM_SECONDS):
                    await answered.wait()
        finally:
            self._unanswered.pop(call.id, None)
        return answered.is_set()

    def _resolve_from_stream(self, answer: RpcResponse) -> bool:
        """Give a call the answer that came on the stream of the server's own messages, if it is one's."""
        call = self._calls.get(answer.id)
        if call is None or call.id not in self._tasks:
            return False
        self._answers_on_stream = True
        self._calls.resolve(call.id, self._too_large() if answer.size > self.limits.result_bytes else answer)
        if call.id in self._unanswered:
            self._unanswered[call.id].set()
        return True

    async def _count_refusal(self, failed: UpstreamError, generation: int) -> None:
        """Begin another session if calls keep getting a status that a lost one can have.

        Three times 404 is enough, though pings are answered: a gateway may answer them itself. The other statuses need
        a check that fails, and no other call that would be lost.
        """
        if not isinstance(failed, StatusRefused) or failed.status not in MAY_BE_LOST or not self._session:
            return
        if generation != self.generation:
            return
        self._refused += 1
        if self._refused < _MOST_REFUSED:
            return
        if failed.status == _NOT_FOUND or (not self.in_flight and await self._check_server() is not None):
            self._lose(generation)

    async def _check_server(self) -> int | None:
        """Return with which status the server refuses what the one that was initialized accepts.

        None says that the server is still that one, or that this cannot be found out.
        """
        if self.server_info is None or (self._check is not None and self._check is asyncio.current_task()):
            return None
        if self._check is None or self._check.done():
            # One check for all that doubt at the same time.
            self._check = self._keep(self._find_refusal(self.server_info))
        return await asyncio.shield(self._check)

    async def _find_refusal(self, info: ServerInfo) -> int | None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                if info.is_sessionless:
                    found = await discover(self._exchange, self._listener.client_capabilities(self))
                    return _NO_STATUS if found is None else None
                headers, status = session_headers(self._session, info.version), None
                # Not every server has ping, and each has its own way to say so. A list that it offers, it has.
                for method in ("ping", *(one for one in mcp.LISTS if one.partition("/")[0] in info.capabilities)):
                    status = await self._exchange.refusal_status(INITIALIZE_ID, method, headers)
                    if status is None:
                        break
                return status
        except (UpstreamError, TimeoutError):
            return None

    async def _end_sessions(self) -> None:
        """Tell the server which sessions are over."""
        while self._to_end:
            await self._exchange.end_session(self._to_end.popleft())

    def _lose(self, generation: int) -> None:
        if self.server_info is not None and generation == self.generation:
            self._end("the session is lost", is_lost=True)

    def _cancel(self, call: Call, why: str) -> None:
        """Tell the server that a call was given up: by a notification, or in a sessionless version by hanging up."""
        task = self._tasks.pop(call.id, None)
        if task is not None:
            task.cancel()
            self.notify("notifications/cancelled", {"requestId": call.id, "reason": why})

    def _deliver(self, body: bytes) -> None:
        if self.server_info is None:
            return
        if len(self._others) >= _MAX_DELIVERIES:
            self._end("it does not accept answers")
            return
        self._spawn(self._post(body, session_headers(self._session, self.server_info.version)))

    async def _post(self, body: bytes, headers: dict[str, str]) -> None:
        generation = self.generation
        try:
            await self._exchange.deliver(body, headers)
        except SessionLost:
            self._lose(generation)
        except UpstreamError as failed:
            self._log(f"server of {self.source}: a notification was not taken: {failed.detail}")

    async def _listen(self) -> None:
        """Handle the server's own messages while the connection lasts, where the server offers such a stream.

        If the first request is refused, no stream is offered, except after a status of the moment. Once a stream has
        been open, it is asked for again, whatever ends or refuses it. The pause grows while streams end soon, unless
        the server itself names one.
        """
        generation, info = self.generation, self.server_info
        headers = {} if info is None else session_headers(self._session, info.version)
        pause, parser, trouble, has_opened = ReconnectPause(), EventParser(MAX_RESULT), "", False

        def note_opened() -> None:
            nonlocal has_opened
            has_opened = self._has_stream = True

        while info is not None:
            began_at, failed = self._loop.time(), ""
            try:
                await self._exchange.listen(headers, lambda message: self._hear(None, message), parser, note_opened)
            except StatusRefused as refused:
                if not has_opened and refused.status not in _NOT_NOW:
                    return  # it offers no such stream
                if is_doubtful(refused.status, headers) and await self._check_server() is not None:
                    self._lose(generation)
                    return
                failed = refused.detail
                pause.note_wish(refused.retry_seconds)
            except UpstreamError as broken:
                failed = broken.detail
            self._has_stream = False
            if failed not in ("", trouble):
                trouble = failed
                self._log(f"server of {self.source}: the stream of its own messages: {failed}; asked for again")
            pause.note_end(self._loop.time() - began_at)
            if parser.retry_seconds is not None and not failed:
                await asyncio.sleep(min(max(parser.retry_seconds, _LEAST_RETRY_SECONDS), _MAX_RETRY_SECONDS))
            else:
                await pause.wait()

    def _hear(self, call: Call | None, message: Message) -> None:
        if isinstance(message, RpcResponse):
            if call is not None:
                self._calls.resolve(call.id, replace(message, id=call.id))
        elif isinstance(message, RpcRequest) and message.method == "ping":
            self.respond(RpcResponse(message.id, {}, None))
        elif isinstance(message, RpcNotification) and message.method == "notifications/progress":
            self._calls.report_progress(message)
        elif call is not None and call.on_event is not None:
            call.on_event(message)
        elif isinstance(message, RpcRequest):
            self._listener.handle_request(self, message)
        else:
            self._listener.handle_notification(self, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        _ = self._keep(work)

    def _keep(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._loop.create_task(work, name=f"server of {self.source}")
        self._others.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[Any]) -> None:
        self._others.discard(task)
        if log_failure(task, self._log):
            self._end("an unexpected error of the guard")

    def _note(self, failed: UpstreamError) -> None:
        if self._trouble != str(failed):
            self._log(f"server of {self.source}: {failed.detail}")
        self._trouble = str(failed)
