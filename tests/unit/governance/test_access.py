from interlock.governance.access import matrix_cell
from tests.support.builders import a_policy

POLICY = a_policy().giving_nothing()


def test_no_row_gives_nothing() -> None:
    assert matrix_cell(POLICY.build(), "triage", "crm") is None


def test_a_row_for_another_agent_or_another_source_gives_nothing() -> None:
    policy = POLICY.giving("other", "crm", read=["contacts"]).giving("triage", "mail", read=["inbox"]).build()

    assert matrix_cell(policy, "triage", "crm") is None


def test_names_are_compared_whole() -> None:
    policy = POLICY.giving("triage-eu", "crm", read=["contacts"]).giving("triage", "crm-eu", read=["contacts"]).build()

    assert matrix_cell(policy, "triage", "crm") is None


def test_a_row_gives_what_it_lists_and_says_where() -> None:
    policy = (
        POLICY.giving("other", "crm", delete=["contacts"])
        .giving("triage", "crm", read=["contacts"], write=["tasks"])
        .build()
    )

    cell = matrix_cell(policy, "triage", "crm")

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

    cell = matrix_cell(policy, "triage", "crm")

    assert cell is not None
    assert cell.rule == "agentpolicy/support/dataAccess[0,2]"
    assert cell.permissions.read == ("contacts", "tasks", "deals")
    assert cell.permissions.delete == ("drafts",)
