"""The heartbeat of a holder: while its slice is open, the operator must see that its guard still runs.

Writes to the ledger are signs of life, too, but an idle guard writes nothing there. It then renews an annotation of the
placement's Lease, which costs no other guard a conflict:

    holder.interlock.dev/<pod>: <holder> 2026-03-02T09:00:00Z

The time is that of the API server, so that guards whose clocks differ agree on which annotation is stale. A pod that is
gone leaves one behind, and the others delete it. One that is renewed stays, however many pods share the Lease.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from interlock_contract.clock import read_time, write_time
from interlock_contract.names import GUARD_FIELD_MANAGER, HOLDER_PREFIX
from interlock_guard.budget.budget import Budget
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient

BEAT_SECONDS: Final = 15
"""Longest time without a sign of life. The operator closes a holder after four times as long."""
_TICK_SECONDS: Final = 3.0
STALE_SECONDS: Final = 300
"""Age of an annotation that says nothing any longer: the operator has closed its holder, or never knew it."""


class HolderHeartbeat:
    """Renews the annotation.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        budget: The budget whose slices may be open.
    """

    def __init__(self, client: KubeClient, lease: str, pod: str, budget: Budget) -> None:
        self._client, self._lease, self._key, self._budget = client, lease, f"{HOLDER_PREFIX}{pod}", budget
        self._beat_at = 0

    async def run(self, log: Callable[[str], None]) -> None:
        """Renew it until cancelled."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            try:
                await self.beat()
            except (ApiError, *UNREACHABLE, ValueError) as error:
                log(f"heartbeat of the budget: {type(error).__name__}: {error}")

    async def beat(self) -> None:
        """Renew it, if a slice is open and there was no sign of life for a while.

        Raises:
            ApiError: The API server refused. Exceptions in `UNREACHABLE` say that it did not answer.
            ValueError: The answer is no Lease.
        """
        now, seen_at = self._budget.now(), self._budget.seen_at
        if now is None or seen_at is None or 0 <= now - max(self._beat_at, seen_at) < BEAT_SECONDS:
            return
        moment = datetime.fromtimestamp(now, UTC)
        found = await self._patch({self._key: f"{self._budget.holder} {write_time(moment, 'seconds')}"})
        self._beat_at = now
        oldest = moment - timedelta(seconds=STALE_SECONDS)
        stale = [key for key, value in found.items() if key.startswith(HOLDER_PREFIX) and _time_of(value) < oldest]
        if stale:
            await self._patch(dict.fromkeys(stale))

    async def _patch(self, annotations: Mapping[str, str | None]) -> Mapping[str, str]:
        """Merge annotations into the Lease's, where None deletes one; return those that it has then."""
        found = await self._client.patch(self._lease, {"metadata": {"annotations": annotations}}, GUARD_FIELD_MANAGER)
        try:
            return {str(key): str(value) for key, value in (found["metadata"].get("annotations") or {}).items()}
        except (AttributeError, KeyError, TypeError):
            raise ValueError("the answer is no Lease") from None


def _time_of(value: str) -> datetime:
    """Return the time in an annotation, long ago where it has none."""
    return read_time(value.rpartition(" ")[2], datetime.fromtimestamp(0, UTC))
