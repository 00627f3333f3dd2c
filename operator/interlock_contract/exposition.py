"""Prometheus' text format (version 0.0.4) for programs that do without its client library. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[str, int | str]
"""What follows the family's name (labels, or a suffix and labels; often nothing), and the value."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric family.

    Attributes:
        name: Such as `interlock_guard_open`.
        kind: The type of the metric.
        text: One sentence of help.
        labels: The names of its labels.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()

    def render(self, value: int | str) -> list[str]:
        """Return its lines, where it has no labels."""
        return self.render_samples([("", value)])

    def render_by(self, values: Iterable[tuple[tuple[str, ...], int | str]]) -> list[str]:
        """Return its lines.

        Args:
            values: The values of the labels, and the value of the sample with them.
        """
        return self.render_samples(
            (render_labels(**dict(zip(self.labels, labels, strict=True))), value) for labels, value in values
        )

    def render_samples(self, samples: Iterable[Sample]) -> list[str]:
        """Return its lines, with samples in their order."""
        lines = [f"# HELP {self.name} {self.text}", f"# TYPE {self.name} {self.kind}"]
        lines += [f"{self.name}{suffix} {value}" for suffix, value in samples]
        return lines


def render_labels(**labels: str) -> str:
    """Return labels as they follow a name: `{kind="Task",outcome="Completed"}`."""
    pairs = ",".join(f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{pairs}}}"


def join_lines(lines: Iterable[str]) -> bytes:
    """Return the body of an answer."""
    return "".join(f"{line}\n" for line in lines).encode()
