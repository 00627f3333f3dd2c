"""A watch of metadata that reads only the objects of known owners, one by one or in small pages.

Anyone can create objects with our labels, in any number and of any size. A watch of whole objects would hold all of
them in memory. This one lists and watches names, labels and owners, and reads an object only if an owner that is known
wants it. Memory therefore depends on the owners, and not on what strangers create.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Final, Protocol

from interlock.telemetry import OBJECTS_NOT_REMEMBERED, OBJECTS_TO_READ
from interlock_kube.client import UNREACHABLE, AnswerTooLarge, ApiError, Json, KubeClient
from interlock_kube.object_reader import ObjectName, ObjectReader
from interlock_kube.resource_types import Key, ResourceType, key_of, version_of
from interlock_kube.watch import ListEvent, WatchOptions, follow
from interlock_process.metrics import PrometheusLoopMetrics, skip_on_defect

_log = logging.getLogger(__name__)

PAGE: Final = 50
"""Most objects of one page, whose metadata or whole objects are in memory at once."""
PAGE_BYTES: Final = 2 * 1024 * 1024
"""Most bytes of one page of whole objects. The objects of a larger one are read one by one."""
LEAST_FOR_PAGE: Final = 4
"""Fewer objects of one page are read one by one."""
MOST_WAITING: Final = 1000
"""Most objects of one namespace that are remembered until their owner is known."""


class Selection(Protocol):
    """Decides which objects are read, and keeps them. Every found object has at least its metadata."""

    def owner_of(self, kind: str, found: Json) -> Hashable | None:
        """Return the owner that an object names, None where it names none."""

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the owner exists, and wants its objects to be read."""

    def is_newer(self, kind: str, found: Json) -> bool:
        """Return True unless this version of the object, or a newer one, is kept."""

    def put(self, kind: str, found: Json) -> None:
        """Keep a whole object of a known owner."""

    def drop(self, kind: str, key: Key, version: int, found: Json | None) -> None:
        """Forget an object that was gone at this version, or had no known owner, unless a newer one is kept.

        `found` is the object at this version, None where a list shows that it is gone.
        """

    def held(self, kind: str) -> Iterable[Key]:
        """Return the objects of a kind that are kept."""


