import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import REQUIREMENTS, requirement

TESTS = Path(__file__).parents[1]


def marks_in(source: str) -> Iterator[str]:
    """Yield every promise that a test, or a class of tests, says it verifies."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.lower().startswith("test"):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func).rpartition(".")[2] == "requirement":
                yield from (argument.value for argument in mark.args if isinstance(argument, ast.Constant))


def all_marks() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" not in path.parts:
            for name in marks_in(path.read_text(encoding="utf-8")):
                found.setdefault(name, []).append(str(path.relative_to(TESTS)))
    return found


@pytest.fixture(scope="module")
def marks() -> dict[str, list[str]]:
    return all_marks()


def test_every_promise_has_a_test(marks: dict[str, list[str]]) -> None:
    without = {name: promised for name, promised in REQUIREMENTS.items() if name not in marks}
    assert [f"@requirement({name!r}) ({one.where}): {one.sentence}" for name, one in without.items()] == []


def test_every_mark_names_a_promise(marks: dict[str, list[str]]) -> None:
    assert {name: where for name, where in marks.items() if name not in REQUIREMENTS} == {}


def test_every_promise_is_one_short_sentence() -> None:
    for name, promised in REQUIREMENTS.items():
        assert promised.sentence.strip(), name
        assert len(promised.sentence) <= 120, name
        assert not promised.sentence.endswith("."), name


def test_marks_are_read_from_functions_and_classes_and_from_nothing_else() -> None:
    source = """
@requirement("one", "two")
async def test_something(): ...

@requirements.requirement("three")
class TestMore: ...

@requirement("four")
def a_builder(): ...
"""
    assert list(marks_in(source)) == ["one", "two", "three"]


def test_a_mark_for_an_unknown_promise_is_refused_at_once() -> None:
    with pytest.raises(LookupError, match=r"no kill\.sometimes"):
        requirement("kill.sometimes")
