"""Follow the agents' children and ask for a look at each agent whose children change."""

import asyncio
from collections.abc import Callable

from interlock.cluster.children import SELECTOR, AgentKey, ChildStore
from interlock.cluster.client import Client
from interlock.cluster.kinds import CHILDREN, Kind
from interlock.cluster.watch import Changed, Listed, WatchOptions, follow


class ChildInformer:
    """Keeps the store of children up to date."""

    def __init__(self, client: Client, store: ChildStore, changed: Callable[[AgentKey], None]) -> None:
        self._client = client
        self._store = store
        self._changed = changed
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
            for agent in self._take(kind, news):
                self._changed(agent)
            self._synced[kind.kind].set()

    def _take(self, kind: Kind, news: Listed | Changed) -> set[AgentKey]:
        if isinstance(news, Listed):
            return self._store.replace(kind.kind, news.objects)
        take = self._store.drop if news.type == "DELETED" else self._store.put
        agent = take(kind.kind, news.object)
        return {agent} if agent is not None else set()
