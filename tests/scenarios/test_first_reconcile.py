"""The first reconcile of a new agent: a row for each thing that can be missing, and for all that may be well."""

from dataclasses import dataclass

import pytest

from interlock.api.refusals import APPLY_GRACE
from interlock.api.status import AgentStatus, ConditionType
from interlock.reconcile.agent import SECRET_INTERVAL, reconcile
from tests.requirements import requirement
from tests.support.builders import NOW, SnapshotBuilder, a_binding, a_policy, a_snapshot, a_stage, an_agent
from tests.support.simulation import Simulation, written_by

LAYERS = ("Governed", "Orchestrated", "ActionsBound", "Deployed")
STAGED = an_agent().with_stages(a_stage("staging", lasting="1h"), a_stage("everywhere", "production"))
STRICT = a_policy().requiring()
LATER = NOW + APPLY_GRACE


def conditions(status: AgentStatus) -> dict[str, tuple[str, str]]:
    return {found.type: (found.status, found.reason) for found in status.conditions}


@dataclass(frozen=True)
class Refused:
    snapshot: SnapshotBuilder
    layer: str
    reason: str
    says: str


REFUSED = {
    "no owner": Refused(
        a_snapshot().of(an_agent().without_owner()), "Governed", "OwnerMissing", "spec.owner is missing"
    ),
    "a role as owner": Refused(
        a_snapshot().of(an_agent().owned_by("Support", "support@example.com")),
        "Governed",
        "OwnerNotAPerson",
        '"support@example.com" is a role address',
    ),
    "no purpose": Refused(a_snapshot().of(an_agent().for_purpose("")), "Governed", "PurposeMissing", "spec.purpose"),
    "no policy named": Refused(
        a_snapshot().of(an_agent().without_policy_ref()).with_policy(None),
        "Governed",
        "PolicyRefMissing",
        "spec.policyRef is missing",
    ),
    "no such policy": Refused(a_snapshot().with_policy(None), "Governed", "PolicyNotFound", "'support': there is no"),
    "a policy that cannot be read": Refused(
        a_snapshot().with_policy(None).with_unreadable("AgentPolicy", "support"),
        "Governed",
        "PolicyInvalid",
        "AgentPolicy support cannot be read: spec: is no such thing; fix it or delete it",
    ),
    "no row": Refused(
        a_snapshot().with_policy(a_policy().giving_nothing()),
        "Governed",
        "DataAccessMissing",
        "no dataAccess row for agent triage and source crm",
    ),
    "an agent that cannot be read": Refused(
        a_snapshot().with_unreadable("Agent", "triage"), "Governed", "SpecInvalid", "this Agent cannot be read"
    ),
    "a model that the policy does not allow": Refused(
        a_snapshot()
        .of(an_agent().calling("openai/gpt-4o"))
        .with_policy(a_policy().allowing_models("openai/gpt-4o-mini")),
        "Governed",
        "ModelNotAllowed",
        "AgentPolicy support does not allow openai/gpt-4o",
    ),
    "no stage": Refused(
        a_snapshot().of(an_agent().in_environment(None)), "Orchestrated", "EnvironmentInvalid", "both missing"
    ),
    "stages that go back": Refused(
        a_snapshot().of(an_agent().with_stages(a_stage("live", "production"), a_stage("dev", "development"))),
        "Orchestrated",
        "StagesInvalid",
        "stage dev in development follows a stage in production",
    ),
    "too fast": Refused(
        a_snapshot().of(STAGED).with_policy(STRICT),
        "Orchestrated",
        "MinimumNotReached",
        "1h in staging, but AgentPolicy support requires 168h",
    ),
    "minimums that cannot be read": Refused(
        a_snapshot().with_policy(a_policy().requiring(minStaging="7d")), "Orchestrated", "PolicyInvalid", '"7d" is not'
    ),
    "no binding in production": Refused(
        a_snapshot().of(STAGED).with_bindings(a_binding("sandbox").serving("crm", "staging")),
        "ActionsBound",
        "BindingMissing",
        "source 'crm' in stage 'everywhere' (environment production)",
    ),
    "two bindings": Refused(
        a_snapshot().with_bindings(a_binding("a"), a_binding("b")), "ActionsBound", "BindingAmbiguous", "2 MCPBindings"
    ),
    "a binding that cannot be read": Refused(
        a_snapshot().with_unreadable("MCPBinding", "other"), "ActionsBound", "BindingInvalid", "MCPBinding other cannot"
    ),
    "a binding without a review": Refused(
        a_snapshot().with_bindings(a_binding().waiting_for_review()),
        "ActionsBound",
        "BindingNotReviewed",
        "kubectl -n agents annotate mcpbindings.interlock.dev crm interlock.dev/needs-review-",
    ),
    "more than is given": Refused(
        a_snapshot().of(an_agent().using({"source": "crm", "permissions": {"delete": ["contacts"]}})),
        "ActionsBound",
        "NarrowingInvalid",
        "permissions.delete names 'contacts'",
    ),
}


