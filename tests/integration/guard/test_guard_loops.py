"""Identical calls on a real guard: refused once they are a loop, before money is spent, and reported if they kill."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.loops import BundleLoops, read_loops
from tests.integration.guard.budget_rig import a_budget_bundle, a_budget_rig, cost_of
from tests.integration.guard.conftest import TOOLS
from tests.integration.guard.fake_provider import a_bundle_with_models
from tests.integration.guard.harness import POD, Bench, a_bundle
from tests.integration.guard.model_rig import BEARER, CHAT, MESSAGES, Rig, a_model_rig, chat, messages
from tests.requirements import requirement
from tests.support.bounds import until

THREE = BundleLoops(3, 60)


def limited(text: str, loops: BundleLoops | None = THREE) -> str:
    return dump_bundle(replace(parse_bundle(text), loops=loops))


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[Rig]:
    async with a_model_rig(tmp_path) as rig:
        rig.api.set_bundle(limited(a_bundle_with_models(rig.provider.port)))
        await in_force(rig)
        yield rig


async def in_force(rig: Rig) -> None:
    """Wait until a loop of another prompt is refused."""

    async def is_refused() -> bool:
        return (await rig.post(CHAT, chat(messages=[{"role": "user", "content": "warm up"}])))[0] == 429

    await until(is_refused, "loops are refused")
    rig.provider.seen.clear()


async def post(rig: Rig, path: str, body: Any) -> tuple[int, Any, dict[str, str]]:
    async with rig.http.post(rig.url(path), json=body, headers=BEARER) as response:
        return response.status, await response.json(), dict(response.headers)


@requirement("loops.refused")
async def test_a_prompt_that_is_repeated_is_refused_as_the_providers_refuse_for_good(models: Rig) -> None:
    forms = (chat(), chat(stream=True, temperature=0.9), chat(max_completion_tokens=7, user="u"))
    statuses = [(await models.post(CHAT, form))[0] for form in forms]
    assert statuses == [200, 200, 429]
    status, answer, headers = await post(models, CHAT, chat())
    assert (status, answer["error"]["type"], answer["error"]["code"]) == (429, "rate_limit_error", "LoopDetected")
    assert "4 times in 60 s with the same prompt" in answer["error"]["message"]
    assert headers["x-should-retry"] == "false"
    assert "Retry-After" not in headers
    assert len(models.provider.seen) == 2

    for _ in range(3):
        status, answer, headers = await post(models, MESSAGES, messages())
    assert (status, answer["type"], answer["error"]["type"]) == (429, "error", "rate_limit_error")
    assert (answer["error"]["reason"], headers["x-should-retry"]) == ("LoopDetected", "false")


@requirement("loops.refused")
async def test_another_prompt_model_or_endpoint_passes(models: Rig) -> None:
    for _ in range(3):
        await models.post(CHAT, chat())
    for number in range(6):
        assert (await models.post(CHAT, chat(messages=[{"role": "user", "content": str(number)}])))[0] == 200
    assert models.guard.records()[-1]["decision"] == "Allow"


@requirement("loops.refused")
async def test_calls_that_are_denied_otherwise_do_not_count(models: Rig) -> None:
    for _ in range(5):
        assert (await models.post(CHAT, chat(model="gpt-5")))[0] == 403
    hosted = chat(tools=[{"type": "web_search"}])
    for _ in range(5):
        assert (await models.post(CHAT, hosted))[1]["error"]["code"] == "HostedToolNotAllowed"


@requirement("loops.refused")
async def test_without_terms_any_call_may_be_repeated(models: Rig) -> None:
    for _ in range(3):
        await models.post(CHAT, chat())
    models.api.set_bundle(limited(a_bundle_with_models(models.provider.port), None))

    async def passes() -> bool:
        return (await models.post(CHAT, chat()))[0] == 200

    await until(passes, "any call may be repeated")
    for _ in range(5):
        assert await passes()


@requirement("loops.refused")
async def test_a_loop_spends_no_money(tmp_path: Path) -> None:
    async with a_budget_rig(tmp_path) as rig:
        (guard,) = rig.guards
        rig.api.set_bundle(limited(a_budget_bundle(rig.provider.port)))
        await in_force(rig.rig(guard))
        answered, charged = rig.provider.answered, rig.provider.charged
        assert [(await rig.post(guard))[0] for _ in range(5)] == [200, 200, 429, 429, 429]
        assert rig.provider.answered - answered == 2
        assert rig.provider.charged - charged == 2 * cost_of(100, 10)
        await guard.stop(15)
        assert rig.spent() == rig.committed() == rig.provider.charged


@requirement("loops.refused")
async def test_a_tool_that_is_called_with_the_same_arguments_is_refused_with_a_tool_error(bench: Bench) -> None:
    bench.api.set_bundle(limited(a_bundle(TOOLS, read_only=["drop"])))
    await _tools_in_force(bench)
    calls = [{"text": "a", "region": "eu-west"}, {"region": "eu-west", "text": "a"}]
    assert [(await bench.client.call("echo", **one)).reason for one in calls] == [None, None]
    executed = len(bench.executed())
    answer = await bench.client.call("echo", **calls[0])
    assert (answer.status, answer.reason, answer.body["result"]["isError"]) == (200, "LoopDetected", True)
    assert "3 times in 60 s with the same arguments" in answer.text
    assert len(bench.executed()) == executed
    record = bench.guard.records()[-1]
    assert (record["decision"], record["reason"], record["operation"]) == ("Deny", "LoopDetected", "read")
    assert record["argumentsDigest"] == bench.guard.records()[-2]["argumentsDigest"]

    assert (await bench.client.call("echo", text="b")).reason is None
    assert (await bench.client.call("hinted", **calls[0])).reason != "LoopDetected"
    assert bench.api.lease is not None
    assert read_loops(bench.api.lease) == {}


async def _tools_in_force(bench: Bench) -> None:
    async def is_refused() -> bool:
        return (await bench.client.call("echo", text="warm up")).reason == "LoopDetected"

    await until(is_refused, "loops are refused")


@requirement("loops.refused")
async def test_denied_calls_of_tools_do_not_count(bench: Bench) -> None:
    bench.api.set_bundle(limited(a_bundle(TOOLS, read_only=["drop"])))
    await _tools_in_force(bench)
    reasons = {(await bench.client.call("drop")).reason for _ in range(6)}
    assert reasons == {"NotGrantedByBinding"}


@requirement("loops.kill")
async def test_a_loop_that_kills_is_refused_and_reported_once_with_its_evidence(bench: Bench) -> None:
    bench.api.set_bundle(limited(a_bundle(TOOLS, read_only=["drop"]), BundleLoops(3, 60, "Kill")))
    await _tools_in_force(bench)
    await until(lambda: POD in read_loops(bench.api.lease or {}), "the loop is reported")
    report = read_loops(bench.api.lease or {})[POD]
    assert (report.call, report.calls, report.window_seconds) == ("crm/echo", 3, 60)
    record = next(one for one in bench.guard.records() if one["reason"] == "LoopDetected")
    assert report.digest == record["argumentsDigest"]
    for _ in range(3):
        assert (await bench.client.call("echo", text="warm up")).reason == "LoopDetected"
    assert read_loops(bench.api.lease or {}) == {POD: report}
