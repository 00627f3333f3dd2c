"""The verification of servers over HTTP with habits of those that users have."""

import time
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import Bundle, parse_bundle
from interlock_contract.http_target import HttpTarget
from interlock_contract.verification import PlannedProbe, VerificationFailure, VerificationPlan, VerificationResult
from interlock_guard.upstream.sources import build_upstream
from interlock_guard.verification import verifier
from tests.integration.guard.habit_server import TOOLS, WITHOUT_SESSIONS, HabitServer
from tests.integration.guard.harness import SOURCE, a_bundle_over_http
from tests.requirements import requirement
from tests.support.bounds import limit


def bundle_of(server: HabitServer) -> Bundle:
    bundle = parse_bundle(
        a_bundle_over_http(TOOLS, HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), None))
    )
    return replace(bundle, sources=(replace(bundle.sources[0], pins=()),))


async def verify(server: HabitServer, folder: Path, *probes: PlannedProbe) -> VerificationResult:
    build = partial(build_upstream, log=lambda _: None, pipes=folder, secrets=folder, dialable={"127.0.0.1"})
    async with limit(60, "the server is verified"):
        return await verifier.verify(VerificationPlan("run-1", SOURCE, probes), bundle_of(server), build)


@requirement("http.habits")
@pytest.mark.parametrize(
    "habit",
    [
        "plain",
        "stateless",
        "get_404",
        "stateless_get_404",
        "get_ends",
        "long_session",
        "initialized_500",
        "no_ping_404",
    ],
)
async def test_a_server_of_this_habit_is_verified_with_one_session(tmp_path: Path, habit: str) -> None:
    server = HabitServer(habit)
    await server.start()
    probe = PlannedProbe("look", "echo", {}, "Success", 10_000)
    refused = PlannedProbe("refused", "refused", {}, "Error", 10_000)
    result = await verify(server, tmp_path, probe, refused, probe)
    assert (result.failure, result.probes, result.message) == (None, 3, "")
    assert server.counts["initialize"] == 1
    assert server.deleted == ([] if habit in WITHOUT_SESSIONS else list(server.sessions))
    await server.stop()


@requirement("http.pause")
async def test_a_server_that_refuses_initialize_is_asked_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier, "INITIALIZE_SECONDS", 3.0)
    server = HabitServer("unauthorized")
    await server.start()
    began = time.monotonic()
    result = await verify(server, tmp_path)
    assert result.failure is VerificationFailure.SERVER_UNAVAILABLE
    assert "does not accept the guard's credentials (HTTP 401)" in result.message
    # Pauses of 0.1, 0.2, 0.4 ... s, a fourth less at random, leave room for so many.
    assert 0.075 * (2 ** (server.counts["initialize"] - 1) - 1) <= time.monotonic() - began
    await server.stop()
