"""The source of the site: copies of the pages with links that Sphinx follows, and a navigation from docs/README.md."""

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import takewhile
from pathlib import Path
from posixpath import normpath, relpath
from typing import Final

INDEX: Final = Path("docs/README.md")
"""The page whose sections are the navigation."""
EXAMPLES: Final = Path("examples/README.md")
"""The page below which the navigation has each example."""
CONTRIBUTORS: Final = "Contribute"
"""The section that stands apart in the navigation."""
PAGES: Final = ("*.md", "docs/**/*.md", "examples/**/*.md")
LISTED: Final = frozenset({"__pycache__", "node_modules"})
"""Names that no listing of a folder has."""

_FENCE: Final = re.compile(r'^(?P<indent> *)(?P<mark>```+|~~~+)(?P<kind>[\w-]*)(?: title="(?P<title>[^"]+)")?\s*$')
_LINK: Final = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_MERMAID: Final = "mermaid"


@dataclass(frozen=True)
class Section:
    """A part of the navigation.

    Attributes:
        title: For readers.
        text: Its list in docs/README.md.
        pages: The pages that it links, by their paths in the repository, without those of other sections.
    """

    title: str
    text: str
    pages: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the section's own page."""
        return "section-" + re.sub(r"\W+", "-", self.title.lower())