class SelectiveWatch:
    """Follows some kinds for a selection.

    Args:
        client: Speaks to the API server.
        kinds: The kinds.
        selector: A label selector.
        selection: Decides and keeps.
        on_settled: Called once an object was read, is gone, or cannot be read, with the reason if it cannot.
    """

    def __init__(
        self,
        client: KubeClient,
        kinds: Sequence[ResourceType],
        selector: str,
        selection: Selection,
        *,
        on_settled: Callable[[ObjectName, Exception | None], None] = lambda *_: None,
    ) -> None:
        self._client = client
        self._kinds = kinds
        self._options = WatchOptions(selector=selector, metadata_only=True, page=PAGE)
        self._selection = selection
        self._reader = ObjectReader(
            client,
            kinds,
            metrics=PrometheusLoopMetrics(),
            keep=self._keep,
            settled=self._settle,
            on_length=OBJECTS_TO_READ.set,
        )
        self._on_settled = on_settled
        self._waiting = WaitingObjects()
        self._unlisted = {kind.kind for kind in kinds}
        self._unread: set[ObjectName] = set()  # of the first list
        self._synced = asyncio.Event()

    async def run(self) -> None:
        """Follow all kinds, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in self._kinds:
                group.create_task(self._follow(kind))
            group.create_task(self._reader.run())

    async def synced(self) -> None:
        """Wait until all objects of known owners were read once: before that, a missing one may only be unknown."""
        await self._synced.wait()

    def adopt(self, owner: Hashable) -> None:
        """Read the objects of an owner that has become known."""
        for name in self._waiting.pop(owner):
            self._reader.add(name)

    def read(self, name: ObjectName) -> None:
        """Read an object that has become wanted by its name. Those before `synced` count for it."""
        if not self._synced.is_set():
            self._unread.add(name)
        self._reader.add(name)

    async def _follow(self, kind: ResourceType) -> None:
        listed: set[Key] = set()
        async for event in follow(self._client, kind, self._options):
            if isinstance(event, ListEvent):
                if event.is_first:
                    listed = set()
                    self._waiting.forget(kind.kind)
                await self._handle_page(kind, event, listed)
                if event.is_last:
                    self._handle_end_of_list(kind, listed, int(event.version))
                    listed = set()
            else:
                with skip_on_defect(kind.kind, event.object):
                    if event.type == "DELETED":
                        self._handle_deletion(kind, event.object)
                    elif self._is_wanted(kind, event.object) and self._selection.is_newer(kind.kind, event.object):
                        self._reader.add(ObjectName(kind.kind, *key_of(event.object)))

    async def _handle_page(self, kind: ResourceType, page: ListEvent, listed: set[Key]) -> None:
        """Read what is wanted of a page; add all of it that has a known owner to what was listed."""
        wanted: set[Key] = set()
        for found in page.objects:
            with skip_on_defect(kind.kind, found):
                if self._is_wanted(kind, found):
                    listed.add(key_of(found))
                    if self._selection.is_newer(kind.kind, found):
                        wanted.add(key_of(found))
        if len(wanted) >= max(LEAST_FOR_PAGE, len(page.objects) // 2):
            wanted -= await self._read_page(kind, page, wanted)
        for key in wanted:
            self.read(ObjectName(kind.kind, *key))

    def _handle_end_of_list(self, kind: ResourceType, listed: set[Key], version: int) -> None:
        for key in set(self._selection.held(kind.kind)) - listed:
            self._selection.drop(kind.kind, key, version, None)
        self._unlisted.discard(kind.kind)
        self._check_synced()

    def _handle_deletion(self, kind: ResourceType, found: Json) -> None:
        name, version = ObjectName(kind.kind, *key_of(found)), version_of(found)
        self._reader.deleted(name, version)
        self._waiting.discard(name)
        self._selection.drop(kind.kind, key_of(found), version, found)

    def _is_wanted(self, kind: ResourceType, found: Json) -> bool:
        """Return True if an object has a known owner; else forget it, but remember that an owner may come."""
        name = ObjectName(kind.kind, *key_of(found))
        owner = self._selection.owner_of(kind.kind, found)
        if owner is not None and self._selection.is_known(owner):
            self._waiting.discard(name)
            return True
        self._selection.drop(kind.kind, key_of(found), version_of(found), found)
        self._waiting.add(owner, name)
        return False

    async def _read_page(self, kind: ResourceType, page: ListEvent, wanted: set[Key]) -> set[Key]:
        """Read a page once more, with whole objects; return the wanted ones that were read."""
        try:
            answer = await self._client.get(kind.everywhere(), page.query, most=PAGE_BYTES)
        except (ApiError, AnswerTooLarge, ValueError, RecursionError, *UNREACHABLE) as error:
            if not isinstance(error, AnswerTooLarge):
                _log.info("page not read", extra={"kind": kind.kind, "error": str(error) or type(error).__name__})
            return set()
        read = set()
        for found in answer["items"]:
            if key_of(found) in wanted:
                self._keep(kind, found)
                read.add(key_of(found))
        return read

    def _keep(self, kind: ResourceType, found: Json) -> None:
        with skip_on_defect(kind.kind, found):
            if self._is_wanted(kind, found) and self._selection.is_newer(kind.kind, found):
                self._selection.put(kind.kind, {"apiVersion": kind.api_version, "kind": kind.kind, **found})

    def _settle(self, name: ObjectName, error: Exception | None) -> None:
        """Note that an object was read, is gone or cannot be read."""
        self._on_settled(name, error)
        if name in self._unread:
            self._unread.discard(name)
            self._check_synced()

    def _check_synced(self) -> None:
        if not self._unlisted and not self._unread:
            self._synced.set()


class WaitingObjects:
    """The names of objects whose owner is not known, bounded in each namespace.

    A second operator, of an update for example, can create a child of an Agent that this one has not seen yet.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._by_owner: dict[Hashable, set[ObjectName]] = {}
        self._owners: dict[ObjectName, Hashable] = {}
        self._count: Counter[str] = Counter()

    def add(self, owner: Hashable | None, name: ObjectName) -> None:
        """Remember an object of an owner; one that names no owner is forgotten."""
        if self._owners.get(name) == owner:
            return
        self.discard(name)
        if owner is None:
            return
        if self._count[name.namespace] >= self._most:
            OBJECTS_NOT_REMEMBERED.inc()
            return
        self._owners[name] = owner
        self._by_owner.setdefault(owner, set()).add(name)
        self._count[name.namespace] += 1

    def discard(self, name: ObjectName) -> None:
        """Forget an object."""
        owner = self._owners.pop(name, None)
        if owner is None:
            return
        self._by_owner[owner].discard(name)
        if not self._by_owner[owner]:
            del self._by_owner[owner]
        self._count[name.namespace] -= 1
        if not self._count[name.namespace]:
            del self._count[name.namespace]

    def forget(self, kind: str) -> None:
        """Forget all objects of a kind."""
        for name in [name for name in self._owners if name.kind == kind]:
            self.discard(name)

    def pop(self, owner: Hashable) -> list[ObjectName]:
        """Return the objects of an owner, and forget them."""
        names = sorted(self._by_owner.get(owner, ()))
        for name in names:
            self.discard(name)
        return names
