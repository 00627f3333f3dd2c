"""What a budget costs, and what it holds: `python -m benchmarks.budget`. The last line is JSON.

One provider counts what its answers cost. The agent reaches it directly, through the guard with a budget, and through
LiteLLM's proxy with the budgets of its deployment and of its provider, which keeps them in memory, without a database.

* Overspend: 256 calls at a time until nothing passes, with a budget that is enough for BUDGET_CALLS calls.
* Time: one connection, then sixteen, with a budget that is never spent.
* Streams: processor time for each event of 200 bytes, and the pause of a stream while a prompt of 350 KB is decided on.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from benchmarks.budget.load import Way, request_body
from benchmarks.budget.provider import CALL_NANODOLLARS, EVENTS
from benchmarks.budget.targets import NANO, Provider, Target, guard, peer, provider
from benchmarks.guard.__main__ import rss_mib
from tests.support.operator_process import cpu_seconds

BUDGET_CALLS = 40
"""Calls that the small budget is enough for."""
MANY_CALLS = 10_000_000
PARALLEL = 256
WIDTH = 16
WARM_UP_CALLS = 100
SINGLE_CALLS = {"direct": 2000, "guard": 2000, "litellm": 200}
BUSY_SECONDS = 4.0
STREAMS = 16
LONG_PROMPT = 350_000


async def overspend(target: Target, found: Provider) -> float:
    """Return by how many dollars a target passes a budget for BUDGET_CALLS calls."""
    await found.reset()
    tally = await target.way.load(PARALLEL, body=request_body(), calls=4)
    spent = await found.reset()
    limit = BUDGET_CALLS * CALL_NANODOLLARS
    print(f"{target.name}: budget ${limit / NANO:.4f}, spent ${spent / NANO:.4f}, answers {tally.answers}", flush=True)
    if 200 not in tally.answers:
        raise SystemExit(f"{target.name} let nothing pass: {tally.refused.decode(errors='replace')}")
    return max(0, spent - limit) / NANO


async def latencies(target: Target) -> dict[str, float]:
    """Return the latencies of one connection in milliseconds, of answers and of the first bytes of streams."""
    await target.way.load(1, body=request_body(), calls=WARM_UP_CALLS)
    tally = await target.way.load(1, body=request_body(), calls=SINGLE_CALLS[target.name])
    streams = await target.way.load(1, body=request_body(is_stream=True), calls=10)
    cuts = statistics.quantiles(tally.latencies, n=100)
    return {
        "p50_ms": 1000 * cuts[49],
        "p99_ms": 1000 * cuts[98],
        "first_byte_ms": 1000 * statistics.median(streams.first_bytes),
    }


async def busy(target: Target) -> float:
    """Return the answers per second of sixteen connections."""
    tally = await target.way.load(WIDTH, body=request_body(), seconds=BUSY_SECONDS)
    if set(tally.answers) != {200}:
        raise SystemExit(f"{target.name} refused calls: {tally.refused.decode(errors='replace')}")
    return tally.answers[200] / BUSY_SECONDS


async def cpu_of_events(target: Target) -> float:
    """Return the processor time of a target for each event of a stream, in microseconds."""
    await target.way.load(1, body=request_body(is_stream=True), calls=2)
    before = cpu_seconds(target.pid)
    tally = await target.way.load(STREAMS, body=request_body(is_stream=True), calls=4)
    return 1e6 * (cpu_seconds(target.pid) - before) / (EVENTS * tally.answers[200])


async def longest_stall(way: Way) -> float:
    """Return the longest pause of a stream, in milliseconds, while other connections send long prompts."""
    long = request_body(prompt="word " * (LONG_PROMPT // 5))

    async def prompts() -> None:
        for _ in range(10):
            await way.load(1, body=long, calls=1)

    stream, _ = await asyncio.gather(way.load(1, body=request_body(is_stream=True), calls=4), prompts())
    return 1000 * max(stream.pauses)


async def run(rounds: int, folder: Path) -> dict[str, float]:
    """Measure all targets in turn, round after round."""
    figures: dict[str, dict[str, list[float]]] = {}
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(provider())
        async with guard(folder / "small", found, BUDGET_CALLS) as small:
            ours_over = await overspend(small, found)
        async with peer(folder, found, BUDGET_CALLS) as small:
            peer_over = await overspend(small, found)
        ours = await stack.enter_async_context(guard(folder / "large", found, MANY_CALLS))
        other = await stack.enter_async_context(peer(folder, found, MANY_CALLS))
        idle = rss_mib(ours.pid)
        for _ in range(rounds):
            for target in (Target("direct", found.way), ours, other):
                seen = figures.setdefault(target.name, {})
                measured = {**await latencies(target), "per_second": await busy(target)}
                if target.pid:
                    measured["cpu_us"] = await cpu_of_events(target)
                for name, value in measured.items():
                    seen.setdefault(name, []).append(value)
        stalls = [await longest_stall(way) - await _pause(way) for way in (ours.way,)]
        after = rss_mib(ours.pid)
    return summary(figures) | {
        "overspend_usd": round(ours_over, 6),
        "peer_overspend_usd": round(peer_over, 6),
        "stall_ms": round(max(stalls), 3),
        "rss_mib": after,
        "rss_mib_idle": idle,
        "rounds": rounds,
    }


async def _pause(way: Way) -> float:
    """Return the longest pause of a stream, in milliseconds, with nothing next to it."""
    return 1000 * max((await way.load(1, body=request_body(is_stream=True), calls=4)).pauses)


def summary(figures: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Return what is compared from version to version: medians over the rounds."""
    medians = {name: {key: statistics.median(values) for key, values in seen.items()} for name, seen in figures.items()}
    for name, seen in medians.items():
        print(f"{name}: {json.dumps({key: round(value, 3) for key, value in seen.items()})}", flush=True)
    direct, ours, other = medians["direct"], medians["guard"], medians["litellm"]
    return {
        "added_p50_ms": round(ours["p50_ms"] - direct["p50_ms"], 3),
        "added_p99_ms": round(ours["p99_ms"] - direct["p99_ms"], 3),
        "added_first_byte_ms": round(ours["first_byte_ms"] - direct["first_byte_ms"], 3),
        "peer_added_p50_ms": round(other["p50_ms"] - direct["p50_ms"], 3),
        "requests_per_second": round(ours["per_second"]),
        "peer_requests_per_second": round(other["per_second"]),
        "ratio": round(ours["per_second"] / other["per_second"], 1),
        "cpu_us_per_chunk": round(ours["cpu_us"], 1),
        "peer_cpu_us_per_chunk": round(other["cpu_us"], 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        print(json.dumps(uvloop.run(run(arguments.rounds, Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
