"""Tests that a page of the documentation names: do they exist, and does pytest collect them?"""

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parents[1]


@cache
def _functions_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def fault_of_test(name: str) -> str:
    """Return what is wrong with the name of a test, an empty string if nothing is.

    Args:
        name: `path.py::test_name`; the path begins below `tests/`.
    """
    file, _, function = name.partition("::")
    path = TESTS / file
    if not path.is_file() or not path.name.startswith("test_"):
        return f"pytest collects no file tests/{file}"
    return "" if function in _functions_in(path) else f"tests/{file} has no {function}"
