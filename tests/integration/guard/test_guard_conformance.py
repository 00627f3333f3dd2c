"""The official conformance suite against a known server, directly and through the guard."""

import asyncio
import re
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard
from tests.integration.guard.known import KNOWN, a_known_server
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.offspring import end_with_parent
from tests.support.ports import free_port

SUITE_SECONDS = 100
SCENARIOS = 32
REFUSED_BY_POLICY: dict[str, str] = {}
"""Scenarios that pass directly and may fail through the guard, and why: none, since the bundle maps what they need."""

VERDICT = re.compile(r"^([✓✗]) ([a-z0-9-]+): (\d+) passed, (\d+) failed$", re.MULTILINE)


async def conformance(node: Path, node_modules: Path, url: str, folder: Path) -> dict[str, tuple[int, int]]:
    """Run every scenario of the suite; return how many of its checks passed and failed, by scenario."""
    program = node_modules / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    process = await asyncio.create_subprocess_exec(
        *(node, program, "server", "--url", url, "--suite", "all", "--output-dir", folder / "results"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        preexec_fn=end_with_parent,
    )
    async with asyncio.timeout(SUITE_SECONDS):
        out, _ = await process.communicate()
    verdicts = {name: (int(passed), int(failed)) for _, name, passed, failed in VERDICT.findall(out.decode())}
    assert len(verdicts) == SCENARIOS, out.decode()
    return verdicts


def failed(verdicts: dict[str, tuple[int, int]]) -> set[str]:
    return {name for name, (_, failures) in verdicts.items() if failures}


@pytest.mark.nightly  # no guard takes part: it shows that the server of the tests is a good measure
@requirement("guard.conformance")
async def test_the_known_server_passes_the_suite_without_a_guard(
    node: Path, node_modules: Path, tmp_path: Path
) -> None:
    port = free_port()
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", KNOWN, "http", str(port)), preexec_fn=end_with_parent
    )

    async def answers() -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
                return response.status == 404
        except aiohttp.ClientError:
            return False

    try:
        await until(answers, "the known server answers")
        verdicts = await conformance(node, node_modules, f"http://127.0.0.1:{port}/mcp", tmp_path)
    finally:
        server.kill()
        await server.wait()
    assert failed(verdicts) == set()


@pytest.mark.parametrize("protocol", ["--session-based", "--both"])
@requirement("guard.conformance")
async def test_what_passes_without_the_guard_passes_through_it(
    api: FakeApiServer, guard: Guard, node: Path, node_modules: Path, protocol: str
) -> None:
    async with a_known_server(api, guard, protocol):
        verdicts = await conformance(node, node_modules, guard.url, guard.folder)
    assert failed(verdicts) == REFUSED_BY_POLICY.keys()
    passed = sum(passes for passes, _ in verdicts.values())
    assert passed >= 43
    spoken = "2025-11-25" if protocol == "--session-based" else "2026-07-28"
    assert f"speaks {spoken}" in guard.log()
