"""What a placement leaves to others, and what its guard writes into arguments that name no value."""

import re
from typing import Any

import pytest
from msgspec import structs

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundlePeer,
    BundlePrompt,
    BundleResource,
    BundleResourceScope,
    BundleSource,
    BundleTasks,
    BundleTool,
    BundleToolScope,
    Grant,
    ScopeLimit,
)
from interlock_guard.decision.decide import (
    Allow,
    Decision,
    DecisionInput,
    Deny,
    decide,
)
from interlock_guard.decision.injection import inject_scope
from interlock_guard.decision.listing import may_list_resource, may_list_tool
from interlock_guard.selftest.selftest import SelfTestKind, run_selftest, synthetic_calls
from interlock_guard.state import LiveState, State
from interlock_guard.tasks.begun import BegunTasks
from tests.support.pins import DEFINITION, pinned

ALIVE = State(agent_uid="u", contact_at=0.0)
EU = ScopeLimit("region", ("eu-west", "eu-north"))
LINE = ScopeLimit("line", ("loans",))
GRANTS = (Grant("Binding", "b", ("*",), (), ()), Grant("Matrix", "m", ("*",), (), ()))
REGION = BundleToolScope("region", "/where/region", inject=True)
TOOLS = (
    BundleTool("get", "read", "contacts", (REGION, BundleToolScope("line", "/line"))),
    BundleTool("free", "read", "contacts", (BundleToolScope("region", unscoped="Allowed"),)),
    BundleTool("silent", "read", "contacts"),
    BundleTool("item", "read", "contacts", (BundleToolScope("region", "/regions/0", inject=True),)),
    BundleTool("text", "read", "contacts", (BundleToolScope("region", "/region", inject=True),)),
)
RESOURCES = (
    BundleResource("crm://eu", "read", "contacts", (BundleResourceScope("region", ("eu-west", "us")),)),
    BundleResource("crm://us", "read", "contacts", (BundleResourceScope("region", ("us",)),)),
    BundleResource("crm://any", "read", "contacts"),
)
PROMPTS = (
    BundlePrompt("sum", "read", "contacts", (BundleToolScope("region", "/region", inject=True),)),
    BundlePrompt("deep", "read", "contacts", (REGION,)),
)


def a_bundle(*excluded: tuple[ScopeLimit, ...], scope: tuple[ScopeLimit, ...] = ()) -> Bundle:
    source = BundleSource("crm", "b", "stdio", TOOLS, GRANTS, RESOURCES, PROMPTS)
    identity = AgentIdentity("a", "agents", "u")
    peers = (BundlePeer("region", "r-2", "http://a-region.agents.svc:7412", (EU,)),)
    return pinned(Bundle(4, identity, "r-1", "all", "production", scope, (source,), excluded=excluded, peers=peers))


def call(tool: str, arguments: dict[str, Any]) -> DecisionInput:
    return DecisionInput("crm", "tools/call", tool, arguments, definition=DEFINITION)


def judge(bundle: Bundle, request: DecisionInput) -> Decision:
    return decide(bundle, ALIVE, request, 0.0)


def reason(bundle: Bundle, tool: str, arguments: dict[str, Any]) -> str:
    decision = judge(bundle, call(tool, arguments))
    return "" if isinstance(decision, Allow) else decision.reason.value


@pytest.mark.parametrize(
    ("region", "limited", "rest"),
    [
        ("eu-west", "", "ServedElsewhere"),
        (["eu-west", "eu-north"], "", "ServedElsewhere"),
        ("us", "OutOfScope", ""),
        (["eu-west", "us"], "OutOfScope", "ServedElsewhere"),
        (["us", "eu-north"], "OutOfScope", "ServedElsewhere"),
        (None, "ScopeMissing", ""),
        ([], "ScopeMissing", ""),
        ("EU-WEST", "OutOfScope", ""),
        (7, "OutOfScope", ""),
        ([["eu-west"]], "OutOfScope", "ServedElsewhere"),
        ({"name": "eu-west"}, "OutOfScope", "ServedElsewhere"),
        (["us"] * 1025, "OutOfScope", "ServedElsewhere"),
    ],
)
def test_a_call_is_served_by_the_placement_that_has_all_its_values_and_by_no_other(
    region: Any, limited: str, rest: str
) -> None:
    arguments = {"where": {"region": region}}

    assert reason(a_bundle(scope=(EU,)), "get", arguments) == limited
    assert reason(a_bundle((EU,)), "get", arguments) == rest


