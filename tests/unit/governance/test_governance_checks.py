import pytest

from interlock.api.refusals import model_matches
from interlock.api.status import AgentReason
from interlock.governance.governed import check_governance
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, PolicyBuilder, a_policy, an_agent, prices_of


def refused(agent: AgentBuilder, policy: PolicyBuilder | None = None) -> tuple[AgentReason, str]:
    refusal = check_governance(agent.build(), (policy or a_policy()).build())
    assert refusal is not None, "nothing was refused"
    return refusal.reason, refusal.message


def test_an_agent_with_owner_purpose_policy_and_row_is_governed() -> None:
    assert check_governance(an_agent().build(), a_policy().build()) is None


def test_an_agent_without_any_source_needs_no_row() -> None:
    assert check_governance(an_agent().using().build(), a_policy().giving_nothing().build()) is None


@requirement("governance.owner-is-a-person")
@pytest.mark.parametrize(
    ("agent", "reason", "says"),
    [
        (an_agent().without_owner(), AgentReason.OWNER_MISSING, "spec.owner is missing: write the name and e-mail"),
        (an_agent().owned_by("", "ada@example.com"), AgentReason.OWNER_MISSING, "spec.owner.name is missing: write"),
        (
            an_agent().owned_by("  \t", "ada@example.com"),
            AgentReason.OWNER_MISSING,
            "spec.owner.name is missing: write",
        ),
        (an_agent().owned_by("Ada", ""), AgentReason.OWNER_MISSING, "spec.owner.email is missing: write"),
        (an_agent().owned_by("Ada", "ada"), AgentReason.OWNER_NOT_A_PERSON, '"ada" is not an e-mail address: write'),
        (
            an_agent().owned_by("Ada", "ada@localhost"),
            AgentReason.OWNER_NOT_A_PERSON,
            "is not an e-mail address: write",
        ),
        (an_agent().owned_by("Ada", "ada@example.com\n"), AgentReason.OWNER_NOT_A_PERSON, "is not an e-mail address"),
        (
            an_agent().owned_by("Support", "support@example.com"),
            AgentReason.OWNER_NOT_A_PERSON,
            "write that person's own",
        ),
    ],
)
def test_an_agent_without_a_person_is_refused(agent: AgentBuilder, reason: AgentReason, says: str) -> None:
    found, message = refused(agent)

    assert found == reason
    assert says in message


@pytest.mark.parametrize(
    "email",
    [
        "support@example.com",
        "SUPPORT@example.com",
        "support+eu@example.com",
        "support.eu@example.com",
        "no-reply@example.com",
        "noreply@example.com",
        "team@example.com",
        "teams@example.com",
        "my-team@example.com",
        "crm.team.eu@example.com",
        "ops_on@example.com",
        "root@example.com",
        "bot-7@example.com",
        "on-call@example.com",
    ],
)
def test_the_address_of_a_role_is_no_person(email: str) -> None:
    assert refused(an_agent().owned_by("Ada", email))[0] == AgentReason.OWNER_NOT_A_PERSON


@pytest.mark.parametrize(
    "email",
    [
        "ada@example.com",
        "ada.support@example.com",
        "steamer@example.com",
        "supporter@example.com",
        "rootes@example.com",
        "ada@team.example.com",
        "ada+teamwork@example.com",
    ],
)
def test_the_address_of_a_person_passes_though_it_resembles_a_role(email: str) -> None:
    assert check_governance(an_agent().owned_by("Ada", email).build(), a_policy().build()) is None


@requirement("governance.purpose")
@pytest.mark.parametrize("purpose", [None, "", "   ", "\n"])
def test_an_agent_without_a_purpose_is_refused(purpose: str | None) -> None:
    reason, message = refused(an_agent().for_purpose(purpose))

    assert reason == AgentReason.PURPOSE_MISSING
    assert message == "spec.purpose is missing: write in one sentence what this agent is for"


def test_an_agent_that_names_no_policy_is_refused() -> None:
    reason, message = refused(an_agent().without_policy_ref())

    assert reason == AgentReason.POLICY_REF_MISSING
    assert "write the name of the AgentPolicy" in message


@requirement("governance.policy-exists")
def test_an_agent_whose_policy_does_not_exist_is_refused_by_name() -> None:
    refusal = check_governance(an_agent().under("strict").build(), None)

    assert refusal is not None
    assert refusal.reason == AgentReason.POLICY_NOT_FOUND
    assert refusal.message == (
        "spec.policyRef.name 'strict': there is no AgentPolicy of this name in namespace agents: "
        "apply it, or name one that kubectl get agentpolicies.interlock.dev shows"
    )


@requirement("governance.deleted-grants")
def test_a_policy_that_is_being_deleted_governs_no_agent() -> None:
    assert refused(an_agent(), a_policy().being_deleted("example.com/keep")) == (
        AgentReason.BEING_DELETED,
        "AgentPolicy support is being deleted, so it governs no Agent: name another one in spec.policyRef",
    )


@requirement("governance.matrix-row")
def test_every_source_without_a_row_is_named_at_once() -> None:
    reason, message = refused(an_agent().using("crm", "mail", "wiki"))

    assert reason == AgentReason.DATA_ACCESS_MISSING
    assert message == (
        "spec.bindings: AgentPolicy support has no dataAccess row for agent triage and source mail: "
        "add the row, or remove the binding; "
        "spec.bindings: AgentPolicy support has no dataAccess row for agent triage and source wiki: "
        "add the row, or remove the binding"
    )


