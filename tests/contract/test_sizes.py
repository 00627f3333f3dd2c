import ast
from collections.abc import Iterator
from pathlib import Path

from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
LONGEST_FUNCTION = 50
LONGEST_MODULE = 500
LONGEST_TEST_MODULE = 700  # rows of a table are cheap to read
MOST_PARAMETERS = 5
FOLDERS = ("operator", "tools", "examples", "tests", "benchmarks")
MODULES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not {"node_modules", "__pycache__"} & set(path.parts)
)
PRODUCT = [path for path in MODULES if path.is_relative_to(ROOT / "operator")]

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(source: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            yield node


def length_of(function: Function) -> int:
    """Return the function's lines from its `def` on, its docstring left out."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def parameters_of(function: Function) -> list[str]:
    arguments = function.args
    named = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in named if name not in ("self", "cls")]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def too_long(path: Path) -> Iterator[str]:
    """Yield the module and each function of it that is longer than it may be."""
    source = path.read_text(encoding="utf-8")
    longest = LONGEST_TEST_MODULE if path.is_relative_to(ROOT / "tests") else LONGEST_MODULE
    if (lines := len(source.splitlines())) > longest:
        yield f"{relative(path)}: {lines} lines"
    for found in functions_of(source):
        if length_of(found) > LONGEST_FUNCTION:
            yield f"{relative(path)}: {found.name}: {length_of(found)} lines"


@requirement("code.sizes")
def test_no_function_and_no_module_is_too_long() -> None:
    assert [fault for path in MODULES for fault in too_long(path)] == []


def test_no_function_of_the_product_takes_too_many_parameters() -> None:
    functions = [(path, one) for path in PRODUCT for one in functions_of(path.read_text(encoding="utf-8"))]
    many = [(path, one) for path, one in functions if len(parameters_of(one)) > MOST_PARAMETERS]
    assert [f"{relative(path)}: {one.name}" for path, one in many] == []


def test_a_docstring_does_not_count_and_everything_else_does() -> None:
    source = 'def one():\n    """Say\n\n    much.\n    """\n    return (\n        1\n    )\n'

    assert [length_of(found) for found in functions_of(source)] == [4]
