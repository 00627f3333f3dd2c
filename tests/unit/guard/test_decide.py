import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleSource,
    BundleTool,
    BundleToolScope,
    Grant,
    Operation,
    ScopeLimit,
)
from interlock_contract.kill import KillLatch
from interlock_guard.decision.decide import (
    Allow,
    DecisionInput,
    Deny,
    DenyReason,
    check_terminated,
    decide,
)
from interlock_guard.decision.listing import may_list_tool
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.pins import DEFINITION, pinned

NOW = 1000.0
ALIVE = State(agent_uid="u-1", contact_at=NOW - 1)
BINDING = Grant("Binding", "mcpbinding/crm", ("*",), ("tasks", "notes"), ("tasks",))
MATRIX = Grant("Matrix", "agentpolicy/s/dataAccess[0]", ("contacts", "tasks"), ("tasks",), ("tasks",))
AGENT = Grant("Agent", "agent/a/bindings[crm]", ("contacts",), ("tasks",), ())
TOOLS = (
    BundleTool("get_contact", "read", "contacts", (BundleToolScope("region", "/region"),)),
    BundleTool("get_deal", "read", "deals", ()),
    BundleTool("get_task", "read", "tasks", ()),
    BundleTool("add_task", "write", "tasks", (BundleToolScope("region", unscoped="Allowed"),)),
    BundleTool("add_note", "write", "notes", ()),
    BundleTool("drop_task", "delete", "tasks", ()),
    BundleTool("drop_contact", "delete", "contacts", ()),
)


def a_bundle(*grants: Grant, tools: tuple[BundleTool, ...] = TOOLS, scope: tuple[ScopeLimit, ...] = ()) -> Bundle:
    source = BundleSource("crm", "crm", "stdio", tools, grants or (BINDING, MATRIX, AGENT))
    return pinned(Bundle(4, AgentIdentity("a", "agents", "u-1"), "r", "staging", "staging", scope, (source,)))


def call(tool: str, arguments: dict[str, Any] | None = None) -> DecisionInput:
    return DecisionInput("crm", "tools/call", tool, arguments or {}, definition=DEFINITION)


def reason(bundle: Bundle | None, state: State, request: DecisionInput, now: float = NOW) -> str | None:
    decision = decide(bundle, state, request, now)
    return decision.reason.value if isinstance(decision, Deny) else None


def shown(bundle: Bundle) -> set[str]:
    return {tool.name for tool in TOOLS if may_list_tool(bundle, "crm", tool.name)}


@requirement("guard.decides")
def test_a_mapped_call_that_every_layer_grants_is_allowed_by_the_matrix_row() -> None:
    assert decide(a_bundle(), ALIVE, call("get_contact"), NOW) == Allow("agentpolicy/s/dataAccess[0]", TOOLS[0])


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("get_deal", ("NotGrantedByMatrix", MATRIX.rule)),
        ("get_task", ("NotGrantedByAgent", AGENT.rule)),
        ("add_note", ("NotGrantedByMatrix", MATRIX.rule)),
        ("drop_task", ("NotGrantedByAgent", AGENT.rule)),
        ("drop_contact", ("NotGrantedByBinding", BINDING.rule)),
        ("nothing", ("ToolNotMapped", "mcpbinding/crm")),
        ("GET_CONTACT", ("ToolNotMapped", "mcpbinding/crm")),
        ("get_contact ", ("ToolNotMapped", "mcpbinding/crm")),
    ],
)
@requirement("guard.decides", "action.deny-by-default")
def test_the_first_layer_that_does_not_grant_names_itself(tool: str, expected: tuple[str, str]) -> None:
    decision = decide(a_bundle(), ALIVE, call(tool), NOW)
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.rule) == expected


def test_the_denial_of_an_unmapped_tool_does_not_disclose_its_name() -> None:
    one, other = (decide(a_bundle(), ALIVE, call(name), NOW) for name in ("exists", "does-not"))
    assert one == other


