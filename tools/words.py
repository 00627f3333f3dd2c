"""`python -m tools.words`: the check that docs, docstrings, comments and messages use the project's words.

Readers know the words of Kubernetes and of MCP. A word that only this project uses, or that few people speak, costs
each of them time, so the check refuses it and names the replacement. The terms are in docs/reference/glossary.md.
"""

import ast
import io
import re
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from typing_extensions import override

ROOT: Final = Path(__file__).parents[1]

WORDS: Final[Mapping[str, str]] = {
    r"anew": "again, or: create a new ...",
    r"mend(s|ed|ing)?": "fix",
    r"whoever": "anyone who ..., or name the person: the user, the operator, the owner",
    r"demand(s|ed|ing)?": "require",
    r"no\s+more(?!\s+than)": "no longer",
    r"nobody": "no one, or name what does not happen",
    r"anybody": "anyone, or name the person",
    r"somebody": "someone, or name the person",
    r"beside": "next to, in addition to, after",
    r"owed|owes?": "pending",
    r"undercuts?|undercutting": "is below, violates",
    r"greet(s|ed|ing|ings)?": "initialize",
}
"""Words refused in docs, docstrings, comments and messages: a pattern of the whole word, with what to write instead."""

IDENTIFIERS: Final[Mapping[str, str]] = {
    "anew": "again",
    "asides": "control_requests",
    "attestation": "selftest_report",
    "attestor": "reporter",
    "catalogue": "list_cache",
    "climb": "traverse",
    "climbs": "traverse",
    "continuity": "chain_verifier",
    "crosscheck": "watch_lag",
    "doubt": "unverified_reason",
    "era": "protocol version",
    "eras": "protocol versions",
    "fold": "normalize",
    "garbage": "gc",
    "greet": "initialize",
    "greeting": "initialize",
    "handshake": "session_based",
    "hole": "gap",
    "intake": "ingest",
    "interests": "subscriptions",
    "keeper": "store_executor",
    "look": "reconcile, or: check",
    "mend": "fix",
    "news": "event",
    "owe": "pending",
    "patiently": "retry_until_available",
    "primaries": "resources",
    "proof": "selftest",
    "prove": "run_selftest",
    "quiet": "null",
    "selfproof": "selftest",
    "sentences": "messages",
    "sight": "snapshot",
    "standing": "summary",
    "stateless": "sessionless",
    "surroundings": "context",
    "toolguess": "operation_heuristics",
    "undercut": "violation",
    "undercuts": "violations",
    "world": "snapshot",
}
"""Coined parts of names of modules, classes and functions, with the standard word."""

CLEAN: Final = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "crds",
    "docs",
    "examples",
    "manifests",
    "operator",
    "tests",
    "tools",
)
"""Files and folders in which the words hold. A folder joins once it is clean."""

CHECKED: Final = ("**/*.md", "**/*.py", "**/*.yaml")
PRODUCT: Final = "operator"
TESTS: Final = "tests"
"""The folder whose messages are not read: they hold data, such as a user `nobody`. Docstrings and comments are."""

WORD_LIST: Final = Path("tools/words.py")
"""This module, whose strings name the refused words."""

_PATTERNS: Final = {re.compile(rf"\b(?:{word})\b", re.IGNORECASE): better for word, better in WORDS.items()}
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@dataclass(frozen=True, order=True)
class Offender:
    """One place that the check refuses, with what to write instead."""

    path: Path
    line: int
    message: str

    @override
    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


def main(root: Path = ROOT, clean: Iterable[str] = CLEAN) -> int:
    """Write all offenders to stderr; return 1 if there are any."""
    offenders = sorted(find_offenders(root, clean))
    sys.stderr.writelines(f"{offender}\n" for offender in offenders)
    return 1 if offenders else 0


def find_offenders(root: Path, clean: Iterable[str] = CLEAN) -> Iterator[Offender]:
    """Yield every refused word, coined identifier and doubled public class name below a folder."""
    for path in _files(root, clean):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(root)
        if path.suffix == ".py":
            tree = ast.parse(text)
            yield from _refused_words(name, _comments(text))
            yield from _coined_names(name, tree)
            if name.parts[0] == TESTS:
                yield from _refused_words(name, _docstrings(tree))
            elif name != WORD_LIST:
                yield from _refused_words(name, _strings(tree))
        else:
            yield from _refused_words(name, [(1, text)])
    yield from _doubled_classes(root)


def _files(root: Path, clean: Iterable[str]) -> Iterator[Path]:
    for entry in clean:
        path = root / entry
        found = [path] if path.is_file() else (file for pattern in CHECKED for file in path.glob(pattern))
        yield from (file for file in found if "__pycache__" not in file.parts)


def _strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield docstrings and other string literals, f-strings included, with the line that each begins in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def _docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield each string that is a statement, with the line that it begins in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield from _strings(node)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Yield each comment of a Python file with its line; the lines of one comment are one text.

    A phrase may be broken over two lines of a comment, as in `# the server lists it no` and `# more`.
    """
    lines: list[str] = []
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, comment = token.start[0], token.string.lstrip("#")
        if lines and line != last + 1:
            yield last - len(lines) + 1, "\n".join(lines)
            lines = []
        lines.append(comment)
        last = line
    if lines:
        yield last - len(lines) + 1, "\n".join(lines)


def _refused_words(path: Path, texts: Iterable[tuple[int, str]]) -> Iterator[Offender]:
    for first_line, text in texts:
        for pattern, better in _PATTERNS.items():
            for match in pattern.finditer(text):
                line = first_line + text.count("\n", 0, match.start())
                word = " ".join(match[0].split())
                yield Offender(path, line, f'"{word}" is not a word of this project: write {better}')


def _coined_names(path: Path, tree: ast.AST) -> Iterator[Offender]:
    names = [(1, path.stem)]
    names += [
        (node.lineno, node.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    for line, name in names:
        for part in dict.fromkeys(part.lower() for part in _PARTS.findall(name)):
            if part in IDENTIFIERS:
                yield Offender(path, line, f'"{part}" in the name {name} is coined: write {IDENTIFIERS[part]}')


def _doubled_classes(root: Path) -> Iterator[Offender]:
    """Yield each public class of the product whose name another module has too."""
    found: dict[str, list[tuple[Path, int]]] = defaultdict(list)
    for path in _files(root, [PRODUCT]):
        if path.suffix != ".py":
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append((path.relative_to(root), node.lineno))
    for name, places in found.items():
        for path, line in places if len(places) > 1 else []:
            others = ", ".join(str(other) for other, _ in places if other != path) or "this module"
            yield Offender(path, line, f"class {name} is also in {others}: one public name has one meaning, rename it")


if __name__ == "__main__":
    sys.exit(main())
