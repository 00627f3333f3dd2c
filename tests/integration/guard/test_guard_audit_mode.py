"""Mode Audit with the official reference server: from calls that no map names, by the suggestion, to Enforce."""

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from mcp import Client as SdkClient
from msgspec.structs import replace

from interlock_cli.audit_log import AuditLog
from interlock_cli.suggest import DECIDE, suggest
from interlock_contract.bundle import Bundle, BundleTool, EnforcementMode, Grant, dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import SOURCE, Client, Guard, StdioServer, a_bundle
from tests.integration.guard.learning import learn_on_pipes
from tests.support.bounds import until
from tests.support.pins import LearntPins

READS = ("get-sum", "get-tiny-image", "get-structured-content")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "get-sum": {"a": 2, "b": 3},
    "get-structured-content": {"location": "New York"},
    "echo": {"message": "x"},
}


@pytest.fixture
async def learnt(api: FakeApiServer, guard: Guard, node: Path, node_modules: Path) -> AsyncIterator[LearntPins]:
    """The reference server behind a guard in mode Audit that maps and grants nothing; and what it lists."""
    program = node_modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    command = [str(node), str(program), "stdio"]
    pins = await learn_on_pipes(command, guard.folder, ())
    api.set_bundle(dump_bundle(a_bundle_in("Audit")))
    server = StdioServer(guard.pipes / SOURCE, command)
    await guard.started()
    await server.start()
    await guard.source_ready()
    yield pins
    await server.kill()


def a_bundle_in(mode: EnforcementMode, tools: tuple[BundleTool, ...] = (), *grants: Grant) -> Bundle:
    bundle = parse_bundle(a_bundle([]))
    nothing = (Grant("Binding", "mcpbinding/crm-sandbox", (), (), ()), Grant("Matrix", MATRIX, (), (), ()))
    source = replace(bundle.sources[0], tools=tools, grants=grants or nothing, mode=mode)
    return replace(bundle, sources=(source,))


MATRIX = "agentpolicy/support/dataAccess"


def enforcing(text: str) -> Bundle:
    """Return the bundle that the operator would compile of a suggestion."""
    binding, policy = ((one["spec"] or {}) for one in yaml.safe_load_all(text) if one)
    tools = tuple(BundleTool(**tool) for tool in binding["tools"])
    names = {
        operation: tuple(name for row in policy["dataAccess"] for name in row.get(operation, ()))
        for operation in ("read", "write", "delete")
    }
    own = {operation: tuple(binding["permissions"].get(operation, ())) for operation in names}
    grants = Grant("Binding", "mcpbinding/crm-sandbox", **own), Grant("Matrix", MATRIX, **names)
    return a_bundle_in("Enforce", tools, *grants)


async def obey(api: FakeApiServer, guard: Guard, bundle: Bundle) -> None:
    before = len(guard.lines())
    api.set_bundle(dump_bundle(bundle))

    async def is_obeyed() -> bool:
        async with SdkClient(guard.url) as client:
            await client.list_tools()
        return any(line["kind"] == "bundle" for line in guard.lines()[before:])

    await until(is_obeyed, "the guard obeys the bundle")


async def passing(guard: Guard, *tools: str) -> list[str]:
    """Return the tools whose calls a server answers without an error."""
    async with SdkClient(guard.url) as client:
        results = {tool: await client.call_tool(tool, ARGUMENTS.get(tool, {})) for tool in tools}
    return [tool for tool, result in results.items() if not result.is_error]


async def test_what_was_seen_in_audit_is_what_is_permitted_in_enforce_and_no_write_before_a_person_decides(
    learnt: LearntPins, api: FakeApiServer, guard: Guard
) -> None:
    async with aiohttp.ClientSession() as session:  # a first call, before any client has asked for the list
        first = await Client(session, guard.url).call("get-sum", **ARGUMENTS["get-sum"])
        assert "5" in first.text
    async with SdkClient(guard.url) as client:
        listed = {tool.name for tool in (await client.list_tools()).tools}
    assert listed >= {*READS, "echo"}, "tools that are not mapped are shown"
    assert await passing(guard, *READS, "echo", "no-such-tool") == [*READS, "echo"]

    calls = [record for record in guard.records() if record["method"] == "tools/call"]
    assert [(one["decision"], one["reason"]) for one in calls] == [
        *[("WouldDeny", "ToolNotMapped")] * 5,
        ("Deny", "ToolNotMapped"),
    ]
    assert {one["mode"] for one in guard.records()} == {"Audit"}
    outcomes = [line["outcome"] for line in guard.lines() if line["kind"] == "outcome"]
    assert outcomes.count("Answered") >= 5
    counted = f'interlock_guard_decisions_total{{decision="WouldDeny",reason="ToolNotMapped",source="{SOURCE}"}} 5'
    assert counted in await guard.metrics()

    log = AuditLog()
    log.read(io.BytesIO("\n".join(map(json.dumps, guard.lines())).encode()))
    suggested = suggest(log)
    api.pins = learnt  # the server was verified with the map
    await obey(api, guard, enforcing(suggested))
    assert await passing(guard, *READS, "echo") == list(READS)

    decided = "".join(line.removeprefix(DECIDE) for line in suggested.splitlines(keepends=True))
    await obey(api, guard, enforcing(decided))
    assert await passing(guard, *READS, "echo") == [*READS, "echo"]
