"""Which entry of a binding's map speaks of a tool, a prompt or a resource.

A written name beats a glob, and of several globs the first one written wins. A glob is never wider than it looks: what
a server could take for something else than the guard does (other capitals, an escaped character, a path traversal)
falls under no glob at all.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from interlock_contract.bundle import BundleResource, BundleTool, Operation
from interlock_contract.paths import interpretations, traverses_up
from interlock_contract.patterns import MAX_SUBJECT, Matcher, compile_names, compile_uris

_PLAIN_NAME: Final = re.compile(r"[!-~]{1,128}\Z")
_PLAIN_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[!-\[\]-z|~]+\Z")
_HIDDEN: Final = re.compile(r"%(2e|2f|5c|25|7f|[01][0-9a-f])|%(?![0-9a-f]{2})", re.IGNORECASE)
"""Escapes that say a dot, a slash, a backslash, another escape or nothing printable, and what is no escape."""
_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([A-Za-z0-9_.%,:*]+)\}")
"""One expression of a URI template (RFC 6570)."""
_RESERVED: Final = ":/?#[]@!$&'()*+,;="
"""Characters that stay as they are where a value is put into a URI: servers differ in which of them they escape."""

Entry = TypeVar("Entry", BundleTool, BundleResource)
Fold = Callable[[str], str]


def find_named(entries: Sequence[Entry], name: str | None) -> Entry | None:
    """Return the entry for a tool or a prompt of this name, None where the map has none."""
    if name is None:
        return None
    index = _index_of(entries, is_name_glob, compile_names)
    written = index.written.get(name)
    if written is not None or _PLAIN_NAME.match(name) is None or traverses_up(name):
        return written
    return index.find_agreed((name,))


def find_resource(entries: Sequence[BundleResource], uri: str | None) -> BundleResource | None:
    """Return the entry for a resource of this URI, None where the map has none."""
    if uri is None or len(uri) > MAX_SUBJECT:
        return None
    index = _index_of(entries, is_uri_glob, compile_uris)
    written = index.written.get(uri)
    if written is not None or _PLAIN_URI.match(uri) is None or traverses_up(uri) or _HIDDEN.search(uri) is not None:
        return written
    return index.find_agreed(tuple(interpretations(uri)))


def find_template(
    entries: Sequence[BundleResource], template: str | None, values: Mapping[str, str] | None = None
) -> BundleResource | None:
    """Return the entry for what a URI template stands for, or for a URI: that of the template with `x` for each value.

    Resources are read by their URIs, and those are looked up one by one; this only says which entry a template that is
    shown, or completed, falls under.

    Args:
        entries: The map's entries of resources.
        template: The template.
        values: The values of variables that a client has typed so far. A server that completes `../` may tell what is
            there, so the URI with these values must fall under the same entry. An empty value counts as `x`.
    """
    if template is None or len(template) > MAX_SUBJECT:
        return None
    entry = find_resource(entries, _EXPRESSION.sub(partial(_expand, {}), template))
    if not values:
        return entry
    named = {_name(one) for found in _EXPRESSION.finditer(template) for one in found[2].split(",")}
    if not named.issuperset(values) or sum(map(len, values.values())) > MAX_SUBJECT:
        return None
    typed = {name: quote(value, safe=_RESERVED) for name, value in values.items() if value}
    return entry if find_resource(entries, _EXPRESSION.sub(partial(_expand, typed), template)) is entry else None


def is_name_glob(text: str) -> bool:
    """Say whether a name of the map is a glob."""
    return "*" in text or "?" in text


def is_uri_glob(text: str) -> bool:
    """Say whether a URI of the map is a glob; `?` begins a query in it."""
    return "*" in text


Compile = Callable[[Iterable[str]], Matcher]


class _Spelling(Generic[Entry]):
    """The entries of one map in one spelling: the written ones by key, and all globs in one matcher."""

    def __init__(self, written: Sequence[Entry], globs: Sequence[Entry], compiled: Compile, fold: Fold) -> None:
        self.written: dict[str, Entry] = {}
        for entry in written:
            self.written.setdefault(fold(entry.key), entry)
        self._globs: Sequence[Entry] = globs
        self._compiled, self._fold = compiled, fold
        self._matcher: Matcher | None = None  # made at the first lookup that needs it

    def find(self, key: str) -> Entry | None:
        written = self.written.get(key)
        if written is not None or not self._globs:
            return written
        if self._matcher is None:
            self._matcher = self._compiled(self._fold(entry.key) for entry in self._globs)
        number = self._matcher.first_match(key)
        return None if number is None else self._globs[number]


class _MapIndex(Generic[Entry]):
    """The entries of one map, prepared for lookups; made once for each map.

    A list of a server may have 20 000 items and a map 256 globs, so no lookup goes through the globs one by one.
    """

    def __init__(self, entries: Sequence[Entry], is_glob: Callable[[str], bool], compiled: Compile) -> None:
        self.entries: Sequence[Entry] = entries
        globs = [entry for entry in entries if is_glob(entry.key)]
        written = [entry for entry in entries if not is_glob(entry.key)]
        self._same: _Spelling[Entry] = _Spelling(written, globs, compiled, _same)
        self._lower: _Spelling[Entry] = _Spelling(written, globs, compiled, str.lower)
        self.written: Mapping[str, Entry] = self._same.written

    def find_agreed(self, readings: tuple[str, ...]) -> Entry | None:
        """Return the entry that every reading falls under, in whatever capitals; None where they differ."""
        first = self._same.find(readings[0])
        if first is None:
            return None
        others = [*(self._same.find(one) for one in readings[1:]), *(self._lower.find(one.lower()) for one in readings)]
        return first if all(entry is first for entry in others) else None


_MAX_INDEXES: Final = 128
_indexes: Final[OrderedDict[tuple[int, bool], _MapIndex[Any]]] = OrderedDict()
"""Indexes of the maps that were looked up last. Maps are immutable. An index keeps its map, so no other has its id."""


def _index_of(entries: Sequence[Entry], is_glob: Callable[[str], bool], compiled: Compile) -> _MapIndex[Entry]:
    if not isinstance(entries, tuple):
        return _MapIndex(entries, is_glob, compiled)
    key = id(entries), is_glob is is_uri_glob
    index = _indexes.get(key)
    if index is None:
        index = _indexes[key] = _MapIndex(entries, is_glob, compiled)
        if len(_indexes) > _MAX_INDEXES:
            _indexes.popitem(last=False)
    return index


def _same(text: str) -> str:
    return text


def _name(variable: str) -> str:
    """Return the name of a variable of an expression, without its modifier: of `path*` and `path:3`, `path`."""
    return variable.rstrip("*").partition(":")[0]


def _expand(values: Mapping[str, str], expression: re.Match[str]) -> str:
    """Return an expression with its values, `x` for others, in the form of its operator (RFC 6570, section 3.2)."""
    operator, variables = expression.groups()
    found = {name: values.get(name, "x") for name in map(_name, variables.split(","))}
    if operator in ("?", "&", ";"):
        return operator + (";" if operator == ";" else "&").join(f"{name}={value}" for name, value in found.items())
    if operator in (".", "/"):
        return "".join(f"{operator}{value}" for value in found.values())
    return ("#" if operator == "#" else "") + ",".join(found.values())


HINTS: Final = ("readOnlyHint", "destructiveHint")
"""The annotations of a tool that are decided by."""
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
    read_only, destructive = (annotations.get(hint) for hint in HINTS)
    hinted: Operation = "read"
    if read_only is not None and read_only is not True:
        hinted = "write"
    if destructive is not None and destructive is not False and read_only is not True:
        hinted = "delete"
    return max(mapped, hinted, key=_RANKS.index)
