"""The guard as the MCP client of one server over HTTP, in the era that the server speaks.

A generation is one session of the handshake era, or one answer to `server/discover` of the stateless one. Nothing
pending survives it: a call that was under way gets an answer that says so, and is never sent again.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.bundle import BundleLimits
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.http_client import HttpClient, UpstreamError
from interlock_guard.upstream.http_protocol import (
    GREETING_ID,
    HttpExchange,
    Initialized,
    SessionLost,
    StatusRefused,
    discover,
    initialize_http,
    session_headers,
    sessionless_headers,
)
from interlock_guard.upstream.upstream import Call, OnEvent, PendingCalls, ServerInfo, UpstreamEvents, unavailable
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
from interlock_guard.wire.streams import EventParser

_MAX_DELIVERIES: Final = 256
_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 30.0
_LISTEN_PAUSE_SECONDS: Final = 1.0
_ABSENT: Final = "is not there at the moment; nothing was sent to it"


class HttpUpstream:
    """One source's server, through all of its generations: an `Upstream`."""

    def __init__(self, source: str, link: HttpClient, listener: UpstreamEvents, log: Callable[[str], None]) -> None:
        self.source = source
        self.limits = BundleLimits()
        self.generation = 0
        self.hello: ServerInfo | None = None
        self._link, self._exchange = link, HttpExchange(link, lambda: self.limits.result_bytes, self._is_known)
        self._listener, self._log = listener, log
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._wanted = asyncio.Event()  # somebody asked while there was no server
        self._over = asyncio.Event()  # this generation, or the attempt at one
        self._session = ""
        self._is_doubted = False
        self._trouble = _ABSENT
        self._calls = PendingCalls(source, self._cancel)
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by call
        self._others: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether the server has been greeted and has answered."""
        return self.hello is not None

    @property
    def in_flight(self) -> int:
        """Calls under way now, without those that are meant to last."""
        return self._calls.in_flight

    def open(self) -> None:
        """Let generations begin: the agent was seen and is alive."""
        self._open.set()

    def cut(self, denial: Deny) -> None:
        """End everything at once and begin nothing more until `open`; what is under way is answered with the denial."""
        self._open.clear()
        self._calls.resolve_all(denial)
        self._end("the guard cut it off")
        self._link.cut()

    async def run(self) -> None:
        """Serve generation after generation, until cancelled."""
        failures = 0
        try:
            while True:
                await self._open.wait()
                self._over.clear()
                if await self._begin():
                    failures = 0
                    await self._over.wait()
                elif self._open.is_set():
                    await self._pause(failures)
                    failures += 1
        finally:
            self._end("the guard is ending")
            await self._link.close()

    def refusal(self) -> Deny | None:
        """Return why no call can be started now, or None."""
        if self.hello is None:
            self._wanted.set()
            return unavailable(self.source, self._trouble)
        if self._calls.in_flight >= self.limits.in_flight:
            return unavailable(self.source, "has too many calls under way; nothing was sent to it")
        return None

    def start(
        self,
        method: str,
        params: dict[str, Any],
        on_event: OnEvent | None = None,
        *,
        wants_progress: bool = False,
        lasts: bool = False,
    ) -> Call:
        """Send a request; see `Upstream.start`. What comes on the answer's own stream belongs to the call."""
        call = self._calls.add(on_event, lasts=lasts)
        if wants_progress:
            params = {**params, "_meta": {**params.get("_meta", {}), "progressToken": call.id}}
        self._tasks[call.id] = self._loop.create_task(self._ask(call, method, params), name=f"call {self.source}")
        return call

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up: its answer, should one come, is dropped, and the server is told."""
        self._calls.abandon(call, why)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification; the stateless era has none from client to server."""
        if self.hello is not None and not self.hello.is_stateless:
            self._deliver(dump_notification(method, params))

    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""
        if self.hello is not None and not self.hello.is_stateless:
            self._deliver(dump_response(response))

    async def _begin(self) -> bool:
        """Greet the server; return whether a generation has begun."""
        greeting = self._loop.create_task(self._greet(), name=f"greeting of {self.source}")
        self._keep(greeting)
        await asyncio.wait({greeting})
        return self.hello is not None

    async def _greet(self) -> None:
        self._calls.begin_generation()
        try:
            found = await initialize_http(self._exchange, self._listener.client_capabilities(self))
        except UpstreamError as failed:
            self._note(failed)
            # A connection that was kept may lead to what has not been the server, or is it no more, for ever.
            self._link.cut()
        else:
            self._accept(found)

    def _accept(self, found: Initialized) -> None:
        self.generation += 1
        self.hello, self._session, self._trouble = found.hello, found.session, _ABSENT
        self._log(f"server of {self.source}: generation {self.generation} begins, MCP {found.hello.version}")
        if not found.hello.is_stateless:
            self._spawn(self._listen())
        self._listener.take_begin(self)

    def _end(self, why: str) -> None:
        had_begun, self.hello = self.hello is not None, None
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
            self._listener.take_end(self)

    async def _ask(self, call: Call, method: str, params: dict[str, Any]) -> None:
        """Send one request and give the call its outcome."""
        hello = self.hello
        if hello is None:
            self._calls.resolve(call.id, unavailable(self.source, _ABSENT))
            return
        if hello.is_stateless:
            headers = sessionless_headers(method, params, hello.version)
        else:
            headers = session_headers(self._session, hello.version)
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
        """Say whether the server is still the one that was greeted, or nothing can be said."""
        hello = self.hello
        if hello is None or self._is_doubted:
            return True
        self._is_doubted = True
        try:
            if hello.is_stateless:
                return await discover(self._exchange, self._listener.client_capabilities(self)) is not None
            ping = dump_request(GREETING_ID, "ping", {})
            return await self._exchange.takes(ping, session_headers(self._session, hello.version))
        except UpstreamError:
            return True
        finally:
            self._is_doubted = False

    def _lose(self, generation: int) -> None:
        if self.hello is not None and generation == self.generation:
            self._end("the session is lost")

    def _cancel(self, call: Call, why: str) -> None:
        """Tell the server that a call was given up: by a notification, or in the stateless era by hanging up."""
        task = self._tasks.pop(call.id, None)
        if task is not None:
            task.cancel()
            self.notify("notifications/cancelled", {"requestId": call.id, "reason": why})

    def _deliver(self, body: bytes) -> None:
        if self.hello is None:
            return
        if len(self._others) >= _MAX_DELIVERIES:
            self._end("it does not take what it is owed")
            return
        self._spawn(self._post(body, session_headers(self._session, self.hello.version)))

    async def _post(self, body: bytes, headers: dict[str, str]) -> None:
        generation = self.generation
        try:
            await self._exchange.deliver(body, headers)
        except SessionLost:
            self._lose(generation)
        except UpstreamError as failed:
            self._log(f"server of {self.source}: a notification was not taken: {failed.detail}")

    async def _listen(self) -> None:
        """Hear what the server says of its own accord, as long as the generation lasts and it offers that."""
        generation, hello = self.generation, self.hello
        parser = EventParser(MAX_RESULT)
        while hello is not None:
            try:
                await self._exchange.listen(
                    session_headers(self._session, hello.version), lambda message: self._hear(None, message), parser
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
                self._calls.resolve(call.id, RpcResponse(call.id, message.result, message.error))
        elif isinstance(message, RpcRequest) and message.method == "ping":
            self.respond(RpcResponse(message.id, {}, None))
        elif isinstance(message, RpcNotification) and message.method == "notifications/progress":
            self._calls.report_progress(message)
        elif call is not None and call.on_event is not None:
            call.on_event(message)
        elif isinstance(message, RpcRequest):
            self._listener.take_request(self, message)
        else:
            self._listener.take_notification(self, message)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._keep(self._loop.create_task(work, name=f"server of {self.source}"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def _pause(self, failures: int) -> None:
        """Wait longer after each failure, but no longer than a moment while somebody asks for the server."""
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
