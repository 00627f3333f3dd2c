"""The MCP project's own servers behind the guard, in one pod, and an agent that is nothing but two files.

everything, filesystem and memory: each with calls that are permitted, and such as are not.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from interlock_contract.pod import MCP_PORT
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.node_clients import TOOL_ERROR, NodeClients

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

AGENT = "tester"
IMAGE = "registry.invalid/interlock/example-everything:dev"
FOLDER = "/tmp/work"  # noqa: S108 - in the server's container
PROGRAM = """
import asyncio, json, os, pathlib
from mcp.client import Client

async def call(client, tool, arguments):
    result = await client.call_tool(tool, arguments)
    denial = (result.meta or {}).get("interlock.dev/denial", {})
    return denial.get("reason") or ("failed: " if result.is_error else "") + result.content[0].text

async def ask(url, calls):
    async with Client(url) as client:
        tools = sorted(tool.name for tool in (await client.list_tools()).tools)
        return {"tools": tools, "answers": [await call(client, *one) for one in calls]}

async def main():
    files = pathlib.Path(os.environ["INTERLOCK_FILES"])
    servers = json.loads(pathlib.Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]
    while True:
        try:
            seen = {}
            for source, calls in json.loads((files / "calls.json").read_text()).items():
                seen[source] = await ask(servers[source]["url"], calls)
            print(json.dumps(seen), flush=True)
        except Exception as error:
            print("failed", repr(error), flush=True)
        await asyncio.sleep(1)

