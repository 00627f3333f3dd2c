"""The operator, or the kill controller, as a process: started, ended and asked with bounded waits, its log kept."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.bounds import BoundMissed
from tests.support.fork_server import ForkedProcess, fork_server
from tests.support.keys import OPERATOR_KEY
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 40.0
STOP_SECONDS = 15.0
LOG_LINES_SHOWN = 40


class OperatorDied(AssertionError):  # noqa: N818 - it says what happened
    """The operator ended by itself; the end of its log is in the message."""


@dataclass
class OperatorProcess:
    """`python -m interlock` or another program, at most one at a time.

    Attributes:
        kubeconfig: What it speaks to; None for what the environment names, as in a pod.
        log: A file that all its runs append to.
        environment: Further variables of its environment.
        command: What is run.
        started: What its log says once it is up.
        is_forked: Whether `python -m PACKAGE` is a copy of a process that has imported the package, not one that was
            started from nothing (`fork_server`).
    """

    kubeconfig: Path | None
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = (sys.executable, "-m", "interlock")
    started: str = '"operator started"'
    is_forked: bool = False
    _process: subprocess.Popen[bytes] | ForkedProcess | None = None
    _port: int = 0

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, "the operator was not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> "OperatorProcess":
        """Start it and wait until it reconciles agents."""
        assert not self.is_running, "the operator runs already"
        self._port = free_port()
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            if self.is_forked:
                package = self.command[-1]
                self._process = fork_server(package).start(self._environment(), log.fileno(), log.fileno())
            else:
                self._process = subprocess.Popen(
                    self.command,
                    cwd=ROOT,
                    env=self._environment(),
                    stdout=log,
                    stderr=log,
                    preexec_fn=end_with_parent,
                )
        if wait:
            self._wait_for_start(begin)
        return self

    def stop(self) -> int:
        """End it as Kubernetes does, with SIGTERM; return its exit code."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            return self.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BoundMissed(f"it did not end within {STOP_SECONDS:.0f} s of SIGTERM\n{self.tail()}") from None

    def kill(self) -> None:
        """End it as a crash does, with SIGKILL."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self.wait(STOP_SECONDS)

    def wait(self, seconds: float) -> int:
        """Wait until it has ended by itself; return its exit code."""
        assert self._process is not None
        if isinstance(self._process, ForkedProcess):
            return self._process.wait_for(seconds)
        return self._process.wait(seconds)

    def health(self) -> tuple[int, str]:
        """Return status code and text of `/healthz`."""
        return self._ask("healthz")

    def metric(self, name: str, label: str = "") -> float:
        """Return a metric's value, the sum over its labels, or over those with one such as `kind="Agent"`; else 0."""
        lines = self._ask("metrics")[1].splitlines()
        found = (line for line in lines if line.startswith((f"{name} ", f"{name}{{")) and label in line)
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def messages(self) -> list[str]:
        """Return what it has logged, in all its runs."""
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                found.append(str(json.loads(line).get("message", "")))
        return found

    def tail(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_LINES_SHOWN:])

    def cpu_seconds(self) -> float:
        """Return the processor time that this run has used."""
        return cpu_seconds(self.pid)

    def peak_rss_mb(self) -> float:
        """Return the most memory that this run had resident, in MB of 2^20 bytes."""
        return self._memory("VmHWM")

    def rss_mb(self) -> float:
        """Return the memory that this run has resident, in MB of 2^20 bytes."""
        return self._memory("VmRSS")

    def _memory(self, name: str) -> float:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
        raise OperatorDied("it has no memory any more")

    def _environment(self) -> dict[str, str]:
        key = self.log.with_name("operator-key")  # what the kubelet mounts in a pod
        if not key.exists():
            key.write_bytes(OPERATOR_KEY)
        ours = {
            "INTERLOCK_KEY_FILE": str(key),
            "PYTHONPATH": str(ROOT / "operator"),
            "PYTHONFAULTHANDLER": "1",
            "INTERLOCK_TELEMETRY_PORT": str(self._port),
        }
        if self.kubeconfig is not None:
            ours["INTERLOCK_KUBECONFIG"] = str(self.kubeconfig)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("INTERLOCK_", "KUBE"))}
        return inherited | ours | dict(self.environment)

    def _abort(self) -> None:
        """End it so that its log shows where every thread was."""
        assert self._process is not None
        self._process.send_signal(signal.SIGABRT)
        self.wait(STOP_SECONDS)

    def _wait_for_start(self, begin: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.started.encode() not in self.log.read_bytes()[begin:]:
            if not self.is_running:
                raise OperatorDied(f"it ended while it started\n{self.tail()}")
            if time.monotonic() > deadline:
                self._abort()
                raise BoundMissed(f"it was not up within {START_SECONDS:.0f} s\n{self.tail()}")
            time.sleep(0.05)

    def _ask(self, page: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{page}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def kill_controller(kubeconfig: Path, log: Path, *, is_forked: bool = False) -> OperatorProcess:
    """Return the kill controller's process, not started."""
    command, started = (sys.executable, "-m", "interlock_kill"), '"kill switches are watched"'
    return OperatorProcess(kubeconfig, log, {}, command, started, is_forked)


def queued_seconds(pid: int) -> float:
    """Return how long the main thread of a process was ready to run while other work had the processors.

    The kernel counts that in the second number of `/proc/PID/schedstat`. Zero where it counts nothing.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except FileNotFoundError:
        return 0.0


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, without its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
