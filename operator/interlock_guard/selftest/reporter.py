"""Writes what the guard's proof came to, and which tools it found changed, into its placement's Lease."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

import aiohttp

from interlock_contract.names import DRIFT_PREFIX, GUARD_FIELD_MANAGER, SELFTEST_PREFIX
from interlock_contract.selftest_report import (
    SelfTestReport,
    dump_drifts,
    dump_report,
    find_surplus,
)
from interlock_kube.client import ApiError, KubeClient

_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 10.0
_AGAIN: Final = timedelta(seconds=60)
"""How long a drift that was told is not told again."""


class SelfTestReporter:
    """Writes the newest attestation into the Lease, trying until it stands there.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        clock: The time of day.
    """

    def __init__(self, client: KubeClient, lease: str, pod: str, *, clock: Callable[[], datetime]) -> None:
        self._client, self._lease = client, lease
        self._key, self._drift_key = f"{SELFTEST_PREFIX}{pod}", f"{DRIFT_PREFIX}{pod}"
        self._clock = clock
        self._news = asyncio.Event()
        self._newest: SelfTestReport | None = None
        self._drifts: dict[str, datetime] = {}
        self._owes_drifts = False
        self._trouble = ""

    def tell(self, attestation: SelfTestReport) -> None:
        """Have it written; returns at once."""
        self._newest = attestation
        self._news.set()

    def tell_drift(self, binding: str) -> None:
        """Have it written that a tool of the binding has changed, so that its server is verified soon."""
        now, before = self._clock(), self._drifts.get(binding)
        if before is None or now - before >= _AGAIN:
            self._drifts[binding], self._owes_drifts = now, True
            self._news.set()

    async def run(self, log: Callable[[str], None]) -> None:
        """Write whatever is told, until cancelled."""
        while True:
            self._news.clear()
            await self._write_until_done(log)  # also what an earlier run has left
            await self._news.wait()

    async def _write_until_done(self, log: Callable[[str], None]) -> None:
        wait = _FIRST_WAIT
        while self._newest is not None or self._owes_drifts:
            writing, drifts = self._newest, dict(self._drifts)
            try:
                await self._write(writing, drifts if self._owes_drifts else {})
            except (aiohttp.ClientError, TimeoutError, OSError, ApiError, ValueError) as error:
                self._note(f"{type(error).__name__}: {error}", log)
                await asyncio.sleep(wait)
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                self._note("", log)
                if writing is self._newest:
                    self._newest = None
                self._owes_drifts = self._owes_drifts and drifts != self._drifts

    async def _write(self, attestation: SelfTestReport | None, drifts: Mapping[str, datetime]) -> None:
        said: dict[str, str | None] = {}
        if attestation is not None:
            said[self._key] = dump_report(attestation, self._clock())
        if drifts:
            said[self._drift_key] = dump_drifts(drifts)
        annotations = await self._patch(said)
        surplus = [
            *find_surplus(annotations, self._key),
            *find_surplus(annotations, self._drift_key, DRIFT_PREFIX),
        ]
        if surplus:
            await self._patch(dict.fromkeys(surplus))

    async def _patch(self, annotations: Mapping[str, str | None]) -> Mapping[str, str]:
        """Merge annotations into the Lease's, None taking one away; return all that are there then."""
        found = await self._client.patch(self._lease, {"metadata": {"annotations": annotations}}, GUARD_FIELD_MANAGER)
        kept = found["metadata"].get("annotations") or {}
        return {str(key): str(value) for key, value in kept.items()}

    def _note(self, trouble: str, log: Callable[[str], None]) -> None:
        if trouble != self._trouble:
            log(f"proof in the Lease: {trouble or 'written again'}")
        self._trouble = trouble
