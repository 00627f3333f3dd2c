"""The watch of the children of Agents and MCPBindings: it keeps their caches up to date and wakes their owners."""

from collections.abc import Callable, Hashable, Iterable

from interlock.cluster.child_cache import SELECTOR, AgentKey, ChildCache, ChildOwner, controller_of
from interlock.cluster.selective_watch import SelectiveWatch
from interlock.deployment.names import ChildKey
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import CHILDREN, Key, key_of


class ChildWatch:
    """Keeps caches of children up to date. Only the children of owners that are known are read.

    Args:
        client: Speaks to the API server.
        uid_of: Returns the uid of the Agent or MCPBinding of this kind and key, None where it is not known.
        caches: Each with what wakes the owner of a child that changed.
    """

    def __init__(
        self,
        client: KubeClient,
        uid_of: Callable[[str, Key], str | None],
        *caches: tuple[ChildCache, Callable[[AgentKey], None]],
    ) -> None:
        self._uid_of = uid_of
        self._caches = {cache.owner_kind: (cache, wake) for cache, wake in caches}
        self._watch = SelectiveWatch(client, CHILDREN, SELECTOR, self)

    async def run(self) -> None:
        """Follow all kinds, for ever."""
        await self._watch.run()

    async def synced(self) -> None:
        """Wait until all children were read once: before that, a missing child may only be unknown."""
        await self._watch.synced()

    def owner_seen(self, kind: str, key: Key, uid: str) -> None:
        """Handle that an Agent or MCPBinding exists: forget the children of an earlier one, and read those of this."""
        if kind in self._caches:
            self._caches[kind][0].forget(key, but=uid)
            self._watch.adopt(ChildOwner(kind, key, uid))

    def owner_gone(self, kind: str, key: Key) -> None:
        """Handle that an Agent or MCPBinding exists no longer."""
        if kind in self._caches:
            self._caches[kind][0].forget(key)

    # The selection

    def owner_of(self, kind: str, found: Json) -> Hashable | None:  # noqa: ARG002 - as the protocol has it
        """Return the owner that a child names, None where it names none."""
        return controller_of(found)

    def is_known(self, owner: Hashable) -> bool:
        """Return True if the owner exists."""
        return isinstance(owner, ChildOwner) and owner.kind in self._caches and self._uid_of(*owner[:2]) == owner.uid

    def is_newer(self, kind: str, found: Json) -> bool:
        """Return True unless this version of a child, or a newer one, is kept."""
        owner = controller_of(found)
        return owner is not None and self._caches[owner.kind][0].is_newer(kind, found)

    def put(self, kind: str, found: Json) -> None:
        """Keep a child, and wake its owner; and an earlier owner, whose child it is no longer."""
        owner, key = controller_of(found), key_of(found)
        if owner is None:
            return
        for cache, wake in self._caches.values():
            before = cache.owner(kind, key)
            if before is not None and (cache.owner_kind, before) != owner[:2]:
                cache.discard(before, ChildKey(kind, key[1]))
                wake(before)
        cache, wake = self._caches[owner.kind]
        if cache.put(kind, found) is not None:
            wake(owner.key)

    def drop(self, kind: str, key: Key, version: int, _found: Json | None) -> None:
        """Forget a child, and wake its owner."""
        for cache, wake in self._caches.values():
            owner = cache.drop(kind, key, version)
            if owner is not None:
                wake(owner)

    def held(self, kind: str) -> Iterable[Key]:
        """Return the children of a kind that are kept."""
        return [key for cache, _ in self._caches.values() for key in cache.held(kind)]
