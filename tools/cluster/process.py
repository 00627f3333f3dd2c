"""Running other programs: output into a log, a bounded wait, and an error that carries what they said last."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.cluster.errors import ClusterError

LAST_LINES = 5


class CommandFailedError(ClusterError):
    """A program ended with an error, or did not end in time; the message is what it said last."""


def say(line: str) -> None:
    """Tells the user what is going on (stderr: stdout belongs to answers)."""
    print(line, file=sys.stderr, flush=True)


def run(  # noqa: PLR0913 - all but the command are options of one call, as in subprocess.run
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
    timeout: float = 3600,
) -> str:
    """Runs a program to its end.

    Args:
        command: program and arguments, no shell.
        log: append all output here; without it the output is returned.
        env: variables set on top of this process' own.
        cwd: the folder to run in.
        stdin: what the program reads; without it nothing.
        timeout: seconds to wait at most.

    Returns:
        What it wrote to stdout, or "" when that went into the log.

    Raises:
        CommandFailedError: it could not be started, failed or took too long.
    """
    words = [str(word) for word in command]
    try:
        if log is None:
            return _captured(words, _environment(env), cwd, stdin, timeout)
        _logged(words, log, _environment(env), cwd, stdin, timeout)
    except FileNotFoundError as error:
        raise CommandFailedError(f"{words[0]} is not there ({error})") from None
    except subprocess.TimeoutExpired:
        raise CommandFailedError(f"{words[0]} took longer than {timeout:.0f} s") from None
    return ""


def succeeds(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, timeout: float = 30) -> bool:
    """Whether a program ends without error within the time (seconds)."""
    try:
        run(command, env=env, timeout=timeout)
    except CommandFailedError:
        return False
    return True


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, **(env or {})}


def _captured(words: list[str], env: dict[str, str], cwd: Path | None, stdin: str | None, timeout: float) -> str:
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        errors="replace",
        env=env,
        cwd=cwd,
        input=stdin or "",
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise CommandFailedError(_last_lines(done.stderr or done.stdout) or f"{words[0]} ended with {done.returncode}")
    return done.stdout


def _logged(  # noqa: PLR0913, PLR0917 - one caller, which has just named them all
    words: list[str], log: Path, env: dict[str, str], cwd: Path | None, stdin: str | None, timeout: float
) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as out:
        out.write(f"$ {' '.join(words)}\n")
        out.flush()
        begin = out.tell()
        done = subprocess.run(
            words,
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            env=env,
            cwd=cwd,
            input=stdin or "",
            timeout=timeout,
            check=False,
        )
    if done.returncode != 0:
        said = log.read_bytes()[begin:].decode(errors="replace")
        raise CommandFailedError(_last_lines(said) or f"{words[0]} ended with {done.returncode}")


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-LAST_LINES:])
