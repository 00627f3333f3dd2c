"""What an Agent becomes, and what is left when it goes."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

GC_SECONDS = 60  # Kubernetes' garbage collector discovers new kinds only every 30 s
CHILDREN = {
    "Deployment": 1,
    "ConfigMap": 2,
    "Lease": 1,
    "Service": 2,
    "ServiceAccount": 1,
    "Role": 1,
    "RoleBinding": 1,
    "NetworkPolicy": 1,
}


def test_an_agent_becomes_ready_with_every_child(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    assert {kind: len(found) for kind, found in sandbox.children("triage").items()} == CHILDREN
    assert len(sandbox.pods("triage")) == 1


def test_the_conditions_of_a_ready_agent_stand_in_layer_order(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    conditions = sandbox.wait_ready("triage")["status"]["conditions"]
    assert [(found["type"], found["status"]) for found in conditions[:5]] == [
        ("Governed", "True"),
        ("Orchestrated", "True"),
        ("ActionsBound", "True"),
        ("Deployed", "True"),
        ("Ready", "True"),
    ]


def test_kopf_leaves_no_finalizer_and_no_annotation_on_what_users_apply(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    for plural in ("agents", "agentpolicies", "mcpbindings"):
        for found in sandbox.api.listed(plural, sandbox.namespace):
            assert "finalizers" not in found["metadata"], plural
            assert not found["metadata"].get("annotations"), plural


def test_pods_start_only_after_everything_that_guards_them_stands(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage")
        sandbox.wait_ready("triage")
        eventually(lambda: bool(seen), "the watch has seen the pod")
    first = int(seen[0]["object"]["metadata"]["resourceVersion"])
    for kind, found in sandbox.children("triage").items():
        created = [child["metadata"] for child in found if kind != "Deployment"]
        assert all(int(metadata["resourceVersion"]) < first for metadata in created), kind


@requirement("deployment.owned")
def test_deleting_an_agent_takes_all_its_children_away(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    sandbox.wait_pruned("triage", GC_SECONDS)


def test_an_agent_recreated_under_the_same_name_gets_children_of_its_own(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    old = sandbox.create("triage")["metadata"]["uid"]
    sandbox.wait_ready("triage")
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    new = sandbox.create("triage")["metadata"]["uid"]
    assert new != old

    def all_are_its_own() -> bool:
        found = sandbox.children("triage")
        owners = {child["metadata"]["ownerReferences"][0]["uid"] for kind in found.values() for child in kind}
        return set(found) == set(CHILDREN) and owners == {new}

    eventually(all_are_its_own, "every child belongs to the new Agent", GC_SECONDS)
    sandbox.wait_ready("triage")
    assert sandbox.bundle("triage")["agent"]["uid"] == new


def test_no_replicas_is_ready_without_a_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage", replicas=0)
    sandbox.wait_ready("triage")
    assert sandbox.condition("triage", "Ready")["reason"] == "ScaledToZero"
    assert sandbox.pods("triage") == []


def test_a_changed_agent_is_ready_with_its_new_revision_only(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    before = sandbox.wait_ready("triage")["status"]["stage"]["revision"]
    change = {"spec": {"files": [{"path": "prompts/system.md", "content": "Be brief."}]}}
    sandbox.api.patch("agents", sandbox.namespace, "triage", change)
    after = sandbox.wait_ready("triage")["status"]["stage"]["revision"]
    assert after != before
    eventually(lambda: len(sandbox.children("triage").get("Deployment", [])) == 1, "the old placement is pruned")
    assert sandbox.child("triage", "Deployment")["metadata"]["labels"]["interlock.dev/revision"] == after[:63]


def test_events_report_a_transition_once(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")

    def reasons() -> list[str]:
        events = sandbox.api.listed("events", sandbox.namespace)
        return sorted(event["reason"] for event in events if event["regarding"]["kind"] == "Agent")

    eventually(lambda: len(reasons()) >= 3, "the Events are posted")
    assert reasons() == ["PodsReady", "RevisionGood", "StageEntered"]


def test_kubectl_wait_and_get_read_the_truth(
    operator: OperatorProcess, sandbox: Sandbox, kubectl: Callable[..., str]
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    waited = kubectl("-n", sandbox.namespace, "wait", "--for=condition=Ready", "--timeout=20s", "agt/triage")
    assert "condition met" in waited
    line = kubectl("-n", sandbox.namespace, "get", "agt", "triage", "--no-headers").split()
    assert line[:2] == ["triage", "development"]
    assert "True" in line


def test_an_agent_applied_before_policy_and_bindings_is_ready_once_they_come(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.create("triage")
    sandbox.wait_refused("triage", "PolicyNotFound")
    sandbox.api.create(objects.policy("triage"), sandbox.namespace)
    sandbox.wait_refused("triage", "BindingMissing")
    sandbox.api.create(objects.binding(), sandbox.namespace)
    sandbox.wait_ready("triage")


@requirement("guard.selftest-reported")
def test_a_policy_is_enforced_once_every_guard_has_self_tested_the_current_bundle(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    """Kwok runs no guards, so the test says for them what they would say; what they really say is tested on kind."""

    def enforced(status: str, reason: str) -> Callable[[], bool]:
        def is_enforced() -> bool:
            found = sandbox.condition("triage", "PolicyEnforced")
            return (found.get("status"), found.get("reason")) == (status, reason)

        return is_enforced

    def attest(pod: str, digest: str, **more: Any) -> None:
        said = json.dumps({"bundle": digest, "calls": 3, **more})
        annotations = {"metadata": {"annotations": {f"selftest.interlock.dev/{pod}": said}}}
        sandbox.api.patch(
            "leases", sandbox.namespace, sandbox.child("triage", "Lease")["metadata"]["name"], annotations
        )

    def held() -> str:
        text = sandbox.child("triage", "ConfigMap", "bundle")["data"]["bundle.json"]
        return hashlib.sha256(text.encode()).hexdigest()

    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage", replicas=2)
    sandbox.wait_ready("triage")
    sandbox.eventually(enforced("False", "SelfTestPending"), "nothing is self-tested yet")
    attest("one", held())
    attest("two", "0" * 64)
    sandbox.eventually(enforced("False", "SelfTestPending"), "one guard has not self-tested this bundle")
    attest("two", held())
    sandbox.eventually(enforced("True", "SelfTestPassed"), "both have")
    agent = sandbox.agent("triage")
    assert agent["status"]["enforcement"] == {
        "bundleDigest": held(),
        "generation": agent["metadata"]["generation"],
        "guards": 2,
    }

    before = held()
    row = {"agents": ["triage"], "source": "crm", "read": ["contacts"], "write": [], "delete": []}
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": [row]}})
    sandbox.eventually(enforced("False", "SelfTestPending"), "the bundle of the changed policy is not self-tested")
    assert held() != before
    assert "enforcement" not in sandbox.agent("triage")["status"]
    attest("one", held())
    attest("two", held(), flaw="Denied call tools/call 'get': Allow")
    sandbox.eventually(enforced("False", "SelfTestFailed"), "a guard would not keep it")
    assert "guard two: Denied call" in sandbox.condition("triage", "PolicyEnforced")["message"]
