"""The Lease of the kill controller: while it is renewed, killed Agents lose their pods.

The operator watches it, and starts no new pods once it has not changed for a minute.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from interlock_contract.clock import write_time
from interlock_contract.names import KILL_FIELD_MANAGER, KILL_LEASE, KILL_LEASE_SECONDS
from interlock_kube.client import NOT_FOUND, UNREACHABLE, ApiError, Json, KubeClient
from interlock_kube.resource_types import LEASE

_log = logging.getLogger(__name__)

RENEW_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0


class LeaseRenewer:
    """Renews the Lease while kills can be carried out.

    Args:
        client: Speaks to the API server.
        namespace: The namespace of the Lease.
        holder: Name of this process' pod.
        clock: Returns the time.
        problem: Returns why pods of killed Agents may not be ended, None while they are.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        holder: str,
        *,
        clock: Callable[[], datetime],
        problem: Callable[[], str | None],
    ) -> None:
        self._client, self._namespace, self._holder = client, namespace, holder
        self._clock, self._problem = clock, problem

    async def run(self) -> None:
        """Renew, for ever; what prevents it is logged, once for each cause in a row."""
        logged = None
        while True:
            trouble = self._problem()
            if trouble is None:
                try:
                    await self.renew()
                except (ApiError, *UNREACHABLE) as error:
                    trouble = str(error) or type(error).__name__
            if trouble is not None and trouble != logged:
                _log.warning("lease not renewed", extra={"error": trouble})
            logged = trouble
            await asyncio.sleep(RENEW_SECONDS if trouble is None else RETRY_SECONDS)

    async def renew(self) -> None:
        """Write the time into the Lease; create it where there is none.

        Raises:
            ApiError: The API server refused.
        """
        spec: Json = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": KILL_LEASE_SECONDS,
            "renewTime": write_time(self._clock()),
        }
        try:
            await self._client.patch(LEASE.path(self._namespace, KILL_LEASE), {"spec": spec}, KILL_FIELD_MANAGER)
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            metadata = {"name": KILL_LEASE, "namespace": self._namespace}
            manifest = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata, "spec": spec}
            await self._client.create(LEASE.within(self._namespace), manifest)
