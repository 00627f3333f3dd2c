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
from contextlib import suppress
from typing import Any, Final

from interlock.deployment.node_ranges import NodeRanges, ranges_of_node, ranges_of_service_cidr
from interlock_contract.addresses import AddressRange
from interlock_contract.clock import monotonic
from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient
from interlock_kube.resource_types import NODE, SERVICE_CIDR, ResourceType
from interlock_kube.retry import is_unavailable, retry_until_available
from interlock_kube.watch import GoneEvent, SeenEvent, SyncedEvent, WatchOptions, follow_known, read_pages

_log = logging.getLogger(__name__)

PAGE: Final = 50
PAUSE_SECONDS: Final = 1.0
"""How long further changes are collected after one: a pool of a hundred nodes grows in a few steps."""
CHECK_SECONDS: Final = 90.0
"""After how long without contact a list is asked for again. The API server sends a bookmark about once a minute. A kind
that the API server does not have is asked for as often."""
HOLD_SECONDS: Final = 60.0
"""How long addresses that no object says any longer are left out still. Otherwise an annotation that changes back and
forth would wake all agents with a cidr each second. What is new is left out immediately."""

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
        self.exists = asyncio.Event()
        """Set once the API server has had the kind."""

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
        monotonic: Returns seconds on a clock that only goes forward.
    """

    def __init__(
        self,
        client: KubeClient,
        changed: Callable[[], None],
        closed: Iterable[AddressRange] = (),
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._client, self._changed, self._monotonic = client, changed, monotonic
        self._closed = frozenset(closed)
        sources = (_Source(NODE, ranges_of_node), _Source(SERVICE_CIDR, ranges_of_service_cidr))
        self._sources = {one.kind: one for one in sources}
        self._news = asyncio.Event()
        self._held: dict[AddressRange, float] = {}
        """Until when addresses are left out that no object says any longer."""
        self.found: NodeRanges | None = None
        """The addresses; None while they are not known."""

    async def find(self) -> None:
        """Read the lists once. If the API server refuses one of them, the addresses stay unknown."""
        for source in self._sources.values():
            await self._find(source)
        self.publish()

    async def _find(self, source: _Source) -> None:
        try:
            await retry_until_available(functools.partial(self._list, source))
        except ApiError as error:
            source.is_absent = _says_absent(source.kind, error)
            if not source.is_absent:
                _warn(source.kind, error)
        else:
            source.is_absent = False
        if not source.is_absent:
            source.exists.set()

    async def run(self) -> None:
        """Follow the objects for ever."""
        async with asyncio.TaskGroup() as group:
            for source in self._sources.values():
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
        said = {one for source in self._sources.values() for found in source.ranges.values() for one in found}
        said |= self._closed
        self._hold(said)
        ranges = NodeRanges((*said, *self._held))
        if self.found is None or ranges.ranges != self.found.ranges:
            self.found = ranges
            self._changed()

    def _hold(self, said: set[AddressRange]) -> None:
        """Hold for a while what was said until now."""
        now = self._monotonic()
        before = self.found.ranges if self.found is not None else frozenset()
        until = {one: self._held.get(one, now + HOLD_SECONDS) for one in before - said}
        self._held = {one: end for one, end in until.items() if end > now}

    async def check(self, kind: ResourceType) -> None:
        """Ask for a list that was silent; while the API server refuses it, the addresses are not known.

        An API server that is away says nothing: nothing can be changed then. One that did not have the kind until now
        may have it since an update.
        """
        source = self._sources[kind]
        had_contact, source.has_contact = source.has_contact, False
        if had_contact:
            return
        if source.is_absent:
            await self._find(source)
            self.publish()
            return
        try:
            await self._client.get(kind.everywhere(), {"limit": "1"})
        except (ApiError, *UNREACHABLE) as error:
            if is_unavailable(error):
                return
            source.is_absent = _says_absent(kind, error)  # what its objects said is left out still
            if not source.is_absent:
                _warn(kind, error)
                source.is_refused = True
            self.publish()

    async def _list(self, source: _Source) -> None:
        async for page in read_pages(self._client, source.kind.everywhere(), {}, limit=PAGE):
            for found in page["items"]:
                source.handle(SeenEvent(found))
        source.handle(SyncedEvent())

    async def _follow(self, source: _Source) -> None:
        await source.exists.wait()  # of a kind that is absent, `check` finds out when it is not
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
            with suppress(TimeoutError):
                async with asyncio.timeout(self.held_seconds()):
                    await self._news.wait()
            self._news.clear()
            self.publish()
            await asyncio.sleep(PAUSE_SECONDS)

    def held_seconds(self) -> float | None:
        """Return after how many seconds the first addresses are no longer held; None if none are."""
        return min((max(0.0, end - self._monotonic()) for end in self._held.values()), default=None)


def _says_absent(kind: ResourceType, error: Exception) -> bool:
    """Return True if the API server does not have a kind that Kubernetes can be without.

    Kubernetes 1.33 can be without ServiceCIDRs: then it has one range of Services, which no object says.
    """
    return kind is SERVICE_CIDR and isinstance(error, ApiError) and error.status == NOT_FOUND


def _warn(kind: ResourceType, error: Exception) -> None:
    _log.warning(
        "addresses of the cluster not known, so no egress to a cidr is opened",
        extra={"kind": kind.kind, "error": str(error)},
    )


def _name_of(found: Json) -> str:
    return str(found["metadata"]["name"])
