"""The launcher of stdio servers: it hands over exactly what a shell would, and says why a program cannot start."""

import errno
import json
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import aiohttp
import pytest

from interlock.deployment.observed.quoting import quote_last_line
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import SCRIPTED, SOURCE, Bench, Client, Guard, StdioServer
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS, eventually
from tests.support.go_programs import build_launcher
from tests.support.offspring import end_with_parent

FIX = "set spec.server.stdio.command to a program of the image"
SHELL = 'exec "$0" "$@" <{0}/in >{0}/out'
PROBE = """
import ctypes, fcntl, json, os, resource, sys
death_signal = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal))  # PR_GET_PDEATHSIG
kept = ("SigBlk", "SigCgt", "SigIgn", "SigPnd", "Shd", "Cap", "NoNew")  # SigQ counts signals of all processes of a user
signals = [line for line in open("/proc/self/status") if line.startswith(kept)]
def describe(stream):
    return [oct(os.fstat(stream).st_mode), fcntl.fcntl(stream, fcntl.F_GETFL)]
found = {
    "arguments": sys.argv,
    "environment": sorted(os.environ.items()),
    "streams": [describe(stream) for stream in (0, 1, 2)],
    "open": sorted(os.listdir("/proc/self/fd"), key=int),
    "signals": [*signals, death_signal.value],
    "limits": [resource.getrlimit(one) for one in (resource.RLIMIT_NOFILE, resource.RLIMIT_STACK)],
    "folder": os.getcwd(),
    "process": os.getpid(),
    "line": sys.stdin.readline(),
}
print(json.dumps(found), flush=True)
"""
WORDS = ["", "a b", "$(id)", "`id`", "'", '"', "\\", "*", "two\nlines", "-c", "--", "ü", "\udcff"]


@pytest.fixture(scope="session")
def launcher() -> Path:
    return build_launcher()


@pytest.fixture
def pipes(tmp_path: Path) -> Path:
    folder = tmp_path / "pipes" / "crm"
    folder.mkdir(parents=True)
    for name in ("in", "out"):
        os.mkfifo(folder / name)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start processes, which end with the test.

    The signal QUIT has its default effect for them, as in a container. A shell's background process, such as a run of
    the tests, ignores QUIT, and a program of Go does not pass that on.
    """
    started: list[subprocess.Popen[bytes]] = []
    before = signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def run(*command: str | Path, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, preexec_fn=end_with_parent, **options))
        return started[-1]

    yield run
    signal.signal(signal.SIGQUIT, before)
    for process in started:
        process.kill()
        process.wait(WAIT_SECONDS)
        assert process.stderr is not None
        process.stderr.close()


def is_read(pipe: Path) -> bool:
    """Return True if a process reads from the pipe, or waits in its open."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError as error:
        assert error.errno == errno.ENXIO  # noqa: PT017 - any other error is one of the test
        return False
    return True


def refused(launcher: Path, folder: Path, *command: str | Path, **environment: str) -> tuple[int, str]:
    """Return the exit code and the message of a launcher that cannot become the program."""
    done = subprocess.run(
        [launcher, folder, *command],
        env=environment or None,
        stdin=DEVNULL,
        capture_output=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert done.stdout == b""
    text = done.stderr.decode()
    assert text.startswith("interlock-launch: ")
    assert text.count("\n") == 1
    return done.returncode, text


def a_file(path: Path, content: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)
    return path


@requirement("deployment.no-shell")
def test_a_program_gets_exactly_what_a_shell_would_give_it(
    launcher: Path, pipes: Path, tmp_path: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    probe = a_file(tmp_path / "probe.py", PROBE)
    seen = []
    for way in (["sh", "-c", SHELL.format(pipes)], [launcher, pipes]):
        environment = {
            "PATH": os.environ["PATH"],
            "EMPTY": "",
            "LINES": "a\nb",
            "GOMAXPROCS": "1",
            "PWD": str(tmp_path),
        }
        process = start(*way, sys.executable, "-I", probe, *WORDS, cwd=tmp_path, env=environment, stdin=DEVNULL)
        with (pipes / "in").open("w") as to_server, (pipes / "out").open() as from_server:
            to_server.write("hello\n")
            to_server.flush()
            seen.append(json.loads(from_server.read()))
        assert seen[-1].pop("process") == process.pid, "no process stands between the kubelet and the server"
    by_shell, by_launcher = seen
    assert by_launcher == by_shell
    assert by_launcher["arguments"][1:] == WORDS
    assert by_launcher["line"] == "hello\n"
    assert [stat.S_ISFIFO(int(mode, 8)) for mode, _ in by_launcher["streams"][:2]] == [True, True]
    assert not any(flags & os.O_NONBLOCK for _, flags in by_launcher["streams"])


@requirement("deployment.no-shell")
def test_the_launcher_needs_no_file_of_the_image(launcher: Path) -> None:
    data = launcher.read_bytes()
    table, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)
    kinds = [struct.unpack_from("<I", data, table + index * size)[0] for index in range(count)]
    interpreter, dynamic = 3, 2
    assert {interpreter, dynamic}.isdisjoint(kinds)


async def test_a_guard_serves_through_it_and_through_the_next_one(
    api: FakeApiServer, guard: Guard, launcher: Path, tmp_path: Path
) -> None:
    executed = tmp_path / "executed"
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(SCRIPTED), str(executed)], launcher)
    await guard.started()
    async with aiohttp.ClientSession() as session:
        bench = Bench(api, guard, server, Client(session, guard.url), executed)
        for _ in range(2):
            await server.start()
            await guard.source_ready()
            assert '"arguments": {"n": 1}' in (await bench.client.call("echo", n=1)).text
            await server.kill()
            await guard.source_gone()


