"""The guard as the MCP client of one stdio server: a handshake per generation, calls with ids of its own.

Nothing pending survives a generation: a call that was under way when its server ended gets an answer that says so, and
is never sent to the next server.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.bundle import BundleLimits
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.initialize import (
    PROBE_SECONDS,
    initialize_params,
    is_sessionless_error,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.upstream.pipes import Channel, ChannelClosed, ChannelFiles, PipePair
from interlock_guard.upstream.upstream import (
    Call,
    OnEvent,
    Outcome,
    PendingCalls,
    ServerInfo,
    UpstreamEvents,
    unavailable,
)
from interlock_guard.wire.jsonrpc import (
    MAX_RESULT,
    MessageInvalid,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_notification,
    dump_request,
    dump_response,
    parse_message,
)
from interlock_guard.wire.streams import Oversized

_PAUSE_SECONDS: Final = 0.01
"""Time between two generations."""


class StdioUpstream:
    """One source's server, through all of its generations: an `Upstream`."""

    def __init__(self, source: str, pipes: PipePair, listener: UpstreamEvents, log: Callable[[str], None]) -> None:
        self.source = source
        self.limits = BundleLimits()
        self.generation = 0
        self.hello: ServerInfo | None = None
        self._listener = listener
        self._pipes = pipes
        self._pipes.make()
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._channel: Channel | None = None
        self._calls = PendingCalls(source, self._cancel)

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
        if self._channel is not None:
            self._channel.end("the guard cut it off")

    async def run(self) -> None:
        """Serve generation after generation, until cancelled."""
        channel: Channel | None = None
        reader = self._pipes.open_reader()
        try:
            while True:
                await self._open.wait()
                writer = await self._pipes.open_writer(is_wanted=self._open.is_set)
                if writer is None:
                    continue
                channel = self._begin(ChannelFiles(self._pipes, reader, writer))
                await channel.drained.wait()
                await asyncio.sleep(_PAUSE_SECONDS)  # the loop lets go of the old reader; a dying server is left alone
                # The new reader comes before the old one goes, so that the pipe is never without one.
                reader, ended = self._pipes.open_reader(), reader
                os.close(ended)
        finally:
            if channel is not None:
                channel.close()
            os.close(reader)

    def refusal(self) -> Deny | None:
        """Return why no call can be started now, or None."""
        if self.hello is None or self._channel is None:
            return unavailable(self.source, "is not there at the moment; nothing was sent to it")
        if self._calls.in_flight >= self.limits.in_flight or not self._channel.has_room():
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
        """Send a request; see `Upstream.start`. A pipe does not say what a message belongs to, progress excepted."""
        call = self._calls.add(on_event, lasts=lasts)
        if wants_progress:
            params = {**params, "_meta": {**params.get("_meta", {}), "progressToken": call.id}}
        self._send(dump_request(call.id, method, params))
        return call

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up: its answer, should one come, is dropped, and the server is told."""
        self._calls.abandon(call, why)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification, if there is a server to hear it."""
        self._send(dump_notification(method, params))

    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""
        self._send(dump_response(response))
        if self._channel is not None and not self._channel.has_room():
            self._violate("it asks without reading the answers")

    def _cancel(self, call: Call, why: str) -> None:
        self.notify("notifications/cancelled", {"requestId": call.id, "reason": why})

    def _begin(self, ends: ChannelFiles) -> Channel:
        self.generation += 1
        self._calls.begin_generation()
        channel = self._channel = Channel(ends, on_line=self._take_line, on_end=self._end)
        self._log(f"server of {self.source}: generation {self.generation} begins")
        self._probe(channel)
        return channel  # which may be over already: a server that ends lets go of its pipes one after the other

    def _probe(self, channel: Channel, *, is_last: bool = False) -> None:
        """Ask the server which era it is of; one that does not answer in time is greeted the older way."""
        call = self.start(mcp.DISCOVER, probe_params(self._listener.client_capabilities(self)), lasts=True)
        timer = self._loop.call_later(PROBE_SECONDS, self._miss_probe, channel, call)

        def take(future: asyncio.Future[Outcome]) -> None:
            timer.cancel()
            outcome = future.result()
            hello = read_discovered(outcome) if isinstance(outcome, RpcResponse) else None
            if self._channel is not channel:
                return
            if hello is not None:
                self._greeted(hello)
            elif is_last:
                channel.end("it did not agree on a protocol version")
            else:
                self._initialize(channel)

        call.future.add_done_callback(take)

    def _miss_probe(self, channel: Channel, call: Call) -> None:
        if self._channel is channel and self._calls.take(call.id) is not None:
            call.resolve(unavailable(self.source, "did not answer the probe"))

    def _initialize(self, channel: Channel) -> None:
        params = initialize_params(self._listener.client_capabilities(self))

        def take(future: asyncio.Future[Outcome]) -> None:
            outcome = future.result()
            if not isinstance(outcome, RpcResponse) or self._channel is not channel:
                return
            hello = read_initialized(outcome)
            if hello is not None:
                self.notify("notifications/initialized", {})
                self._greeted(hello)
            elif is_sessionless_error(outcome):
                self._probe(channel, is_last=True)
            else:
                channel.end("it did not agree on a protocol version")

        self.start("initialize", params).future.add_done_callback(take)

    def _greeted(self, hello: ServerInfo) -> None:
        if self._channel is not None:
            self.hello = hello
            self._log(f"server of {self.source}: speaks {hello.version}")
            self._listener.take_begin(self)

    def _end(self, why: str) -> None:
        self.hello = None
        self._channel = None
        self._log(f"server of {self.source}: generation {self.generation} is over: {why}")
        self._calls.resolve_all(
            unavailable(self.source, "ended before it answered; the call may have been executed or not")
        )
        self._listener.take_end(self)

    def _send(self, message: bytes) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(message)
        except ChannelClosed:
            return  # the end has resolved what was pending, this request included

    def _take_line(self, line: bytes | Oversized) -> None:
        if isinstance(line, Oversized):
            self._take_oversized(line)
            return
        if not line.strip():
            return
        try:
            message = parse_message(line, max_bytes=MAX_RESULT)
        except MessageInvalid as error:
            self._violate(f"it sent a line that is no message: {error}")
            return
        match message:
            case RpcResponse() if len(line) > self.limits.result_bytes:
                self._take_response(message.id, self._too_large())
            case RpcResponse():
                self._take_response(message.id, message)
            case RpcRequest(method="ping"):
                self.respond(RpcResponse(message.id, {}, None))
            case RpcRequest():
                self._listener.take_request(self, message)
            case RpcNotification(method="notifications/progress"):
                self._calls.report_progress(message)
            case RpcNotification():
                self._listener.take_notification(self, message)

    def _take_response(self, response_id: Any, outcome: RpcResponse | Deny) -> None:
        if not self._calls.resolve(response_id, outcome) and not self._calls.was_asked(response_id):
            self._violate("it answered a request that was never made")
        # else: it answers what was given up, which is nobody's any more

    def _take_oversized(self, line: Oversized) -> None:
        response_id = line.response_id()
        if response_id is None:
            self._violate(f"it sent a line of more than {MAX_RESULT} bytes")
        else:
            self._take_response(response_id, self._too_large())

    def _too_large(self) -> Deny:
        return unavailable(self.source, f"answered with more than {self.limits.result_bytes} bytes")

    def _violate(self, why: str) -> None:
        if self._channel is not None:
            self._channel.end(why)
