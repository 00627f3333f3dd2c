"""The admission policies on the oldest Kubernetes that Interlock supports, and who killed, there and on the newest.

The oldest API server runs alone. No controller aggregates roles there, so users get the roles of Interlock by name.
"""

import contextlib
import http
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from interlock_contract.names import KILL_SWITCH, KILL_SWITCH_BY, ROLLBACK, SPEC_AUTHOR
from tests.integration.callers import MERGE, Caller, Json, Reply
from tests.integration.installed_policies import install_policies
from tests.integration.kubectl import POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.operator.api import Access, Api
from tests.integration.operator.conftest import write_kubeconfig
from tests.integration.test_admission_operator import DRY, SYSTEM, everything
from tests.integration.test_admission_protection import identities
from tests.integration.test_admission_release import Place as Namespace
from tests.integration.test_admission_release import patch, switch
from tests.integration.test_admission_sizes import TOO_LARGE, a_policy, largest
from tests.requirements import requirement
from tests.support import bounds
from tests.support.operator_process import kill_controller
from tools.cluster.kwok import KwokCluster

pytestmark = [pytest.mark.api, pytest.mark.nightly]  # a second API server to build and to start

WAIT_SECONDS = 30.0
ROLES = {"editor": ("interlock-edit",), "owner": ("interlock-edit", "interlock-admin")}


def install(cluster: Cluster, folder: str) -> Kubectl:
    client = Kubectl(cluster)
    client.install_crds()
    client.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(identities()))
    install_policies(cluster, "-k", str(ROOT / "manifests" / folder))
    return client


def a_namespace(cluster: Cluster) -> Namespace:
    """Create a namespace with users, and wait until the policies are in force."""
    made = Namespace.create(cluster, ROLES, POLICY)
    killed = f"{made.agent(**{KILL_SWITCH: 'x'})}{DRY}"
    last: list[Reply] = []

    def is_in_force() -> bool:
        editor, owner = made.users["editor"], made.users["owner"]
        last[:] = [switch(editor, killed, "off"), release(owner, killed, name_of(owner, made))]
        return last[0].was_denied_by("agents-release") and last[1].status == http.HTTPStatus.OK

    bounds.eventually(is_in_force, lambda: f"roles and policies are in force: {last}", WAIT_SECONDS)
    return made


def name_of(user: Caller, at: Namespace) -> str:
    name = next(name for name, one in at.users.items() if one is user)
    return f"system:serviceaccount:{at.namespace}:{name}"


def release(user: Caller, path: str, by: str | None) -> Reply:
    return patch(user, path, {"metadata": {"annotations": {KILL_SWITCH: "off", KILL_SWITCH_BY: by}}})


def kill(user: Caller, path: str, by: str | None) -> Reply:
    return patch(user, path, {"metadata": {"annotations": {KILL_SWITCH: "INC-42", KILL_SWITCH_BY: by}}})


@pytest.fixture(scope="module")
def oldest(oldest_cluster: KwokCluster) -> Namespace:
    install(oldest_cluster, "admission-1.33")
    return a_namespace(oldest_cluster)


