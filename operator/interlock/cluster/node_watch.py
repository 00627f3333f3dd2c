"""The addresses of nodes, which no row of a policy's egress opens.

Of each node only its addresses are kept. The API server sends whole nodes, since their metadata holds no address, in
small pages: a node names all images that it has.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from interlock.deployment.node_ranges import NodeRanges, ranges_of_node
from interlock_contract.addresses import AddressRange
from interlock_kube.client import ApiError, Json, KubeClient
from interlock_kube.resource_types import NODE
from interlock_kube.retry import retry_until_available
from interlock_kube.watch import GoneEvent, SeenEvent, SyncedEvent, WatchOptions, follow_known, read_pages

_log = logging.getLogger(__name__)

PAGE: Final = 50
PAUSE_SECONDS: Final = 1.0
"""How long further changes are collected after one: a pool of a hundred nodes grows in a few steps."""

Event = SeenEvent | GoneEvent[str] | SyncedEvent


class NodeWatch:
    """Follows the addresses of nodes and of their pods.

    Args:
        client: Speaks to the API server.
        changed: Called when the addresses have changed.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None]) -> None:
        self._client, self._changed = client, changed
        self._nodes: dict[str, frozenset[AddressRange]] = {}
        self._is_complete = False
        self._news = asyncio.Event()
        self.found: NodeRanges | None = None
        """The addresses; None while they are not known."""

    async def find(self) -> None:
        """Read the nodes once. If the API server refuses the list, the addresses stay unknown."""
        try:
            await retry_until_available(self._list)
        except ApiError as error:
            _log.warning("nodes not listed, so no egress to a cidr is opened", extra={"error": str(error)})

    async def run(self) -> None:
        """Follow the nodes for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._tell())

    def handle(self, event: Event) -> None:
        """Keep what an event says about a node."""
        before = self._nodes.get(_name_in(event))
        if isinstance(event, SeenEvent):
            self._nodes[_name_in(event)] = ranges_of_node(event.object)
        elif isinstance(event, GoneEvent):
            self._nodes.pop(event.key, None)
        if isinstance(event, SyncedEvent):
            is_news, self._is_complete = not self._is_complete, True
        else:
            is_news = before != self._nodes.get(_name_in(event))
        if is_news and self._is_complete:
            self._news.set()

    def publish(self) -> None:
        """Make what has changed known to others."""
        ranges = NodeRanges(one for found in self._nodes.values() for one in found)
        if self.found is None or ranges.ranges != self.found.ranges:
            self.found = ranges
            self._changed()

    async def _list(self) -> None:
        async for page in read_pages(self._client, NODE.everywhere(), {}, limit=PAGE):
            for node in page["items"]:
                self.handle(SeenEvent(node))
        self.handle(SyncedEvent())
        self.publish()

    async def _follow(self) -> None:
        async for event in self._events():
            self.handle(event)

    def _events(self) -> AsyncIterator[Event]:
        return follow_known(self._client, NODE, WatchOptions(page=PAGE), _name_of, set(self._nodes))

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            self.publish()
            await asyncio.sleep(PAUSE_SECONDS)


def _name_of(node: Json) -> str:
    return str(node["metadata"]["name"])


def _name_in(event: Event) -> str:
    if isinstance(event, SeenEvent):
        return _name_of(event.object)
    return event.key if isinstance(event, GoneEvent) else ""
