"""The addresses of nodes, pods and Services, which no row of a policy's egress opens.

Of each node only its addresses are kept. The API server sends whole nodes, since their metadata holds no address, in
small pages: a node names all images that it has.

While the API server refuses one of the lists, the addresses are not known, and no cidr is open. A watch that goes on
shows nothing of a right that is withdrawn, so what has been silent for some time is asked for again.
"""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Final

from interlock.deployment.node_ranges import NodeRanges, ranges_of_node, ranges_of_service_cidr
from interlock_contract.addresses import AddressRange
from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient
from interlock_kube.resource_types import NODE, SERVICE_CIDR, ResourceType
from interlock_kube.retry import is_unavailable, retry_until_available
from interlock_kube.watch import GoneEvent, SeenEvent, SyncedEvent, WatchOptions, follow_known, read_pages

_log = logging.getLogger(__name__)

PAGE: Final = 50
PAUSE_SECONDS: Final = 1.0
"""How long further changes are collected after one: a pool of a hundred nodes grows in a few steps."""
CHECK_SECONDS: Final = 90.0
"""After how long without contact a list is asked for again. The API server sends a bookmark about once a minute."""

Event = SeenEvent | GoneEvent[str] | SyncedEvent


class _Source:
    """The ranges that the objects of one kind say.

    Args:
        kind: The kind.
        ranges_of: Returns the ranges of one object.
    """

    def __init__(self, kind: ResourceType, ranges_of: Callable[[Mapping[str, Any]], frozenset[AddressRange]]) -> None:
        self.kind, self._ranges_of = kind, ranges_of
        self.ranges: dict[str, frozenset[AddressRange]] = {}
        self.is_complete = self.is_refused = self.is_absent = self.has_contact = False

    @property
    def is_known(self) -> bool:
        """True if all objects are known, and may be read now."""
        return self.is_absent or (self.is_complete and not self.is_refused)

    def handle(self, event: Event) -> bool:
        """Keep what an event says; return True if it is news."""
        if isinstance(event, SyncedEvent):
            is_news, self.is_complete = not self.is_complete, True
            return is_news
        name = _name_of(event.object) if isinstance(event, SeenEvent) else event.key
        before = self.ranges.get(name)
        if isinstance(event, SeenEvent):
            self.ranges[name] = self._ranges_of(event.object)
        else:
            self.ranges.pop(name, None)
        return before != self.ranges.get(name)


class NodeWatch:
    """Follows the addresses of nodes, of their pods and of Services.

    Args:
        client: Speaks to the API server.
        changed: Called when the addresses have changed.
        closed: Ranges that the installation closes besides.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None], closed: Iterable[AddressRange] = ()) -> None:
        self._client, self._changed = client, changed
        self._closed = frozenset(closed)
        sources = (_Source(NODE, ranges_of_node), _Source(SERVICE_CIDR, ranges_of_service_cidr))
        self._sources = {one.kind: one for one in sources}
        self._news = asyncio.Event()
        self.found: NodeRanges | None = None
        """The addresses; None while they are not known."""

    async def find(self) -> None:
        """Read the lists once. If the API server refuses one of them, the addresses stay unknown."""
        for source in self._sources.values():
            try:
                await retry_until_available(functools.partial(self._list, source))
            except ApiError as error:
                # Kubernetes 1.33 can be without this kind: then it has one range, which no object says.
                source.is_absent = source.kind is SERVICE_CIDR and error.status == NOT_FOUND
                if not source.is_absent:
                    _warn(source.kind, error)
        self.publish()

    async def run(self) -> None:
        """Follow the objects for ever."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources.values():
                if not source.is_absent:
                    group.create_task(self._follow(source))
                    group.create_task(self._check(source))
            group.create_task(self._tell())

    def handle(self, event: Event, kind: ResourceType = NODE) -> None:
        """Keep what an event says about an object of a kind."""
        if self._sources[kind].handle(event) and self._sources[kind].is_complete:
            self._news.set()

    def publish(self) -> None:
        """Make what has changed known to others."""
        if not all(one.is_known for one in self._sources.values()):
            if self.found is not None:
                self.found = None
                self._changed()
            return
        known = (one for source in self._sources.values() for found in source.ranges.values() for one in found)
        ranges = NodeRanges((*known, *self._closed))
        if self.found is None or ranges.ranges != self.found.ranges:
            self.found = ranges
            self._changed()

    async def check(self, kind: ResourceType) -> None:
        """Ask for a list that was silent; while the API server refuses it, the addresses are not known.

        An API server that is away says nothing: nothing can be changed then.
        """
        source = self._sources[kind]
        had_contact, source.has_contact = source.has_contact, False
        if had_contact:
            return
        try:
            await self._client.get(kind.everywhere(), {"limit": "1"})
        except (ApiError, *UNREACHABLE) as error:
            if not is_unavailable(error):
                _warn(kind, error)
                source.is_refused = True
                self.publish()

    async def _list(self, source: _Source) -> None:
        async for page in read_pages(self._client, source.kind.everywhere(), {}, limit=PAGE):
            for found in page["items"]:
                source.handle(SeenEvent(found))
        source.handle(SyncedEvent())

    async def _follow(self, source: _Source) -> None:
        async for event in self._events(source):
            self.handle(event, source.kind)

    def _events(self, source: _Source) -> AsyncIterator[Event]:
        def contact() -> None:
            self.saw(source.kind)

        options = WatchOptions(page=PAGE, on_contact=contact)
        return follow_known(self._client, source.kind, options, _name_of, set(source.ranges))

    def saw(self, kind: ResourceType) -> None:
        """Note that the API server has answered about a kind."""
        source = self._sources[kind]
        source.has_contact = True
        if source.is_refused:
            source.is_refused = False
            self._news.set()

    async def _check(self, source: _Source) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await self.check(source.kind)

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self.publish()
            await asyncio.sleep(PAUSE_SECONDS)


def _warn(kind: ResourceType, error: Exception) -> None:
    _log.warning(
        "addresses of the cluster not known, so no egress to a cidr is opened",
        extra={"kind": kind.kind, "error": str(error)},
    )


def _name_of(found: Json) -> str:
    return str(found["metadata"]["name"])
