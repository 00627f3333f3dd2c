"""What is measured: the provider itself, the guard with a budget, and the proxy of LiteLLM with its budgets."""

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.budget.load import Way, request_body
from benchmarks.budget.provider import CALL_NANODOLLARS, INPUT_NANODOLLARS, MODEL, OUTPUT_NANODOLLARS
from interlock_contract.budget.bundle_budget import BundleBudget
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.prices import PER_UNITS, ModelPrice, PriceRow
from tests.integration.guard.budget_rig import OWN, a_budget_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.fake_provider import KEY_FILES, REAL_KEYS
from tests.integration.guard.harness import Guard
from tests.integration.guard.model_rig import CHAT
from tests.support.bounds import until
from tests.support.keys import AGENT_KEY
from tests.support.ports import free_port
from tools.machine.environments import installed_program

ROOT = Path(__file__).parents[2]
PEER_KEY = "sk-bench-0123456789abcdef0123456789abcdef"
START_SECONDS = 120.0
NANO = 10**9


@dataclass(frozen=True)
class Target:
    """One way to the provider.

    Attributes:
        name: The way's name.
        way: Puts a load on it.
        pid: The process that is the way, 0 for the provider itself.
    """

    name: str
    way: Way
    pid: int = 0


class Provider:
    """The provider's process, and what its answers have cost."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def way(self) -> Way:
        """The way without anything between."""
        return Way(self.port, "/v1/chat/completions", "none")

    async def reset(self) -> int:
        """Return what the answers since the last reset have cost, in nano-dollars."""
        return await asyncio.to_thread(self._reset)

    def _reset(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/reset", timeout=10) as answer:
            counted: dict[str, int] = json.load(answer)
        return counted["nanodollars"]


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Start the provider."""
    found = Provider(free_port())
    async with _process([sys.executable, "-m", "benchmarks.budget.provider", str(found.port)], {}):
        await _answers(found.way)
        yield found


@asynccontextmanager
async def guard(folder: Path, found: Provider, calls: int) -> AsyncIterator[Target]:
    """The guard as it is deployed, its API server a stand-in, its records into a file.

    Args:
        folder: For its files.
        found: The provider.
        calls: How many calls of the provider the budget is enough for.
    """
    api = FakeApiServer(free_port())
    api.set_agent()
    api.set_ledger(OWN, Ledger())
    row = PriceRow(input=INPUT_NANODOLLARS * PER_UNITS, output=OUTPUT_NANODOLLARS * PER_UNITS)
    budget = BundleBudget(OWN, calls * CALL_NANODOLLARS)
    api.set_bundle(a_budget_bundle(found.port, price=ModelPrice((row,), 128_000), budget=budget))
    await api.start()
    process = Guard(api, folder, is_forked=False)
    keys = process.secrets.parent / ".models"
    keys.mkdir(parents=True)
    for name, file in KEY_FILES.items():
        (keys / file).write_text(f"{REAL_KEYS[name]}\n")
    await process.start()
    try:
        await until(lambda: process.probe("/readyz"), "the guard is open")
        assert process.process is not None
        yield Target("guard", Way(process.port, CHAT, AGENT_KEY), process.process.pid)
    finally:
        await process.stop()
        await api.stop()


@asynccontextmanager
async def peer(folder: Path, found: Provider, calls: int) -> AsyncIterator[Target]:
    """LiteLLM's proxy with one worker, the budget of its deployment and that of its provider, without a database.

    Args:
        folder: For its configuration.
        found: The provider.
        calls: How many calls of the provider the budget is enough for.
    """
    program, port = await asyncio.to_thread(installed_program, "litellm", "bench-budget-peer.txt"), free_port()
    limit = calls * CALL_NANODOLLARS / NANO
    parameters = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{found.port}/v1", "api_key": "none"}
    configuration = {
        "model_list": [
            {"model_name": MODEL, "litellm_params": {**parameters, "max_budget": limit, "budget_duration": "1d"}}
        ],
        "router_settings": {
            "provider_budget_config": {"openai": {"budget_limit": limit, "time_period": "1d"}},
            "num_retries": 0,
        },
        "litellm_settings": {"num_retries": 0, "telemetry": False},
    }
    file = folder / f"litellm-{calls}.json"
    file.write_text(json.dumps(configuration), encoding="utf-8")
    command = [str(program), "--config", str(file), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    variables = {"LITELLM_MASTER_KEY": PEER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    async with _process(command, variables) as process:
        way = Way(port, "/v1/chat/completions", PEER_KEY)
        await _answers(way)
        yield Target("litellm", way, process.pid)


@asynccontextmanager
async def _process(command: list[str], variables: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        async with asyncio.timeout(START_SECONDS):
            await process.wait()


async def _answers(way: Way) -> None:
    """Wait until a way to the provider answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            await way.load(1, body=request_body(), calls=1)
        except (ConnectionError, OSError):
            if time.monotonic() > end:
                raise
            await asyncio.sleep(0.1)
        else:
            return
