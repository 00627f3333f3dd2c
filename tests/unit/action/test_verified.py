import pytest

from interlock.action.actions_bound import check_verified
from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, BindingBuilder, a_binding, a_stage, an_agent


def attached(agent: AgentBuilder) -> AgentBuilder:
    bound = Condition(
        type=ConditionType.ACTIONS_BOUND, status="True", last_transition_time=NOW, reason="BindingsResolved", message=""
    )
    return agent.with_status(AgentStatus(conditions=(bound,)))


def failing(binding: BindingBuilder) -> BindingBuilder:
    """A binding that was verified once, and is not now."""
    raw = binding.to_kubernetes()
    raw["status"]["conditions"][0] |= {"status": "False", "reason": "ServerUnavailable", "message": "it is away"}
    return BindingBuilder(raw, is_verified=False)


def refusal(agent: AgentBuilder, *bindings: BindingBuilder) -> str | None:
    found = check_verified(agent.build(), tuple(binding.build() for binding in bindings))
    assert found is None or found.reason is AgentReason.BINDING_NOT_VERIFIED
    return found.message if found else None


@requirement("verify.before-attach")
def test_an_agent_waits_for_a_binding_that_was_not_verified_yet() -> None:
    assert refusal(an_agent(), a_binding()) is None
    message = refusal(an_agent(), a_binding().unverified()) or ""
    assert message.startswith("waits for MCPBinding crm to be verified: the operator has not processed it yet; run: ")
    assert refusal(attached(an_agent()), a_binding().unverified()) is not None, "it never was verified"


@requirement("verify.before-attach")
def test_a_server_that_fails_now_keeps_new_agents_waiting_and_lets_attached_ones_go_on() -> None:
    assert "it is away" in (refusal(an_agent(), failing(a_binding())) or "")
    assert refusal(attached(an_agent()), failing(a_binding())) is None


def test_the_message_has_one_command() -> None:
    raw = failing(a_binding()).to_kubernetes()
    raw["status"]["conditions"][0] |= {"status": "Unknown", "message": "it is slow; run: kubectl describe jobs"}
    message = refusal(an_agent(), BindingBuilder(raw, is_verified=False)) or ""
    assert message.endswith(": it is slow; run: kubectl describe jobs")


@pytest.mark.parametrize("is_attached", [False, True])
@requirement("verify.before-attach")
def test_the_bindings_of_all_stages_are_checked_from_the_start(*, is_attached: bool) -> None:
    agent = an_agent().with_stages(a_stage("staging"), a_stage("everywhere", "production"))
    agent = attached(agent) if is_attached else agent
    early = a_binding("early").serving("crm", "staging")
    late = a_binding("late").serving("crm", "production").unverified()
    assert "MCPBinding late" in (refusal(agent, early, late) or "")
    assert refusal(agent, early, a_binding("late").serving("crm", "production")) is None