@pytest.mark.parametrize(
    ("given", "rest"),
    [(7, "ServedElsewhere"), (7.0, "ServedElsewhere"), ([8, 7], "ServedElsewhere"), (True, "ServedElsewhere"),
     (8, ""), (7.5, ""), (1e300, ""), (False, ""), ([None], "")],
)  # fmt: skip
def test_a_number_that_a_server_could_take_for_a_value_is_served_by_neither_placement(given: Any, rest: str) -> None:
    tenants = ScopeLimit("region", ("7", "true"))
    arguments = {"where": {"region": given}}

    assert reason(a_bundle(scope=(tenants,)), "get", arguments) == "OutOfScope"
    assert reason(a_bundle((tenants,)), "get", arguments) == rest


@pytest.mark.parametrize("tool", ["free", "silent"])
def test_a_tool_that_has_no_value_in_a_dimension_is_served_by_the_rest(tool: str) -> None:
    assert reason(a_bundle((EU,)), tool, {"where": {"region": "eu-west"}}) == ""


def test_of_a_scope_of_two_dimensions_both_must_be_named() -> None:
    bundle = a_bundle((EU, LINE))

    assert reason(bundle, "get", {"where": {"region": "eu-west"}, "line": "loans"}) == "ServedElsewhere"
    assert reason(bundle, "get", {"where": {"region": "eu-west"}, "line": "cards"}) == ""
    assert reason(bundle, "get", {"where": {"region": "eu-west"}}) == ""
    assert reason(bundle, "get", {"line": "loans"}) == ""


def test_each_excluded_scope_excludes_for_itself() -> None:
    bundle = a_bundle((EU,), (LINE,))

    assert reason(bundle, "get", {"line": "loans"}) == "ServedElsewhere"
    assert reason(bundle, "get", {"where": {"region": "eu-west"}}) == "ServedElsewhere"
    assert reason(bundle, "get", {"where": {"region": "us"}, "line": "cards"}) == ""


def test_a_placement_that_is_being_started_serves_no_call_and_still_lists_its_tools() -> None:
    bundle = a_bundle(())

    assert [reason(bundle, tool.name, {}) for tool in TOOLS] == ["ServedElsewhere"] * len(TOOLS)
    assert all(may_list_tool(bundle, "crm", tool.name) for tool in TOOLS)


def test_resources_and_prompts_are_excluded_by_their_values_and_still_listed() -> None:
    bundle = a_bundle((EU,))
    read = [judge(bundle, DecisionInput("crm", "resources/read", uri=one.uri)) for one in RESOURCES]
    prompt = DecisionInput("crm", "prompts/get", prompt="sum", arguments={"region": "eu-west"}, definition=DEFINITION)
    got = judge(bundle, prompt)

    assert [isinstance(one, Deny) for one in read] == [True, False, False]
    assert isinstance(got, Deny)
    assert got.reason == "ServedElsewhere"
    assert all(may_list_resource(bundle, "crm", one.uri) for one in RESOURCES)


def test_a_denial_names_the_values_who_serves_them_and_the_way_out() -> None:
    denial = judge(a_bundle((EU,)), call("get", {"where": {"region": "eu-west"}}))

    assert isinstance(denial, Deny)
    assert denial.rule == "agent/a/excluded[region=eu-west,eu-north]"
    assert denial.message == (
        "Stage 'region' (revision 'r-2') serves region=eu-west,eu-north, and this call names a value of it, so stage "
        "'all' does not. Leave such values out, or send a task that names them to the agent's Service."
    )
    starting = judge(a_bundle(()), call("free", {}))
    assert isinstance(starting, Deny)
    assert re.search("revision 'r-1' is being started", starting.message)


def test_the_selftest_proves_each_excluded_scope() -> None:
    bundle = a_bundle((EU,), (EU, LINE), ())

    proven = [one.request for one in synthetic_calls(bundle) if one.kind is SelfTestKind.EXCLUDED]
    result = run_selftest(bundle, lambda request: judge(bundle, request))

    assert {"where": {"region": "eu-west"}, "line": "loans"} in [one.arguments for one in proven]
    assert result.flaw == ""
    assert result.calls > len(proven) > 8
    forgetful = structs.replace(bundle, excluded=())
    assert "Excluded call" in run_selftest(bundle, lambda request: judge(forgetful, request)).flaw


