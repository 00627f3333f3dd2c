"""The name of a guard's ServiceAccount: whose guard it is, whatever agents are called."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.deployment.names import agent_account, guard_account
from interlock_contract.names import agent_of_account
from tests.requirements import requirement
from tests.support.builders import a_placement, an_agent

NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(-[0-9a-f]{10})?(-guard|-agent)?", fullmatch=True)


@requirement("records.authenticated")
@settings(max_examples=100, deadline=None)
@given(NAMES)
def test_the_agent_is_read_from_the_account_of_its_guard_alone(name: str) -> None:
    placement = a_placement(an_agent(name))
    assert agent_of_account(guard_account(placement)) == name
    assert agent_of_account(agent_account(placement)) is None


@pytest.mark.parametrize(
    "account",
    [
        "triage-guard",
        "triage-0123456789",
        "triage-012345678-guard",
        "triage-0123456789A-guard",
        "triage-0123456789-guard-x",
        "-0123456789-guard",
        "0123456789-guard",
        "triage-0123456789-guard\n",
        "triage-0123456789-agent",
    ],
)
def test_other_accounts_are_no_guards(account: str) -> None:
    assert agent_of_account(account) is None
