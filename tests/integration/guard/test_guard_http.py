"""Hostile HTTP and hostile JSON: nothing of it reaches the server."""

import asyncio
import gzip
import json
from typing import Any

import pytest

from tests.integration.guard.harness import MCP_PATH, Bench
from tests.support.bounds import limit
from tests.support.keys import AGENT_KEY

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
TEXT = json.dumps(CALL)


async def test_deep_but_bounded_arguments_pass(bench: Bench) -> None:
    body = TEXT.replace("{}", '{"n": ' + "[" * 60 + "]" * 60 + "}")
    assert (await bench.client.post(body)).reason is None


async def test_a_body_of_just_4_mib_passes(bench: Bench) -> None:
    room = 4 * 1024 * 1024 - len(TEXT) - len('"n": ""')
    body = TEXT.replace("{}", '{"n": "' + "x" * room + '"}')
    assert len(body) == 4 * 1024 * 1024
    assert (await bench.client.post(body)).reason is None


async def test_a_request_for_another_host_is_refused(bench: Bench) -> None:
    hosts = ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:7410", ""]
    assert [(await bench.client.post(TEXT, {"Host": host})).status for host in hosts] == [403] * 5
    assert bench.executed() == []


async def test_a_page_of_another_origin_is_refused(bench: Bench) -> None:
    origins = ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"]
    assert [(await bench.client.post(TEXT, {"Origin": origin})).status for origin in origins] == [403] * 4
    assert bench.executed() == []


async def test_the_guards_own_host_names_and_origins_pass(bench: Bench) -> None:
    for name in ("127.0.0.1", "localhost", "[::1]"):
        host = f"{name}:{bench.guard.port}"
        assert (await bench.client.post(TEXT, {"Host": host, "Origin": f"http://{host}"})).reason is None


async def test_names_are_compared_without_case(bench: Bench) -> None:
    for name in ("LOCALHOST", "LocalHost"):
        host = f"{name}:{bench.guard.port}"
        assert (await bench.client.post(TEXT, {"Host": host, "Origin": f"HTTP://{host}"})).reason is None
    assert (await bench.client.post(TEXT, {"Host": f"LOCALHOST.EVIL.EXAMPLE:{bench.guard.port}"})).status == 403
    assert len(bench.executed()) == 2


async def test_a_chunked_body_passes_however_the_coding_is_written(bench: Bench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    head = f"Host: localhost:{bench.guard.port}\r\nContent-Type: application/json\r\nTransfer-Encoding: Chunked\r\n\r\n"
    writer.write(f"POST {MCP_PATH} HTTP/1.1\r\n{head}{len(TEXT):x}\r\n{TEXT}\r\n0\r\n\r\n".encode())
    assert b" 200 OK" in await reader.readline()
    writer.close()
    assert len(bench.executed()) == 1


@pytest.mark.parametrize(
    ("version", "more"),
    [("1.1", "Expect: 100-continue\r\nConnection: close\r\n"), ("1.0", "")],
    ids=["continue", "1.0"],
)
async def test_a_call_with_an_expectation_or_of_http_1_0_is_answered(bench: Bench, version: str, more: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    head = (
        f"Host: localhost:{bench.guard.port}\r\nContent-Type: application/json\r\nContent-Length: {len(TEXT)}\r\n{more}"
    )
    writer.write(f"POST {MCP_PATH} HTTP/{version}\r\n{head}\r\n{TEXT}".encode())
    async with limit(30, "the call is answered"):
        answer = await reader.read()
    writer.close()
    assert b" 200 OK" in answer
    assert len(bench.executed()) == 1


async def test_a_slash_at_the_end_of_the_url_changes_nothing(bench: Bench) -> None:
    assert (await bench.client.post(TEXT, url=f"{bench.client.url}/")).reason is None
    without_key = f"http://127.0.0.1:{bench.guard.port}/mcp/crm/"
    assert (await bench.client.post(TEXT, url=without_key)).status == 403
    async with bench.client.session.request("PUT", f"{bench.client.url}/") as response:
        assert response.status == 405
    assert len(bench.executed()) == 1


async def test_a_header_that_is_there_twice_is_refused(bench: Bench) -> None:
    host = f"127.0.0.1:{bench.guard.port}"
    needed = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(TEXT)), "Connection": "close"}
    more = {"Origin": f"http://{host}", "Mcp-Session-Id": "a", "MCP-Protocol-Version": "2025-11-25"}
    for name in ("Host", "Origin", "Content-Type", "Mcp-Session-Id", "MCP-Protocol-Version"):
        lines = [f"{key}: {value}" for key, value in {**needed, **more}.items()]
        assert await post_raw(bench, lines) == 200
        again = next(line for line in lines if line.startswith(name))
        assert await post_raw(bench, [*lines, again]) == 400, name
    assert len(bench.executed()) == 5


