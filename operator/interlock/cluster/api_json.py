"""The parser of what the API server sends, with a bound on depth that no version of Python moves.

An API server stores and sends JSON of 10 000 levels: `metadata.managedFields` has as many as the user likes who writes
them. Python's own parser gives up on that, after 1 000 levels or more, with an exception that would end the watch of
all objects. Here a value that is nested too deep is replaced by null, so that the object that holds it is read without
the value, and every other object as it is.
"""

import re
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import from_json

from interlock_kube.metadata import replace_managed_fields

MAX_DEPTH: Final = 100
"""Deepest nesting that is read where a text was too deep for the parser, which takes 200 levels. Pods have about 20."""

_PLAIN: Final = rb'[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+"'
"""Anything without a bracket outside of strings."""
_FLAT: Final = rb"[\[{](?:" + _PLAIN + rb"|\[\]|\{\})*+[\]}]"
"""A list or object whose members are empty or have no members of their own."""
_TO_BRACKET: Final = re.compile(rb"(?:" + _PLAIN + rb")*+([\[\]{}])", re.DOTALL)
"""Everything up to the next bracket, and the bracket."""
_PAST_FLAT: Final = re.compile(rb"(?:" + _PLAIN + rb"|" + _FLAT + rb")*+([\[\]{}])", re.DOTALL)
"""The same past everything that is flat. Most brackets are those of flat values, and a step for each costs time."""
_FLAT_DEPTH: Final = 2
_MANAGED_DEPTH: Final = 3
"""The list, an item, and its fields."""
_MOST_MANAGED: Final = 65_536
"""Bytes of `managedFields` in one object that are read. What kubectl and the operator write in an Agent has 10 000."""


def parse_api_json(data: bytes | str) -> Any:
    """Parse an object, a list or an event of a watch.

    Raises:
        ValueError: The text is no JSON.
    """
    try:
        return from_json(data)
    except ValueError as error:
        if "recursion limit" not in str(error):
            raise
    return from_json(cut_depth(data.encode() if isinstance(data, str) else data, MAX_DEPTH))


def parse_object(data: bytes) -> Any:
    """Parse objects that users apply, of whose `managedFields` only the managers and their outermost fields are kept.

    Raises:
        ValueError: The text is no JSON.
    """
    return parse_api_json(replace_managed_fields(data, _shorten_managed_fields))


def _shorten_managed_fields(items: bytes) -> bytes:
    """Return `{"manager":"kubectl","fieldsV1":{"f:spec":null}}` for an item of any depth, nothing for long lists."""
    return cut_depth(b"[" + items + b"]", _MANAGED_DEPTH)[1:-1] if len(items) <= _MOST_MANAGED else b""


def cut_depth(data: bytes, most: int) -> bytes:
    """Return a JSON text in which each value that lies deeper than `most` lists and objects is null.

    An example for `most` 1: `{"a":[[1]],"b":2}` becomes `{"a":null,"b":2}`.
    """
    kept: list[bytes] = []
    depth = at = begin = 0
    while True:
        is_far = depth > most or depth + _FLAT_DEPTH <= most
        match = (_PAST_FLAT if is_far else _TO_BRACKET).match(data, at)
        if match is None:
            return b"".join((*kept, data[begin:]) if depth <= most else kept)
        at = match.end()
        if match[1] in b"[{":
            depth += 1
            if depth == most + 1:
                kept += (data[begin : at - 1], b"null")
        else:
            depth -= 1
            if depth == most:
                begin = at


def describe(error: ValidationError) -> str:
    """Return the first error, with its field and value."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    value = "" if first["type"] == "missing" else f" (is {first['input']!r:.80})"
    return f"{where}: {first['msg']}{value}"
