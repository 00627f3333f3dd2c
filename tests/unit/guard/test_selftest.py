"""The self-test of a bundle: its synthetic calls, and that no weakness of the decision passes it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from interlock_contract.bundle import (
    AgentIdentity,
    Bundle,
    BundleArgumentRule,
    BundlePrompt,
    BundleResource,
    BundleResourceScope,
    BundleSource,
    BundleTool,
    BundleToolScope,
    Grant,
    Pin,
    ScopeLimit,
)
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, decide
from interlock_guard.selftest.selftest import UNMAPPED_NAME, SelfTestKind, run_selftest, synthetic_calls
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.pins import DEFINITION

ALIVE = State(agent_uid="u", contact_at=0.0)
BINDING = Grant("Binding", "b", ("contacts", "tasks"), ("tasks", "contacts"), ())
MATRIX = Grant("Matrix", "m", ("contacts",), ("tasks",), ())
AGENT = Grant("Agent", "a", ("contacts",), (), ())
TOOLS = (
    BundleTool("get", "read", "contacts"),
    BundleTool("put", "write", "contacts"),
    BundleTool("add_*", "write", "tasks"),
    BundleTool("drop", "delete", "contacts"),
)


def a_source(name: str = "crm", **parts: Any) -> BundleSource:
    return structs.replace(BundleSource(name, "b", "stdio", TOOLS, (BINDING, MATRIX, AGENT)), **parts)


def a_bundle(*sources: BundleSource, scope: tuple[ScopeLimit, ...] = ()) -> Bundle:
    return Bundle(4, AgentIdentity("a", "n", "u"), "r", "s", "staging", scope, sources)


def honest(bundle: Bundle) -> Any:
    return lambda request: decide(bundle, ALIVE, request, 0.0)


def kinds(bundle: Bundle) -> set[SelfTestKind]:
    return {call.kind for call in synthetic_calls(bundle)}


@requirement("guard.selftest")
def test_a_denied_an_unmapped_and_a_call_out_of_the_matrix_are_always_among_them() -> None:
    bundle = a_bundle(a_source())
    assert kinds(bundle) == {
        SelfTestKind.DENIED,
        SelfTestKind.UNMAPPED,
        SelfTestKind.OUT_OF_MATRIX,
        SelfTestKind.DRIFTED,
    }
    report = run_selftest(bundle, honest(bundle))
    assert (report.flaw, report.calls) == ("", len(list(synthetic_calls(bundle))))


def test_an_agent_without_sources_still_has_a_self_test() -> None:
    bundle = a_bundle()
    assert kinds(bundle) == {SelfTestKind.OUT_OF_MATRIX}
    assert run_selftest(bundle, honest(bundle)).flaw == ""


def test_even_where_all_that_is_mapped_is_granted_a_delete_is_denied() -> None:
    """A server may call its tool destructive; the delete that it then is was granted to no agent."""
    bundle = a_bundle(a_source(tools=(BundleTool("get", "read", "contacts"),)))
    assert SelfTestKind.DENIED in kinds(bundle)
    assert run_selftest(bundle, honest(bundle)).flaw == ""


def test_a_limited_stage_is_put_to_the_test_too() -> None:
    scoped = BundleTool("get", "read", "contacts", (BundleToolScope("region", "/region"),))
    free = BundleTool("list", "read", "contacts", (BundleToolScope("region", unscoped="Allowed"),))
    limit = ScopeLimit("region", ("eu-west",))
    bundle = a_bundle(a_source(tools=(scoped, free)), scope=(limit,))
    asked = [call.request.tool for call in synthetic_calls(bundle) if call.kind is SelfTestKind.OUT_OF_SCOPE]
    assert asked == ["get"]
    assert run_selftest(bundle, honest(bundle)).flaw == ""

    unlimited = structs.replace(bundle, scope=())
    flaw = run_selftest(bundle, honest(unlimited)).flaw
    wanted = "OutOfScope or ScopeMissing or ScopeUndeclared"
    assert flaw == f"OutOfScope call tools/call 'get' of 'crm': ToolNotVerified instead of {wanted}"


def test_a_source_of_the_strangers_name_is_no_way_round() -> None:
    bundle = a_bundle(a_source(UNMAPPED_NAME))
    assert run_selftest(bundle, honest(bundle)).flaw == ""


def test_a_glob_that_takes_in_every_name_leaves_other_calls_to_make() -> None:
    bundle = a_bundle(
        a_source(tools=(BundleTool("*", "read", "contacts"),), prompts=(BundlePrompt("*", "read", "contacts"),))
    )
    assert kinds(bundle) == {SelfTestKind.DENIED, SelfTestKind.UNMAPPED, SelfTestKind.OUT_OF_MATRIX}
    assert run_selftest(bundle, honest(bundle)).flaw == ""


@requirement("guard.selftest", "drift.quarantined")
def test_a_guard_that_lets_a_changed_tool_or_one_that_was_never_verified_pass_is_found_out() -> None:
    bundle = a_bundle(a_source(pins=(Pin("get", DEFINITION), Pin("add_task", DEFINITION))))
    asked = [call.request.tool for call in synthetic_calls(bundle) if call.kind is SelfTestKind.DRIFTED]
    assert asked == ["get"], "the others are denied for what they are"
    assert run_selftest(bundle, honest(bundle)).flaw == ""

    def blind(request: DecisionInput) -> Decision:
        known = replace(request, definition=DEFINITION) if request.definition else request
        return decide(bundle, ALIVE, known, 0.0)

    assert (
        run_selftest(bundle, blind).flaw
        == "Drifted call tools/call 'get' of 'crm': Allow instead of ToolDrifted or ToolNotVerified"
    )
    assert SelfTestKind.DRIFTED in kinds(a_bundle(a_source())), "and of what has no pin at all"


@requirement("guard.selftest", "drift.prompts")
def test_a_guard_that_lets_a_changed_prompt_pass_is_found_out() -> None:
    prompts = (BundlePrompt("summary", "read", "contacts"), BundlePrompt("letter_*", "read", "contacts"))
    pins = (Pin("summary", DEFINITION), Pin("letter_a", DEFINITION))
    bundle = a_bundle(a_source(tools=(), prompts=prompts, prompt_pins=pins))
    asked = [call.request.prompt for call in synthetic_calls(bundle) if call.kind is SelfTestKind.DRIFTED]
    assert asked == ["letter_a", "summary"]
    assert run_selftest(bundle, honest(bundle)).flaw == ""
    blind = run_selftest(bundle, lambda request: decide(bundle, ALIVE, replace(request, definition=DEFINITION), 0.0))
    wanted = "PromptDrifted or PromptNotVerified"
    assert blind.flaw == f"Drifted call prompts/get 'letter_a' of 'crm': Allow instead of {wanted}"


@requirement("guard.selftest")
@pytest.mark.parametrize("layer", ["Binding", "Matrix", "Agent"])
def test_a_guard_that_leaves_out_a_layer_is_found_out(layer: str) -> None:
    """Each layer alone denies something in this bundle: without it the self-test fails."""
    only = {"Binding": BINDING, "Matrix": MATRIX, "Agent": AGENT}
    everything = Grant("Binding", "x", ("contacts", "tasks"), ("contacts", "tasks"), ("contacts", "tasks"))
    grants = tuple(
        only[name] if name == layer else structs.replace(everything, layer=name)  # type: ignore[arg-type]
        for name in ("Binding", "Matrix", "Agent")
    )
    bundle = a_bundle(a_source(grants=grants))
    weak = a_bundle(a_source(grants=tuple(structs.replace(everything, layer=grant.layer) for grant in grants)))
    assert run_selftest(bundle, honest(bundle)).flaw == ""
    assert run_selftest(bundle, honest(weak)).flaw.startswith("Denied call tools/call")


@requirement("guard.selftest")
@pytest.mark.parametrize("kind", [SelfTestKind.UNMAPPED, SelfTestKind.DENIED, SelfTestKind.OUT_OF_MATRIX])
def test_a_guard_that_lets_calls_of_one_kind_pass_is_found_out(kind: SelfTestKind) -> None:
    bundle = a_bundle(a_source())
    weak = [call.request for call in synthetic_calls(bundle) if call.kind is kind]

    def judge(request: DecisionInput) -> Decision:
        return Allow("weak") if request in weak else decide(bundle, ALIVE, request, 0.0)

    assert run_selftest(bundle, judge).flaw.startswith(f"{kind} call")


def test_a_refusal_for_another_reason_fails_the_self_test() -> None:
    """A guard that is closed refuses everything, and has shown nothing of its policy."""
    bundle = a_bundle(a_source())
    closed = replace(ALIVE, contact_at=None)
    flaw = run_selftest(bundle, lambda request: decide(bundle, closed, request, 0.0)).flaw
    assert (
        flaw
        == f"OutOfMatrix call tools/call {UNMAPPED_NAME!r} of {UNMAPPED_NAME!r}: StaleState instead of UnknownSource"
    )


RESOURCES = st.sampled_from(["contacts", "tasks"])
OPERATIONS = st.sampled_from(["read", "write", "delete"])
NAMES = st.sampled_from(["get", "put", "get_*", "*", "a?c", UNMAPPED_NAME])
SCOPES = st.sampled_from([(), (BundleToolScope("region", "/r"),), (BundleToolScope("region", unscoped="Allowed"),)])
RULES = st.sampled_from([(), (BundleArgumentRule("/v", prefix="a"),)])
GRANTED = st.lists(RESOURCES, unique=True).map(tuple)
TOOL = st.builds(BundleTool, NAMES, OPERATIONS, RESOURCES, SCOPES, RULES)
PROMPT = st.builds(BundlePrompt, NAMES, OPERATIONS, RESOURCES, SCOPES, RULES)
RESOURCE = st.builds(
    BundleResource,
    st.sampled_from(["crm://contacts/1", "crm://contacts/*", "interlock-selftest://nothing/*"]),
    OPERATIONS,
    RESOURCES,
    st.sampled_from([(), (BundleResourceScope("region", ("eu",)),)]),
)


def grants(layer: str) -> Any:
    return st.builds(Grant, st.just(layer), st.just(layer), GRANTED, GRANTED, GRANTED)


SOURCES = st.builds(
    BundleSource,
    st.just("crm"),
    st.just("b"),
    st.just("stdio"),
    st.lists(TOOL, max_size=4, unique_by=lambda tool: tool.name).map(tuple),
    st.tuples(grants("Binding"), grants("Matrix")),
    st.lists(RESOURCE, max_size=2, unique_by=lambda one: one.uri).map(tuple),
    st.lists(PROMPT, max_size=2, unique_by=lambda one: one.name).map(tuple),
)


@requirement("guard.selftest")
@given(source=SOURCES, limit=st.booleans())
def test_a_guard_that_obeys_its_bundle_passes_the_self_test_whatever_the_bundle_is(
    source: BundleSource,
    limit: bool,  # noqa: FBT001
) -> None:
    bundle = a_bundle(source, scope=(ScopeLimit("region", ("eu",)),) if limit else ())
    assert run_selftest(bundle, honest(bundle)).flaw == ""
