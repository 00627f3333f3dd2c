"""The MCP project's own server-everything behind the guard, in pods, and an agent that is nothing but a file."""

from typing import Any

import pytest

from tests.e2e.live import Live, eventually

pytestmark = [pytest.mark.kind, pytest.mark.timeout(300)]

AGENT = "echo"
PROGRAM = """
import asyncio, json, os, pathlib
from mcp.client import Client

async def main():
    servers = json.loads(pathlib.Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]
    while True:
        try:
            async with Client(servers["everything"]["url"]) as client:
                tools = sorted(tool.name for tool in (await client.list_tools()).tools)
                echoed = await client.call_tool("echo", {"message": "hello"})
                hidden = await client.call_tool("get-env", {})
                print(json.dumps([tools, echoed.content[0].text, hidden.is_error]), flush=True)
        except Exception as error:
            print("failed", repr(error), flush=True)
        await asyncio.sleep(1)

asyncio.run(main())
"""


def _objects(namespace: str) -> list[dict[str, Any]]:
    metadata = {"name": AGENT, "namespace": namespace}
    group = {"apiVersion": "interlock.dev/v1alpha1", "metadata": metadata}
    row = {"agents": [AGENT], "source": "everything", "read": ["echoes"]}
    stdio = {"image": "interlock/example-everything:dev", "command": ["mcp-server-everything", "stdio"]}
    binding = {
        "source": "everything",
        "environments": ["development"],
        "server": {"stdio": stdio},
        "tools": [{"name": "echo", "operation": "read", "resource": "echoes"}],
        "permissions": {"read": ["echoes"]},
    }
    agent = {
        "owner": {"name": "Ada Example", "email": "ada@example.com"},
        "purpose": "Show that any program works",
        "policyRef": {"name": AGENT},
        "environment": "development",
        "bindings": [{"source": "everything"}],
        "files": [{"path": "bin/agent.py", "content": PROGRAM}],
        "template": {
            "image": "interlock/example-agent:dev",
            "command": ["sh", "-c", "exec python $INTERLOCK_FILES/bin/agent.py"],
        },
    }
    return [
        group | {"kind": "AgentPolicy", "spec": {"dataAccess": [row]}},
        group | {"kind": "MCPBinding", "spec": binding},
        group | {"kind": "Agent", "spec": agent},
    ]


def test_only_the_mapped_tool_of_the_official_server_is_listed_and_works(live: Live) -> None:
    live.apply(*_objects(live.namespace))
    live.until_ready(AGENT)
    expected = '[["echo"], "Echo: hello", true]'
    eventually(lambda: expected in live.agent_log(AGENT), 60, lambda: live.agent_log(AGENT)[-2000:])
