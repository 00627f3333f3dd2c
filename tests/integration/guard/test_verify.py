"""`python -m interlock_guard verify` as its Job runs it: the server on pipes that another process made."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_contract.bundle import BundleTool, dump_bundle, parse_bundle
from interlock_contract.verification import (
    PLAN_KEY,
    Expectation,
    PlannedProbe,
    VerificationFailure,
    VerificationInvalid,
    VerificationPlan,
    VerificationResult,
    dump_plan,
    dump_result,
    parse_plan,
    parse_result,
)
from tests.integration.guard.fake_api_server import NAMESPACE, RESULT, FakeApiServer
from tests.integration.guard.habits import PROGRAM as HABITS
from tests.integration.guard.habits import kept_running
from tests.integration.guard.harness import SCRIPTED, SOURCE, StdioServer, a_bundle, scripted_definition
from tests.requirements import requirement
from tests.support.fork_server import fork_server

MAPPED = ["echo", "slow", "never"]


@dataclass
class Bench:
    """A verifier's surroundings, and a scripted server."""

    api: FakeApiServer
    folder: Path
    server: StdioServer
    log: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    async def run(self, *arguments: str) -> int:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "INTERLOCK_NAMESPACE": NAMESPACE,
            "INTERLOCK_RESULT": RESULT,
            "INTERLOCK_SOURCE": SOURCE,
            "INTERLOCK_API_SERVER": self.api.url,
            "INTERLOCK_CREDENTIALS": str(self.folder),
            "INTERLOCK_PLAN": str(self.folder),
            "INTERLOCK_PIPES": str(self.folder / "pipes"),
            "INTERLOCK_SECRETS": str(self.folder / "secrets"),
            **self.environment,
        }
        with (self.folder / "verifier.log").open("wb") as log:
            process = fork_server("interlock_guard").start(environment, log.fileno(), log.fileno(), arguments)
        try:
            async with asyncio.timeout(50):
                code = await process.wait()
        finally:
            process.send_signal(signal.SIGKILL)
        self.log = (self.folder / "verifier.log").read_text()
        return code

    def plan(self, bundle: str, *probes: PlannedProbe) -> None:
        (self.folder / "bundle.json").write_text(bundle)
        (self.folder / PLAN_KEY).write_text(dump_plan(VerificationPlan("run-1", SOURCE, probes)))

    async def verify(self, bundle: str, *probes: PlannedProbe) -> VerificationResult:
        """Verify as a pod does: pipes, server, verifier."""
        self.plan(bundle, *probes)
        assert await self.run("pipes") == 0
        await self.server.start()
        assert await self.run("verify") == 0, self.log
        return parse_result(self.api.result)

    def executed(self) -> list[str]:
        path = self.folder / "executed"
        return (
            [json.loads(line).get("name", "cancelled") for line in path.read_text().splitlines()]
            if path.exists()
            else []
        )


@pytest.fixture
async def bench(api: FakeApiServer, tmp_path: Path) -> AsyncIterator[Bench]:
    (tmp_path / "token").write_text("a-token\n")
    server = StdioServer(tmp_path / "pipes" / SOURCE, [sys.executable, str(SCRIPTED), str(tmp_path / "executed")])
    yield Bench(api, tmp_path, server)
    await server.kill()


def probe(tool: str, expect: Expectation = "Success", *, within: float = 10.0, **arguments: Any) -> PlannedProbe:
    return PlannedProbe("look", tool, arguments, expect, round(within * 1000))


