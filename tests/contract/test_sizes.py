from pathlib import Path

from tests.requirements import requirement

ROOT = Path(__file__).parents[2]
LONGEST_MODULE = 500
LONGEST_TEST_MODULE = 700  # rows of a table are cheap to read
FOLDERS = ("operator", "tools", "examples", "tests", "benchmarks")


@requirement("code.sizes")
def test_no_module_is_too_long() -> None:
    """Ruff has a rule for arguments, statements and branches, but none for lines of a module."""
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts]
    assert len(modules) > 100
    too_long = []
    for path in modules:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > (LONGEST_TEST_MODULE if path.is_relative_to(ROOT / "tests") else LONGEST_MODULE):
            too_long.append(f"{path.relative_to(ROOT)}: {lines} lines")
    assert too_long == []
