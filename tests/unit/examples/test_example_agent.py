import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import agent
import pytest
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent

from tests.support.offspring import end_with_parent
from tests.support.serving import serving

Message = MutableMapping[str, Any]
SCOPE = json.dumps([{"dimension": "region", "values": ["eu-west"]}])
KILLED = {"code": -32000, "message": "stop", "data": {"reason": "Killed", "message": "stop"}}


def denied(reason: str) -> CallToolResult:
    """A refusal as the guard words it."""
    text_content = TextContent(type="text", text=f"refused\nbecause of {reason}")
    return CallToolResult(content=[text_content], is_error=True, _meta={"interlock.dev/denial": {"reason": reason}})


class Gateway:
    """A gateway in front of a CRM: denies other regions and what changes too much, or everything once `killed`."""

    def __init__(self) -> None:
        self.killed = False
        server = MCPServer("gateway", log_level="WARNING")
        server.tool()(self.list_contacts)
        server.tool()(self.list_opportunities)
        server.tool()(self.create_task)
        server.tool()(self.get_contact)
        server.tool()(self.delete_contact)
        server.resource("crm://contacts/{region}")(self.contacts_of)
        server.prompt()(self.prepare_call)
        self._app = server.streamable_http_app()

    def list_contacts(self, region: str) -> CallToolResult:
        if region != "eu-west":
            return denied("OutOfScope")
        contacts = [{"id": "eu-1"}, {"id": "eu-2"}]
        return CallToolResult(content=[], structured_content={"result": contacts})

    def list_opportunities(self, region: str) -> CallToolResult:
        return CallToolResult(content=[], structured_content={"result": [region]})

    def create_task(self, region: str, title: str, contact: str) -> str:
        return f"{title} {contact} in {region}"

    def get_contact(self, id: str) -> str:  # noqa: A002 - as the CRM names it
        raise ValueError(id)

    def delete_contact(self, id: str) -> CallToolResult:  # noqa: A002 - as the CRM names it
        assert id
        return denied("NotGrantedByBinding")

    def contacts_of(self, region: str) -> str:
        if region != "eu-west":
            raise MCPError(-32602, "not yours", {"reason": "ResourceNotMapped"})
        return f"all of {region}"

    def prepare_call(self, id: str) -> str:  # noqa: A002 - as the CRM names it
        return f"you are about to call {id}"

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if not self.killed or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": KILLED}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def mcp_config(folder: Path, url: str, source: str = "crm") -> Path:
    path = folder / "mcp.json"
    path.write_text(json.dumps({"mcpServers": {source: {"type": "http", "url": url}}}), encoding="utf-8")
    return path


