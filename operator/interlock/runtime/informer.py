"""Follow the children of agents and bindings, and ask for a look at whatever has children that change."""

import asyncio
from collections.abc import Callable

from interlock.cluster.children import SELECTOR, AgentKey, ChildStore
from interlock.cluster.client import Client
from interlock.cluster.kinds import CHILDREN, Kind
from interlock.cluster.watch import Changed, Listed, WatchOptions, follow


class ChildInformer:
    """Keeps stores of children up to date.

    Args:
        client: Speaks to the API server.
        stores: Each with what asks for a look at an owner of its children.
    """

    def __init__(self, client: Client, *stores: tuple[ChildStore, Callable[[AgentKey], None]]) -> None:
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

    async def _follow(self, kind: Kind) -> None:
        async for news in follow(self._client, kind, WatchOptions(selector=SELECTOR)):
            for store, changed in self._stores:
                for owner in self._take(store, kind, news):
                    changed(owner)
            self._synced[kind.kind].set()

    def _take(self, store: ChildStore, kind: Kind, news: Listed | Changed) -> set[AgentKey]:
        if isinstance(news, Listed):
            return store.replace(kind.kind, tuple(found for found in news.objects if store.holds(found)))
        if not store.holds(news.object):
            return set()
        take = store.drop if news.type == "DELETED" else store.put
        owner = take(kind.kind, news.object)
        return {owner} if owner is not None else set()
