"""docs/contributing/flaky.md: each test that needed a second try, and none that needed one twice."""

import re
from collections import Counter
from pathlib import Path

from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "contributing" / "flaky.md"
ROW = re.compile(r"^\| (?P<date>[^|]*) \| `(?P<test>[^|]*)` \| (?P<bound>[^|]+) \| (?P<repair>[^|]*?) ?\|$")


def faults_in(page: str) -> list[str]:
    """Return what is wrong with the table."""
    head, _, table = page.partition("|---|---|---|---|\n")
    rows = [(line, ROW.match(line)) for line in table.splitlines() if line.strip()]
    found = [f"no row of the table: {line}" for line, row in rows if row is None or not _is_dated(row)]
    if not head.rstrip().endswith("| date | test | missed bound | repaired by |"):
        found.append("there is no table")
    open_entries = Counter(row["test"] for _, row in rows if row and not row["repair"].strip())
    return found + [f"{test} was listed before: repair it" for test, count in open_entries.items() if count > 1]


def _is_dated(row: re.Match[str]) -> bool:
    return re.fullmatch(r"\d{4}-\d{2}-\d{2}", row["date"]) is not None


@requirement("tests.second-try")
def test_every_entry_is_dated_and_no_test_has_two_that_nothing_repaired() -> None:
    assert faults_in(PAGE.read_text(encoding="utf-8")) == []


def test_a_second_entry_needs_a_repair() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("|---|---|---|---|\n")[0] + "|---|---|---|---|\n"
    one = "| 2026-01-02 | `tests/e2e/test_kill.py::test_a` | no container runs: 16 s, promised are 5 s |  |\n"
    other = one.replace("test_a", "test_b")

    assert faults_in(page + one + other) == []
    assert faults_in(page + one + one) == ["tests/e2e/test_kill.py::test_a was listed before: repair it"]
    assert faults_in(page + one.replace("|  |", "| waits for the node |") + one) == []
    assert faults_in(page + "| yesterday | `tests/a.py::b` | late |  |\n") == [
        "no row of the table: | yesterday | `tests/a.py::b` | late |  |"
    ]
    assert faults_in("# Flaky tests\n") == ["there is no table"]
