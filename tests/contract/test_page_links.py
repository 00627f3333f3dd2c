"""The pages lead where they say: links and their anchors, paths of the repository, targets of the Makefile."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND_PATH = re.compile(r"(?<![\w./-])(?:examples|manifests|docs|tools/cluster|crds|images)/[\w./-]*\w")
TARGET = re.compile(r"`make ([a-z][a-z-]+)`|^\$ make ([a-z][a-z-]+)", re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield each link of a page to a file or heading that does not exist."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            yield f"{page.relative_to(root)}: {link}"


def dead_paths(page: Path, root: Path = ROOT) -> Iterator[str]:
    """Yield each path of the repository that a console or code span names and that does not exist."""
    text = page.read_text(encoding="utf-8")
    code = re.findall(r"^\$ .*$|`[^`\n]+`", text, flags=re.MULTILINE)
    for path in (path for span in code for path in COMMAND_PATH.findall(span)):
        if not (root / path).exists():
            yield f"{page.relative_to(root)}: {path}"


def test_every_link_leads_to_a_file_and_heading() -> None:
    assert [link for page in PAGES for link in dead_links(page)] == []


def test_every_path_in_a_command_exists() -> None:
    assert [path for page in PAGES for path in dead_paths(page)] == []


def test_every_make_target_of_the_pages_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {"".join(found) for page in PAGES for found in TARGET.findall(page.read_text(encoding="utf-8"))}
    assert named >= {"demo", "test"}
    assert named - targets == set()


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Kill an agent\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#kill-an-agent) [c](#here) [d](https://example.com/gone) "
        "[e](gone.md) [f](other.md#gone) [g](other.md#no-heading) [h](#gone)\n"
    )
    dead = ["gone.md", "other.md#gone", "other.md#no-heading", "#gone"]
    assert list(dead_links(page, tmp_path)) == [f"page.md: {link}" for link in dead]


def test_a_dead_path_is_found(tmp_path: Path) -> None:
    (tmp_path / "examples" / "here").mkdir(parents=True)
    page = tmp_path / "page.md"
    page.write_text(
        "Read `examples/here/` and `docs/gone.md`, and not/examples/other.\n"
        "$ kubectl apply -f examples/gone/ -f examples/here/\nno code: examples/nowhere\n"
    )
    assert sorted(dead_paths(page, tmp_path)) == ["page.md: docs/gone.md", "page.md: examples/gone"]
