"""The MCP project's own server over HTTP behind the guard, which forgets its sessions when it is started again."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from interlock_contract.http_target import HttpTarget
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Client, Guard, a_bundle_over_http
from tests.integration.guard.learning import learn_over_http
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

pytestmark = pytest.mark.timeout(120)


@dataclass
class Everything:
    """`server-everything` over streamable HTTP: it answers 400 for a session that it does not know."""

    command: list[str]
    port: int = field(default_factory=free_port)
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self.command,
            env={**os.environ, "PORT": str(self.port)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=end_with_parent,
        )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        async with asyncio.timeout(WAIT_SECONDS):
            await self.process.wait()


@pytest.fixture
async def everything(api: FakeApiServer, guard: Guard, node: Path, node_modules: Path) -> AsyncIterator[Everything]:
    program = node_modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    server = Everything([str(node), str(program), "streamableHttp"])
    await server.start()
    target = HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), ca_file=None)
    api.pins = await learn_over_http(target, guard.folder)
    api.set_bundle(a_bundle_over_http(["echo"], target))
    await guard.source_ready()
    yield server
    await server.kill()


@requirement("http.once")
async def test_a_server_that_was_restarted_is_initialized_again_and_called_on(
    everything: Everything, guard: Guard
) -> None:
    async with aiohttp.ClientSession() as session:
        client = Client(session, guard.url)
        assert "hello" in (await client.call("echo", message="hello")).text
        await everything.kill()
        await everything.start()

        async with asyncio.timeout(60):
            while "hello" not in (answer := await client.call("echo", message="hello")).text:
                assert answer.reason == "ServerUnavailable", answer.body
                await asyncio.sleep(0.1)
