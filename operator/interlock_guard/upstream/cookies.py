"""The cookies of one connection to an MCP server, which load balancers set to send a session to the same backend.

A cookie is treated as a session id is: it goes back to the URL of the binding that it came from, and nowhere else,
until the next connection begins. So its attributes `Domain`, `Path` and `Secure` decide nothing. The header `Cookie` of
a binding takes the place of all of them.
"""

import re
from collections.abc import Iterable
from typing import Final

MAX_COOKIES: Final = 16
MAX_TOTAL: Final = 4 * 1024
"""Bytes of all names and values of one connection."""
_PAIR: Final = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x21-\x3a\x3c-\x7e]*)\s*\Z")
_OVER: Final = re.compile(r"max-age\s*=\s*(0+|-\d+)\s*\Z|expires\s*=.*\b19\d\d\b", re.IGNORECASE)


class Cookies:
    """The cookies of one connection, by name."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def clear(self) -> None:
        """Forget all of them."""
        self._values.clear()

    def take(self, lines: Iterable[str]) -> None:
        """Take what the lines of `Set-Cookie` of one answer set and delete; what is beyond a bound is ignored."""
        for line in lines:
            pair, *attributes = line.split(";")
            match = _PAIR.match(pair)
            if match is None:
                continue
            name, value = match.groups()
            earlier = self._values.pop(name, None)
            if any(_OVER.match(one.strip()) for one in attributes):
                continue
            size = sum(len(one) + len(self._values[one]) for one in self._values) + len(name) + len(value)
            if size <= MAX_TOTAL and len(self._values) < MAX_COOKIES:
                self._values[name] = value
            elif earlier is not None:
                self._values[name] = earlier

    def headers(self) -> dict[str, str]:
        """Return the header for the next request, if there are any."""
        line = "; ".join(f"{name}={value}" for name, value in self._values.items())
        return {"Cookie": line} if line else {}
