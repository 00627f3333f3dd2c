"""Writing to standard output and standard error without ever waiting for their reader.

Both are pipes to the container runtime. A reader that has stopped would otherwise stop the event loop, and then the
guard would see no kill.
"""

import asyncio
import os
import select
from collections import deque
from typing import Final

_ATOMIC: Final = select.PIPE_BUF
"""Bytes that a pipe which is ready surely takes without waiting (POSIX: write, pipe(7))."""
_RETRY_SECONDS: Final = 0.02


def write_ready(descriptor: int, data: bytes) -> int:
    """Write as much as the descriptor takes without waiting; return the number of bytes.

    The descriptor itself is not made non-blocking: the container's other processes may share it.

    Raises:
        OSError: It has no reader any longer.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    written = 0
    while written < len(data) and poll.poll(0):
        written += os.write(descriptor, data[written : written + _ATOMIC])
    return written


class LineOutput:
    """A descriptor for lines, with a bounded queue for those that its reader has not taken yet.

    Args:
        descriptor: Where the lines go.
        capacity: Bound of the queue in bytes.
    """

    def __init__(self, descriptor: int, capacity: int = 1024 * 1024) -> None:
        self._descriptor, self._capacity = descriptor, capacity
        self._queue: deque[bytes] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self.queued = 0
        """Bytes in the queue."""

    def has_room(self, size: int) -> bool:
        """Return True if a line of so many bytes can be written or queued now.

        Raises:
            OSError: The descriptor cannot be written to any longer.
        """
        if self._queue:
            self._flush()
        return self.queued + size <= self._capacity

    def write(self, line: bytes) -> None:
        """Write a line, or queue what of it is not taken immediately.

        Raises:
            OSError: The descriptor cannot be written to any longer.
        """
        if not self._queue:
            line = line[write_ready(self._descriptor, line) :]
        if line:
            self._queue.append(line)
            self.queued += len(line)
            self._try_again_soon()

    def _flush(self) -> None:
        while self._queue:
            line = self._queue[0]
            written = write_ready(self._descriptor, line)
            self.queued -= written
            if written < len(line):
                self._queue[0] = line[written:]
                return
            self._queue.popleft()

    def _try_again_soon(self) -> None:
        """Write the queue out later, where an event loop runs."""
        if self._retry is None:
            try:
                loop = asyncio.get_running_loop()
            except RuntimeError:
                return
            self._retry = loop.call_later(_RETRY_SECONDS, self._retry_now)

    def _retry_now(self) -> None:
        self._retry = None
        try:
            self._flush()
        except OSError:
            return  # the next record is refused with the reason
        if self._queue:
            self._try_again_soon()