def test_a_wrong_program_is_told_before_the_pipes_are_waited_for(launcher: Path, tmp_path: Path) -> None:
    assert refused(launcher, tmp_path / "no-pipes", "no-such-program")[0] == 127


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("no-such-program", 127, 'no program "no-such-program" in PATH'),
        ("./missing", 127, 'no file "./missing"'),
        ("script/below", 127, 'no file "script/below"'),
        ("./folder", 126, "not a file"),
        ("./data", 126, f'user {os.getuid()} may not run "./data"; build the image so that'),
        ("data", 126, f'user {os.getuid()} may not run "'),
        ("./no-interpreter", 126, "an interpreter or a dynamic linker that the image lacks"),
        ("./no-first-line", 126, "a script without #! in its first line"),
        ("", 127, 'no program "" in PATH'),
    ],
)
def test_a_program_that_cannot_run_is_named_with_cause_and_fix(
    launcher: Path, pipes: Path, tmp_path: Path, name: str, code: int, says: str
) -> None:
    a_file(tmp_path / "script", "#!/bin/sh\n")
    a_file(tmp_path / "data", "#!/bin/sh\n", 0o644)
    a_file(tmp_path / "no-interpreter", "#!/nowhere/sh\n")
    a_file(tmp_path / "no-first-line", "echo\n")
    (tmp_path / "folder").mkdir()
    ends = [os.open(pipes / one, os.O_RDWR) for one in ("in", "out")]
    try:
        done = subprocess.run(
            [launcher, pipes, name],
            cwd=tmp_path,
            env={"PATH": f"{tmp_path}:/bin"},
            capture_output=True,
            text=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
    finally:
        for end in ends:
            os.close(end)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    shown = quote_last_line(done.stderr.replace(str(tmp_path), ""))
    fix = "build the image so that users other than root can" if "may not run" in says else FIX
    assert fix in shown, "the status of an agent shows the line without what may be secret"


def test_the_first_program_in_the_path_that_may_run_counts(
    launcher: Path, pipes: Path, tmp_path: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    a_file(tmp_path / "data" / "tool", "#!/bin/sh\necho data\n", 0o644)
    (tmp_path / "folder" / "tool").mkdir(parents=True)
    a_file(tmp_path / "second" / "tool", "#!/bin/sh\necho second\n")
    a_file(tmp_path / "third" / "tool", "#!/bin/sh\necho third\n")
    folders = ["missing", "data", "folder", "second", "third"]
    path = ":".join(str(tmp_path / folder) for folder in folders)
    start(launcher, pipes, "tool", env={"PATH": path}, stdin=DEVNULL)
    with (pipes / "in").open("w"), (pipes / "out").open() as from_server:
        assert from_server.read() == "second\n"


def test_an_image_that_sets_no_path_has_the_usual_one(
    launcher: Path, pipes: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    start(launcher, pipes, "echo", "hello", env={}, stdin=DEVNULL)
    with (pipes / "in").open("w"), (pipes / "out").open() as from_server:
        assert from_server.read() == "hello\n"


def test_a_missing_pipe_is_an_error_and_no_file_is_made_in_its_place(launcher: Path, pipes: Path) -> None:
    (pipes / "out").unlink()
    end = os.open(pipes / "in", os.O_RDWR)
    code, says = refused(launcher, pipes, "/bin/true", PATH="/bin")
    os.close(end)
    assert (code, f'"{pipes}/out": no such file' in says) == (125, True)
    assert not (pipes / "out").exists()
    (pipes / "in").unlink()
    (pipes / "in").write_text("")
    code, says = refused(launcher, pipes, "/bin/true", PATH="/bin")
    assert (code, "not a named pipe" in says) == (125, True)


def test_without_a_program_it_says_how_it_is_called(launcher: Path, pipes: Path) -> None:
    assert refused(launcher, pipes) == (125, "interlock-launch: usage: launch DIRECTORY PROGRAM [ARGUMENT...]\n")


def test_a_kill_ends_a_launcher_that_waits_for_its_guard(
    launcher: Path, pipes: Path, start: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    process = start(launcher, pipes, "/bin/true", stdin=DEVNULL)
    eventually(lambda: is_read(pipes / "in"), "the launcher waits for the guard", WAIT_SECONDS)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_SECONDS) != 0
