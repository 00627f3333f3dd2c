"""A stdio server whose image has one file, its statically linked program: no shell, no libraries, no /tmp."""

import json
from typing import Any

import pytest

from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

SOURCE = "graph"
IMAGE = "registry.invalid/interlock/example-go:dev"
AGENTS = {"in-one-pod": "development", "in-two-pods": "staging"}
PROGRAM = """
import asyncio, json, os, pathlib
from mcp.client import Client

async def main():
    servers = json.loads(pathlib.Path(os.environ["INTERLOCK_MCP_CONFIG"]).read_text())["mcpServers"]
    while True:
        try:
            async with Client(servers["graph"]["url"]) as client:
                tools = sorted(tool.name for tool in (await client.list_tools()).tools)
                ada = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
                await client.call_tool("create_entities", {"entities": [ada]})
                graph = await client.call_tool("read_graph", {})
                refused = await client.call_tool("delete_entities", {"entityNames": ["Ada"]})
                denial = (refused.meta or {})["interlock.dev/denial"]["reason"]
                print(json.dumps({"tools": tools, "graph": graph.model_dump_json(), "refused": denial}), flush=True)
        except Exception as error:
            print("failed", repr(error), flush=True)
        await asyncio.sleep(1)

asyncio.run(main())
"""


def an_object(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def a_binding(name: str, *command: str) -> dict[str, Any]:
    tools = [("read_graph", "read"), ("create_entities", "write"), ("delete_entities", "delete")]
    return an_object(
        "MCPBinding",
        name,
        source=name,
        environments=["development", "staging"],
        server={"stdio": {"image": IMAGE, "command": list(command)}},
        tools=[{"name": tool, "operation": operation, "resource": "graph"} for tool, operation in tools],
        permissions={"read": ["graph"], "write": ["graph"]},
    )


OBJECTS = [
    an_object(
        "AgentPolicy",
        "graph",
        dataAccess=[{"agents": list(AGENTS), "source": SOURCE, "read": ["graph"], "write": ["graph"]}],
        rollout={"minStaging": "0s", "minLimitedScope": "0s", "requireLimitedScope": False},
    ),
    a_binding(SOURCE, "/server/memory"),
    *(
        an_object(
            "Agent",
            name,
            owner={"name": "Ada Example", "email": "ada@example.com"},
            purpose="Show that a server's image needs no shell",
            policyRef={"name": "graph"},
            environment=environment,
            bindings=[{"source": SOURCE}],
            files=[{"path": "agent.py", "content": PROGRAM}],
            template={
                "image": "registry.invalid/interlock/example-agent:dev",
                "command": ["sh", "-c", "exec python $INTERLOCK_FILES/agent.py"],
            },
        )
        for name, environment in AGENTS.items()
    ),
]


@pytest.fixture(scope="module")
def without_shell(shared: Live) -> Live:
    shared.apply(*({**one, "metadata": {**one["metadata"], "namespace": shared.namespace}} for one in OBJECTS))
    return shared


@requirement("deployment.no-shell-on-a-cluster")
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_uses_a_server_whose_image_has_no_shell(without_shell: Live, agent: str) -> None:
    live = without_shell
    live.until_ready(agent)
    eventually(lambda: '{"tools"' in live.agent_log(agent), 60, lambda: live.agent_log(agent)[-2000:])
    seen = json.loads(next(line for line in live.agent_log(agent).splitlines() if line.startswith('{"tools"')))
    assert seen["tools"] == ["create_entities", "read_graph"]
    assert "wrote the first program" in seen["graph"]
    assert seen["refused"] == "NotGrantedByBinding"
    for program in ("sh", "/bin/sh", "cat"):
        done = live.exec(agent, f"mcp-{SOURCE}", program)
        assert done.returncode != 0, f"the container of the server has {program}"
        assert "no such file" in done.stderr or "not found" in done.stderr


@requirement("deployment.no-shell-on-a-cluster")
def test_a_command_that_the_image_lacks_is_named_in_the_status_of_the_binding(without_shell: Live) -> None:
    live, name = without_shell, "wrong"
    binding = a_binding(name, "sh", "-c", "/server/memory")
    live.apply({**binding, "metadata": {"name": name, "namespace": live.namespace}})

    def verified() -> str:
        conditions = live.get("mcpbindings.interlock.dev", name).get("status", {}).get("conditions", [])
        return next((one["message"] for one in conditions if one["type"] == "Verified"), "")

    says = "exit code 127: \"interlock-launch: the image has no program 'sh' in PATH"
    eventually(lambda: says in verified(), WAIT_SECONDS, verified)
