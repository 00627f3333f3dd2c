"""Records of a real guard process: killed in the middle, with a full disk, and what they say of a call."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
from collections import Counter
from typing import Any

import aiohttp
import pytest

from interlock_audit.verify import OK, main
from interlock_contract.audit_chain import Line, open_line
from interlock_contract.canonical_json import canonicalize, digest_of
from tests.integration.guard.harness import Bench, Client, a_bundle
from tests.requirements import requirement
from tests.support.bounds import until, until_count


def spooled(bench: Bench) -> list[Line]:
    files = sorted(bench.guard.spool.iterdir())
    return [open_line(line) for path in files for line in path.read_bytes().splitlines()]


def allowed(lines: list[Line]) -> Counter[str]:
    return Counter(str(one.fields["argumentsDigest"]) for one in lines if one.fields.get("decision") == "Allow")


def executed(bench: Bench) -> Counter[str]:
    return Counter(digest_of(canonicalize(entry["arguments"])) for entry in bench.executed())


@requirement("records.kill")
async def test_a_guard_killed_under_load_leaves_a_record_of_every_call_that_it_forwarded(bench: Bench) -> None:
    numbers = itertools.count()

    async def load() -> None:
        with contextlib.suppress(aiohttp.ClientError):
            async with aiohttp.ClientSession() as session:
                while True:
                    await Client(session, bench.guard.url).call("echo", n=next(numbers))

    for target in (40, 137, 250):
        clients = [asyncio.create_task(load()) for _ in range(8)]
        await until(lambda target=target: len(bench.executed()) >= target, "the server has got so many calls")  # type: ignore[misc]
        await bench.guard.stop(signal.SIGKILL)
        await asyncio.gather(*clients)
        await bench.restart()
    lines = spooled(bench)
    done, recorded = executed(bench), allowed(lines)
    assert len(done) == done.total() >= 250
    assert done - recorded == Counter()
    assert Counter(line.kind for line in lines)["genesis"] == 3
    files = [str(path) for path in sorted(bench.guard.spool.iterdir())]
    assert main(files) == OK


async def test_standard_output_is_the_same_chain_as_the_spool(bench: Bench) -> None:
    await bench.client.call("echo", n=1)
    await bench.client.call("drop")
    await bench.guard.stop(signal.SIGTERM)
    assert [line.fields for line in spooled(bench)] == bench.guard.lines()
    assert main([str(bench.guard.folder / "records")]) == OK


async def test_the_end_of_each_forwarded_call_is_recorded(bench: Bench) -> None:
    await bench.client.call("echo", n=1)
    await bench.client.request("tools/list")
    waiting = asyncio.create_task(bench.client.call("never"))
    await until(lambda: "never" in bench.executed_names(), "the server has the call")
    waiting.cancel()
    await until_count(lambda: len(outcomes(bench)), 3, "the third call has ended, too")
    assert [one["outcome"] for one in outcomes(bench)] == ["Answered", "Answered", "Abandoned"]
    decisions = {line["seq"] for line in bench.guard.records()}
    assert {one["of"] for one in outcomes(bench)} == decisions
    assert all(0 < one["latencySeconds"] < 60 for one in outcomes(bench))


async def test_a_call_whose_server_ended_has_that_as_its_outcome(bench: Bench) -> None:
    assert (await bench.client.call("half_line")).reason == "ServerUnavailable"
    assert [one["outcome"] for one in outcomes(bench)] == ["ServerUnavailable"]


def outcomes(bench: Bench) -> list[dict[str, Any]]:
    return [line for line in bench.guard.lines() if line["kind"] == "outcome"]


async def test_task_and_trace_of_the_caller_are_recorded(bench: Bench) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    meta = {"interlock.dev/task": "ticket-7", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    await bench.client.request("tools/call", {"name": "echo", "arguments": {}, "_meta": meta})
    headers = {"Interlock-Task": "ticket-8", "traceparent": meta["traceparent"]}
    await bench.client.request("tools/call", {"name": "echo", "arguments": {}}, headers)
    assert [(one["task"], one["trace"]) for one in bench.guard.records()] == [("ticket-7", trace), ("ticket-8", trace)]


def limit_files(bench: Bench, size: int) -> None:
    """Let no file of the guard grow beyond a size: a write fails then as it does on a full disk, with another word."""
    assert bench.guard.process is not None
    resource.prlimit(bench.guard.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def free_files(bench: Bench) -> None:
    limit_files(bench, resource.RLIM_INFINITY)


@pytest.fixture
async def writing(bench: Bench) -> Bench:
    """A bench whose guard grants writes, and writes no file but its spool."""
    await bench.guard.stop()
    for name in ("records", "log"):
        (bench.guard.folder / name).unlink()
        (bench.guard.folder / name).symlink_to(os.devnull)
    bench.api.set_bundle(a_bundle(["echo"], writable=["slow"]))
    bench.guard.more = {"INTERLOCK_SPOOL_BYTES": "2000000"}
    await bench.restart()
    return bench


@requirement("records.unavailable")
async def test_a_disk_that_refuses_stops_writes_at_once_and_lets_reads_go_on_for_a_while(writing: Bench) -> None:
    assert (await writing.client.call("slow", seconds=0)).reason is None
    limit_files(writing, sum(path.stat().st_size for path in writing.guard.spool.iterdir()))
    refused = await writing.client.call("slow", seconds=0.01)
    assert refused.reason == "AuditUnavailable"
    assert "the disk refuses it" in refused.text
    assert (await writing.client.call("echo", n=1)).reason is None
    assert "interlock_guard_audit_spool_held_bytes 0\n" not in await writing.guard.metrics()
    free_files(writing)
    assert (await writing.client.call("slow", seconds=0.02)).reason is None
    assert "interlock_guard_audit_spool_held_bytes 0\n" in await writing.guard.metrics()
    await writing.guard.stop(signal.SIGTERM)
    assert executed(writing) - allowed(spooled(writing)) == Counter()
    assert [entry["arguments"] for entry in writing.executed()] == [{"seconds": 0}, {"n": 1}, {"seconds": 0.02}]
    assert main([str(path) for path in sorted(writing.guard.spool.iterdir())]) == OK


@requirement("records.unavailable")
async def test_reads_end_too_once_there_is_no_room_left_at_all(writing: Bench) -> None:
    limit_files(writing, 0)

    async def is_refused() -> bool:
        answers = await asyncio.gather(*(writing.client.call("echo", text="x" * 40_000) for _ in range(16)))
        return all(answer.reason == "AuditUnavailable" for answer in answers)

    await until(is_refused, "reads are refused as well")
    free_files(writing)
    assert (await writing.client.call("echo", n=1)).reason is None
