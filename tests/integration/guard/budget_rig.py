"""Guards with a budget in front of one provider, which counts what it would charge."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_contract.bundle import dump_bundle, parse_bundle
from interlock_contract.model_access import ModelAccess
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_provider import KEY_FILES, REAL_KEYS, FakeProvider, a_bundle_with_models
from tests.integration.guard.harness import Guard
from tests.integration.guard.model_rig import BEARER, CHAT, Rig, chat
from tests.support.bounds import BoundMissed, until
from tests.support.ports import free_port

OWN, TOTAL = "support-triage.staging", "support.total"
DOLLAR = 10**9
INPUT, OUTPUT = DOLLAR, 4 * DOLLAR
"""Nano-dollars for a million tokens: 1000 a token of input, 4000 a token of output."""
PRICE = ModelPrice((PriceRow(input=INPUT, output=OUTPUT),), 128_000)


def cost_of(tokens_in: int, tokens_out: int) -> int:
    """Return what a usage costs, in nano-dollars."""
    return (tokens_in * INPUT + tokens_out * OUTPUT) // 10**6


def check_passed(passed: int, paid_for: int) -> None:
    """Check that exactly those calls have passed for which there is money, or room in the minute.

    Raises:
        AssertionError: More have passed.
        BoundMissed: Fewer have passed. A call waits two seconds for its money, however busy the machine is.
    """
    assert passed <= paid_for, f"{passed} calls have passed, {paid_for} were paid for"
    if passed < paid_for:
        raise BoundMissed(f"not within the 2 s that a call waits: {paid_for - passed} of {paid_for} got their money")


def a_budget_bundle(port: int, *, price: ModelPrice | None = PRICE, budget: BundleBudget | None = None) -> str:
    """Return a bundle whose models have a price, and whose agent has a budget."""
    bundle = parse_bundle(a_bundle_with_models(port))
    assert bundle.models is not None
    providers = tuple(
        replace(one, models=tuple(replace(model, price=price) for model in one.models))
        for one in bundle.models.providers
    )
    models = ModelAccess(providers, price_book="9" * 64)
    return dump_bundle(replace(bundle, models=models, budget=budget or BundleBudget(OWN, DOLLAR)))


class CountingProvider(FakeProvider):
    """A provider that answers chat completions, and adds up what it charges."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.charged = self.answered = 0
        self.tokens: tuple[int, int] | None = 100, 10
        """Tokens of input and output of each answer; None for as many as the request allows."""
        self.gate = asyncio.Event()
        """Answers wait for it."""
        self.gate.set()
        self.answer = self.complete

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """Charge a call as soon as it comes, and answer it."""
        asked = json.loads(await http.read())
        tokens_in, tokens_out = self.tokens or (len(await http.read()), asked["max_completion_tokens"])
        self.charged += cost_of(tokens_in, tokens_out)
        self.answered += 1
        await self.gate.wait()
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "assistant", "content": "hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice]}
        return web.json_response({**body, "usage": usage})


@dataclass
class BudgetRig:
    """Guards of one agent, their ledgers and their provider."""

    api: FakeApiServer
    provider: CountingProvider
    guards: list[Guard]
    http: aiohttp.ClientSession

    def rig(self, guard: Guard) -> Rig:
        return Rig(self.api, guard, self.provider, self.http)

    def set_budget(self, budget: BundleBudget, *, price: ModelPrice | None = PRICE) -> None:
        """Give the guards a bundle."""
        self.api.set_bundle(a_budget_bundle(self.provider.port, price=price, budget=budget))

    async def post(self, guard: Guard, body: Any = None, path: str = CHAT) -> tuple[int, Any, dict[str, str]]:
        url = f"http://127.0.0.1:{guard.port}{path}"
        async with self.http.post(url, json=body or chat(max_completion_tokens=10), headers=BEARER) as response:
            text = await response.read()
            is_json = response.content_type == "application/json"
            return response.status, json.loads(text) if is_json else text, dict(response.headers)

    async def worst_case(self) -> int:
        """Return what the default call reserves, by the record of one."""
        status, _, _ = await self.post(self.guards[0])
        assert status == 200
        (cost,) = await self.costs(self.guards[0], 1)
        reserved: str = cost["reserved"]
        return round(float(reserved) * DOLLAR)

    async def costs(self, guard: Guard, count: int) -> list[dict[str, Any]]:
        """Return the records of the ends of the first calls."""

        def found() -> list[dict[str, Any]]:
            return [line for line in guard.lines() if line["kind"] == "outcome" and "cost" in line]

        await until(lambda: len(found()) >= count, lambda: f"{count} calls have ended: {found()}")
        return found()[:count]

    async def is_away(self, guard: Guard) -> bool:
        return "interlock_guard_budget_away 1" in await guard.metrics()

    def spent(self, name: str = OWN) -> int:
        return self.api.ledgers[name].day.spent

    def committed(self, name: str = OWN) -> int:
        return self.api.ledgers[name].committed("day")

    async def settled(self, expected: int, name: str = OWN) -> None:
        await until(lambda: self.spent(name) == expected, lambda: f"{expected} spent: {self.api.ledgers[name]}")

    def most_committed(self, name: str = OWN) -> int:
        """Return the most that was spent or in open slices in any version of the ledger."""
        return max(ledger.committed("day") for found, ledger in self.api.history if found == name)


@asynccontextmanager
async def a_budget_rig(
    folder: Path,
    *,
    guards: int = 1,
    budget: BundleBudget | None = None,
    lease_seconds: float = 30.0,
    date: float | None = None,
) -> AsyncIterator[BudgetRig]:
    """Start guards that are open, and their provider."""
    api, provider = FakeApiServer(free_port()), CountingProvider(free_port())
    async with AsyncExitStack() as stack:
        api.date = date
        await provider.start()
        stack.push_async_callback(provider.stop)
        api.set_agent()
        await api.start()
        stack.push_async_callback(api.stop)
        connector = aiohttp.TCPConnector(limit=0)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        found = BudgetRig(api, provider, [], http)
        found.set_budget(budget or BundleBudget(OWN, DOLLAR))
        for number in range(guards):
            guard = build_guard(api, folder / str(number), number, lease_seconds)
            await guard.start()
            stack.push_async_callback(guard.stop)
            found.guards.append(guard)
        await are_open(found.guards)
        yield found


def build_guard(api: FakeApiServer, folder: Path, number: int = 0, lease_seconds: float = 30.0) -> Guard:
    """Return a guard that has the keys of the provider, not yet started."""
    folder.mkdir(parents=True)
    guard = Guard(api, folder, lease_seconds, pod_uid=f"0b9f6c1e-1c5e-4c53-9a0e-00000000000{number}")
    keys = folder / "secrets" / ".models"
    keys.mkdir(parents=True)
    for name, file in KEY_FILES.items():
        (keys / file).write_text(f"{REAL_KEYS[name]}\n")
    return guard


async def are_open(guards: Sequence[Guard]) -> None:
    """Wait until each guard is open."""
    for guard in guards:
        await until(lambda guard=guard: guard.probe("/readyz"), "the guard is open")
