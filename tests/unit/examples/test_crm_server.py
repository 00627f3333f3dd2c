import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import crm_server
import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.types import CallToolResult, TextContent

from tests.support.offspring import end_with_parent
from tests.support.serving import serving

SERVER = Path(crm_server.__file__)
AS_A_SIDECAR = 'exec "$0" "$@"'


@asynccontextmanager
async def crm(database: Path, account: str = "sandbox") -> AsyncIterator[Client]:
    with closing(crm_server.seed(database, account)) as rows:
        async with asyncio.timeout(30), Client(crm_server.build_server(rows, account)) as client:
            yield client


def found(result: CallToolResult) -> Any:
    assert not result.is_error, result
    return result.structured_content["result"]


def text(result: CallToolResult) -> str:
    (block,) = result.content
    assert isinstance(block, TextContent)
    return block.text


async def test_offers_the_tools_that_the_examples_speak_of_and_one_that_no_binding_maps(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == {
        "list_contacts",
        "get_contact",
        "list_opportunities",
        "create_task",
        "delete_contact",
        "export_everything",
    }


async def test_answers_only_from_the_requested_region(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        contacts = found(await client.call_tool("list_contacts", {"region": "eu-west"}))
        opportunities = found(await client.call_tool("list_opportunities", {"region": "us-east"}))
    assert {row["region"] for row in contacts} == {"eu-west"}
    assert {row["region"] for row in opportunities} == {"us-east"}


async def test_knows_no_other_region(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        assert (await client.call_tool("list_contacts", {"region": "mars"})).is_error


async def test_gets_one_contact_and_says_when_there_is_none(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        assert (await client.call_tool("get_contact", {"id": "us-1"})).structured_content["region"] == "us-east"
        missing = await client.call_tool("get_contact", {"id": "nobody"})
    assert missing.is_error
    assert "there is no contact 'nobody'" in text(missing)


async def test_a_created_task_is_in_the_export(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        task = {"region": "eu-west", "title": "Call back", "contact": "eu-1"}
        created = (await client.call_tool("create_task", task)).structured_content
        exported = (await client.call_tool("export_everything")).structured_content
    assert created == {"id": 1, **task}
    assert exported["tasks"] == [created]


async def test_no_task_for_a_contact_of_another_region(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        task = {"region": "eu-west", "title": "Call back", "contact": "us-1"}
        refused = await client.call_tool("create_task", task)
        exported = (await client.call_tool("export_everything")).structured_content
    assert refused.is_error
    assert exported["tasks"] == []


async def test_a_deleted_contact_is_gone_until_the_next_start(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        assert text(await client.call_tool("delete_contact", {"id": "eu-1"})) == "contact eu-1 is deleted"
        assert (await client.call_tool("delete_contact", {"id": "eu-1"})).is_error
        assert (await client.call_tool("get_contact", {"id": "eu-1"})).is_error
    async with crm(tmp_path / "crm.db") as client:
        assert not (await client.call_tool("get_contact", {"id": "eu-1"})).is_error


async def test_the_production_account_has_other_data(tmp_path: Path) -> None:
    async with crm(tmp_path / "sandbox.db") as client:
        sandbox = found(await client.call_tool("list_contacts", {"region": "eu-west"}))
    async with crm(tmp_path / "production.db", "production") as client:
        production = found(await client.call_tool("list_contacts", {"region": "eu-west"}))
    assert {row["name"] for row in sandbox}.isdisjoint(row["name"] for row in production)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"CRM_ACCOUNT": "production", "CRM_TOKEN": ""}, "CRM_TOKEN is missing"),
        ({"CRM_ACCOUNT": "prod"}, "CRM_ACCOUNT is 'prod'"),
    ],
)
def test_does_not_start_on_an_account_that_it_cannot_open(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=message):
        crm_server.main()


async def test_the_official_client_works_with_it_over_stdio(tmp_path: Path) -> None:
    environment = {"CRM_DATABASE": str(tmp_path / "crm.db"), "CRM_ACCOUNT": "production", "CRM_TOKEN": "made-up"}
    command = ["-c", AS_A_SIDECAR, sys.executable, str(SERVER)]
    server = StdioServerParameters(command="sh", args=command, env=environment)
    async with asyncio.timeout(60), Client(server, read_timeout_seconds=30) as client:
        assert len((await client.list_tools()).tools) == 6
        assert found(await client.call_tool("list_contacts", {"region": "eu-west"}))
        assert (await client.call_tool("get_contact", {"id": "nobody"})).is_error


INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


def start_on_pipes(folder: Path) -> subprocess.Popen[bytes]:
    """Start the server as the operator does: its standard streams are two named pipes."""
    for name in ("in", "out"):
        os.mkfifo(folder / name)
    command = f"{AS_A_SIDECAR} <{folder}/in >{folder}/out"
    environment = {"CRM_DATABASE": str(folder / "crm.db")}
    command_line = ["sh", "-c", command, sys.executable, str(SERVER)]
    return subprocess.Popen(command_line, env=environment, preexec_fn=end_with_parent)


def initialize(to_server: Any, from_server: Any) -> dict[str, Any]:
    to_server.write(json.dumps(INITIALIZE).encode() + b"\n")
    to_server.flush()
    answer: dict[str, Any] = json.loads(from_server.readline())
    return answer


def test_serves_session_based_clients_on_named_pipes_and_ends_with_its_input(tmp_path: Path) -> None:
    with start_on_pipes(tmp_path) as server:
        with (tmp_path / "in").open("wb") as to_server, (tmp_path / "out").open("rb") as from_server:
            answer = initialize(to_server, from_server)
        assert server.wait(timeout=10) == 0
    assert answer["result"]["protocolVersion"] == "2025-11-25"
    assert answer["result"]["serverInfo"]["name"] == "crm-sandbox"


def test_ends_by_itself_on_term(tmp_path: Path) -> None:
    # Status 0, not -15: as process 1 of a container a signal without a handler does nothing.
    with (
        start_on_pipes(tmp_path) as server,
        (tmp_path / "in").open("wb") as to_server,
        (tmp_path / "out").open("rb") as from_server,
    ):
        initialize(to_server, from_server)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=10) == 0


async def test_a_region_is_a_resource_and_a_call_is_a_prompt(tmp_path: Path) -> None:
    async with crm(tmp_path / "crm.db") as client:
        read = await client.read_resource("crm://contacts/us-east")
        got = await client.get_prompt("prepare_call", {"id": "eu-2"})
    assert [contact["id"] for contact in json.loads(read.contents[0].text)] == ["us-1"]
    assert "Test Person Two of Sandbox GmbH" in got.messages[0].content.text


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "made-up"}, 401),
        ({"Authorization": "Bearer made-up"}, 200),
    ],
)
async def test_over_http_it_answers_those_alone_who_carry_the_header(
    given: dict[str, str], status: int, tmp_path: Path
) -> None:
    accept = {"Accept": "application/json, text/event-stream"}
    with closing(crm_server.seed(tmp_path / "crm.db", "sandbox")) as rows:
        app = crm_server.over_http(crm_server.build_server(rows, "sandbox"), "Bearer made-up")
        async with (
            asyncio.timeout(30),
            serving(app) as url,
            aiohttp.ClientSession() as session,
            session.post(url, json=INITIALIZE, headers={**accept, **given}) as response,
        ):
            assert response.status == status


def test_over_http_it_does_not_start_without_a_required_header(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CRM_DATABASE", str(tmp_path / "crm.db"))
    monkeypatch.setenv("CRM_PORT", "8000")
    monkeypatch.delenv("CRM_AUTHORIZATION", raising=False)
    with pytest.raises(SystemExit, match="CRM_AUTHORIZATION is missing"):
        crm_server.main()
