"""Prometheus' text format (version 0.0.4) for programs that do without its client library. No I/O."""

from collections.abc import Iterable
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[str, int | str]
"""What follows the family's name (labels, or a suffix and labels; often nothing), and the value."""


def render_family(
    name: str, kind: Literal["counter", "gauge", "histogram"], text: str, samples: Iterable[Sample]
) -> list[str]:
    """Return the lines of one metric family.

    Args:
        name: Such as `interlock_guard_open`.
        kind: The type of the metric.
        text: One sentence of help.
        samples: In the order of the lines.
    """
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{suffix} {value}" for suffix, value in samples]
    return lines


def render_labels(**labels: str) -> str:
    """Return labels as they follow a name: `{kind="Task",outcome="Completed"}`."""
    pairs = ",".join(f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def join_lines(lines: Iterable[str]) -> bytes:
    """Return the body of an answer."""
    return "".join(f"{line}\n" for line in lines).encode()
