"""The worker process: computations over what outsiders wrote run here, apart from the operator's event loop.

A difference between two texts, or the access table of a policy, may cost far more than its size suggests. Such a
computation runs in a child process with a deadline and a bound of its memory. When it passes one of them, the process
is killed, and the turn of that one object fails. The next computation starts another process. Namespaces have the
process in turn. So a namespace waits for one computation of each other namespace at most, however many those have.

The program of the child is `computations`. A process without work for a minute ends.
"""

import asyncio
import contextlib
import hashlib
import math
import os
import sys
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from interlock.runtime import computations
from interlock.runtime.computations import DEFECT, LENGTH_BYTES, READY
from interlock_kube.reconcile_loop import TooCostly

Compute = Callable[[str, str, bytes], Awaitable[bytes]]
"""Runs a computation: `WorkerProcess.run`."""

DEADLINE_SECONDS: Final = 10.0
"""Most seconds of one computation."""
START_SECONDS: Final = 60.0
"""Most seconds until a new process has imported what it needs; about one on a machine that has nothing else to do."""
IDLE_SECONDS: Final = 60.0
MEMORY_BYTES: Final = 256 * 1024 * 1024
"""Most memory of the process. The operator's container has 512 MiB for both."""
MAX_REQUEST: Final = 16 * 1024 * 1024
MAX_RESPONSE: Final = 2 * 1024 * 1024
FAILURE_SECONDS: Final = 600.0
"""Seconds for which a failure is kept: what was too costly on a busy machine may not be so later."""
_KEPT: Final = 128
_KEPT_BYTES: Final = 32 * 1024
KEPT_VARIABLES: Final = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")
"""Variables of the environment that the process has: none of those that lead to the API server."""


class WorkerDefect(Exception):  # noqa: N818 - says what failed
    """A computation raised an exception that no code expects."""


class WorkerProcess:
    """Runs computations in a child process, one at a time.

    The results of the last computations are kept, and so are the failures, so that an object whose computation is too
    costly costs one deadline and not one for each reconcile.

    Args:
        deadline: Seconds that a computation may take.
        memory: Bytes that the process may have.
        idle: Seconds without work after which the process ends.
    """

    def __init__(
        self, *, deadline: float = DEADLINE_SECONDS, memory: int = MEMORY_BYTES, idle: float = IDLE_SECONDS
    ) -> None:
        self._deadline, self._memory, self._idle = deadline, memory, idle
        self._turns = _Turns()
        self._process: asyncio.subprocess.Process | None = None
        self._end: asyncio.TimerHandle | None = None
        self._known: OrderedDict[bytes, tuple[float, bytes | TooCostly]] = OrderedDict()  # each with its end

    async def run(self, namespace: str, task: str, request: bytes) -> bytes:
        """Return the result of a computation.

        Args:
            namespace: The namespace of the object that it is for.
            task: A name in `computations.TASKS`.
            request: Its input.

        Raises:
            TooCostly: The computation passed its deadline, its memory, or the bound of its input or result.
            WorkerDefect: The computation failed because of a defect.
        """
        if len(request) > MAX_REQUEST:
            raise TooCostly(f"its input has more than {MAX_REQUEST} bytes")
        key = hashlib.sha256(task.encode() + b"\0" + request).digest()
        async with self._turns.of(namespace):
            now = asyncio.get_running_loop().time()
            end, known = self._known.get(key, (now, b""))
            if end <= now:
                try:
                    known = await self._compute(task, request)
                except TooCostly as failure:
                    known = failure
                self._keep(key, known, now)
        if isinstance(known, TooCostly):
            raise TooCostly(str(known))
        return known

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if self._end is not None:
            self._end.cancel()
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    def _keep(self, key: bytes, result: bytes | TooCostly, now: float) -> None:
        is_failure = isinstance(result, TooCostly)
        if isinstance(result, TooCostly) or len(result) <= _KEPT_BYTES:
            self._known[key] = now + FAILURE_SECONDS if is_failure else math.inf, result
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)

    async def _compute(self, task: str, request: bytes) -> bytes:
        seconds = START_SECONDS
        try:
            async with asyncio.timeout(seconds):
                process = await self._ready()
            seconds = self._deadline
            async with asyncio.timeout(seconds):
                status, result = await _exchange(process, task, request)
        except TimeoutError:
            await self.close()
            raise TooCostly(f"it took more than {seconds:g} s") from None
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.close()
            most = f"{self._memory // 2**20} MiB of memory"
            raise TooCostly(f"its process, which may have {most}, ended") from None
        except BaseException:
            await self.close()  # in the middle of an exchange: the next response would be that of this request
            raise
        self._end = asyncio.get_running_loop().call_later(self._idle, self._end_idle)
        if status == DEFECT:
            raise WorkerDefect(result.decode(errors="replace"))
        return result

    async def _ready(self) -> asyncio.subprocess.Process:
        """Return the process, a new one where there is none."""
        if self._end is not None:
            self._end.cancel()
        if self._process is None or self._process.returncode is not None or _input(self._process).is_closing():
            await self.close()
            self._process = await self._start()
            await _output(self._process).readexactly(len(READY))
        return self._process

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            computations.__name__,
            str(self._memory),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            start_new_session=True,  # a signal for the operator's group ends the operator first
        )

    def _end_idle(self) -> None:
        if self._process is not None and not self._turns.is_taken:
            _input(self._process).close()  # the process ends by itself, and asyncio reaps it


class _Turns:
    """A lock that those who wait get by namespace, one of each in turn, and first come first served within one."""

    def __init__(self) -> None:
        self.is_taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @contextlib.asynccontextmanager
    async def of(self, namespace: str) -> AsyncIterator[None]:
        """Have the lock in this context."""
        if self.is_taken:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(namespace, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():  # it was given the lock in the same moment
                    self._pass_on()
                raise
        self.is_taken = True
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Give the lock to the next one that still waits for it."""
        while self._waiting:
            namespace, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[namespace] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self.is_taken = False


async def _exchange(process: asyncio.subprocess.Process, task: str, request: bytes) -> tuple[bytes, bytes]:
    """Send a request; return the status and the result of its response."""
    for part in (task.encode(), request):
        _input(process).write(len(part).to_bytes(LENGTH_BYTES) + part)
    await _input(process).drain()
    output = _output(process)
    status = await output.readexactly(1)
    length = int.from_bytes(await output.readexactly(LENGTH_BYTES))
    if length > MAX_RESPONSE:
        raise TooCostly(f"its result has more than {MAX_RESPONSE} bytes")
    return status, await output.readexactly(length)


def _input(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise AssertionError("the process was started with pipes")
    return process.stdin


def _output(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise AssertionError("the process was started with pipes")
    return process.stdout
