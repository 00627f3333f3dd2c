"""Running other programs: output into a log, a bounded wait, and an error that carries what they said last."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tools.machine.errors import ClusterError

LAST_LINES = 5
_RUNNING: set[subprocess.Popen[bytes]] = set()


class CommandFailedError(ClusterError):
    """A program ended with an error, or did not end in time; the message is what it said last."""


def say(line: str) -> None:
    """Print progress to stderr, since stdout belongs to answers."""
    print(line, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout: float = 3600,
) -> str:
    """Run a program to its end.

    Args:
        command: program and arguments, no shell.
        log: append all output here; without it the output is returned.
        env: variables set on top of this process' own.
        cwd: the folder to run in.
        stdin: what the program reads.
        timeout: seconds to wait at most.

    Returns:
        What it wrote to stdout, or "" when that went into the log.

    Raises:
        CommandFailedError: it could not be started, failed or took too long.
    """
    call = _Call([str(word) for word in command], {**os.environ, **(env or {})}, cwd, stdin, timeout)
    try:
        return call.captured() if log is None else call.logged(log)
    except FileNotFoundError as error:
        raise CommandFailedError(f"{command[0]} is not there ({error})") from None
    except subprocess.TimeoutExpired:
        raise CommandFailedError(f"{command[0]} took longer than {timeout:.0f} s") from None


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 30) -> bool:
    """Return True if a program ends without error within the time (seconds)."""
    try:
        run(command, env=env, timeout=timeout)
    except CommandFailedError:
        return False
    return True


def pipe(
    first: Sequence[str | Path], second: Sequence[str | Path], *, env: Mapping[str, str], timeout: float = 900
) -> None:
    """Run two programs, the second of which reads what the first one writes.

    Raises:
        CommandFailedError: one of them failed or took too long.
    """
    environ = {**os.environ, **env}
    with subprocess.Popen(first, stdout=subprocess.PIPE, env=environ) as source:
        try:
            done = subprocess.run(
                second, stdin=source.stdout, capture_output=True, env=environ, check=False, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            source.kill()
            raise CommandFailedError(f"{second[0]} took longer than {timeout:.0f} s") from None
        if source.stdout is not None:
            source.stdout.close()
    if done.returncode != 0 or source.returncode != 0:
        raise CommandFailedError(_last_lines(done.stderr) or f"{first[0]} ended with {source.returncode}")


def end_running() -> None:
    """Kill every program that `run` waits for in any thread of this process."""
    for process in list(_RUNNING):
        process.kill()


@dataclass(frozen=True)
class _Call:
    words: list[str]
    environ: dict[str, str]
    cwd: Path | None
    stdin: bytes
    timeout: float

    def captured(self) -> str:
        code, out, err = self._wait(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._check(code, err or out)
        return out.decode(errors="replace")

    def logged(self, log: Path) -> str:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            out.write(f"$ {' '.join(self.words)}\n".encode())
            out.flush()
            begin = out.tell()
            code, _, _ = self._wait(stdout=out, stderr=subprocess.STDOUT)
        self._check(code, log.read_bytes()[begin:])
        return ""

    def _wait(self, *, stdout: int | IO[bytes], stderr: int) -> tuple[int, bytes, bytes]:
        """Do what subprocess.run does, with the program known to end_running meanwhile."""
        with subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr, env=self.environ, cwd=self.cwd
        ) as process:
            _RUNNING.add(process)
            try:
                out, err = process.communicate(self.stdin, timeout=self.timeout)
            except BaseException:
                process.kill()
                raise
            finally:
                _RUNNING.discard(process)
        return process.returncode, out or b"", err or b""

    def _check(self, code: int, said: bytes) -> None:
        if code != 0:
            raise CommandFailedError(_last_lines(said) or f"{self.words[0]} ended with {code}")


def _last_lines(said: bytes) -> str:
    return "\n".join(said.decode(errors="replace").strip().splitlines()[-LAST_LINES:])
