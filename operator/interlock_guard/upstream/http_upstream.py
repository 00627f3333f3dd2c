"""The guard as the MCP client of one server over HTTP, in the protocol version that the server speaks.

A connection is one session of a session-based version, or one answer to `server/discover` of a sessionless one. No
pending call survives it: a call that was under way gets an answer that says so, and is never sent again.
"""

# mypy: disable-error-code="explicit-override"
# Python 3.11 has no `override`, and the guard's image has no typing_extensions.

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.http_client import HttpClient, UpstreamError
from interlock_guard.upstream.http_protocol import (
    INITIALIZE_ID,
    HttpExchange,
    Initialized,
    SessionLost,
    StatusRefused,
    discover,
    initialize_http,
    session_headers,
    sessionless_headers,
)
from interlock_guard.upstream.upstream import ABSENT, Call, Upstream, UpstreamEvents, unavailable
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
_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0
_LISTEN_PAUSE_SECONDS: Final = 1.0


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
            client, lambda: self.limits.result_bytes, self._is_known, large or LargeMessages()
        )
        self._wanted = asyncio.Event()  # a call came while there was no server
        self._over = asyncio.Event()  # this connection, or the attempt at one
        self._session = ""
        self._is_doubted = False
        self._trouble = ABSENT
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by call
        self._others: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve session after session, until cancelled."""
        failures = 0
        try:
            while True:
                await self._open.wait()
                self._client.open()
                self._over.clear()
                if await self._begin():
                    failures = 0
                    await self._over.wait()
                elif self._open.is_set():
                    await self._pause(failures)
                    failures += 1
        finally:
            self._end("the guard is ending")
            await self._client.close()

    def refusal(self) -> Deny | None:
        """Return why no call can be started now, or None; a call without a server ends the pause before the next."""
        if self.server_info is None:
            self._wanted.set()
        return super().refusal()

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
        try:
            found = await initialize_http(self._exchange, self._listener.client_capabilities(self))
        except UpstreamError as failed:
            self._note(failed)
            # A connection that was kept may lead to a process that never was the server, or no longer is.
            self._client.reset()
        else:
            self._accept(found)

    def _accept(self, found: Initialized) -> None:
        self.generation += 1
        self.server_info, self._session, self._trouble = found.server_info, found.session, ABSENT
        self._log(f"server of {self.source}: generation {self.generation} begins, MCP {found.server_info.version}")
        if not found.server_info.is_sessionless:
            self._spawn(self._listen())
        self._listener.handle_connected(self)

    def _end(self, why: str) -> None:
        had_begun, self.server_info = self.server_info is not None, None
        self._session = ""
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
        except UpstreamError as failed:
            self._log(f"server of {self.source}: {failed.detail}")
            self._calls.resolve(call.id, unavailable(self.source, str(failed)))
        except SessionLost:
            self._calls.resolve(call.id, unavailable(self.source, "has lost the session; the call was not executed"))
            self._lose(generation)
        else:
            if response.error is not None and response.error["code"] == mcp.UNSUPPORTED_VERSION:
                self._lose(generation)  # it speaks other versions than it did
        finally:
            self._tasks.pop(call.id, None)
            self._calls.resolve(call.id, unavailable(self.source, "gave no answer; the call may have been executed"))

    async def _is_known(self) -> bool:
        """Return True if the server is still the one that was initialized, or if that cannot be found out."""
        info = self.server_info
        if info is None or self._is_doubted:
            return True
        self._is_doubted = True
        try:
            if info.is_sessionless:
                return await discover(self._exchange, self._listener.client_capabilities(self)) is not None
            ping = dump_request(INITIALIZE_ID, "ping", {})
            return await self._exchange.takes(ping, session_headers(self._session, info.version))
        except UpstreamError:
            return True
        finally:
            self._is_doubted = False

    def _lose(self, generation: int) -> None:
        if self.server_info is not None and generation == self.generation:
            self._end("the session is lost")

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
        """Handle the server's own messages while the connection lasts, where the server offers such a stream."""
        generation, info = self.generation, self.server_info
        parser = EventParser(MAX_RESULT)
        while info is not None:
            try:
                await self._exchange.listen(
                    session_headers(self._session, info.version), lambda message: self._hear(None, message), parser
                )
            except SessionLost:
                self._lose(generation)
                return
            except StatusRefused:
                return  # it offers no such stream
            except UpstreamError as failed:
                self._log(f"server of {self.source}: the stream of its own messages: {failed.detail}")
            await asyncio.sleep(min(parser.retry_seconds or _LISTEN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS))

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

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work, name=f"server of {self.source}")
        self._others.add(task)
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._others.discard(task)
        if log_failure(task, self._log):
            self._end("an unexpected error of the guard")

    async def _pause(self, failures: int) -> None:
        """Wait longer after each failure, but no longer than a moment once a call asks for the server."""
        self._wanted.clear()
        await asyncio.sleep(_PAUSE_SECONDS)
        longest = min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * 2 ** min(failures, 10))
        with suppress(TimeoutError):
            async with asyncio.timeout(longest * random.uniform(0.5, 1.0)):  # noqa: S311 - spreads guards
                await self._wanted.wait()

    def _note(self, failed: UpstreamError) -> None:
        if self._trouble != str(failed):
            self._log(f"server of {self.source}: {failed.detail}")
        self._trouble = str(failed)
