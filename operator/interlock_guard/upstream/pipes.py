"""The two named pipes between the guard and a stdio server, and one connection over them.

Each end is opened one way only, so that the end of the server's process is seen. Messages that were on their way in
either direction are thrown away then, so that the next process neither answers nor executes the last one's requests.
"""

import asyncio
import fcntl
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from interlock_guard.log import log
from interlock_guard.wire.jsonrpc import MAX_RESULT
from interlock_guard.wire.large_messages import SMALL, Hold, LargeMessages, NoRoom, Pace, let_others_run
from interlock_guard.wire.streams import Line, LineBuffer, Oversized
from interlock_kube.background import log_failure

MESSAGE_SECONDS: Final = 30.0
"""How long a server may take from the beginning of a large message to its end."""
_READ_SIZE: Final = 256 * 1024
_DRAINS: Final = 16
"""Reads of one turn of the event loop from a server whose connection has ended, and which may go on writing."""
_MAX_OUTBOX: Final = 8 * 1024 * 1024
_OPEN_INTERVALS: Final = (0.01,) * 20 + (0.05,) * 20
_OPEN_INTERVAL: Final = 0.2
_RELEASE_AFTER: Final = 2.0


class ChannelClosed(Exception):  # noqa: N818 - says the state of a channel
    """The line was not sent: the server has ended."""


