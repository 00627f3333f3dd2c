"""The budget of a real guard: each call is reserved before it is forwarded, and costs what its answer says."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.tokens_per_byte import ModelTokens
from interlock_contract.strict_json import dump_json
from tests.integration.guard.budget_rig import DOLLAR, OWN, TOTAL, BudgetRig, a_budget_rig, are_open, cost_of
from tests.integration.guard.fake_provider import answer_of, endless_stream, events_of, stream, stream_after
from tests.integration.guard.model_rig import BEARER, CHAT, MESSAGES, chat, messages
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, check_promise, until


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[BudgetRig]:
    async with a_budget_rig(tmp_path) as found:
        yield found


def a_usage_event() -> bytes:
    """Return the event of a stream that was asked for its usage."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": []}
    return f"data: {json.dumps({**event, 'usage': usage})}\n\n".encode()


async def test_a_call_costs_what_its_answer_says(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    status, answer, _ = await rig.post(guard)
    assert (status, answer["usage"]["prompt_tokens"]) == (200, 100)
    (cost,) = await rig.costs(guard, 1)
    assert cost["usage"]["inputTokens"] == 100
    assert cost["usage"]["outputTokens"] == 10
    assert (cost["cost"], cost["costBasis"], cost["answeredModel"]) == ("0.00014", "Usage", "gpt-4o-mini")
    assert cost["priceBook"] == "9" * 64
    assert float(cost["reserved"]) >= float(cost["cost"])
    await guard.stop(15)
    assert rig.spent() == rig.committed() == cost_of(100, 10) == rig.provider.charged


@requirement("budget.tokens-per-byte", "budget.b12")
async def test_b12_the_ledger_gets_the_tokens_that_answers_reported_and_the_bytes_that_they_stand_for(
    rig: BudgetRig,
) -> None:
    (guard,) = rig.guards
    assert (await rig.post(guard))[0] == 200
    *events, end = events_of(CHAT, chat())
    rig.provider.answer = lambda http: stream(http, [*events, a_usage_event(), end])
    assert (await rig.post(guard, chat(stream=True)))[0] == 200
    await guard.stop(15)
    (counted,) = rig.api.ledgers[OWN].tokens
    sent = sum(len(dump_json(one.message)) for one in rig.provider.seen)
    shown = len("hello") + len("hello ü".encode())  # a whole answer, and a stream
    assert counted == ModelTokens("openai/gpt-4o-mini", counted.start, (2,), (sent,), (200,), (shown,), (20,))


async def test_a_body_without_a_limit_gets_one_and_the_standard_tier(rig: BudgetRig) -> None:
    assert (await rig.post(rig.guards[0], chat(temperature=0.5)))[0] == 200
    (seen,) = rig.provider.seen
    assert seen.message == chat(temperature=0.5, max_completion_tokens=4096, service_tier="default")


async def test_the_usage_that_only_the_guard_has_asked_for_is_taken_out_of_a_stream(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    *events, end = events_of(CHAT, chat())
    sent = [*events, a_usage_event(), end]
    rig.provider.answer = lambda http: stream(http, sent)
    status, passed, _ = await rig.post(guard, chat(stream=True))
    assert (status, passed) == (200, b"".join([*events, end]))
    assert rig.provider.seen[0].message["stream_options"] == {"include_usage": True}
    asked = chat(stream=True, stream_options={"include_usage": True})
    assert (await rig.post(guard, asked))[1] == b"".join(sent)
    costs = await rig.costs(guard, 2)
    assert [one["cost"] for one in costs] == ["0.00014", "0.00014"]


async def test_an_exhausted_budget_is_refused_as_each_provider_refuses_an_account_without_money(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    worst = await rig.worst_case()
    rig.set_budget(BundleBudget(OWN, worst))
    rig.provider.tokens = None
    await until(lambda: rig.committed() <= worst, "what is free is returned")
    for _ in range(20):
        status, answer, headers = await rig.post(guard)
        if status != 200:
            break
    assert status == 429
    assert (answer["error"]["type"], answer["error"]["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "(Interlock: BudgetExhausted)" in answer["error"]["message"]
    assert headers["x-should-retry"] == "false"
    status, answer, headers = await rig.post(guard, messages(), MESSAGES)
    assert (status, answer["type"], answer["error"]["type"]) == (429, "error", "rate_limit_error")
    assert answer["error"]["details"] == {"error_code": "enforced_spend_limit_reached"}
    assert headers["x-should-retry"] == "false"
    assert guard.records()[-1]["reason"] == "BudgetExhausted"
    assert "interlock_guard_budget_refused_total 2" in await guard.metrics()


async def test_a_model_without_a_price_is_refused(rig: BudgetRig) -> None:
    rig.set_budget(BundleBudget(OWN, DOLLAR), price=None)

    async def is_refused() -> bool:
        status, answer, _ = await rig.post(rig.guards[0])
        return status == 403 and answer["error"]["code"] == "PriceUnknown"

    await until(is_refused, "the bundle without a price is in force")


ENDS = {400: "Free", 404: "Free", 429: "Free", 500: "Reservation", 502: "Reservation", 503: "Free", 529: "Free"}


@pytest.mark.parametrize("status", ENDS)
async def test_a_refusal_of_the_provider_costs_nothing_and_a_failure_is_unknown(rig: BudgetRig, status: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=status)

    rig.provider.answer = refuse
    assert (await rig.post(rig.guards[0]))[0] == status
    (cost,) = await rig.costs(rig.guards[0], 1)
    assert cost["costBasis"] == ENDS[status]
    assert cost["cost"] == (cost["reserved"] if ENDS[status] == "Reservation" else "0.00")


BAD_USAGES: list[Any] = [
    None,
    {},
    "free",
    {"prompt_tokens": -5, "completion_tokens": 1},
    {"prompt_tokens": True, "completion_tokens": 1},
    {"prompt_tokens": 1.5, "completion_tokens": 1},
    {"prompt_tokens": 10**9 + 1, "completion_tokens": 1},
]


@pytest.mark.parametrize("usage", BAD_USAGES)
async def test_a_usage_that_cannot_be_read_is_charged_at_the_reservation(rig: BudgetRig, usage: Any) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({**answer_of(CHAT, chat()), "usage": usage})

    rig.provider.answer = answer
    assert (await rig.post(rig.guards[0]))[0] == 200
    (cost,) = await rig.costs(rig.guards[0], 1)
    assert (cost["costBasis"], cost["cost"]) == ("Reservation", cost["reserved"])
    assert 'interlock_guard_cost_alerts_total{alert="UsageUnknown"} 1' in await rig.guards[0].metrics()


async def test_a_client_that_hangs_up_is_charged_what_the_answer_says_in_the_end(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    events, goes_on = events_of(MESSAGES, messages()), asyncio.Event()
    rig.provider.answer = lambda http: stream_after(http, events, goes_on)
    url = f"http://127.0.0.1:{guard.port}{MESSAGES}"
    async with rig.http.post(url, json=messages(stream=True), headers=BEARER) as response:
        assert await response.content.readany()
        response.close()
    goes_on.set()
    (cost,) = await rig.costs(guard, 1)
    assert (cost["outcome"], cost["costBasis"]) == ("Abandoned", "Usage")
    assert (cost["usage"]["inputTokens"], cost["usage"]["outputTokens"]) == (3, 2)


@pytest.mark.parametrize("seconds", [0, 1])
async def test_an_answer_is_read_on_for_a_bounded_time_then_charged_at_the_reservation(
    tmp_path: Path, seconds: int
) -> None:
    async def answer(http: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        while True:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.01)

    async with a_budget_rig(tmp_path, budget=BundleBudget(OWN, DOLLAR, hang_up_seconds=seconds)) as rig:
        (guard,) = rig.guards
        rig.provider.answer = answer
        url = f"http://127.0.0.1:{guard.port}{CHAT}"
        async with rig.http.post(url, json=chat(stream=True), headers=BEARER) as response:
            assert await response.content.readany()
            response.close()
        await asyncio.wait_for(rig.provider.hung_up.wait(), 30)
        (cost,) = await rig.costs(guard, 1)
        assert (cost["outcome"], cost["costBasis"], cost["cost"]) == ("Abandoned", "Reservation", cost["reserved"])


async def test_a_kill_ends_a_call_immediately_and_its_cost_is_unknown(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.provider.gate.clear()
    call = asyncio.create_task(rig.post(guard))
    await until(lambda: rig.provider.answered == 1, "the call is under way")
    rig.api.kill("on")
    status, answer, _ = await asyncio.wait_for(call, 5 * TOLERANCE)
    assert (status, answer["error"]["code"]) == (503, "Killed")
    (cost,) = await rig.costs(guard, 1)
    assert (cost["outcome"], cost["costBasis"], cost["cost"]) == ("Killed", "Reservation", cost["reserved"])


async def test_a_kill_ends_a_call_whose_client_has_hung_up(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.provider.answer = endless_stream
    url = f"http://127.0.0.1:{guard.port}{CHAT}"
    async with rig.http.post(url, json=chat(stream=True), headers=BEARER) as response:
        assert await response.content.readany()
        response.close()
    rig.api.kill("on")
    await asyncio.wait_for(rig.provider.hung_up.wait(), 5 * TOLERANCE)
    (cost,) = await rig.costs(guard, 1)
    assert cost["outcome"] in {"Abandoned", "Killed"}  # whichever the guard has seen first
    assert (cost["costBasis"], cost["cost"]) == ("Reservation", cost["reserved"])


async def test_a_guard_that_ends_settles_the_calls_under_way(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.provider.gate.clear()
    call = asyncio.create_task(rig.post(guard))
    await until(lambda: rig.provider.answered == 1, "the call is under way")
    await guard.stop(15)
    with pytest.raises(aiohttp.ClientError):
        await call
    (cost,) = await rig.costs(guard, 1)
    assert cost["costBasis"] == "Reservation"
    assert rig.spent() == rig.committed() == round(float(cost["reserved"]) * DOLLAR)


@requirement("budget.crash")
async def test_a_guard_that_ends_as_soon_as_it_is_open_gives_back_what_a_killed_run_had(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    assert (await rig.post(guard))[0] == 200
    await rig.costs(guard, 1)
    await guard.stop()
    assert rig.committed() > rig.provider.charged
    rig.api.ledgers_talk.clear()
    await guard.start()
    await are_open([guard])
    ends = asyncio.create_task(guard.stop(15))
    await until(lambda: "SIGTERM: ending" in guard.log(), "it ends before it could settle the run before it")
    rig.api.ledgers_talk.set()
    assert await ends == 0
    assert rig.spent() == rig.committed() == rig.provider.charged


async def test_a_call_that_waits_for_money_is_answered_by_a_kill(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.api.has_ledgers = False
    first = asyncio.create_task(rig.post(guard))
    rig.api.kill("on")
    status, answer, _ = await asyncio.wait_for(first, 5 * TOLERANCE)
    assert (status, answer["error"]["code"]) == (503, "Killed")
    assert rig.provider.seen == []


@requirement("budget.b9")
async def test_without_the_ledger_a_call_that_does_not_fit_is_refused_and_passes_again_later(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.api.has_ledgers = False
    await until(lambda: rig.is_away(guard), "the guard knows that the ledger is away")
    began = asyncio.get_running_loop().time()
    status, answer, headers = await rig.post(guard)
    waited = asyncio.get_running_loop().time() - began
    assert (status, answer["error"]["code"], headers.get("x-should-retry")) == (503, "BudgetUnavailable", None)
    check_promise(waited, 1, "a call that does not fit is refused without the ledger")
    rig.api.has_ledgers = True

    async def passes() -> bool:
        return (await rig.post(guard))[0] == 200

    await until(passes, "calls pass again", 10 * TOLERANCE)


async def test_the_total_of_a_policy_limits_each_of_its_agents(rig: BudgetRig) -> None:
    (guard,) = rig.guards
    rig.set_budget(BundleBudget(OWN, DOLLAR, total_ledger=TOTAL, total_day=0))

    async def is_refused() -> bool:
        status, answer, _ = await rig.post(guard)
        return status == 429 and "of all agents of the policy" in answer["error"]["message"]

    await until(is_refused, "the total is in force")