@pytest.mark.parametrize(
    ("bundle", "state", "expected"),
    [
        (None, ALIVE, "NoBundle"),
        (a_bundle(), State(), "StaleState"),
        (a_bundle(), replace(ALIVE, contact_at=None), "StaleState"),
        (a_bundle(), replace(ALIVE, agent_uid=None), "StaleState"),
        (a_bundle(), replace(ALIVE, contact_at=NOW - 30.01), "StaleState"),
        (a_bundle(), replace(ALIVE, contact_at=NOW - 30), None),
        (a_bundle(), replace(ALIVE, agent_uid="u-2"), "AgentMismatch"),
        (a_bundle(), replace(ALIVE, agent_uid=None, agent_gone=True), "AgentMismatch"),
        (a_bundle(), replace(ALIVE, kill=KillLatch("leak")), "Killed"),
        (None, State(kill=KillLatch("")), "Killed"),
        (a_bundle(), replace(ALIVE, agent_uid="u-2", contact_at=None, kill=KillLatch("leak")), "Killed"),
    ],
)
@requirement("guard.stale", "guard.killed")
def test_a_guard_without_fresh_state_of_its_living_agent_is_closed(
    bundle: Bundle | None, state: State, expected: str | None
) -> None:
    for request in (call("get_contact"), DecisionInput("crm", "tools/list")):
        assert reason(bundle, state, request) == expected


def test_a_kill_says_the_switchs_value() -> None:
    decision = decide(a_bundle(), replace(ALIVE, kill=KillLatch("data leak")), call("get_contact"), NOW)
    assert isinstance(decision, Deny)
    assert decision.message == "data leak"


def test_stale_state_does_not_cut_what_is_under_way() -> None:
    assert check_terminated(a_bundle(), replace(ALIVE, contact_at=None)) is None


def test_an_unknown_source_and_another_method_are_refused() -> None:
    assert reason(a_bundle(), ALIVE, DecisionInput("mail", "tools/call", "get_contact", {})) == "UnknownSource"
    assert reason(a_bundle(), ALIVE, DecisionInput("crm", "server/discover")) == "MethodNotAllowed"
    assert reason(a_bundle(), ALIVE, DecisionInput("crm", "tools/list")) is None


REGION = (ScopeLimit("region", ("eu-west", "eu-north")),)


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("get_contact", {"region": "eu-west"}, None),
        ("get_contact", {"region": ["eu-west", "eu-north"]}, None),
        ("get_contact", {"region": "us-east"}, "OutOfScope"),
        ("get_contact", {"region": ["eu-west", "us-east"]}, "OutOfScope"),
        ("get_contact", {"region": "EU-WEST"}, "OutOfScope"),
        ("get_contact", {"region": [["eu-west"]]}, "OutOfScope"),
        ("get_contact", {"region": {"eu-west": 1}}, "OutOfScope"),
        ("get_contact", {"region": True}, "OutOfScope"),
        ("get_contact", {"region": []}, "ScopeMissing"),
        ("get_contact", {"region": None}, "ScopeMissing"),
        ("get_contact", {"Region": "eu-west"}, "ScopeMissing"),
        ("get_contact", {}, "ScopeMissing"),
        ("add_task", {}, None),
        ("drop_task", {}, "ScopeUndeclared"),
    ],
)
@requirement("guard.scope")
@requirement("guard.scope")
def test_in_a_limited_stage_the_arguments_must_say_a_value_inside(
    tool: str, arguments: dict[str, Any], expected: str | None
) -> None:
    assert reason(a_bundle(BINDING, MATRIX, scope=REGION), ALIVE, call(tool, arguments)) == expected
    assert reason(a_bundle(BINDING, MATRIX), ALIVE, call(tool, arguments)) is None


def test_every_limited_dimension_must_be_kept() -> None:
    scope = (*REGION, ScopeLimit("line", ("billing",)))
    tool = BundleTool(
        "get_contact",
        "read",
        "contacts",
        (BundleToolScope("region", "/region"), BundleToolScope("line", "/line")),
    )
    bundle = a_bundle(BINDING, MATRIX, tools=(tool,), scope=scope)
    assert reason(bundle, ALIVE, call("get_contact", {"region": "eu-west", "line": "billing"})) is None
    assert reason(bundle, ALIVE, call("get_contact", {"region": "eu-west"})) == "ScopeMissing"
    assert reason(bundle, ALIVE, call("get_contact", {"region": "eu-west", "line": "sales"})) == "OutOfScope"