@asynccontextmanager
async def running(folder: Path, url: str, **more: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the agent as its image does."""
    environment = {
        "INTERLOCK_MCP_CONFIG": str(mcp_config(folder, url)),
        "INTERLOCK_SCOPE": SCOPE,
        "CALL_INTERVAL": "0.05",
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, agent.__file__),
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def lines_until(process: asyncio.subprocess.Process, start: str) -> list[str]:
    """Read the agent's log up to the first line that starts so."""
    assert process.stdout
    lines: list[str] = []
    async with asyncio.timeout(30):
        while not lines or not lines[-1].startswith(start):
            line = await process.stdout.readline()
            assert line, f"the agent has ended: {lines}"
            lines.append(line.decode().rstrip())
    return lines


async def test_prints_a_line_for_each_attempt_and_goes_on_after_a_kill_and_its_release(tmp_path: Path) -> None:
    gateway = Gateway()
    async with asyncio.timeout(60), serving(gateway) as url, running(tmp_path, url) as process:
        assert await lines_until(process, "denied: NotGrantedByBinding") == [
            "tools: create_task, delete_contact, get_contact, list_contacts, list_opportunities",
            "allowed: list_contacts region=eu-west: 2 found",
            "allowed: list_opportunities region=eu-west: 1 found",
            "allowed: create_task region=eu-west title=Call back contact=eu-1: Call back eu-1 in eu-west",
            "failed: get_contact id=eu-1: Error executing tool get_contact",
            "denied: OutOfScope list_contacts region=us-east: refused because of OutOfScope",
            "failed: export_everything: Unknown tool: export_everything",
            "denied: NotGrantedByBinding delete_contact id=eu-1: refused because of NotGrantedByBinding",
        ]
        gateway.killed = True
        assert (await lines_until(process, "denied: Killed"))[-1] == "denied: Killed stop"
        gateway.killed = False
        await lines_until(process, "allowed: create_task")


async def test_reads_resources_and_a_prompt_if_they_are_configured(tmp_path: Path) -> None:
    settings = {"RESOURCES": "crm://contacts/eu-west,crm://contacts/us-east,crm://nowhere", "PROMPT": "prepare_call"}
    async with asyncio.timeout(60), serving(Gateway()) as url, running(tmp_path, url, **settings) as process:
        lines = await lines_until(process, "denied: NotGrantedByBinding")
    seen = [line for line in lines if "crm://" in line or "prepare_call" in line]
    assert seen[:2] == [
        "allowed: read crm://contacts/eu-west: all of eu-west",
        "denied: ResourceNotMapped read crm://contacts/us-east: not yours",
    ]
    assert seen[2].startswith("failed: read crm://nowhere: ")
    assert seen[3:] == ["allowed: prepare_call id=eu-1: you are about to call eu-1"]


async def test_goes_on_trying_where_nothing_listens_and_ends_by_itself_on_term(tmp_path: Path) -> None:
    async with asyncio.timeout(60), running(tmp_path, "http://127.0.0.1:9/mcp") as process:
        await lines_until(process, "failed: ")
        await lines_until(process, "failed: ")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_ends_by_itself_on_term_in_the_middle_of_its_work(tmp_path: Path) -> None:
    async with asyncio.timeout(60), serving(Gateway()) as url, running(tmp_path, url) as process:
        await lines_until(process, "allowed: create_task")
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


def test_without_a_scope_all_regions_are_its_own(tmp_path: Path) -> None:
    work = agent.read_work({"INTERLOCK_MCP_CONFIG": str(mcp_config(tmp_path, "http://there"))})
    assert work == agent.Work("http://there", inside=["eu-west", "us-east"], outside=[], interval=1.0)


def test_a_scope_leaves_the_other_regions_outside(tmp_path: Path) -> None:
    environment = {"INTERLOCK_MCP_CONFIG": str(mcp_config(tmp_path, "http://there")), "INTERLOCK_SCOPE": SCOPE}
    work = agent.read_work(environment | {"REGIONS": "eu-west,us-east,ap-south", "CALL_INTERVAL": "5"})
    assert work == agent.Work("http://there", inside=["eu-west"], outside=["us-east", "ap-south"], interval=5.0)


def test_a_scope_of_another_dimension_limits_no_region(tmp_path: Path) -> None:
    scope = json.dumps([{"dimension": "product-line", "values": ["billing"]}])
    environment = {"INTERLOCK_MCP_CONFIG": str(mcp_config(tmp_path, "http://there")), "INTERLOCK_SCOPE": scope}
    assert agent.read_work(environment).outside == []


def test_works_with_the_configured_source(tmp_path: Path) -> None:
    config = str(mcp_config(tmp_path, "http://there", source="sales"))
    assert agent.read_work({"INTERLOCK_MCP_CONFIG": config, "SOURCE": "sales"}).url == "http://there"
    with pytest.raises(KeyError, match="crm"):
        agent.read_work({"INTERLOCK_MCP_CONFIG": config})


def test_says_why_a_connection_failed_even_deep_inside_a_group() -> None:
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [ConnectionRefusedError("nobody there")])])
    assert agent.why(group) == "failed: ConnectionRefusedError nobody there"
    assert agent.why(MCPError(-32603, "no reason given", {"reason": 7})) == "failed: MCPError no reason given"