@requirement("governance.no-pods-before", "governance.reported", "governance.layer-order")
@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_a_refused_agent_gets_no_child_and_its_status_names_what_is_missing(row: Refused) -> None:
    outcome = reconcile(row.snapshot.build(), NOW)

    assert written_by(outcome.plan) == ()
    assert outcome.plan.is_empty
    if outcome.requeue_at is not None:  # a missing object may be applied a moment later
        assert (row.reason, outcome.requeue_at) in (("PolicyNotFound", LATER), ("BindingMissing", LATER))
        outcome = reconcile(row.snapshot.of(row.snapshot.agent.with_status(outcome.status)).build(), LATER)
        assert outcome.requeue_at is None
    assert outcome.status.stage is None
    found = conditions(outcome.status)
    assert found["Ready"] == ("False", row.reason)
    assert found["Stalled"] == ("True", row.reason)
    assert found[row.layer] == ("False", row.reason)
    spoken = {one.message for one in outcome.status.conditions if one.type in (row.layer, "Ready", "Stalled")}
    assert len(spoken) == 1
    assert row.says in spoken.pop()


@pytest.mark.parametrize("row", REFUSED.values(), ids=REFUSED)
def test_layers_below_the_refusal_hold_and_those_above_wait_for_it(row: Refused) -> None:
    found = conditions(reconcile(row.snapshot.build(), NOW).status)
    refused = LAYERS.index(row.layer)
    waits = ("WaitingForGovernance", "WaitingForOrchestration", "WaitingForActions")[refused]

    assert {found[layer][0] for layer in LAYERS[:refused]} <= {"True"}
    assert {found[layer] for layer in LAYERS[refused + 1 :]} == {("Unknown", waits)}
    assert found["PromotionPending"] == ("Unknown", waits)


@requirement("status.conditions")
@pytest.mark.parametrize(
    "snapshot", [a_snapshot(), *(one.snapshot for one in REFUSED.values())], ids=["all is well", *REFUSED]
)
def test_conditions_stand_in_layer_order_each_once_and_speak_of_the_present_spec(snapshot: SnapshotBuilder) -> None:
    status = reconcile(snapshot.build(), NOW).status

    assert [found.type for found in status.conditions] == [kind.value for kind in ConditionType]
    assert status.observed_generation == 1
    assert {found.observed_generation for found in status.conditions} == {1}
    assert {found.last_transition_time for found in status.conditions} == {NOW}
    assert all(found.message for found in status.conditions)


@dataclass(frozen=True)
class Accepted:
    snapshot: SnapshotBuilder
    ready: tuple[str, str]
    promotion: tuple[str, str]
    stage: str
    replicas: int = 1


NOT_YET = ("False", "PodsNotReady")
LAST = ("False", "LastStage")
ACCEPTED = {
    "one environment": Accepted(a_snapshot(), NOT_YET, LAST, "development"),
    "a rollout": Accepted(a_snapshot().of(STAGED), NOT_YET, ("True", "WaitingForReady"), "staging"),
    "no source": Accepted(a_snapshot().of(an_agent().using()).with_bindings(), NOT_YET, LAST, "development"),
    "three replicas": Accepted(a_snapshot().of(an_agent().with_replicas(3)), NOT_YET, LAST, "development", 3),
    "zero replicas": Accepted(
        a_snapshot().of(an_agent().with_replicas(0)), ("True", "ScaledToZero"), LAST, "development", 0
    ),
    "created killed": Accepted(a_snapshot().of(an_agent().killed()), ("False", "KillSwitch"), LAST, "development", 0),
    "killed by a typo": Accepted(
        a_snapshot().of(an_agent().killed("Off")), ("False", "KillSwitch"), LAST, "development", 0
    ),
    "killed as the second watch saw it": Accepted(
        a_snapshot().seen_killed("runaway"), ("False", "KillSwitch"), LAST, "development", 0
    ),
    "the switch is off": Accepted(a_snapshot().of(an_agent().killed("off")), NOT_YET, LAST, "development"),
    "an unreadable policy of others": Accepted(
        a_snapshot().with_unreadable("AgentPolicy", "other"), NOT_YET, LAST, "development"
    ),
    "an unreadable binding of others": Accepted(
        a_snapshot().of(an_agent().using()).with_unreadable("MCPBinding", "x"), NOT_YET, LAST, "development"
    ),
}


