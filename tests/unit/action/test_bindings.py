import pytest

from interlock.action.actions_bound import binding_for, check_action, check_coverage
from interlock.api.binding import MCPBinding
from interlock.api.status import AgentReason
from tests.requirements import requirement
from tests.support.builders import BindingBuilder, a_binding, a_policy, a_stage, an_agent

STAGED = an_agent().with_stages(
    a_stage("staging", "staging"),
    a_stage("one-region", "production", scope={"region": ["eu-west"]}),
    a_stage("everywhere", "production"),
)
SANDBOX = a_binding("sandbox").serving("crm", "development", "staging")
REAL = a_binding("real").serving("crm", "production")


def built(*bindings: BindingBuilder) -> tuple[MCPBinding, ...]:
    return tuple(binding.build() for binding in bindings)


def test_a_source_is_served_by_the_one_binding_of_its_environment() -> None:
    bindings = built(SANDBOX, REAL)

    assert binding_for(bindings, "crm", "staging") == bindings[0]
    assert binding_for(bindings, "crm", "production") == bindings[1]


def test_a_source_that_none_or_several_serve_is_served_by_none() -> None:
    assert binding_for(built(SANDBOX), "crm", "production") is None
    assert binding_for(built(SANDBOX), "mail", "staging") is None
    assert binding_for(built(REAL, REAL.named("second")), "crm", "production") is None


@requirement("action.one-binding")
def test_every_stage_is_checked_from_the_start() -> None:
    refusal = check_coverage(STAGED.build(), built(SANDBOX))

    assert refusal is not None
    assert refusal.reason == AgentReason.BINDING_MISSING
    assert refusal.message == (
        "no MCPBinding serves source 'crm' in stage 'one-region' (environment production): apply one whose source is "
        "crm and whose environments hold production, or remove the source from spec.bindings"
    )


def test_every_source_is_checked() -> None:
    refusal = check_coverage(STAGED.using("crm", "mail").build(), built(SANDBOX, REAL))

    assert refusal is not None
    assert "source 'mail' in stage 'staging'" in refusal.message


def test_two_bindings_for_one_source_and_stage_are_refused_and_both_named() -> None:
    refusal = check_coverage(STAGED.build(), built(SANDBOX, REAL, REAL.named("another")))

    assert refusal is not None
    assert refusal.reason == AgentReason.BINDING_AMBIGUOUS
    assert refusal.message == (
        "2 MCPBindings serve source 'crm' in stage 'one-region' (environment production): another, real; "
        "leave production in the environments of one"
    )


def test_two_bindings_that_share_no_environment_of_the_rollout_are_no_trouble() -> None:
    overlap = a_binding("second").serving("crm", "development")

    assert check_coverage(STAGED.build(), built(SANDBOX, overlap, REAL)) is None


def test_an_agent_without_sources_needs_no_binding() -> None:
    assert check_coverage(STAGED.using().build(), ()) is None


@requirement("action.narrowing")
@pytest.mark.parametrize(
    ("permissions", "says"),
    [
        ({"read": ["contacts", "deals"]}, "permissions.read names 'deals', which AgentPolicy support does not give"),
        ({"write": ["contacts"]}, "permissions.write names 'contacts', which AgentPolicy support does not give"),
        ({"delete": ["tasks"]}, "permissions.delete names 'tasks', which AgentPolicy support does not give"),
    ],
)
def test_naming_what_the_matrix_does_not_give_is_refused(permissions: dict[str, list[str]], says: str) -> None:
    agent = an_agent().using({"source": "crm", "permissions": permissions})

    refusal = check_action(agent.build(), a_policy().build(), built(a_binding()))

    assert refusal is not None
    assert refusal.reason == AgentReason.NARROWING_INVALID
    assert refusal.message.startswith("spec.bindings[crm].")
    assert says in refusal.message
    assert refusal.message.endswith("remove it there, or add it to AgentPolicy support")


def test_naming_what_a_later_stages_binding_does_not_give_is_refused() -> None:
    agent = STAGED.using({"source": "crm", "permissions": {"read": ["contacts"], "write": ["tasks"]}})

    refusal = check_action(agent.build(), a_policy().build(), built(SANDBOX, REAL.permitting(read=["contacts"])))

    assert refusal is not None
    assert refusal.reason == AgentReason.NARROWING_INVALID
    assert "permissions.write names 'tasks', which MCPBinding real does not give" in refusal.message


@requirement("action.narrowing")
def test_what_a_row_by_label_gives_may_be_named_and_nothing_more() -> None:
    policy = a_policy().giving_nothing().giving_labelled({"team": "support"}, "crm", read=["contacts"])
    named = an_agent().labelled(team="support").using({"source": "crm", "permissions": {"read": ["contacts"]}})
    more = an_agent().labelled(team="support").using({"source": "crm", "permissions": {"write": ["tasks"]}})

    assert check_action(named.build(), policy.build(), built(a_binding())) is None
    refusal = check_action(more.build(), policy.build(), built(a_binding()))
    assert refusal is not None
    assert "permissions.write names 'tasks', which AgentPolicy support does not give" in refusal.message


def test_naming_less_than_what_is_given_passes() -> None:
    agent = an_agent().using({"source": "crm", "permissions": {"read": ["contacts"]}})

    assert check_action(agent.build(), a_policy().build(), built(a_binding())) is None


def test_a_star_in_the_matrix_gives_every_resource_to_read_and_none_to_write() -> None:
    policy = a_policy().giving_nothing().giving("triage", "crm", read=["*"])
    reading = an_agent().using({"source": "crm", "permissions": {"read": ["contacts"]}})
    writing = an_agent().using({"source": "crm", "permissions": {"write": ["tasks"]}})

    assert check_action(reading.build(), policy.build(), built(a_binding())) is None
    assert check_action(writing.build(), policy.build(), built(a_binding())) is not None


def test_coverage_is_asked_before_narrowing() -> None:
    agent = an_agent().using({"source": "crm", "permissions": {"delete": ["everything"]}})

    refusal = check_action(agent.build(), a_policy().build(), ())

    assert refusal is not None
    assert refusal.reason == AgentReason.BINDING_MISSING
