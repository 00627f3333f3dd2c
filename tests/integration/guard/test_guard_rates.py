"""Rate limits of real guards: exactly as many calls pass as a minute has, whatever runs in parallel or is killed."""

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.rates import RateLimits
from interlock_contract.bundle import dump_bundle, parse_bundle
from tests.integration.guard.budget_rig import OWN, BudgetRig, a_budget_rig, are_open, check_passed
from tests.integration.guard.fake_provider import MODEL
from tests.integration.guard.harness import Bench, a_bundle
from tests.integration.guard.test_guard_budget_concurrency import post_at_once
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY

NOON = 1_772_366_400.0
"""2026-03-01T12:00:00Z. All answers of the API server show this minute, however long a test takes."""
HELLO: Any = [{"role": "user", "content": "hello"}]


def a_rate(calls: int | None = None, tokens: int | None = None) -> BundleBudget:
    return BundleBudget(OWN, rate_limits=RateLimits(calls, tokens))


def most_calls(rig: BudgetRig) -> int:
    """Return the most calls that were in slices in any version of the ledger."""
    return max(ledger.rate.taken.calls for _, ledger in rig.api.history)


@requirement("budget.rates")
@pytest.mark.parametrize("k", [1, 50])
async def test_of_192_parallel_calls_of_three_guards_exactly_as_many_pass_as_the_minute_has(
    tmp_path: Path, k: int
) -> None:
    async with a_budget_rig(tmp_path, guards=3, budget=a_rate(calls=k), date=NOON) as rig:
        check_passed((await post_at_once(rig))[0], k)
        assert most_calls(rig) == k


@requirement("budget.rates")
async def test_a_guard_that_is_killed_gets_no_second_minute(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path, guards=2, budget=a_rate(calls=40), date=NOON) as rig:
        rig.provider.gate.clear()
        calls = [asyncio.create_task(rig.post(guard)) for guard in rig.guards for _ in range(10)]
        await until(lambda: rig.provider.answered == len(calls), "the calls are under way")
        await rig.guards[0].stop()  # SIGKILL
        rig.provider.gate.set()
        await asyncio.gather(*calls, return_exceptions=True)
        await rig.guards[0].start()
        await are_open(rig.guards)

        async def most_are_used() -> bool:
            await asyncio.gather(*(rig.post(guard) for guard in rig.guards for _ in range(40)))
            assert rig.provider.answered <= 40
            return rig.provider.answered > 30

        await most_are_used()
        await until(most_are_used, "all but what the killed run had left is used")
        assert most_calls(rig) <= 40


@requirement("budget.rates")
async def test_tokens_count_at_their_worst_case_until_the_answer_says_what_was_used(tmp_path: Path) -> None:
    limit = 4000
    async with a_budget_rig(tmp_path, guards=2, budget=a_rate(tokens=limit), date=NOON) as rig:
        rig.provider.tokens = 100, 10
        passed, refused = await post_at_once(rig)
        assert passed >= 1
        assert refused >= 1

        async def passes() -> bool:
            return (await rig.post(rig.guards[0]))[0] == 200

        await until(passes, "each of the others has used 110 tokens, and not what it had reserved")
        assert max(ledger.rate.taken.tokens for _, ledger in rig.api.history) <= limit


@requirement("budget.rates")
async def test_a_refusal_says_when_the_next_minute_begins_and_its_calls_pass(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path, budget=a_rate(calls=1), date=NOON + 20, lease_seconds=6.0) as rig:
        (guard,) = rig.guards
        assert (await rig.post(guard))[0] == 200
        status, body, headers = await rig.post(guard)
        assert (status, body["error"]["type"], body["error"]["code"]) == (
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
        )
        assert 30 <= int(headers["Retry-After"]) <= 40
        assert f"Try again in {headers['Retry-After']} seconds" in body["error"]["message"]
        assert "x-should-retry" not in headers
        assert guard.records()[-1]["reason"] == "RateLimited"
        rig.api.date = NOON + 60

        async def passes() -> bool:
            return (await rig.post(guard))[0] == 200

        await until(passes, "a call of the next minute passes")


async def test_a_call_that_the_limit_never_lets_pass_is_not_tried_again(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path, budget=a_rate(tokens=5), date=NOON) as rig:
        status, body, headers = await rig.post(rig.guards[0])
        assert (status, headers["x-should-retry"]) == (429, "false")
        assert "Retry-After" not in headers
        assert "rateLimits.tokensPerMinute" in body["error"]["message"]
        assert rig.provider.answered == 0


async def test_the_official_sdks_raise_their_errors_for_a_rate_limit(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path, budget=a_rate(calls=1), date=NOON) as rig:
        url = f"http://127.0.0.1:{rig.guards[0].port}"
        async with openai.AsyncOpenAI(base_url=f"{url}/openai/v1", api_key=AGENT_KEY, max_retries=0) as client:
            await client.chat.completions.create(model=MODEL["openai"], messages=HELLO)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(model=MODEL["openai"], messages=HELLO)
        assert refused.value.code == "rate_limit_exceeded"
        assert int(refused.value.response.headers["Retry-After"]) > 0
        async with anthropic.AsyncAnthropic(base_url=f"{url}/anthropic", api_key=AGENT_KEY, max_retries=0) as other:
            with pytest.raises(anthropic.RateLimitError) as also:
                await other.messages.create(model=MODEL["anthropic"], max_tokens=9, messages=HELLO)
        body: Any = also.value.body
        assert (body["error"]["type"], body["error"]["reason"]) == ("rate_limit_error", "RateLimited")
        assert "error_code" not in body["error"]


@requirement("budget.rates")
async def test_calls_of_tools_count_for_an_agent_without_models_and_lists_do_not(bench: Bench) -> None:
    bench.api.date = NOON
    bench.api.set_ledger(OWN, Ledger())
    bundle = parse_bundle(a_bundle(["echo", "slow"], read_only=["drop"]))
    bench.api.set_bundle(dump_bundle(replace(bundle, budget=a_rate(calls=3))))

    async def is_refused() -> bool:
        return (await bench.client.call("echo", region="eu")).reason == "RateLimited"

    await until(is_refused, "the calls of the minute are made")
    refused = await bench.client.call("slow", region="eu", seconds=0)
    assert refused.reason == "RateLimited"
    assert "Try again in" in refused.text
    assert max(ledger.rate.taken.calls for _, ledger in bench.api.history) == 3
    listed = await bench.client.request("tools/list")
    assert listed.reason is None
