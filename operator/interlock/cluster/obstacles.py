"""Objects of users that would undo what the operator is about to create.

A pod keeps the name of its ServiceAccount, and a NetworkPolicy adds to those that are created later. From the creation
of an Agent on, admission policies refuse such objects. So those from before are looked for right before the first
object that depends on this.
"""

from typing import Final

from interlock.deployment.names import Manifest, key_of
from interlock.deployment.observed.foreign_policies import gives_egress
from interlock.deployment.plan import GRANT, NETWORK
from interlock_contract.names import APP_MANAGED_BY_LABEL, MANAGED_BY
from interlock_kube.client import METADATA_LIST, KubeClient
from interlock_kube.resource_types import BY_KIND, POD
from interlock_kube.watch import read_pages

FOREIGN: Final = f"{APP_MANAGED_BY_LABEL}!={MANAGED_BY}"
PAGE: Final = 4
"""Most NetworkPolicies in memory at once: one can have 1.5 MiB."""
MOST_POLICIES: Final = 512
"""Most NetworkPolicies of users in one namespace that are read. With more, no agent's network is closed there."""


async def find_obstacle(client: KubeClient, manifest: Manifest) -> str | None:
    """Return what keeps an object from being created, and the way out; None where nothing does.

    Args:
        client: Speaks to the API server.
        manifest: The object.

    Raises:
        ApiError: The API server refused to list the objects of users.
    """
    kind, namespace = key_of(manifest).kind, manifest["metadata"]["namespace"]
    if kind == GRANT:
        for subject in manifest["subjects"]:
            if (obstacle := await _find_pod(client, namespace, subject["name"])) is not None:
                return obstacle
    if kind == NETWORK and not {"ingress", "egress"} & manifest["spec"].keys():
        return await _find_opening(client, namespace, manifest)
    return None


async def _find_pod(client: KubeClient, namespace: str, account: str) -> str | None:
    """Find a pod of a user that would get tokens of a guard, a verifier or a notifier."""
    query = {"fieldSelector": f"spec.serviceAccountName={account}", "labelSelector": FOREIGN, "limit": "1"}
    found = await client.get(POD.within(namespace), query, accept=METADATA_LIST)
    for pod in found["items"] or ():  # an empty list of metadata has null there
        name = pod["metadata"]["name"]
        return (
            f"pod {name} runs under the name of ServiceAccount {account}, which is the identity of a guard, "
            f"verifier or notifier of Interlock: run: kubectl -n {namespace} delete pod {name}"
        )
    return None


async def _find_opening(client: KubeClient, namespace: str, closed: Manifest) -> str | None:
    """Find a NetworkPolicy of a user that gives egress to the pods that the manifest closes."""
    query, read = {"labelSelector": FOREIGN}, 0
    async for page in read_pages(client, BY_KIND[NETWORK].within(namespace), query, limit=PAGE):
        if read >= MOST_POLICIES:
            return (
                f"namespace {namespace} has more than {MOST_POLICIES} NetworkPolicies of users, too many to check that "
                "none of them opens the network of agents: delete some of them"
            )
        for found in page["items"]:
            if gives_egress(found, closed):
                return (
                    f"NetworkPolicy {found['metadata']['name']} gives egress to these pods, whose network must be "
                    "closed: leave them out of its spec.podSelector with "
                    f"matchExpressions: [{{key: {APP_MANAGED_BY_LABEL}, operator: NotIn, values: [{MANAGED_BY}]}}]"
                )
        read += len(page["items"])
    return None
