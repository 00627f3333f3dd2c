"""No test leaves a process behind, also where pytest is killed: a process of a test ends with its parent."""

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.offspring import end_with_parent

TESTS = Path(__file__).parents[1]
STARTERS = {"create_subprocess_exec", "create_subprocess_shell", "Popen"}
PARENT = """
import subprocess, sys
from tests.support.offspring import end_with_parent
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], preexec_fn=end_with_parent)
print(child.pid, flush=True)
child.wait()
"""
SECONDS = 20


def starts_in(path: Path) -> list[ast.Call]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [call for call in calls if ast.unparse(call.func).rpartition(".")[2] in STARTERS]


def outlives(call: ast.Call) -> bool:
    given = {word.arg: ast.unparse(word.value) for word in call.keywords}
    return given.get("preexec_fn") != "end_with_parent"


def lives(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
    return "State:\tZ" not in status


def test_whatever_a_test_starts_ends_with_it() -> None:
    starts = [
        (path, call) for path in TESTS.rglob("*.py") if "node_modules" not in path.parts for call in starts_in(path)
    ]
    assert len(starts) > 10
    assert [f"{path.relative_to(TESTS)}:{call.lineno}" for path, call in starts if outlives(call)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_child_of_a_process_that_is_killed_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdout=subprocess.PIPE,
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": str(TESTS.parent)},
        preexec_fn=end_with_parent,
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert lives(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    while lives(child):
        assert time.monotonic() < deadline, f"it lived on for {SECONDS} s"
        time.sleep(0.01)
