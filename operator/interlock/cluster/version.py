"""Which Kubernetes we stand on: native sidecars and selectable fields are needed."""

import re

from interlock.cluster.client import Client

MINIMUM = (1, 33)


class KubernetesTooOld(Exception):  # noqa: N818 - it says what the cluster is
    """The API server is older than we can work with."""


async def check_version(client: Client) -> str:
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
