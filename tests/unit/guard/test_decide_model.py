import json
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs
from multidict import CIMultiDict, CIMultiDictProxy

from interlock_contract.bundle import AgentIdentity, Bundle, dump_bundle, parse_bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.kill import KillLatch
from interlock_contract.model_access import Model, ModelAccess, Provider
from interlock_contract.strict_fields import BundleInvalid
from interlock_guard.decision import model_call
from interlock_guard.decision.decide import Allow, DecisionInput, Deny, DenyReason
from interlock_guard.decision.model_call import LIST, MODELS, decide_model
from interlock_guard.decision.model_rules import ENDPOINTS
from interlock_guard.llm.provider_client import request_headers, response_headers, shows_key
from interlock_guard.selftest.selftest import SelfTestKind, run_selftest, synthetic_calls
from interlock_guard.state import State
from tests.requirements import requirement
from tests.support.keys import AGENT_KEY, AGENT_KEY_DIGEST

OPENAI = Provider(
    "openai", "OpenAI", HttpTarget("https://api.openai.com/v1", "Public", (), None), (Model("gpt-4o-mini", "0a"),)
)
ANTHROPIC = Provider(
    "anthropic", "Anthropic", HttpTarget("https://api.anthropic.com/v1", "Public", (), None), (Model("claude-x", "0b"),)
)
KEY = AGENT_KEY
BUNDLE = Bundle(
    4,
    AgentIdentity("a", "agents", "u-1"),
    "r",
    "staging",
    "staging",
    (),
    (),
    models=ModelAccess((OPENAI, ANTHROPIC)),
    agent_key_digest=AGENT_KEY_DIGEST,
)
OPEN = State(agent_uid="u-1", contact_at=0.0)


def reason(model: str, method: str, bundle: Bundle | None = BUNDLE, state: State = OPEN, **body: Any) -> str:
    decision = decide_model(bundle, state, DecisionInput(MODELS, method, arguments=body, model=model), 0.0)
    return "Allow" if isinstance(decision, Allow) else decision.reason.value


@requirement("models.allowed")
@pytest.mark.parametrize(
    ("model", "method", "expected"),
    [
        ("openai/gpt-4o-mini", "chat/completions", "Allow"),
        ("openai/gpt-4o-mini", "responses", "Allow"),
        ("anthropic/claude-x", "messages", "Allow"),
        ("openai/", LIST, "Allow"),
        ("openai/gpt-4o", "chat/completions", "ModelNotAllowed"),
        ("openai/", "chat/completions", "ModelNotAllowed"),
        ("anthropic/gpt-4o-mini", "messages", "ModelNotAllowed"),
        ("other/gpt-4o-mini", "chat/completions", "ModelNotAllowed"),
        ("gpt-4o-mini", "chat/completions", "ModelNotAllowed"),
        ("other/", LIST, "ModelNotAllowed"),
        ("openai/gpt-4o-mini", "messages", "MethodNotAllowed"),
        ("openai/gpt-4o-mini", "files", "MethodNotAllowed"),
        ("anthropic/claude-x", "chat/completions", "MethodNotAllowed"),
    ],
)
def test_a_model_of_the_agent_may_be_called_where_its_provider_has_it(model: str, method: str, expected: str) -> None:
    assert reason(model, method) == expected


@requirement("models.kill")
@pytest.mark.parametrize(
    ("bundle", "state", "expected"),
    [
        (BUNDLE, replace(OPEN, kill=KillLatch("why", None)), "Killed"),
        (BUNDLE, replace(OPEN, contact_at=-31.0), "StaleState"),
        (BUNDLE, replace(OPEN, agent_uid="another"), "AgentMismatch"),
        (BUNDLE, replace(OPEN, unverified_reason="x"), "PolicyNotTested"),
        (None, OPEN, "NoBundle"),
        (structs.replace(BUNDLE, models=None), OPEN, "ModelNotAllowed"),
    ],
)
def test_a_closed_guard_lets_no_call_pass(bundle: Bundle | None, state: State, expected: str) -> None:
    assert reason("openai/gpt-4o-mini", "chat/completions", bundle, state) == expected


