import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.ledger_names import ledger_name, total_ledger_name

LABEL = r"[a-z0-9]([-a-z0-9]{0,%d}[a-z0-9])?"
AGENTS = st.from_regex(LABEL % 50, fullmatch=True)
ENVIRONMENTS = st.from_regex(LABEL % 61, fullmatch=True).filter(lambda name: name != "total")
POLICIES = st.one_of(
    st.from_regex(r"[a-z]([-a-z.]{0,20}[a-z])?", fullmatch=True),
    st.integers(246, 253).map("p".ljust),
    st.integers(246, 253).map(lambda length: "p" * length),
).map(lambda name: name.replace(" ", "x").replace("..", "x"))
OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def test_names_say_what_a_ledger_is_for() -> None:
    assert ledger_name("triage", "staging") == "triage.staging"
    assert total_ledger_name("support") == "support.total"


@given(AGENTS, ENVIRONMENTS, AGENTS, ENVIRONMENTS)
def test_no_two_agents_or_environments_share_a_ledger(agent: str, environment: str, other: str, third: str) -> None:
    same = (agent, environment) == (other, third)
    assert (ledger_name(agent, environment) == ledger_name(other, third)) == same


@given(AGENTS, ENVIRONMENTS, POLICIES)
def test_no_agent_shares_a_ledger_with_a_total(agent: str, environment: str, policy: str) -> None:
    name = total_ledger_name(policy)
    assert name != ledger_name(agent, environment)
    assert OBJECT_NAME.fullmatch(name)
    assert OBJECT_NAME.fullmatch(ledger_name(agent, environment))


def test_a_policy_cannot_be_named_so_that_its_total_is_that_of_another_one_with_a_long_name() -> None:
    hashed = total_ledger_name("p" * 253)
    assert not hashed.endswith(".total")
    assert total_ledger_name("q" + "p" * 252) != hashed


@pytest.mark.parametrize(("agent", "environment"), [("a", "total"), ("a.b", "staging"), ("a", "b.c")])
def test_a_name_that_could_be_of_another_ledger_is_refused(agent: str, environment: str) -> None:
    with pytest.raises(ValueError, match="no ledger"):
        ledger_name(agent, environment)
