"""Mode Audit of a source: what is not mapped and not granted passes and is marked, and all else holds as ever."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from interlock_contract.bundle import (
    Bundle,
    BundleArgumentRule,
    BundlePrompt,
    BundleResource,
    BundleSource,
    BundleTool,
    BundleToolScope,
    ScopeLimit,
    dump_bundle,
    parse_bundle,
)
from interlock_contract.kill import KillLatch
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, Deny, decide
from interlock_guard.decision.listing import may_list_prompt, may_list_resource, may_list_tool
from interlock_guard.downstream.capabilities import is_verified
from interlock_guard.selftest.selftest import run_selftest, synthetic_calls
from interlock_guard.state import State
from tests.support.pins import DEFINITION
from tests.unit.guard.test_decide import ALIVE, NOW, TOOLS, a_bundle, call

OTHER = "1" * 64
RULED = BundleTool("ruled", "delete", "tasks", arguments=(BundleArgumentRule("/id", enum=("1",)),))


def audited(bundle: Bundle | None = None, **parts: Any) -> Bundle:
    """Return a bundle whose source is in mode Audit."""
    bundle = bundle or a_bundle()
    sources = tuple(structs.replace(source, mode="Audit", **parts) for source in bundle.sources)
    return structs.replace(bundle, sources=sources)


def told(decision: Decision) -> tuple[str, str]:
    """Return a decision in two words."""
    if isinstance(decision, Deny):
        return "Deny", decision.reason.value
    return ("Allow", "") if decision.would_deny is None else ("WouldDeny", decision.would_deny.reason.value)


def decided(bundle: Bundle, request: DecisionInput, state: State = ALIVE) -> tuple[str, str]:
    return told(decide(bundle, state, request, NOW))


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (call("get_contact"), ("Allow", "")),
        (call("nothing"), ("WouldDeny", "ToolNotMapped")),
        (call("drop_contact"), ("WouldDeny", "NotGrantedByBinding")),
        (call("get_deal"), ("WouldDeny", "NotGrantedByMatrix")),
        (call("get_task"), ("WouldDeny", "NotGrantedByAgent")),
        # What its server does not list, or lists otherwise than it was verified, is denied as ever.
        (replace(call("nothing"), definition=None), ("Deny", "ToolNotMapped")),
        (replace(call("nothing"), definition=""), ("Deny", "ToolNotMapped")),
        (replace(call("get_deal"), definition=OTHER), ("Deny", "ToolDrifted")),
        (replace(call("get_contact"), definition=""), ("Deny", "ToolDrifted")),
        (DecisionInput("crm", "prompts/get", prompt="p", definition=DEFINITION), ("Deny", "PromptNotMapped")),
        (DecisionInput("crm", "resources/read", uri="crm://x"), ("Deny", "ResourceNotMapped")),
        (DecisionInput("mail", "tools/call", "get_contact", {}), ("Deny", "UnknownSource")),
        (DecisionInput("crm", "tools/other", "get_contact", {}), ("Deny", "MethodNotAllowed")),
    ],
)
def test_only_a_missing_map_entry_and_a_missing_grant_pass(request_: DecisionInput, expected: tuple[str, str]) -> None:
    assert decided(audited(), request_) == expected
    enforced = decided(a_bundle(), request_)
    assert enforced == (expected if expected[0] == "Allow" else ("Deny", enforced[1]))


@pytest.mark.parametrize(
    "state",
    [
        replace(ALIVE, kill=KillLatch("leak")),
        replace(ALIVE, contact_at=NOW - 100),
        replace(ALIVE, agent_uid="u-2"),
        replace(ALIVE, unverified_reason="not tested"),
    ],
)
@pytest.mark.parametrize("tool", ["nothing", "get_deal"])
def test_a_closed_guard_lets_nothing_pass(state: State, tool: str) -> None:
    assert decided(audited(), call(tool), state)[0] == "Deny"


def test_argument_rules_hold_for_a_call_without_a_grant() -> None:
    bundle = audited(a_bundle(tools=(RULED,)))
    assert decided(bundle, call("ruled", {"id": "1"})) == ("WouldDeny", "NotGrantedByAgent")
    assert decided(bundle, call("ruled", {"id": "2"})) == ("Deny", "ArgumentNotAllowed")


def test_the_scope_of_a_stage_holds_and_an_unmapped_tool_declares_none() -> None:
    tools = (*TOOLS, BundleTool("get_secret", "read", "secrets", (BundleToolScope("region", "/region"),)))
    bundle = audited(a_bundle(tools=tools, scope=(ScopeLimit("region", ("eu",)),)))
    assert decided(bundle, call("get_secret", {"region": "eu"})) == ("WouldDeny", "NotGrantedByMatrix")
    assert decided(bundle, call("get_secret", {"region": "us"})) == ("Deny", "OutOfScope")
    assert decided(bundle, call("nothing")) == ("Deny", "ScopeUndeclared")
    assert not may_list_tool(bundle, "crm", "nothing")
    excluded = structs.replace(audited(), excluded=((),))
    assert decided(excluded, call("nothing")) == ("Deny", "ServedElsewhere")


def test_an_unmapped_tool_counts_as_a_delete_of_no_known_kind_of_data() -> None:
    decision = decide(audited(), ALIVE, call("nothing"), NOW)
    assert isinstance(decision, Allow)
    assert decision.tool == BundleTool("nothing", "delete", "")


def test_a_tool_that_was_verified_and_is_no_longer_mapped_must_be_as_it_was_verified() -> None:
    bundle = audited(structs.replace(a_bundle(), sources=a_bundle().sources), tools=TOOLS[1:])
    assert decided(bundle, call("get_contact")) == ("WouldDeny", "ToolNotMapped")
    assert decided(bundle, replace(call("get_contact"), definition=OTHER)) == ("Deny", "ToolDrifted")


def test_a_hint_that_raises_the_operation_is_one_of_the_missing_grants() -> None:
    hinted = replace(call("get_contact"), annotations={"destructiveHint": True})
    decision = decide(audited(), ALIVE, hinted, NOW)
    assert told(decision) == ("WouldDeny", "NotGrantedByBinding")
    assert isinstance(decision, Allow)
    assert decision.tool is not None
    assert decision.tool.operation == "delete"


def test_lists_show_unmapped_and_ungranted_tools_and_no_unmapped_prompts_and_resources() -> None:
    bundle = audited(
        resources=(BundleResource("crm://deals", "read", "deals"),), prompts=(BundlePrompt("ask", "read", "deals"),)
    )
    assert may_list_tool(bundle, "crm", "nothing")
    assert may_list_tool(bundle, "crm", "get_deal")
    assert may_list_resource(bundle, "crm", "crm://deals")
    assert may_list_prompt(bundle, "crm", "ask")
    assert not may_list_resource(bundle, "crm", "crm://other")
    assert not may_list_prompt(bundle, "crm", "other")
    assert not may_list_tool(a_bundle(), "crm", "nothing")


def test_lists_show_verified_definitions_and_those_of_unmapped_tools() -> None:
    assert is_verified(audited(), "crm", "tools/list", "nothing", OTHER)
    assert not is_verified(audited(), "crm", "tools/list", "get_contact", OTHER)
    assert not is_verified(a_bundle(), "crm", "tools/list", "nothing", OTHER)
    assert not is_verified(audited(), "crm", "prompts/list", "nothing", OTHER)


def test_one_source_in_mode_audit_opens_no_other() -> None:
    mail = BundleSource("mail", "mail", "stdio", TOOLS, a_bundle().sources[0].grants)
    bundle = structs.replace(audited(), sources=(*audited().sources, mail))
    assert decided(bundle, replace(call("nothing"), source="mail")) == ("Deny", "ToolNotMapped")
    assert decided(bundle, replace(call("get_deal"), source="mail")) == ("Deny", "NotGrantedByMatrix")


def test_the_document_says_the_mode_only_where_it_is_audit() -> None:
    assert '"mode":"Audit"' in dump_bundle(audited())
    assert "mode" not in dump_bundle(a_bundle())
    assert parse_bundle(dump_bundle(audited())) == audited()


def test_the_self_test_knows_the_mode() -> None:
    bundle = audited()
    result = run_selftest(bundle, lambda request: decide(bundle, ALIVE, request, NOW))
    assert result.flaw == ""
    assert result.calls == len(list(synthetic_calls(bundle))) > len(list(synthetic_calls(a_bundle())))


@pytest.mark.parametrize("weakness", ["unmarked", "unlisted", "drift"])
def test_the_self_test_finds_a_guard_that_lets_more_pass_than_the_mode(weakness: str) -> None:
    bundle = audited()

    def judge(request: DecisionInput) -> Decision:
        decision = decide(bundle, ALIVE, request, NOW)
        if weakness == "unmarked" and isinstance(decision, Allow):
            return replace(decision, would_deny=None)
        if weakness == "unlisted" and told(decision) == ("Deny", "ToolNotMapped"):
            return Allow("", BundleTool("x", "delete", ""), decision if isinstance(decision, Deny) else None)
        if weakness == "drift" and told(decision) == ("Deny", "ToolDrifted"):
            return Allow("")
        return decision

    assert run_selftest(bundle, judge).flaw
