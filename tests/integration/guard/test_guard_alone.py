"""A guard in a pod of its own: where it listens, by what name it is called, what the egress check sees of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import MCP_PATH, Guard
from tests.requirements import requirement
from tests.support.bounds import until

ALONE = {"INTERLOCK_LISTEN": "127.0.0.2", "INTERLOCK_HOST": "guard"}  # callers here come from 127.0.0.1
BODY = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture
async def alone(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[Guard]:
    guard = Guard(api, tmp_path, more=ALONE, is_forked=False)
    await guard.start()
    await guard.started()
    yield guard
    await guard.stop()


async def status(guard: Guard, path: str, host: str, *, at: str = "127.0.0.2") -> int:
    url = f"http://{at}:{guard.port}{path}"
    headers = {"Host": host}
    async with aiohttp.ClientSession() as session:
        if path == "/ready":
            async with session.get(url, headers=headers) as answer:
                return answer.status
        async with session.post(url, headers=headers, json=BODY) as answer:
            return answer.status


async def test_it_answers_to_its_name_and_to_no_other(alone: Guard) -> None:
    assert await status(alone, MCP_PATH, f"guard:{alone.port}") == 200
    for host in (f"127.0.0.2:{alone.port}", f"127.0.0.1:{alone.port}", f"localhost:{alone.port}", "guard", "guard:1"):
        assert await status(alone, MCP_PATH, host) == 403, host
        assert await status(alone, "/ready", host) == 403, host


async def test_the_guard_listens_at_the_configured_address_and_at_no_other(alone: Guard) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        await status(alone, MCP_PATH, f"guard:{alone.port}", at="127.0.0.1")


@requirement("isolation.egress-check")
async def test_the_egress_check_sees_the_guard_ready_only_while_it_decides_on_requests(
    alone: Guard, api: FakeApiServer
) -> None:
    host = f"guard:{alone.port}"

    async def says(wanted: int) -> bool:
        return await status(alone, "/ready", host) == wanted

    await until(lambda: says(200), "it is ready")
    api.kill("INC-1")
    await until(lambda: says(503), "killed, it is not")
