"""Arguments, hints, resources, prompts, completions and what servers ask: what `decide` says beyond plain tools."""

from dataclasses import replace
from typing import Any

import pytest
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
    ScopeLimit,
)
from interlock_contract.kill import KillLatch
from interlock_guard.decision.decide import (
    METHODS,
    Allow,
    DecisionInput,
    Deny,
    decide,
)
from interlock_guard.decision.listing import may_list_prompt, may_list_resource, may_list_template, may_list_tool
from interlock_guard.decision.server_request import SERVER_METHODS, decide_server_request
from interlock_guard.state import State
from interlock_guard.upstream.forward import read_forward
from interlock_guard.wire.jsonrpc import RpcRequest
from tests.requirements import requirement
from tests.support.pins import DEFINITION, pinned

NOW = 1000.0
ALIVE = State(agent_uid="u-1", contact_at=NOW - 1)
BINDING = Grant("Binding", "mcpbinding/crm", ("contacts", "deals", "keys"), ("contacts", "deals"), ("contacts",))
MATRIX = Grant("Matrix", "agentpolicy/s/dataAccess[0]", ("*",), ("contacts",), ())
EU = BundleResourceScope("region", ("eu-west",))
US = BundleResourceScope("region", ("eu-west", "us-east"))
SOURCE = BundleSource(
    "crm",
    "crm",
    "stdio",
    tools=(
        BundleTool(
            "export",
            "read",
            "contacts",
            arguments=(BundleArgumentRule("/path", prefix="/out/"), BundleArgumentRule("/n", maximum=5)),
        ),
        BundleTool("get_*", "read", "contacts"),
        BundleTool("*_deal", "write", "deals"),
        BundleTool("add", "write", "contacts"),
    ),
    grants=(BINDING, MATRIX),
    resources=(
        BundleResource("crm://contacts/eu/*", "read", "contacts", (EU,)),
        BundleResource("crm://contacts/all", "read", "contacts", (US,)),
        BundleResource("crm://countries", "read", "contacts", (BundleResourceScope("region", unscoped="Allowed"),)),
        BundleResource("crm://deals/*", "write", "deals"),
        BundleResource("crm://keys/*", "read", "secrets"),
    ),
    prompts=(
        BundlePrompt("summary", "read", "contacts", (BundleToolScope("region", "/region"),)),
        BundlePrompt("letter_*", "write", "deals"),
        BundlePrompt("ruled", "read", "contacts", arguments=(BundleArgumentRule("/id", pattern="[a-z]+"),)),
    ),
    server_requests=("Sampling",),
)


def a_bundle(*, scope: tuple[ScopeLimit, ...] = (), **changes: Any) -> Bundle:
    sources = (structs.replace(SOURCE, **changes),)
    bundle = Bundle(4, AgentIdentity("a", "agents", "u-1"), "r", "staging", "staging", scope, sources)
    return pinned(bundle, "get_contact", "get_deal", "drop_deal")


REGION = (ScopeLimit("region", ("eu-west",)),)


def ask(request: DecisionInput, bundle: Bundle | None = None) -> str | None:
    decision = decide(bundle or a_bundle(), ALIVE, request, NOW)
    return decision.reason.value if isinstance(decision, Deny) else None


def call(tool: str, arguments: Any = None, **more: Any) -> DecisionInput:
    return DecisionInput(
        "crm", "tools/call", tool, arguments if arguments is not None else {}, definition=DEFINITION, **more
    )


def read(uri: str | None, method: str = "resources/read") -> DecisionInput:
    return DecisionInput("crm", method, uri=uri)


def get(prompt: str | None, **arguments: Any) -> DecisionInput:
    return DecisionInput("crm", "prompts/get", arguments=arguments, prompt=prompt, definition=DEFINITION)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"n": 1}, "mcpbinding/crm/tools[export]/arguments[0]"),
        ({"path": "/out/../etc", "n": 1}, "mcpbinding/crm/tools[export]/arguments[0]"),
        ({"path": "/out/a"}, "mcpbinding/crm/tools[export]/arguments[1]"),
        ({"path": "/out/a", "n": 6}, "mcpbinding/crm/tools[export]/arguments[1]"),
    ],
)
@requirement("guard.arguments")
def test_a_call_that_breaks_a_rule_is_denied_by_the_rule(arguments: dict[str, Any], rule: str) -> None:
    decision = decide(a_bundle(), ALIVE, call("export", arguments), NOW)
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.rule) == ("ArgumentNotAllowed", rule)
    assert "'/path' must begin" in decision.message or "'/n' must be a number" in decision.message


