"""The access table: each cell is what the guard of that agent decides, and there is an end to it."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.agent import Agent
from interlock.api.policy import MAX_ROWS, AccessRow
from interlock.deployment.children.config import compile_bundle
from interlock.reconcile import effective_permissions
from interlock.reconcile.effective_permissions import MAX_CELLS, AgentAccess, build_policy_status
from interlock_contract.bundle import Bundle
from interlock_guard.decision.decide import Allow, DecisionInput, decide
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.builders import (
    AgentBuilder,
    BindingBuilder,
    PolicyBuilder,
    a_binding,
    a_placement,
    a_policy,
    a_stage,
    an_agent,
)
from tests.support.pins import DEFINITION


def rows(
    agent: AgentBuilder, policy: PolicyBuilder | None = None, *bindings: BindingBuilder
) -> list[tuple[str, str, str, str, str, str]]:
    """The rows as (environment, operation, resources, decision, reason, rule)."""
    built = tuple(binding.build() for binding in bindings or (a_binding(),))
    found = AgentAccess((policy or a_policy()).build(), built).rows_of(agent.build())
    return [
        (row.environment, row.operation, ",".join(row.resources), row.decision, row.reason, row.rule) for row in found
    ]


ROW, BINDING = "agentpolicy/support/dataAccess[0]", "mcpbinding/crm"


@requirement("access.one-truth")
def test_every_cell_is_there_with_the_rule_that_says_so() -> None:
    assert rows(an_agent()) == [
        ("development", "read", "contacts,opportunities", "Allow", "", ROW),
        ("development", "read", "tasks", "Deny", "NotGrantedByBinding", BINDING),
        ("development", "write", "tasks", "Allow", "", ROW),
        ("development", "write", "contacts,opportunities", "Deny", "NotGrantedByBinding", BINDING),
        ("development", "delete", "contacts,opportunities,tasks", "Deny", "NotGrantedByBinding", BINDING),
    ]


def test_what_the_agent_narrows_is_denied_by_it() -> None:
    narrowed = rows(an_agent().using({"source": "crm", "permissions": {"read": ["contacts"]}}))

    assert ("development", "read", "contacts", "Allow", "", ROW) in narrowed
    rule = "agent/triage/bindings[crm]"
    assert ("development", "read", "opportunities", "Deny", "NotGrantedByAgent", rule) in narrowed
    assert ("development", "write", "tasks", "Deny", "NotGrantedByAgent", rule) in narrowed


def test_each_environment_has_its_own_rows_and_two_stages_of_one_have_them_once() -> None:
    staged = an_agent().with_stages(
        a_stage("staging"), a_stage("one", "production", scope={"region": ["eu"]}), a_stage("all", "production")
    )
    sandbox = a_binding("sandbox").serving("crm", "staging")
    real = a_binding("real").serving("crm", "production").permitting(read=["contacts"])

    found = rows(staged, None, sandbox, real)

    assert ("staging", "write", "tasks", "Allow", "", ROW) in found
    assert (
        "production",
        "write",
        "contacts,opportunities,tasks",
        "Deny",
        "NotGrantedByBinding",
        "mcpbinding/real",
    ) in found
    assert ("production", "read", "contacts", "Allow", "", ROW) in found
    assert len(found) == len(set(found))
    assert [row[0] for row in found] == sorted((row[0] for row in found), reverse=True)


def test_a_source_that_no_binding_serves_is_denied_altogether() -> None:
    assert rows(an_agent(), None, a_binding().serving("mail", "development")) == [
        ("development", operation, "contacts,opportunities,tasks", "Deny", "UnknownSource", "")
        for operation in ("read", "write", "delete")
    ]


def test_a_star_applies_to_all_named_resources_and_is_no_kind_of_data() -> None:
    policy = a_policy().giving_nothing().giving("triage", "crm", read=["*"])

    found = rows(an_agent(), policy)

    assert ("development", "read", "contacts,opportunities", "Allow", "", ROW) in found
    assert not any("*" in row[2] for row in found)


def test_kinds_of_data_of_resources_and_prompts_are_there_too() -> None:
    binding = (
        a_binding()
        .with_resources({"uri": "crm://k/*", "resource": "keys"})
        .with_prompts({"name": "p", "resource": "letters"})
    )

    named = {resource for row in rows(an_agent(), None, binding) for resource in row[2].split(",")}

    assert named == {"contacts", "opportunities", "tasks", "keys", "letters"}


def test_a_row_by_label_says_so() -> None:
    policy = a_policy().giving_nothing().giving("other", "crm").giving_labelled({"team": "a"}, "crm", read=["contacts"])

    found = rows(an_agent().labelled(team="a"), policy)

    assert ("development", "read", "contacts", "Allow", "", "agentpolicy/support/dataAccess[1]") in found


def test_an_agent_without_sources_has_no_rows() -> None:
    assert rows(an_agent().using()) == []


RESOURCES = ("contacts", "tasks")
CELLS = list(itertools.product(("read", "write", "delete"), RESOURCES))
GRANTS = st.lists(st.sampled_from(CELLS), unique=True)


def given_by(cells: list[tuple[str, str]]) -> dict[str, list[str]]:
    return {
        name: [resource for operation, resource in cells if operation == name] for name in ("read", "write", "delete")
    }


@settings(max_examples=100)
@given(binding=GRANTS, matrix=GRANTS, agent=st.none() | GRANTS, by_label=st.booleans())
@requirement("access.one-truth")
def test_the_table_is_what_the_guard_decides_on_calls(
    binding: list[tuple[str, str]],
    matrix: list[tuple[str, str]],
    agent: list[tuple[str, str]] | None,
    *,
    by_label: bool,
) -> None:
    """The same objects, once as the operator reports them and once as a guard obeys them, call by call."""
    tools = [{"name": "-".join(cell), "operation": cell[0], "resource": cell[1]} for cell in CELLS]
    bound = a_binding().with_tools(*tools).permitting(**given_by(binding))
    empty = a_policy().giving_nothing()
    policy = (
        empty.giving_labelled({"team": "a"}, "crm", **given_by(matrix))
        if by_label
        else empty.giving("triage", "crm", **given_by(matrix))
    )
    use = {"source": "crm", **({} if agent is None else {"permissions": given_by(agent)})}
    user = an_agent().labelled(team="a").using(use)
    table = {
        (row.operation, resource): row
        for row in AgentAccess(policy.build(), (bound.build(),)).rows_of(user.build())
        for resource in row.resources
    }
    bundle = compile_bundle(a_placement(user, policy=policy, bindings=(bound,)))
    state = State(agent_uid=bundle.agent.uid, contact_at=0.0)
    assert set(table) == set(CELLS)
    for operation, resource in CELLS:
        request = DecisionInput("crm", "tools/call", f"{operation}-{resource}", {}, definition=DEFINITION)
        decision = decide(bundle, state, request, 0)
        row = table[operation, resource]
        said = ("Allow", "") if isinstance(decision, Allow) else ("Deny", decision.reason.value)
        assert (row.decision, row.reason, row.rule) == (*said, decision.rule)


def many(count: int) -> Iterator[Agent | None]:
    for number in range(count):
        yield an_agent(f"agent-{number:04}").build()


@requirement("access.bounded")
def test_whole_agents_are_shown_as_far_as_there_is_room_and_the_others_are_counted() -> None:
    policy = a_policy().giving_nothing()
    access = AgentAccess(policy.build(), (a_binding().build(),))
    agents = many(1000)

    status = build_policy_status(access, agents, 1000)

    shown = {row.agent for row in status.access}
    each = len(access.rows_of(an_agent("agent-0000").build()))
    assert len(status.access) <= MAX_ROWS < len(status.access) + each
    assert shown == {f"agent-{number:04}" for number in range(len(shown))}
    assert status.agents_omitted == 1000 - len(shown)
    assert sum(1 for _ in agents) >= 1000 - len(shown) - 1, "no more agents are read than there is room for"


@requirement("access.bounded")
def test_an_agent_with_more_data_than_there_is_room_for_is_left_out_whole() -> None:
    resources = [f"r{number}" for number in range(MAX_CELLS // 3 + 1)]
    tools = [{"name": name, "operation": "read", "resource": name} for name in resources]
    bindings = tuple(
        a_binding(f"b{start}").serving(f"s{start}", "development").with_tools(*tools[start : start + 256]).build()
        for start in range(0, len(tools), 256)
    )
    agent = an_agent().using(*(binding.spec.source for binding in bindings)).build()

    status = build_policy_status(AgentAccess(a_policy().build(), bindings), iter([agent]), 1)

    assert (status.access, status.agents_omitted) == ((), 1)


@requirement("access.bounded")
def test_a_table_costs_one_decision_for_each_of_its_cells_and_none_beyond_the_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probed: list[int] = []

    def count(bundle: Bundle, *rest: Any) -> Any:
        probed.append(sum(len(source.tools) + len(source.pins) for source in bundle.sources))
        return decide(bundle, *rest)

    monkeypatch.setattr(effective_permissions, "decide", count)
    tools = [{"name": f"t{number}", "operation": "read", "resource": f"r{number}"} for number in range(256)]
    access = AgentAccess(a_policy().giving_nothing().build(), (a_binding().with_tools(*tools).permitting().build(),))

    build_policy_status(access, iter([an_agent("a").build(), an_agent("b").build()]), 2)
    assert len(probed) == 2 * 3 * 256
    assert set(probed) == {2}, "the bundle of a decision has one tool with its pin, not one for each cell"

    probed.clear()
    built = build_policy_status(access, many(1000), 1000)
    assert len(probed) == MAX_CELLS // (3 * 256) * 3 * 256
    assert built.agents_omitted == 998


@requirement("access.bounded")
def test_a_row_names_at_most_64_kinds_of_data() -> None:
    tools = [{"name": f"t{number:03}", "operation": "read", "resource": f"r{number:03}"} for number in range(150)]
    found = AgentAccess(
        a_policy().giving_nothing().build(), (a_binding().with_tools(*tools).permitting().build(),)
    ).rows_of(an_agent().build())
    assert [len(row.resources) for row in found] == [64, 64, 22] * 3
    assert [AccessRow.model_validate(row.to_kubernetes()) for row in found] == list(found)


def test_agents_that_cannot_be_read_have_no_rows_and_stop_nothing() -> None:
    access = AgentAccess(a_policy().build(), (a_binding().build(),))

    status = build_policy_status(access, iter([None, an_agent().build()]), 2)

    assert {row.agent for row in status.access} == {"triage"}
    assert status.agents_omitted == 0


@pytest.mark.parametrize("generation", [1, 7])
def test_the_status_says_of_which_generation_it_speaks(generation: int) -> None:
    raw = a_policy().to_kubernetes()
    raw["metadata"]["generation"] = generation
    status = build_policy_status(AgentAccess(PolicyBuilder(raw).build(), ()), iter(()), 0)
    assert status.observed_generation == generation
