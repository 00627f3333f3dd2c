"""The reporter of drains, which writes into the placement's Lease how many tasks are under way.

It writes at each change, at most once a second, and only while the bundle says that the guard drains, or that pods
of its agent do. A guard in a pod of its own that was chosen to go counts calls, too: those of an agent's pod that stays
may belong to a task that another guard has sent. Until no task has come for some seconds, it reports one as under way,
since a node that is slow to learn that Services lead elsewhere would send the next one to a pod that is gone.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Final

from interlock_contract.drain_report import DrainReport, dump_drain
from interlock_contract.names import DRAIN_PREFIX, GUARD_FIELD_MANAGER
from interlock_contract.selftest_report import find_surplus
from interlock_guard.state import LiveState
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient

WRITE_PAUSE: Final = 1.0
"""Seconds between two writes."""
COUNT_PAUSE: Final = 1.0
"""Seconds between two counts during a drain."""
_LONGEST_WAIT: Final = 10.0
_Counted = tuple[str, int | None, int | None]
"""Digest of the bundle, what is under way while the guard drains, and what is in pods that drain."""


class DrainReporter:
    """Writes what is under way at the task endpoint.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        live: The bundle in force.
        endpoint: Where tasks are counted. Its changes wake the reporter.
        clock: The time of day.
        count_calls: Returns how many calls of a separate agent are under way.
    """

    def __init__(
        self,
        client: KubeClient,
        lease: str,
        pod: str,
        *,
        live: LiveState,
        endpoint: TaskEndpoint,
        clock: Callable[[], datetime],
        count_calls: Callable[[], int] = lambda: 0,
    ) -> None:
        self._client, self._lease, self._key = client, lease, f"{DRAIN_PREFIX}{pod}"
        self._live, self._endpoint, self._clock = live, endpoint, clock
        self._changed = asyncio.Event()
        self._written: _Counted | None = None
        self._count_calls = count_calls
        self._trouble = ""
        endpoint.on_change = self._changed.set

    async def run(self, log: Callable[[str], None]) -> None:
        """Write each change, until cancelled."""
        wait = WRITE_PAUSE
        while True:
            self._changed.clear()
            found = self._find_report()
            if found is None or found == self._written:
                await self._wait(COUNT_PAUSE if self._endpoint.drains else None)
                continue
            try:
                await self._write(*found)
            except (ApiError, *UNREACHABLE, ValueError) as error:
                self._note(f"{type(error).__name__}: {error}", log)
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                self._written, wait = found, WRITE_PAUSE
                self._note("", log)
                await asyncio.sleep(WRITE_PAUSE)

    async def _wait(self, seconds: float | None) -> None:
        """Wait for a change of tasks, or so long: neither the end of calls is one, nor that no task comes."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _find_report(self) -> _Counted | None:
        """Return the digest of the bundle and what is under way; None while nothing drains."""
        under_way = self._count() if self._endpoint.drains else None
        leaving = self._endpoint.under_way_leaving
        return None if under_way is None and leaving is None else (self._live.digest, under_way, leaving)

    def _count(self) -> int:
        calls = self._count_calls() if self._endpoint.is_chosen else 0
        return self._endpoint.under_way + calls or int(self._endpoint.got_task_lately)

    async def _write(self, bundle: str, under_way: int | None, leaving: int | None) -> None:
        report = DrainReport(bundle, under_way, self._clock(), leaving)
        annotations = await self._patch({self._key: dump_drain(report)})
        surplus = find_surplus(annotations, self._key, DRAIN_PREFIX)
        if surplus:
            await self._patch(dict.fromkeys(surplus))

    async def _patch(self, annotations: dict[str, str] | dict[str, None]) -> dict[str, str]:
        found = await self._client.patch(self._lease, {"metadata": {"annotations": annotations}}, GUARD_FIELD_MANAGER)
        kept = found["metadata"].get("annotations") or {}
        return {str(key): str(value) for key, value in kept.items()}

    def _note(self, trouble: str, log: Callable[[str], None]) -> None:
        if trouble != self._trouble:
            log(f"drain report in the Lease: {trouble or 'written again'}")
        self._trouble = trouble
