"""Staging, then one region, then everywhere: by time and readiness, whatever happens to the operator."""

from datetime import datetime, timedelta

import pytest

from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.objects import KILL_SWITCH
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

SOAK = timedelta(seconds=2)
LONG_SOAK = timedelta(seconds=6)
REGION = [{"dimension": "region", "values": ["eu-west"]}]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def soak_was_kept(before: dict[str, str], after: dict[str, str], soak: timedelta) -> bool:
    """Whether the stage after was entered no sooner than the soak of the stage before allowed."""
    return moment(after["enteredAt"]) - moment(before["readySince"]) >= soak


def test_an_agent_passes_its_stages_by_soaking(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("2s"))
    sandbox.wait_ready("triage")
    staging = sandbox.wait_stage("triage", "staging")
    assert sandbox.condition("triage", "PromotionPending")["status"] == "True"
    region = sandbox.wait_stage("triage", "one-region")
    assert soak_was_kept(staging, region, SOAK)
    eventually(lambda: "readySince" in sandbox.agent("triage")["status"]["stage"], "the second stage serves")
    region = sandbox.agent("triage")["status"]["stage"]
    everywhere = sandbox.wait_stage("triage", "everywhere")
    assert soak_was_kept(region, everywhere, SOAK)
    sandbox.wait_ready("triage")
    eventually(lambda: sandbox.condition("triage", "PromotionPending")["reason"] == "LastStage", "nothing is pending")


def test_the_scope_of_a_stage_reaches_the_bundle(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    rollout = objects.stages("1s")
    rollout["stages"] = rollout["stages"][:2]
    sandbox.create("triage", rollout=rollout)
    sandbox.wait_stage("triage", "one-region")
    sandbox.wait_deployed("triage", "one-region")  # the stage is recorded before its objects exist
    bundle = sandbox.bundle("triage")
    assert (bundle["stage"], bundle["environment"], bundle["scope"]) == ("one-region", "production", REGION)
    assert bundle["sources"][0]["binding"] == "crm"
    assert bundle["sources"][0]["tools"][0]["scope"] == [{"dimension": "region", "pointer": "/region"}]


def test_only_one_stage_is_ever_deployed_at_the_end_of_a_reconcile(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("1s"))
    sandbox.wait_stage("triage", "everywhere")
    sandbox.wait_deployed("triage", "everywhere")  # the stage is recorded before its objects exist
    sandbox.wait_ready("triage")
    for kind in ("Deployment", "Role", "RoleBinding", "NetworkPolicy"):
        child = sandbox.child("triage", kind)
        assert child["metadata"]["labels"]["interlock.dev/stage"] == "everywhere"


@requirement("rollout.restart")
def test_an_operator_killed_in_mid_soak_neither_skips_nor_resets_it(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("6s"))
    sandbox.wait_ready("triage")
    before = sandbox.wait_stage("triage", "staging")
    operator.kill()
    operator.start()
    started = utc_now()
    after = sandbox.wait_stage("triage", "one-region")
    assert soak_was_kept(before, after, LONG_SOAK), "it skipped a part of the soak"
    assert moment(after["enteredAt"]) < started + LONG_SOAK, "the soak began again with the operator"


def test_a_soak_that_ended_while_no_operator_ran_ends_at_the_next_start(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("2s"))
    sandbox.wait_ready("triage")
    before = sandbox.wait_stage("triage", "staging")
    operator.kill()
    due = moment(before["readySince"]) + SOAK
    eventually(lambda: utc_now() > due, "the soak is over")
    operator.start()
    after = sandbox.wait_stage("triage", "one-region")
    assert soak_was_kept(before, after, SOAK)


def test_a_kill_stops_the_soak_and_the_release_starts_it_again(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.create("triage", rollout=objects.stages("2s"))
    sandbox.wait_ready("triage")
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": {KILL_SWITCH: "now"}}})
    eventually(lambda: not sandbox.pods("triage"), "no pod is left")
    eventually(lambda: "readySince" not in sandbox.agent("triage")["status"]["stage"], "the soak has stopped")
    eventually(lambda: "kill" in sandbox.agent("triage")["status"], "the kill stands recorded")
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"annotations": {KILL_SWITCH: "off"}}})
    eventually(lambda: "readySince" in sandbox.agent("triage")["status"]["stage"], "the soak counts again")
    status = sandbox.agent("triage")["status"]
    assert status["stage"]["readySince"] > status["kill"]["requestedAt"][:19]


CHANGES = {
    "image": {"spec": {"template": {"image": "registry.example.com/agent:2.0"}}},
    "policy": {"spec": {"policyRef": {"name": "another"}}},
    "label that a row selects by": {"metadata": {"labels": {"team": "support"}}},
}


def select_by_team(sandbox: Sandbox) -> None:
    row = {"agentSelector": {"matchLabels": {"team": "support"}}, "source": "crm", "delete": ["contacts"]}
    rows = [*objects.policy("triage")["spec"]["dataAccess"], row]
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": rows}})


@requirement("revision.contents", "revision.labels")
@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_new_revision_starts_again_at_the_first_stage(
    operator: OperatorProcess, sandbox: Sandbox, change: Json
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.api.create(objects.policy("triage", name="another"), sandbox.namespace)
    select_by_team(sandbox)
    sandbox.create("triage", rollout=objects.stages("1s"))
    sandbox.wait_stage("triage", "everywhere")
    with sandbox.api.watching("agents", sandbox.namespace) as seen:
        sandbox.api.patch("agents", sandbox.namespace, "triage", change)
        eventually(lambda: "staging" in stages_of(seen), "the first stage again, however short")


@requirement("revision.labels")
def test_labels_that_no_row_selects_by_start_no_revision_and_the_first_ones_stay_recorded(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    select_by_team(sandbox)
    sandbox.create("triage", rollout=objects.stages("1s"))
    before = sandbox.wait_stage("triage", "everywhere")
    reconciled = operator.metric("interlock_reconciles_total", 'kind="Agent"')
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"metadata": {"labels": {"chart": "1"}}})
    eventually(lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') > reconciled, "it has reconciled")
    sandbox.wait_ready("triage")
    after = sandbox.agent("triage")["status"]["stage"]
    assert (after["revision"], after["enteredAt"]) == (before["revision"], before["enteredAt"])
    assert after.get("labels", []) == before.get("labels", []), "a row that selects by it starts another revision"
    assert (len(after["revision"]), after["revisionSummary"]) == (64, after["revision"][:12])


def stages_of(events: list[Json]) -> list[str]:
    """Return the stages that an Agent was seen in."""
    return [event["object"].get("status", {}).get("stage", {}).get("name", "") for event in list(events)]


def test_replaying_the_same_spec_resets_nothing(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    rollout = objects.stages("1s")
    sandbox.create("triage", rollout=rollout)
    before = sandbox.wait_stage("triage", "everywhere")
    sandbox.wait_ready("triage")
    sandbox.api.apply(objects.agent("triage", rollout=rollout), sandbox.namespace)
    sandbox.wait_ready("triage")
    assert sandbox.agent("triage")["status"]["stage"]["enteredAt"] == before["enteredAt"]
