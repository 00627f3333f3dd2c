"""The guard's watch of one object on the API server, so that a change arrives within milliseconds.

Only a list proves that the guard's knowledge is fresh: lists are consistent reads, while a watch stays open in silence
when the API server has lost its own storage. So each watch is short, and a list follows. With a lease of 30 s:

    0 s   list   -> on_object(agent), on_contact(0)
    0 s   watch  -> on_object at each change; the API server ends the watch after 20 s
    20 s  list   -> on_object(agent), on_contact(20)

If the list at 20 s gets no answer, the lease of 30 s counts from 0 s, and the guard closes at 30 s.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from interlock_contract.clock import monotonic
from interlock_kube.client import GONE, JSON, UNREACHABLE, ApiError, KubeClient

_SILENCE_SECONDS: Final = 10.0
_BACKOFF_SECONDS: Final = 0.1
_MAX_BACKOFF_SECONDS: Final = 3.0

KubernetesObject = Mapping[str, Any]


class ObjectWatch:
    """Follows one object for ever, across errors, expired versions and silence."""

    def __init__(
        self,
        client: KubeClient,
        collection: str,
        name: str,
        *,
        on_object: Callable[[KubernetesObject | None], None],
        on_contact: Callable[[float], None],
        on_failure: Callable[[], None] = lambda: None,
        watch_seconds: int,
    ) -> None:
        """Prepare the watch; `run` starts it.

        Args:
            client: Sends the requests.
            collection: Path of the object's collection.
            name: The object's name.
            on_object: Called with the object at each list and change, and with None where there is none.
            on_contact: Called at each list with the monotonic time up to which the object is fresh.
            on_failure: Called when a list or a watch failed.
            watch_seconds: How long one watch lasts.
        """
        self._client, self._collection, self._name = client, collection, name
        self._on_object, self._on_contact, self._on_failure = on_object, on_contact, on_failure
        self._watch_seconds = watch_seconds
        self._last_error = ""

    async def run(self, log: Callable[[str], None]) -> None:
        """List and watch again and again, until cancelled."""
        failures = 0
        while True:
            try:
                await self._watch(await self._list())
            except (ApiError, *UNREACHABLE, ValueError) as error:
                failures += 1
                self._on_failure()
                self._note(f"{type(error).__name__}: {error}", log)
                pause = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2 ** min(failures, 10))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads guards, hides nothing
            else:
                failures = 0
                self._note("", log)

    async def read(self) -> None:
        """Read the object once, next to the watch, and call `on_object` with it.

        Raises:
            ApiError: The API server refused. Exceptions in `UNREACHABLE` say that it did not answer.
            ValueError: The answer is no list.
        """
        await self._list()

    async def _list(self) -> str:
        """Read the object; return the version to watch from."""
        asked_at = monotonic()
        found = await self._client.get(self._collection, self._query())
        try:
            items, version = found.get("items") or [], str(found["metadata"]["resourceVersion"])
        except (AttributeError, KeyError, TypeError):
            raise ValueError("the answer is no list") from None
        self._on_object(items[0] if items else None)
        self._on_contact(asked_at)
        return version

    async def _watch(self, version: str) -> None:
        """Follow the object until the API server ends the watch."""
        query = self._query(
            watch="1", allowWatchBookmarks="true", resourceVersion=version, timeoutSeconds=str(self._watch_seconds)
        )
        silence = self._watch_seconds + _SILENCE_SECONDS
        async for event in self._client.lines(self._collection, query, accept=JSON, silence=silence):
            match event:
                case {"type": "ADDED" | "MODIFIED", "object": found}:
                    self._on_object(found)
                case {"type": "DELETED"}:
                    self._on_object(None)
                case {"type": "ERROR", "object": {"message": str(message)}}:
                    raise ApiError(GONE, message)  # such as: the version is too old
                case _:
                    pass  # a bookmark: the list that follows brings a newer version

    def _query(self, **more: str) -> dict[str, str]:
        return {"fieldSelector": f"metadata.name={self._name}", **more}

    def _note(self, error: str, log: Callable[[str], None]) -> None:
        if error != self._last_error:
            log(f"watch of {self._name}: {error or 'working again'}")
        self._last_error = error
