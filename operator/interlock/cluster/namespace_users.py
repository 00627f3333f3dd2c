"""What annotations of namespaces say: the users and groups of pods on OpenShift, and whether guards are held.

Of a namespace without such annotations nothing is kept.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers, users_of
from interlock_contract.names import HOLD_GUARD_UPDATES, HOLD_OFF
from interlock_kube.client import Json, KubeClient
from interlock_kube.resource_types import ResourceType
from interlock_kube.watch import GoneEvent, SyncedEvent, WatchOptions, follow_known
from interlock_process.metrics import skip_on_defect

NAMESPACE: Final = ResourceType("Namespace", "/api/v1", "namespaces")


class NamespaceUsers:
    """Knows the users and groups of pods in each namespace, and the namespaces whose guards are held.

    Args:
        client: Speaks to the API server.
        changed: Called with a namespace whose users have changed.
    """

    def __init__(self, client: KubeClient, changed: Callable[[str], None]) -> None:
        self._client, self._changed = client, changed
        self._users: dict[str, PodUsers] = {}
        self._held: set[str] = set()
        self.on_hold: Callable[[str], None] = lambda _namespace: None
        """Called with a namespace whose guards are held from now on, or no longer."""
        self._synced = asyncio.Event()

    def of(self, namespace: str) -> PodUsers:
        """Return the users and groups of the pods of a namespace."""
        return self._users.get(namespace, DEFAULT_USERS)

    def holds_guards(self, namespace: str) -> bool:
        """Return True if the guards of a namespace keep their version."""
        return namespace in self._held

    async def synced(self) -> None:
        """Wait until all namespaces were read once: before that, pods could get users that OpenShift refuses."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the namespaces, for ever."""
        known: set[str] = set()
        options = WatchOptions(metadata_only=True)
        async for event in follow_known(self._client, NAMESPACE, options, _name_of, known):
            if isinstance(event, SyncedEvent):
                self._synced.set()
            elif isinstance(event, GoneEvent):
                self._users.pop(event.key, None)
                self._hold(event.key, {})
            else:
                with skip_on_defect(NAMESPACE.kind, event.object):
                    annotations = event.object["metadata"].get("annotations") or {}
                    self._hold(_name_of(event.object), annotations)
                    self._put(_name_of(event.object), users_of(annotations))

    def _put(self, namespace: str, users: PodUsers) -> None:
        if users == self.of(namespace):
            return
        if users == DEFAULT_USERS:
            del self._users[namespace]
        else:
            self._users[namespace] = users
        self._changed(namespace)

    def _hold(self, namespace: str, annotations: Mapping[str, str]) -> None:
        is_held = annotations.get(HOLD_GUARD_UPDATES, HOLD_OFF) != HOLD_OFF
        if is_held == (namespace in self._held):
            return
        self._held ^= {namespace}
        self.on_hold(namespace)


def _name_of(found: Json) -> str:
    name: str = found["metadata"]["name"]
    return name
