"""BudgetLedgers in memory, with the requests of the client of the API server that a guard sends about them.

It exists for unit tests, which need a store that is away, slow, or takes a write without an answer at a chosen moment.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from interlock_contract.budget.ledger import Ledger, dump_ledger, parse_ledger
from interlock_kube.client import CONFLICT, NOT_FOUND, ApiError, KubeClient


class LedgerStore(KubeClient):
    """Holds ledgers by name; each write raises the version."""

    def __init__(self) -> None:  # nothing of the client that it stands for
        self.objects: dict[str, dict[str, Any]] = {}
        self.is_away = False
        self.refusals: dict[str, int] = {}
        """With which status requests about a ledger are refused, by its name."""
        self.silent: set[str] = set()
        """Ledgers about which no request is answered."""
        self.requests: list[str] = []
        """The ledger of each request."""
        self.loses_answers = 0
        """How many more writes are stored without an answer."""
        self.answers = asyncio.Event()
        """While it is not set, writes are stored, and neither an answer nor a watch tells of it."""
        self.answers.set()
        self.before_update: Callable[[], object] = lambda: None
        """Called while a write is on its way."""
        self.writes = 0
        self.history: list[tuple[str, Ledger]] = []
        self._changed: list[asyncio.Event] = []
        self._version = 100

    def put(self, name: str, ledger: Ledger) -> None:
        """Store a ledger, as the operator does."""
        self._store(name, dump_ledger(ledger))

    def ledger(self, name: str) -> Ledger:
        """Return a ledger as it is stored."""
        return parse_ledger(self.objects[name]["status"])

    def _store(self, name: str, status: dict[str, Any]) -> None:
        self._version += 1
        metadata = {"name": name, "resourceVersion": str(self._version)}
        self.objects[name] = {"metadata": metadata, "spec": {"policy": "support"}, "status": status}
        self.history.append((name, parse_ledger(status)))
        if self.answers.is_set():
            self.wake()

    async def get(self, path: str, query: Mapping[str, str] | None = None, **_: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        await self._check(path, query)
        if query is not None:
            found = self.objects.get(query["fieldSelector"].removeprefix("metadata.name="))
            items = [] if found is None else [copy.deepcopy(found)]
            return {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        found = self.objects.get(path.rpartition("/")[2])
        if found is None:
            raise ApiError(NOT_FOUND, "not found")
        return copy.deepcopy(found)

    async def update(self, path: str, body: dict[str, Any], _manager: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        await self._check(path)
        self.before_update()
        name = path.removesuffix("/status").rpartition("/")[2]
        if self.objects[name]["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiError(CONFLICT, "the object has been modified")
        self._store(name, copy.deepcopy(body["status"]))
        self.writes += 1
        if self.loses_answers:
            self.loses_answers -= 1
            raise TimeoutError
        await asyncio.sleep(0)
        await self.answers.wait()
        return copy.deepcopy(self.objects[name])

    async def lines(self, path: str, query: Mapping[str, str], **__: Any) -> AsyncIterator[dict[str, Any]]:
        name, seen = query["fieldSelector"].removeprefix("metadata.name="), query["resourceVersion"]
        changed = asyncio.Event()
        self._changed.append(changed)
        try:
            while True:
                await self._check(path, query)
                found = self.objects.get(name)
                if found is not None and int(found["metadata"]["resourceVersion"]) > int(seen):
                    seen = found["metadata"]["resourceVersion"]
                    yield {"type": "MODIFIED", "object": copy.deepcopy(found)}
                await changed.wait()
                changed.clear()
        finally:
            self._changed.remove(changed)

    def go_away(self) -> None:
        """Answer nothing any longer; watches break."""
        self.is_away = True
        self.wake()

    def wake(self) -> None:
        """Let watches look now at what is stored, or find out that they are refused."""
        for changed in self._changed:
            changed.set()

    def come_back(self) -> None:
        """Answer again."""
        self.is_away = False

    async def _check(self, path: str, query: Mapping[str, str] | None = None) -> None:
        name = path.removesuffix("/status").rpartition("/")[2]
        if query is not None:
            name = query["fieldSelector"].removeprefix("metadata.name=")
        self.requests.append(name)
        if self.is_away:
            raise OSError("the API server is away")
        if name in self.refusals:
            raise ApiError(self.refusals[name], "refused")
        if name in self.silent:
            await asyncio.Event().wait()
