"""A process that has imported a program, and forks a copy of itself for each start of it.

Of the third of a second that a guard takes to start, and of the second and a half of an operator, most is spent on
imports, and the tests start hundreds. A fork has the same code, and an environment, files, state and end of its own:
tests share no guard. What a start from nothing is like is verified by tests that start one so (`test_guard_alone.py`,
`test_operator_start.py`, and all with real pods).

One thing differs: a guard that ends has `FINISH_SECONDS` for its last writes, and `SESSION_SECONDS` to end a session at
its server, because a busy machine that needs more than a pod's last second for them decides no test. What a guard does
whose time is over, unit tests verify.

`ForkServer` is the tests' side. `python -m tests.support.fork_server PACKAGE FD` is the other: on a socket it gets
messages with an environment and three files, and answers each on the third file, a socket of that start: with the
process id, and at the end with the exit code.
"""

import asyncio
import atexit
import contextlib
import faulthandler
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.offspring import end_with_parent

MOST_BYTES = 256 * 1024
START_SECONDS = 60.0
FINISH_SECONDS = 15.0
"""How long each of a forked guard's last writes may take; two of them take less than `WAIT_SECONDS`."""
SESSION_SECONDS = 3.0
"""How long a forked guard waits for a server's answer to the end of its session."""


@dataclass
class ForkedProcess:
    """One start, with what the tests use of `asyncio.subprocess.Process` and `subprocess.Popen`."""

    pid: int
    _status: socket.socket
    _code: int | None = None

    @property
    def returncode(self) -> int | None:
        """The exit code, a negative signal; None while the process runs."""
        if self._code is None:
            with contextlib.suppress(BlockingIOError):
                self._take(self._status.recv(64))
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal; a process that has ended gets none."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def wait(self) -> int:
        """Wait until the process has ended; return its exit code."""
        if self.returncode is None:
            self._take(await asyncio.get_running_loop().sock_recv(self._status, 64))
        assert self._code is not None
        return self._code

    def poll(self) -> int | None:
        """Return the exit code; None while the process runs."""
        return self.returncode

    def wait_for(self, seconds: float) -> int:
        """Block until the process has ended; return its exit code.

        Raises:
            subprocess.TimeoutExpired: It has not ended in time.
        """
        if self.returncode is None and not select.select([self._status], [], [], seconds)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), seconds)
        code = self.returncode
        assert code is not None
        return code

    def _take(self, text: bytes) -> None:
        assert text, "the fork server is gone"
        self._code = int(text)
        self._status.close()


class ForkServer:
    """Starts a program of one package; the same one for all tests of a process."""

    def __init__(self, package: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", package, str(theirs.fileno())],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            preexec_fn=end_with_parent,
        )
        theirs.close()
        atexit.register(self._end)

    def start(
        self, environment: Mapping[str, str], stdout: int, stderr: int, arguments: Sequence[str] = ()
    ) -> ForkedProcess:
        """Start the program with just this environment, and files for what it says."""
        message = json.dumps({"environment": dict(environment), "arguments": arguments})
        status, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [message.encode()], [stdout, stderr, theirs.fileno()])
        status.settimeout(START_SECONDS)
        pid = int(status.recv(64))
        status.setblocking(False)  # noqa: FBT003 - the socket's own words
        return ForkedProcess(pid, status)

    def _end(self) -> None:
        self._control.close()
        self._process.wait(START_SECONDS)


@cache
def fork_server(package: str) -> ForkServer:
    """Return this process' server for a package."""
    return ForkServer(package)


def serve(package: str, control: socket.socket) -> None:
    """Fork for each message until the tests' side is gone, whose end ends all that was forked as well."""
    main, server = _load(package), os.getpid()
    children: dict[int, socket.socket] = {}
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)  # noqa: FBT003 - the socket's own words
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(woken, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is woken:
                woken.recv(4096)
                _reap(children)
                continue
            message, files, _, _ = socket.recv_fds(control, MOST_BYTES, 3)
            if not message:
                return
            if (pid := os.fork()) == 0:
                selector.close()
                for one in (control, woken, wake, *children.values()):
                    one.close()
                _become(main, json.loads(message), files, server)
            os.close(files[0])
            os.close(files[1])
            children[pid] = socket.socket(fileno=files[2])
            children[pid].send(str(pid).encode())


def _load(package: str) -> Callable[[], Any]:
    """Import all that a program needs before it reads its environment; return its `main`."""
    entry = importlib.import_module(f"{package}.__main__")
    if package == "interlock_guard":
        program = entry.load("program")
        program._FINISH_SECONDS = program._COUNTS_SECONDS = FINISH_SECONDS  # noqa: SLF001 - settings would be a pod's
        entry.load("upstream.http_protocol")._END_SECONDS = SESSION_SECONDS  # noqa: SLF001 - as above
        entry.load("verification.program")
    if package in {"interlock", "interlock_kill"}:
        importlib.import_module("interlock_process.kubeconfig")  # not needed in a pod
    main: Callable[[], Any] = entry.main
    return main


def _reap(children: dict[int, socket.socket]) -> None:
    """Send the tests' side the status of each process that has ended."""
    for pid in list(children):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with children.pop(pid) as pipe, contextlib.suppress(OSError):
                pipe.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(main: Callable[[], Any], message: Mapping[str, Any], files: list[int], server: int) -> None:
    """Be a process that was just started, run the program and end."""
    end_with_parent(server)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(files[0], 1)
    os.dup2(files[1], 2)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(message["environment"])
    sys.argv = [sys.argv[0], *message["arguments"]]
    if os.environ.get("PYTHONFAULTHANDLER"):
        faulthandler.enable()
    code: Any = 1
    try:
        code = main()
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - as at the end of any program
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as tests_side:
        serve(sys.argv[1], tests_side)