asyncio.run(main())
"""
ENTITY = {"name": "Ada", "entityType": "person", "observations": ["answers for this agent"]}
CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "everything": [("echo", {"message": "hello"}), ("get-env", {})],
    "files": [
        ("create_directory", {"path": f"{FOLDER}/notes/today"}),
        ("list_directory", {"path": f"{FOLDER}/notes"}),
        ("list_directory", {"path": FOLDER}),
        ("write_file", {"path": f"{FOLDER}/notes/a", "content": "a"}),
    ],
    "memory": [
        ("create_entities", {"entities": [ENTITY]}),
        ("search_nodes", {"query": "Ada"}),
        ("delete_entities", {"entityNames": ["Ada"]}),
        ("read_graph", {}),
    ],
}
NOTES = {"resource": "notes", "arguments": [{"pointer": "/path", "prefix": f"{FOLDER}/notes/"}]}


def a_binding(
    source: str, stdio: dict[str, Any], tools: list[dict[str, Any]], **permissions: list[str]
) -> dict[str, Any]:
    return {
        "apiVersion": "interlock.dev/v1alpha1",
        "kind": "MCPBinding",
        "metadata": {"name": source},
        "spec": {
            "source": source,
            "environments": ["development"],
            "server": {"stdio": {"image": IMAGE, **stdio}},
            "tools": tools,
            "permissions": permissions,
        },
    }


BINDINGS = [
    a_binding(
        "everything",
        {"command": ["mcp-server-everything", "stdio"]},
        [{"name": "echo", "operation": "read", "resource": "echoes"}],
        read=["echoes"],
    ),
    a_binding(
        "files",
        {"command": ["sh", "-c", f"mkdir -p {FOLDER}/notes && exec mcp-server-filesystem {FOLDER}"]},
        [
            {"name": "list_directory", "operation": "read", **NOTES},
            {"name": "create_directory", "operation": "write", **NOTES},
            {"name": "write_file", "operation": "delete", **NOTES},
        ],
        read=["notes"],
        write=["notes"],
    ),
    a_binding(
        "memory",
        {"command": ["mcp-server-memory"], "env": [{"name": "MEMORY_FILE_PATH", "value": f"{FOLDER}.jsonl"}]},
        [
            {"name": "search_nodes", "operation": "read", "resource": "graph"},
            {"name": "create_*", "operation": "write", "resource": "graph"},
            {"name": "delete_*", "operation": "delete", "resource": "graph"},
        ],
        read=["graph"],
        write=["graph"],
    ),
]
MATRIX = [
    {"agents": [AGENT], "source": "everything", "read": ["echoes"]},
    {"agents": [AGENT], "source": "files", "read": ["notes"], "write": ["notes"]},
    {"agents": [AGENT], "source": "memory", "read": ["graph"], "write": ["graph"], "delete": ["graph"]},
]
POLICY = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "AgentPolicy",
    "metadata": {"name": AGENT},
    "spec": {"dataAccess": MATRIX},
}
THE_AGENT = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": AGENT},
    "spec": {
        "owner": {"name": "Ada Example", "email": "ada@example.com"},
        "purpose": "Show that any program works with any server",
        "policyRef": {"name": AGENT},
        "environment": "development",
        "bindings": [{"source": source} for source in CALLS],
        "files": [
            {"path": "bin/agent.py", "content": PROGRAM},
            {"path": "calls.json", "content": json.dumps(CALLS)},
        ],
        "template": {
            "image": "registry.invalid/interlock/example-agent:dev",
            "command": ["sh", "-c", "exec python $INTERLOCK_FILES/bin/agent.py"],
        },
    },
}


@pytest.fixture(scope="module")
def tester(shared: Live) -> Live:
    objects: list[dict[str, Any]] = [POLICY, *BINDINGS, THE_AGENT]
    shared.apply(*({**found, "metadata": {**found["metadata"], "namespace": shared.namespace}} for found in objects))
    shared.until_ready(AGENT)
    return shared


@requirement("guard.sdk-clients-on-a-cluster")
async def test_typescript_sdk_and_inspector_list_and_call_what_is_permitted(
    tester: Live, node: Path, node_modules: Path, tmp_path: Path
) -> None:
    """They are the agent here, so they come to its guard's loopback port, by the name that an agent knows it by."""
    clients = NodeClients(node, node_modules, tmp_path)
    [pod] = tester.starting_pods(AGENT)
    config = json.loads(tester.exec(AGENT, "agent", "cat", "/etc/interlock/mcp.json").stdout)
    url = config["mcpServers"]["everything"]["url"]
    with tester.forwarded(f"pod/{pod}", MCP_PORT, MCP_PORT) as base:
        assert url.startswith(f"{base}/")
        calls = [{"name": "echo", "arguments": {"message": "hello"}}, {"name": "get-env", "arguments": {}}]
        seen = await clients.run_sdk(url, calls)
        listed = await clients.inspect(url, "tools/list")
        echoed = await clients.inspect(url, "tools/call", "--tool-name", "echo", "--tool-arg", "message=hello")
        hidden = await clients.inspect(url, "tools/call", "--tool-name", "get-env")
    assert seen["tools"] == ["echo"]
    assert "hello" in str(seen["results"][0]["content"])
    assert seen["results"][1]["_meta"]["interlock.dev/denial"]["reason"] == "ToolNotMapped"
    assert [tool["name"] for tool in listed.result["tools"]] == ["echo"]
    assert (echoed.code, echoed.result["content"][0]["text"]) == (0, "Echo: hello")
    assert (hidden.code, hidden.result) == (TOOL_ERROR, {})


def test_what_is_permitted_works_on_each_official_server_and_nothing_else_does(tester: Live) -> None:
    live = tester
    eventually(lambda: '{"everything"' in live.agent_log(AGENT), 60, lambda: live.agent_log(AGENT)[-2000:])
    seen = json.loads(next(line for line in live.agent_log(AGENT).splitlines() if line.startswith('{"everything"')))
    assert {source: one["tools"] for source, one in seen.items()} == {
        "everything": ["echo"],
        "files": ["create_directory", "list_directory"],
        "memory": ["create_entities", "create_relations", "search_nodes"],
    }
    assert seen["everything"]["answers"] == ["Echo: hello", "ToolNotMapped"]
    created, listed, *refused = seen["files"]["answers"]
    assert "Successfully created directory" in created
    assert "[DIR] today" in listed
    assert refused == ["ArgumentNotAllowed", "NotGrantedByBinding"]
    stored, searched, *refused = seen["memory"]["answers"]
    assert "Ada" in stored
    assert "answers for this agent" in searched
    assert refused == ["NotGrantedByBinding", "ToolNotMapped"]