@requirement("guard.arguments")
def test_a_call_that_keeps_every_rule_is_allowed() -> None:
    assert ask(call("export", {"path": "/out/a", "n": 5})) is None


def test_what_no_layer_grants_is_said_before_what_is_wrong_with_the_arguments() -> None:
    assert ask(call("export"), a_bundle(grants=(BINDING, structs.replace(MATRIX, read=())))) == "NotGrantedByMatrix"


@requirement("guard.globs")
def test_a_tool_under_a_glob_means_what_the_glob_is_mapped_to() -> None:
    decision = decide(a_bundle(), ALIVE, call("get_contact"), NOW)
    assert decision == Allow(MATRIX.rule, BundleTool("get_*", "read", "contacts"))
    assert ask(call("get_deal")) is None
    assert ask(call("drop_deal")) == "NotGrantedByMatrix"
    assert ask(call("Get_contact")) == "ToolNotMapped"
    assert may_list_tool(a_bundle(), "crm", "get_contact")
    assert not may_list_tool(a_bundle(), "crm", "drop_deal")
    assert not may_list_tool(a_bundle(), "crm", "Get_contact")


@pytest.mark.parametrize(
    ("tool", "annotations", "expected"),
    [
        ("get_contact", {"readOnlyHint": False, "destructiveHint": False}, None),
        ("get_contact", {"destructiveHint": True}, "NotGrantedByMatrix"),
        ("add", {"destructiveHint": True}, "NotGrantedByMatrix"),
        ("add", {"readOnlyHint": True}, None),
        ("add", None, None),
    ],
)
@requirement("guard.hints")
def test_a_tightening_hint_must_be_granted_besides(tool: str, annotations: Any, expected: str | None) -> None:
    assert ask(call(tool, annotations=annotations)) == expected


@requirement("guard.hints")
def test_the_decision_says_which_operation_every_layer_had_to_grant() -> None:
    hints = {"readOnlyHint": False, "destructiveHint": False}
    decision = decide(a_bundle(), ALIVE, call("get_contact", annotations=hints), NOW)
    assert isinstance(decision, Allow)
    assert decision.tool == BundleTool("get_*", "write", "contacts")
    decision = decide(a_bundle(), ALIVE, call("add", annotations={"destructiveHint": True}), NOW)
    assert isinstance(decision, Deny)
    assert decision.tool == BundleTool("add", "delete", "contacts")
    assert decision.message == (
        "delete on 'contacts' of 'crm' (the server marks this tool as delete)"
        " is not granted by the policy's data access."
    )


@requirement("guard.hints")
def test_a_hint_of_more_does_not_stand_in_for_the_mapped_operation() -> None:
    """A grant to write is no grant to read: the call needs both."""
    grants = (BINDING, structs.replace(MATRIX, read=()))
    hints = {"readOnlyHint": False, "destructiveHint": False}
    assert ask(call("get_contact", annotations=hints), a_bundle(grants=grants)) == "NotGrantedByMatrix"


@requirement("guard.unmatchable")
def test_a_rule_outside_the_input_schema_denies_the_tool_and_is_named() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "string"}, "path": {"type": "string"}}}
    decision = decide(a_bundle(), ALIVE, call("export", {"path": "/out/a", "n": 5}, input_schema=schema), NOW)
    assert isinstance(decision, Deny)
    assert (decision.reason, decision.rule) == ("RuleUnmatchable", "mcpbinding/crm/tools[export]/arguments[1]")
    assert decision.message == (
        "No call of this tool can be allowed: '/n' must be a number from 0 to 5, but the schema allows no number there."
    )
    fitting = {"type": "object", "properties": {"n": {"type": "number"}, "path": {"type": "string"}}}
    assert ask(call("export", {"path": "/out/a", "n": 5}, input_schema=fitting)) is None


@pytest.mark.parametrize("method", ["resources/read", "resources/subscribe", "resources/unsubscribe"])
@requirement("guard.resources")
def test_a_resource_needs_its_map_and_every_grant(method: str) -> None:
    assert ask(read("crm://contacts/eu/1", method)) is None
    assert ask(read("crm://deals/1", method)) == "NotGrantedByMatrix"
    assert ask(read("crm://keys/1", method)) == "NotGrantedByBinding"
    assert ask(read("crm://contacts/us/1", method)) == "ResourceNotMapped"
    assert ask(read("crm://contacts/eu/../us/1", method)) == "ResourceNotMapped"
    assert ask(read(None, method)) == "ResourceNotMapped"


