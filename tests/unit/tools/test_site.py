"""The source of the site of the pages, and the check of what Sphinx makes of it."""

from pathlib import Path

import pytest

from tests.requirements import requirement
from tools.site.__main__ import ROOT, build
from tools.site.check import faults_of
from tools.site.source import INDEX, Source, pages_of, read_sections

DIAGRAM = "```mermaid\nflowchart LR\n  a[one<br>two] --> b\n```\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with two sections, an example, and links to a file and a folder without a page."""
    files = {
        "README.md": "# Product\n\n[Docs](docs/) and [the guide](docs/how-to/guide.md#use-it)\n",
        "docs/README.md": "# Docs\n\n## Learn\n\n* [Guide](how-to/guide.md)\n* [Examples](../examples/README.md)\n\n"
        "## Contribute\n\n* [Rules](../RULES.md), after the [guide](how-to/guide.md)\n",
        "docs/how-to/guide.md": f'# Guide\n\n{DIAGRAM}\n## Use it\n\n1. Write:\n\n   ```yaml title="a/b.yaml"\n'
        "   - [c](gone.md)\n   ```\n\nSee [all](../../manifests/all), [one](../../manifests/all/one.yaml).\n",
        "RULES.md": "# Rules\n\n[Out](https://example.com/a.md) [down](#rules)\n",
        "examples/README.md": "# Examples\n\n[first](01-first)\n",
        "examples/01-first/README.md": "# First\n\n[back](../../README.md)\n",
        "manifests/all/one.yaml": "a: 1\n",
        "manifests/all/two.yaml": "b: 2\n",
    }
    for name, text in files.items():
        (tmp_path / "repository" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "repository" / name).write_text(text)
    return tmp_path / "repository"


@pytest.fixture
def source(repository: Path, tmp_path: Path) -> Path:
    Source(repository, tmp_path / "source").write()
    return tmp_path / "source"


@requirement("pages.site")
def test_the_index_has_each_page_of_the_repository_once() -> None:
    sections = read_sections(ROOT)
    assert {one.title for one in sections} >= {"Learn", "Install and operate", "Contribute"}
    assert all(section.pages for section in sections)


@requirement("pages.site")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("None yet.\n", "no link to RULES.md"),
        ("* [R](../RULES.md)\n* [A](../RULES.md)\n", "RULES.md more than once"),
    ],
)
def test_an_index_that_lacks_a_page_or_has_it_twice_is_refused(repository: Path, text: str, message: str) -> None:
    index = repository / INDEX
    index.write_text(f"{index.read_text().partition('## Contribute')[0]}## Rest\n\n{text}")
    with pytest.raises(ValueError, match=message):
        read_sections(repository)


@requirement("pages.site")
def test_links_lead_to_documents_and_to_copies_of_files(source: Path) -> None:
    home = (source / "index.md").read_text()
    assert "[Docs](docs/index.md) and [the guide](docs/how-to/guide.md#use-it)" in home
    guide = (source / "docs/how-to/guide.md").read_text()
    assert "[all](../../manifests/all/index.md), [one](../../manifests/all/one.yaml)" in guide
    assert "[two.yaml](two.yaml)" in (source / "manifests/all/index.md").read_text()
    assert (source / "manifests/all/two.yaml").read_text() == "b: 2\n"
    assert "[Out](https://example.com/a.md) [down](#rules)" in (source / "RULES.md").read_text()
    assert "[back](../../index.md)" in (source / "examples/01-first/index.md").read_text()


@requirement("pages.site")
def test_the_navigation_has_the_sections_and_contributors_apart(source: Path) -> None:
    home = (source / "index.md").read_text()
    users, _, contributors = home.partition(":caption: For contributors")
    assert "docs/section-learn\n" in users
    assert "docs/section-contribute\n" in contributors
    assert "how-to/guide\n../examples/index\n" in (source / "docs/section-learn.md").read_text()
    assert "\n../RULES\n" in (source / "docs/section-contribute.md").read_text()
    assert "\n01-first/index\n" in (source / "examples/index.md").read_text()


def test_code_is_kept_and_gets_its_title(source: Path) -> None:
    guide = (source / "docs/how-to/guide.md").read_text()
    assert "   ```{code-block} yaml\n   :caption: a/b.yaml\n\n   - [c](gone.md)\n   ```\n" in guide


def test_a_diagram_is_drawn_by_the_library_of_the_site(source: Path) -> None:
    guide = (source / "docs/how-to/guide.md").read_text()
    assert '<pre class="mermaid">\nflowchart LR\n  a[one&lt;br&gt;two] --&gt; b\n</pre>' in guide
    assert '<script src="../../_static/mermaid.min.js"></script>' in guide
    assert "mermaid" not in (source / "RULES.md").read_text()


@requirement("pages.site")
def test_dead_links_and_what_is_loaded_from_elsewhere_are_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link rel="stylesheet" href="https://fonts.example.com/f.css"><link rel="search" href="a.html">'
        '<script src="//cdn.example.com/m.js"></script><img src="gone.png"><h1 id="here"></h1>'
        '<a href="#here"></a><a href="#gone"></a><a href="b.html#there"></a><a href="b.html#gone"></a>'
        '<a href="gone.html"></a><a href="https://example.com"></a><a href="folder/"></a>'
    )
    (tmp_path / "b.html").write_text('<p id="there">')
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/index.html").write_text("")
    (tmp_path / "s.css").write_text("a{b:url('local.woff')} @import 'https://fonts.example.com/g.css'; c{d:url(//x/y)}")
    assert list(faults_of(tmp_path)) == [
        "a.html: #gone leads to no heading",
        "a.html: b.html#gone leads to no heading",
        "a.html: gone.html leads to no file",
        "a.html: https://fonts.example.com/f.css is loaded from elsewhere",
        "a.html: //cdn.example.com/m.js is loaded from elsewhere",
        "a.html: gone.png leads to no file",
        "s.css: https://fonts.example.com/g.css is loaded from elsewhere",
        "s.css: //x/y is loaded from elsewhere",
    ]


@pytest.mark.nightly
@requirement("pages.site")
def test_the_site_is_built_without_a_warning_and_has_each_page(tmp_path: Path) -> None:
    """The library for diagrams is not needed to build it, so no registry is asked."""
    library = tmp_path / "mermaid.js"
    library.write_text("// not the library")
    assert build(ROOT, tmp_path / "site", library) == []
    for page in pages_of(ROOT):
        name = page.with_name("index.md") if page.name == "README.md" else page
        assert (tmp_path / "site" / name.with_suffix(".html")).is_file(), page
    assert (tmp_path / "site" / "searchindex.js").stat().st_size > 100_000
