"""The two named pipes between the guard and a stdio server, and one connection over them.

Each end is opened one way only, so that the end of the server's process is seen. Messages that were on their way in
either direction are thrown away then, so that the next process neither answers nor executes the last one's requests.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from interlock_guard.wire.jsonrpc import MAX_RESULT
from interlock_guard.wire.streams import LineBuffer, Oversized

_READ_SIZE: Final = 256 * 1024
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
        """Take away what is in `in` and no server has read, so that none ever will."""
        with suppress(OSError):
            reader = os.open(self._in, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                while os.read(reader, _READ_SIZE):
                    pass
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
    """One generation: lines out, lines in, and an end that is final."""

    def __init__(
        self,
        pipes: PipePair,
        reader: int,
        writer: int,
        *,
        on_line: Callable[[bytes | Oversized], None],
        on_end: Callable[[str], None],
    ) -> None:
        """Begin with the guard's ends of the pair of pipes, both open."""
        self._loop = asyncio.get_running_loop()
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
            while os.read(self._reader, _READ_SIZE):
                pass
            self._loop.remove_reader(self._reader)
            self.drained.set()

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
            self._on_line(line)
            if self._ended:
                return


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