@requirement("models.selftest")
def test_a_guard_that_would_let_a_call_pass_fails_its_own_self_test() -> None:
    def judge(lets: str | None) -> Any:
        def answer(request: DecisionInput) -> Any:
            found = decide_model(BUNDLE, OPEN, request, 0.0)
            is_let = not isinstance(found, Allow) and found.reason.value == lets
            return Allow("x") if is_let else found

        return answer

    calls = [call for call in synthetic_calls(BUNDLE) if call.kind == SelfTestKind.MODEL]
    assert len(calls) == 25
    assert {reason for call in calls for reason in call.expected} == {
        *(DenyReason.MODEL_NOT_ALLOWED, DenyReason.METHOD_NOT_ALLOWED, DenyReason.HOSTED_TOOL_NOT_ALLOWED),
        *(DenyReason.MEMBER_NOT_ALLOWED, DenyReason.REMOTE_CONTENT_NOT_ALLOWED),
    }
    for lets in (
        *("ModelNotAllowed", "MethodNotAllowed", "HostedToolNotAllowed", "MemberNotAllowed"),
        "RemoteContentNotAllowed",
    ):
        flaw = next(call for call in calls if isinstance(judge(lets)(call.request), Allow))
        assert flaw.expected == {DenyReason(lets)}
    bare = structs.replace(BUNDLE, models=None)
    assert not [call for call in synthetic_calls(bare) if call.kind == SelfTestKind.MODEL]
    assert run_selftest(BUNDLE, lambda _: Allow("x")).flaw


@pytest.mark.parametrize(
    "provider",
    [
        structs.replace(OPENAI, models=(Model("interlock-selftest", "0a"),)),
        structs.replace(OPENAI, content_hosts=("*",)),
        structs.replace(ANTHROPIC, content_hosts=("a.example", "interlock-selftest.invalid")),
    ],
)
def test_a_provider_that_allows_what_the_self_test_calls_with_is_no_bypass(provider: Provider) -> None:
    bundle = structs.replace(BUNDLE, models=ModelAccess((provider,)))
    for call in synthetic_calls(bundle):
        if call.kind == SelfTestKind.MODEL:
            decision = decide_model(bundle, OPEN, call.request, 0.0)
            assert not isinstance(decision, Allow)
            assert decision.reason in call.expected


@requirement("models.keys")
def test_no_header_passes_that_is_not_named() -> None:
    sent = {"Authorization": "x", "Cookie": "x", "X-Api-Key": "x", "OpenAI-Project": "x", "Te": "x", "Upgrade": "x"}
    assert request_headers({**sent, "Anthropic-Version": "1", "X-Stainless-OS": "2", "Accept-Encoding": "gzip"}) == {
        "Anthropic-Version": "1",
        "X-Stainless-OS": "2",
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
    }
    came = {"Set-Cookie": "x", "OpenAI-Organization": "x", "Connection": "x", "Alt-Svc": "x", "Location": "x"}
    assert response_headers({**came, "x-ratelimit-reset": "1", "Content-Type": "a/b"}) == {
        "x-ratelimit-reset": "1",
        "Content-Type": "a/b",
    }


@requirement("models.pass")
def test_lines_of_one_name_are_one_list_in_both_directions() -> None:
    lines = [("Anthropic-Beta", "a"), ("User-Agent", "x"), ("anthropic-beta", "b,c"), ("anthropic-beta", "")]
    sent = request_headers(CIMultiDictProxy(CIMultiDict(lines)))
    assert {name: sent[name] for name in ("Anthropic-Beta", "User-Agent")} == {
        "Anthropic-Beta": "a, b,c",
        "User-Agent": "x",
    }
    came = CIMultiDictProxy(CIMultiDict([("Cache-Control", "no-store"), ("cache-control", "private")]))
    assert response_headers(came) == {"Cache-Control": "no-store, private"}


