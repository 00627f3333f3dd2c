"""The page of standards has each requirement once, with a test that exists where Interlock claims to keep it."""

import re
from pathlib import Path

import pytest

from tests.support.page_tests import fault_of_test

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "standards.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| ([^|]+) \| (held|in part|not held|elsewhere)([^|]*) \|(?: `([^|`]+)` |) *\|")
SECTIONS_OF_AISVS = {
    "9": (5, 6, 6, 4, 5, 6, 5, 6),
    "10": (2, 7, 5, 7),
}
"""The chapters' sections, and how many requirements each has."""


def rows() -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| requirement")]


def fault_of(row: str) -> str:
    """Return what is wrong with a row, an empty string if nothing is."""
    found = ROW.fullmatch(row)
    if found is None:
        return "write: | requirement | state and where | `path.py::test_name` |"
    state, test = found[2], found[4]
    if state in {"not held", "elsewhere"}:
        return f"{state}, and names a test" if test else ""
    if state == "in part" and not found[3].startswith(": "):
        return "says not what is missing"
    return fault_of_test(test) if test else "names no test"


def test_every_claim_names_a_test_that_exists() -> None:
    assert [f"{row}: {fault}" for row in rows() if (fault := fault_of(row))] == []
    assert len(rows()) >= 80


def test_a_row_with_a_fault_is_found() -> None:
    assert fault_of("| a | maybe | |").startswith("write: ")
    assert fault_of("| a | held | |") == "names no test"
    assert fault_of("| a | in part | `contract/test_standards.py::test_a` |") == "says not what is missing"
    assert fault_of("| a | not held | `contract/test_standards.py::test_a` |") == "not held, and names a test"
    assert "has no test_a" in fault_of("| a | held | `contract/test_standards.py::test_a` |")
    assert fault_of("| a | elsewhere: with its reason | |") == ""


@pytest.mark.parametrize("chapter", SECTIONS_OF_AISVS)
def test_every_requirement_of_a_chapter_has_one_row(chapter: str) -> None:
    expected = [
        f"{chapter}.{section}.{number}"
        for section, count in enumerate(SECTIONS_OF_AISVS[chapter], start=1)
        for number in range(1, count + 1)
    ]
    assert re.findall(rf"^\| ({chapter}\.\d\.\d) ", PAGE, re.MULTILINE) == expected
