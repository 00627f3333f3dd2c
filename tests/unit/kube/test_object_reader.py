"""The reader of single objects: a namespace whose objects are slow to read keeps no other one waiting."""

import asyncio
from typing import Any

from interlock_kube.client import Json
from interlock_kube.object_reader import OF_A_NAMESPACE, READERS, ObjectName, ObjectReader
from interlock_kube.resource_types import CONFIG_MAP
from tests.support.bounds import until


class SlowNamespace:
    """A fake of the Client: no object of the namespace `slow` is ever answered."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, path: str, **_: Any) -> Json:
        if "/slow/" in path:
            self.asked += 1
            await asyncio.Event().wait()
        return {"metadata": {"name": "mine", "namespace": "agents", "resourceVersion": "5"}}


class Uncounted:
    """Counts nothing."""

    def turn(self, kind: str, *, is_ok: bool, seconds: float) -> None: ...

    def failure(self, kind: str, cause: object) -> None: ...


async def test_objects_that_are_never_answered_leave_readers_to_other_namespaces() -> None:
    client, kept = SlowNamespace(), list[Json]()
    reader = ObjectReader(client, (CONFIG_MAP,), metrics=Uncounted(), keep=lambda _, found: kept.append(found))  # type: ignore[arg-type]
    running = asyncio.create_task(reader.run())
    for number in range(2 * READERS):
        reader.add(ObjectName("ConfigMap", "slow", f"large-{number}"))
    await until(lambda: client.asked == OF_A_NAMESPACE, "the slow namespace has its share")
    reader.add(ObjectName("ConfigMap", "agents", "mine"))
    await until(lambda: bool(kept), "the other one is read")
    assert client.asked == OF_A_NAMESPACE
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
