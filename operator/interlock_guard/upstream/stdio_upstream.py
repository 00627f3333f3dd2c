"""The guard as the MCP client of one stdio server.

Each process of the server is one connection, with an initialization of its own. A call that was under way when the
process ended gets an answer that says so, and is never sent to the next process.
"""

# mypy: disable-error-code="explicit-override"
# Python 3.11 has no `override`, and the guard's image has no typing_extensions.

import asyncio
import os
from collections.abc import Callable
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.initialize import (
    PROBE_SECONDS,
    FirstMessage,
    find_older_version,
    initialize_params,
    is_sessionless_error,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.upstream.pipes import Channel, ChannelClosed, PipePair
from interlock_guard.upstream.upstream import (
    Call,
    ServerInfo,
    Upstream,
    UpstreamEvents,
    unavailable,
)
from interlock_guard.wire.jsonrpc import (
    MAX_RESULT,
    Message,
    MessageInvalid,
    MessageTooLarge,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_notification,
    dump_request,
    dump_response,
    parse_messages,
)
from interlock_guard.wire.large_messages import MAX_OWN_MESSAGE, Hold, LargeMessages, NoRoom
from interlock_guard.wire.server_messages import FROM_SERVER
from interlock_guard.wire.streams import Line, Oversized, cut_short, named_ids
from interlock_kube.background import explain, log_failure

_PAUSE_SECONDS: Final = 0.01
"""Time between two processes of a server that lives long; the pause after a short life comes in addition."""


class StdioUpstream(Upstream):
    """One source's server on pipes, through all of its processes."""

    def __init__(
        self,
        source: str,
        pipes: PipePair,
        listener: UpstreamEvents,
        log: Callable[[str], None],
        large: LargeMessages | None = None,
    ) -> None:
        super().__init__(source, listener, log)
        self._large = large or LargeMessages()
        self._pipes = pipes
        self._pipes.make()
        self._channel: Channel | None = None
        self._initializing: asyncio.Task[None] | None = None
        self._began_at = 0.0  # the present connection, on the loop's clock
        self._lines = 0  # of the present connection
        self._first_message = FirstMessage()
        self._asked = ""  # the first message of the present connection that has no answer, until a version is agreed on

    async def run(self) -> None:
        """Serve process after process, until cancelled."""
        channel: Channel | None = None
        reader = self._pipes.open_reader()
        try:
            while True:
                await self._open.wait()
                writer = await self._pipes.open_writer(is_wanted=self._open.is_set)
                if writer is None:
                    continue
                # A reader tells of the end of any server since it was opened, also of one that had waited at the pipes
                # of an earlier guard. The new one comes before the old one goes, so the pipe is never without a reader.
                reader, ended = self._pipes.open_reader(), reader
                os.close(ended)
                channel = self._begin(reader, writer)
                await channel.drained.wait()
                await asyncio.sleep(_PAUSE_SECONDS)  # the loop lets go of the reader; a dying server is left alone
                await self._reconnect_pause.wait()
        finally:
            if channel is not None:
                channel.close()
            os.close(reader)

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification, if there is a server to hear it."""
        self._send(dump_notification(method, params))

    def respond(self, response: RpcResponse) -> None:
        """Answer a request of the server's; what answers an ended generation is dropped."""
        self._send(dump_response(response))
        if self._channel is not None and not self._channel.has_room():
            self._violate("it asks without reading the answers")

    def _send_request(self, call: Call, method: str, params: dict[str, Any]) -> None:
        self._send(dump_request(call.id, method, params))

    def _cancel(self, call: Call, why: str) -> None:
        self.notify("notifications/cancelled", {"requestId": call.id, "reason": why})

    def _disconnect(self, why: str) -> None:
        if self._channel is not None:
            self._channel.end(why)

    def _has_room(self) -> bool:
        return self._channel is not None and self._channel.has_room()

    def _begin(self, reader: int, writer: int) -> Channel:
        self.generation += 1
        self._began_at, self._asked, self._lines = self._loop.time(), "", 0
        self._calls.begin_generation()
        channel = self._channel = Channel(
            self._pipes,
            reader,
            writer,
            large=self._large,
            on_line=self._take_line,
            on_large_line=self._take_large_line,
            on_end=self._end,
        )
        self._log(f"server of {self.source}: generation {self.generation} begins")
        task = self._initializing = self._loop.create_task(self._initialize(channel), name=f"initialize {self.source}")
        task.add_done_callback(self._initialized)
        return channel

    async def _initialize(self, channel: Channel) -> None:
        """Find out which protocol version the server speaks, as the official SDK's client does.

        Five servers, and what is sent to each:

            sessionless     -> server/discover   <- result with supportedVersions                   ready
            session-based   -> server/discover   <- any error, or no answer within 10 s
                            -> initialize        <- result    -> notifications/initialized          ready
            session-based, and strict: it ends at server/discover, and its next process begins otherwise. If it starts
            slowly, initialize was sent before that end, and the probe still is the message that it ended at
                            -> initialize        <- result    -> notifications/initialized          ready
            session-based, and speaks one version only, which its refusal names
                            -> initialize        <- error     -> initialize with that version
            sessionless, and slow: its answer to server/discover comes after 10 s and is dropped
                            -> initialize        <- "unsupported version", naming sessionless ones
                            -> server/discover   <- result with supportedVersions                   ready

        A server that ends meanwhile cancels this task by `_end`.
        """
        info = None
        if self._first_message.choose(self.verified_version) == mcp.DISCOVER:
            info = await self._discover()
        if info is None:
            self._asked = self._asked or "initialize"
            capabilities = self._listener.client_capabilities(self)
            outcome = await self.start("initialize", initialize_params(capabilities)).future
            older = find_older_version(outcome) if isinstance(outcome, RpcResponse) else ""
            if older:
                outcome = await self.start("initialize", initialize_params(capabilities, older)).future
            if not isinstance(outcome, RpcResponse):
                channel.end("it did not answer initialize")
                return
            self._asked = "initialize"
            info = read_initialized(outcome)
            if info is not None:
                self.notify("notifications/initialized", {})
            elif is_sessionless_error(outcome):
                info = await self._discover()
        if info is None:
            channel.end("it did not agree on a protocol version")
            return
        if self._channel is channel:
            self.server_info, self._asked = info, ""
            self._first_message.note_agreement(info)
            self._log(f"server of {self.source}: speaks {info.version}")
            self._listener.handle_connected(self)

    async def _discover(self) -> ServerInfo | None:
        """Return what a server of a sessionless version says about itself; None from every other server."""
        self._asked = mcp.DISCOVER
        params = probe_params(self._listener.client_capabilities(self))
        call = self.start(mcp.DISCOVER, params, lasts=True)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                outcome = await call.future
        except TimeoutError:
            self._calls.take(call.id)  # an answer that still comes is dropped
            return None
        self._asked = ""
        return read_discovered(outcome) if isinstance(outcome, RpcResponse) else None

    def _initialized(self, task: asyncio.Task[None]) -> None:
        if log_failure(task, self._log):
            self._disconnect("an unexpected error of the guard")

    def _end(self, why: str) -> None:
        self.server_info = None
        self._channel = None
        if self._initializing is not None:
            self._initializing.cancel()
        if self._open.is_set():  # else the guard itself has closed it
            self._reconnect_pause.note_end(self._loop.time() - self._began_at)
            if self._asked:
                self._first_message.note_failure(self._asked)
        self._log(f"server of {self.source}: generation {self.generation} is over: {why}")
        self._calls.resolve_all(
            unavailable(self.source, "ended before it answered; the call may have been executed or not")
        )
        self._listener.handle_disconnected(self)

    def _send(self, message: bytes) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(message)
        except ChannelClosed:
            return  # the end has resolved what was pending, this request included

    def _take_line(self, line: Line | Oversized) -> None:
        try:
            self._handle_line(line)
        except Exception as error:  # noqa: BLE001 - a message that is lost would leave its call without an outcome
            self._log(f"server of {self.source}: unexpected error: {explain(error)}")
            self._violate("an unexpected error of the guard")

    def _handle_line(self, line: Line | Oversized) -> None:
        self._lines += 1
        if isinstance(line, Oversized):
            self._take_oversized(line)
            return
        if not line.strip():
            return
        try:
            messages = parse_messages(line, max_bytes=MAX_RESULT, reader=FROM_SERVER)
        except MessageInvalid as error:
            self._take_unreadable(line, str(error))
        else:
            for message in messages:
                self._handle_message(message, line)

    async def _take_large_line(self, line: Line, hold: Hold) -> None:
        """Handle a large line in steps; one that is beyond a bound becomes the refusal of its call."""
        self._lines += 1
        if len(line) > self.limits.result_bytes and cut_short(line).response_id() is not None:
            self._take_oversized(cut_short(line))
            return
        try:
            messages = await self._large.parse_messages(line, max_bytes=MAX_RESULT, hold=hold, reader=FROM_SERVER)
        except (MessageTooLarge, NoRoom) as error:
            self._take_oversized(cut_short(line, f"answered with a message that {error}"))
        except MessageInvalid as error:
            self._take_unreadable(line, str(error))
        else:
            for message in messages:
                self._handle_message(message, line)

    def _handle_message(self, message: Message, line: Line) -> None:
        size = len(line)
        match message:
            case RpcResponse() if size > self.limits.result_bytes:
                self._take_response(message.id, self._too_large(), line)
            case RpcResponse():
                self._take_response(message.id, message, line)
            case _ if size > MAX_OWN_MESSAGE:
                self._drop(line, f"a request or notification of more than {MAX_OWN_MESSAGE} bytes")
            case RpcRequest(method="ping"):
                self.respond(RpcResponse(message.id, {}, None))
            case RpcRequest():
                self._listener.handle_request(self, message)
            case RpcNotification(method="notifications/progress"):
                self._calls.report_progress(message)
            case RpcNotification():
                self._listener.handle_notification(self, message)

    def _take_response(self, response_id: Any, outcome: RpcResponse | Deny, line: Line | Oversized) -> None:
        if not self._calls.resolve(response_id, outcome) and not self._calls.was_asked(response_id):
            self._drop(line, "it answers no request")
        # else: the call was given up, and its late answer is dropped

    def _take_unreadable(self, line: Line, why: str) -> None:
        """Fail the call that a line answers which cannot be read, if that can be told; the others go on.

        A call that the line only names may still be answered by another line, for a while.
        """
        refused = unavailable(self.source, f"answered with what is no message: {why}")
        if not self._calls.resolve(cut_short(line).response_id(), refused):
            for call_id in named_ids(line):
                self._calls.hasten(call_id, refused)
        self._drop(line, why)

    def _take_oversized(self, line: Oversized) -> None:
        response_id = line.response_id()
        if response_id is None:
            self._drop(line, line.why or f"more than {MAX_RESULT} bytes")
        else:
            refused = unavailable(self.source, line.why) if line.why else self._too_large()
            self._take_response(response_id, refused, line)

    def _drop(self, line: Line | Oversized, why: str) -> None:
        """Drop a line that answers no call. The server is given up only when it cannot be spoken to at all."""
        self.dropped.note(line, self._lines, why)

    def _violate(self, why: str) -> None:
        if self._channel is not None:
            self._channel.end(why)
