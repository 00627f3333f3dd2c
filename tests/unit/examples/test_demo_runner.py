import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tools.demo.runner import TIMED_OUT, RealShell, Stage, WrongAnswerError, play
from tools.demo.steps import Answer, Chapter, Step, is_refused, never_says, succeeds


@dataclass
class Theatre:
    """A stage without a cluster: commands answer from a script, and time passes only during a sleep."""

    answers: Mapping[str, Callable[[float], Answer]]
    now: float = 0.0
    said: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def shell(self, command: str, *, timeout: float, live: bool) -> Answer:
        assert timeout > 0
        assert live in {True, False}
        self.ran.append(command)
        return self.answers[command](self.now)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def play(self, *steps: Step, look_at: tuple[str, ...] = ()) -> None:
        stage = Stage(self.shell, self.said.append, clock=lambda: self.now, sleep=self.sleep)
        play(stage, [Chapter("A chapter", steps, look_at)])

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def always(answer: Answer) -> Callable[[float], Answer]:
    return lambda _: answer


def from_second(moment: float, answer: Answer, before: Answer) -> Callable[[float], Answer]:
    return lambda now: answer if now >= moment else before


GOOD, BAD = Answer(0, "pod is there\n"), Answer(1, "no pod\n")


def test_shows_command_answer_and_what_to_see_in_it_in_this_order() -> None:
    theatre = Theatre({"kubectl get pods": always(GOOD)})
    theatre.play(Step("kubectl get pods", "there it is", succeeds("pod")))
    assert theatre.said == [
        "\n=== A chapter ===",
        "\n$ kubectl get pods",
        "pod is there",
        "  -> there it is (0.0 s)",
    ]


def test_stops_at_the_first_wrong_answer_and_says_what_to_check() -> None:
    theatre = Theatre({"first": always(BAD), "second": always(GOOD)})
    with pytest.raises(WrongAnswerError):
        theatre.play(
            Step("first", "the pod", succeeds(), look_at=("kubectl describe pod",)), Step("second", "", succeeds())
        )
    assert theatre.ran == ["first"]
    assert "no pod" in theatre.text
    assert "Not as it should be: the command failed with status 1" in theatre.text
    assert theatre.said[-2:] == [
        "\nNot as it should be: the command failed with status 1\nExpected: the pod\nLook at:",
        "  kubectl describe pod",
    ]


def test_a_step_without_hints_of_its_own_shows_those_of_its_chapter() -> None:
    theatre = Theatre({"first": always(BAD)})
    with pytest.raises(WrongAnswerError):
        theatre.play(Step("first", "", succeeds()), look_at=("kubectl get events",))
    assert theatre.said[-1] == "  kubectl get events"


def test_waits_for_the_right_answer_and_shows_only_that_one() -> None:
    theatre = Theatre({"get": from_second(3, GOOD, before=BAD)})
    theatre.play(Step("get", "it came", succeeds("pod is there"), within=5))
    assert theatre.now == 3
    assert "no pod" not in theatre.text
    assert "  -> it came (3.0 s)" in theatre.said


def test_waiting_is_bounded() -> None:
    theatre = Theatre({"get": always(BAD)})
    with pytest.raises(WrongAnswerError, match="after 5 s"):
        theatre.play(Step("get", "", succeeds(), within=5))
    assert 5 <= theatre.now <= 6


def test_what_has_to_last_is_watched_to_the_end() -> None:
    theatre = Theatre({"get": always(GOOD)})
    theatre.play(Step("get", "", succeeds(), lasting=5))
    assert theatre.now >= 5


def test_what_does_not_last_is_wrong() -> None:
    theatre = Theatre({"get": from_second(2, BAD, before=GOOD)})
    with pytest.raises(WrongAnswerError, match="did not last"):
        theatre.play(Step("get", "", succeeds(), lasting=5))


@pytest.mark.parametrize(
    ("expectation", "answer", "wrong"),
    [
        (succeeds(), Answer(0, ""), None),
        (succeeds("a", "b"), Answer(0, "b a"), None),
        (succeeds("a", "b"), Answer(0, "a"), "the answer does not say 'b'"),
        (succeeds(), Answer(7, ""), "the command failed with status 7"),
        (is_refused("owner"), Answer(1, "no owner"), None),
        (is_refused("owner"), Answer(1, "no route"), "the answer does not say 'owner'"),
        (is_refused("owner"), Answer(0, "owner"), "the command succeeded, but it must be refused"),
        (never_says("Running"), Answer(0, "none"), None),
        (never_says("Running"), Answer(0, "Running"), "the answer says 'Running', which it must not"),
        (never_says("Running", "none"), Answer(0, ""), "the answer does not say 'none'"),
        (never_says("Running"), Answer(1, ""), "the command failed with status 1"),
    ],
)
def test_expectations_say_what_is_wrong(
    expectation: Callable[[Answer], str | None], answer: Answer, wrong: str | None
) -> None:
    assert expectation(answer) == wrong


def test_the_real_shell_reads_both_streams_and_the_status() -> None:
    shell = RealShell(os.environ | {"WORD": "hello"})
    assert shell("echo $WORD; echo oh >&2; exit 3", timeout=10, live=False) == Answer(3, "hello\noh\n")


def test_the_real_shell_shows_what_is_live_and_does_not_read_it(capfd: pytest.CaptureFixture[str]) -> None:
    assert RealShell(os.environ)("echo building", timeout=10, live=True) == Answer(0, "")
    assert capfd.readouterr().out == "building\n"


PIPELINE_SECONDS = 100


def test_the_real_shell_ends_a_whole_pipeline_when_the_time_is_up() -> None:
    begin = time.monotonic()
    answer = RealShell(os.environ)(f"echo begun; sleep {PIPELINE_SECONDS} | cat", timeout=2.5, live=False)
    assert answer == Answer(TIMED_OUT, "begun\n(no end after 2.5 s)\n")
    assert time.monotonic() - begin < PIPELINE_SECONDS / 2, "it did not wait for the end of the pipeline"
