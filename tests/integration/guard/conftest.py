"""Fixtures of the guard's integration tests: a real process and real pipes; only the API server is a stand-in."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.guard.collecting import Collector, Reviews
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import SCRIPTED, SOURCE, Bench, Client, Guard, StdioServer, a_bundle
from tests.integration.guard.postgresql import Postgresql, programs, run_postgresql
from tests.support.ports import free_port

TOOLS = [
    "echo",
    "slow",
    "never",
    "half_line",
    "large",
    "ask",
    "invalid_json",
    "unknown_id",
    "progress",
    "progress_forever",
    "two_steps",
    "hinted",
]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL server for the tests of a module."""
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL server on this machine: install Debian's `postgresql`")
    yield from run_postgresql(found)


@pytest.fixture
async def api() -> AsyncIterator[FakeApiServer]:
    server = FakeApiServer(free_port())
    server.set_agent()
    server.set_bundle(a_bundle(TOOLS, read_only=["drop"]))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def guard(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[Guard]:
    process = Guard(api, tmp_path)
    await process.start()
    yield process
    await process.stop()


@pytest.fixture
async def bench(api: FakeApiServer, guard: Guard, tmp_path: Path) -> AsyncIterator[Bench]:
    executed = tmp_path / "executed"
    server = StdioServer(guard.pipes / SOURCE, [sys.executable, str(SCRIPTED), str(executed)])
    await guard.started()
    await server.start()
    await guard.source_ready()
    async with aiohttp.ClientSession() as session:
        yield Bench(api, guard, server, Client(session, guard.url), executed)
    await server.kill()


@pytest.fixture
async def collector(tmp_path: Path) -> AsyncIterator[Collector]:
    """A collector on SQLite, running."""
    reviews = Reviews()
    await reviews.start()
    process = Collector(reviews, tmp_path / "collector")
    await process.start()
    yield process
    await process.stop()
    await reviews.stop()
