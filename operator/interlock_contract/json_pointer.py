"""JSON pointers (RFC 6901) into a call's arguments: bindings, policies and the guard read them alike. No I/O.

A token is an index of an array only where RFC 6901, section 4 says so: without leading zeros. Longer digits than a
list can have elements count as the name of a member.
"""

import re
from typing import Any, Final

POINTER: Final = r"^(/([^~/]|~0|~1)*)+$"
"""A pointer, for RE2 and Python, without the empty one: no rule is about all arguments at once."""

_INDEX: Final = re.compile(r"(0|[1-9][0-9]{0,9})\Z", re.ASCII)


def split_pointer(pointer: str) -> list[str]:
    """Return the tokens of a pointer, unescaped: `/a~1b/0` is `["a/b", "0"]`."""
    # `~1` first: `~01` stands for the text `~1`, not for a slash.
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def parse_index(token: str) -> int | None:
    """Return the index that a token is in an array, or None if it is none."""
    return int(token) if _INDEX.match(token) is not None else None


def resolve_pointer(value: Any, pointer: str) -> Any:
    """Return what a JSON pointer points at; None where it points at nothing, as for null.

    Args:
        value: A JSON value.
        pointer: A pointer such as `/filter/regions/0`.
    """
    for token in split_pointer(pointer):
        if isinstance(value, dict):
            value = value.get(token)
        elif isinstance(value, list) and (index := parse_index(token)) is not None and index < len(value):
            value = value[index]
        else:
            return None
    return value
