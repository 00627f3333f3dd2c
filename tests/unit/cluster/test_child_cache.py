from typing import Any

from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey
from tests.requirements import requirement

AGENT = ("agents", "triage")
DEPLOYMENT = ChildKey("Deployment", "d")


def a_child(name: str = "d", version: int = 1, *, uid: str = "u1", agent: str = "triage", **more: Any) -> Any:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": name,
            "namespace": "agents",
            "labels": {"interlock.dev/agent": agent},
            "resourceVersion": str(version),
            "ownerReferences": [{"kind": "Agent", "name": agent, "uid": uid}],
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

    assert store.drop("Deployment", a_child(version=9)) is None
    assert replicas(store) == 10
    assert store.drop("Deployment", a_child(version=12)) == AGENT
    assert store.of(AGENT, "u1") == {}
    assert store.drop("Deployment", a_child(version=12)) is None


@requirement("operator.late-events")
def test_an_answer_to_a_write_does_not_bring_back_what_was_deleted_since() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(version=10))

    with store.writing("Deployment", a_child()):
        assert store.drop("Deployment", a_child(version=12)) == AGENT
        assert store.put("Deployment", a_child(version=11)) is None
        assert store.of(AGENT, "u1") == {}
        assert store.put("Deployment", a_child(version=13)) == AGENT, "it was recreated"
    assert replicas(store) == 13


def test_a_list_takes_over_what_came_changed_and_went_and_names_their_agents() -> None:
    store = ChildCache()
    for name, agent in (("same", "a"), ("changed", "b"), ("gone", "c")):
        store.put("Deployment", a_child(name, 5, agent=agent))
    store.put("ConfigMap", a_child("other-kind", 5, agent="d"))

    concerned = store.replace(
        "Deployment",
        (a_child("same", 5, agent="a"), a_child("changed", 6, agent="b"), a_child("new", 6, agent="e")),
    )

    assert concerned == {("agents", "b"), ("agents", "c"), ("agents", "e")}
    assert store.of(("agents", "c"), "u1") == {}
    assert list(store.of(("agents", "d"), "u1")) == [ChildKey("ConfigMap", "other-kind")]


def test_a_list_that_is_older_than_what_is_known_changes_nothing_of_it() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(version=10))

    assert store.replace("Deployment", (a_child(version=9),)) == set()
    assert replicas(store) == 10


def test_children_of_an_earlier_agent_of_the_same_name_are_not_its_own() -> None:
    store = ChildCache()
    store.put("Deployment", a_child(uid="old"))

    assert store.of(AGENT, "new") == {}
    assert list(store.of(AGENT, "old")) == [DEPLOYMENT]


def test_a_child_without_its_owner_belongs_to_no_agent_so_that_it_is_applied_again() -> None:
    store = ChildCache()
    orphan = a_child()
    orphan["metadata"].pop("ownerReferences")
    store.put("Deployment", orphan)

    assert store.of(AGENT, "u1") == {}


def test_who_owns_fields_is_read_from_the_managed_fields_which_are_not_kept() -> None:
    store = ChildCache()
    touched = a_child()
    touched["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "operation": "Update", "fieldsV1": {"f:spec": {"f:paused": {}}}}
    ]
    store.put("Deployment", touched)

    found = store.of(AGENT, "u1")[DEPLOYMENT]
    assert found.is_touched
    assert "managedFields" not in found.manifest["metadata"]
    assert touched["metadata"]["managedFields"]


def test_an_agent_without_children_leaves_nothing_behind() -> None:
    store = ChildCache()
    store.put("Deployment", a_child())
    store.discard(AGENT, DEPLOYMENT)
    store.discard(AGENT, DEPLOYMENT)

    assert store.of(AGENT, "u1") == {}
    assert store.put("Deployment", a_child()) == AGENT
