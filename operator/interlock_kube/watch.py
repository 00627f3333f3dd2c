"""Lists and watches of a kind, endless and across an API server that is away.

kopf's own watches feed the handlers. Three things use these instead: the kill controller, children, of which an agent
has eight, and the check that kopf's watches still live.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, TypeVar

from interlock_kube.client import (
    GONE,
    JSON,
    MAX_ANSWER,
    MAX_EVENT,
    METADATA_LIST,
    METADATA_ONLY,
    UNREACHABLE,
    AnswerTooLarge,
    ApiError,
    Json,
    KubeClient,
)
from interlock_kube.resource_types import ResourceType, version_of
from interlock_kube.retry import retry_until_available

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

PAGE: Final = 500
"""Most objects of one answer."""
METADATA_PAGE: Final = 200
"""Most objects of one answer without specs, in which metadata is read that anyone may have written."""
METADATA_BYTES: Final = 2 * 1024 * 1024
"""Most bytes of such an answer, as far as it has more than one object."""
LEAST_WATCH_SECONDS: Final = 1.0
"""Seconds that a watch lasts at least where it works; one that ends sooner shows no contact."""
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class WatchOptions:
    """How a kind is followed.

    Attributes:
        selector: A label selector, empty for all.
        namespace: The one namespace whose objects are followed, empty for all.
        metadata_only: Whether names, labels and annotations are enough.
        server_seconds: After how long the server ends a watch, which then continues with the next request.
        silence_seconds: After how long without a byte a stream counts as dead. The server sends a bookmark about once
            a minute.
        page: Most objects of one answer to a list, and so of one `ListEvent`; by default as in `read_pages`.
        page_bytes: Most bytes of such an answer with more than one object; by default as in `read_pages`.
        on_contact: Called when the whole list has been read, and then at each event, bookmark and end of a watch: all
            changes until now have been seen.
    """

    selector: str = ""
    namespace: str = ""
    metadata_only: bool = False
    server_seconds: int = 290
    silence_seconds: float = 75
    page: int | None = None
    page_bytes: int | None = None
    on_contact: Callable[[], None] = lambda: None

    def path(self, kind: ResourceType) -> str:
        """Return the path of the objects that are followed."""
        return kind.within(self.namespace) if self.namespace else kind.everywhere()


@dataclass(frozen=True)
class ListEvent:
    """A page of the list of all objects. After the last page, every known object that was in none of them is gone.

    Attributes:
        objects: The objects of the page.
        is_first: Whether a list begins with this page. A list that was interrupted begins again.
        is_last: Whether the list is complete with this page.
        version: The resource version of the whole list, which the watch continues from; empty before the last page.
        query: What was asked for. The same query in another representation has the same objects, as far as they have
            not changed since.
    """

    objects: tuple[Json, ...]
    is_first: bool = True
    is_last: bool = True
    version: str = field(default="", compare=False)
    query: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class ChangeEvent:
    """One object was created, changed or deleted."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json


