"""The executor: runs steps in order, shows them, and stops at the first answer that is not as it should be."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tools.demo.steps import Answer, Chapter, Step

TIMED_OUT = 124
_POLL = 0.5  # seconds between two looks at something that is awaited


class Shell(Protocol):
    """Runs one line of shell."""

    def __call__(self, command: str, *, timeout: float, live: bool) -> Answer:
        """Run `command` for at most `timeout` seconds; `live` shows its output at once and does not read it."""


class WrongAnswerError(Exception):
    """An answer was not as it should be; what there is to say has been said."""


@dataclass(frozen=True)
class RealShell:
    """The machine's own shell.

    Attributes:
        environment: the environment of all commands.
    """

    environment: Mapping[str, str]

    def __call__(self, command: str, *, timeout: float, live: bool) -> Answer:
        """Run `command` with sh; what is not live has a session of its own, all of which ends when the time is up."""
        with subprocess.Popen(
            ["sh", "-c", command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=None if live else subprocess.PIPE,
            stderr=None if live else subprocess.STDOUT,
            start_new_session=not live,
        ) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                _end(process, live=live)
                output, _ = process.communicate()
                return Answer(TIMED_OUT, f"{_text(output)}(no end after {timeout:g} s)\n")
            except BaseException:
                _end(process, live=live)
                raise
        return Answer(process.returncode, _text(output))


def _end(process: subprocess.Popen[bytes], *, live: bool) -> None:
    """End the process, and where it is not live, all that it has started: a pipeline is several processes."""
    if live:
        process.terminate()
    else:
        os.killpg(process.pid, signal.SIGKILL)


def _text(output: bytes | None) -> str:
    return (output or b"").decode(errors="replace")


@dataclass(frozen=True)
class Stage:
    """Where the demo is played: what it acts with, all of it replaced in tests.

    Attributes:
        shell: runs the commands.
        say: shows a text.
        clock: seconds from any fixed moment on.
        sleep: lets seconds pass.
    """

    shell: Shell
    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def play(stage: Stage, chapters: Sequence[Chapter]) -> None:
    """Play the chapters in order.

    Raises:
        WrongAnswerError: an answer was not as it should be; which one, and what to look at, has been said.
    """
    for chapter in chapters:
        stage.say(f"\n=== {chapter.title} ===")
        for step in chapter.steps:
            _play_step(stage, step, step.look_at or chapter.look_at)


def _play_step(stage: Stage, step: Step, look_at: Sequence[str]) -> None:
    stage.say(f"\n$ {step.command}")
    begin = stage.clock()
    answer, wrong = _await_right(stage, step)
    if wrong is None and step.lasting:
        answer, wrong = _watch(stage, step, answer)
    if text := answer.output.rstrip():
        stage.say(text)
    if wrong is None:
        stage.say(f"  -> {step.see} ({stage.clock() - begin:.1f} s)")
        return
    stage.say(f"\nNot as it should be: {wrong}\nExpected: {step.see}\nLook at:")
    for command in look_at:
        stage.say(f"  {command}")
    raise WrongAnswerError(wrong)


def _ask(stage: Stage, step: Step) -> tuple[Answer, str | None]:
    answer = stage.shell(step.command, timeout=step.timeout, live=step.live)
    return answer, step.expect(answer)


def _await_right(stage: Stage, step: Step) -> tuple[Answer, str | None]:
    """Ask until the answer is right or the step's time is up."""
    end = stage.clock() + step.within
    while True:
        answer, wrong = _ask(stage, step)
        if wrong is None:
            return answer, None
        if stage.clock() >= end:
            waited = f" after {step.within:g} s" if step.within else ""
            return answer, wrong + waited
        stage.sleep(_POLL)


def _watch(stage: Stage, step: Step, answer: Answer) -> tuple[Answer, str | None]:
    """Ask on for as long as the answer has to stay right."""
    end = stage.clock() + step.lasting
    while stage.clock() < end:
        stage.sleep(_POLL)
        answer, wrong = _ask(stage, step)
        if wrong is not None:
            return answer, f"it did not last: {wrong}"
    return answer, None