@dataclass
class Source:
    """The source of the site in a folder.

    Attributes:
        root: The repository.
        folder: Where the source is written. It is replaced.
    """

    root: Path
    folder: Path
    _linked: set[Path] = field(default_factory=set, init=False)

    def write(self) -> None:
        """Write pages, navigation, and the files and listings of folders that pages link."""
        shutil.rmtree(self.folder, ignore_errors=True)
        sections = read_sections(self.root)
        for page in pages_of(self.root):
            text = self._translate((self.root / page).read_text(encoding="utf-8"), page)
            if page == Path("README.md"):
                text += _navigation(sections)
            elif page == EXAMPLES:
                text += _toctree(f"{one.parent.name}/index" for one in pages_of(self.root) if _is_example(one))
            self._write(page, text)
        for section in sections:
            self._write(INDEX.with_name(f"{section.name}.md"), self._section(section))
        for linked in sorted(self._linked):
            self._add(linked)

    def _section(self, section: Section) -> str:
        names = (relpath(_renamed(Path(page)).with_suffix("").as_posix(), "docs") for page in section.pages)
        return f"# {section.title}\n\n{self._translate(section.text, INDEX)}\n{_toctree(names)}"

    def _add(self, linked: Path) -> None:
        path = self.root / linked
        if path.is_file():
            (self.folder / linked).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, self.folder / linked)
            return
        files = sorted(one for one in path.iterdir() if one.is_file() and not one.name.startswith("."))
        rows = [f"* [{one.name}]({one.name})" for one in files]
        self._write(linked / "README.md", "\n".join([f"# {linked.as_posix()}", "", *rows, ""]))
        for one in files:
            self._add(one.relative_to(self.root))

    def _write(self, page: Path, text: str) -> None:
        target = self.folder / _renamed(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        head = "" if page == Path("README.md") else "---\norphan: true\n---\n\n"
        target.write_text(head + text, encoding="utf-8")

    def _translate(self, text: str, page: Path) -> str:
        """Return the text of a page for MyST."""
        has_diagram = False
        lines, parts = iter(text.splitlines()), list[str]()
        for line in lines:
            fence = _FENCE.match(line)
            if fence is None:
                parts.append(_LINK.sub(lambda found: self._target(found[1], page), line))
                continue
            body = list(takewhile(lambda one, mark=fence["mark"]: one.strip() != mark, lines))  # type: ignore[misc]
            has_diagram |= fence["kind"] == _MERMAID
            parts.extend(_block(fence, body))
        if has_diagram:
            static = relpath("_static", page.parent.as_posix())
            parts.extend(f'\n<script src="{static}/{name}"></script>' for name in ("mermaid.min.js", "diagrams.js"))
        return "\n".join([*parts, ""])

    def _target(self, link: str, page: Path) -> str:
        """Return a link as it is in the source: to a document, or to a file that is copied."""
        path, mark, anchor = link.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return link
        linked = Path(normpath((page.parent / path).as_posix()))
        if not (self.root / linked).exists():
            return link  # a text that only looks like a link: tests/contract finds dead ones
        is_page = linked.suffix == ".md" and (self.root / linked).is_file()
        if not is_page and not (self.root / linked / "README.md").is_file():
            self._linked.add(linked)
        wanted = linked / "README.md" if (self.root / linked).is_dir() else linked
        return f"{relpath(_renamed(wanted).as_posix(), page.parent.as_posix())}{mark}{anchor}"


def pages_of(root: Path) -> Iterator[Path]:
    """Yield each page of the repository, by its path in it."""
    for pattern in PAGES:
        for path in sorted(root.glob(pattern)):
            if LISTED.isdisjoint(path.parts):
                yield path.relative_to(root)


def read_sections(root: Path) -> tuple[Section, ...]:
    """Return the sections of docs/README.md, in their order.

    Raises:
        ValueError: A page is in none of them, or in two.
    """
    _, *parts = _HEADING.split((root / INDEX).read_text(encoding="utf-8"))
    pages = (page for page in pages_of(root) if page not in {INDEX, Path("README.md")} and not _is_example(page))
    known = {page.as_posix() for page in pages}
    sections = [
        Section(title, text.strip(), tuple(_pages_in(text, known)))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    ]
    placed = [page for section in sections for page in section.pages]
    if twice := sorted({page for page in placed if placed.count(page) > 1}):
        raise ValueError(f"{INDEX} has {', '.join(twice)} more than once: keep one of the links in its lists")
    if missing := sorted(known - set(placed)):
        raise ValueError(f"{INDEX} has no link to {', '.join(missing)}: add it to the list of a section")
    return tuple(sections)


def _pages_in(text: str, known: set[str]) -> Iterator[str]:
    """Yield the pages of a section: those that its bullets begin with."""
    for link in re.findall(r"^\* \[[^\]]+\]\(([^)#\s]+)\)", text, re.MULTILINE):
        path = normpath((INDEX.parent / link).as_posix())
        if path in known:
            yield path


def _is_example(page: Path) -> bool:
    return page.parent.parent == EXAMPLES.parent


def _navigation(sections: tuple[Section, ...]) -> str:
    """Return the lists of sections by which Sphinx orders the navigation."""
    captions: dict[str, list[str]] = {"For users": [], "For contributors": []}
    for section in sections:
        caption = "For contributors" if section.title == CONTRIBUTORS else "For users"
        captions[caption].append((INDEX.parent / section.name).as_posix())
    return "".join(_toctree(names, f":caption: {caption}\n") for caption, names in captions.items() if names)


def _toctree(names: Iterable[str], options: str = "") -> str:
    return f"\n```{{toctree}}\n:hidden:\n{options}\n" + "\n".join(names) + "\n```\n"


def _renamed(page: Path) -> Path:
    """Return where a page is in the source: a web server answers a folder with its index."""
    return page.with_name("index.md") if page.name == "README.md" else page


def _block(fence: re.Match[str], body: list[str]) -> Iterator[str]:
    """Yield the lines of a block of code: a diagram, one with a title, or as it is."""
    indent, kind, title = fence["indent"], fence["kind"], fence["title"]
    if kind == _MERMAID:
        yield f'{indent}<pre class="mermaid">'
        yield from (escape(line, quote=False) or " " for line in body)
        yield f"{indent}</pre>"
        return
    if title:
        yield f"{indent}{fence['mark']}{{code-block}} {kind}"
        yield f"{indent}:caption: {title}"
        yield ""
    else:
        yield f"{indent}{fence['mark']}{kind}"
    yield from body
    yield f"{indent}{fence['mark']}"
