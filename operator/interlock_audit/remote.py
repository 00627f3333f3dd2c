"""The records of a collector, read over HTTP by a user who may read them."""

import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, TypeVar

from interlock_audit.cost_sql import TOKENS, Cost, CostPlace, CostQuery, CostStep, PartialCost
from interlock_audit.stores import ChainPage, ChainState, Stored, StoreUnavailable

_TIMEOUT_SECONDS: Final = 60
_MOST_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of one answer of a collector. Its own answers are smaller, so a longer one is cut off and no JSON."""

_OPENER: Final = urllib.request.OpenerDirector()
"""Opens URLs without a proxy of the environment, and follows no redirect, which would take the token elsewhere."""
for _handler in (
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
):
    _OPENER.add_handler(_handler())

Shape = TypeVar("Shape", ChainState, Stored)


class Remote:
    """The records of a collector, read over HTTP with a bearer token from a file.

    Raises:
        StoreUnavailable: Also from each method: the collector cannot be read, or its answer is invalid.
    """

    def __init__(self, url: str, token: Path | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise StoreUnavailable(f"{url} is not an http or https URL")
        self._url = url.rstrip("/")
        try:
            self._token = "" if token is None else token.read_text().strip()
        except OSError as error:
            raise StoreUnavailable(f"{token}: {error.strerror}") from None

    def chains(self, namespace: str = "", after: str = "") -> ChainPage:
        """Return a page of the states of chains; see `Readable`."""
        answer = self._get("chains", {"namespace": namespace, "after": after})
        following = answer.get("next")
        if following is not None and (not isinstance(following, str) or following == after):
            raise StoreUnavailable("the collector's pages of chains do not end")
        return ChainPage([_shape(ChainState, one) for one in answer["chains"]], following)

    def lines(self, guard: str, start: int, limit: int) -> list[Stored]:
        """Return records of one chain from a number on; see `Readable`."""
        query = {"guard": guard, "start": str(start), "limit": str(limit)}
        found = [_shape(Stored, one) for one in self._get("lines", query)["lines"]]
        if any(one.seq < start for one in found):
            raise StoreUnavailable("the collector's pages of lines do not end")
        return found

    def costs(self, query: CostQuery) -> CostStep:
        """Return the sums of one step; see `CostSource`."""
        asked = {
            "namespace": query.namespace,
            "agent": query.agent,
            "since": query.since,
            "until": query.until,
            "latest": query.latest,
            "groups": ",".join(query.groups),
            "after": "" if query.after is None else ",".join(map(str, query.after)),
        }
        answer = self._get("costs", asked)
        sums = [_cost(one, len(query.groups)) for one in answer["costs"]]
        following = None if answer.get("next") is None else _cost_place(answer["next"])
        if following is not None and query.after is not None and following <= query.after:
            raise StoreUnavailable("the collector's pages of costs do not end")
        return CostStep(sums, following)

    def _get(self, what: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return an answer, which has a list of `what`."""
        url = f"{self._url}/v1/{what}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310
        try:
            with _OPENER.open(request, timeout=_TIMEOUT_SECONDS) as response:
                found = json.loads(response.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            raise StoreUnavailable(f"{url}: {error}") from None
        if not isinstance(found, dict) or not isinstance(found.get(what), list):
            raise StoreUnavailable(f"{url} answered without a list")
        return found


def _shape(shape: type[Shape], value: Any) -> Shape:
    """Return an object of an answer as a dataclass, after a check of its members' types."""
    wanted = {field.name: field.type for field in fields(shape)}
    if not isinstance(value, dict) or {name: type(one) for name, one in value.items()} != wanted:
        raise StoreUnavailable(f"the collector's answer is not a list of {shape.__name__}")
    return shape(**value)


def _cost_place(value: Any) -> CostPlace:
    """Return the `next` of an answer, as the collector writes it."""
    time, guard, seq = [*str(value).split(","), "", ""][:3]
    if not (seq.isascii() and seq.isdigit()):
        raise StoreUnavailable("the collector's answer names no further page")
    return time, guard, int(seq)


def _cost(value: Any, groups: int) -> PartialCost:
    """Return a sum of an answer, after a check of its members' types."""
    known = {one.name for one in fields(Cost)}
    if not isinstance(value, dict) or value.keys() != {*known, "group"}:
        raise StoreUnavailable("the collector's answer is not a list of costs")
    group, tokens = value.pop("group"), value.pop("tokens")
    is_group = isinstance(group, list) and len(group) == groups and all(isinstance(one, str) for one in group)
    is_tokens = isinstance(tokens, list) and len(tokens) == len(TOKENS)
    if not is_group or not is_tokens or not all(type(one) is int for one in (*tokens, *value.values())):
        raise StoreUnavailable("the collector's answer is not a list of costs")
    return tuple(group), Cost(**value, tokens=tuple(tokens))
