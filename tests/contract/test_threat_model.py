"""The threat model names, for each threat, a test that exists and is run."""

import re
from pathlib import Path

from tests.support.page_tests import fault_of_test

ROOT = Path(__file__).parents[2]
WITHOUT = "## Without the admission policies"
PAGE, BARE_PAGE = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8").split(WITHOUT)
TESTS, BARE_TESTS = (ROOT / "docs" / "contributing" / "threat-tests.md").read_text(encoding="utf-8").split(WITHOUT)
THREAT = re.compile(r"\| ([^|]+) \| ([^|]+) \|")
ATTACK = re.compile(r"\| ([^|]+) \| prevented[^|]* \| (?:prevented|healed within 10 s|not prevented)[^|]* \|")
ROW = re.compile(r"\| ([^|]+) \| `tests/([\w/]+\.py::test_\w+)` \|")


def rows_of(page: str) -> list[str]:
    return [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith(("| threat", "| attack"))
    ]


ROWS = rows_of(TESTS)


def fault_of(row: str) -> str:
    """Return what is wrong with a row, an empty string if nothing is."""
    found = ROW.fullmatch(row)
    if not found:
        return "write: | threat | `tests/path.py::test_name` |"
    return fault_of_test(found[2])


def test_every_threat_has_an_invariant_and_a_test_that_exists() -> None:
    threats = [found and found[1] for found in map(THREAT.fullmatch, rows_of(PAGE))]
    assert threats == [row.split(" | ")[0].removeprefix("| ") for row in ROWS]
    assert [f"{row}: {fault}" for row in ROWS if (fault := fault_of(row))] == []


def test_every_attack_without_the_admission_policies_has_an_outcome_and_a_test_that_exists() -> None:
    attacks = [found and found[1] for found in map(ATTACK.fullmatch, rows_of(BARE_PAGE))]
    assert len(attacks) > 10
    assert attacks == [row.split(" | ")[0].removeprefix("| ") for row in rows_of(BARE_TESTS)]
    assert [f"{row}: {fault}" for row in rows_of(BARE_TESTS) if (fault := fault_of(row))] == []


def test_a_row_without_a_test_that_exists_is_found() -> None:
    path = "tests/contract/test_threat_model.py"
    assert "write: " in fault_of("| a threat | an invariant |")
    assert fault_of("| a | `tests/conftest.py::test_a` |") == "pytest collects no file tests/conftest.py"
    assert fault_of("| a | `tests/test_gone.py::test_a` |") == "pytest collects no file tests/test_gone.py"
    assert fault_of(f"| a | `{path}::test_gone` |") == f"{path} has no test_gone"


def test_every_boundary_of_the_picture_has_a_table() -> None:
    drawn = re.findall(r'"(\d): ', PAGE)
    assert sorted(drawn) == re.findall(r"^## (\d)\. ", PAGE, re.MULTILINE)
    assert len(ROWS) >= 40
    assert len({row.rpartition("::")[2] for row in ROWS}) == len(ROWS), "one test, one threat"
