"""Parsing of metadata that anyone may have written, with bounds on memory and depth.

Of all parts of an object's metadata only `managedFields` can be large and deep: it mirrors every field of the spec. No
reader of metadata alone needs it, so it is cut out of the text before the text is parsed.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_contract.names import GROUP

_KEY: Final = b'"managedFields":['
"""A key as the API server writes it. Inside a string its quotes would be escaped, so that this is always a key."""
_TO_BRACKET: Final = re.compile(rb'(?:[^"\[\]]++|"(?:[^"\\]++|\\.)*+")*+([\[\]])', re.DOTALL)
"""Everything up to the next bracket outside of strings, and the bracket."""


def parse_metadata(data: bytes) -> Any:
    """Parse JSON whose `managedFields` are not needed: they are empty in the result.

    Raises:
        ValueError: The text is no JSON.
    """
    return json.loads(drop_managed_fields(data))


def drop_managed_fields(data: bytes) -> bytes:
    """Return the JSON text with every list `managedFields` empty.

    An example: `{"managedFields":[{"fieldsV1":{"f:x":[]}}],"name":"a"}` becomes `{"managedFields":[],"name":"a"}`.
    """
    return replace_managed_fields(data, lambda _items: b"")


def replace_managed_fields(data: bytes, shorten: Callable[[bytes], bytes]) -> bytes:
    """Return the JSON text with other items in every list `managedFields`.

    Args:
        data: The text.
        shorten: Returns the text of the items that replaces theirs; both are without the brackets of the list.
    """
    kept: list[bytes] = []
    at = 0
    while (found := data.find(_KEY, at)) >= 0:
        begin = found + len(_KEY)
        end = _end_of_list(data, begin)
        if end is None:  # the text ends in the middle: the parser says so
            break
        kept += (data[at:begin], shorten(data[begin:end]))
        at = end
    kept.append(data[at:])
    return b"".join(kept)


def _end_of_list(data: bytes, begin: int) -> int | None:
    """Return where the bracket is that ends a list whose first item begins here."""
    depth, at = 1, begin
    while (match := _TO_BRACKET.match(data, at)) is not None:
        depth += 1 if match[1] == b"[" else -1
        if depth == 0:
            return match.start(1)
        at = match.end()
    return None


def own_annotations(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the annotations of ours, with keys such as `interlock.dev/x` and `selftest.interlock.dev/x`."""
    return {
        name: value
        for name, value in (metadata.get("annotations") or {}).items()
        if f".{name}".partition("/")[0].endswith(f".{GROUP}")
    }
