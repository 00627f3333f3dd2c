"""What clients of a guard see of its budget: official SDKs, MCP clients whose tools cost, callers with tasks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from aiohttp import web
from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Exhausted, Ledger, LedgerWindow
from interlock_contract.bundle import BundleTasks, dump_bundle, parse_bundle
from interlock_contract.clock import utc_now
from tests.integration.guard.budget_rig import DOLLAR, OWN, BudgetRig, a_budget_bundle, a_budget_rig
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_provider import MODEL, answer_of
from tests.integration.guard.harness import Bench, Guard, a_bundle
from tests.integration.guard.model_rig import BEARER, CHAT, chat
from tests.integration.guard.tasking import TaskAgent, TaskBench, a_bundle_with_tasks
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def poor(tmp_path: Path) -> AsyncIterator[BudgetRig]:
    """A guard whose budget pays for no call."""
    async with a_budget_rig(tmp_path, budget=BundleBudget(OWN, 1)) as found:
        yield found


def denials(rig: BudgetRig) -> list[str]:
    return [one["reason"] for one in rig.guards[0].records()]


async def test_the_openai_sdk_raises_its_error_for_an_account_without_money_and_does_not_retry(
    poor: BudgetRig,
) -> None:
    url = f"http://127.0.0.1:{poor.guards[0].port}/openai/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key=AGENT_KEY, max_retries=5) as client:
        with pytest.raises(openai.RateLimitError) as chat_error:
            await client.chat.completions.create(model=MODEL["openai"], messages=HELLO)  # type: ignore[arg-type]
        with pytest.raises(openai.RateLimitError) as stream_error:
            await client.chat.completions.create(model=MODEL["openai"], messages=HELLO, stream=True)  # type: ignore[call-overload]
        with pytest.raises(openai.RateLimitError) as responses_error:
            await client.responses.create(model=MODEL["openai"], input="hello")
    for error in (chat_error, stream_error, responses_error):
        assert (error.value.code, error.value.type) == ("insufficient_quota", "insufficient_quota")
    assert denials(poor) == ["BudgetExhausted"] * 3
    assert poor.provider.seen == []


async def test_the_anthropic_sdk_raises_its_error_for_a_spend_limit_and_does_not_retry(poor: BudgetRig) -> None:
    url = f"http://127.0.0.1:{poor.guards[0].port}/anthropic"
    async with anthropic.AsyncAnthropic(base_url=url, api_key=AGENT_KEY, max_retries=5) as client:
        with pytest.raises(anthropic.RateLimitError) as error:
            await client.messages.create(model=MODEL["anthropic"], max_tokens=9, messages=HELLO)  # type: ignore[arg-type]
    assert error.value.error_code == "enforced_spend_limit_reached"
    assert denials(poor) == ["BudgetExhausted"]
    assert poor.provider.seen == []


async def test_a_limit_that_the_guard_has_set_is_not_in_the_answer_of_the_responses_api(tmp_path: Path) -> None:
    async def answer(http: web.Request) -> web.Response:
        asked = json.loads(await http.read())
        usage = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
        body = {**answer_of(http.path, asked), "max_output_tokens": asked["max_output_tokens"], "usage": usage}
        return web.json_response(body)

    async with a_budget_rig(tmp_path) as rig:
        rig.provider.answer = answer
        url = f"http://127.0.0.1:{rig.guards[0].port}/openai/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=AGENT_KEY) as client:
            found = await client.responses.create(model=MODEL["openai"], input="hello")
            limited = await client.responses.create(model=MODEL["openai"], input="hello", max_output_tokens=99)
        assert (found.max_output_tokens, found.output_text) == (None, "hello")
        assert limited.max_output_tokens == 99
        costs = await rig.costs(rig.guards[0], 2)
        assert [one["usage"]["outputTokens"] for one in costs] == [2, 2]


def a_bundle_whose_echo_costs(cost: int, limit: int) -> str:
    bundle = parse_bundle(a_bundle(["echo", "slow"], read_only=["drop"]))
    (source,) = bundle.sources
    tools = tuple(replace(tool, cost_per_call=cost if tool.name == "echo" else 0) for tool in source.tools)
    budget = BundleBudget(OWN, limit)
    return dump_bundle(replace(bundle, sources=(replace(source, tools=tools),), budget=budget))


async def test_a_tool_that_costs_is_refused_without_money_and_others_go_on(bench: Bench) -> None:
    bench.api.set_ledger(OWN, Ledger())
    bench.api.set_bundle(a_bundle_whose_echo_costs(DOLLAR // 4, DOLLAR))

    async def costs() -> bool:
        await bench.client.call("echo", region="eu")
        return any("cost" in line for line in bench.guard.lines())

    await until(costs, "calls of the tool cost")
    for _ in range(3):
        answer = await bench.client.call("echo", region="eu")
        assert answer.reason is None
    refused = await bench.client.call("echo", region="eu")
    assert refused.reason == "BudgetExhausted"
    free = await bench.client.call("slow", region="eu", seconds=0)
    assert free.reason is None, free.text
    paid = [line for line in bench.guard.lines() if line["kind"] == "outcome" and "cost" in line]
    assert [(line["cost"], line["costBasis"]) for line in paid] == [("0.25", "Flat")] * 4
    await until(lambda: bench.api.ledgers[OWN].day.spent == DOLLAR, "the ledger has them")


async def test_tasks_are_refused_while_the_budget_is_exhausted_until_its_next_window(
    api: FakeApiServer, tmp_path: Path
) -> None:

    agent = TaskAgent()
    await agent.start()
    now = int(utc_now().timestamp())
    window = LedgerWindow(now - 100, now + 900, spent=DOLLAR)
    api.set_ledger(OWN, Ledger(day=window, month=window, exhausted=Exhausted(now - 50, "day", 1000, "a/1")))
    bundle = parse_bundle(a_bundle_with_tasks(agent.port))
    api.set_bundle(dump_bundle(replace(bundle, budget=BundleBudget(OWN, DOLLAR))))
    guard = Guard(api, tmp_path)
    await guard.start()
    async with aiohttp.ClientSession() as session:
        bench = TaskBench(api, guard, agent, session)

        async def is_refused() -> bool:
            async with session.post(f"{bench.guard.task_url}/task", json={}) as response:
                told = await response.json() if response.status == 429 else {}
                if response.status != 429:
                    return False
                assert told["error"]["data"]["reason"] == "BudgetExhausted"
                assert 0 < int(response.headers["Retry-After"]) <= 900
                return True

        await until(is_refused, "tasks are refused")
        api.set_ledger(OWN, Ledger(day=replace(window, spent=0), month=replace(window, spent=0)))

        async def passes() -> bool:
            async with session.post(f"{bench.guard.task_url}/task", json={}) as response:
                return response.status == 200

        await until(passes, "tasks pass again")
    await guard.stop()
    await agent.stop()


async def call_for(rig: BudgetRig, task: str = "") -> tuple[int, dict[str, Any]]:
    """Call a model and name a task; return the status and the answer."""
    url = f"http://127.0.0.1:{rig.guards[0].port}{CHAT}"
    headers = {**BEARER, "Interlock-Task": task}
    async with rig.http.post(url, json=chat(max_completion_tokens=10), headers=headers) as response:
        return response.status, await response.json()


async def send_task(url: str) -> None:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        await response.read()


async def begin_task(guard: Guard, agent: TaskAgent) -> tuple[asyncio.Task[None], str]:
    """Send a task that the agent holds; return it and its id."""
    known = len(agent.seen)
    held = asyncio.create_task(send_task(f"{guard.task_url}/hold"))
    await until(lambda: len(agent.seen) > known, "the agent has the task")
    (name,) = agent.seen[-1].values("Interlock-Task")
    return held, name


@pytest.fixture
async def agent() -> AsyncIterator[TaskAgent]:
    found = TaskAgent()
    await found.start()
    yield found
    await found.stop()


@requirement("budget.task")
async def test_a_task_that_has_spent_its_budget_is_refused_further_calls_and_others_go_on(
    agent: TaskAgent, tmp_path: Path
) -> None:
    async with a_budget_rig(tmp_path) as rig:
        (guard,) = rig.guards
        worst = await rig.worst_case()
        rig.provider.tokens = None  # calls cost about their worst case
        bundle = parse_bundle(a_budget_bundle(rig.provider.port, budget=BundleBudget(OWN, DOLLAR, per_task=worst)))
        rig.api.set_bundle(dump_bundle(replace(bundle, tasks=BundleTasks(agent.port, 4))))

        async def is_open() -> bool:
            async with rig.http.get(f"{guard.task_url}/status/200") as response:
                return response.status == 200

        await until(is_open, "tasks pass")
        first, name = await begin_task(guard, agent)
        assert (await call_for(rig))[0] == 200
        for named in ("", name, "0" * 32):
            status, answer = await call_for(rig, named)
            assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
            assert "(Interlock: TaskBudgetExhausted)" in answer["error"]["message"]
        assert [one["reason"] for one in guard.records()][-3:] == ["TaskBudgetExhausted"] * 3
        second, other = await begin_task(guard, agent)
        assert (await call_for(rig))[0] == 429, "it counts against the first task, too"
        assert (await call_for(rig, other))[0] == 200
        agent.release.set()
        await asyncio.wait([first, second])

        async def passes() -> bool:
            return (await call_for(rig))[0] == 200

        await until(passes, "calls outside of tasks have the budget of the day alone")


@requirement("budget.task")
async def test_a_tool_that_costs_is_refused_beyond_the_budget_of_a_task(bench: Bench, agent: TaskAgent) -> None:
    bench.api.set_ledger(OWN, Ledger())
    bundle = parse_bundle(a_bundle_whose_echo_costs(DOLLAR // 4, 100 * DOLLAR))
    assert bundle.budget is not None
    budget = replace(bundle.budget, per_task=DOLLAR // 2)
    bench.api.set_bundle(dump_bundle(replace(bundle, budget=budget, tasks=BundleTasks(agent.port, 4))))

    async def costs() -> bool:
        await bench.client.call("echo", region="eu")
        return any("cost" in line for line in bench.guard.lines())

    await until(costs, "calls of the tool cost")
    held, _ = await begin_task(bench.guard, agent)
    reasons = [(await bench.client.call("echo", region="eu")).reason for _ in range(3)]
    assert reasons == [None, None, "TaskBudgetExhausted"]
    agent.release.set()
    await held

    async def passes() -> bool:
        return (await bench.client.call("echo", region="eu")).reason is None

    await until(passes, "calls outside of the task pass")
