"""Lists and watches of a kind, endless and across an API server that is away.

kopf's own watches feed the handlers. Three things use these instead: the kill switch, which must not wait for a
handler, children, of which an agent has eight, and the check that kopf's watches still live.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Literal

import aiohttp

from interlock_kube.client import GONE, JSON, METADATA_LIST, METADATA_ONLY, ApiError, Json, KubeClient
from interlock_kube.resource_types import ResourceType
from interlock_kube.retry import retry_until_available

_log = logging.getLogger(__name__)

PAGE = "500"
"""Most objects of one answer."""
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class WatchOptions:
    """How a kind is followed.

    Attributes:
        selector: A label selector, empty for all.
        metadata_only: Whether names, labels and annotations are enough.
        server_seconds: After how long the server ends a watch, which then continues with the next request.
        silence_seconds: After how long without a byte a stream counts as dead. The server sends a bookmark about once
            a minute.
    """

    selector: str = ""
    metadata_only: bool = False
    server_seconds: int = 290
    silence_seconds: float = 75


@dataclass(frozen=True)
class ListEvent:
    """All objects of the kind as of now; every other known object is gone."""

    objects: tuple[Json, ...]


@dataclass(frozen=True)
class ChangeEvent:
    """One object was created, changed or deleted."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json


async def follow(
    client: KubeClient, kind: ResourceType, options: WatchOptions
) -> AsyncIterator[ListEvent | ChangeEvent]:
    """Yield the kind's objects and then every change, across lost connections and an API server that is away.

    `version` is where the next watch starts. An example of three requests:

        GET agents                            10 objects, version 700   -> ListEvent
        GET agents?watch&resourceVersion=700  MODIFIED a (705), then the connection breaks
        GET agents?watch&resourceVersion=705  410: 705 is too old       -> version is unknown: list again
    """
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
                version = ""  # too old, or refused: list again
            _log.warning("watch interrupted", extra={"kind": kind.kind, "error": str(error) or type(error).__name__})
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


@dataclass(frozen=True)
class _Bookmark:
    object: Json


async def list_objects(client: KubeClient, kind: ResourceType) -> AsyncIterator[Json]:
    """Yield all objects of a kind page by page, however long the API server is away.

    The API server keeps the version of the first page for some minutes, then its `continue` token expires. The list
    then starts again at the first page, so an object can come twice.

    Raises:
        ApiError: The API server refused, and would refuse again.
    """
    token = ""
    while True:
        try:
            page = await retry_until_available(
                functools.partial(_read_page, client, kind.everywhere(), {}, accept=JSON, token=token)
            )
        except ApiError as error:
            if error.status != GONE or not token:
                raise
            _log.warning("list started again", extra={"kind": kind.kind, "error": str(error)})
            token = ""
            continue
        token = page["metadata"].get("continue") or ""
        for found in page["items"]:
            yield {"apiVersion": kind.api_version, "kind": kind.kind, **found}
        if not token:
            return


async def _list(client: KubeClient, kind: ResourceType, options: WatchOptions) -> tuple[ListEvent, str]:
    """Return all objects, and the version to watch from; an expired token (410) makes `follow` list again."""
    objects: list[Json] = []
    accept = METADATA_LIST if options.metadata_only else JSON
    token = ""
    while True:
        page = await _read_page(client, kind.everywhere(), _selection(options), accept=accept, token=token)
        objects += page["items"] or ()  # an empty list of metadata is null
        token = page["metadata"].get("continue") or ""
        if not token:
            return ListEvent(tuple(objects)), page["metadata"]["resourceVersion"]


async def _read_page(client: KubeClient, path: str, query: Mapping[str, str], *, accept: str, token: str) -> Json:
    return await client.get(path, {"limit": PAGE, **query, **({"continue": token} if token else {})}, accept=accept)


async def _changes(
    client: KubeClient, kind: ResourceType, options: WatchOptions, version: str
) -> AsyncIterator[ChangeEvent | _Bookmark]:
    query = {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": version,
        "timeoutSeconds": str(options.server_seconds),
    } | _selection(options)
    accept = METADATA_ONLY if options.metadata_only else JSON
    async for event in client.lines(kind.everywhere(), query, accept=accept, silence=options.silence_seconds):
        if event["type"] == "ERROR":
            raise ApiError(event["object"].get("code", GONE), event["object"].get("message", "watch error"))
        if event["type"] == "BOOKMARK":
            yield _Bookmark(event["object"])
        else:
            yield ChangeEvent(event["type"], event["object"])


def _selection(options: WatchOptions) -> dict[str, str]:
    return {"labelSelector": options.selector} if options.selector else {}