def test_the_list_shows_what_some_call_could_be_allowed_for() -> None:
    bundle = a_bundle()
    assert shown(bundle) == {"get_contact", "add_task"}
    limited = a_bundle(BINDING, MATRIX, scope=REGION)
    assert shown(limited) == {"get_contact", "add_task"}


def test_a_source_without_grants_grants_nothing() -> None:
    bundle = a_bundle()
    bare = structs.replace(bundle, sources=(structs.replace(bundle.sources[0], grants=()),))
    assert reason(bare, ALIVE, call("get_contact")) == "NotGrantedByMatrix"
    assert shown(bare) == set()


OPERATIONS: tuple[Operation, ...] = ("read", "write", "delete")
RESOURCES = ("contacts", "tasks")
CELLS = list(itertools.product(OPERATIONS, RESOURCES))
ANY_GRANT = st.lists(st.sampled_from([*CELLS, ("read", "*")]), unique=True)


def a_grant(layer: Any, cells: list[tuple[str, str]]) -> Grant:
    by_operation = {name: tuple(resource for operation, resource in cells if operation == name) for name in OPERATIONS}
    return Grant(layer, layer, **by_operation)


@given(binding=ANY_GRANT, matrix=ANY_GRANT, agent=ANY_GRANT)
@requirement("guard.decides")
@requirement("guard.decides")
def test_every_cell_of_a_matrix_is_allowed_only_if_every_layer_names_it(
    binding: list[tuple[str, str]], matrix: list[tuple[str, str]], agent: list[tuple[str, str]]
) -> None:
    layers = (("Binding", binding), ("Matrix", matrix), ("Agent", agent))
    tools = tuple(BundleTool(f"{operation}-{resource}", operation, resource, ()) for operation, resource in CELLS)
    bundle = a_bundle(*(a_grant(layer, cells) for layer, cells in layers), tools=tools)
    for tool in tools:
        cell = (tool.operation, tool.resource)
        refusing = [
            layer for layer, cells in layers if cell not in cells and not (cell[0] == "read" and ("read", "*") in cells)
        ]
        expected = f"NotGrantedBy{refusing[0]}" if refusing else None
        assert reason(bundle, ALIVE, call(tool.name)) == expected
        assert may_list_tool(bundle, "crm", tool.name) == (not refusing)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("eu-west"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["region", "a"]), inner, max_size=2),
    max_leaves=8,
)


@given(arguments=st.dictionaries(st.sampled_from(["region", "a"]), JSON))
@requirement("guard.scope")
def test_no_arguments_raise_and_none_pass_but_those_inside(arguments: dict[str, Any]) -> None:
    found = arguments.get("region")
    values = found if isinstance(found, list) else [found]
    inside = bool(values) and all(type(value) is str and value in {"eu-west", "eu-north"} for value in values)
    bundle = a_bundle(BINDING, MATRIX, scope=REGION)
    assert (reason(bundle, ALIVE, call("get_contact", arguments)) is None) == inside


@pytest.mark.parametrize(
    ("definition", "expected"),
    [(DEFINITION, None), ("1" * 64, "ToolDrifted"), ("", "ToolDrifted"), (None, "ToolNotVerified")],
)
@requirement("drift.quarantined")
def test_a_tool_is_called_only_as_it_was_verified(definition: str | None, expected: str | None) -> None:
    asked = replace(call("get_contact"), definition=definition)
    assert reason(a_bundle(), ALIVE, asked) == expected
    never = structs.replace(
        a_bundle(), sources=tuple(structs.replace(source, pins=()) for source in a_bundle().sources)
    )
    assert reason(never, ALIVE, asked) == "ToolNotVerified"
    assert reason(a_bundle(), ALIVE, replace(call("add_task"), definition=DEFINITION)) is None, "the others go on"


def test_what_is_denied_anyway_says_nothing_of_a_drift() -> None:
    assert reason(a_bundle(), ALIVE, replace(call("get_deal"), definition="1" * 64)) == "NotGrantedByMatrix"


def test_every_reason_is_documented() -> None:
    assert {member.value for member in DenyReason} >= {"Killed", "OutOfScope", "ServerUnavailable"}
