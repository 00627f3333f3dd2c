"""The picture in docs/explanation/rollouts.md is what the operator decides about examples/05-staged-scope."""

from pathlib import Path

import pytest

from tests.requirements import requirement
from tools.rollout_picture import PAGE, main


@requirement("pages.rollout-picture")
def test_the_picture_is_what_the_operator_decides() -> None:
    assert main(["--check"]) == 0


@requirement("pages.rollout-picture")
def test_a_picture_that_differs_is_reported_and_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / PAGE.name
    page.write_text(PAGE.read_text().replace("222222222222", "111111111111", 1))
    assert main(["--check"], page) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert main([], page) == 0
    assert page.read_text() == PAGE.read_text()


@requirement("pages.rollout-picture")
def test_a_page_without_a_place_for_the_picture_is_refused(tmp_path: Path) -> None:
    page = tmp_path / PAGE.name
    page.write_text("# Rollouts")
    with pytest.raises(ValueError, match="where the picture belongs"):
        main([], page)
