"""The pods of tests of stages, read once for each Job that has ended."""

from interlock.deployment.names import Manifest
from interlock_kube.client import KubeClient
from interlock_kube.resource_types import POD

_JOB_NAME = "batch.kubernetes.io/job-name"
_MOST = "2"
"""A Job of a test has one pod."""


async def read_test_pods(client: KubeClient, namespace: str, job: str) -> tuple[Manifest, ...]:
    """Return the pods of a Job; empty if they were deleted.

    Raises:
        ApiError: The API server refuses.
    """
    query = {"labelSelector": f"{_JOB_NAME}={job}", "limit": _MOST}
    found = await client.get(POD.within(namespace), query)
    return tuple(found.get("items") or ())