async def post_raw(bench: Bench, lines: list[str]) -> int:
    """Post a call with just these header lines; return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.port)
    writer.write("\r\n".join([f"POST {MCP_PATH} HTTP/1.1", *lines, "", TEXT]).encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_a_malformed_session_id_is_refused(bench: Bench) -> None:
    for session in ("x" * 129, "\u00e9", "a\tb"):
        assert (await bench.client.post(TEXT, {"Mcp-Session-Id": session})).status == 400
    assert bench.executed() == []


async def test_a_body_of_another_type_is_refused(bench: Bench) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonp", ""):
        assert (await bench.client.post(TEXT, {"Content-Type": kind})).status == 415
    assert bench.executed() == []


async def test_a_compressed_body_is_refused(bench: Bench) -> None:
    answer = await bench.client.post(gzip.compress(TEXT.encode()), {"Content-Encoding": "gzip"})
    assert answer.status == 415
    assert bench.executed() == []


async def test_an_unknown_protocol_version_header_is_refused(bench: Bench) -> None:
    for version, code in (("2026-07-28", -32020), ("1999-01-01", -32600), ("", -32600)):
        answer = await bench.client.post(TEXT, {"MCP-Protocol-Version": version})
        assert (answer.status, answer.body["error"]["code"]) == (400, code)
    assert (await bench.client.post(TEXT, {"MCP-Protocol-Version": "2025-06-18"})).reason is None
    assert len(bench.executed()) == 1


def a_probe(version: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the parameters and headers of a `server/discover`."""
    meta = {"io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}}
    return {"_meta": meta}, {"MCP-Protocol-Version": version, "Mcp-Method": "server/discover"}


async def test_a_probe_of_an_unknown_version_gets_the_supported_versions(bench: Bench) -> None:
    answer = await bench.client.request("server/discover", *a_probe("2027-01-01"))
    assert (answer.status, answer.body["error"]["code"]) == (400, -32022)
    assert {"2025-11-25", "2026-07-28"} <= set(answer.body["error"]["data"]["supported"])


async def test_a_probe_of_the_sessionless_protocol_is_answered_by_the_guard(bench: Bench) -> None:
    answer = await bench.client.request("server/discover", *a_probe("2026-07-28"))
    result = answer.body["result"]
    assert result["supportedVersions"] == ["2026-07-28"]
    assert result["capabilities"] == {"tools": {}}
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 5000, "private")


async def test_no_other_http_method_is_offered(bench: Bench) -> None:
    for method in ("HEAD", "PUT", "PATCH", "OPTIONS"):
        for headers, status in (({}, 405), ({"Host": "evil.example"}, 403)):
            async with bench.client.session.request(method, bench.client.url, headers=headers) as response:
                assert response.status == status


async def test_another_source_is_unknown(bench: Bench) -> None:
    for source in ("mail", "..%2fcrm", "CRM", "crm%00"):
        answer = await bench.client.post(TEXT, url=f"http://127.0.0.1:{bench.guard.port}/{AGENT_KEY}/mcp/{source}")
        assert (answer.status, answer.reason) == (404, "UnknownSource")
    assert bench.executed() == []


async def test_initialize_agrees_on_the_clients_version_or_offers_the_latest(bench: Bench) -> None:
    for asked, agreed in (("2025-03-26", "2025-03-26"), ("2030-01-01", "2025-11-25")):
        answer = await bench.client.request("initialize", {"protocolVersion": asked, "capabilities": {}})
        assert answer.body["result"]["protocolVersion"] == agreed
        assert answer.body["result"]["capabilities"] == {"tools": {}}
        assert len(answer.headers["Mcp-Session-Id"]) == 32
    assert (await bench.client.request("initialize")).status == 400


async def test_nothing_but_probes_and_metrics_is_on_the_open_port(bench: Bench) -> None:
    url = f"http://127.0.0.1:{bench.guard.observe_port}{MCP_PATH}"
    async with bench.client.session.post(url, data=TEXT) as response:
        assert response.status == 404
    assert bench.executed() == []
