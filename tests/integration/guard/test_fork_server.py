"""A forked program is one that was just started, as far as it and its tests can see, and outlives no test."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bounds import eventually
from tests.support.fork_server import fork_server
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

WAIT_SECONDS = 20.0
PARENT = """
import time
from tests.support.fork_server import fork_server
child = fork_server("interlock_guard").start(ENVIRONMENT, 2, 2)
print(child.pid, flush=True)
time.sleep(60)
"""


def guards_environment(folder: Path) -> dict[str, str]:
    """Return the least settings with which a guard runs, without any effect."""
    return {
        "INTERLOCK_AGENT": "a",
        "INTERLOCK_NAMESPACE": "n",
        "INTERLOCK_POD": "p",
        "INTERLOCK_BUNDLE": "b",
        "INTERLOCK_API_SERVER": "http://127.0.0.1:9",
        "INTERLOCK_CREDENTIALS": str(folder),
        "INTERLOCK_PIPES": str(folder),
        "INTERLOCK_SPOOL": str(folder / "spool"),
        "INTERLOCK_MCP_PORT": str(free_port()),
        "INTERLOCK_OBSERVE_PORT": str(free_port()),
        "INTERLOCK_TASK_PORT": str(free_port()),
    }


async def test_it_has_the_environment_that_it_is_given_and_its_own_exit_code(tmp_path: Path) -> None:
    os.environ["INTERLOCK_AGENT"] = "of the tests"
    try:
        with (tmp_path / "log").open("wb") as log:
            process = fork_server("interlock_guard").start({}, log.fileno(), log.fileno())
            assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 2
    finally:
        del os.environ["INTERLOCK_AGENT"]
    assert "INTERLOCK_AGENT" in (tmp_path / "log").read_text()
    assert process.returncode == 2


async def test_it_has_the_arguments_that_it_is_given(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = fork_server("interlock_guard").start({}, log.fileno(), log.fileno(), ["nonsense"])
        assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == 2
    assert "arguments: none, verify or pipes" in (tmp_path / "log").read_text()


async def test_a_signal_ends_it_and_is_its_exit_code(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = fork_server("interlock_guard").start(guards_environment(tmp_path), log.fileno(), log.fileno())
    assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), WAIT_SECONDS) == -signal.SIGKILL
    process.send_signal(signal.SIGKILL)  # an end is an end


def test_its_end_can_be_waited_for_without_an_event_loop(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = fork_server("interlock_guard").start(guards_environment(tmp_path), log.fileno(), log.fileno())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait_for(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait_for(WAIT_SECONDS) == process.wait_for(0) == process.poll() == -signal.SIGKILL


def test_it_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    source = PARENT.replace("ENVIRONMENT", repr(guards_environment(tmp_path)))
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, env=environment, preexec_fn=end_with_parent
    ) as parent:
        assert parent.stdout is not None
        try:
            child = int(parent.stdout.readline())
            assert lives(child)
        finally:
            parent.kill()
    eventually(lambda: not lives(child), "the forked process has ended", WAIT_SECONDS)


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    return "State:\tZ" not in status