@requirement("models.keys")
def test_the_key_is_the_agents_in_every_place_where_one_is() -> None:
    bundle = structs.replace(BUNDLE, models=ModelAccess((OPENAI,)))

    def shows(*headers: tuple[str, str]) -> bool:
        return shows_key(bundle, CIMultiDictProxy(CIMultiDict(headers)))

    assert shows(("authorization", f"bearer {KEY}"))
    assert shows(("X-API-KEY", KEY), ("Authorization", f"Bearer {KEY}"))
    assert not shows()
    assert not shows(("X-API-KEY", KEY), ("Authorization", "Bearer sk-real"))
    assert not shows(("X-API-KEY", KEY), ("X-API-KEY", "sk-real"))
    assert not shows(("Authorization", KEY))
    assert not shows(("X-API-KEY", "\udcff"))
    assert not shows_key(
        structs.replace(bundle, agent_key_digest=None), CIMultiDictProxy(CIMultiDict({"X-API-KEY": KEY}))
    )


@requirement("models.compiled")
def test_models_are_read_back_as_they_are_written() -> None:
    assert parse_bundle(dump_bundle(BUNDLE)) == BUNDLE
    more = structs.replace(OPENAI, extra_members=("top_k", "some-beta-2026-01-01"), content_hosts=("cdn.example.com",))
    bundle = structs.replace(BUNDLE, models=ModelAccess((more,)))
    assert parse_bundle(dump_bundle(bundle)) == bundle
    assert parse_bundle(dump_bundle(structs.replace(BUNDLE, models=None))).models is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("providers",), {}),
        (("providers", 0, "name"), "Open AI"),
        (("providers", 0, "name"), "anthropic"),
        (("providers", 0, "shape"), "Gemini"),
        (("providers", 0, "target", "url"), "https://api.openai.com/v1?x=y"),
        (("providers", 0, "target", "url"), "http://api.openai.com/v1"),
        (("providers", 0, "target", "headers"), [{"name": "X-A", "value": "b"}]),
        (("providers", 0, "models", 0, "name"), "gpt 4"),
        (("providers", 0, "models", 0, "keyFile"), "../token"),
        (("providers", 0, "models", 0, "more"), 1),
        (("providers", 0, "extraMembers"), ["background"]),
        (("providers", 0, "extraMembers"), ["a b"]),
        (("providers", 0, "contentHosts"), ["https://a.example"]),
        (("providers", 0, "contentHosts"), ["*.example"]),
        (("more",), 1),
    ],
)
def test_a_bundle_with_models_that_are_none_is_refused(path: tuple[Any, ...], value: Any) -> None:
    written = json.loads(dump_bundle(BUNDLE))
    node = written["models"]
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(BundleInvalid, match=r"^models"):
        parse_bundle(json.dumps(written))


def test_a_bundle_with_a_model_twice_is_refused() -> None:
    twice = structs.replace(OPENAI, models=OPENAI.models * 2)
    with pytest.raises(BundleInvalid, match="is there twice"):
        parse_bundle(dump_bundle(structs.replace(BUNDLE, models=ModelAccess((twice,)))))


def test_every_endpoint_is_a_plain_path() -> None:
    for paths in ENDPOINTS.values():
        assert all(path.replace("/", "").replace("_", "").isalpha() for path in paths)


@requirement("models.allowed")
def test_a_body_is_looked_through_once_under_one_bundle_and_again_under_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[str] = []

    def find(endpoint: str, *_: Any, **__: Any) -> None:
        looked.append(endpoint)

    monkeypatch.setattr(model_call, "find_refused_member", find)
    request = DecisionInput(MODELS, "chat/completions", arguments={"model": "x"}, model="openai/gpt-4o-mini")
    assert all(isinstance(decide_model(BUNDLE, OPEN, request, 0.0), Allow) for _ in range(3))
    assert looked == ["chat/completions"]

    killed = replace(OPEN, kill=KillLatch(message="stop"))
    assert decide_model(BUNDLE, killed, request, 0.0) == Deny(DenyReason.KILLED, "interlock.dev/kill-switch", "stop")
    narrowed = structs.replace(BUNDLE, models=ModelAccess((ANTHROPIC,)))
    refused = decide_model(narrowed, OPEN, request, 0.0)
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.MODEL_NOT_ALLOWED
    decide_model(BUNDLE, OPEN, replace(request, arguments={"model": "y"}), 0.0)
    assert looked == ["chat/completions"] * 2, "another request is another body"
