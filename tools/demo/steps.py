"""What a step of the demo is, and what its answer may be held against."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Answer:
    """What a command answered.

    Attributes:
        status: its exit status; 124 where it did not end in time.
        output: what it wrote on both of its streams, in the order of writing.
    """

    status: int
    output: str


Expectation = Callable[[Answer], str | None]
"""Says what is wrong with an answer, or None."""


@dataclass(frozen=True)
class Step:
    """One command and what is to be seen in its answer.

    Attributes:
        command: a line of shell, as a user would type it.
        see: one sentence that says what to see in the answer.
        expect: says what is wrong with the answer, or None.
        timeout: seconds that the command may take.
        within: seconds in which the answer must become right; 0: at once.
        lasting: seconds for which it must then stay right; 0: once is enough.
        live: whether the output is shown as it comes, for a command that takes long; it is not read then.
        look_at: commands that show why, where the answer is wrong.
    """

    command: str
    see: str
    expect: Expectation
    timeout: float = 60
    within: float = 0
    lasting: float = 0
    live: bool = False
    look_at: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chapter:
    """Some steps that belong together.

    Attributes:
        title: what they show.
        steps: the steps in order.
        look_at: commands that show why, for those steps that name none of their own.
    """

    title: str
    steps: tuple[Step, ...]
    look_at: tuple[str, ...] = field(default=())


def succeeds(*parts: str) -> Expectation:
    """Expect status 0 and each of `parts` somewhere in the output."""

    def check(answer: Answer) -> str | None:
        if answer.status:
            return f"the command failed with status {answer.status}"
        return _missing(answer, parts)

    return check


def is_refused(*parts: str) -> Expectation:
    """Expect a status other than 0 and each of `parts` somewhere in the output."""

    def check(answer: Answer) -> str | None:
        if not answer.status:
            return "the command succeeded, but it must be refused"
        return _missing(answer, parts)

    return check


def never_says(part: str, *parts: str) -> Expectation:
    """Expect status 0, each of `parts` somewhere in the output, and `part` nowhere."""

    def check(answer: Answer) -> str | None:
        if part in answer.output:
            return f"the answer says {part!r}, which it must not"
        return succeeds(*parts)(answer)

    return check


def _missing(answer: Answer, parts: tuple[str, ...]) -> str | None:
    absent = next((part for part in parts if part not in answer.output), None)
    return None if absent is None else f"the answer does not say {absent!r}"
