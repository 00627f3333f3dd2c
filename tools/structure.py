"""`python -m tools.structure [ROOT]`: a table of the sizes of packages below operator/, and what breaks the structure.

Listed are imports of one package from another, circular imports between modules, and public class names that exist
twice. import-linter decides which imports are allowed; this table is for people who compare two revisions.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from tools.words import ROOT

_HEADER: Final = ("package", "modules", "lines", "median module", "median function", "longest function")


def main(arguments: list[str]) -> int:
    """Print the tables; return 1 if there are circular imports or doubled public class names."""
    trees = _read(Path(arguments[0]) if arguments else ROOT / "operator")
    print(f"| {' | '.join(_HEADER)} |\n|---|{'---|' * (len(_HEADER) - 1)}")
    for package in sorted({name.split(".")[0] for name in trees}):
        print(_row(package, {name: one for name, one in trees.items() if name.split(".")[0] == package}))
    print(_row("all", trees))
    imports = {name: set(_imports(name, tree, trees)) for name, (tree, _) in trees.items()}
    crossing = Counter(
        (name.split(".")[0], other.split(".")[0])
        for name, others in imports.items()
        for other in others
        if name.split(".")[0] != other.split(".")[0]
    )
    print("\nimports between packages:")
    print("".join(f"  {one} -> {other}: {count}\n" for (one, other), count in sorted(crossing.items())), end="")
    circles = list(_circles(imports))
    print(f"circular imports: {len(circles)}")
    print("".join(f"  {' '.join(sorted(circle))}\n" for circle in circles), end="")
    classes = Counter(
        node.name
        for tree, _ in trees.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    doubled = sorted(name for name, count in classes.items() if count > 1)
    print(f"public class names that exist twice: {len(doubled)} {' '.join(doubled)}")
    return 1 if circles or doubled else 0


def _read(root: Path) -> dict[str, tuple[ast.Module, int]]:
    """Return the syntax tree and the number of lines of each module with code, by its dotted name."""
    trees = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        if path.stem != "__init__" or len(tree.body) > 1:
            trees[".".join(part for part in parts if part != "__init__")] = tree, text.count("\n")
    return trees


def _row(package: str, trees: Mapping[str, tuple[ast.Module, int]]) -> str:
    lines = [count for _, count in trees.values()]
    functions = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for tree, _ in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    sizes = (len(lines), sum(lines), median(lines), median(functions or [0]), max(functions, default=0))
    return f"| {package} | {' | '.join(f'{size:.0f}' for size in sizes)} |"


def _imports(name: str, tree: ast.Module, modules: Iterable[str]) -> Iterator[str]:
    """Yield the modules of ours that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                candidates = (f"{node.module}.{alias.name}", node.module)
                yield from [one for one in candidates if one in modules and one != name][:1]


def _circles(imports: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Yield each largest set of modules that import each other."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        found, pending = set[str](), [name]
        while pending:
            new = imports[pending.pop()] - found
            found |= new
            pending += new
        reached[name] = found
    done: set[str] = set()
    for name in imports:
        circle = {other for other in reached[name] if name in reached[other]}
        if circle and name not in done:
            done |= circle
            yield circle


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
