"""The members that a body for a model may have, at every depth. Pure.

The types of the official SDKs say which members an endpoint has. `sdk_members` has them as generated text, one line for
each *place*: an object at some position of a body. A word of a line is a member:

    role             a member whose value is no object
    content:7        a member whose objects are those of place 7, in a list or not
    schema*          a member in which anything may be, such as a JSON schema
    =image_url       a value that the member `type` may have at this place; without one it may have any

An object that no place describes could have a gateway in front of the provider use other models or tools of its own.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from interlock_guard.decision import sdk_members

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SHOWN: Final = 64
_NESTED: Final = (list, dict)
_ANYTHING: Final = -1
_NO_OBJECT: Final = -2


@dataclass(frozen=True, slots=True)
class _Place:
    """The members of an object, each with the number of the place below it; and what its `type` may be."""

    members: Mapping[str, int]
    kinds: frozenset[str]


def _read(line: str) -> _Place:
    members: dict[str, int] = {}
    kinds: set[str] = set()
    for word in line.split():
        name, _, number = word.partition(":")
        if word.startswith("="):
            kinds.add(word[1:])
        elif word.endswith("*"):
            members[word[:-1]] = _ANYTHING
        else:
            members[name] = int(number) if number else _NO_OBJECT
    return _Place(members, frozenset(kinds))


_PLACES: Final = tuple(_read(line) for line in sdk_members.PLACES)
_EMPTY: Final = _Place({}, frozenset())
BETAS: Final = frozenset(sdk_members.BETAS.split())
"""Values of the header `anthropic-beta` that pass."""
_HOSTED: Final = frozenset(sdk_members.HOSTED_TOOLS.split())
"""Types of tools that providers carry out themselves. A body may define tools in messages, too."""


class UnknownMember(NamedTuple):
    """A member that no official SDK has there, such as `messages[0].route`, or a tool that the provider carries out."""

    path: str
    is_hosted: bool


def find_unknown_member(endpoint: str, body: Mapping[str, Any], extra: frozenset[str]) -> UnknownMember | None:
    """Return the first member that may not pass, or None.

    Args:
        endpoint: The path that is posted to, one of `ENDPOINTS`.
        body: The body, as strict JSON gave it: not deeper than 64.
        extra: Names of members, and values of `type`, that pass too. The content of such a member is not checked.
    """
    found = _find(body, _PLACES[sdk_members.ENDPOINTS[endpoint]], extra)
    return None if found is None else found._replace(path=found.path.removeprefix("."))


def quote_name(name: str) -> str:
    """Return a name that a caller chose as a message shows it: as it is, or quoted and cut."""
    return name if _PLAIN_NAME.match(name) else json.dumps(name[:_SHOWN])


def _find(value: Any, place: _Place, extra: frozenset[str]) -> UnknownMember | None:
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, _NESTED) and (found := _find(item, place, extra)) is not None:
                return found._replace(path=f"[{index}]{found.path}")
    elif isinstance(value, dict):
        for name, item in value.items():
            found = _check(name, item, place, extra)
            if found is not None:
                return found._replace(path=f".{name if found.path else quote_name(name)}{found.path}")
    return None


def _check(name: str, value: Any, place: _Place, extra: frozenset[str]) -> UnknownMember | None:
    """Return the unknown member, with its path below this one."""
    kind = value if isinstance(value, str) else ""
    if name == "type" and kind in _HOSTED:
        return UnknownMember(f" {kind}", is_hosted=True)
    if name in extra:
        return None
    below = place.members.get(name)
    if below is None:
        return UnknownMember("", is_hosted=False)
    if name == "type" and place.kinds and kind not in place.kinds and kind not in extra:
        return UnknownMember(f" {quote_name(kind)}", is_hosted=False)
    if below == _ANYTHING or not isinstance(value, _NESTED):
        return None
    return _find(value, _EMPTY if below == _NO_OBJECT else _PLACES[below], extra)
