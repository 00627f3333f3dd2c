"""The guard as the MCP client of one stdio server: a handshake per generation, calls with ids of its own.

Nothing pending survives a generation: a call that was under way when its server ended gets an answer that says so, and
is never sent to the next server.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from interlock_guard.decide import Deny, Reason
from interlock_guard.jsonrpc import (
    MAX_RESULT,
    METHOD_NOT_FOUND,
    MessageInvalid,
    Notification,
    Request,
    Response,
    dump_error,
    dump_notification,
    dump_request,
    dump_result,
    parse_message,
)
from interlock_guard.lines import Oversized
from interlock_guard.mcp import GUARD_INFO, HANDSHAKE_VERSIONS, LATEST_VERSION
from interlock_guard.pipes import Channel, ChannelClosed, Ends, PipePair

MAX_IN_FLIGHT: Final = 64
"""Calls under way in one server at once."""
CALL_SECONDS: Final = 600.0
"""How long a server may take for one call."""
_SWEEP_SECONDS: Final = 5.0

Outcome = Response | Deny
Progress = Callable[[dict[str, Any]], None]


@dataclass(slots=True, eq=False)  # a call is itself and no other
class Call:
    """One request under way; its future gets the server's answer, or a `Deny` that says why none came."""

    id: int
    future: asyncio.Future[Outcome]
    on_progress: Progress | None
    deadline: float


class Upstream:
    """One source's server, through all of its generations."""

    def __init__(self, source: str, pipes: PipePair, log: Callable[[str], None]) -> None:
        self.source = source
        self.generation = 0
        self.is_ready = False
        self._pipes = pipes
        self._pipes.make()
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._open = asyncio.Event()
        self._channel: Channel | None = None
        self._pending: dict[int, Call] = {}
        self._first_id = self._next_id = 1
        self._sweeping = False

    @property
    def in_flight(self) -> int:
        """Calls under way now."""
        return len(self._pending)

    def open(self) -> None:
        """Let generations begin: the agent was seen and is alive."""
        self._open.set()

    def cut(self, denial: Deny) -> None:
        """End everything at once and begin nothing more until `open`; what is under way is answered with the denial."""
        self._open.clear()
        self._resolve_all(denial)
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
        if not self.is_ready or self._channel is None:
            return self._unavailable("is not there at the moment; nothing was sent to it")
        if len(self._pending) >= MAX_IN_FLIGHT or not self._channel.has_room():
            return self._unavailable("has too many calls under way; nothing was sent to it")
        return None

    def start(self, method: str, params: dict[str, Any], on_progress: Progress | None = None) -> Call:
        """Send a request; only directly after `refusal` returned None. The answer is the call's future."""
        call = Call(self._next_id, self._loop.create_future(), on_progress, self._loop.time() + CALL_SECONDS)
        self._next_id += 1
        self._pending[call.id] = call
        if on_progress is not None:
            params = {**params, "_meta": {"progressToken": call.id}}
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)
        self._send(dump_request(call.id, method, params))
        return call

    def abandon(self, call: Call, why: str) -> None:
        """Give a call up: its answer, should one come, is dropped, and the server is told."""
        if self._pending.pop(call.id, None) is not None:
            self._send(dump_notification("notifications/cancelled", {"requestId": call.id, "reason": why}))

    def _begin(self, ends: Ends) -> Channel:
        self.generation += 1
        self._first_id = self._next_id
        self._channel = Channel(ends, on_line=self._take_line, on_end=self._end)
        self._log(f"server of {self.source}: generation {self.generation} begins")
        hello = {"protocolVersion": LATEST_VERSION, "capabilities": {}, "clientInfo": GUARD_INFO}
        self.start("initialize", hello).future.add_done_callback(self._finish_handshake)
        return self._channel

    def _finish_handshake(self, future: asyncio.Future[Outcome]) -> None:
        outcome = future.result()
        if isinstance(outcome, Deny) or self._channel is None:
            return
        version = None if outcome.result is None else outcome.result.get("protocolVersion")
        if version not in HANDSHAKE_VERSIONS:
            self._channel.end("it did not agree on a protocol version")
            return
        self._send(dump_notification("notifications/initialized", {}))
        self.is_ready = self._channel is not None

    def _end(self, why: str) -> None:
        self.is_ready = False
        self._channel = None
        self._log(f"server of {self.source}: generation {self.generation} is over: {why}")
        self._resolve_all(self._unavailable("ended before it answered; the call may have been executed or not"))

    def _resolve_all(self, outcome: Outcome) -> None:
        pending, self._pending = self._pending, {}
        for call in pending.values():
            _resolve(call, outcome)

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
            case Request():
                self._answer(message)
            case Notification():
                self._take_notification(message)

    def _take_response(self, response_id: Any, outcome: Outcome) -> None:
        call = self._pending.pop(response_id, None) if isinstance(response_id, int) else None
        if call is not None:
            _resolve(call, outcome)
        elif not (isinstance(response_id, int) and self._first_id <= response_id < self._next_id):
            self._violate("it answered a request that was never made")
        # else: it answers what was given up, which is nobody's any more

    def _take_oversized(self, line: Oversized) -> None:
        response_id = line.response_id()
        if response_id is None:
            self._violate(f"it sent a line of more than {MAX_RESULT} bytes")
        else:
            self._take_response(response_id, self._unavailable(f"answered with more than {MAX_RESULT} bytes"))

    def _answer(self, request: Request) -> None:
        """Answer what the server asks of its client: nothing but ping is offered."""
        if request.method == "ping":
            self._send(dump_result(request.id, {}))
        else:
            self._send(dump_error(request.id, METHOD_NOT_FOUND, "The guard lets no server ask its agent."))
        if self._channel is not None and not self._channel.has_room():
            self._violate("it asks without reading the answers")

    def _take_notification(self, notification: Notification) -> None:
        if notification.method != "notifications/progress":
            return
        token = notification.params.get("progressToken")
        call = self._pending.get(token) if isinstance(token, int) else None
        if call is not None and call.on_progress is not None:
            call.on_progress(notification.params)

    def _violate(self, why: str) -> None:
        if self._channel is not None:
            self._channel.end(why)

    def _sweep(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._pending.values() if call.deadline < now]:
            self.abandon(call, "it took too long")
            _resolve(call, self._unavailable(f"did not answer within {CALL_SECONDS:.0f} s"))
        self._sweeping = bool(self._pending)
        if self._sweeping:
            self._loop.call_later(_SWEEP_SECONDS, self._sweep)

    def _unavailable(self, what: str) -> Deny:
        return Deny(Reason.SERVER_UNAVAILABLE, "", f"The server of {self.source!r} {what}.")


def _resolve(call: Call, outcome: Outcome) -> None:
    if not call.future.done():
        call.future.set_result(outcome)