class PipePair:
    """The directory `<source>/` with the pipes `in` (to the server) and `out` (from it), made by the guard."""

    def __init__(self, directory: Path, *, is_made: bool = False) -> None:
        self._is_made = is_made
        self.directory = directory
        self._in = directory / "in"
        self._out = directory / "out"

    def make(self) -> None:
        """Make both pipes, without any content of an earlier guard's time.

        They are in a directory of their own: in the volume's sticky root, `fs.protected_fifos` would refuse the server.
        """
        if self._is_made:  # by another process: the server may hold them open already
            return
        self.directory.mkdir(mode=0o750, parents=True, exist_ok=True)
        self.directory.chmod(0o750)
        self._release_waiting()
        for path in (self._in, self._out):
            path.unlink(missing_ok=True)
            os.mkfifo(path, 0o660)
            path.chmod(0o660)  # whatever the umask was

    def open_reader(self) -> int:
        """Open `out` for reading; succeeds before any server is there."""
        return os.open(self._out, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    async def open_writer(self, *, is_wanted: Callable[[], bool]) -> int | None:
        """Wait until a server has opened `in`, and open it for writing; None once it is no longer wanted."""
        intervals = iter(_OPEN_INTERVALS)
        while is_wanted():
            with suppress(OSError):  # ENXIO: no reader yet
                return os.open(self._in, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            await asyncio.sleep(next(intervals, _OPEN_INTERVAL))
        return None

    def discard_unread(self) -> None:
        """Take away what is in `in` and no server has read, so that none ever will.

        A server can write into its own `in` without end. What the guard had written is gone after as many bytes as the
        pipe holds.
        """
        with suppress(OSError):
            reader = os.open(self._in, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                left = fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ)
                while left > 0 and (taken := os.read(reader, left)):
                    left -= len(taken)
            finally:
                os.close(reader)

    def _release_waiting(self) -> None:
        """Let go a server that waits for the other end of pipes which are about to be unlinked.

        It was started between an earlier guard's death and now. Without this it would wait for ever; so it sees the end
        of its input, ends, and is started again on the new pipes.
        """
        with suppress(OSError):
            held = [os.open(self._in, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)]
            held.append(self.open_reader())
            asyncio.get_running_loop().call_later(_RELEASE_AFTER, _close_all, held)


class Channel:
    """One generation: lines out, lines in, and an end that is final.

    Lines come out in their order. While lines are handled, which may take several turns of the event loop, or a large
    one has no room in memory, nothing more is read, so the server has to wait.
    """

    def __init__(
        self,
        pipes: PipePair,
        reader: int,
        writer: int,
        *,
        large: LargeMessages,
        on_line: Callable[[Line | Oversized], None],
        on_large_line: Callable[[Line, Hold], Coroutine[Any, Any, None]],
        on_end: Callable[[str], None],
    ) -> None:
        """Begin with the guard's ends of the pair of pipes, both open.

        Args:
            pipes: The pair.
            reader: The guard's end of `out`.
            writer: The guard's end of `in`.
            large: The large messages of this guard.
            on_line: Called with each small line, and with each one that is not kept whole.
            on_large_line: Handles a large line, with its part of the budget.
            on_end: Called once with the reason of the end.
        """
        self._loop = asyncio.get_running_loop()
        self._budget, self._on_large_line = large.results, on_large_line
        self._received: deque[tuple[Line | Oversized, Hold | None]] = deque()
        self._hold: Hold | None = None  # of the incomplete line, once it is large
        self._deadline: asyncio.TimerHandle | None = None  # for the end of that line
        self._pausing: asyncio.Task[None] | None = None  # while nothing is read
        self._pipes, self._reader, self._writer = pipes, reader, writer
        self._on_line, self._on_end = on_line, on_end
        self._lines = LineBuffer(MAX_RESULT)
        self._outbox: deque[memoryview] = deque()
        self._outbox_size = 0
        self._is_waiting = False  # for the pipe to take more
        self._ended = False
        self.drained = asyncio.Event()
        """Set once the server has closed its side too, so that nothing of this process can come any longer."""
        self._loop.add_reader(self._reader, self._read)

    def has_room(self) -> bool:
        """Say whether one more line may be queued; a server that does not read fills the queue."""
        return self._outbox_size < _MAX_OUTBOX

    def send(self, message: bytes) -> None:
        """Send one line, now as far as the pipe takes it.

        Raises:
            ChannelClosed: The generation is over.
        """
        if self._ended:
            raise ChannelClosed
        self._outbox.append(memoryview(message + b"\n"))
        self._outbox_size += len(message) + 1
        if len(self._outbox) == 1:
            self._write()
            if self._ended:
                raise ChannelClosed
            if self._outbox:
                self._is_waiting = True
                self._loop.add_writer(self._writer, self._write)

    def end(self, why: str) -> None:
        """End the generation: nothing more goes out, what was not read is taken back, what comes in is thrown away."""
        if self._ended:
            return
        self._ended = True
        self._received.clear()
        self._take_hold()
        if self._pausing is not None:
            if self._pausing is not asyncio.current_task():
                self._pausing.cancel()
            self._loop.add_reader(self._reader, self._read)  # the end of the server's process is waited for
        self._stop_waiting()
        self._pipes.discard_unread()
        os.close(self._writer)
        self._on_end(why)
        self._drain()

    def close(self) -> None:
        """Let go of everything without waiting for the server's end."""
        self.end("the guard is ending")
        self._loop.remove_reader(self._reader)
        self.drained.set()

    def _drain(self) -> None:
        """Throw away what has come; without a process on the other side, no event tells of its end."""
        with suppress(BlockingIOError):
            for _ in range(_DRAINS):
                if not os.read(self._reader, _READ_SIZE):
                    self._loop.remove_reader(self._reader)
                    self.drained.set()
                    return

    def _write(self) -> None:
        while self._outbox:
            line = self._outbox[0]
            try:
                written = os.write(self._writer, line)
            except BlockingIOError:
                return
            except OSError:
                self.end("it no longer reads")
                return
            self._outbox_size -= written
            if written < len(line):
                self._outbox[0] = line[written:]
            else:
                self._outbox.popleft()
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._loop.remove_writer(self._writer)

    def _read(self) -> None:
        try:
            chunk = os.read(self._reader, _READ_SIZE)
        except BlockingIOError:
            return
        if not chunk:
            self.end("it ended")
            self._drain()
            return
        if self._ended:
            return
        for line in self._lines.feed(chunk):
            self._received.append((line, self._take_hold()))
        self._handle_received()

    def _handle_received(self) -> None:
        """Handle the lines that are whole, up to a large one; then make room for the one that is not.

        A chunk may hold thousands of lines, each for hundreds of clients. They are handled in steps.
        """
        pace = Pace()
        while self._received and not self._ended:
            line, hold = self._received.popleft()
            if not isinstance(line, Oversized) and len(line) > SMALL:
                self._pause(self._on_large_line(line, hold or self._budget.hold()))
                return
            self._on_line(line)
            if pace.is_over and not self._ended:
                self._pause(let_others_run())
                return
        size = self._lines.size
        if self._ended or size <= SMALL:
            return
        if self._hold is None:
            self._hold = self._budget.hold()
            self._deadline = self._loop.call_later(MESSAGE_SECONDS, self._end_unfinished)
        if not self._hold.try_resize(size):
            self._pause(self._wait_for_room(self._hold, size))

    async def _wait_for_room(self, hold: Hold, size: int) -> None:
        try:
            await hold.resize(size)
        except NoRoom as error:
            self._lines.give_up(f"answered with a message that {error}")
            self._take_hold()
            hold.release()

    def _take_hold(self) -> Hold | None:
        """Return the hold of the incomplete line, which is complete now or no longer kept."""
        hold, self._hold = self._hold, None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        return hold

    def _end_unfinished(self) -> None:
        """End the generation: a large line has been incomplete for too long, and what it takes, others lack."""
        self.end(f"it did not finish a message within {MESSAGE_SECONDS:.0f} s")

    def _pause(self, work: Coroutine[Any, Any, None]) -> None:
        """Read nothing until some work is done."""
        self._loop.remove_reader(self._reader)
        self._pausing = self._loop.create_task(work, name="a large line")
        self._pausing.add_done_callback(self._resume)

    def _resume(self, task: asyncio.Task[None]) -> None:
        self._pausing = None
        if log_failure(task, log):
            self.end("an unexpected error of the guard")
        if self._ended:
            return
        self._handle_received()
        if self._pausing is None and not self._ended:
            self._loop.add_reader(self._reader, self._read)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
