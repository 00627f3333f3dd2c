"""When an agent gets its objects and loses them: verification of its bindings' servers, and its own deletion."""

from interlock.api.status import AgentReason, ConditionType
from tests.requirements import requirement
from tests.support.builders import BindingBuilder, a_binding, a_snapshot, an_agent
from tests.support.simulation import Simulation


def verification_failed() -> BindingBuilder:
    raw = a_binding().to_kubernetes()
    raw["status"]["conditions"][0] |= {"status": "False", "reason": "ServerUnavailable", "message": "it is away"}
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
    simulation.find_bindings(verification_failed())
    simulation.run()
    assert simulation.snapshot.children == {}
    stalled = simulation.condition(ConditionType.STALLED)
    assert (stalled.status, stalled.reason) == ("True", AgentReason.BINDING_NOT_VERIFIED)
    simulation.find_bindings(a_binding())
    simulation.run()
    assert simulation.condition(ConditionType.READY).status == "True"


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
