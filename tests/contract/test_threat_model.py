"""The threat model names, for each threat, a test that exists and is run."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "threat-model.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| threat")]
ROW = re.compile(r"\| ([^|]+) \| ([^|]+) \| `(tests/[\w/]+\.py)::(test_\w+)` \|")


@cache
def functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:60])
def test_every_threat_has_an_invariant_and_a_test_that_exists(row: str) -> None:
    found = ROW.fullmatch(row)
    assert found, "write: | threat | invariant | `tests/path.py::test_name` |"
    path = ROOT / found[3]
    assert path.is_file()
    assert path.name.startswith("test_"), "pytest does not collect this file"
    assert found[4] in functions_in(path)


def test_every_boundary_of_the_picture_has_a_table() -> None:
    drawn = re.findall(r'"(\d): ', PAGE)
    assert sorted(drawn) == re.findall(r"^## (\d)\. ", PAGE, re.MULTILINE)
    assert len(ROWS) >= 40
    assert len({row.rpartition("::")[2] for row in ROWS}) == len(ROWS), "one test, one threat"
