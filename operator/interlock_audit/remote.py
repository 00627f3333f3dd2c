"""A collector read over HTTP, as a verifier may read it."""

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from interlock_audit.stores import ChainState, Stored, StoreUnavailable

_TIMEOUT_SECONDS: Final = 60

Shape = TypeVar("Shape", ChainState, Stored)


class Remote:
    """The records behind an address, with a bearer token from a file.

    Raises:
        StoreUnavailable: Here and in each method: the collector cannot be read, or answers something else.
    """

    def __init__(self, url: str, token: Path | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise StoreUnavailable(f"{url} is not a URL of http or https")
        self._url = url.rstrip("/")
        try:
            self._token = "" if token is None else token.read_text().strip()
        except OSError as error:
            raise StoreUnavailable(f"{token}: {error.strerror}") from None

    def chains(self, namespace: str = "") -> list[ChainState]:
        """Return what the collector notes of chains; see `Readable`."""
        return [_shape(ChainState, one) for one in self._get("chains", {"namespace": namespace})]

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on; see `Readable`."""
        query = {"guard": guard, "start": str(start), "limit": str(limit)}
        return [_shape(Stored, one) for one in self._get("lines", query)]

    def _get(self, what: str, query: Mapping[str, str]) -> list[Any]:
        url = f"{self._url}/v1/{what}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - see __init__
                found = json.load(response)[what]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreUnavailable(f"{url}: {error}") from None
        if not isinstance(found, list):
            raise StoreUnavailable(f"{url} answers no list")
        return found


def _shape(shape: type[Shape], value: Any) -> Shape:
    """Return an answer's object as what it must be, every member of its type."""
    wanted = {field.name: field.type for field in fields(shape)}
    if not isinstance(value, dict) or {name: type(one) for name, one in value.items()} != wanted:
        raise StoreUnavailable(f"the collector's answer is no list of {shape.__name__}")
    return shape(**value)
