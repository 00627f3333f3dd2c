"""What an Agent becomes, and what is left when it goes."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import eventually
from tests.integration.operator.world import Room
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

GARBAGE_SECONDS = 60  # Kubernetes' own garbage collector looks every 30 s only which new kinds there are
CHILDREN = {
    "Deployment": 1,
    "ConfigMap": 2,
    "Lease": 1,
    "Service": 1,
    "ServiceAccount": 1,
    "Role": 1,
    "RoleBinding": 1,
    "NetworkPolicy": 1,
}


def test_an_agent_becomes_ready_with_every_child(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    room.wait_ready("triage")
    assert {kind: len(found) for kind, found in room.children("triage").items()} == CHILDREN
    assert len(room.pods("triage")) == 1


def test_the_conditions_of_a_ready_agent_stand_in_layer_order(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    conditions = room.wait_ready("triage")["status"]["conditions"]
    assert [(found["type"], found["status"]) for found in conditions[:5]] == [
        ("Governed", "True"),
        ("Orchestrated", "True"),
        ("ActionsBound", "True"),
        ("Deployed", "True"),
        ("Ready", "True"),
    ]


def test_kopf_leaves_no_finalizer_and_no_annotation_on_what_users_apply(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    room.wait_ready("triage")
    for plural in ("agents", "agentpolicies", "mcpbindings"):
        for found in room.api.listed(plural, room.namespace):
            assert "finalizers" not in found["metadata"], plural
            assert not found["metadata"].get("annotations"), plural


def test_pods_start_only_after_everything_that_guards_them_stands(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    with room.api.watching("pods", room.namespace) as seen:
        room.create("triage")
        room.wait_ready("triage")
    first = int(seen[0]["object"]["metadata"]["resourceVersion"])
    for kind, found in room.children("triage").items():
        created = [child["metadata"] for child in found if kind != "Deployment"]
        assert all(int(metadata["resourceVersion"]) < first for metadata in created), kind


@requirement("deployment.owned")
def test_deleting_an_agent_takes_all_its_children_away(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    room.wait_ready("triage")
    room.api.delete("agents", room.namespace, "triage")
    room.wait_pruned("triage", GARBAGE_SECONDS)


def test_an_agent_made_anew_under_the_same_name_gets_children_of_its_own(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    old = room.create("triage")["metadata"]["uid"]
    room.wait_ready("triage")
    room.api.delete("agents", room.namespace, "triage")
    new = room.create("triage")["metadata"]["uid"]
    assert new != old

    def all_are_its_own() -> bool:
        found = room.children("triage")
        owners = {child["metadata"]["ownerReferences"][0]["uid"] for kind in found.values() for child in kind}
        return set(found) == set(CHILDREN) and owners == {new}

    eventually(all_are_its_own, "every child belongs to the new Agent", GARBAGE_SECONDS)
    room.wait_ready("triage")
    assert room.bundle("triage")["agent"]["uid"] == new


def test_no_replicas_is_ready_without_a_pod(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage", replicas=0)
    room.wait_ready("triage")
    assert room.condition("triage", "Ready")["reason"] == "ScaledToZero"
    assert room.pods("triage") == []


def test_a_changed_agent_is_ready_with_its_new_revision_only(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    before = room.wait_ready("triage")["status"]["stage"]["revision"]
    change = {"spec": {"files": [{"path": "prompts/system.md", "content": "Be brief."}]}}
    room.api.patch("agents", room.namespace, "triage", change)
    after = room.wait_ready("triage")["status"]["stage"]["revision"]
    assert after != before
    eventually(lambda: len(room.children("triage")["Deployment"]) == 1, "the old placement is pruned")
    assert room.child("triage", "Deployment")["metadata"]["labels"]["interlock.dev/revision"] == after


def test_events_tell_a_transition_once(operator: OperatorProcess, room: Room) -> None:
    room.furnish("triage")
    room.create("triage")
    room.wait_ready("triage")

    def reasons() -> list[str]:
        events = room.api.listed("events", room.namespace)
        return sorted(event["reason"] for event in events if event["regarding"]["kind"] == "Agent")

    eventually(lambda: len(reasons()) >= 2, "the Events are posted")
    assert reasons() == ["PodsReady", "StageEntered"]


def test_kubectl_wait_and_get_read_the_truth(
    operator: OperatorProcess, room: Room, kubectl: Callable[..., str]
) -> None:
    room.furnish("triage")
    room.create("triage")
    waited = kubectl("-n", room.namespace, "wait", "--for=condition=Ready", "--timeout=20s", "agt/triage")
    assert "condition met" in waited
    line = kubectl("-n", room.namespace, "get", "agt", "triage", "--no-headers").split()
    assert line[:2] == ["triage", "development"]
    assert "True" in line


def test_an_agent_applied_before_policy_and_bindings_is_ready_once_they_come(
    operator: OperatorProcess, room: Room
) -> None:
    room.create("triage")
    room.wait_refused("triage", "PolicyNotFound")
    room.api.create(objects.policy("triage"), room.namespace)
    room.wait_refused("triage", "BindingMissing")
    room.api.create(objects.binding(), room.namespace)
    room.wait_ready("triage")


@requirement("guard.proof-told")
def test_a_policy_is_enforced_once_every_guard_has_proven_the_bundle_that_holds(
    operator: OperatorProcess, room: Room
) -> None:
    """Kwok runs no guards, so the test says for them what they would say; what they really say is tested on kind."""

    def enforced(status: str, reason: str) -> Callable[[], bool]:
        def look() -> bool:
            found = room.condition("triage", "PolicyEnforced")
            return (found.get("status"), found.get("reason")) == (status, reason)

        return look

    def attest(pod: str, digest: str, **more: Any) -> None:
        said = json.dumps({"bundle": digest, "calls": 3, **more})
        annotations = {"metadata": {"annotations": {f"selftest.interlock.dev/{pod}": said}}}
        room.api.patch("leases", room.namespace, room.child("triage", "Lease")["metadata"]["name"], annotations)

    def held() -> str:
        text = room.child("triage", "ConfigMap", "bundle")["data"]["bundle.json"]
        return hashlib.sha256(text.encode()).hexdigest()

    room.furnish("triage")
    room.create("triage", replicas=2)
    room.wait_ready("triage")
    room.eventually(enforced("False", "SelfTestPending"), "nothing is proven yet")
    attest("one", held())
    attest("two", "0" * 64)
    room.eventually(enforced("False", "SelfTestPending"), "one guard has not proven this bundle")
    attest("two", held())
    room.eventually(enforced("True", "SelfTestPassed"), "both have")
    agent = room.agent("triage")
    assert agent["status"]["enforcement"] == {
        "bundleDigest": held(),
        "generation": agent["metadata"]["generation"],
        "guards": 2,
    }

    before = held()
    row = {"agents": ["triage"], "source": "crm", "read": ["contacts"], "write": [], "delete": []}
    room.api.patch("agentpolicies", room.namespace, objects.POLICY, {"spec": {"dataAccess": [row]}})
    room.eventually(enforced("False", "SelfTestPending"), "the bundle of the changed policy is not proven")
    assert held() != before
    assert "enforcement" not in room.agent("triage")["status"]
    attest("one", held())
    attest("two", held(), flaw="Denied call tools/call 'get': Allow")
    room.eventually(enforced("False", "SelfTestFailed"), "a guard would not keep it")
    assert "guard two: Denied call" in room.condition("triage", "PolicyEnforced")["message"]
