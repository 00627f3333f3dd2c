"""The guard's own cursors for lists: a client never sees a server's cursor, and never makes one up.

Many servers write the last name of a page into its cursor, so a cursor would name what the guard hides. A client's own
text would also reach the server in the place of a cursor. The guard therefore gives out random texts and remembers
which cursor each of them is for.
"""

import secrets
from collections import OrderedDict
from typing import Final, NamedTuple

MAX_CURSORS: Final = 512
"""Cursors that are remembered at once. Beyond it the oldest is forgotten, and a client that uses it is refused."""
MAX_LENGTH: Final = 4096
"""Characters of a server's cursor."""
_BYTES: Final = 24


class CursorOwner(NamedTuple):
    """The list of one client that a cursor belongs to.

    Attributes:
        source: Name of the source.
        method: The method of the list.
        session: Id of the client's session; None without one.
    """

    source: str
    method: str
    session: str | None


class Cursors:
    """The cursors of all lists that clients may still continue."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, tuple[CursorOwner, str]] = OrderedDict()

    def give(self, owner: CursorOwner, cursor: str) -> str:
        """Return the text that a client gets in place of a server's cursor."""
        text = secrets.token_urlsafe(_BYTES)
        self._given[text] = owner, cursor
        if len(self._given) > MAX_CURSORS:
            self._given.popitem(last=False)
        return text

    def find(self, owner: CursorOwner, text: str) -> str | None:
        """Return the server's cursor that a client means; None where the guard gave this list no such text."""
        given = self._given.get(text)
        return given[1] if given is not None and given[0] == owner else None
