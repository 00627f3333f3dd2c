"""The operator's comparison of admission policies, with its own rights and an API server's way of storing them."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from interlock.cluster.admission_policies import KINDS, AdmissionPolicies
from interlock.reconcile.agent_events import EventNote
from interlock_kube.client import KubeClient
from interlock_process.kubeconfig import KubeconfigCredentials
from tests.integration.callers import MERGE, Caller, Json
from tests.integration.kubectl import ROOT, Kubectl
from tests.integration.operator.api import JSON_PATCH, Access, Api
from tests.integration.operator.conftest import write_kubeconfig
from tests.integration.test_admission_protection import identities
from tests.requirements import requirement
from tools.cluster.kwok import KwokCluster

pytestmark = pytest.mark.api

POLICY, BINDING = (
    f"{kind.everywhere()}/managed-objects.interlock.dev" for kind in KINDS if kind.kind.startswith("Validating")
)


def install(cluster: KwokCluster, folder: str) -> None:
    kubectl = Kubectl(cluster)
    kubectl.install_crds()
    kubectl.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(identities()))
    kubectl.must("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "manifests" / folder))


class Scene:
    """The operator's reader at one API server, and the cluster's administrator."""

    def __init__(self, cluster: KwokCluster, folder: Path) -> None:
        self.admin = Caller.administrator(Path(cluster.kubeconfig))
        api = Api(Access.of(cluster.kubeconfig))
        path = write_kubeconfig(folder / "kubeconfig", cluster, api, "interlock")
        api.close()
        self.client = KubeClient(KubeconfigCredentials(path))
        self.notes: list[EventNote] = []
        self.policies = AdmissionPolicies(self.client, lambda _, note: self.notes.append(note), "interlock-system")

    async def differing(self) -> tuple[float | None, str]:
        """Return the number of differences, and the last message."""
        await self.policies.read()
        value = REGISTRY.get_sample_value("interlock_admission_policies_changed")
        return value, self.notes[-1].message if self.notes else ""


@pytest.fixture(scope="module")
def cluster(kwok_cluster: KwokCluster) -> Iterator[KwokCluster]:
    install(kwok_cluster, "admission")
    yield kwok_cluster
    Kubectl(kwok_cluster).must("delete", "--ignore-not-found", "--wait=false", "-k", str(ROOT / "manifests/admission"))


@pytest.fixture
async def scene(cluster: KwokCluster, tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(cluster, tmp_path)
    yield made
    await made.client.close()


@requirement("protection.watched")
async def test_policies_as_an_api_server_stores_them_are_no_difference(scene: Scene) -> None:
    assert await scene.differing() == (0, "")


WEAKER: dict[str, tuple[str, Json]] = {
    "audit alone": (BINDING, {"validationActions": ["Audit"]}),
    "fewer namespaces": (BINDING, {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}),
    "always true": (POLICY, {"validations": [{"expression": "true"}]}),
    "failures pass": (POLICY, {"failurePolicy": "Ignore"}),
}


@requirement("protection.watched")
@pytest.mark.parametrize(("path", "spec"), WEAKER.values(), ids=list(WEAKER))
async def test_a_weaker_policy_is_reported_until_it_is_as_before(scene: Scene, path: str, spec: Json) -> None:
    before: Any = scene.admin.must("GET", path)
    assert (await scene.differing())[0] == 0
    scene.admin.must("PATCH", path, {"spec": spec}, MERGE)
    number, message = await scene.differing()
    assert (number, "managed-objects.interlock.dev differs" in message) == (1, True)
    # not by its version: the controller manager writes a policy's status a moment after each change
    scene.admin.must("PATCH", path, [{"op": "replace", "path": "/spec", "value": before["spec"]}], JSON_PATCH)
    assert (await scene.differing())[0] == 0


@requirement("protection.watched")
async def test_a_deleted_policy_is_reported_and_a_harmless_change_is_not(scene: Scene) -> None:
    before: Any = scene.admin.must("GET", BINDING)
    harmless = {"metadata": {"labels": {"a": "b"}}, "spec": {"validationActions": ["Deny", "Audit"]}}
    scene.admin.must("PATCH", BINDING, harmless, MERGE)
    assert (await scene.differing())[0] == 0
    scene.admin.must("DELETE", BINDING)
    number, message = await scene.differing()
    assert (number, "managed-objects.interlock.dev is missing" in message) == (1, True)
    collection = BINDING.rpartition("/")[0]
    scene.admin.must("POST", collection, {"metadata": {"name": before["metadata"]["name"]}, "spec": before["spec"]})
    assert (await scene.differing())[0] == 0


@requirement("protection.watched", "protection.oldest")
@pytest.mark.nightly
async def test_the_oldest_version_lacks_none(oldest_cluster: KwokCluster, tmp_path: Path) -> None:
    install(oldest_cluster, "admission-1.33")
    scene = Scene(oldest_cluster, tmp_path)
    assert await scene.differing() == (0, "")
    await scene.client.close()
