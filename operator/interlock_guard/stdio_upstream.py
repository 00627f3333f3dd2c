"""The guard as the MCP client of one stdio server: a handshake per generation, calls with ids of its own.

Nothing pending survives a generation: a call that was under way when its server ended gets an answer that says so, and
is never sent to the next server.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any

from interlock_guard.calls import PendingCalls
from interlock_guard.decide import Deny
from interlock_guard.jsonrpc import (
    MAX_RESULT,
    MessageInvalid,
    Notification,
    Request,
    Response,
    dump_notification,
    dump_request,
    dump_response,
    parse_message,
)
from interlock_guard.lines import Oversized
from interlock_guard.mcp import GUARD_INFO, HANDSHAKE_VERSIONS, LATEST_VERSION
from interlock_guard.pipes import Channel, ChannelClosed, Ends, PipePair
from interlock_guard.upstream import MAX_IN_FLIGHT, Call, Hello, Listener, OnEvent, Outcome, unavailable


class StdioUpstream:
    """One source's server, through all of its generations: an `Upstream`."""

    def __init__(self, source: str, pipes: PipePair, listener: Listener, log: Callable[[str], None]) -> None:
        self.source = source
        self.generation = 0
        self.hello: Hello | None = None
        self._listener = listener
        self._pipes = pipes
        self._pipes.make()
        self._log = log
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
                channel = self._begin(Ends(self._pipes, reader, writer))
                await channel.drained.wait()
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
        if self._calls.in_flight >= MAX_IN_FLIGHT or not self._channel.has_room():
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

    def respond(self, response: Response) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""
        self._send(dump_response(response))
        if self._channel is not None and not self._channel.has_room():
            self._violate("it asks without reading the answers")

    def _cancel(self, call: Call, why: str) -> None:
        self.notify("notifications/cancelled", {"requestId": call.id, "reason": why})

    def _begin(self, ends: Ends) -> Channel:
        self.generation += 1
        self._calls.begin_generation()
        self._channel = Channel(ends, on_line=self._take_line, on_end=self._end)
        self._log(f"server of {self.source}: generation {self.generation} begins")
        capabilities = self._listener.client_capabilities(self)
        hello = {"protocolVersion": LATEST_VERSION, "capabilities": capabilities, "clientInfo": GUARD_INFO}
        self.start("initialize", hello).future.add_done_callback(self._finish_handshake)
        return self._channel

    def _finish_handshake(self, future: asyncio.Future[Outcome]) -> None:
        outcome = future.result()
        if isinstance(outcome, Deny) or self._channel is None:
            return
        result = outcome.result or {}
        if result.get("protocolVersion") not in HANDSHAKE_VERSIONS:
            self._channel.end("it did not agree on a protocol version")
            return
        self.notify("notifications/initialized", {})
        if self._channel is not None:
            capabilities = result.get("capabilities")
            self.hello = Hello(result["protocolVersion"], capabilities if isinstance(capabilities, dict) else {})
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
            case Response():
                self._take_response(message.id, message)
            case Request(method="ping"):
                self.respond(Response(message.id, {}, None))
            case Request():
                self._listener.take_request(self, message)
            case Notification(method="notifications/progress"):
                self._calls.report_progress(message)
            case Notification():
                self._listener.take_notification(self, message)

    def _take_response(self, response_id: Any, outcome: Response | Deny) -> None:
        if not self._calls.resolve(response_id, outcome) and not self._calls.was_asked(response_id):
            self._violate("it answered a request that was never made")
        # else: it answers what was given up, which is nobody's any more

    def _take_oversized(self, line: Oversized) -> None:
        response_id = line.response_id()
        if response_id is None:
            self._violate(f"it sent a line of more than {MAX_RESULT} bytes")
        else:
            self._take_response(response_id, unavailable(self.source, f"answered with more than {MAX_RESULT} bytes"))

    def _violate(self, why: str) -> None:
        if self._channel is not None:
            self._channel.end(why)
