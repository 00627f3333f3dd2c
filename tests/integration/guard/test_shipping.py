"""The guard's half of the way to the collector, against a stand-in that answers as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interlock_contract.audit_chain import Head, open_line, seal
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.audit.spool import Spool, SpoolLimits
from tests.support.bounds import until
from tests.support.ports import free_port

GUARD = "agents/pod/0000000000000001"
SMALL = SpoolLimits(capacity=100_000, reserve=1_000, segment=1_000, memory=1_000)


@dataclass
class StandIn:
    """Keeps what it receives, unless the test has it answer differently."""

    port: int = field(default_factory=free_port)
    answers: list[tuple[int, Any]] = field(default_factory=list)
    """What is answered first, before it takes anything in."""
    bodies: list[list[int]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    async def take(self, http: web.Request) -> web.Response:
        seqs = [open_line(line).seq for line in (await http.read()).splitlines()]
        self.bodies.append(seqs)
        self.queries.append(dict(http.query))
        self.tokens.append(http.headers["Authorization"])
        if self.answers:
            status, answer = self.answers.pop(0)
            return web.json_response(answer, status=status)
        self.kept += [seq for seq in seqs if seq not in self.kept]
        return web.json_response({"next": seqs[-1] + 1})


@dataclass
class Bench:
    spool: Spool
    stand_in: StandIn
    shipping: AuditShipper
    token: Path
    log: list[str]
    head: Head = field(default_factory=Head)

    def write(self, count: int) -> None:
        for _ in range(count):
            line, after = seal(GUARD, self.head, {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"})
            self.spool.append(line + b"\n", self.head.next, is_vital=False)
            self.head = after

    async def kept(self, count: int) -> None:
        await until(lambda: self.stand_in.kept == list(range(count)), f"{count} lines are kept, in order")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    stand_in = StandIn()
    app = web.Application()
    app.router.add_post("/v1/records", stand_in.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", stand_in.port).start()
    token, log = tmp_path / "token", list[str]()
    token.write_text("first\n")
    spool = Spool(tmp_path / "spool", SMALL, keeps=True)
    shipping = AuditShipper(spool, log.append, url=f"http://127.0.0.1:{stand_in.port}", token=token)
    task = asyncio.create_task(shipping.run())
    yield Bench(spool, stand_in, shipping, token, log)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    spool.close()
    await runner.cleanup()


async def test_lines_come_in_order_and_what_is_confirmed_is_freed(bench: Bench) -> None:
    bench.write(30)
    await bench.kept(30)
    await until(lambda: bench.shipping.shipped == 30, "all are confirmed")
    assert bench.spool.used <= SMALL.segment + 300


async def test_the_token_is_read_again_for_each_batch(bench: Bench) -> None:
    bench.write(1)
    await bench.kept(1)
    bench.token.write_text("second\n")
    bench.write(1)
    await bench.kept(2)
    assert bench.stand_in.tokens == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize(
    "answer",
    [
        (503, {"error": "Unavailable"}),
        (401, {"error": "Unauthenticated"}),
        (403, {"error": "NotYours"}),
        (302, {}),
        (409, "no object"),
        (409, {"error": "Gap", "next": "1"}),
        (409, {"error": "Gap", "next": 7}),
        (200, {"next": 1}),
        (200, {"next": True}),
        (200, {}),
    ],
    ids=json.dumps,
)
async def test_whatever_is_no_confirmation_frees_nothing_and_is_tried_again(
    bench: Bench, answer: tuple[int, Any]
) -> None:
    bench.stand_in.answers = [answer]
    bench.write(3)
    await bench.kept(3)
    assert bench.stand_in.bodies == [[0, 1, 2], [0, 1, 2]]
    assert "records wait in the spool" in bench.log[0]


async def test_a_gap_is_filled_from_the_spool(bench: Bench) -> None:
    bench.write(3)
    await bench.kept(3)
    bench.stand_in.answers = [(409, {"error": "Gap", "next": 1})]
    bench.stand_in.kept = [0]
    bench.write(1)
    await bench.kept(4)
    assert [query for query in bench.stand_in.queries if query] == []


async def test_what_is_nowhere_any_more_is_declared_lost_once(bench: Bench) -> None:
    bench.write(30)
    await bench.kept(30)
    bench.stand_in.answers = [(409, {"error": "Gap", "next": 2})]
    bench.write(10)
    await until(lambda: bench.stand_in.kept == list(range(40)), "all are there")
    declared = [query for query in bench.stand_in.queries if query]
    assert declared == [{"lost": "2"}]
    assert any(line.startswith("lines 2 to ") for line in bench.log)


async def test_a_collector_that_insists_on_lost_lines_is_not_retried_without_end(bench: Bench) -> None:
    bench.write(30)
    await bench.kept(30)
    bench.stand_in.answers = [(409, {"error": "Gap", "next": 2})] * 2
    bench.write(1)
    await until(lambda: any("told are lost" in line for line in bench.log), "it says so and waits")
    await bench.kept(31)


@pytest.mark.parametrize("answer", [(409, {"error": "Fork", "seq": 0}), (400, {"error": "Invalid"})], ids=json.dumps)
async def test_a_refused_chain_is_given_up_and_nothing_of_it_is_freed(bench: Bench, answer: tuple[int, Any]) -> None:
    bench.stand_in.answers = [answer]
    bench.write(30)
    await until(lambda: bench.shipping.stuck, "it is given up")
    used = bench.spool.used
    bench.write(30)
    await bench.shipping.finish(5)
    assert len(bench.stand_in.bodies) == 1
    assert bench.spool.used > used
    assert any(line.startswith("AUDIT RECORDS REFUSED") for line in bench.log)


async def test_a_damaged_line_in_the_spool_is_not_sent(bench: Bench, tmp_path: Path) -> None:
    line, _ = seal(GUARD, Head(), {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"})
    bench.spool.append(line.replace(b"2026", b"2025") + b"\n", 0, is_vital=False)
    await until(lambda: bench.shipping.stuck, "it is given up")
    assert bench.stand_in.bodies == []
    assert "damaged" in bench.log[0]


async def test_a_missing_token_is_said_and_waited_for(bench: Bench) -> None:
    bench.token.unlink()
    bench.write(1)
    await until(lambda: bool(bench.log), "it says so")
    bench.token.write_text("late")
    await bench.kept(1)


async def test_later_chains_go_on_after_one_that_was_given_up(tmp_path: Path, bench: Bench) -> None:
    first = Spool(tmp_path / "other", SMALL, keeps=True)
    line, _ = seal(GUARD, Head(), {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"})
    first.append(line + b"\n", 0, is_vital=False)
    first.close()
    second = Spool(tmp_path / "other", SMALL, keeps=True)
    later, _ = seal(GUARD.replace("1", "2"), Head(), {"kind": "decision", "time": "2026-03-02T09:00:00.000Z"})
    second.append(later + b"\n", 0, is_vital=False)
    bench.stand_in.answers = [(409, {"error": "Fork", "seq": 0})]
    shipping = AuditShipper(second, str, url=f"http://127.0.0.1:{bench.stand_in.port}", token=bench.token)
    await shipping.finish(5)
    assert (shipping.stuck, shipping.shipped) == (True, 1)
    assert second.used == len(line) + len(later) + 2
    second.close()
