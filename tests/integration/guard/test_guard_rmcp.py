"""Servers of the official Rust SDK, of five of its releases, in front of a real guard and a real verifier.

Those before version 3 end at any first message but `initialize`.
"""

import asyncio
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from interlock_contract import mcp
from interlock_contract.bundle import Pin, dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habits import kept_running
from tests.integration.guard.harness import SOURCE, Client, Guard, a_bundle
from tests.integration.guard.learning import verify_on_pipes
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.rust_servers import BUILD_SECONDS, build_server, find_cargo

STRICT = ("0.8.5", "0.17.0", "1.8.0", "2.2.0")
"""Releases whose servers end at the probe."""


@pytest.mark.nightly
@pytest.mark.timeout(BUILD_SECONDS + 120)
@pytest.mark.skipif(find_cargo() is None, reason="cargo is not there")
@requirement("guard.first-message")
@pytest.mark.parametrize("version", [*STRICT, "3.11.0"])
async def test_a_server_of_the_rust_sdk_is_verified_and_called(
    api: FakeApiServer, guard: Guard, tmp_path: Path, version: str
) -> None:
    program = await asyncio.to_thread(build_server, version)
    verified = await verify_on_pipes([str(program)], tmp_path)
    assert verified.failure is None, verified.message
    assert version not in STRICT or verified.protocol in mcp.SESSION_VERSIONS
    pins = tuple(Pin(one.name, one.digest) for one in verified.tools or ())
    bundle = parse_bundle(a_bundle(["echo"]))
    source = replace(bundle.sources[0], pins=pins, protocol=verified.protocol)
    api.set_bundle(dump_bundle(replace(bundle, sources=(source,))))
    await guard.started()
    async with kept_running(guard.pipes / SOURCE, [str(program)]) as kept, aiohttp.ClientSession() as session:
        await until(lambda: guard.probe(f"/ready/{SOURCE}"), guard.log)
        answer = await Client(session, guard.url).call("echo", a="b")
        assert (answer.reason, answer.text) == (None, "b"), answer.body
        assert kept.starts == 1, "the guard begins with the version that the bundle names"
