"""Find out where the API server is, as Kubernetes itself says: guards' NetworkPolicies let out to nothing else."""

import asyncio
import logging
import re
from collections.abc import Callable

import aiohttp

from interlock.deployment.children.network import endpoints_of
from interlock.deployment.placement import ApiServerAddress
from interlock_kube.client import ApiError, KubeClient
from interlock_kube.resource_types import ENDPOINT_SLICE, SERVICE

_log = logging.getLogger(__name__)

NAMESPACE, NAME = "default", "kubernetes"
LOOK_SECONDS = 10.0


class ApiServerFinder:
    """Knows where the API server is.

    Args:
        client: Asks it.
        changed: Called when it has moved.
        is_anywhere: See `ApiServer`.
    """

    def __init__(self, client: KubeClient, changed: Callable[[], None], *, is_anywhere: bool) -> None:
        self._client, self._changed = client, changed
        self.found = ApiServerAddress(is_anywhere=is_anywhere)

    async def look(self) -> None:
        """Ask once.

        Raises:
            ApiError: The API server refuses to say.
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
        """Ask again and again, for ever; what was found last holds while nobody answers."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                _log.warning("cannot look where the API server is", extra={"error": str(error) or repr(error)})


MINIMUM = (1, 33)


class KubernetesTooOld(Exception):  # noqa: N818 - it says what the cluster is
    """The API server is older than we can work with."""


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
