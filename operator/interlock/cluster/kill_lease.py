"""The Lease of the kill controller, as the operator sees it.

Where nothing would end the pods of a killed Agent, no new pod may start. The operator therefore reads the Lease every
few seconds, and holds Deployments back while it is older than a minute.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interlock.telemetry import KILL_CONTROLLER_AWAY
from interlock_contract.clock import read_time
from interlock_contract.names import KILL_LEASE, KILL_LEASE_SECONDS, OPERATOR_NAMESPACE
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient
from interlock_kube.resource_types import LEASE

_log = logging.getLogger(__name__)

READ_SECONDS: Final = 5.0


class KillLease:
    """Tells whether the kill controller is at work.

    Its age is counted from the moment that a renewal was observed, since the clocks of two nodes may differ. Only a
    Lease that is read for the first time is compared with this clock: an old one has to be renewed before it counts.

    Args:
        clock: Returns the time.
        monotonic: Returns seconds that never go back.
        changed: Called when the controller was lost or has come back.
        namespace: The namespace of the Lease.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        changed: Callable[[], None],
        namespace: str = OPERATOR_NAMESPACE,
    ) -> None:
        self._clock, self._monotonic, self._changed, self._namespace = clock, monotonic, changed, namespace
        self._renewal: str | None = None
        self._observed: float | None = None
        self._was_held: bool | None = None
        self._failure = ""

    @property
    def is_held(self) -> bool:
        """Whether the kill controller has renewed the Lease within the last minute."""
        return self._observed is not None and self._monotonic() - self._observed <= KILL_LEASE_SECONDS

    async def run(self, client: KubeClient) -> None:
        """Read the Lease, for ever."""
        while True:
            await self.read(client)
            await asyncio.sleep(READ_SECONDS)

    async def read(self, client: KubeClient) -> None:
        """Read the Lease once; a failure is logged, once for each cause in a row, and leaves it as old as it is."""
        failure = ""
        try:
            found = await client.get(LEASE.path(self._namespace, KILL_LEASE))
            self.observe((found.get("spec") or {}).get("renewTime"))
        except (ApiError, *UNREACHABLE, ValueError) as error:
            failure = str(error) or type(error).__name__
            if failure != self._failure:
                _log.warning("the Lease of the kill controller cannot be read", extra={"error": failure})
        self._failure = failure
        self.check()

    def observe(self, renewal: Any) -> None:
        """Observe `spec.renewTime`; anything but a time counts as no renewal."""
        if not isinstance(renewal, str) or renewal == self._renewal:
            return
        is_first, self._renewal = self._renewal is None, renewal
        oldest = self._clock() - timedelta(seconds=KILL_LEASE_SECONDS)
        if is_first and read_time(renewal, datetime.min.replace(tzinfo=UTC)) < oldest:
            return
        self._observed = self._monotonic()

    def check(self) -> None:
        """Report a change of `is_held`."""
        is_held = self.is_held
        KILL_CONTROLLER_AWAY.set(0 if is_held else 1)
        if is_held != self._was_held:
            self._was_held = is_held
            _log.warning(
                "the kill controller is at work" if is_held else "the kill controller is away: no new pod starts"
            )
            self._changed()
