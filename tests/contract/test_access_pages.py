"""The access tables in the examples' pages are what the guard decides, and stand where there is something to say."""

import shutil
from pathlib import Path

import pytest

from tests.requirements import requirement
from tools.access.__main__ import main
from tools.access.tables import BEGIN, END, Examples, PageInvalidError

EXAMPLES = Examples(Path(__file__).parents[2] / "examples")
PAGES = list(EXAMPLES.pages())


@requirement("access.in-examples")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_table_of_a_page_is_what_decide_answers(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == EXAMPLES.rendered(page), "run `make docs` and commit the result"


def test_the_check_says_what_the_pages_are() -> None:
    assert main(["--check"]) == 0


def test_the_tables_are_where_agents_use_sources() -> None:
    with_table = {page.parent.name for page in PAGES if BEGIN in page.read_text(encoding="utf-8")}
    assert with_table == {"01-first-agent", "03-denied-tool", "05-staged-scope", "07-http-server", "12-adopt"}


@pytest.fixture
def copied(tmp_path: Path) -> Examples:
    shutil.copytree(EXAMPLES.folder, tmp_path / "examples", ignore=shutil.ignore_patterns("node_modules"))
    return Examples(tmp_path / "examples")


def test_a_policy_that_changes_makes_the_pages_drift(copied: Examples) -> None:
    page = copied.folder / "01-first-agent" / "README.md"
    policy = page.with_name("2-policy.yaml")
    policy.write_text(policy.read_text(encoding="utf-8").replace("write: [tasks]", "write: []"), encoding="utf-8")
    assert "| write | tasks | Deny: `NotGrantedByMatrix` |" in copied.rendered(page)
    assert copied.rendered(page) != page.read_text(encoding="utf-8")


def test_a_page_without_a_place_for_its_table_and_a_place_without_a_table_are_refused(copied: Examples) -> None:
    page = copied.folder / "01-first-agent" / "README.md"
    page.write_text("# Nothing\n", encoding="utf-8")
    with pytest.raises(PageInvalidError, match="write these two lines"):
        copied.rendered(page)
    other = copied.folder / "02-refused-without-owner" / "README.md"
    other.write_text(f"{BEGIN}\n{END}\n", encoding="utf-8")
    with pytest.raises(PageInvalidError, match="remove its table"):
        copied.rendered(other)
