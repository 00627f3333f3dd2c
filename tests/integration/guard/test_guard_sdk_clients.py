"""The official SDKs' clients and the inspector against the guard in front of the official reference server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client as SdkClient
from msgspec.structs import replace

from interlock_contract.bundle import BundleArgumentRule, dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import SOURCE, Client, Guard, StdioServer, a_bundle
from tests.integration.guard.learning import learn_on_pipes
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.node_clients import TOOL_ERROR, NodeClients

MAPPED = ["echo", "get-sum", "trigger-long-running-operation"]


@pytest.fixture
def clients(node: Path, node_modules: Path, tmp_path: Path) -> NodeClients:
    return NodeClients(node, node_modules, tmp_path)


@pytest.fixture
async def everything(api: FakeApiServer, guard: Guard, node: Path, node_modules: Path) -> AsyncIterator[StdioServer]:
    program = node_modules / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
    command = [str(node), str(program), "stdio"]
    api.pins = await learn_on_pipes(command, guard.folder, ())
    api.set_bundle(a_bundle(MAPPED, read_only=["get-env"]))
    server = StdioServer(guard.pipes / SOURCE, command)
    await guard.started()
    await server.start()
    await guard.source_ready()
    yield server
    await server.kill()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@requirement("guard.sdk-clients")
async def test_the_python_sdk_lists_and_calls_what_is_permitted(
    everything: StdioServer, guard: Guard, mode: str
) -> None:
    async with SdkClient(guard.url, mode=mode) as client:
        assert sorted(tool.name for tool in (await client.list_tools()).tools) == sorted(MAPPED)
        assert "hello" in str((await client.call_tool("echo", {"message": "hello"})).content)
        denied = await client.call_tool("get-env", {})
        assert denied.is_error
        assert (denied.meta or {})["interlock.dev/denial"] == {
            "reason": "NotGrantedByBinding",
            "rule": "mcpbinding/crm-sandbox",
        }
        unmapped = await client.call_tool("get-tiny-image", {})
        assert unmapped.is_error
        assert "ToolNotMapped" in str(unmapped.meta)


async def test_the_python_sdk_gets_progress_before_the_result(everything: StdioServer, guard: Guard) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(progress)

    async with SdkClient(guard.url) as client:
        arguments = {"duration": 0.4, "steps": 4}
        result = await client.call_tool("trigger-long-running-operation", arguments, progress_callback=on_progress)
    assert "completed" in str(result.content)
    assert seen == [1, 2, 3, 4]


@requirement("guard.sdk-clients")
async def test_the_typescript_sdk_lists_and_calls_what_is_permitted(
    everything: StdioServer, guard: Guard, clients: NodeClients
) -> None:
    calls: list[dict[str, Any]] = [
        {"name": "echo", "arguments": {"message": "hello"}},
        {"name": "get-env", "arguments": {}},
        {"name": "trigger-long-running-operation", "arguments": {"duration": 0.4, "steps": 4}, "progress": True},
    ]
    seen = await clients.run_sdk(guard.url, calls)
    assert sorted(seen["tools"]) == sorted(MAPPED)
    echoed, denied, stepped = seen["results"]
    assert "hello" in str(echoed["content"])
    assert denied["isError"] is True
    assert denied["_meta"]["interlock.dev/denial"]["reason"] == "NotGrantedByBinding"
    assert stepped["progress"] == [1, 2, 3, 4]


@pytest.mark.nightly  # the inspector is a client of the TypeScript SDK
@requirement("guard.sdk-clients")
async def test_the_inspectors_cli_lists_and_calls_what_is_permitted(
    api: FakeApiServer, everything: StdioServer, guard: Guard, clients: NodeClients
) -> None:
    api.set_bundle(only_hello())
    async with aiohttp.ClientSession() as session:
        client = Client(session, guard.url)

        async def is_obeyed() -> bool:
            return (await client.call("echo", message="other")).reason == "ArgumentNotAllowed"

        await until(is_obeyed, "the new bundle is in force")
    listed, echoed, refused, hidden = await asyncio.gather(
        clients.inspect(guard.url, "tools/list"),
        clients.inspect(guard.url, "tools/call", "--tool-name", "echo", "--tool-arg", "message=hello"),
        clients.inspect(guard.url, "tools/call", "--tool-name", "echo", "--tool-arg", "message=other"),
        clients.inspect(guard.url, "tools/call", "--tool-name", "get-env"),
    )
    assert (listed.code, sorted(tool["name"] for tool in listed.result["tools"])) == (0, sorted(MAPPED))
    assert (echoed.code, echoed.result["content"][0]["text"]) == (0, "Echo: hello")
    assert (refused.code, refused.result["isError"]) == (TOOL_ERROR, True)
    assert refused.result["_meta"]["interlock.dev/denial"]["reason"] == "ArgumentNotAllowed"
    assert (hidden.code, hidden.result) == (TOOL_ERROR, {}), "it calls only what is listed"


def only_hello() -> str:
    """Return a bundle in which `echo` may say one thing."""
    bundle = parse_bundle(a_bundle(MAPPED, read_only=["get-env"]))
    [source] = bundle.sources
    echo = replace(source.tools[0], arguments=(BundleArgumentRule("/message", enum=("hello",)),))
    return dump_bundle(replace(bundle, revision="1", sources=(replace(source, tools=(echo, *source.tools[1:])),)))
