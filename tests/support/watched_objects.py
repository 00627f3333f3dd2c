"""A fake of the Client for watches of metadata: ConfigMaps by key, and the events of one watch."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from interlock_kube.client import JSON, METADATA_LIST, ApiError, Json
from interlock_kube.resource_types import CONFIG_MAP, Key, key_of

EVERYWHERE = CONFIG_MAP.everywhere()


def an_event(kind: str, found: Json) -> Json:
    return {"type": kind, "object": {"metadata": found["metadata"]}}


@dataclass
class FakeServer:
    """A fake of the Client: objects, and the events of one watch."""

    objects: dict[Key, Json] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    failures: dict[str, list[Exception]] = field(default_factory=dict)
    page: int = 1000
    events: "asyncio.Queue[Json]" = field(default_factory=asyncio.Queue)

    def add(self, *objects: Json) -> None:
        self.objects |= {key_of(found): found for found in objects}

    async def get(self, path: str, query: Any = None, *, accept: str = JSON, most: int = 0) -> Json:
        assert most > 0, "every read is bounded"
        if failures := self.failures.get(path):
            raise failures.pop(0)
        if path == EVERYWHERE:
            begin = int(query.get("continue", 0))
            end = begin + self.page
            found = list(self.objects.values())[begin:end]
            more = str(end) if end < len(self.objects) else ""
            if accept == JSON:
                self.reads.append(f"page {begin}")
            else:
                assert accept == METADATA_LIST
                found = [{"metadata": one["metadata"]} for one in found]
            return {"items": found, "metadata": {"resourceVersion": "100", "continue": more}}
        *_, namespace, _, name = path.split("/")
        self.reads.append(name)
        if (namespace, name) not in self.objects:
            raise ApiError(404, "not found")
        return self.objects[namespace, name]

    async def lines(self, _path: str, _query: Any, **_: Any) -> AsyncIterator[Json]:
        while True:
            yield await self.events.get()
