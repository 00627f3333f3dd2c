"""What the guard adds to a tools/call: `python -m benchmarks.guard`. The last line is JSON.

The same cheap stdio server is reached in four ways, in turn, round after round: by its own pipes, through a
pass-through that does nothing else, through the guard with everything on (decision, scope, record), and through a peer.
Latencies are the client's, of one connection; throughput is that of sixteen. Processor time is that of the process in
the middle alone.
"""

import argparse
import json
import statistics
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.guard.targets import Target, bare, direct, guard, peer
from tests.support.operator_process import cpu_seconds

WIDTH = 16
WARM_UP_CALLS = 200
CALLS = {"direct": 2000, "bare": 2000, "guard": 2000, "mcp-proxy": 200}
BUSY_SECONDS = 4.0
MANY = 10**9


@dataclass
class Figures:
    """What the rounds have shown of one target: milliseconds, calls per second, microseconds a call."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """Return the medians over the rounds."""
        return {
            "p50_ms": round(statistics.median(self.p50), 3),
            "p99_ms": round(statistics.median(self.p99), 3),
            "calls_per_second": round(statistics.median(self.per_second)),
            "cpu_us_per_call": round(statistics.median(self.cpu), 1),
        }


async def measure(target: Target, figures: Figures) -> None:
    """Do one round with one target."""
    await calls(target, 1, WARM_UP_CALLS, BUSY_SECONDS)
    quiet = await calls(target, 1, CALLS[target.name], 30.0)
    cuts = statistics.quantiles(quiet, n=100)
    figures.p50.append(1000 * cuts[49])
    figures.p99.append(1000 * cuts[98])
    before = cpu_seconds(target.pid) if target.pid else 0.0
    busy = await calls(target, WIDTH, MANY, BUSY_SECONDS)
    spent = (cpu_seconds(target.pid) if target.pid else 0.0) - before
    figures.per_second.append(len(busy) / BUSY_SECONDS)
    figures.cpu.append(1e6 * spent / len(busy))


async def calls(target: Target, width: int, count: int, seconds: float) -> list[float]:
    """Put a load on and return the latencies in seconds."""
    tally = await target.load(width, count, seconds)
    if tally.wrong is not None:
        raise SystemExit(f"{target.name} answered something else than the echo: {tally.wrong.decode(errors='replace')}")
    return tally.latencies


def rss_mib(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise SystemExit(f"process {pid} has ended")


async def run(rounds: int, many: int, folder: Path) -> dict[str, float]:
    """Measure all targets in turn, then the guard's memory after many calls."""
    found: dict[str, Figures] = defaultdict(Figures)
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(way) for way in (direct(), bare(), guard(folder), peer())]
        ours = targets[2]
        idle = rss_mib(ours.pid)
        for _ in range(rounds):
            for target in targets:
                await measure(target, found[target.name])
        await calls(ours, WIDTH, many // WIDTH, 600.0)
        after = rss_mib(ours.pid)
    medians = {name: figures.medians() for name, figures in found.items()}
    for name, figures in medians.items():
        print(f"{name}: {json.dumps(figures)}", flush=True)
    return summary(medians) | {
        "rss_mib": idle,
        "rss_mib_after_100k": after,
        "start_seconds": round(ours.start_seconds, 2),
        "peer_start_seconds": round(targets[3].start_seconds, 2),
        "rounds": rounds,
    }


def summary(medians: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return what is compared from version to version."""
    ours, least, other, none = (medians[name] for name in ("guard", "bare", "mcp-proxy", "direct"))
    return {
        "added_p50_ms": round(ours["p50_ms"] - none["p50_ms"], 3),
        "added_p99_ms": round(ours["p99_ms"] - none["p99_ms"], 3),
        "bare_added_p50_ms": round(least["p50_ms"] - none["p50_ms"], 3),
        "peer_added_p50_ms": round(other["p50_ms"] - none["p50_ms"], 3),
        "calls_per_second": ours["calls_per_second"],
        "bare_calls_per_second": least["calls_per_second"],
        "peer_calls_per_second": other["calls_per_second"],
        "direct_calls_per_second": none["calls_per_second"],
        "cpu_ratio_to_bare": round(ours["cpu_us_per_call"] / least["cpu_us_per_call"], 2),
        "cpu_us_per_call": ours["cpu_us_per_call"],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=100_000, help="calls before the memory is read again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        print(json.dumps(uvloop.run(run(arguments.rounds, arguments.calls, Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
