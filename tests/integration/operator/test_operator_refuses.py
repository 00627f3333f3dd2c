"""No pod without governance, orchestration and action: refused while it lives, healed when the missing thing comes.

The admission policies that would refuse most of this are not installed: an older CRD, a policy that was deleted
later or an installation without them must not let an agent run.
"""

import contextlib
import copy
import time
from collections.abc import Iterator

import pytest

from interlock_contract.names import NEEDS_REVIEW
from tests.integration.operator import objects
from tests.integration.operator.api import APPLY_PATCH, Api, Json, Refused, eventually
from tests.integration.operator.sandbox import PROMISED_SECONDS, REFUSED_SECONDS, Sandbox
from tests.requirements import requirement
from tests.support.bounds import check_promise
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agents.interlock.dev"


@pytest.fixture
def old_crd(api: Api) -> Iterator[None]:
    """The Agent CRD as it would be without its rules, for as long as the test lasts."""
    current = api.request("GET", CRD)
    old = copy.deepcopy(current)
    schema = old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    _drop_rules(schema)
    _put_crd(api, old["spec"])
    probe = objects.agent("probe")
    del probe["spec"]["owner"]

    def is_old() -> bool:
        try:
            api.request("POST", "/apis/interlock.dev/v1alpha1/namespaces/default/agents?dryRun=All", probe)
        except Refused:
            return False
        return True

    eventually(is_old, "the API server takes Agents without the rules")
    yield
    _put_crd(api, current["spec"])
    eventually(lambda: not is_old(), "the API server has the rules back")


def _put_crd(api: Api, spec: Json) -> None:
    manifest: Json = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    manifest |= {"metadata": {"name": "agents.interlock.dev"}, "spec": spec}
    api.request("PATCH", f"{CRD}?fieldManager=kubectl&force=true", manifest, APPLY_PATCH)


def _drop_rules(schema: Json) -> None:
    schema.pop("x-kubernetes-validations", None)
    for below in schema.get("properties", {}).values():
        _drop_rules(below)
    if "items" in schema:
        _drop_rules(schema["items"])


MISSING = {
    "owner": ("OwnerMissing", "spec.owner is missing: write the name and e-mail address of the person"),
    "purpose": ("PurposeMissing", "spec.purpose is missing: write in one sentence"),
    "policyRef": ("PolicyRefMissing", "spec.policyRef is missing: write the name of the AgentPolicy"),
    "environment": ("EnvironmentInvalid", "spec.environment and spec.rollout are both missing"),
}


@pytest.mark.parametrize("missing", MISSING)
def test_an_agent_that_an_older_crd_let_in_never_gets_a_pod(
    operator: OperatorProcess, old_crd: None, sandbox: Sandbox, missing: str
) -> None:
    reason, message = MISSING[missing]
    sandbox.apply_policy_and_bindings("triage")
    manifest = objects.agent("triage")
    del manifest["spec"][missing]
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.api.create(manifest, sandbox.namespace)
        assert sandbox.wait_refused("triage", reason).startswith(message)
    assert seen == []


def test_a_team_as_owner_never_gets_a_pod(operator: OperatorProcess, old_crd: None, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage", owner={"name": "Support", "email": "support@example.com"})
    assert "is a role address" in sandbox.wait_refused("triage", "OwnerNotAPerson")


def test_an_agent_without_its_policy_never_gets_a_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage")
        message = sandbox.wait_refused("triage", "PolicyNotFound")
    assert message.startswith("spec.policyRef.name 'support': there is no AgentPolicy of this name")
    assert seen == []


def test_an_agent_without_a_row_in_the_matrix_never_gets_a_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("another-owner")
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage")
        message = sandbox.wait_refused("triage", "DataAccessMissing")
    assert "has no dataAccess row for agent triage and source crm: add the row" in message
    assert seen == []


def test_an_agent_below_its_policys_minimums_never_gets_a_pod(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    rollout = {"minStaging": "168h"}
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"rollout": rollout}})
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage", rollout=objects.stages("2h"))
        message = sandbox.wait_refused("triage", "MinimumNotReached")
    assert "2h in staging, but AgentPolicy support requires 168h before production" in message
    assert seen == []


