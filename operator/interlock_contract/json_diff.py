"""The differences of two JSON values as lines that people read, bounded. No I/O.

agent.template.image: "example/agent:1" -> "example/agent:2"
bindings.crm.spec.tools[get_contact].operation: "read" -> "write"
policy.dataAccess[crm].read: + "tasks"
agent.files[prompt.md].content: 812 characters (sha256 5f3a..) -> 903 characters (sha256 91bc..)
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from interlock_contract.canonical_json import canonicalize

MAX_LINES: Final = 50
MAX_LINE: Final = 300
"""Most characters of a line."""
_KEYS: Final = ("name", "source", "uri", "path", "dimension", "pointer")
"""Members that name an item of a list, the first one that all items have with different values."""
_LONG: Final = 80
_ABSENT: Final = object()


def diff_lines(before: Any, after: Any, *, max_lines: int = MAX_LINES) -> tuple[str, ...]:
    """Return the differences of two values, one a line, in ASCII.

    Args:
        before: The earlier value.
        after: The later value.
        max_lines: Most lines. The last one says how many more there are.
    """
    lines = [_cut(line) for line in _differences("", before, after)]
    if len(lines) <= max_lines:
        return tuple(lines)
    shown = lines[: max_lines - 1]
    return (*shown, f"and {len(lines) - len(shown)} more")


def _differences(path: str, before: Any, after: Any) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            yield from _differences(_join(path, name), before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_differences(path, before, after)
    elif type(before) is not type(after) or before != after:
        yield f"{path}: {_show(before)} -> {_show(after)}"


def _list_differences(path: str, before: list[Any], after: list[Any]) -> Iterator[str]:
    key = _key_of((before, after))
    if key is not None:
        old, new = ({item[key]: item for item in items} for items in (before, after))
        for name in dict.fromkeys((*old, *new)):
            yield from _differences(f"{path}[{_quote(name)[1:-1]}]", old.get(name, _ABSENT), new.get(name, _ABSENT))
        if list(old) != list(new) and old.keys() == new.keys():
            yield f"{path}: another order"
        return
    old_texts, new_texts = ([canonicalize(item) for item in items] for items in (before, after))
    gone = [item for item, text in zip(before, old_texts, strict=True) if text not in new_texts]
    added = [item for item, text in zip(after, new_texts, strict=True) if text not in old_texts]
    yield from (f"{path}: - {_show(item)}" for item in gone)
    yield from (f"{path}: + {_show(item)}" for item in added)
    if not gone and not added and old_texts != new_texts:
        yield f"{path}: another order, or another number of equal items"


def _key_of(lists: Sequence[list[Any]]) -> str | None:
    """Return the member that tells the items of both lists apart, None where there is none."""
    items = [item for one in lists for item in one]
    if not items or not all(isinstance(item, Mapping) for item in items):
        return None
    for key in _KEYS:
        if all(isinstance(item.get(key), str) for item in items):
            is_unique = all(len({item[key] for item in one}) == len(one) for one in lists)
            return key if is_unique else None
    return None


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "(none)"
    text = _quote(value)
    if len(text) <= _LONG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    what = f"{len(value)} characters" if isinstance(value, str) else f"{len(text)} characters of JSON"
    return f"{what} (sha256 {digest})"


def _quote(value: Any) -> str:
    """Return a value as JSON in ASCII, so that nothing in it is invisible or moves the cursor."""
    text = canonicalize(value)
    return "".join(one if " " <= one <= "~" else f"\\u{{{ord(one):x}}}" for one in text)


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 3] + "..."
