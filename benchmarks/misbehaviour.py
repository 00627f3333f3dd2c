"""What a misbehaving MCP server costs a guard: `python -m benchmarks.misbehaviour`. The last line is JSON.

For each misbehaviour a guard process serves one such server for some seconds. The rates are those of a second:
initializations and lists as the server receives them, bytes of the guard's log, and processor time of the guard. Then
one call is made. `--operator` names the folder `operator` of another version of the project, for a comparison.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from interlock_contract.http_target import HttpTarget
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habit_server import HabitServer
from tests.integration.guard.habits import PROGRAM, kept_running
from tests.integration.guard.harness import SOURCE, Client, Guard, a_bundle, a_bundle_over_http
from tests.support.operator_process import cpu_seconds
from tests.support.ports import free_port

ON_PIPES = {
    "ends_at_once": "ends",
    "ends_at_the_probe": "strict",
    "list_changed_while_listing": "changes_while_listing",
    "list_changed_1000_a_second": "storm=1000",
    "garbage_1000_a_second": "garbage=1000",
}
"""Misbehaviours of servers on pipes, and the habit of the tests' server."""
OVER_HTTP = {"get_404": "get_404", "loses_each_session": "loses_sessions"}
TOOLS = ["echo"]
SETTLE_SECONDS = 1.0
CALL_SECONDS = 10.0
RESTART_SECONDS = 0.01
"""The pause before an ended server is started again; a kubelet takes longer, so this is the guard's own rate."""


@dataclass
class Counters:
    """What a server has received so far."""

    initializations: int
    lists: int


@asynccontextmanager
async def on_pipes(api: FakeApiServer, guard: Guard, habit: str) -> AsyncIterator[Callable[[], Counters]]:
    """Serve the guard with a server on pipes."""
    log = guard.folder / "habit"
    api.set_bundle(a_bundle(TOOLS))
    await guard.started()

    def count() -> Counters:
        lines = log.read_text().splitlines() if log.exists() else []
        begins = guard.log().count(" begins")
        return Counters(begins, sum('"list"' in line for line in lines))

    async with kept_running(
        guard.pipes / SOURCE, [sys.executable, str(PROGRAM), habit, str(log)], longest_pause=RESTART_SECONDS
    ):
        yield count


@asynccontextmanager
async def over_http(api: FakeApiServer, guard: Guard, habit: str) -> AsyncIterator[Callable[[], Counters]]:
    """Serve the guard with a server over HTTP."""
    server = HabitServer(habit)
    await server.start()
    api.set_bundle(a_bundle_over_http(TOOLS, HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), None)))
    await guard.started()
    yield lambda: Counters(server.counts["initialize"], server.counts["tools/list"])
    await server.stop()


async def call(url: str) -> str:
    """Return how a call of the server ended."""
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return (await Client(session, url).call("echo")).reason or "answered"
        except TimeoutError:
            return f"no answer in {CALL_SECONDS:.0f} s"


async def measure(serve: Callable[..., Any], habit: str, seconds: float, operator: Path) -> dict[str, Any]:
    """Return the rates of one misbehaviour."""
    with tempfile.TemporaryDirectory() as folder:
        api = FakeApiServer(free_port())
        api.set_agent()
        await api.start()
        paths = [str(operator), *sys.path]
        guard = Guard(api, Path(folder), is_forked=False, more={"PYTHONPATH": os.pathsep.join(paths)})
        api.set_bundle(a_bundle(TOOLS))
        await guard.start()
        assert guard.process is not None
        try:
            async with serve(api, guard, habit) as count:
                await asyncio.sleep(SETTLE_SECONDS)
                before, log, spent = count(), len(guard.log()), cpu_seconds(guard.process.pid)
                await asyncio.sleep(seconds)
                after = count()
                found = {
                    "initializations_per_second": (after.initializations - before.initializations) / seconds,
                    "lists_per_second": (after.lists - before.lists) / seconds,
                    "log_bytes_per_second": (len(guard.log()) - log) / seconds,
                    "cpu_percent": 100 * (cpu_seconds(guard.process.pid) - spent) / seconds,
                }
                return {name: round(rate, 2) for name, rate in found.items()} | {"call": await call(guard.url)}
        finally:
            await guard.stop()
            await api.stop()


async def run(seconds: float, operator: Path) -> dict[str, Any]:
    """Measure each misbehaviour."""
    found = {}
    for serve, habits in ((on_pipes, ON_PIPES), (over_http, OVER_HTTP)):
        for name, habit in habits.items():
            found[name] = await measure(serve, habit, seconds, operator)
            print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.misbehaviour", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement (default: 10)")
    parser.add_argument("--operator", type=Path, default="operator", help="the folder operator of another version")
    arguments = parser.parse_args()
    print(json.dumps(asyncio.run(run(arguments.seconds, arguments.operator.absolute()))))


if __name__ == "__main__":
    main()
