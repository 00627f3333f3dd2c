"""The watch of the children of Agents and MCPBindings: it keeps their caches up to date and wakes their owners."""

import asyncio
from collections.abc import Callable

from interlock.cluster.child_cache import SELECTOR, AgentKey, ChildCache
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import CHILDREN, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow
from interlock_process.metrics import skip_on_defect


class ChildWatch:
    """Keeps caches of children up to date.

    Args:
        client: Speaks to the API server.
        caches: Each with what wakes the owner of a child that changed.
    """

    def __init__(self, client: KubeClient, *caches: tuple[ChildCache, Callable[[AgentKey], None]]) -> None:
        self._client = client
        self._caches = caches
        self._synced = {kind.kind: asyncio.Event() for kind in CHILDREN}

    async def run(self) -> None:
        """Follow all kinds, for ever."""
        async with asyncio.TaskGroup() as group:
            for kind in CHILDREN:
                group.create_task(self._follow(kind))

    async def synced(self) -> None:
        """Wait until every kind has been listed once: before that, a missing child may only be unknown."""
        for event in self._synced.values():
            await event.wait()

    async def _follow(self, kind: ResourceType) -> None:
        listed: list[Json] = []
        async for event in follow(self._client, kind, WatchOptions(selector=SELECTOR)):
            if isinstance(event, ListEvent):
                listed = [*([] if event.is_first else listed), *event.objects]
                if not event.is_last:
                    continue
                event = ListEvent(tuple(listed))  # noqa: PLW2901 - the whole list in place of its last page
                listed = []
            for cache, wake in self._caches:
                for owner in self._handle(cache, kind, event):
                    wake(owner)
            self._synced[kind.kind].set()

    def _handle(self, cache: ChildCache, kind: ResourceType, event: ListEvent | ChangeEvent) -> set[AgentKey]:
        """Update a cache; return the owners of the children that changed."""
        if isinstance(event, ListEvent):
            return cache.replace(kind.kind, tuple(found for found in event.objects if cache.holds(found)))
        owner = None
        with skip_on_defect(kind.kind, event.object):
            if cache.holds(event.object):
                update = cache.drop if event.type == "DELETED" else cache.put
                owner = update(kind.kind, event.object)
        return {owner} if owner is not None else set()