def test_two_bindings_for_one_source_are_refused_and_the_good_revision_keeps_the_one_it_was_reviewed_with(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.api.create(objects.binding("crm-twin", "development"), sandbox.namespace)
    sandbox.wait_verified("crm-twin")  # an operator that reads the Agent first would start it with the other binding
    sandbox.create("triage")
    message = sandbox.wait_refused("triage", "BindingAmbiguous")
    assert "crm-twin" in message
    assert "crm-sandbox" in message
    sandbox.api.delete("mcpbindings", sandbox.namespace, "crm-twin")
    sandbox.wait_ready("triage", REFUSED_SECONDS)

    [pod], bundle = sandbox.pods("triage"), sandbox.bundle("triage")
    sandbox.api.create(objects.binding("crm-twin", "development"), sandbox.namespace)
    sandbox.wait_stalled("triage", "BindingAmbiguous")
    sandbox.wait_verified("crm-twin")
    assert [found["metadata"]["uid"] for found in sandbox.pods("triage")] == [pod["metadata"]["uid"]]
    assert sandbox.bundle("triage") == bundle
    assert sandbox.condition("triage", "Serving")["status"] == "True"


def test_a_stage_without_its_binding_is_refused_before_the_first_stage_runs(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    with sandbox.api.watching("pods", sandbox.namespace) as seen:
        sandbox.create("triage", rollout=objects.stages())
        message = sandbox.wait_refused("triage", "BindingMissing")
    assert "production" in message
    assert "crm" in message
    assert seen == []


def test_layers_after_the_one_that_refused_are_unknown(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.create("triage")
    sandbox.wait_refused("triage", "PolicyNotFound")
    conditions = sandbox.agent("triage")["status"]["conditions"]
    assert [(found["type"], found["status"]) for found in conditions[:6]] == [
        ("Governed", "False"),
        ("Orchestrated", "Unknown"),
        ("ActionsBound", "Unknown"),
        ("Deployed", "Unknown"),
        ("Ready", "False"),
        ("Stalled", "True"),
    ]


@requirement("governance.pods-end")
def test_a_deleted_policy_ends_its_agents_and_the_policy_back_brings_them_back(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", "answer")
    sandbox.create("triage")
    sandbox.create("answer")
    sandbox.wait_ready("triage")
    sandbox.wait_ready("answer")
    sandbox.api.delete("agentpolicies", sandbox.namespace, objects.POLICY)
    began = time.monotonic()
    sandbox.wait_refused("triage", "PolicyNotFound")
    sandbox.wait_refused("answer", "PolicyNotFound")
    check_promise(time.monotonic() - began, PROMISED_SECONDS, "nothing is left of two agents without their policy")
    sandbox.api.create(objects.policy("triage", "answer"), sandbox.namespace)
    sandbox.wait_ready("triage", REFUSED_SECONDS)
    sandbox.wait_ready("answer", REFUSED_SECONDS)


def test_a_row_that_is_taken_away_ends_its_agent_and_no_other(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", "answer")
    sandbox.create("triage")
    sandbox.create("answer")
    sandbox.wait_ready("triage")
    before = sandbox.wait_ready("answer")["metadata"]["resourceVersion"]
    pod = sandbox.pods("answer")[0]["metadata"]["uid"]
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": objects.policy("answer")["spec"]})
    sandbox.wait_refused("triage", "DataAccessMissing")
    assert sandbox.agent("answer")["metadata"]["resourceVersion"] == before
    assert [found["metadata"]["uid"] for found in sandbox.pods("answer")] == [pod]


@requirement("governance.selector")
def test_an_agent_that_loses_the_label_of_its_only_row_ends_and_comes_back_with_it(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("answer")
    by_label = {"agentSelector": {"matchLabels": {"team": "support"}}, "source": "crm", "read": ["contacts"]}
    rows = [*objects.policy("answer")["spec"]["dataAccess"], by_label]
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": rows}})
    labelled = objects.agent("triage")
    labelled["metadata"]["labels"] = {"team": "support"}
    eventually(lambda: _admitted(sandbox, labelled), "the row by label reaches admission")
    sandbox.wait_ready("triage")
    assert sandbox.bundle("triage")["sources"][0]["grants"][1]["rule"] == "agentpolicy/support/dataAccess[1]"
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"labels": {"team": "sales"}}})
    sandbox.wait_refused("triage", "DataAccessMissing")
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"labels": {"team": "support"}}})
    sandbox.wait_ready("triage", REFUSED_SECONDS)


