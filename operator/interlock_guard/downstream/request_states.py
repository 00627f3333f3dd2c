"""The guard's own request states: what a sessionless client repeats a request with, after a server required input.

A sessionless server may keep nothing, so its `requestState` can hold what it is about to do. A client's own text in its
place would be an order that the guard has not decided on. The guard therefore gives out random texts, each for one
request, and remembers the server's state and which input was required.
"""

import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_guard.upstream.forward import Forward

MAX_STATES: Final = 256
"""States that are remembered at once. Beyond it the oldest is forgotten, and a client that uses it is refused."""
MAX_CHARACTERS: Final = 1024 * 1024
"""Characters of all states of servers that are remembered."""
MAX_LENGTH: Final = 256 * 1024
"""Characters of one state of a server."""
_BYTES: Final = 24


class _Request(NamedTuple):
    """What tells one request from another: all that the server gets of it but the client's input."""

    source: str
    method: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class RequiredInput:
    """What a server required for one request.

    Attributes:
        state: The server's own state; None where it gave none.
        methods: The method of each request for input, by its key.
    """

    state: str | None
    methods: Mapping[str, str]


class RequestStates:
    """The requests that clients may still repeat with the input that a server required."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, tuple[_Request, RequiredInput]] = OrderedDict()
        self._characters = 0

    def give(self, forward: Forward, required: RequiredInput) -> str:
        """Return the text that the client repeats this request with."""
        text = secrets.token_urlsafe(_BYTES)
        self._given[text] = _identify(forward), required
        self._characters += len(required.state or "")
        while len(self._given) > MAX_STATES or self._characters > MAX_CHARACTERS:
            _, (_, forgotten) = self._given.popitem(last=False)
            self._characters -= len(forgotten.state or "")
        return text

    def find(self, forward: Forward, text: str) -> RequiredInput | None:
        """Return what was required for this request; None where the guard gave no such text for it."""
        given = self._given.get(text)
        return given[1] if given is not None and given[0] == _identify(forward) else None


def _identify(forward: Forward) -> _Request:
    digest = forward.arguments_digest
    if digest is None and not forward.is_large:
        digest = digest_of(canonicalize(forward.arguments))
    name = forward.tool or forward.prompt or forward.uri or ""
    return _Request(forward.source, forward.method, name, digest or "")
