"""Commands that pages print in console blocks, with the output that the pages show, and a shell that runs them."""

import os
import re
import selectors
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Self

from tests.support.offspring import end_with_parent

_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<body>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
_HEX = re.compile(r"\b(?=[0-9a-f-]*[0-9])[0-9a-f]{8,}(?:-[0-9a-f]+)*\b")
_AGE = re.compile(r"\b(?:\d+(?:d|h|m(?!i)|s))+\b")
_NUMBER = re.compile(r'"id": \d+')
_APPLIED = re.compile(r"(?:created|configured|unchanged)( \(server dry run\))?$")
_FAILS = ("Error", "error", "The ")


@dataclass(frozen=True)
class Printed:
    """A command as a page prints it.

    Attributes:
        page: Path of the page below the repository.
        command: What follows the `$`.
        output: The lines below it, up to the next command. The line `...` stands for any lines, and `...` within a
            line for any text.
    """

    page: str
    command: str
    output: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Whether the page shows that the command ends with an error."""
        return bool(self.output) and self.output[0].startswith(_FAILS)


def printed(root: Path, page: str) -> Iterator[Printed]:
    """Yield the commands of a page in their order."""
    for block in _BLOCK.finditer((root / page).read_text(encoding="utf-8")):
        if block["kind"] != "console":
            continue
        command, output = "", list[str]()
        for line in [*dedent(block["body"]).splitlines(), "$ "]:
            if command.endswith("\\"):  # the command goes on in this line
                command = f"{command[:-1].rstrip()} {line.strip()}"
                continue
            if not line.startswith("$ "):
                output.append(line)
                continue
            if command:
                yield Printed(page, command, tuple(output))
            command, output = line[2:], []


def files(root: Path, page: str) -> Iterator[tuple[str, str]]:
    """Yield path and content of each file that a page has the reader write: blocks with `title="path"`."""
    for block in _BLOCK.finditer((root / page).read_text(encoding="utf-8")):
        if block["title"]:
            yield block["title"], dedent(block["body"])


def _shape(line: str) -> str:
    """Return a line without what differs from run to run.

    These are digests, ids, also those of records that an agent makes, ages, the width of columns, and whether
    `kubectl apply` found an object.
    """
    return _APPLIED.sub(r"applied\1", " ".join(_AGE.sub("AGE", _HEX.sub("HEX", _NUMBER.sub('"id": N', line))).split()))


def missing_lines(expected: Sequence[str], output: str) -> list[str]:
    """Return the expected lines that the output does not have.

    The order does not count: a command in the background may print before or after the one that the page shows.
    """
    shapes = [_shape(line) for line in output.splitlines()]
    missing = []
    for line in (line for line in expected if line.strip() != "..."):
        pattern = re.compile(".*".join(re.escape(part) for part in _shape(line).split("...")))
        found = next((shape for shape in shapes if pattern.fullmatch(shape)), None)
        if found is None:
            missing.append(line)
        else:
            shapes.remove(found)
    return missing


@dataclass(frozen=True)
class Answer:
    """What a command printed, on both streams, and its exit code."""

    code: int
    output: str


class Terminal:
    """One bash that runs commands one after the other and keeps variables, functions and the folder between them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,
            preexec_fn=end_with_parent,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """End the shell and all that it started."""
        os.killpg(self._bash.pid, signal.SIGKILL)
        with self._bash:  # closes the pipes and waits
            pass

    def run(self, command: str, *, seconds: float) -> Answer:
        """Run a command and wait for its end.

        Raises:
            TimeoutError: It did not end in time. The terminal cannot be used any further.
        """
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        mark = f"end-of-{uuid.uuid4().hex}"
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' {mark} $?\n".encode())
        self._bash.stdin.flush()
        end, read = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            while not (found := re.search(rf"\n{mark} (\d+)\n".encode(), read)):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise TimeoutError(f"no end after {seconds:g} s: {command}\n{read.decode(errors='replace')}")
                chunk = os.read(self._bash.stdout.fileno(), 65536)
                assert chunk, f"the shell ended: {read.decode(errors='replace')}"
                read += chunk
        return Answer(int(found[1]), read[: found.start()].decode(errors="replace"))
