"""What a GitOps tool's sync does to commands that people give by annotations, on a real API server."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.callers import APPLY, Json, Reply
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.test_admission_release import KILL, Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

FLUX = "kustomize-controller"
"""The field manager of Flux's server-side apply."""
KUBECTL = "kubectl-annotate"
"""The field manager of `kubectl annotate`."""
WAIT_SECONDS = 30.0
NAME = "synced"
FILES = ROOT / "examples" / "gitops"
MERGING = {"kustomize.toolkit.fluxcd.io/ssa": "Merge"}


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with Place.installed(kwok_cluster, ("agents-kill-latch",), {}, POLICY) as made:
        killed = made.agent(**{KILL: "x"})
        bounds.eventually(
            lambda: switch(made.admin, f"{killed}?dryRun=All", None).was_denied_by("agents-kill-latch"),
            "the policy is in force",
            WAIT_SECONDS,
        )
        yield made


@pytest.fixture
def synced(place: Place) -> Iterator[str]:
    """The path of an Agent that Flux has applied."""
    path = f"{place.agents}/{NAME}"
    assert sync(place, path).status == 201
    yield path
    switch(place.admin, path, "off")
    place.admin.must("DELETE", path)


def sync(place: Place, path: str) -> Reply:
    """Apply the manifest in Git, which has no command, as Flux and Argo CD do with server-side apply."""
    manifest = edited(AGENT, metadata__name=NAME)
    return place.admin.send("PATCH", f"{path}?fieldManager={FLUX}&force=true", manifest, APPLY)


def take_over(place: Place, path: str) -> None:
    """Make fields that kubectl has set fields of Flux, as Flux does before it applies without `ssa: Merge`."""
    fields = place.admin.must("GET", path)["metadata"]["managedFields"]
    for entry in fields:
        if entry["manager"].startswith("kubectl"):
            entry |= {"manager": FLUX, "operation": "Apply"}
    place.admin.must(
        "PATCH",
        path,
        [{"op": "replace", "path": "/metadata/managedFields", "value": fields}],
        "application/json-patch+json",
    )


def annotate(place: Place, path: str, annotations: dict[str, str]) -> None:
    assert (
        patch(place.admin, f"{path}?fieldManager={KUBECTL}", {"metadata": {"annotations": annotations}}).status == 200
    )


def annotations(place: Place, path: str) -> Json:
    found: Json = place.admin.must("GET", path)["metadata"].get("annotations", {})
    return found


@requirement("gitops.kill-stays")
def test_a_sync_that_would_remove_a_kill_is_refused(place: Place, synced: str) -> None:
    annotate(place, synced, {KILL: "INC-42"})
    take_over(place, synced)
    assert sync(place, synced).was_denied_by("agents-kill-latch")
    assert annotations(place, synced)[KILL] == "INC-42"


@requirement("gitops.kill-stays")
def test_a_sync_leaves_a_kill_and_a_pause_that_are_not_its_own(place: Place, synced: str) -> None:
    given = {KILL: "INC-42", "interlock.dev/pause": "1-0123456789"}
    annotate(place, synced, given)
    assert sync(place, synced).status == 200
    assert given.items() <= annotations(place, synced).items()


def test_flux_removes_a_pause_unless_it_merges(place: Place, synced: str) -> None:
    """What the page on GitOps warns of; it fails once Flux's way no longer has this effect on the API server."""
    annotate(place, synced, {"interlock.dev/pause": "1-0123456789"})
    take_over(place, synced)
    assert sync(place, synced).status == 200
    assert "interlock.dev/pause" not in annotations(place, synced)


def test_a_sync_without_replicas_leaves_those_of_an_autoscaler(place: Place, synced: str) -> None:
    scale = {"spec": {"replicas": 4}}
    assert patch(place.admin, f"{synced}/scale?fieldManager=kube-controller-manager", scale).status == 200
    assert sync(place, synced).status == 200
    assert place.admin.must("GET", synced)["spec"]["replicas"] == 4


def test_the_patch_of_the_page_lets_flux_merge_each_agent(kubectl: Kubectl, tmp_path: Path) -> None:
    """Flux applies the patches of a Kustomization as kustomize does."""
    page = (ROOT / "docs" / "how-to" / "gitops.md").read_text(encoding="utf-8")
    [block] = [one for one in re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "patches:" in one]
    [_, agents] = yaml.safe_load_all(block)
    files = {
        "agents.yaml": yaml.safe_dump_all([AGENT, edited(AGENT, metadata__name="other"), POLICY]),
        "kustomization.yaml": yaml.safe_dump({"resources": ["agents.yaml"], "patches": agents["spec"]["patches"]}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    rendered = list(yaml.safe_load_all(kubectl.must("kustomize", str(tmp_path)).text))
    merging = {one["metadata"]["name"] for one in rendered if one["metadata"].get("annotations", {}) == MERGING}
    assert merging == {AGENT["metadata"]["name"], "other"}


@pytest.fixture
def followed(kubectl: Kubectl) -> Iterator[Kubectl]:
    """The API server with the namespaces that the page speaks of."""
    for name in ("agents", "argocd"):
        kubectl.run("create", "namespace", name)
    kubectl.must("-n", "argocd", "create", "configmap", "argocd-cm", "--from-literal=timeout.reconciliation=180s")
    yield kubectl
    kubectl.must("-n", "argocd", "delete", "configmap", "argocd-cm")
    kubectl.must("delete", "-f", str(FILES / "sync-role.yaml"))


def test_the_commands_of_the_page_give_a_sync_no_command_and_argo_cd_its_checks(followed: Kubectl) -> None:
    followed.must("apply", "-f", str(FILES / "sync-role.yaml"))
    account = ("-n", "agents", "--as=system:serviceaccount:agents:sync")
    bounds.eventually(
        lambda: followed.run("auth", "can-i", "update", "agents.interlock.dev", *account).ok, "the role", WAIT_SECONDS
    )
    for verb in ("release", "promote", "pause", "rollback", "budget-override", "debug", "reconcile"):
        assert not followed.run("auth", "can-i", verb, "agents.interlock.dev", *account).ok, verb
    for kind in ("agentpolicies", "mcpbindings"):
        followed.must("auth", "can-i", "delete", f"{kind}.interlock.dev", *account)
    patch_file = str(FILES / "argocd-cm.yaml")
    followed.must("-n", "argocd", "patch", "configmap", "argocd-cm", "--patch-file", patch_file)
    data = followed.must("-n", "argocd", "get", "configmap", "argocd-cm", "-o", "json").json()["data"]
    assert len(data) == 4, "its own setting, and the checks of three kinds"
