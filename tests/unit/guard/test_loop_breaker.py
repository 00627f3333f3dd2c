"""The loop breaker: which calls count, by what they are told apart, and what is reported."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import parse_bundle
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.loops import BundleLoops, LoopReport
from interlock_guard.decision.decide import Allow, Decision, DecisionInput, Deny, DenyReason
from interlock_guard.downstream.loop_breaker import LoopBreaker
from interlock_guard.state import LiveState
from tests.integration.guard.harness import a_bundle
from tests.requirements import requirement

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALLOWED = Allow("agentpolicy/support/dataAccess[0]")


class Bench:
    """A breaker with a clock of its own."""

    def __init__(self, loops: BundleLoops | None) -> None:
        self.live, self.now = LiveState(), 0.0
        self.reports: list[LoopReport] = []
        self.set(loops)
        self.breaker = LoopBreaker(
            self.live, monotonic=lambda: self.now, clock=lambda: NOW, on_kill=self.reports.append
        )

    def set(self, loops: BundleLoops | None) -> None:
        self.live.bundle = replace(parse_bundle(a_bundle(["echo"])), loops=loops)

    def call(self, tool: str = "echo", source: str = "crm", decision: Decision = ALLOWED, **arguments: object) -> bool:
        """Call a tool; return whether it was refused as a loop."""
        request = DecisionInput(source, "tools/call", tool, arguments)
        found = self.breaker.check_tool(request, decision)
        return isinstance(found, Deny) and found.reason is DenyReason.LOOP_DETECTED

    def ask(self, digest: str, model: str = "openai/gpt-4o", method: str = "chat/completions") -> bool:
        return self.breaker.check_prompt(DecisionInput("models", method, model=model), digest) is not None


@requirement("loops.refused")
def test_calls_are_told_apart_by_source_tool_and_arguments() -> None:
    bench = Bench(BundleLoops(2, 60))
    assert not bench.call(id="1")
    assert not any([bench.call(id="2"), bench.call(id=1), bench.call("other", id="1"), bench.call(source="x", id="1")])
    assert not bench.call(id="1", more=None)
    assert bench.call(id="1")


@requirement("loops.refused")
def test_a_call_that_passes_in_mode_audit_is_a_loop_as_any_other() -> None:
    bench, denied = Bench(BundleLoops(2, 60)), Deny(DenyReason.TOOL_NOT_MAPPED, "mcpbinding/crm", "")
    passed = Allow("agentpolicy/support/dataAccess[0]", would_deny=denied)
    assert [bench.call(decision=passed, id="1") for _ in range(2)] == [False, True]


@requirement("loops.refused")
def test_prompts_are_told_apart_by_model_and_endpoint_and_from_calls_of_tools() -> None:
    bench = Bench(BundleLoops(2, 60))
    digest = digest_of(canonicalize({}))
    assert not bench.call("gpt-4o", source="openai")
    assert not any([bench.ask(digest), bench.ask(digest, "openai/gpt-5"), bench.ask(digest, method="responses")])
    assert bench.ask(digest)


@requirement("loops.refused")
@pytest.mark.parametrize(
    "decision", [Deny(DenyReason.OUT_OF_SCOPE, "", ""), Deny(DenyReason.SERVER_UNAVAILABLE, "", "")]
)
def test_a_call_that_is_denied_otherwise_keeps_its_reason_and_does_not_count(decision: Deny) -> None:
    bench = Bench(BundleLoops(2, 60))
    for _ in range(5):
        request = DecisionInput("crm", "tools/call", "echo", {})
        assert bench.breaker.check_tool(request, decision) is decision
    assert not bench.call()


@requirement("loops.refused")
def test_a_server_that_has_the_same_prompt_sampled_again_and_again_is_refused() -> None:
    bench, prompt = (
        Bench(BundleLoops(3, 60)),
        {"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]},
    )

    def sample(source: str = "crm", decision: Decision = ALLOWED, **more: object) -> Decision:
        return bench.breaker.check_sampling(source, "sampling/createMessage", {**prompt, **more}, decision)

    assert sample() == sample(maxTokens=7, temperature=0.5, _meta={"progressToken": 1}) == ALLOWED
    assert sample("other") == sample(systemPrompt="b") == ALLOWED
    refused = sample()
    assert isinstance(refused, Deny)
    assert refused.reason is DenyReason.LOOP_DETECTED
    denied = Deny(DenyReason.SERVER_REQUEST_NOT_ALLOWED, "", "")
    assert sample(decision=denied) is denied
    for _ in range(5):
        assert bench.breaker.check_sampling("crm", "elicitation/create", prompt, ALLOWED) is ALLOWED


@requirement("loops.refused")
def test_other_methods_do_not_count() -> None:
    bench = Bench(BundleLoops(2, 60))
    for method in ("tools/list", "resources/read", "prompts/get"):
        for _ in range(3):
            assert bench.breaker.check_tool(DecisionInput("crm", method), ALLOWED) is ALLOWED


@requirement("loops.refused")
def test_the_count_survives_another_bundle_and_not_other_terms() -> None:
    bench = Bench(BundleLoops(3, 60))
    assert [bench.call(), bench.call()] == [False, False]
    bench.set(BundleLoops(3, 60))
    assert bench.call()
    bench.set(BundleLoops(3, 30))
    assert not bench.call()
    bench.set(None)
    assert [bench.call() for _ in range(5)] == [False] * 5
    bench.set(BundleLoops(3, 30))
    assert not bench.call()


def test_a_digest_that_is_known_is_not_computed_again() -> None:
    bench = Bench(BundleLoops(2, 60))
    for _ in range(2):
        request = DecisionInput("crm", "tools/call", "echo", {"id": "1"}, arguments_digest="f" * 64)
        found = bench.breaker.check_tool(request, ALLOWED)
    assert isinstance(found, Deny)
    assert not bench.call(id="1")


@requirement("loops.kill")
def test_only_a_loop_that_kills_is_reported_and_once_until_it_stayed_away() -> None:
    bench = Bench(BundleLoops(2, 60))
    assert [bench.call() for _ in range(4)] == [False, True, True, True]
    assert bench.reports == []

    bench.set(BundleLoops(2, 60, "Kill"))
    assert [bench.call(id="1") for _ in range(4)] == [False, True, True, True]
    expected = LoopReport("crm/echo", 2, 60, digest_of(canonicalize({"id": "1"})), NOW)
    assert bench.reports == [expected]
    bench.now += 61
    assert [bench.call(id="1"), bench.call(id="1")] == [False, True]
    assert bench.reports == [expected, expected]


@requirement("loops.kill")
def test_a_report_says_nothing_of_a_prompt() -> None:
    bench = Bench(BundleLoops(2, 60, "Kill"))
    assert [bench.ask("a" * 64), bench.ask("a" * 64)] == [False, True]
    assert bench.reports == [LoopReport("openai/gpt-4o", 2, 60, "", NOW)]
