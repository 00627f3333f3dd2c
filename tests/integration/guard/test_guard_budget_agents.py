"""Agents of common frameworks, unmodified, that call a tool in a loop until the budget of their guard stops them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelQuotaExceededError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from interlock_contract.budget.bundle_budget import BundleBudget
from tests.integration.guard.budget_rig import DOLLAR, OWN, BudgetRig, a_budget_rig, cost_of
from tests.integration.guard.fake_provider import MODEL, send
from tests.requirements import requirement
from tests.support.bounds import limit
from tests.support.keys import AGENT_KEY
from tests.support.scripted_model import chat_reply, tool_call

BUDGET = DOLLAR // 20
"""$0.05."""
USAGE = {"prompt_tokens": 2000, "completion_tokens": 50, "total_tokens": 2050}
COST = cost_of(2000, 50)
ENDLESS = 10_000
"""More turns than the budget pays for."""
LONGEST = 200
"""Tokens of an answer at most, as the agents ask for."""


class Looping:
    """A model that asks for the same tool in each answer, so that its agent never ends by itself."""

    def __init__(self, rig: BudgetRig) -> None:
        self.rig, self.answers = rig, 0

    async def answer(self, http: web.Request) -> web.StreamResponse:
        asked: dict[str, Any] = json.loads(await http.read())
        self.answers += 1
        message = tool_call(f"call-{self.answers}", "find_ticket", {"ticket": str(self.answers)})
        return await send(http, chat_reply(asked, f"c{self.answers}", message, USAGE))


@pytest.fixture
async def looping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Looping]:
    """A guard with a budget of $0.05, and a provider whose model loops."""
    for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"):
        monkeypatch.setenv(name, "false")
    async with a_budget_rig(tmp_path, budget=BundleBudget(OWN, BUDGET)) as rig:
        found = Looping(rig)
        rig.provider.answer = found.answer
        yield found


async def check_stopped(looping: Looping) -> None:
    """Check that the agent has used its budget, was stopped before its end, and did not go on."""
    rig, spent = looping.rig, looping.answers * COST
    assert BUDGET * 0.8 < spent <= BUDGET
    await rig.settled(spent)
    reasons = [one["reason"] for one in rig.guards[0].records()]
    assert (reasons.count("BudgetExhausted"), reasons[-1]) == (1, "BudgetExhausted")
    assert len(reasons) == looping.answers + 1  # nothing was tried again
    assert rig.most_committed() <= BUDGET


def find_ticket(ticket: str) -> str:
    """Look a ticket up."""
    return f"nothing is known of {ticket}"


def base_url(looping: Looping) -> str:
    return f"http://127.0.0.1:{looping.rig.guards[0].port}/openai/v1"


@requirement("budget.agents")
@pytest.mark.parametrize("streams", [False, True])
async def test_an_agent_of_langchain_stops_at_its_budget_with_the_exception_of_a_quota(
    looping: Looping,
    streams: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    async with httpx.AsyncClient() as http, limit(60, "the agent is stopped"):
        model = ChatOpenAI(
            model=MODEL["openai"],
            base_url=base_url(looping),
            api_key=AGENT_KEY,  # type: ignore[arg-type]
            streaming=streams,
            max_completion_tokens=LONGEST,  # type: ignore[call-arg]
            http_async_client=http,
        )
        agent = create_agent(model, [find_ticket])
        with pytest.raises(openai.RateLimitError) as error:
            await agent.ainvoke(
                {"messages": [{"role": "user", "content": "solve the ticket"}]}, {"recursion_limit": ENDLESS}
            )
    assert error.value.code == "insufficient_quota"
    await check_stopped(looping)


@requirement("budget.agents")
@pytest.mark.parametrize("streams", [False, True])
async def test_an_agent_of_pydantic_ai_stops_at_its_budget_with_the_exception_of_a_quota(
    looping: Looping,
    streams: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    client = openai.AsyncOpenAI(base_url=base_url(looping), api_key=AGENT_KEY)
    async with client, limit(60, "the agent is stopped"):
        provider = OpenAIProvider(openai_client=client)
        agent = Agent(
            OpenAIChatModel(MODEL["openai"], provider=provider),
            tools=[find_ticket],
            model_settings={"max_tokens": LONGEST},
        )

        async def solve() -> None:
            if streams:
                async with agent.run_stream("solve the ticket") as result:
                    await result.get_output()
            else:
                await agent.run("solve the ticket")

        with pytest.raises(ModelQuotaExceededError) as error:
            await solve()
    assert "BudgetExhausted" in str(error.value)
    await check_stopped(looping)
