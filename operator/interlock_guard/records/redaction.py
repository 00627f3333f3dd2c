"""What of a call's arguments may stand in its record. No I/O."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

REDACTED: Final = "[redacted]"
"""What stands in place of a value that the policy hides."""

_INDEX: Final = re.compile(r"(0|[1-9][0-9]{0,9})\Z")


def redact(arguments: Mapping[str, Any], pointers: Sequence[str]) -> dict[str, Any]:
    """Return the arguments without the values that the pointers name.

    Where a pointer cannot be followed to its end (a text or a list stands where it expects an object) the value at
    which it gets stuck is left out whole: what is to be hidden may be anywhere in it. A member that is not there hides
    nothing.

    Args:
        arguments: The arguments of a call; they are not changed.
        pointers: RFC 6901 pointers, each with at least one part.
    """
    result: Any = arguments
    for pointer in pointers:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        result = _hide(result, parts)
    return result if isinstance(result, dict) else dict(result)


def _hide(value: Any, parts: Sequence[str]) -> Any:
    """Return the value with a copy of everything on the way to what is hidden."""
    if not parts:
        return REDACTED
    if isinstance(value, Mapping):
        return {**value, parts[0]: _hide(value[parts[0]], parts[1:])} if parts[0] in value else value
    if isinstance(value, list) and _INDEX.match(parts[0]):
        index = int(parts[0])
        if index >= len(value):
            return value
        return [*value[:index], _hide(value[index], parts[1:]), *value[index + 1 :]]
    return value if value is None else REDACTED
