"""The members that a body for a model may have, at every depth. Pure.

The types of the official SDKs say which members an endpoint has. `sdk_members` has them as generated text, one line for
each *place*: an object at some position of a body. A word of a line is a member:

    role             a member whose value is no object
    content:7        a member whose objects are those of place 7, in a list or not
    schema*          a member in which anything may be, such as a JSON schema
    =image_url       a value that the member `type` may have at this place; without one it may have any
    =                the member `type` may be null at this place

An object that no place describes could have a gateway in front of the provider use other models or tools of its own.

A provider loads images and files that a body names by URL. Such a URL is a way out of the cluster, and, for a provider
in the cluster, a way to other services there. Contents in the body itself pass, and URLs on hosts that are allowed:

    "image_url": {"url": "data:image/png;base64,AAAA"}            passes
    "image_url": {"url": "https://images.example.com/a.png"}      passes if images.example.com is allowed
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from interlock_guard.decision import sdk_members
from interlock_guard.decision.model_rules import SIDES

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_SHOWN: Final = 64
_NESTED: Final = (list, dict)
_ANYTHING: Final = -1
_NO_OBJECT: Final = -2
_URL_MEMBER: Final = re.compile(r"[a-z]+_url\Z")
_URL_PARENTS: Final = frozenset({"outputs", "source"})
"""Members whose objects have a `url` that a provider loads, next to those that end with `_url`."""
_CONTENT_MEMBERS: Final = frozenset({"file_data", "file_id"})
"""Members that are Base64 or an id, for which some gateways take a URL, too. Neither has a colon, and each URL has."""
_CONTENT_URL: Final = re.compile(r"https://([A-Za-z0-9.-]+)([/?][!$-;=?-\[\]_a-z~]*)?\Z")
"""A URL that no two readers take for different hosts: without user, port and fragment."""
ANY_HOST: Final = "*"


@dataclass(frozen=True, slots=True)
class _Place:
    """The members of an object, each with the number of the place below it; and what its `type` may be."""

    members: Mapping[str, int]
    kinds: frozenset[str | None]


def _read(line: str) -> _Place:
    members: dict[str, int] = {}
    kinds: set[str | None] = set()
    for word in line.split():
        name, _, number = word.partition(":")
        if word.startswith("="):
            kinds.add(word[1:] or None)
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


class RefusedMember(NamedTuple):
    """A member that may not pass, such as `messages[0].route`.

    Attributes:
        path: Where it is in the body.
        why: `Unknown`: no official SDK has it there. `Hosted`: it is a tool that the provider carries out.
            `Side`: it is a tool that either side may execute, and does not say that the agent does.
            `Remote`: the provider would load its content from a host that is not allowed.
    """

    path: str
    why: Literal["Unknown", "Hosted", "Side", "Remote"]


class _Additions(NamedTuple):
    """What passes in addition to members of the SDKs, see `find_refused_member`."""

    members: frozenset[str]
    hosts: frozenset[str]


def find_refused_member(
    endpoint: str, body: Mapping[str, Any], *, extra: frozenset[str], hosts: frozenset[str]
) -> RefusedMember | None:
    """Return the first member that may not pass, or None.

    Args:
        endpoint: The path that is posted to, one of `ENDPOINTS`.
        body: The body, as strict JSON gave it: not deeper than 64.
        extra: Names of members, and values of `type`, that pass too where no SDK has them. Of such a member only its
            URL is checked.
        hosts: Hosts from which the provider may load content, `ANY_HOST` for all of them.
    """
    found = _find(body, "", _PLACES[sdk_members.ENDPOINTS[endpoint]], _Additions(extra, hosts))
    return None if found is None else found._replace(path=found.path.removeprefix("."))


def quote_name(name: str) -> str:
    """Return a name that a caller chose as a message shows it: as it is, or quoted and cut."""
    return name if _PLAIN_NAME.match(name) else json.dumps(name[:_SHOWN])


def _find(value: Any, parent: str, place: _Place, added: _Additions) -> RefusedMember | None:
    """Return the refused member in an object, or in the objects of a list, that is the value of `parent`."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, _NESTED) and (found := _find(item, parent, place, added)) is not None:
                return found._replace(path=f"[{index}]{found.path}")
    elif isinstance(value, dict):
        if not _is_executed_by_the_agent(value, place):
            return RefusedMember("", "Side")
        for name, item in value.items():
            found = _check(name, item, parent, place, added)
            if found is not None:
                return found._replace(path=f".{name if found.path else quote_name(name)}{found.path}")
    return None


def _is_executed_by_the_agent(tool: Mapping[str, Any], place: _Place) -> bool:
    """Return False for a tool that either side may execute, and that does not say that the agent does.

    A choice of a tool has the tool's type, too. The place of a choice has no member that says who executes it.
    """
    kind = tool.get("type")
    name, wanted = SIDES.get(kind, ("", "")) if isinstance(kind, str) else ("", "")
    if name not in place.members:
        return True
    side = tool.get(name)
    if name == "environment":
        side = side.get("type") if isinstance(side, dict) else None
    return bool(side == wanted)


def _check(name: str, value: Any, parent: str, place: _Place, added: _Additions) -> RefusedMember | None:
    """Return the refused member, with its path below this one."""
    kind: str | None = None
    if name == "type":
        kind = value if value is None or isinstance(value, str) else ""
        if kind in _HOSTED:
            return RefusedMember(f" {kind}", "Hosted")
    if _is_remote(name, value, parent, added.hosts):
        return RefusedMember("", "Remote")
    below = place.members.get(name)
    if below is None:
        if name not in added.members:
            return RefusedMember("", "Unknown")
        own = value.get("url") if isinstance(value, dict) else None  # such as that of `video_url`
        return RefusedMember(".url", "Remote") if _is_remote("url", own, name, added.hosts) else None
    found = None
    if name == "type" and place.kinds and kind not in place.kinds and kind not in added.members:
        found = RefusedMember(f" {quote_name('null' if kind is None else kind)}", "Unknown")
    elif below != _ANYTHING and isinstance(value, _NESTED):
        found = _find(value, name, _EMPTY if below == _NO_OBJECT else _PLACES[below], added)
    return found


def _is_remote(name: str, value: Any, parent: str, hosts: frozenset[str]) -> bool:
    """Return True if the provider would load the value of a member from a host that is not allowed."""
    is_url = name.endswith("url") and (
        _URL_MEMBER.match(name) or (name == "url" and (parent in _URL_PARENTS or _URL_MEMBER.match(parent)))
    )
    is_content = name in _CONTENT_MEMBERS or (name == "data" and parent == "input_audio")
    return bool(is_url or is_content) and any(
        (is_url or ":" in text) and not text.startswith("data:") and not _is_on(text, hosts) for text in _texts(value)
    )


def _is_on(url: str, hosts: frozenset[str]) -> bool:
    """Return True if a URL is on one of the hosts, for every reader of URLs."""
    found = _CONTENT_URL.match(url)
    return found is not None and (ANY_HOST in hosts or found[1].lower() in hosts)


def _texts(value: Any) -> Iterator[str]:
    """Yield a text, or the texts of a list at every depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
