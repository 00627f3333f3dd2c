"""Who may kill, who may release, and that a kill always fits: the admission policies on a real API server."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.integration.callers import MERGE, Caller, Json, Reply
from tests.integration.installed_policies import files_of, install_policies
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.protected import account, grant
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

KILL = "interlock.dev/kill-switch"
WAIT_SECONDS = 30.0
POLICIES = ("agents-kill-identity", "agents-kill-latch", "agents-kill-only", "agents-metadata", "agents-release")
ROLES = {"editor": ("edit",), "owner": ("admin",), "killer": ("interlock-kill-switch",)}


@dataclass(frozen=True)
class Place:
    """A namespace, and users with different roles in it."""

    namespace: str
    admin: Caller
    users: dict[str, Caller]

    @classmethod
    @contextmanager
    def installed(
        cls, cluster: Cluster, policies: Sequence[str], roles: Mapping[str, Sequence[str]], policy: Json
    ) -> Iterator["Place"]:
        """Install the CRDs, the rights and some admission policies; delete these policies and the namespace again."""
        client = Kubectl(cluster)
        client.install_crds()
        for name in ("namespace", "rbac"):
            file = str(ROOT / "manifests/base" / f"{name}.yaml")
            client.must("apply", "--server-side", "--force-conflicts", "-f", file)
        files = files_of(policies)
        install_policies(cluster, *files)
        made = cls.create(cluster, roles, policy)
        yield made
        client.must("delete", "--ignore-not-found", *files)
        made.admin.send("DELETE", f"/api/v1/namespaces/{made.namespace}")

    @classmethod
    def create(cls, cluster: Cluster, roles: Mapping[str, Sequence[str]], policy: Json) -> "Place":
        """Create a namespace with an AgentPolicy and one ServiceAccount for each user, with the user's ClusterRoles."""
        admin, name = Caller.administrator(Path(cluster.kubeconfig)), f"test-{uuid4().hex[:10]}"
        admin.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        admin.create(f"/apis/interlock.dev/v1alpha1/namespaces/{name}/agentpolicies", policy)
        users = {}
        for user, granted in roles.items():
            admin.must("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": user}})
            for role in granted:
                grant(admin, name, f"{user}-{role}", account(name, user), role)
            users[user] = admin.with_token(admin.token_of(name, user))
        return cls(name, admin, users)

    @property
    def agents(self) -> str:
        return f"/apis/interlock.dev/v1alpha1/namespaces/{self.namespace}/agents"

    def agent(self, **annotations: str) -> str:
        """Create an Agent, as the administrator, and return its path."""
        name = f"a-{uuid4().hex[:8]}"
        self.admin.create(self.agents, edited(AGENT, metadata__name=name, metadata__annotations=annotations))
        return f"{self.agents}/{name}"


def switch(caller: Caller, path: str, value: str | None) -> Reply:
    return patch(caller, path, {"metadata": {"annotations": {KILL: value}}})


def patch(caller: Caller, path: str, body: Json) -> Reply:
    return caller.send("PATCH", path, body, MERGE)


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with Place.installed(kwok_cluster, POLICIES, ROLES, POLICY) as made:
        _wait_until_in_force(made)
        yield made


def _wait_until_in_force(at: Place) -> None:
    """Wait for roles and policies: each refuses, by itself, one request that RBAC lets pass."""
    killed, plain = at.agent(**{KILL: "x"}), at.agent()
    many: Json = {"metadata": {"labels": {f"l{number}": "" for number in range(65)}}}
    dry = "?dryRun=All"
    attempts = {
        "agents-release": lambda: at.users["editor"].send("DELETE", killed + dry),
        "agents-metadata": lambda: patch(at.users["editor"], plain + dry, many),
        "agents-kill-only": lambda: patch(at.users["killer"], plain + dry, {"metadata": {"labels": {"a": "b"}}}),
        "agents-kill-latch": lambda: switch(at.users["owner"], killed + dry, None),
    }
    for name, attempt in attempts.items():
        bounds.eventually(
            lambda name=name, attempt=attempt: attempt().was_denied_by(name), f"policy {name} is in force", WAIT_SECONDS
        )
    bounds.eventually(lambda: switch(at.users["owner"], killed + dry, "off").status == 200, "roles", WAIT_SECONDS)


@requirement("protection.release")
def test_an_editor_neither_releases_nor_deletes_a_killed_agent(place: Place) -> None:
    path = place.agent()
    for user in ("editor", "killer"):
        assert switch(place.users[user], path, f"killed by {user}").status == 200
        assert switch(place.users[user], path, "off").was_denied_by("agents-release")
    editor = place.users["editor"]
    assert editor.send("DELETE", path).was_denied_by("agents-release")
    assert switch(editor, path, "another reason").status == 200

    assert switch(place.users["owner"], path, "off").status == 200
    assert editor.send("DELETE", path).status == 200


@requirement("protection.release")
def test_an_owner_of_the_namespace_releases_and_deletes(place: Place) -> None:
    path = place.agent(**{KILL: "x"})
    assert switch(place.users["owner"], path, "off").status == 200
    assert switch(place.users["owner"], path, "again").status == 200
    assert place.users["owner"].send("DELETE", path).status == 200


@requirement("protection.release")
def test_the_gc_deletes_no_killed_agent(place: Place) -> None:
    path = place.agent(**{KILL: "x"})
    groups = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
    collector = place.admin.impersonating("system:serviceaccount:kube-system:generic-garbage-collector", *groups)
    assert collector.send("DELETE", path).was_denied_by("agents-release")


