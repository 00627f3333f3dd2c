"""Adds up the counts of guards whose pods are gone, so that their Leases always have room."""

import logging
from collections.abc import Collection, Mapping

from interlock.deployment.names import ChildKey
from interlock.deployment.observed.work_counts import add_up_ended
from interlock.deployment.plan import LiveChild
from interlock_contract.names import FIELD_MANAGER
from interlock_kube.client import JSON_PATCH, UNREACHABLE, ApiError, KubeClient
from interlock_kube.resource_types import LEASE

_log = logging.getLogger(__name__)


async def add_up_counts(
    client: KubeClient, namespace: str, children: Mapping[ChildKey, LiveChild], pods: Collection[str]
) -> None:
    """Add up the counts in the Leases of an agent's placements that have many texts of pods that are gone.

    A patch that the API server refuses changes nothing: a guard has written meanwhile, and a later reconcile tries
    again. Nothing that is judged depends on when that is.

    Args:
        client: Speaks to the API server.
        namespace: The namespace of the agent.
        children: Its children.
        pods: The names of its pods.
    """
    for key, child in children.items():
        patch = add_up_ended(child.manifest, pods) if key.kind == LEASE.kind else []
        if not patch:
            continue
        try:
            await client.patch(LEASE.path(namespace, key.name), patch, FIELD_MANAGER, content_type=JSON_PATCH)
        except (ApiError, *UNREACHABLE) as error:
            _log.info("counts of ended guards were not added up: %s", error, extra={"lease": key.name})