@requirement("verify.client")
async def test_mapped_tools_are_found_and_their_digests_and_unmapped_tools_are_reported(bench: Bench) -> None:
    bench.api.refuses_results = 2
    result = await bench.verify(a_bundle(MAPPED, read_only=["drop"]), probe("echo"), probe("drop", "Denied"))
    assert (result.failure, result.probes, result.protocol) == (None, 2, "2025-11-25")
    assert {tool.name: tool.digest for tool in result.tools or ()} == {
        name: scripted_definition(name) for name in (*MAPPED, "drop")
    }
    assert json.loads((result.tools or ())[0].definition)["name"] == "drop"
    assert "hidden" in result.unmapped
    assert bench.executed() == ["echo"], "what must be denied is not sent"
    assert "Bearer a-token" in bench.api.tokens


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (probe("never", within=0.3), "probe look of tool never: it took more than 0.3 s"),
        (probe("echo", "Error"), "it ended as Success, but Error is expected"),
        (probe("echo", "Denied"), "the binding lets it pass, but Denied is expected"),
        (probe("drop"), "the binding denies it, but Success is expected: delete on 'contacts'"),
        (probe("hidden"), "the binding denies it, but Success is expected: This tool is not available"),
        (probe("half_line"), "ended before it answered"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@requirement("verify.client")
async def test_a_probe_that_ends_otherwise_fails_the_verification(
    bench: Bench, asked: PlannedProbe, words: str
) -> None:
    result = await bench.verify(a_bundle([*MAPPED, "half_line"], read_only=["drop"]), asked)
    assert result.failure is VerificationFailure.PROBE_FAILED
    assert words in result.message
    assert result.tools, "what was listed is reported all the same"
    assert "drop" not in bench.executed()


@requirement("verify.client")
async def test_a_mapped_tool_that_the_server_does_not_have_is_named(bench: Bench) -> None:
    result = await bench.verify(a_bundle(["echo", "ehco"]), probe("echo"))
    assert (result.failure, bench.executed()) == (VerificationFailure.TOOLS_MISSING, [])
    assert result.message.startswith("the server has no tool ehco: correct the name in spec.tools")
    assert ". It has " in result.message
    assert "drop" in result.message.partition(". It has ")[2]


async def test_a_glob_that_takes_in_nothing_is_no_missing_tool(bench: Bench) -> None:
    bundle = parse_bundle(a_bundle(["echo"]))
    [source] = bundle.sources
    tools = (*source.tools, BundleTool("export_*", "read", "contacts"), BundleTool("ne*", "read", "contacts"))
    result = await bench.verify(dump_bundle(replace(bundle, sources=(replace(source, tools=tools),))))
    assert result.failure is None
    assert {tool.name for tool in result.tools or ()} == {"echo", "never"}


async def test_without_a_plan_or_an_api_server_nothing_is_verified(bench: Bench) -> None:
    assert await bench.run("verify") == 2
    assert "nothing was verified" in bench.log
    bench.environment = {"INTERLOCK_SOURCE": ""}
    assert await bench.run("pipes") == 2
    assert await bench.run("sing") == 2


def test_a_plan_and_a_result_are_read_as_they_were_written_and_anything_else_is_refused() -> None:
    plan = VerificationPlan("r", "crm", (probe("echo", "Error", within=1.5, a=[1, {"b": None}]),))
    assert parse_plan(dump_plan(plan)) == plan
    result = VerificationResult(
        "r", VerificationFailure.LIST_FAILED, "it refuses", unmapped=("a",), omitted=3, protocol="2026-07-28"
    )
    assert parse_result(dump_result(result)) == result
    written = json.loads(dump_result(result))
    for broken in (
        {**written, "surprise": 1},
        {**written, "version": 2},
        {**written, "failure": "Boredom"},
        {**written, "tools": [{"name": "a", "digest": "short"}]},
        {**written, "tools": [{"name": "a", "digest": "0" * 64}] * 2},
        {**written, "tools": [{"name": f"t{number}", "digest": "0" * 64} for number in range(513)]},
        {**written, "unmapped": ["x" * 129]},
        {key: value for key, value in written.items() if key != "run"},
    ):
        with pytest.raises(VerificationInvalid):
            parse_result(json.dumps(broken))


async def verify_with_habit(bench: Bench, habit: str) -> VerificationResult:
    """Verify a server with a habit, which is started again as a kubelet does; return the result."""
    command = [sys.executable, str(HABITS), habit, str(bench.folder / "habit")]
    bench.plan(a_bundle(["echo"]))
    assert await bench.run("pipes") == 0
    async with kept_running(bench.folder / "pipes" / SOURCE, command):
        assert await bench.run("verify") == 0, bench.log
    return parse_result(bench.api.result)


@requirement("guard.first-message")
async def test_a_server_that_ends_at_the_probe_is_verified_at_its_next_start(bench: Bench) -> None:
    result = await verify_with_habit(bench, "strict")
    assert (result.failure, result.protocol) == (None, "2025-11-25")
    assert bench.log.count("begins") == 2


@requirement("guard.odd-messages")
async def test_the_result_counts_messages_that_were_dropped(bench: Bench) -> None:
    result = await verify_with_habit(bench, "banner")
    assert (result.failure, result.dropped) == (None, 1)