@requirement("guard.resources")
def test_the_denial_of_what_is_not_mapped_does_not_disclose_its_name() -> None:
    for one, other in ((read("crm://x/1"), read("crm://y")), (get("x"), get("y")), (read("crm://x"), read("no uri"))):
        denials = [decide(a_bundle(), ALIVE, request, NOW) for request in (one, other)]
        assert denials[0] == denials[1]
        assert isinstance(denials[0], Deny)
        assert denials[0].rule == "mcpbinding/crm"


@requirement("guard.resources", "guard.scope")
def test_in_a_limited_stage_all_values_of_a_resource_must_be_inside() -> None:
    limited = a_bundle(scope=REGION)
    assert ask(read("crm://contacts/eu/1"), limited) is None
    assert ask(read("crm://countries"), limited) is None
    assert ask(read("crm://contacts/all"), limited) == "OutOfScope"
    undeclared = structs.replace(SOURCE.resources[0], scope=())
    assert ask(read("crm://contacts/eu/1"), a_bundle(scope=REGION, resources=(undeclared,))) == "ScopeUndeclared"
    empty = structs.replace(SOURCE.resources[0], scope=(BundleResourceScope("region", ()),))
    assert ask(read("crm://contacts/eu/1"), a_bundle(scope=REGION, resources=(empty,))) == "ScopeMissing"


@requirement("guard.resources")
def test_a_prompt_needs_its_map_and_every_grant() -> None:
    assert ask(get("summary")) is None
    assert ask(get("letter_thanks")) == "NotGrantedByMatrix"
    assert ask(get("other")) == "PromptNotMapped"
    assert ask(get(None)) == "PromptNotMapped"
    assert ask(get("ruled", id="abc")) is None
    assert ask(get("ruled", id="ABC")) == "ArgumentNotAllowed"
    assert ask(get("ruled")) == "ArgumentNotAllowed"


@pytest.mark.parametrize("method", ["prompts/get", "completion/complete"])
@requirement("drift.prompts")
def test_a_prompt_that_is_not_the_verified_one_is_denied(method: str) -> None:
    def reason(definition: str | None, bundle: Bundle | None = None) -> tuple[str, str]:
        request = DecisionInput("crm", method, arguments={}, prompt="summary", definition=definition)
        decision = decide(bundle or a_bundle(), ALIVE, request, NOW)
        assert isinstance(decision, Deny)
        assert decision.rule == "mcpbinding/crm/verification"
        return decision.reason.value, decision.message

    drifted = "This prompt has changed since it was verified, and the change is not accepted."
    assert reason("1" * 64) == ("PromptDrifted", drifted)
    assert reason("") == ("PromptDrifted", "The MCP server no longer lists this prompt.")
    assert reason(None)[0] == "PromptNotVerified"
    [source] = a_bundle().sources
    unpinned = structs.replace(a_bundle(), sources=(structs.replace(source, prompt_pins=()),))
    assert reason(DEFINITION, unpinned) == ("PromptNotVerified", "This prompt has not been verified yet.")


@requirement("guard.resources", "guard.scope")
def test_in_a_limited_stage_a_prompts_arguments_must_say_a_value_inside() -> None:
    limited = a_bundle(scope=REGION)
    assert ask(get("summary", region="eu-west"), limited) is None
    assert ask(get("summary", region="us-east"), limited) == "OutOfScope"
    assert ask(get("summary"), limited) == "ScopeMissing"
    assert ask(get("ruled", id="abc"), limited) == "ScopeUndeclared"


@requirement("guard.resources")
def test_completions_follow_what_they_refer_to() -> None:
    def complete(**reference: Any) -> str | None:
        return ask(DecisionInput("crm", "completion/complete", definition=DEFINITION, **reference))

    assert complete(uri="crm://contacts/eu/{id}") is None
    assert complete(uri="crm://deals/{id}") == "NotGrantedByMatrix"
    assert complete(uri="crm://others/{id}") == "ResourceNotMapped"
    assert complete(prompt="summary") is None
    assert complete(prompt="letter_thanks") == "NotGrantedByMatrix"
    assert complete(prompt="other") == "PromptNotMapped"
    assert complete(prompt="ruled") == "ArgumentNotAllowed"
    assert complete(prompt="ruled", arguments={"id": "abc"}) is None
    assert complete() == "PromptNotMapped"


@requirement("guard.resources")
def test_a_completion_is_decided_on_with_the_values_that_are_typed() -> None:
    def complete(typed: str, **known: str) -> str | None:
        params = {
            "ref": {"type": "ref/resource", "uri": "crm://contacts/eu/{id}{ext}"},
            "argument": {"name": "id", "value": typed},
            "context": {"arguments": known},
        }
        return ask(read_forward("crm", RpcRequest(1, "completion/complete", params)))

    assert complete("") is None
    assert complete("a", ext=".txt") is None
    assert complete("../") == "ResourceNotMapped"
    assert complete("a", ext="/../../all") == "ResourceNotMapped"
    assert complete("a", other="b") == "ResourceNotMapped"


