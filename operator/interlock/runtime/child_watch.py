"""Follow the children of agents and bindings, and ask for a look at whatever has children that change."""

import asyncio
from collections.abc import Callable

from interlock.cluster.child_cache import SELECTOR, AgentKey, ChildCache
from interlock_kube.client import KubeClient
from interlock_kube.resource_types import CHILDREN, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow


class ChildWatch:
    """Keeps stores of children up to date.

    Args:
        client: Speaks to the API server.
        stores: Each with what asks for a look at an owner of its children.
    """

    def __init__(self, client: KubeClient, *stores: tuple[ChildCache, Callable[[AgentKey], None]]) -> None:
        self._client = client
        self._stores = stores
        self._synced = {kind.kind: asyncio.Event() for kind in CHILDREN}

    async def run(self) -> None:
        """Follow all kinds, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in CHILDREN:
                group.create_task(self._follow(kind))

    async def synced(self) -> None:
        """Wait until every kind has been listed once: before that, what is missing may only be unknown."""
        for event in self._synced.values():
            await event.wait()

    async def _follow(self, kind: ResourceType) -> None:
        async for news in follow(self._client, kind, WatchOptions(selector=SELECTOR)):
            for store, changed in self._stores:
                for owner in self._take(store, kind, news):
                    changed(owner)
            self._synced[kind.kind].set()

    def _take(self, store: ChildCache, kind: ResourceType, news: ListEvent | ChangeEvent) -> set[AgentKey]:
        if isinstance(news, ListEvent):
            return store.replace(kind.kind, tuple(found for found in news.objects if store.holds(found)))
        if not store.holds(news.object):
            return set()
        take = store.drop if news.type == "DELETED" else store.put
        owner = take(kind.kind, news.object)
        return {owner} if owner is not None else set()
