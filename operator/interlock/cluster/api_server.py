"""The API server's addresses, as Kubernetes itself reports them.

The NetworkPolicies of guards allow egress to these addresses alone.
"""

import asyncio
import logging
from collections.abc import Callable

from interlock.deployment.children.egress_rules import endpoints_of
from interlock.deployment.placement import ApiServerAddress
from interlock_kube.client import UNREACHABLE, ApiError, KubeClient
from interlock_kube.resource_types import ENDPOINT_SLICE, SERVICE

_log = logging.getLogger(__name__)

NAMESPACE, NAME = "default", "kubernetes"
FIND_SECONDS = 10.0


class ApiServerFinder:
    """Finds the addresses of the API server.

    Args:
        client: Speaks to the API server.
        changed: Called when the addresses have changed.
        is_anywhere: See `ApiServerAddress`.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None], *, is_anywhere: bool) -> None:
        self._client, self._changed = client, changed
        self.found = ApiServerAddress(is_anywhere=is_anywhere)

    async def find(self) -> None:
        """Read the addresses once.

        Raises:
            ApiError: The API server refuses to report them.
        """
        service = await self._client.get(SERVICE.path(NAMESPACE, NAME))
        labels = {"labelSelector": f"kubernetes.io/service-name={NAME}"}
        slices = await self._client.get(ENDPOINT_SLICE.within(NAMESPACE), labels)
        endpoints = endpoints_of(service, slices["items"])
        if endpoints != self.found.endpoints:
            self.found = ApiServerAddress(endpoints, is_anywhere=self.found.is_anywhere)
            _log.info("API server found", extra={"endpoints": [f"{one.address}:{one.port}" for one in endpoints]})
            self._changed()

    async def run(self) -> None:
        """Read the addresses again and again, for ever; the last ones stay while the API server does not answer."""
        while True:
            await asyncio.sleep(FIND_SECONDS)
            try:
                await self.find()
            except (ApiError, *UNREACHABLE) as error:
                _log.warning("addresses of the API server not read", extra={"error": str(error) or repr(error)})
