"""The API server's addresses and version, as Kubernetes itself reports them.

The NetworkPolicies of guards allow egress to these addresses alone.
"""

import asyncio
import logging
import re
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


MINIMUM = (1, 33)


class KubernetesTooOld(Exception):  # noqa: N818 - it says what the cluster is
    """The API server is older than the oldest supported version."""


async def check_version(client: KubeClient) -> str:
    """Return the API server's version.

    Raises:
        KubernetesTooOld: It is older than 1.33; the message says so.
    """
    found = await client.get("/version")
    version = int(found["major"]), int(re.match(r"\d+", found["minor"])[0])  # type: ignore[index]
    if version < MINIMUM:
        raise KubernetesTooOld(
            f"this cluster runs Kubernetes {found['gitVersion']}, but Interlock needs 1.33 or newer "
            "(native sidecars, selectable fields): upgrade the cluster first"
        )
    return str(found["gitVersion"])
