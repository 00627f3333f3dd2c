"""The guard's own eyes on the API server: list and watch of one object, so that a change arrives in milliseconds.

Freshness is proved by lists only. They are consistent reads, while a watch goes on in silence when the API server has
lost its own storage. So a watch is short, and a list follows it, more than once within the lease.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import aiohttp

from interlock_contract.clock import monotonic
from interlock_contract.strict_json import JsonInvalid, parse_json

_CONNECT_SECONDS: Final = 5.0
_REPLY_SECONDS: Final = 10.0
_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 3.0
_MAX_OBJECT: Final = 8 * 1024 * 1024
_OK: Final = 200

KubernetesObject = Mapping[str, Any]


class WatchBroken(Exception):  # noqa: N818 - says the state of a watch
    """The API server answered something that cannot be gone on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedObject:
    """The one object to watch: its collection's URL and its name."""

    collection: str
    name: str

    def url(self, **query: str | int) -> str:
        """Return the URL that selects only this object."""
        pairs = {"fieldSelector": f"metadata.name={self.name}", **query}
        return f"{self.collection}?" + "&".join(f"{key}={quote(str(value), safe='')}" for key, value in pairs.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchCallbacks:
    """Who is told: `see` gets the object, or None when there is none; `hear` the time up to which that is fresh."""

    see: Callable[[KubernetesObject | None], None]
    hear: Callable[[float], None]


class ObjectWatch:
    """Keeps one object in view for ever, through errors, expiry and silence."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        target: WatchedObject,
        sink: WatchCallbacks,
        *,
        token: Path,
        watch_seconds: int,
    ) -> None:
        self._session = session
        self._target = target
        self._sink = sink
        self._token = token
        self._watch_seconds = watch_seconds
        self._last_error = ""

    async def run(self, log: Callable[[str], None]) -> None:
        """List, watch, and again; until cancelled."""
        failures = 0
        while True:
            try:
                await self._watch(await self._list())
            except (aiohttp.ClientError, TimeoutError, OSError, WatchBroken, JsonInvalid) as error:
                failures += 1
                self._note(f"{type(error).__name__}: {error}", log)
                pause = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** min(failures, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads guards, hides nothing
            else:
                failures = 0
                self._note("", log)

    async def _list(self) -> str:
        """Read the object; return the version to watch from."""
        asked_at = monotonic()
        async with self._session.get(
            self._target.url(), headers=self._headers(), timeout=_timeout(_REPLY_SECONDS), allow_redirects=False
        ) as response:
            if response.status != _OK:
                raise WatchBroken(f"list of {self._target.name}: HTTP {response.status}")
            found = parse_json(await response.read())
        try:
            items, version = found.get("items") or [], str(found["metadata"]["resourceVersion"])
        except (AttributeError, KeyError, TypeError):
            raise WatchBroken(f"list of {self._target.name}: the answer is no list") from None
        self._sink.see(items[0] if items else None)
        self._sink.hear(asked_at)
        return version

    async def _watch(self, version: str) -> None:
        """Follow the object until the API server ends the watch."""
        url = self._target.url(
            watch=1, allowWatchBookmarks="true", resourceVersion=version, timeoutSeconds=self._watch_seconds
        )
        timeout = _timeout(self._watch_seconds + _REPLY_SECONDS)
        async with self._session.get(url, headers=self._headers(), timeout=timeout, allow_redirects=False) as response:
            if response.status != _OK:
                raise WatchBroken(f"watch of {self._target.name}: HTTP {response.status}")
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        self._take(parse_json(line))
                if len(buffer) > _MAX_OBJECT:
                    raise WatchBroken("an event is too large")

    def _take(self, event: Any) -> None:
        kind, found = event.get("type"), event.get("object")
        if kind in {"ADDED", "MODIFIED"}:
            self._sink.see(found)
        elif kind == "DELETED":
            self._sink.see(None)
        elif kind == "ERROR":
            raise WatchBroken(f"watch of {self._target.name}: {found.get('message')}")  # such as: too old

    def _headers(self) -> dict[str, str]:
        # Read each time: the kubelet replaces the token before it expires.
        return {"Authorization": f"Bearer {self._token.read_text().strip()}", "Accept": "application/json"}

    def _note(self, error: str, log: Callable[[str], None]) -> None:
        if error != self._last_error:
            log(f"watch of {self._target.name}: {error or 'working again'}")
        self._last_error = error


def _timeout(silence: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence)