@requirement("kill.never-up", "status.zero-replicas", "operator.unreadable")
@pytest.mark.parametrize("row", ACCEPTED.values(), ids=ACCEPTED)
def test_an_agent_whose_layers_hold_gets_its_children(row: Accepted) -> None:
    outcome = reconcile(row.snapshot.build(), NOW)

    kinds = [child["kind"] for child in written_by(outcome.plan)]
    assert kinds[-1] == "Deployment"
    assert len(kinds) == (12 if row.replicas > 1 else 11)  # several replicas have a PodDisruptionBudget too
    assert outcome.plan.workloads[0]["spec"]["replicas"] == row.replicas
    assert outcome.requeue_at == (NOW + SECRET_INTERVAL if row.replicas else None), "no stage waits for a time"
    found = conditions(outcome.status)
    assert {found[layer][0] for layer in LAYERS} == {"True"}
    assert found["Ready"] == row.ready
    assert found["PromotionPending"] == row.promotion
    assert outcome.status.stage is not None
    assert outcome.status.stage.name == row.stage
    assert outcome.status.stage.entered_at == NOW
    assert outcome.status.stage.ready_since is None


def test_a_killed_agent_is_stalled_until_a_person_releases_it_and_says_how() -> None:
    status = reconcile(a_snapshot().of(an_agent().killed("runaway")).build(), NOW).status

    found = {one.type: one for one in status.conditions}
    assert (found["Killed"].status, found["Killed"].reason) == ("True", "KillSwitch")
    assert (found["Stalled"].status, found["Stalled"].reason) == ("True", "KillSwitch")
    assert found["Killed"].message == (
        "killed: runaway; to release, run: kubectl -n agents annotate agents.interlock.dev triage "
        "interlock.dev/kill-switch=off --overwrite"
    )


def test_a_reason_for_a_kill_cannot_act_on_the_terminal_that_shows_it() -> None:
    status = reconcile(a_snapshot().of(an_agent().killed("run\x1b[2Jaway\u202e\nnow")).build(), NOW).status

    messages = [one.message for one in status.conditions if one.reason == "KillSwitch"]
    assert sum("killed: run?[2Jaway??now; to release" in message for message in messages) == 3


def test_a_killed_agent_that_is_refused_too_reports_both() -> None:
    found = conditions(reconcile(a_snapshot().of(an_agent().without_owner().killed()).build(), NOW).status)

    assert found["Governed"] == ("False", "OwnerMissing")
    assert found["Killed"] == ("True", "KillSwitch")
    assert found["Ready"] == ("False", "KillSwitch")


def test_a_kill_switch_of_any_length_gives_a_message_that_the_api_server_takes() -> None:
    status = reconcile(a_snapshot().of(an_agent().killed("x" * 200_000)).build(), NOW).status

    assert max(len(found.message) for found in status.conditions) <= 1024


def test_a_first_reconcile_reports_no_kill_since_the_kill_path_alone_does() -> None:
    assert reconcile(a_snapshot().of(an_agent().killed()).build(), NOW).status.kill is None


@requirement("status.counts")
def test_the_ready_pods_are_counted_of_those_that_are_wanted() -> None:
    simulation = Simulation(a_snapshot().of(an_agent().with_replicas(3)))
    seen = []
    for step in (simulation.settle, simulation.run, simulation.fail, simulation.settle, simulation.kill):
        step()
        simulation.settle()
        seen.append((simulation.status.ready_replicas, simulation.status.ready_summary))
    assert seen == [(0, "0/3"), (3, "3/3"), (0, "0/3"), (0, "0/3"), (0, "0/3")]
    ready = simulation.condition(ConditionType.READY)
    assert ready.reason == "KillSwitch"
