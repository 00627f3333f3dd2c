"""The recording of the demo in README."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.requirements import requirement
from tools.demo.story import STORY
from tools.recording import COLUMNS, PICTURE, ROWS, SCENES, TRANSCRIPT, Shown, draw, main, read_scenes, write_scenes

LOG = """
=== Staging ===

$ kubectl get a
one
two
  -> what it is (0.1 s)

$ kubectl delete a
  -> it is gone (2.0 s)

=== The end ===

All of it was as it should be.
"""


@requirement("pages.recording")
def test_each_step_of_the_recording_is_one_of_the_demo() -> None:
    """A change of the demo needs a new recording: `make demo | tee LOG`, then `python -m tools.recording LOG`."""
    steps = {(chapter.title, step.command, step.see) for chapter in STORY for step in chapter.steps}
    shown = [(title, one) for title, steps in read_scenes(TRANSCRIPT.read_text(encoding="utf-8")) for one in steps]
    assert {title for title, _ in shown} == {scene.chapter for scene in SCENES}
    assert [one for title, one in shown if (title, one.command, one.see) not in steps] == []


@requirement("pages.recording")
def test_the_picture_is_drawn_from_the_transcript() -> None:
    assert main(["--check"]) == 0


@requirement("pages.recording")
def test_a_picture_of_another_transcript_is_reported_and_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    transcript, picture = tmp_path / "demo.txt", tmp_path / "demo.svg"
    transcript.write_text(TRANSCRIPT.read_text(encoding="utf-8").replace("BudgetAlert", "BudgetAlarm"))
    picture.write_bytes(PICTURE.read_bytes())
    assert main(["--check"], transcript, picture) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert main([], transcript, picture) == 0
    assert "BudgetAlarm" in picture.read_text()


def test_a_picture_loads_nothing_and_is_well_formed() -> None:
    text = PICTURE.read_text(encoding="utf-8")
    ET.fromstring(text)  # noqa: S314 - our own file
    assert text.count("://") == 1, "the namespace of SVG, which nothing loads"


def test_steps_are_read_from_a_log() -> None:
    steps = (Shown("kubectl get a", ("one", "two"), "what it is"), Shown("kubectl delete a", (), "it is gone"))
    assert list(read_scenes(LOG)) == [("Staging", steps), ("The end", ())]


def test_a_transcript_is_the_transcript_of_itself() -> None:
    text = TRANSCRIPT.read_text(encoding="utf-8")
    assert write_scenes(text) == text


def test_a_log_without_a_step_of_a_scene_is_refused() -> None:
    with pytest.raises(ValueError, match="no further step of 'No owner, no agent'"):
        write_scenes(LOG)


def test_long_lines_are_broken_and_too_many_are_refused() -> None:
    drawn = draw([("One", (Shown(" ".join(["word"] * 40), (), "broken"),))])
    lines = ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")  # noqa: S314 - our own text
    assert max(len(line.text or "") for line in lines) <= COLUMNS
    with pytest.raises(ValueError, match=f"room for {ROWS}"):
        draw([("One", (Shown("a", ("line",) * ROWS, "too many"),))])
