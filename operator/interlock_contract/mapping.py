"""Which entry of a binding's map speaks of a tool, a prompt or a resource.

A written name beats a glob, and of several globs the first one written wins. A glob is never wider than it looks: what
a server could take for something else than the guard does (other capitals, an escaped character, a path traversal)
falls under no glob at all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from interlock_contract.bundle import BundleResource, BundleTool, Operation
from interlock_contract.patterns import CLIMBING, MAX_SUBJECT, Matcher, compile_name, compile_uri

_PLAIN_NAME: Final = re.compile(r"[!-~]{1,128}\Z")
_PLAIN_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[!-\[\]-z|~]+\Z")
_HIDDEN: Final = re.compile(r"%(2e|2f|5c|25|7f|[01][0-9a-f])|%(?![0-9a-f]{2})", re.IGNORECASE)
"""Escapes that say a dot, a slash, a backslash, another escape or nothing printable, and what is no escape."""
_CLIMBING: Final = re.compile(CLIMBING)
_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([A-Za-z0-9_.%,:*]+)\}")
"""One expression of a URI template (RFC 6570)."""

Entry = TypeVar("Entry", BundleTool, BundleResource)
Fold = Callable[[str], str]


def find_named(entries: Sequence[Entry], name: str | None) -> Entry | None:
    """Return the entry for a tool or a prompt of this name, None where the map has none."""
    if name is None:
        return None
    written = _find_written(entries, name, _same, is_name_glob)
    if written is not None or _PLAIN_NAME.match(name) is None or traverses_up(name):
        return written
    return _agreed(entries, (name,), is_name_glob, compile_name)


def find_resource(entries: Sequence[BundleResource], uri: str | None) -> BundleResource | None:
    """Return the entry for a resource of this URI, None where the map has none."""
    if uri is None or len(uri) > MAX_SUBJECT:
        return None
    written = _find_written(entries, uri, _same, is_uri_glob)
    if written is not None or _PLAIN_URI.match(uri) is None or traverses_up(uri) or _HIDDEN.search(uri) is not None:
        return written
    return _agreed(entries, (uri, unquote(uri)), is_uri_glob, compile_uri)


def find_template(entries: Sequence[BundleResource], template: str | None) -> BundleResource | None:
    """Return the entry for what a URI template stands for, or for a URI: that of the template with `x` for each value.

    Resources are read by their URIs, and those are looked up one by one; this only says which entry a template that is
    shown, or completed, falls under.
    """
    if template is None or len(template) > MAX_SUBJECT:
        return None
    return find_resource(entries, _EXPRESSION.sub(_expand, template))


def is_name_glob(text: str) -> bool:
    """Say whether a name of the map is a glob."""
    return "*" in text or "?" in text


def is_uri_glob(text: str) -> bool:
    """Say whether a URI of the map is a glob; `?` begins a query in it."""
    return "*" in text


def traverses_up(path: str) -> bool:
    """Say whether a segment of the path is `.` or `..`, between slashes of either kind."""
    return _CLIMBING.search(path) is not None


def _same(text: str) -> str:
    return text


def _find_written(entries: Sequence[Entry], key: str, fold: Fold, is_glob: Callable[[str], bool]) -> Entry | None:
    return next((entry for entry in entries if fold(entry.key) == key and not is_glob(entry.key)), None)


def _agreed(
    entries: Sequence[Entry],
    readings: tuple[str, ...],
    is_glob: Callable[[str], bool],
    compiled: Callable[[str], Matcher],
) -> Entry | None:
    """Return the entry that every reading falls under, in whatever capitals; None where they differ."""
    found: list[Entry | None] = []
    for fold in (_same, str.lower):
        for reading in readings:
            key = fold(reading)
            written = _find_written(entries, key, fold, is_glob)
            globs = (entry for entry in entries if is_glob(entry.key) and compiled(fold(entry.key)).matches(key))
            found.append(written or next(globs, None))
    return found[0] if all(entry is found[0] for entry in found) else None


def _expand(expression: re.Match[str]) -> str:
    """Return an expression with `x` for each value, in the form of its operator (RFC 6570, section 3.2)."""
    operator, names = expression.groups()
    count = names.count(",") + 1
    if operator in ("?", "&", ";"):
        pairs = [f"{name.rstrip('*').partition(':')[0]}=x" for name in names.split(",")]
        return operator + (";" if operator == ";" else "&").join(pairs)
    if operator in (".", "/"):
        return f"{operator}x" * count
    return ("#" if operator == "#" else "") + ",".join("x" * count)


_RANKS: Final[tuple[Operation, ...]] = ("read", "write", "delete")


def tightened_operation(mapped: Operation, annotations: Mapping[str, Any] | None) -> Operation:
    """Return the operation that must be granted besides the mapped one, or the mapped one itself.

    MCP's defaults (no hint: not read-only, destructive) would make a delete of every tool without annotations, so only
    what the server says explicitly counts: `readOnlyHint: false` is a write at least, and `destructiveHint: true` a
    delete, unless the tool is called read-only, in which case MCP gives the hint no meaning. A hint that is neither
    true, false nor null says nothing that can be relied on and counts as the worse.

    Args:
        mapped: The operation that the binding maps the tool to.
        annotations: The tool's `annotations` as the server lists them, None where it lists none.
    """
    if annotations is None:
        return mapped
    read_only, destructive = annotations.get("readOnlyHint"), annotations.get("destructiveHint")
    hinted: Operation = "read"
    if read_only is not None and read_only is not True:
        hinted = "write"
    if destructive is not None and destructive is not False and read_only is not True:
        hinted = "delete"
    return max(mapped, hinted, key=_RANKS.index)