def test_a_task_under_way_keeps_the_scopes_that_were_excluded_when_it_began_for_the_drain_time() -> None:
    live, now = LiveState(), 0.0
    begun = BegunTasks(live, lambda: now)
    before, after = (structs.replace(a_bundle(*one), tasks=BundleTasks(80, 1, (), 30)) for one in ((), ((EU,),)))
    live.bundle = before
    begun.follow()
    begun.begin("old")
    now, live.bundle = 100.0, after
    begun.follow()
    begun.begin("new")

    for named, served in (("old", True), ("new", False), ("", True)):
        request = call("get", {"where": {"region": "eu-west"}})
        request.excluded = begun.find_excluded(named)
        assert isinstance(judge(after, request), Allow) == served

    now = 130.1
    assert begun.find_excluded("old") is None
    now = 130.0
    begun.end("old")
    assert begun.find_excluded("") == after.excluded


def test_a_later_change_gives_no_task_back_what_it_has_lost_by_an_earlier_one() -> None:
    live, now = LiveState(), 0.0
    begun = BegunTasks(live, lambda: now)
    bundles = [
        structs.replace(a_bundle(*one), tasks=BundleTasks(80, 1, (), 30)) for one in ((), ((EU,),), ((EU, LINE),))
    ]
    for at, bundle in zip((0.0, 100.0, 200.0), bundles, strict=True):
        now, live.bundle = at, bundle
        begun.follow()
        begun.begin(f"at {at}")

    assert begun.find_excluded("at 0.0") == begun.find_excluded("") == bundles[1].excluded


def inject(tool: str, arguments: dict[str, Any], *values: str, schema: Any = None) -> Any:
    bundle = a_bundle(scope=(ScopeLimit("region", values),) if values else ())
    return inject_scope(bundle, call(tool, arguments), arguments, schema)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"where": {"region": "eu-west"}}),
        ({"where": {"x": 1}, "line": "a"}, {"where": {"x": 1, "region": "eu-west"}, "line": "a"}),
        ({"where": {"region": "us"}}, {"where": {"region": "us"}}),
        ({"where": {"region": None}}, {"where": {"region": None}}),
        ({"where": {"region": []}}, {"where": {"region": []}}),
        ({"where": None}, {"where": None}),
        ({"where": []}, {"where": []}),
        ({"where": "eu"}, {"where": "eu"}),
    ],
)
def test_the_only_value_of_a_scope_is_written_where_none_is(arguments: dict[str, Any], expected: Any) -> None:
    before = repr(arguments)

    assert inject("get", arguments, "eu-west") == expected
    assert repr(arguments) == before


def test_a_scope_of_several_values_or_none_injects_nothing() -> None:
    assert inject("get", {}, "eu-west", "eu-north") == {}
    assert inject("get", {}) == {}
    assert inject("free", {}, "eu-west") == {}


def test_no_place_of_a_list_is_created() -> None:
    assert inject("item", {}, "eu-west") == {}
    assert inject("item", {"regions": []}, "eu-west") == {"regions": []}


STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        (None, 1),
        ({"type": "object", "properties": {"region": STRING}, "additionalProperties": False}, 1),
        ({"type": "object", "properties": {"region": {"enum": ["eu-west", "us"]}}}, 1),
        ({"type": "object", "properties": {}}, 1),
        ({"type": "object", "properties": {}, "additionalProperties": False}, 0),
        ({"type": "object", "properties": {"region": {"type": "integer"}}}, 0),
        ({"type": "object", "properties": {"region": {"type": "array", "items": STRING}}}, 0),
        ({"type": "object", "properties": {"region": {"enum": ["us"]}}}, 0),
    ],
)
def test_what_the_tools_schema_does_not_allow_is_not_written(schema: Any, written: int) -> None:
    assert inject("text", {}, "eu-west", schema=schema) == ({"region": "eu-west"} if written else {})


def test_a_prompt_gets_a_text_and_never_an_object() -> None:
    bundle = a_bundle(scope=(ScopeLimit("region", ("eu-west",)),))

    written = [
        inject_scope(bundle, DecisionInput("crm", "prompts/get", prompt=name, arguments={}), {})
        for name in ("sum", "deep")
    ]

    assert written == [{"region": "eu-west"}, {}]
