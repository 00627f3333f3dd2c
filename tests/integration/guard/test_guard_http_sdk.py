"""The official Python SDK's server over HTTP behind the guard, in each protocol version, and its client before it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mcp import Client as SdkClient

from interlock_contract.http_target import HttpTarget, TargetHeader
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard, a_bundle_over_http
from tests.integration.guard.learning import learn_over_http
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

SERVER = Path(__file__).parent / "programs" / "sdk_http_server.py"
CANARY = "canary-77aa01"


@dataclass
class SdkServer:
    """A server of the SDK behind the guard, and what it received."""

    protocol: str
    seen: Path

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.seen.read_text().splitlines()]


@pytest.fixture
async def server(
    request: pytest.FixtureRequest, api: FakeApiServer, guard: Guard, tmp_path: Path
) -> AsyncIterator[SdkServer]:
    port = free_port()
    (guard.secrets / "0").write_text(CANARY)
    target = HttpTarget(f"http://127.0.0.1:{port}/mcp", "Private", (TargetHeader("X-Key", None, "0"),), ca_file=None)
    found = SdkServer(request.param, tmp_path / "seen")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, SERVER, str(port), found.protocol, found.seen),
        stderr=asyncio.subprocess.DEVNULL,
        preexec_fn=end_with_parent,
    )
    api.pins = await learn_over_http(target, guard.folder)
    api.set_bundle(a_bundle_over_http(["add", "count"], target))
    await guard.source_ready()
    yield found
    process.kill()
    async with asyncio.timeout(WAIT_SECONDS):
        await process.wait()


@pytest.mark.parametrize(
    ("server", "mode"),
    [
        ("session-based", "auto"),  # the guard translates between the versions of client and server
        ("both", "legacy"),
        pytest.param("session-based", "legacy", marks=pytest.mark.nightly),
        pytest.param("both", "auto", marks=pytest.mark.nightly),
    ],
    indirect=["server"],
)
@requirement("http.serves")
async def test_the_sdks_client_lists_and_calls_through_the_guard(server: SdkServer, guard: Guard, mode: str) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with SdkClient(guard.url, mode=mode) as client:
        assert sorted(tool.name for tool in (await client.list_tools()).tools) == ["add", "count"]
        assert "5" in str((await client.call_tool("add", {"left": 2, "right": 3})).content)
        assert (await client.call_tool("secret", {})).is_error
        failed = await client.call_tool("add", {"left": "two"})
        assert failed.is_error
        counted = await client.call_tool("count", {"steps": 3}, progress_callback=on_progress)
    assert "counted" in str(counted.content)
    assert seen == [1, 2, 3]

    sessionless = [one for one in server.requests() if one["headers"].get("mcp-protocol-version", "") > "2026"]
    called = [one for one in sessionless if one["headers"].get("mcp-method") == "tools/call"]
    assert bool(called) == (server.protocol == "both"), "the guard speaks the newest version that the server does"
    assert {one["headers"]["x-key"] for one in server.requests()} == {CANARY}
