"""The reporter of a guard, which writes into the placement's Lease.

It reports the result of the self-test, the tools that have changed, the rules that deny many requests, and loops for
which the agent is to be killed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from interlock_contract.loops import LoopReport, dump_loop
from interlock_contract.names import DENIALS_PREFIX, DRIFT_PREFIX, GUARD_FIELD_MANAGER, LOOP_PREFIX, SELFTEST_PREFIX
from interlock_contract.selftest_report import (
    DROPPED_SUFFIX,
    RepeatedDenials,
    SelfTestReport,
    dump_denials,
    dump_drifts,
    dump_report,
    find_surplus,
)
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
_AGAIN: Final = timedelta(seconds=60)
"""How long a reported change is not reported again; the time doubles with each report of the same change."""
_LONGEST_AGAIN: Final = timedelta(hours=1)
_MOST_CHANGES: Final = 256
"""Changes that are remembered. A server can change a tool whenever it lists it."""
_MOST_DENIALS: Final = 8
"""Reports of repeated denials that the annotation has room for."""
_WRITE_PAUSE: Final = 1.0
"""Seconds between two writes of changes and denials, of which a server or an agent can cause many."""


@dataclass(frozen=True, slots=True)
class _Reported:
    at: datetime
    pause: timedelta


class SelfTestReporter:
    """Writes the newest report into the Lease, and retries until it is written.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        clock: The time of day.
    """

    def __init__(self, client: KubeClient, lease: str, pod: str, *, clock: Callable[[], datetime]) -> None:
        self._client, self._lease = client, lease
        self._key, self._drift_key, self._denials_key, self._loop_key = (
            f"{prefix}{pod}" for prefix in (SELFTEST_PREFIX, DRIFT_PREFIX, DENIALS_PREFIX, LOOP_PREFIX)
        )
        self._clock = clock
        self._changed = asyncio.Event()
        self._newest: SelfTestReport | None = None
        self._loop: LoopReport | None = None
        self._drifts: dict[str, datetime] = {}
        self._changes: dict[tuple[str, str], _Reported] = {}
        self._denials: deque[RepeatedDenials] = deque(maxlen=_MOST_DENIALS)
        self._has_queued = False
        self._next_write_at = 0.0
        self._trouble = ""

    def report(self, report: SelfTestReport) -> None:
        """Queue a report; returns immediately."""
        self._newest = report
        self._changed.set()

    def report_drift(self, binding: str, change: str) -> None:
        """Queue that the server of the binding differs from what was verified, so that it is verified again soon.

        Args:
            binding: The name of the binding.
            change: What differs: a name with the observed digest. Each change is reported immediately the first time.
        """
        now, known = self._clock(), self._changes.get((binding, change))
        if known is not None and timedelta() <= now - known.at < known.pause:
            return
        self._changes.pop((binding, change), None)
        while len(self._changes) >= _MOST_CHANGES:
            del self._changes[next(iter(self._changes))]
        pause = _AGAIN if known is None else min(2 * known.pause, _LONGEST_AGAIN)
        self._changes[binding, change] = _Reported(now, pause)
        self._drifts[binding], self._has_queued = now, True
        self._changed.set()

    def report_denials(self, denials: RepeatedDenials) -> None:
        """Queue that a rule denies many requests, of which users are told by an Event."""
        self._denials.append(denials)
        self._has_queued = True
        self._changed.set()

    def report_loop(self, loop: LoopReport) -> None:
        """Queue that the agent is to be killed for a loop; until one is written, the first one stands."""
        self._loop = self._loop or loop
        self._changed.set()

    def report_dropped(self, binding: str) -> None:
        """Queue that many messages of the binding's server were dropped."""
        self.report_drift(f"{binding}{DROPPED_SUFFIX}", "")

    async def run(self, log: Callable[[str], None]) -> None:
        """Write each report, until cancelled."""
        while True:
            self._changed.clear()
            await self._write_until_done(log)  # also what an earlier run has left
            await self._changed.wait()

    async def _write_until_done(self, log: Callable[[str], None]) -> None:
        wait, clock = _FIRST_WAIT, asyncio.get_running_loop().time
        while self._newest is not None or self._loop is not None or self._has_queued:
            early = self._next_write_at - clock()
            if self._newest is None and self._loop is None and early > 0:
                await asyncio.sleep(early)
            writing, loop, has_queued, self._has_queued = self._newest, self._loop, self._has_queued, False
            try:
                await self._write(writing, loop, has_queued=has_queued)
            except (ApiError, *UNREACHABLE, ValueError) as error:
                self._has_queued |= has_queued
                self._note(f"{type(error).__name__}: {error}", log)
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                self._note("", log)
                if writing is self._newest:
                    self._newest = None
                if loop is not None:
                    self._loop = None
                if has_queued:
                    self._next_write_at = clock() + _WRITE_PAUSE

    async def _write(self, report: SelfTestReport | None, loop: LoopReport | None, *, has_queued: bool) -> None:
        written: dict[str, str | None] = {}
        if loop is not None:
            written[self._loop_key] = dump_loop(loop)
        if report is not None:
            written[self._key] = dump_report(report, self._clock())
        if has_queued and self._drifts:
            written[self._drift_key] = dump_drifts(self._drifts)
        if has_queued and self._denials:
            written[self._denials_key] = dump_denials(self._denials)
        annotations = await self._patch(written)
        surplus = [
            *find_surplus(annotations, self._key),
            *find_surplus(annotations, self._drift_key, DRIFT_PREFIX),
            *find_surplus(annotations, self._denials_key, DENIALS_PREFIX),
            *find_surplus(annotations, self._loop_key, LOOP_PREFIX),
        ]
        if surplus:
            await self._patch(dict.fromkeys(surplus))

    async def _patch(self, annotations: Mapping[str, str | None]) -> Mapping[str, str]:
        """Merge annotations into the Lease's, where None deletes one; return those that it has then."""
        found = await self._client.patch(self._lease, {"metadata": {"annotations": annotations}}, GUARD_FIELD_MANAGER)
        kept = found["metadata"].get("annotations") or {}
        return {str(key): str(value) for key, value in kept.items()}

    def _note(self, trouble: str, log: Callable[[str], None]) -> None:
        if trouble != self._trouble:
            log(f"self-test report in the Lease: {trouble or 'written again'}")
        self._trouble = trouble
