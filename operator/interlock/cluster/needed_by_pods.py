"""The question whether pods still need an object that outlives them, asked once for all objects with the same pods."""

import asyncio
from typing import Final

from interlock.deployment.names import ChildKey
from interlock.deployment.plan import ACCOUNT, NETWORK
from interlock_contract.names import GUARD_ACCOUNT_SUFFIX
from interlock_kube.client import METADATA_LIST, KubeClient
from interlock_kube.resource_types import POD

_Query = tuple[str, str]
"""A kind of selector, and the selector."""
_LABELS: Final = "labelSelector"
_FIELDS: Final = "fieldSelector"


class NeededByPods:
    """Answers for the objects that one prune is to delete.

    Role, RoleBinding, Lease and ServiceAccount of a guard have the same pods, and each question costs the API server a
    search in all pods of the namespace.

    Args:
        client: Speaks to the API server.
        namespace: The namespace.
    """

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client, self._namespace = client, namespace
        self._answers: dict[_Query, asyncio.Task[bool]] = {}

    async def is_needed(self, key: ChildKey, selector: str) -> bool:
        """Return True if there is a pod that an object is for, be it a terminating one.

        Args:
            key: The object.
            selector: The label selector of its pods; empty if it is for none.

        Raises:
            ApiError: The API server refused the question.
        """
        if not selector:
            return False
        query = (_LABELS, selector) if key.kind == NETWORK else (_FIELDS, _account_selector(key))
        if query not in self._answers:
            self._answers[query] = asyncio.create_task(self._ask(*query))
        return await self._answers[query]

    async def _ask(self, kind: str, selector: str) -> bool:
        path = POD.within(self._namespace)
        found = await self._client.get(path, {kind: selector, "limit": "1"}, accept=METADATA_LIST)
        return bool(found["items"])


def _account_selector(key: ChildKey) -> str:
    """Return the field selector of the pods that an object is for, by their account.

    Labels would not do: an account of one isolation goes while the pods of another one stay, and another object with
    the labels of a placement is of no use to its pods.
    """
    account = key.name if key.kind == ACCOUNT else f"{key.name}{GUARD_ACCOUNT_SUFFIX}"
    return f"spec.serviceAccountName={account}"
