"""`python -m tools.recording [LOG] [--check]`: draw the recording of the demo that README shows.

With the log of a run (`make demo | tee LOG`), its scenes are first taken into docs/pictures/demo.txt. The picture is an
SVG that shows one scene after the other, so that README needs no player and loads nothing from elsewhere.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from tools.generated import write_or_check

ROOT: Final = Path(__file__).parents[1]
TRANSCRIPT: Final = ROOT / "docs" / "pictures" / "demo.txt"
PICTURE: Final = ROOT / "docs" / "pictures" / "demo.svg"

COLUMNS: Final = 116
ROWS: Final = 23
SCENE_SECONDS: Final = 8
_ADVANCE: Final = 7.23
"""Width of a character of the font, in pixels: 0.6 em, as nearly all monospaced fonts have it."""
_LINE: Final = 17
_MARGIN: Final = 16
_BAR: Final = 34
_BLOCK: Final = re.compile(
    r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ |=== |  -> ).*\n)*)  -> (?P<see>.*?)(?: \([\d.]+ s\))?$", re.MULTILINE
)
_KINDS: Final = {"allowed": "a", "denied": "d", "refused": "d"}
"""Classes of lines of output by their first word."""
_CHAPTER: Final = re.compile(r"^=== (.*) ===$", re.MULTILINE)


@dataclass(frozen=True)
class Scene:
    """A part of the demo that the recording shows.

    Attributes:
        chapter: Title of the chapter.
        commands: Patterns of commands. Each shows the next step of the chapter that matches.
    """

    chapter: str
    commands: tuple[str, ...]


SCENES: Final = (
    Scene("No owner, no agent", ("apply --dry-run=server",)),
    Scene("Staging", ("logs .*stage=staging",)),
    Scene("Production, one region", ("logs .*stage=one-region",)),
    Scene("A change in production", ("patch agents", "status.placements", "status.placements", "status.placements")),
    Scene("A bad revision", ("exec sender", 'value: "bad"', "exec sender", "interlock.dev/abort=", "exec sender")),
    Scene("A budget", ("wait .*BudgetExhausted --", "logs .*spender", "reason=BudgetAlert", "spender$")),
    Scene("The kill switch", ("kill-switch=", "wait --for=delete", "scale deployment", "get pods", "get agents")),
)


@dataclass(frozen=True)
class Shown:
    """A step of a run.

    Attributes:
        command: What was run.
        output: What it printed.
        see: What the demo says about it.
    """

    command: str
    output: tuple[str, ...]
    see: str


def main(arguments: Sequence[str] | None = None, transcript: Path = TRANSCRIPT, picture: Path = PICTURE) -> int:
    """Run the command; 1 where `--check` finds another picture than the transcript's."""
    parser = argparse.ArgumentParser(prog="python -m tools.recording", description=__doc__)
    parser.add_argument("log", nargs="?", type=Path, help="the log of a run, whose scenes are taken")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if the picture differs")
    chosen = parser.parse_args(arguments)
    if chosen.log is not None:
        transcript.write_text(write_scenes(chosen.log.read_text(encoding="utf-8")), encoding="utf-8")
    return write_or_check(
        ["--check"] if chosen.check else [],
        command="python -m tools.recording",
        description=__doc__,
        path=picture,
        wanted=draw(read_scenes(transcript.read_text(encoding="utf-8"))),
        advice="is not drawn from docs/pictures/demo.txt: run `make docs`",
    )


def write_scenes(log: str) -> str:
    """Return the transcript: the scenes of a log, in the log's own form.

    Raises:
        ValueError: The log lacks a step of a scene, so the demo has changed.
    """
    chapters = dict(read_scenes(log))
    lines: list[str] = []
    for scene in SCENES:
        steps = iter(chapters.get(scene.chapter, ()))
        lines.append(f"=== {scene.chapter} ===\n")
        for pattern in scene.commands:
            step = next((one for one in steps if re.search(pattern, one.command)), None)
            if step is None:
                raise ValueError(f"the log has no further step of {scene.chapter!r} that matches {pattern!r}")
            lines.append("\n".join([f"$ {step.command}", *step.output, f"  -> {step.see}", ""]))
    return "\n".join(lines)


