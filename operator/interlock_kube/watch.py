"""List, then watch, for ever: the one way in which we follow a kind beside kopf.

kopf's own watches feed the handlers. What must not wait behind them (kill), what they would make too dear (children:
eight objects an agent) and what proves that they still live goes through this.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

import aiohttp

from interlock_kube.client import GONE, METADATA_LIST, METADATA_ONLY, ApiError, Json, KubeClient
from interlock_kube.resource_types import ResourceType

_log = logging.getLogger(__name__)

PAGE = "500"
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class WatchOptions:
    """How a kind is followed.

    Attributes:
        selector: A label selector, empty for all.
        metadata_only: Whether names, labels and annotations are enough.
        server_seconds: After how long the server ends a watch, which is then taken up again.
        silence_seconds: After how long without a byte a stream counts as dead; the server sends a bookmark
            about once a minute.
    """

    selector: str = ""
    metadata_only: bool = False
    server_seconds: int = 290
    silence_seconds: float = 75


@dataclass(frozen=True)
class ListEvent:
    """All objects of the kind, as of now; what is known beyond them is gone."""

    objects: tuple[Json, ...]


@dataclass(frozen=True)
class ChangeEvent:
    """One object came, changed or went."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json


async def follow(
    client: KubeClient, kind: ResourceType, options: WatchOptions
) -> AsyncIterator[ListEvent | ChangeEvent]:
    """Yield the kind's objects and then every change, across lost connections and an API server that is away."""
    failures = 0
    version = ""
    while True:
        try:
            if not version:
                listed, version = await _list(client, kind, options)
                yield listed
                failures = 0
            async for change in _changes(client, kind, options, version):
                version = change.object["metadata"]["resourceVersion"]
                failures = 0
                if isinstance(change, ChangeEvent):
                    yield change
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            if isinstance(error, ApiError):
                version = ""  # too old, or refused: begin anew
            _log.warning("watch interrupted", extra={"kind": kind.kind, "error": str(error) or type(error).__name__})
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


@dataclass(frozen=True)
class _Bookmark:
    object: Json


async def _list(client: KubeClient, kind: ResourceType, options: WatchOptions) -> tuple[ListEvent, str]:
    objects: list[Json] = []
    query = {"limit": PAGE} | _selection(options)
    while True:
        accept = METADATA_LIST if options.metadata_only else "application/json"
        page = await client.get(kind.everywhere(), query, accept=accept)
        objects += page["items"] or ()  # an empty list of metadata is null
        if not page["metadata"].get("continue"):
            return ListEvent(tuple(objects)), page["metadata"]["resourceVersion"]
        query = query | {"continue": page["metadata"]["continue"]}


async def _changes(
    client: KubeClient, kind: ResourceType, options: WatchOptions, version: str
) -> AsyncIterator[ChangeEvent | _Bookmark]:
    query = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(options.server_seconds),
    } | _selection(options)
    accept = METADATA_ONLY if options.metadata_only else "application/json"
    async for event in client.lines(kind.everywhere(), query, accept=accept, silence=options.silence_seconds):
        if event["type"] == "ERROR":
            raise ApiError(event["object"].get("code", GONE), event["object"].get("message", "watch error"))
        if event["type"] == "BOOKMARK":
            yield _Bookmark(event["object"])
        else:
            yield ChangeEvent(event["type"], event["object"])


def _selection(options: WatchOptions) -> dict[str, str]:
    return {"labelSelector": options.selector} if options.selector else {}
