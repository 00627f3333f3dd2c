import base64
import os
from typing import Any

from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey
from tests.requirements import requirement

AGENT = ("agents", "triage")
DEPLOYMENT = ChildKey("Deployment", "d")


KEY = ("agents", "d")


def owner_reference(name: str, uid: str, kind: str = "Agent") -> dict[str, Any]:
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "name": name, "uid": uid, "controller": True}


def a_child(name: str = "d", version: int = 1, *, uid: str = "u1", agent: str = "triage", **more: Any) -> Any:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "agents",
            "labels": {"interlock.dev/agent": agent},
            "resourceVersion": str(version),
            "ownerReferences": [owner_reference(agent, uid)],
            "managedFields": [],
        },
        "spec": {"replicas": version},
        **more,
    }


def replicas(store: ChildCache) -> int:
    return int(store.of(AGENT, "u1")[DEPLOYMENT].manifest["spec"]["replicas"])


@requirement("operator.late-events")
def test_an_older_child_never_wins() -> None:
    store = ChildCache()

    assert store.put("Deployment", a_child(version=10)) == AGENT
    assert store.put("Deployment", a_child(version=9)) is None
    assert store.put("Deployment", a_child(version=10)) is None
    assert replicas(store) == 10
    assert store.put("Deployment", a_child(version=11)) == AGENT
    assert replicas(store) == 11


def test_a_late_delete_event_does_not_remove_what_was_recreated() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(version=10))

    assert store.drop("Deployment", KEY, 9) is None
    assert replicas(store) == 10
    assert store.drop("Deployment", KEY, 12) == AGENT
    assert store.of(AGENT, "u1") == {}
    assert store.drop("Deployment", KEY, 12) is None


@requirement("operator.late-events")
def test_an_answer_to_a_write_does_not_bring_back_what_was_deleted_since() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(version=10))

    with store.writing("Deployment", a_child()):
        assert store.drop("Deployment", KEY, 12) == AGENT
        assert store.put("Deployment", a_child(version=11)) is None
        assert store.of(AGENT, "u1") == {}
        assert store.put("Deployment", a_child(version=13)) == AGENT, "it was recreated"
    assert replicas(store) == 13


def test_children_of_an_earlier_agent_of_the_same_name_are_not_its_own() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(uid="old"))

    assert store.of(AGENT, "new") == {}
    assert list(store.of(AGENT, "old")) == [DEPLOYMENT]


def test_a_child_without_its_owner_belongs_to_no_agent_so_that_it_is_applied_again() -> None:
    store = ChildCache()
    for change in (
        lambda metadata: metadata.pop("ownerReferences"),
        lambda metadata: metadata["ownerReferences"][0].update(controller=False),
        lambda metadata: metadata["ownerReferences"][0].update(apiVersion="example.com/v1"),
        lambda metadata: metadata["ownerReferences"][0].update(kind="MCPBinding"),
    ):
        orphan = a_child()
        change(orphan["metadata"])

        assert store.put("Deployment", orphan) is None
        assert store.of(AGENT, "u1") == {}
        assert store.held("Deployment") == []


def test_a_child_that_has_changed_its_owner_is_the_earlier_ones_no_longer() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(version=1))
    store.put("Deployment", a_child(version=2, agent="other", uid="u2"))

    assert store.of(AGENT, "u1") == {}
    assert list(store.of(("agents", "other"), "u2")) == [DEPLOYMENT]
    assert store.owner("Deployment", KEY) == ("agents", "other")


@requirement("operator.memory")
def test_what_an_owners_children_take_is_bounded_and_one_that_is_too_large_is_applied_or_deleted() -> None:
    noise = base64.b64encode(os.urandom(100_000)).decode()
    store = ChildCache(most=250_000)
    for number in range(20):
        child = a_child(f"junk-{number}", 1)
        child["data"] = {"x": noise}
        assert store.put("ConfigMap", child) == AGENT
    store.put("Deployment", a_child(version=5))

    found = store.of(AGENT, "u1")
    kept = [key for key, child in found.items() if "data" in child.manifest]
    assert len(kept) == 2
    assert all(found[key].manifest["metadata"]["labels"] for key in kept)
    others = [child.manifest for key, child in found.items() if key not in kept and key != DEPLOYMENT]
    assert others
    assert all((one["metadata"]["labels"], one["spec"]) == ({}, {}) for one in others)
    assert replicas(store) == 5, "small ones have their place"
    assert store.selector_of(AGENT, kept[0]) == ""


@requirement("operator.memory")
def test_annotations_of_others_are_not_kept_and_our_own_are() -> None:
    store = ChildCache()
    ours = {"interlock.dev/x": "1", "selftest.interlock.dev/pod": "2"}
    theirs = {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000, "notinterlock.dev/x": "3"}
    child = a_child()
    child["metadata"]["annotations"] = ours | theirs
    store.put("Deployment", child)

    assert store.of(AGENT, "u1")[DEPLOYMENT].manifest["metadata"]["annotations"] == ours


def test_the_children_of_an_owner_that_is_gone_are_forgotten() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(uid="old"))
    store.put("Deployment", a_child("new", uid="new"))

    store.forget(AGENT, but="new")
    assert store.held("Deployment") == [("agents", "new")]
    store.forget(AGENT)
    assert store.held("Deployment") == []


def test_managed_fields_are_not_kept() -> None:
    store = ChildCache()
    child = a_child()
    child["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "operation": "Update"}]
    store.put("Deployment", child)

    assert "managedFields" not in store.of(AGENT, "u1")[DEPLOYMENT].manifest["metadata"]
    assert child["metadata"]["managedFields"]


def test_an_agent_without_children_leaves_nothing_behind() -> None:
    store = ChildCache()
    store.put("Deployment", a_child())
    store.discard(AGENT, DEPLOYMENT)
    store.discard(AGENT, DEPLOYMENT)

    assert store.of(AGENT, "u1") == {}
    assert store.put("Deployment", a_child()) == AGENT