def _admitted(sandbox: Sandbox, agent: Json) -> bool:
    with contextlib.suppress(Refused):  # a policy that was changed a moment ago has not reached admission yet
        return bool(sandbox.api.create(agent, sandbox.namespace))
    return False


@requirement("governance.deleted")
def test_a_deleted_agent_that_its_author_keeps_by_a_finalizer_ends(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    finalizers = {"metadata": {"finalizers": ["example.com/keep"]}}
    sandbox.api.patch("agents", sandbox.namespace, "triage", finalizers)
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    assert "its finalizers keep the object: example.com/keep" in sandbox.wait_refused("triage", "BeingDeleted")
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"finalizers": None}})
    eventually(lambda: sandbox.api.find("agents", sandbox.namespace, "triage") is None, "the Agent is gone")


@requirement("governance.deleted-grants")
@pytest.mark.parametrize(
    ("plural", "name", "reason"),
    [("agentpolicies", objects.POLICY, "BeingDeleted"), ("mcpbindings", "crm-sandbox", "BindingMissing")],
)
def test_what_a_deleted_policy_or_binding_granted_ends_even_if_a_finalizer_keeps_it(
    operator: OperatorProcess, sandbox: Sandbox, plural: str, name: str, reason: str
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    sandbox.api.patch(plural, sandbox.namespace, name, {"metadata": {"finalizers": ["example.com/keep"]}})

    sandbox.api.delete(plural, sandbox.namespace, name)

    assert f"{name} is being deleted" in sandbox.wait_refused("triage", reason)
    sandbox.api.patch(plural, sandbox.namespace, name, {"metadata": {"finalizers": None}})


@requirement("operator.woken")
def test_the_mark_for_a_review_ends_the_agents_of_a_binding_and_its_removal_brings_them_back(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")

    def mark(value: str | None) -> None:
        patch = {"metadata": {"annotations": {NEEDS_REVIEW: value}}}
        sandbox.api.patch("mcpbindings", sandbox.namespace, "crm-sandbox", patch)

    mark("look again")
    sandbox.wait_refused("triage", "BindingNotReviewed")
    mark(None)
    sandbox.wait_ready("triage", REFUSED_SECONDS)


def test_a_deleted_binding_ends_its_agents_and_a_new_one_brings_them_back(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    sandbox.api.delete("mcpbindings", sandbox.namespace, "crm-sandbox")
    sandbox.wait_refused("triage", "BindingMissing")
    sandbox.api.create(objects.binding(), sandbox.namespace)
    sandbox.wait_ready("triage", REFUSED_SECONDS)


def test_what_a_binding_no_longer_gives_leaves_the_bundle_without_a_restart(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    pod = sandbox.pods("triage")[0]["metadata"]["uid"]
    change: Json = {"spec": {"permissions": {"write": []}}}
    sandbox.api.patch("mcpbindings", sandbox.namespace, "crm-sandbox", change)

    def writes() -> list[str]:
        granted: list[str] = sandbox.bundle("triage")["sources"][0]["grants"][0]["write"]
        return granted

    eventually(lambda: writes() == [], "the bundle follows", REFUSED_SECONDS)
    sandbox.wait_ready("triage")
    assert [found["metadata"]["uid"] for found in sandbox.pods("triage")] == [pod]
