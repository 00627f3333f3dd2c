import pytest

from interlock.api.policy import AgentSelector, DataAccessRow
from interlock.api.shared_types import ObjectMeta
from interlock.governance.access_matrix import matrix_cell
from tests.requirements import requirement
from tests.support.builders import a_policy

TRIAGE = ObjectMeta(name="triage", labels={"team": "support", "tier": "1"})
POLICY = a_policy().giving_nothing()


def test_no_row_gives_nothing() -> None:
    assert matrix_cell(POLICY.build(), TRIAGE, "crm") is None


def test_a_row_for_another_agent_or_another_source_gives_nothing() -> None:
    policy = POLICY.giving("other", "crm", read=["contacts"]).giving("triage", "mail", read=["inbox"]).build()

    assert matrix_cell(policy, TRIAGE, "crm") is None


def test_names_are_compared_whole() -> None:
    policy = POLICY.giving("triage-eu", "crm", read=["contacts"]).giving("triage", "crm-eu", read=["contacts"]).build()

    assert matrix_cell(policy, TRIAGE, "crm") is None


def test_a_row_gives_what_it_lists_and_says_where() -> None:
    policy = (
        POLICY.giving("other", "crm", delete=["contacts"])
        .giving("triage", "crm", read=["contacts"], write=["tasks"])
        .build()
    )

    cell = matrix_cell(policy, TRIAGE, "crm")

    assert cell is not None
    assert cell.rule == "agentpolicy/support/dataAccess[1]"
    assert cell.permissions.read == ("contacts",)
    assert cell.permissions.write == ("tasks",)
    assert cell.permissions.delete == ()


def test_several_rows_add_up_without_doubles() -> None:
    policy = (
        POLICY.giving("triage", "crm", read=["contacts", "tasks"])
        .giving("triage", "mail", read=["inbox"])
        .giving("triage", "crm", read=["tasks", "deals"], delete=["drafts"])
        .build()
    )

    cell = matrix_cell(policy, TRIAGE, "crm")

    assert cell is not None
    assert cell.rule == "agentpolicy/support/dataAccess[0,2]"
    assert cell.permissions.read == ("contacts", "tasks", "deals")
    assert cell.permissions.delete == ("drafts",)


@requirement("governance.selector")
def test_a_row_may_speak_of_agents_by_their_labels_and_adds_to_those_that_name_them() -> None:
    policy = (
        POLICY.giving_labelled({"team": "support"}, "crm", read=["contacts"])
        .giving_labelled({"team": "sales"}, "crm", delete=["contacts"])
        .giving("triage", "crm", write=["tasks"])
        .build()
    )

    cell = matrix_cell(policy, TRIAGE, "crm")

    assert cell is not None
    assert cell.rule == "agentpolicy/support/dataAccess[0,2]"
    assert (cell.permissions.read, cell.permissions.write, cell.permissions.delete) == (("contacts",), ("tasks",), ())


@pytest.mark.parametrize(
    "labels",
    [
        {"team": "sales"},
        {"Team": "support"},
        {"team": "Support"},
        {"team": "support", "tier": "2"},
        {"team": "", "x": ""},
    ],
)
@requirement("governance.selector")
def test_all_labels_of_a_row_must_be_there_with_these_very_values(labels: dict[str, str]) -> None:
    assert matrix_cell(POLICY.giving_labelled(labels, "crm", read=["contacts"]).build(), TRIAGE, "crm") is None


@requirement("governance.selector")
def test_a_row_that_selects_by_no_label_or_also_names_agents_speaks_of_none() -> None:
    """The API server refuses both; should they be there all the same, no agent gets anything."""
    both = DataAccessRow(
        agents=("triage",), agent_selector=AgentSelector(match_labels={"team": "support"}), source="crm"
    )
    empty = DataAccessRow(agent_selector=AgentSelector(match_labels={}), source="crm")
    neither = DataAccessRow(source="crm")

    assert not any(row.applies_to(TRIAGE) for row in (both, empty, neither))


def test_the_rows_of_the_largest_policy_fit_into_the_name_of_a_rule() -> None:
    policy = POLICY.named("p" * 253)
    for number in range(256):
        policy = policy.giving("triage" if number % 2 else "other", "crm", read=["contacts"])
    cell = matrix_cell(policy.build(), TRIAGE, "crm")
    assert cell is not None
    assert len(cell.rule) <= 1024

    together = POLICY
    for _ in range(4):
        together = together.giving("triage", "crm", read=["contacts"])
    cell = matrix_cell(together.build(), TRIAGE, "crm")
    assert cell is not None
    assert cell.rule == "agentpolicy/support/dataAccess[0-3]"


@requirement("operator.blast-radius")
def test_rows_add_up_without_the_bound_of_one_row() -> None:
    policy = POLICY
    for row in range(256):
        policy = policy.giving("triage", "crm", read=[f"r-{row}-{index}" for index in range(64)])

    cell = matrix_cell(policy.build(), TRIAGE, "crm")

    assert cell is not None
    assert len(cell.permissions.read) == 256 * 64
