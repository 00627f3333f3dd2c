"""A reader of single objects: a queue of names that changed, and a few workers that read one object at a time."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from interlock_kube.client import MAX_EVENT, NOT_FOUND, ApiError, Json, KubeClient
from interlock_kube.reconcile_loop import BACKOFF_SECONDS, LoopMetrics, ReconcileLoop, WorkQueue
from interlock_kube.resource_types import ResourceType, version_of
from interlock_kube.retry import is_unavailable

READERS: Final = 4
"""Most objects that are read at once, each of which can have megabytes."""
OF_A_NAMESPACE: Final = READERS // 2
"""Most of them of one namespace: large objects of a tenant keep no object of another one waiting."""
MISSED: Final = 2**63
"""The version of a deletion that was not observed at its time."""


class ObjectName(NamedTuple):
    """One object of a kind."""

    kind: str
    namespace: str
    name: str


class ObjectReader:
    """Reads objects of some kinds.

    Args:
        client: Speaks to the API server.
        kinds: The kinds.
        metrics: Counts the reads.
        keep: Called with each object as it was read, and its kind. The object has no `apiVersion` and no `kind` if the
            API server left them out.
        settled: Called once an object was read, is gone, or cannot be read for a reason of its own, with that reason.
        on_length: Called with the number of objects that wait.
    """

    def __init__(
        self,
        client: KubeClient,
        kinds: Iterable[ResourceType],
        *,
        metrics: LoopMetrics,
        keep: Callable[[ResourceType, Json], None],
        settled: Callable[[ObjectName, Exception | None], None] = lambda *_: None,
        on_length: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._client = client
        self._kinds = {kind.kind: kind for kind in kinds}
        self._metrics = metrics
        self._keep = keep
        self._settled = settled
        self._queue: WorkQueue[ObjectName] = WorkQueue(
            on_length, namespace_of=lambda name: name.namespace, most_of_a_namespace=OF_A_NAMESPACE
        )
        self._deleted_at: dict[ObjectName, int] = {}  # of objects that are being read

    def add(self, name: ObjectName) -> None:
        """Read an object soon; changes of an object that waits already cost no further read."""
        self._queue.add(name)

    def deleted(self, name: ObjectName, version: int = MISSED) -> None:
        """Note a deletion: an answer that is on its way may be older."""
        if name in self._deleted_at:
            self._deleted_at[name] = version

    async def run(self) -> None:
        """Read what is added, for ever."""
        loop = ReconcileLoop("object", self._queue, self._read, metrics=self._metrics, backoff=BACKOFF_SECONDS)
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(loop.run())

    async def _read(self, name: ObjectName) -> None:
        """Read one object.

        Raises:
            ApiError: The API server refused it.
        """
        kind = self._kinds[name.kind]
        self._deleted_at[name] = 0
        try:
            found: Json | None = await self._client.get(kind.path(name.namespace, name.name), most=MAX_EVENT)
        except Exception as error:
            if not isinstance(error, ApiError) or error.status != NOT_FOUND:
                if not is_unavailable(error):
                    self._settled(name, error)
                raise
            found = None  # the watch reports the deletion
        finally:
            deleted_at = self._deleted_at.pop(name)
        if found is not None and version_of(found) > deleted_at:
            self._keep(kind, found)
        self._settled(name, None)
