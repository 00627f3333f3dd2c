"""Who changed the spec of an Agent, AgentPolicy or MCPBinding last: stamps and refusals of a real API server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from interlock_contract.names import SPEC_AUTHOR
from tests.integration.callers import APPLY, MERGE, Caller, Json, Reply
from tests.integration.installed_policies import install_policies
from tests.integration.kubectl import AGENT, BINDING, PLURALS, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.test_admission_release import Place, patch, switch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

POLICIES = ("agents-kill-only", "identity", "spec-author")
ROLES = {"ada": ("admin",), "grace": ("admin",), "killer": ("interlock-kill-switch",)}
WAIT_SECONDS = 30.0
DRY = "?dryRun=All"
FORGED: Json = {"metadata": {"annotations": {SPEC_AUTHOR: "mallory"}}}
CHANGES: dict[str, tuple[Json, Json]] = {
    "Agent": (AGENT, {"spec": {"purpose": "Sort tickets by product line"}}),
    "AgentPolicy": (POLICY, {"spec": {"dataAccess": []}}),
    "MCPBinding": (BINDING, {"spec": {"permissions": {"read": []}}}),
}
"""A manifest of each kind, and a change of its spec."""


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with Place.installed(kwok_cluster, POLICIES, ROLES, POLICY) as made:
        _wait_until_in_force(made)
        yield made


def _wait_until_in_force(place: Place) -> None:
    path, label = place.agent(), {"metadata": {"labels": {"a": "b"}}}
    ada, killer = place.users["ada"], place.users["killer"]
    bounds.eventually(lambda: patch(ada, path + DRY, label).status == 200, "roles", WAIT_SECONDS)
    bounds.eventually(
        lambda: patch(killer, path + DRY, label).was_denied_by("agents-kill-only"), "kill-only", WAIT_SECONDS
    )


def user(name: str, place: Place) -> str:
    return f"system:serviceaccount:{place.namespace}:{name}"


def collection(place: Place, kind: str) -> str:
    return f"/apis/interlock.dev/v1alpha1/namespaces/{place.namespace}/{PLURALS[kind]}"


def create(place: Place, caller: Caller, manifest: Json, query: str = "", **annotations: str) -> Reply:
    named = edited(manifest, metadata__name=f"x-{uuid4().hex[:8]}", metadata__annotations=annotations)
    return caller.send("POST", collection(place, manifest["kind"]) + query, named)


def author(reply: Reply) -> str | None:
    assert reply.status in (200, 201), reply.text
    found: str | None = reply.json()["metadata"].get("annotations", {}).get(SPEC_AUTHOR)
    return found


@requirement("revision.author")
@pytest.mark.parametrize("kind", CHANGES)
def test_the_api_server_names_who_changed_a_spec_last(place: Place, kind: str) -> None:
    manifest, change = CHANGES[kind]
    ada, grace = place.users["ada"], place.users["grace"]
    made = create(place, ada, manifest, **{SPEC_AUTHOR: "mallory"})
    assert author(made) == user("ada", place)
    path = f"{collection(place, kind)}/{made.json()['metadata']['name']}"
    for body in (FORGED, {"metadata": {"annotations": {SPEC_AUTHOR: None}}}, {"metadata": {"labels": {"a": "b"}}}):
        assert author(patch(grace, path, body)) == user("ada", place)
    unchanged = grace.must("GET", path)
    unchanged["metadata"].pop("annotations")
    assert author(grace.send("PUT", path, unchanged)) == user("ada", place)

    assert author(patch(grace, path, change | FORGED)) == user("grace", place)
    assert author(patch(ada, path, change)) == user("grace", place)  # nothing changed

    applied = {key: manifest[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": path[-10:]}}
    options = "?fieldManager=flux&force=true"
    assert author(ada.send("PATCH", path + options, applied, APPLY)) == user("ada", place)
    assert author(grace.send("PATCH", path + options, applied, APPLY)) == user("ada", place)
    place.admin.send("PATCH", f"{path}/status", {**FORGED, "status": {"observedGeneration": 1}}, MERGE)
    assert author(ada.send("GET", path)) == user("ada", place)


@requirement("revision.author")
def test_a_kill_keeps_the_author_of_the_spec(place: Place) -> None:
    made = create(place, place.users["ada"], AGENT)
    path = f"{place.agents}/{made.json()['metadata']['name']}"
    assert author(switch(place.users["killer"], path, "INC-42")) == user("ada", place)
    assert author(patch(place.users["killer"], path, FORGED)) == user("ada", place)


@requirement("revision.author")
def test_a_name_that_is_not_stamped_is_refused(place: Place, kwok_cluster: Cluster) -> None:
    """As before Kubernetes 1.36, which serves no policy that stamps, and as before the policies were installed."""
    client, file = Kubectl(kwok_cluster), ("-f", str(ROOT / "manifests/admission/identity.yaml"))
    ada, grace, own = place.users["ada"], place.users["grace"], {SPEC_AUTHOR: user("ada", place)}
    client.must("delete", *file)
    bounds.eventually(lambda: author(create(place, ada, AGENT, DRY)) is None, "no stamp", WAIT_SECONDS)
    try:
        for manifest, change in CHANGES.values():
            assert create(place, ada, manifest, DRY, **{SPEC_AUTHOR: "mallory"}).was_denied_by("spec-author")
            made = create(place, ada, manifest, **own)
            path = f"{collection(place, manifest['kind'])}/{made.json()['metadata']['name']}"
            for body in (FORGED, change, change | FORGED):
                reply = patch(grace, path + DRY, body)
                assert reply.was_denied_by("spec-author")
                assert f'or set it to "{user("grace", place)}" in the request that changes the spec' in reply.text
            theirs: Json = {"metadata": {"annotations": {SPEC_AUTHOR: user("grace", place)}}}
            assert patch(grace, path + DRY, theirs).was_denied_by("spec-author")  # without a change of the spec
            assert patch(grace, path + DRY, {"metadata": {"labels": {"a": "b"}}}).status == 200
            assert author(patch(grace, path + DRY, {"metadata": {"annotations": {SPEC_AUTHOR: None}}})) is None
            assert author(patch(grace, path + DRY, change | theirs)) == user("grace", place)
            assert author(patch(ada, path + DRY, change)) == user("ada", place)
        earlier = create(place, ada, AGENT).json()["metadata"]["name"]
        reply = create(place, ada, AGENT, **own)
        assert switch(place.users["killer"], f"{place.agents}/{reply.json()['metadata']['name']}", "x").status == 200
    finally:
        install_policies(kwok_cluster, *file)
    path = f"{place.agents}/{earlier}"
    assert author(patch(grace, path, {"metadata": {"labels": {"a": "b"}}})) is None, "no one knows who wrote the spec"
    assert author(patch(grace, path, CHANGES["Agent"][1])) == user("grace", place)
