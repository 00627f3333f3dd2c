"""Pages for contributors name modules that exist, and the page on the architecture has all packages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock_contract.mcp import SESSION_REQUESTS, SESSIONLESS_REQUESTS

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "operator"
PAGE = ROOT / "docs/explanation/architecture.md"
PAGES = (PAGE, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/contributing").glob("*.md")))
METHODS = SESSION_REQUESTS | SESSIONLESS_REQUESTS
"""They look like paths, such as `tools/call`."""
LISTED = re.compile(r"`(interlock\w*)`: ([^;|`]+)")
PATH = re.compile(r"`([a-z_]+(?:/[a-z_]+)+(?:\.py)?)`")
PACKAGE = re.compile(r"^\| `(interlock\w*)` \|", re.MULTILINE)


def exists(base: Path, name: str) -> bool:
    """Return True if a base has a package or file, or a module of that name."""
    return (base / name).exists() or (base / f"{name}.py").exists()


def missing_in_lists(text: str) -> Iterator[str]:
    """Yield what lists of a package's modules name, and what does not exist."""
    for package, listed in LISTED.findall(text):
        for name in (one.strip() for one in listed.split(",")):
            if not exists(OPERATOR / package, name):
                yield f"{package}/{name}"


def missing_in_spans(text: str) -> Iterator[str]:
    """Yield the paths in code that exist neither in the repository nor in the operator or the guard."""
    bases = (ROOT, OPERATOR, OPERATOR / "interlock", OPERATOR / "interlock_guard")
    named = (path for path in PATH.findall(text) if path not in METHODS)
    return (path for path in named if not any(exists(base, path) for base in bases))


def test_every_module_of_the_ways_through_the_code_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert sum(len(listed.split(",")) for _, listed in LISTED.findall(text)) > 50
    assert list(missing_in_lists(text)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_for_contributors_names_exists(page: Path) -> None:
    assert list(missing_in_spans(page.read_text(encoding="utf-8"))) == []


def test_the_page_has_all_packages_and_no_other() -> None:
    packages = {path.parent.name for path in OPERATOR.glob("*/__init__.py")}
    assert set(PACKAGE.findall(PAGE.read_text(encoding="utf-8"))) == packages


def test_a_module_that_does_not_exist_is_found() -> None:
    row = "| way | `interlock`: runtime/router, runtime/gone; `interlock_kube`: watch, lost |"
    assert list(missing_in_lists(row)) == ["interlock/runtime/gone", "interlock_kube/lost"]
    assert list(missing_in_spans("see `tools/call`, `budget/gone.py` and `budget/worst_case.py`")) == ["budget/gone.py"]
