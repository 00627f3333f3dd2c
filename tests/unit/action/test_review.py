from interlock.action.actions_bound import check_action, check_coverage, check_reviewed
from interlock.api.status import AgentReason
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_stage, an_agent

STAGED = an_agent().with_stages(a_stage("staging", "staging"), a_stage("all", "production")).build()
SANDBOX = a_binding("sandbox").serving("crm", "staging")
REAL = a_binding("real").serving("crm", "production")


@requirement("import.review")
def test_a_binding_that_waits_for_review_serves_no_agent_whatever_the_annotation_says() -> None:
    for value in ("guesses", "", "off", "false", "done"):
        refusal = check_action(STAGED, a_policy().build(), (SANDBOX.build(), REAL.waiting_for_review(value).build()))
        assert refusal is not None
        assert refusal.reason == AgentReason.BINDING_NOT_REVIEWED
        assert "MCPBinding real serves source 'crm' in stage 'all'" in refusal.message
        assert refusal.message.endswith(
            "kubectl -n agents annotate mcpbindings.interlock.dev real interlock.dev/needs-review-"
        )


def test_a_binding_that_serves_no_stage_of_the_agent_may_wait() -> None:
    elsewhere = a_binding("other").serving("mail", "staging").waiting_for_review().build()
    assert check_reviewed(STAGED, (SANDBOX.build(), REAL.build(), elsewhere)) is None


@requirement("governance.deleted-grants")
def test_a_binding_that_is_being_deleted_serves_no_agent_and_is_named() -> None:
    deleted = REAL.being_deleted("example.com/keep")
    refusal = check_action(STAGED, a_policy().build(), (SANDBOX.build(), deleted.build()))
    assert refusal is not None
    assert refusal.reason == AgentReason.BINDING_MISSING
    assert "(MCPBinding real is being deleted): apply one" in refusal.message

    another = a_binding("another").serving("crm", "production")
    assert check_coverage(STAGED, (SANDBOX.build(), deleted.build(), another.build())) is None