def read_scenes(text: str) -> Iterator[tuple[str, tuple[Shown, ...]]]:
    """Yield each chapter of a log or transcript, with its steps."""
    parts = _CHAPTER.split(f"{text}\n")
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        found = (Shown(one["command"], tuple(one["output"].splitlines()), one["see"]) for one in _BLOCK.finditer(body))
        yield title, tuple(found)


def draw(scenes: Iterable[tuple[str, Sequence[Shown]]]) -> str:
    """Return the picture."""
    frames = list(scenes)
    texts = [list(_rows_of(title, steps)) for title, steps in frames]
    width, height = round(2 * _MARGIN + COLUMNS * _ADVANCE), _BAR + 2 * _MARGIN + max(map(len, texts)) * _LINE
    seconds, share = len(frames) * SCENE_SECONDS, 100 / len(frames)
    style = (
        "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;"
        "fill:#c9d1d9;white-space:pre}"
        f".s{{visibility:hidden;animation:s {seconds}s step-end infinite}}"
        f"@keyframes s{{0%{{visibility:visible}}{share:.3f}%{{visibility:hidden}}100%{{visibility:hidden}}}}"
        "@media (prefers-reduced-motion:reduce){.s{animation:none}.s:last-of-type{visibility:visible}}"
        ".t{fill:#8b949e}.c{fill:#fff;font-weight:700}.a{fill:#56d364}.d{fill:#ff7b72}.n{fill:#79c0ff}"
    )
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" {size}>',
        "<title>A run of make demo</title>",
        f"<style>{style}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        f'<path d="M0 {_BAR}h{width}" stroke="#30363d"/>',
        *(f'<circle cx="{18 + 18 * index}" cy="17" r="5.5" fill="#30363d"/>' for index in range(3)),
    ]
    for index, ((title, _), rows) in enumerate(zip(frames, texts, strict=True)):
        parts.append(f'<g class="s" style="animation-delay:{index * SCENE_SECONDS}s">')
        parts.append(f'<text class="t" x="76" y="21">make demo · {index + 1}/{len(frames)} · {escape(title)}</text>')
        parts.extend(_lines(rows))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _rows_of(title: str, steps: Sequence[Shown]) -> Iterator[tuple[str, str]]:
    """Yield the lines of one scene, each with its class.

    Raises:
        ValueError: It has more lines than a picture should have.
    """
    rows = [row for step in steps for row in _rows(step)]
    if len(rows) > ROWS:
        raise ValueError(f"{title!r} has {len(rows)} lines, and the picture has room for {ROWS}")
    yield from rows


def _lines(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for number, (kind, text) in enumerate(rows):
        y = _BAR + _MARGIN + 11 + number * _LINE
        if text:
            name = f' class="{kind}"' if kind else ""
            yield f'<text{name} x="{_MARGIN}" y="{y}" xml:space="preserve">{escape(text, quote=False)}</text>'


def _rows(step: Shown) -> Iterator[tuple[str, str]]:
    """Yield the lines of a step, each with its class: of a command, an allowed or denied call, or a note."""
    yield from (("c", line) for line in _wrap(f"$ {step.command}"))
    for line in step.output:
        kind = _KINDS.get(line.partition(":")[0], "d" if " is invalid: " in line else "")
        yield from ((kind, part) for part in _wrap(line))
    yield from (("n", line) for line in _wrap(f"  -> {step.see}"))


def _wrap(line: str) -> Iterator[str]:
    """Yield a line in pieces that fit, the later ones indented, broken at spaces where there are any."""
    indent = ""
    while len(indent + line) > COLUMNS:
        end = line.rfind(" ", COLUMNS // 2, COLUMNS - len(indent))
        end = end if end > 0 else COLUMNS - len(indent)
        yield indent + line[:end]
        line, indent = line[end:].lstrip(), "    "
    yield indent + line


if __name__ == "__main__":
    sys.exit(main())
