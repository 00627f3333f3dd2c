"""Staging, then one region, then everywhere: by time and readiness, whatever happens to the operator."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest

from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.objects import KILL_SWITCH
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

SOAK = timedelta(seconds=2)
LONG_SOAK = timedelta(seconds=6)
REGION = [{"dimension": "region", "values": ["eu-west"]}]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Passed:
    """The stages that an Agent has passed, by every version that a watch has seen: a short one is not missed."""

    def __init__(self, events: list[Json]) -> None:
        self._events = events

    def versions(self, stage: str) -> list[Json]:
        """Return the versions of the Agent in this stage."""
        found = [event["object"] for event in list(self._events)]
        return [one for one in found if one.get("status", {}).get("stage", {}).get("name") == stage]

    def ready_since(self, stage: str) -> set[datetime]:
        """Return all times since which the stage was said to be Ready."""
        stages = (one["status"]["stage"] for one in self.versions(stage))
        return {moment(one["readySince"]) for one in stages if "readySince" in one}

    def until(self, stage: str) -> Json:
        """Wait until the Agent was in this stage; return `status.stage`."""
        found: Json = eventually(lambda: self.versions(stage) or None, f"it was in stage {stage}")[0]["status"]["stage"]
        return found

    def until_ready(self, stage: str) -> datetime:
        """Wait until the stage was Ready; return since when it was first."""
        return min(eventually(lambda: self.ready_since(stage) or None, f"stage {stage} was Ready"))


@contextmanager
def passing(sandbox: Sandbox) -> Iterator[Passed]:
    with sandbox.api.watching("agents", sandbox.namespace) as seen:
        yield Passed(seen)


def test_an_agent_passes_its_stages_by_soaking(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    with passing(sandbox) as passed:
        sandbox.create("triage", rollout=objects.stages("2s"))
        everywhere = passed.until("everywhere")
    for stage in ("staging", "one-region"):
        pending = [condition_of(one, "PromotionPending").get("status") for one in passed.versions(stage)]
        assert "True" in pending, stage
    region = passed.until("one-region")
    assert moment(region["enteredAt"]) >= passed.until_ready("staging") + SOAK
    assert moment(everywhere["enteredAt"]) >= passed.until_ready("one-region") + SOAK
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


@pytest.mark.nightly
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
    with passing(sandbox) as passed:
        sandbox.create("triage", rollout=objects.stages("6s"))
        before = passed.until_ready("staging")
        operator.kill()
        operator.start()
        after = passed.until("one-region")
    assert moment(after["enteredAt"]) >= before + LONG_SOAK, "it skipped a part of the soak"
    assert passed.ready_since("staging") == {before}, "the soak began again with the operator"


@pytest.mark.nightly
def test_a_soak_that_ended_while_no_operator_ran_ends_at_the_next_start(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    with passing(sandbox) as passed:
        sandbox.create("triage", rollout=objects.stages("2s"))
        due = passed.until_ready("staging") + SOAK
        operator.kill()
        eventually(lambda: utc_now() > due, "the soak is over")
        operator.start()
        after = passed.until("one-region")
    assert moment(after["enteredAt"]) >= due


@pytest.mark.nightly
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
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(change, id=name, marks=pytest.mark.nightly if name in ("policy", "image") else ())
        for name, change in CHANGES.items()
    ],
)
def test_a_new_revision_starts_again_at_the_first_stage(
    operator: OperatorProcess, sandbox: Sandbox, change: Json
) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    sandbox.api.create(objects.policy("triage", name="another"), sandbox.namespace)
    select_by_team(sandbox)
    sandbox.create("triage", rollout=objects.stages("1s"))
    sandbox.wait_stage("triage", "everywhere")
    with passing(sandbox) as passed:
        sandbox.api.patch("agents", sandbox.namespace, "triage", change)
        passed.until("staging")


@pytest.mark.nightly
@requirement("revision.labels")
def test_labels_that_no_row_selects_by_start_no_revision(operator: OperatorProcess, sandbox: Sandbox) -> None:
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
    assert (len(after["revision"]), after["revisionName"]) == (64, f"1-{after['revision'][:10]}")


@pytest.mark.nightly
def test_replaying_the_same_spec_resets_nothing(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage", production=True)
    rollout = objects.stages("1s")
    sandbox.create("triage", rollout=rollout)
    before = sandbox.wait_stage("triage", "everywhere")
    sandbox.wait_ready("triage")
    sandbox.api.apply(objects.agent("triage", rollout=rollout), sandbox.namespace)
    sandbox.wait_ready("triage")
    assert sandbox.agent("triage")["status"]["stage"]["enteredAt"] == before["enteredAt"]