@requirement("protection.release")
def test_a_killed_agent_that_is_being_deleted_and_one_of_a_deleted_namespace_end(place: Place) -> None:
    path = place.agent(**{KILL: "x"})
    patch(place.admin, path, {"metadata": {"finalizers": ["example.com/stay"]}})
    assert place.users["owner"].send("DELETE", path).status == 200
    assert place.users["editor"].send("DELETE", path).status == 200  # it has a deletionTimestamp
    assert patch(place.users["editor"], path, {"metadata": {"finalizers": None}}).status == 200

    name = f"test-{uuid4().hex[:10]}"
    place.admin.must("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    ending = Place(name, place.admin, {})
    place.admin.must("POST", f"/apis/interlock.dev/v1alpha1/namespaces/{name}/agentpolicies", POLICY)
    ending.agent(**{KILL: "x"})
    place.admin.must("DELETE", f"/api/v1/namespaces/{name}")
    gone = f"/api/v1/namespaces/{name}"
    bounds.eventually(lambda: place.admin.send("GET", gone).status == 404, "the namespace is gone", 60)


@requirement("protection.kill-only")
def test_a_user_without_update_sets_the_switch_and_changes_nothing_else(place: Place) -> None:
    path, killer = place.agent(**{"example.com/kept": "x"}), place.users["killer"]
    bodies: tuple[Json, ...] = (
        {"spec": {"replicas": 2}},
        {"metadata": {"labels": {"a": "b"}}},
        {"metadata": {"finalizers": ["example.com/stay"]}},
        {"metadata": {"annotations": {"example.com/new": ""}}},
        {"metadata": {"annotations": {"example.com/kept": "y"}}},
        {"metadata": {"annotations": {"example.com/kept": None}}},
        {"metadata": {"annotations": {KILL: "x"}}, "spec": {"replicas": 2}},
        {"metadata": {"generateName": "x-"}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]}},
    )
    for body in bodies:
        assert patch(killer, path, body).was_denied_by("agents-kill-only"), body
    assert switch(killer, path, "incident-42").status == 200
    assert patch(place.users["editor"], path, {"spec": {"replicas": 2}}).status == 200


@requirement("protection.kill-fits")
def test_metadata_is_bounded_so_that_a_kill_fits(place: Place) -> None:
    path, editor = place.agent(), place.users["editor"]
    size = 64 * 1024
    full = {f"example.com/{number}": "x" * size for number in range(3)}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}
    refused: tuple[Json, ...] = (
        {"annotations": full},
        {"annotations": full | {KILL: "off"}},
        {"annotations": {f"a{number}": "" for number in range(65)}},
        {"labels": {f"l{number}": "" for number in range(65)}},
        {"finalizers": [f"example.com/f{number}" for number in range(17)]},
        {"ownerReferences": [owner | {"uid": str(number)} for number in range(17)]},
    )
    for metadata in refused:
        reply = patch(editor, path, {"metadata": metadata})
        assert "ValidatingAdmissionPolicy 'agents-metadata.interlock.dev'" in reply.text, reply.text
        assert "since a kill must still fit: remove some" in reply.text
    new = edited(AGENT, metadata__name="too-large", metadata__annotations=full)
    assert "since a kill must still fit" in editor.send("POST", place.agents, new).text

    killed = edited(new, metadata__annotations=full | {KILL: "x"})
    assert "since a kill must still fit" in editor.send("POST", place.agents, killed).text
    again = place.agent(**{KILL: "x"})
    many: Json = {"metadata": {"annotations": {f"a{number}": "" for number in range(67)}}}
    assert "since a kill must still fit" in patch(editor, again, many).text
    patch(place.admin, again, {"metadata": {"finalizers": ["example.com/stay"]}})
    assert place.users["owner"].send("DELETE", again).status == 200
    assert patch(editor, again, many).status == 200  # nothing stands in the way of its end
    assert patch(editor, again, {"metadata": {"finalizers": None}}).status == 200

    most = {f"example.com/{number}": "x" * (size - 100) for number in range(3)}
    assert patch(editor, path, {"metadata": {"annotations": most}}).status == 200
    assert switch(place.users["killer"], path, "INC-42 " * 1000).status == 200


@requirement("protection.kill-fits")
def test_a_kill_passes_on_metadata_that_is_older_than_its_bounds(place: Place, kwok_cluster: Cluster) -> None:
    """An Agent with more annotations than the policies admit, as one from before they were installed."""
    client = Kubectl(kwok_cluster)
    file = ("-f", str(ROOT / "manifests/admission/agents-metadata.yaml"))
    path, small = place.agent(), f"{place.agent()}?dryRun=All"
    labels: Json = {"metadata": {"labels": {f"l{number}": "" for number in range(65)}}}

    def is_in_force() -> bool:  # asked of a small Agent, since each request for the large one takes seconds
        return "since a kill must still fit" in patch(place.users["editor"], small, labels).text

    client.must("delete", *file)
    bounds.eventually(lambda: not is_in_force(), "the policy is gone", WAIT_SECONDS)
    many: Json = {"metadata": {"annotations": {f"a{number:05}": "" for number in range(30_000)}}}
    assert patch(place.admin, path, many).status == 200
    client.must("apply", "--server-side", *file)
    bounds.eventually(is_in_force, "the policy is back", WAIT_SECONDS)
    more: Json = {"metadata": {"labels": {"a": "b"}}}
    assert "since a kill must still fit" in patch(place.users["editor"], f"{path}?dryRun=All", more).text
    without_a_kill: Json = {"metadata": {"annotations": {"a00000": "changed"}}}
    assert "since a kill must still fit" in patch(place.users["killer"], path, without_a_kill).text
    for user in ("editor", "killer"):
        reply = switch(place.users[user], path, f"killed by {user}")
        assert reply.status == 200, reply.text
