"""When an agent gets its objects and loses them: verification of its bindings' servers, and its own deletion."""

import pytest

from interlock.api.status import AgentReason, ConditionType
from interlock_contract.verification import VerificationFailure
from tests.requirements import requirement
from tests.support.builders import BindingBuilder, a_binding, a_policy, a_snapshot, an_agent
from tests.support.simulation import Simulation


def verification_failed(reason: str = "ServerUnavailable") -> BindingBuilder:
    raw = a_binding().to_kubernetes()
    raw["status"]["conditions"][0] |= {"status": "False", "reason": reason, "message": "it is away"}
    return BindingBuilder(raw, is_verified=False)


@requirement("verify.before-attach", "governance.no-pods-before")
def test_an_agent_gets_its_children_once_its_bindings_server_is_verified() -> None:
    simulation = Simulation(a_snapshot().with_bindings(a_binding().unverified()))
    simulation.run()
    assert simulation.snapshot.children == {}
    bound = simulation.condition(ConditionType.ACTIONS_BOUND)
    assert (bound.status, bound.reason) == ("False", AgentReason.BINDING_NOT_VERIFIED)
    assert simulation.condition(ConditionType.READY).message == bound.message
    # Tools such as Flux give an object up as soon as it is Stalled, also if it was applied together with its binding.
    assert simulation.condition(ConditionType.STALLED).status == "False"
    simulation.find_bindings(a_binding())
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"


RETRIED = ("ServerUnavailable", "ListFailed", "ProbeFailed", "JobFailed")
FAILURES = (*VerificationFailure, "JobFailed")


@requirement("status.stalled")
@pytest.mark.parametrize("reason", FAILURES)
def test_an_agent_is_stalled_by_a_failed_verification_only_if_no_later_run_can_succeed(reason: str) -> None:
    simulation = Simulation(a_snapshot().with_bindings(verification_failed(reason)))
    simulation.run()
    assert simulation.snapshot.children == {}
    assert simulation.condition(ConditionType.READY).reason == AgentReason.BINDING_NOT_VERIFIED
    assert simulation.condition(ConditionType.STALLED).status == ("False" if reason in RETRIED else "True")


@requirement("status.stalled")
def test_an_agent_applied_before_its_policy_and_binding_is_stalled_only_if_they_do_not_follow() -> None:
    for take_away in (lambda one: one.find_policy(None), lambda one: one.find_bindings()):
        simulation = Simulation()
        take_away(simulation)
        outcome = simulation.reconcile_once()
        assert simulation.condition(ConditionType.STALLED).status == "False"
        assert outcome.requeue_at is not None
        simulation.now = outcome.requeue_at
        assert simulation.reconcile_once().requeue_at is None
        assert simulation.condition(ConditionType.STALLED).status == "True"
        simulation.find_policy(a_policy())
        simulation.find_bindings(a_binding())
        simulation.run()
        assert simulation.condition(ConditionType.STALLED).status == "False"


@requirement("verify.before-attach")
def test_an_agent_that_is_attached_keeps_its_children_when_a_later_run_fails() -> None:
    simulation = Simulation()
    simulation.run()
    children = dict(simulation.snapshot.children)
    simulation.find_bindings(verification_failed())
    simulation.run()
    assert simulation.snapshot.children == children
    assert simulation.condition(ConditionType.READY).status == "True"


@requirement("governance.deleted")
def test_a_deleted_agent_that_a_finalizer_keeps_wants_nothing() -> None:
    simulation = Simulation()
    simulation.run()
    simulation.apply(simulation.snapshot.agent.being_deleted("example.com/keep"))
    simulation.run()
    assert simulation.snapshot.children == {}
    ready = simulation.condition(ConditionType.READY)
    assert (ready.status, ready.reason) == ("False", AgentReason.BEING_DELETED)
    assert ready.message == (
        "this Agent is being deleted, so all its pods end; its finalizers keep the object: example.com/keep"
    )


@requirement("governance.deleted")
def test_a_new_agent_that_is_being_deleted_gets_no_children() -> None:
    simulation = Simulation(a_snapshot().of(an_agent().being_deleted("example.com/keep")))
    simulation.run()
    assert simulation.snapshot.children == {}