async def follow(
    client: KubeClient, kind: ResourceType, options: WatchOptions
) -> AsyncIterator[ListEvent | ChangeEvent]:
    """Yield the kind's objects page by page, then every change, across lost connections and an API server that is away.

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
                async for page in _list(client, kind, options):
                    yield page
                    version = page.version
                options.on_contact()
                failures = 0
            started = asyncio.get_running_loop().time()
            async for change in _changes(client, kind, options, version):
                version = change.object["metadata"]["resourceVersion"]
                failures = 0
                options.on_contact()
                if isinstance(change, ChangeEvent):
                    yield change
            if asyncio.get_running_loop().time() - started < LEAST_WATCH_SECONDS:
                await asyncio.sleep(BACKOFF_SECONDS[0])  # what ended it may end the next one immediately, too
            else:
                options.on_contact()
        except (ApiError, *UNREACHABLE, ValueError, AnswerTooLarge) as error:
            if isinstance(error, (ApiError, ValueError)):
                version = ""  # too old, refused, or an event that cannot be read: list again
            _log.warning("watch interrupted", extra={"kind": kind.kind, "error": str(error) or type(error).__name__})
            await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
            failures += 1


@dataclass(frozen=True)
class SeenEvent:
    """An object was listed, created or changed."""

    object: Json


@dataclass(frozen=True)
class GoneEvent(Generic[K]):
    """An object that was seen before is there no longer.

    Attributes:
        key: Its key.
        version: The resource version at which it was deleted; None where that was missed.
    """

    key: K
    version: int | None


@dataclass(frozen=True)
class SyncedEvent:
    """Every object of the kind has been seen once, and every other one is gone."""


async def follow_known(
    client: KubeClient, kind: ResourceType, options: WatchOptions, key_of: Callable[[Json], K], known: set[K]
) -> AsyncIterator[SeenEvent | GoneEvent[K] | SyncedEvent]:
    """Follow a kind, and tell which known objects are gone, deletions during a lost connection included.

    Args:
        client: Speaks to the API server.
        kind: The kind.
        options: How it is followed.
        key_of: Returns the key of an object.
        known: The keys that are known; changed in place. A caller that follows again after a failure keeps it.
    """
    listed: set[K] = set()
    async for event in follow(client, kind, options):
        if isinstance(event, ListEvent):
            listed = set() if event.is_first else listed
            for found in event.objects:
                listed.add(key_of(found))
                known.add(key_of(found))
                yield SeenEvent(found)
            if event.is_last:
                for key in known - listed:
                    known.discard(key)
                    yield GoneEvent(key, None)
                listed = set()
                yield SyncedEvent()
        elif event.type == "DELETED":
            known.discard(key_of(event.object))
            yield GoneEvent(key_of(event.object), version_of(event.object))
        else:
            known.add(key_of(event.object))
            yield SeenEvent(event.object)


@dataclass(frozen=True)
class _Bookmark:
    object: Json


async def list_objects(
    client: KubeClient, kind: ResourceType, *, limit: int = PAGE, most: int = MAX_ANSWER
) -> AsyncIterator[Json]:
    """Yield all objects of a kind page by page, however long the API server is away.

    The API server keeps the version of the first page for some minutes, then its `continue` token expires. The list
    then starts again at the first page, so an object can come twice.

    Args:
        client: Speaks to the API server.
        kind: The kind.
        limit: Most objects of one page, all of which are in memory at once.
        most: Most bytes of one page, as in `read_pages`.

    Raises:
        ApiError: The API server refused, and would refuse again.
        AnswerTooLarge: As in `read_pages`.
    """
    while True:
        is_first = True
        try:
            pages = _pages(client, kind.everywhere(), {}, accept=JSON, limit=limit, most=most, is_patient=True)
            async for _, page in pages:
                is_first = False
                while page["items"]:
                    yield {"apiVersion": kind.api_version, "kind": kind.kind, **page["items"].pop(0)}
        except ApiError as error:
            if error.status != GONE or is_first:
                raise
            _log.warning("list started again", extra={"kind": kind.kind, "error": str(error)})
        else:
            return


async def read_pages(
    client: KubeClient,
    path: str,
    query: Mapping[str, str],
    *,
    accept: str = JSON,
    limit: int | None = None,
    most: int | None = None,
) -> AsyncIterator[Json]:
    """Yield the pages of a list as the API server sends them.

    Args:
        client: Speaks to the API server.
        path: The path of a collection.
        query: Selectors.
        accept: The representation wanted: whole objects, or one without specs, whose pages are smaller by default.
        limit: Most objects of one page.
        most: Most bytes of one page. A larger one is asked for again with a quarter of the objects, and the pages after
            it with ever more of them again; only a single object may have up to `MAX_EVENT` bytes.

    Raises:
        ApiError: The API server refused; with 410 where the list took longer than it keeps the first page's version.
        AnswerTooLarge: A single object has more than `MAX_EVENT` bytes.
    """
    default_limit, default_most = _bounds(accept)
    pages = _pages(client, path, query, accept=accept, limit=limit or default_limit, most=most or default_most)
    async for _, page in pages:
        held = [page]
        del page
        yield held.pop()  # the caller alone holds it


async def _list(client: KubeClient, kind: ResourceType, options: WatchOptions) -> AsyncIterator[ListEvent]:
    """Yield the pages of a list."""
    accept = METADATA_LIST if options.metadata_only else JSON
    limit, most = _bounds(accept)
    pages = _pages(
        client,
        options.path(kind),
        _selection(options),
        accept=accept,
        limit=options.page or limit,
        most=options.page_bytes or most,
    )
    is_first = True
    async for query, page in pages:
        is_last = not _next(page)
        version = page["metadata"]["resourceVersion"] if is_last else ""
        objects = tuple(page["items"] or ())  # an empty list of metadata is null
        del page
        yield ListEvent(objects, is_first, is_last, version, query)
        is_first = False


async def _pages(
    client: KubeClient,
    path: str,
    query: Mapping[str, str],
    *,
    accept: str,
    limit: int,
    most: int,
    is_patient: bool = False,
) -> AsyncIterator[tuple[Mapping[str, str], Json]]:
    """Yield the pages of a list, each with the query that it answers.

    A patient reader waits for an API server that is away; any other one gets the error.
    """
    token, largest = "", limit
    while True:
        asked = {"limit": str(limit), **query, **({"continue": token} if token else {})}
        read = functools.partial(client.get, path, asked, accept=accept, most=most if limit > 1 else MAX_EVENT)
        try:
            page = await (retry_until_available(read) if is_patient else read())
        except AnswerTooLarge:
            if limit == 1:
                raise
            limit = max(1, limit // 4)
            continue
        token, pages = _next(page), [page]
        del page
        yield asked, pages.pop()  # the caller alone holds it
        if not token:
            return
        limit = min(largest, 2 * limit)


def _bounds(accept: str) -> tuple[int, int]:
    """Return the most objects and bytes of one page of a representation, where the reader names no others."""
    return (PAGE, MAX_ANSWER) if accept == JSON else (METADATA_PAGE, METADATA_BYTES)


def _next(page: Json) -> str:
    """Return the token of the page that follows, empty after the last one."""
    return page["metadata"].get("continue") or ""


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
    async for event in client.lines(options.path(kind), query, accept=accept, silence=options.silence_seconds):
        if event["type"] == "ERROR":
            raise ApiError(event["object"].get("code", GONE), event["object"].get("message", "watch error"))
        if event["type"] == "BOOKMARK":
            yield _Bookmark(event["object"])
        else:
            yield ChangeEvent(event["type"], event["object"])


def _selection(options: WatchOptions) -> dict[str, str]:
    return {"labelSelector": options.selector} if options.selector else {}
