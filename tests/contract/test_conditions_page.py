"""docs/reference/conditions.md names every reason that a condition or an Event can have, and no other."""

import re
from pathlib import Path

from interlock.api.policy import PolicyCondition, PolicyReason
from interlock.api.status import AgentReason, ConditionType
from interlock.api.verification import BindingCondition, BindingReason
from interlock.reconcile.agent_events import EventReason

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "conditions.md").read_text(encoding="utf-8")
AGENT, _, BINDING = PAGE.partition("\n## MCPBinding\n")
KNOWN = {
    str(one)
    for kind in (
        AgentReason,
        BindingReason,
        PolicyReason,
        EventReason,
        ConditionType,
        BindingCondition,
        PolicyCondition,
    )
    for one in kind
}


def words_of(text: str) -> set[str]:
    return set(re.findall(r"`([A-Z][A-Za-z]+)`", text))


def test_every_reason_of_an_agent_is_on_the_page() -> None:
    assert {str(one) for kind in (AgentReason, EventReason, ConditionType) for one in kind} - words_of(AGENT) == set()


def test_every_reason_of_a_binding_is_on_the_page() -> None:
    assert {str(one) for one in BindingReason} - words_of(BINDING) == set()


def test_every_reason_of_a_policy_is_on_the_page() -> None:
    assert {str(one) for one in PolicyReason} - words_of(BINDING.partition("\n## AgentPolicy\n")[2]) == set()


def test_the_page_names_no_reason_that_does_not_exist() -> None:
    in_tables = {word for line in PAGE.splitlines() if line.startswith("| `") for word in words_of(line.split("|")[1])}
    assert in_tables - KNOWN == set()
