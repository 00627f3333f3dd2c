"""The values that a task names of the dimensions of scopes, in headers or in its JSON body. No I/O.

The agent must read the same values in a request as its guard. A request in which it could read others is refused: a
header that is there twice, that a server could take for the declared one, or that `Connection` removes on the way, and
a body that only lenient parsers accept.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from multidict import CIMultiDictProxy

from interlock_contract.bundle import BundleTaskScope
from interlock_contract.json_pointer import resolve_pointer
from interlock_guard.tasks.headers import normalize_name
from interlock_guard.tasks.refusals import TaskRefused, malformed

MAX_VALUES: Final = 64
"""Values of one dimension that a task may name."""
MAX_VALUE: Final = 256
"""Longest value in characters: a value of a scope has 63."""

Values = Mapping[str, Sequence[str]]
"""By dimension; a dimension of which a task names no value is missing."""


def has_pointers(declared: Iterable[BundleTaskScope]) -> bool:
    """Return True if a body must be read for the values of a task."""
    return any(entry.pointer is not None for entry in declared)


def read_values(
    declared: Sequence[BundleTaskScope], headers: CIMultiDictProxy[str], body: Any
) -> dict[str, tuple[str, ...]]:
    """Return the values that a task names.

    Args:
        declared: Where tasks name them.
        headers: The headers of the request.
        body: The body as strict JSON; None where it is none or was not read.

    Raises:
        TaskRefused: The agent could read other values.
    """
    if not declared:
        return {}
    _check_names({entry.header.lower() for entry in declared if entry.header is not None}, headers)
    named = {
        entry.dimension: _read_header(entry.header, headers)
        if entry.header is not None
        else _read_pointer(entry.pointer or "", body)
        for entry in declared
    }
    return {dimension: values for dimension, values in named.items() if values}


def check_body(body: bytes, *, is_json: bool) -> None:
    """Refuse a body that is no strict JSON, but that an agent could read as JSON all the same.

    Args:
        body: The whole body.
        is_json: Whether its media type says that it is JSON.

    Raises:
        TaskRefused: It is such a body.
    """
    try:
        is_lenient = isinstance(json.loads(body), dict | list)
    except (ValueError, RecursionError):
        is_lenient = False
    if is_json or is_lenient:
        raise TaskRefused(malformed("The body is not strict JSON, so the values that it names cannot be told."))


def _check_names(declared: set[str], headers: CIMultiDictProxy[str]) -> None:
    for name in headers:
        lower = name.lower()
        if lower not in declared and normalize_name(lower) in declared:
            raise TaskRefused(malformed(f"The header {name} could be taken for one that names values of the task."))
    removed = {word.strip().lower() for value in headers.getall("Connection", ()) for word in value.split(",")}
    if not declared.isdisjoint(removed):
        raise TaskRefused(malformed("The header Connection names a header that names values of the task."))


def _read_header(name: str, headers: CIMultiDictProxy[str]) -> tuple[str, ...]:
    found = headers.getall(name, ())
    if len(found) > 1:
        raise TaskRefused(malformed(f"The header {name} is there twice: write several values with commas."))
    if not found:
        return ()
    values = [one.strip(" \t") for one in found[0].split(",")]
    if not all(one and one.isascii() and one.isprintable() for one in values):
        raise TaskRefused(malformed(f"The header {name} must have values of printable ASCII, separated by commas."))
    return _checked(values, f"header {name}")


def _read_pointer(pointer: str, body: Any) -> tuple[str, ...]:
    if isinstance(body, list) and any(isinstance(item, dict) and "jsonrpc" in item for item in body):
        raise TaskRefused(
            malformed("Several messages of JSON-RPC in one body are not passed on: send them one by one.")
        )
    found = resolve_pointer(body, pointer)
    if found is None or found == []:
        return ()
    values = found if isinstance(found, list) else [found]
    if not all(isinstance(one, str) and one for one in values):
        raise TaskRefused(malformed(f"The body must have a text or a list of texts at {pointer}."))
    return _checked(values, f"body at {pointer}")


def _checked(values: list[str], where: str) -> tuple[str, ...]:
    if len(values) > MAX_VALUES or any(len(one) > MAX_VALUE for one in values):
        what = f"at most {MAX_VALUES} values of at most {MAX_VALUE} characters"
        raise TaskRefused(malformed(f"A task names {what} in its {where}."))
    return tuple(dict.fromkeys(values))