@pytest.mark.parametrize("name", ["a" * 53, "Triage", "tri.age", "-triage", "triage-", ""])
def test_a_name_that_children_could_not_be_named_after_is_refused(name: str) -> None:
    reason, message = refused(an_agent().named(name))

    assert reason == AgentReason.SPEC_INVALID
    assert "at most 52" in message


def test_a_name_of_52_characters_passes() -> None:
    name = "a" * 52
    policy = a_policy().giving(name, "crm", read=["contacts"])

    assert check_governance(an_agent().named(name).build(), policy.build()) is None


def test_the_checks_run_in_order_and_the_first_refusal_wins() -> None:
    agent = an_agent().without_owner().for_purpose(None).without_policy_ref()

    assert refused(agent)[0] == AgentReason.OWNER_MISSING
    agent = agent.owned_by("Ada", "ada@example.com")
    assert refused(agent)[0] == AgentReason.PURPOSE_MISSING
    agent = agent.for_purpose("Sort tickets")
    assert refused(agent)[0] == AgentReason.POLICY_REF_MISSING


@requirement("models.governed")
@pytest.mark.parametrize(
    ("models", "allow", "says"),
    [
        (["openai/gpt-4o"], [], "AgentPolicy support does not allow openai/gpt-4o: add it to spec.models.allow there"),
        (["openai/gpt-4o"], ["openai/gpt-4o-mini"], "does not allow openai/gpt-4o"),
        (["openai/gpt-4o"], ["anthropic/*"], "does not allow openai/gpt-4o"),
        (["openai/gpt-4o", "openai/o3"], ["openai/gpt*"], "does not allow openai/o3"),
        (["local/llama"], ["local/*"], "local/llama belongs to a provider that AgentPolicy support does not know"),
    ],
)
def test_a_model_that_the_policy_does_not_allow_is_refused(models: list[str], allow: list[str], says: str) -> None:
    reason, message = refused(an_agent().calling(*models), a_policy().allowing_models(*allow))
    assert reason == AgentReason.MODEL_NOT_ALLOWED
    assert says in message


@requirement("models.secrets")
@pytest.mark.parametrize("secrets", [[], ["openai-2", "Openai", "open"]])
def test_a_key_in_a_secret_that_the_policy_does_not_name_is_refused(secrets: list[str]) -> None:
    policy = a_policy().allowing_models("openai/*", secrets=secrets)
    reason, message = refused(an_agent().calling("openai/gpt-4o"), policy)
    assert reason == AgentReason.MODEL_NOT_ALLOWED
    assert message == (
        "spec.models: AgentPolicy support does not let openai/gpt-4o use Secret openai: "
        "add it to spec.models.secretNames there, or name another Secret in apiKeyFrom"
    )


def test_models_that_the_policy_allows_are_governed() -> None:
    local = [{"name": "local", "url": "https://llm.example.com/v1"}]
    policy = a_policy().allowing_models("openai/gpt-4o*", "anthropic/claude-x", "local/*", urls=local)
    agent = an_agent().calling("openai/gpt-4o-mini", "openai/gpt-4o", "anthropic/claude-x", "local/meta/llama")
    built = agent.build()
    assert check_governance(built, policy.build(), prices_of(built)) is None


@requirement("budget.price-missing")
def test_a_model_without_a_price_is_refused_with_the_reason_and_the_field() -> None:
    agent, policy = an_agent().calling("openai/gpt-4o", "openai/gpt-5"), a_policy().allowing_models("openai/*")
    built = agent.build()
    refusal = check_governance(built, policy.build(), prices_of(built, "openai/gpt-5"))
    assert refusal is not None
    assert refusal.reason is AgentReason.PRICE_MISSING
    assert refusal.message == (
        "spec.models: openai/gpt-5 has no price, so no budget could hold (the price book has no model openai/gpt-5); "
        "add it to spec.models.prices of AgentPolicy support, where 0 is a price, or remove the model from the Agent"
    )


@requirement("models.governed")
def test_a_variable_that_the_models_set_cannot_be_set_by_the_template_too() -> None:
    agent = an_agent().calling("openai/gpt-4o").with_template(env=[{"name": "OPENAI_API_KEY", "value": "sk-x"}])
    reason, message = refused(agent, a_policy().allowing_models("openai/*"))
    assert (reason, "ANTHROPIC_API_KEY are set by Interlock" in message) == (
        AgentReason.MODEL_NOT_ALLOWED,
        True,
    )


@pytest.mark.parametrize(
    ("glob", "name", "falls_under"),
    [
        ("openai/*", "openai/a/b", True),
        ("openai/gpt-4*", "openai/gpt-4", True),
        ("openai/gpt-4*", "openai/gpt-3.5", False),
        ("openai/*", "openai-of-another/x", False),
        ("openai/gpt.4", "openai/gpt-4", False),
        ("openai/gpt", "openai/gpt-4", False),
    ],
)
def test_a_glob_of_models_is_no_wider_than_written(glob: str, name: str, *, falls_under: bool) -> None:
    assert model_matches(name, glob) is falls_under


def test_an_agent_with_more_labels_than_its_status_records_is_refused() -> None:
    labels = {f"label-{index}": "x" for index in range(64)}
    assert check_governance(an_agent().labelled(**labels).build(), a_policy().build()) is None
    assert refused(an_agent().labelled(**labels, more="x")) == (
        AgentReason.SPEC_INVALID,
        "metadata.labels: this Agent has 65 labels, at most 64 are allowed, since its status records them: remove some",
    )