@requirement("protection.oldest")
def test_the_oldest_version_serves_no_mutating_policies_and_all_others_of_ours(oldest: Namespace) -> None:
    base = "/apis/admissionregistration.k8s.io/v1"
    version = oldest.admin.must("GET", "/version")
    assert (version["major"], version["minor"]) == ("1", "33")
    assert oldest.admin.send("GET", f"{base}/mutatingadmissionpolicies").status == 404
    found = oldest.admin.must("GET", f"{base}/validatingadmissionpolicies")["items"]
    files = [path for path in (ROOT / "manifests/admission").glob("*.yaml") if path.name != "kustomization.yaml"]
    documents = [one for path in files for one in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    wanted = {one["metadata"]["name"] for one in documents if one["kind"] == "ValidatingAdmissionPolicy"}
    assert wanted <= {one["metadata"]["name"] for one in found}


@requirement("protection.oldest", "kill.author")
def test_a_release_carries_its_users_own_name_and_a_kill_any(oldest: Namespace) -> None:
    owner, editor = oldest.users["owner"], oldest.users["editor"]
    path, own = oldest.agent(), name_of(owner, oldest)
    for user, by in ((editor, "grace"), (editor, None), (owner, own)):
        assert kill(user, path, by).status == 200
    for by in ("grace", None, ""):
        reply = release(owner, path, by)
        assert reply.was_denied_by("agents-release"), reply.text
        assert f'set the annotation interlock.dev/kill-switch-by to "{own}"' in reply.text
    assert release(editor, path, name_of(editor, oldest)).was_denied_by("agents-release")  # without the verb
    assert release(owner, path, own).status == 200


@requirement("protection.oldest", "kill.author")
def test_no_other_name_is_put_to_a_release_afterwards(oldest: Namespace) -> None:
    owner, editor = oldest.users["owner"], oldest.users["editor"]
    path = oldest.agent()
    other: Json = {"metadata": {"annotations": {KILL_SWITCH_BY: "grace"}}}
    assert kill(editor, path, "ada").status == 200
    assert kill(owner, path, "alan").status == 200  # the same switch again
    assert release(owner, path, name_of(owner, oldest)).status == 200
    for user in (editor, owner):
        reply = patch(user, path, other)
        assert "names who set the kill switch last, so it changes only in the same request" in reply.text
    assert patch(editor, path, {"metadata": {"labels": {"a": "b"}}}).status == 200
    assert patch(editor, path, {"metadata": {"annotations": {KILL_SWITCH_BY: None}}}).status == 200


def is_refused(operator: Caller, path: str, manifest: Json) -> bool:
    """Return True if one of the policies of the operator's objects refuses, once in force: either may be the first."""
    reply = operator.send("POST", path, manifest)
    return any(reply.was_denied_by(policy) for policy in ("operator-objects", "operator-workloads"))


@requirement("protection.oldest")
def test_the_operator_writes_all_its_objects_on_the_oldest_version(oldest: Namespace) -> None:
    operator = oldest.admin.with_token(oldest.admin.token_of(SYSTEM, "interlock"))
    for manifest in everything():
        if manifest["kind"] == "RoleBinding":
            continue  # RBAC compares it with a Role, and a dry run leaves none
        plain: Json = edited(manifest, metadata__namespace=oldest.namespace)
        plural = "networkpolicies" if plain["kind"] == "NetworkPolicy" else f"{plain['kind'].lower()}s"
        version = plain["apiVersion"]
        path = f"/{'apis' if '/' in version else 'api'}/{version}/namespaces/{oldest.namespace}/{plural}"
        bare = edited(plain, metadata__ownerReferences=None)
        refused = partial(is_refused, operator, path + DRY, bare)
        bounds.eventually(
            refused, f"{plain['kind']} {plain['metadata']['name']} without an owner is refused", WAIT_SECONDS
        )
        reply = operator.send("POST", path + DRY, plain)
        assert reply.status == 201, f"{plain['kind']} {plain['metadata']['name']}: {reply.text}"


@requirement("protection.oldest", "protection.kill-fits")
def test_the_largest_agent_is_bounded_and_killed_on_the_oldest_version(oldest: Namespace) -> None:
    policies = f"/apis/interlock.dev/v1alpha1/namespaces/{oldest.namespace}/agentpolicies/support"
    oldest.admin.must("PATCH", policies, {"spec": a_policy()["spec"]}, MERGE)
    manifest = largest("x" * 1000)
    editor, path = oldest.users["editor"], f"{oldest.agents}/{manifest['metadata']['name']}"
    bounds.eventually(
        lambda: editor.send("POST", oldest.agents, manifest).status == http.HTTPStatus.CREATED, "it is created", 30
    )
    reply = editor.send("POST", oldest.agents, largest("<" * 6000))
    assert TOO_LARGE in reply.text, reply.text[:500]
    assert switch(editor, path, "x").status == http.HTTPStatus.OK


@contextlib.contextmanager
def controller(cluster: KwokCluster, folder: Path) -> Iterator[None]:
    """Run the kill controller with its own rights."""
    api = Api(Access.of(cluster.kubeconfig))
    path = write_kubeconfig(folder / "kubeconfig", cluster, api, "interlock-kill")
    running = kill_controller(path, folder / "kill.log")
    running.start()
    try:
        yield
    finally:
        running.stop()
        api.close()


def recorded(at: Namespace, path: str) -> dict[str, str]:
    """Kill and release an agent in other users' names; return what its status says of it."""

    def status() -> dict[str, str]:
        found: dict[str, str] = at.admin.must("GET", path).get("status", {}).get("kill", {})
        return found

    assert kill(at.users["editor"], path, "grace").status == 200
    bounds.eventually(lambda: "by" in status(), "the kill is recorded", WAIT_SECONDS)
    owner = at.users["owner"]
    assert release(owner, path, name_of(owner, at)).status == 200
    bounds.eventually(lambda: "releasedBy" in status(), "the release is recorded", WAIT_SECONDS)
    return status()


@requirement("kill.author")
def test_the_status_shows_a_name_that_anyone_could_write_as_unverified(
    oldest: Namespace, oldest_cluster: KwokCluster, tmp_path: Path
) -> None:
    with controller(oldest_cluster, tmp_path):
        found = recorded(oldest, oldest.agent())
    assert found["by"] == "unverified:grace"
    assert found["releasedBy"] == name_of(oldest.users["owner"], oldest)


@requirement("kill.author")
def test_the_status_shows_the_name_that_the_api_server_has_written(kwok_cluster: KwokCluster, tmp_path: Path) -> None:
    client = install(kwok_cluster, "admission")
    try:
        at = a_namespace(kwok_cluster)
        with controller(kwok_cluster, tmp_path):
            found = recorded(at, at.agent())
        assert found["by"] == name_of(at.users["editor"], at)
        assert found["releasedBy"] == name_of(at.users["owner"], at)
    finally:
        client.must("delete", "--ignore-not-found", "--wait=false", "-k", str(ROOT / "manifests/admission"))


@requirement("protection.oldest", "revision.author")
def test_the_author_of_a_spec_is_the_user_or_no_one_where_nothing_stamps(oldest: Namespace) -> None:
    owner, editor = oldest.users["owner"], oldest.users["editor"]
    change: Json = {"spec": {"purpose": "Sort tickets by product line"}}
    path = f"{oldest.agent()}{DRY}"
    for user, by in ((owner, "grace"), (owner, name_of(editor, oldest))):
        assert patch(user, path, change | author(by)).was_denied_by("spec-author")
    for body in (change, change | author(name_of(owner, oldest))):
        assert patch(owner, path, body).status == 200
    assert patch(owner, path, author(name_of(owner, oldest))).was_denied_by("spec-author")  # changes no spec


@requirement("protection.oldest", "rollout.commands")
def test_a_command_carries_its_users_own_name_where_nothing_stamps(oldest: Namespace) -> None:
    owner, editor, mine = oldest.users["owner"], oldest.users["editor"], name_of(oldest.users["owner"], oldest)
    path, by = oldest.agent(), f"{ROLLBACK}-by"

    def give(user: Caller, value: str | None, name: str | None) -> Reply:
        return patch(user, path, {"metadata": {"annotations": {ROLLBACK: value, by: name}}})

    for user, value, name in (
        (editor, "7-3f2a91c04b", name_of(editor, oldest)),
        (owner, "7-3f2a91c04b", None),
        (owner, "7-3f2a91c04b", name_of(editor, oldest)),
        (owner, "7", mine),
    ):
        assert give(user, value, name).was_denied_by("agents-commands")
    assert give(owner, "7-3f2a91c04b", mine).status == 200
    assert give(owner, "7-3f2a91c04b", name_of(editor, oldest)).was_denied_by("agents-commands")
    assert give(editor, None, None).status == 200


def author(name: str) -> Json:
    return {"metadata": {"annotations": {SPEC_AUTHOR: name}}}
