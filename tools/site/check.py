"""The check of the built site: every link leads to a page and heading, and nothing is loaded from elsewhere."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

_LOADED_BY_CSS = re.compile(r"""(?:url\(\s*['"]?|@import\s+['"])\s*((?:https?:)?//[^'")\s]+)""")
_LINK_TAG_LOADS = frozenset(
    {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch"}
)


@dataclass
class _Page(HTMLParser):
    """What one page has.

    Attributes:
        ids: The targets of anchors.
        links: Where it leads.
        loads: What a browser loads for it.
    """

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and _LINK_TAG_LOADS & set(found.get("rel", "").split()):
            self.loads.append(found.get("href", ""))
        elif tag in {"script", "img", "iframe", "source", "video", "audio", "object", "embed"}:
            self.loads.extend(found[name] for name in ("src", "data", "srcset") if found.get(name))


def faults_of(site: Path) -> Iterator[str]:
    """Yield what is wrong with a built site: dead links, missing files, and what is loaded from elsewhere."""

    @cache
    def page_at(path: Path) -> _Page:
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        return page

    for path in sorted(site.rglob("*.html")):
        name, page = path.relative_to(site), page_at(path)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{name}: {link} is loaded from elsewhere"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{name}: {link} leads to no file"
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in page_at(target).ids:
                yield f"{name}: {link} leads to no heading"
    for path in sorted(site.rglob("*.css")):
        for url in _LOADED_BY_CSS.findall(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: {url} is loaded from elsewhere"