def test_a_rule_of_a_prompt_and_a_scope_of_a_resource_are_named_as_theirs() -> None:
    broken = decide(a_bundle(), ALIVE, get("ruled"), NOW)
    outside = decide(a_bundle(scope=REGION), ALIVE, read("crm://contacts/all"), NOW)
    assert isinstance(broken, Deny)
    assert isinstance(outside, Deny)
    assert broken.rule == "mcpbinding/crm/prompts[ruled]/arguments[0]"
    assert outside.rule == "mcpbinding/crm/resources[crm://contacts/all]"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_denied_by_a_closed_guard_and_of_an_unknown_source(method: str) -> None:
    request = DecisionInput("crm", method, "get_contact", {}, "crm://contacts/eu/1", "summary", definition=DEFINITION)
    killed = decide(a_bundle(), replace(ALIVE, kill=KillLatch("leak")), request, NOW)
    assert isinstance(killed, Deny)
    assert killed.reason == "Killed"
    assert ask(request) is None
    assert ask(replace(request, source="mail")) == "UnknownSource"


def test_lists_may_be_requested_and_are_filtered_by_what_may_be_shown() -> None:
    for method in ("tools/list", "resources/list", "resources/templates/list", "prompts/list", "logging/setLevel"):
        assert decide(a_bundle(), ALIVE, DecisionInput("crm", method), NOW) == Allow("mcpbinding/crm")


@requirement("guard.resources", "guard.lists-permitted")
def test_lists_show_resources_templates_and_prompts_that_could_be_allowed() -> None:
    bundle, limited = a_bundle(), a_bundle(scope=REGION)
    uris = ("crm://contacts/eu/1", "crm://contacts/all", "crm://countries", "crm://deals/1", "crm://keys/1", "crm://x")
    assert [uri for uri in uris if may_list_resource(bundle, "crm", uri)] == list(uris[:3])
    assert [uri for uri in uris if may_list_resource(limited, "crm", uri)] == [uris[0], uris[2]]
    templates = ("crm://contacts/eu/{id}", "crm://deals/{id}", "crm://contacts/{region}/{id}")
    assert [one for one in templates if may_list_template(bundle, "crm", one)] == [templates[0]]
    prompts = ("summary", "letter_thanks", "ruled", "other")
    assert [name for name in prompts if may_list_prompt(bundle, "crm", name)] == ["summary", "ruled"]
    assert [name for name in prompts if may_list_prompt(limited, "crm", name)] == ["summary"]


def test_nothing_is_shown_of_an_unknown_source() -> None:
    bundle = a_bundle()
    assert not may_list_tool(bundle, "mail", "get_contact")
    assert not may_list_prompt(bundle, "mail", "summary")
    assert not may_list_resource(bundle, "mail", "crm://countries")
    assert not may_list_template(bundle, "mail", "crm://contacts/eu/{id}")


@pytest.mark.parametrize("method", [*SERVER_METHODS, "ping", "tools/call", ""])
@requirement("guard.server-requests")
def test_a_server_may_request_only_what_the_binding_names(method: str) -> None:
    for named in ((), ("Sampling",), ("Elicitation", "Roots")):
        decision = decide_server_request(a_bundle(server_requests=named), ALIVE, "crm", method, NOW)
        assert isinstance(decision, Allow) == (SERVER_METHODS.get(method) in named)
        assert decision.rule == "mcpbinding/crm/serverRequests"
        if isinstance(decision, Deny):
            assert decision.reason == "ServerRequestNotAllowed"


@requirement("guard.server-requests")
def test_no_server_request_passes_a_closed_guard() -> None:
    states = (replace(ALIVE, kill=KillLatch("leak")), replace(ALIVE, contact_at=NOW - 31), State())
    reasons = []
    for state in states:
        decision = decide_server_request(a_bundle(), state, "crm", "sampling/createMessage", NOW)
        assert isinstance(decision, Deny)
        reasons.append(decision.reason)
    assert reasons == ["Killed", "StaleState", "StaleState"]
    unknown = decide_server_request(a_bundle(), ALIVE, "mail", "sampling/createMessage", NOW)
    nothing = decide_server_request(None, ALIVE, "crm", "sampling/createMessage", NOW)
    assert isinstance(unknown, Deny)
    assert isinstance(nothing, Deny)
    assert (unknown.reason, nothing.reason) == ("UnknownSource", "NoBundle")
