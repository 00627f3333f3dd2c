"""The heartbeat of a holder: while its slice is open, the operator must see that its guard still runs.

Writes to the ledger are signs of life, too, but an idle guard writes nothing there. It then renews an annotation of the
placement's Lease, which costs no other guard a conflict:

    holder.interlock.dev/<pod>: <holder> 2026-03-02T09:00:00Z
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from interlock_contract.clock import write_time
from interlock_contract.names import GUARD_FIELD_MANAGER, HOLDER_PREFIX
from interlock_guard.budget.budget import Budget
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient

BEAT_SECONDS: Final = 15.0
"""Longest time without a sign of life. The operator closes a holder after four times as long."""
_TICK_SECONDS: Final = 3.0
_MAX_KEPT: Final = 64
"""Annotations of other pods that are kept. Those of pods that are gone are never renewed."""


class HolderHeartbeat:
    """Renews the annotation.

    Args:
        client: Sends the requests to the API server.
        lease: Path of the Lease.
        pod: Name of this pod.
        budget: The budget whose slices may be open.
        clock: The time of day.
        monotonic: Seconds on the monotonic clock.
    """

    def __init__(
        self,
        client: KubeClient,
        lease: str,
        pod: str,
        *,
        budget: Budget,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._client, self._lease, self._key = client, lease, f"{HOLDER_PREFIX}{pod}"
        self._budget, self._clock, self._monotonic = budget, clock, monotonic
        self._beat_at = -BEAT_SECONDS

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
        now = self._monotonic()
        if not self._budget.has_open_slice or now - max(self._beat_at, self._budget.written_at) < BEAT_SECONDS:
            return
        time = write_time(self._clock(), "seconds")
        written = {self._key: f"{self._budget.holder} {time}"}
        found = await self._patch(written)
        self._beat_at = now
        others = [key for key in found if key.startswith(HOLDER_PREFIX) and key != self._key]
        if len(others) > _MAX_KEPT:
            oldest = sorted(others, key=lambda key: found[key].rpartition(" ")[2])
            await self._patch(dict.fromkeys(oldest[: len(others) - _MAX_KEPT]))

    async def _patch(self, annotations: Mapping[str, str | None]) -> Mapping[str, str]:
        """Merge annotations into the Lease's, where None deletes one; return those that it has then."""
        found = await self._client.patch(self._lease, {"metadata": {"annotations": annotations}}, GUARD_FIELD_MANAGER)
        try:
            return {str(key): str(value) for key, value in (found["metadata"].get("annotations") or {}).items()}
        except (AttributeError, KeyError, TypeError):
            raise ValueError("the answer is no Lease") from None
