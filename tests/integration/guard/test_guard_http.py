"""Hostile HTTP and hostile JSON: nothing of it reaches the server."""

import asyncio
import gzip
import json
from typing import Any

from tests.integration.guard.harness import Bench

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {}}}
TEXT = json.dumps(CALL)


def with_params(**params: Any) -> str:
    return json.dumps({**CALL, "params": {"name": "echo", "arguments": {}, **params}})


HOSTILE = {
    "nothing": b"",
    "no JSON": b"{",
    "two objects": (TEXT + TEXT).encode(),
    "a batch": f"[{TEXT}]".encode(),
    "an empty batch": b"[]",
    "a string": b'"tools/call"',
    "a byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "not UTF-8": TEXT.encode().replace(b"echo", b"ech\xff"),
    "overlong UTF-8": TEXT.encode().replace(b"echo", b"ech\xc1\xaf"),
    "a duplicate method": TEXT.replace('"method"', '"method": "ping", "method"').encode(),
    "a duplicate name": TEXT.replace('"name"', '"name": "drop", "name"').encode(),
    "an escaped duplicate name": TEXT.replace('"name"', '"n\\u0061me": "drop", "name"').encode(),
    "a duplicate argument": TEXT.replace("{}", '{"region": "a", "region": "b"}').encode(),
    "NaN": TEXT.replace("{}", '{"n": NaN}').encode(),
    "Infinity": TEXT.replace("{}", '{"n": -Infinity}').encode(),
    "a number beyond all floats": TEXT.replace("{}", '{"n": 1e999}').encode(),
    "a number of 5000 digits": TEXT.replace("{}", '{"n": ' + "9" * 5000 + "}").encode(),
    "a lone surrogate": TEXT.replace("{}", '{"n": "\\ud800"}').encode(),
    "depth 65": TEXT.replace("{}", '{"n": ' + "[" * 63 + "]" * 63 + "}").encode(),
    "depth 100000": TEXT.replace("{}", '{"n": ' + "[" * 100_000 + "]" * 100_000 + "}").encode(),
    "a comment": TEXT.replace("{}", "{/**/}").encode(),
    "a trailing comma": TEXT.replace("{}", '{"a": 1,}').encode(),
    "single quotes": TEXT.replace('"', "'").encode(),
    "no version": json.dumps({key: CALL[key] for key in CALL if key != "jsonrpc"}).encode(),
    "another version": TEXT.replace("2.0", "1.0").encode(),
    "an unknown member": json.dumps({**CALL, "extra": 1}).encode(),
    "a request and a response at once": json.dumps({**CALL, "result": {}}).encode(),
    "a null id": json.dumps({**CALL, "id": None}).encode(),
    "a true id": json.dumps({**CALL, "id": True}).encode(),
    "a fractional id": json.dumps({**CALL, "id": 1.5}).encode(),
    "a list as id": json.dumps({**CALL, "id": [1]}).encode(),
    "an id of 300 characters": json.dumps({**CALL, "id": "x" * 300}).encode(),
    "params as a list": json.dumps({**CALL, "params": ["echo"]}).encode(),
    "a method that is no string": json.dumps({**CALL, "method": ["tools/call"]}).encode(),
    "a method in capitals": json.dumps({**CALL, "method": "Tools/Call"}).encode(),
    "a method with a space": json.dumps({**CALL, "method": "tools/call "}).encode(),
    "another method": json.dumps({**CALL, "method": "resources/read"}).encode(),
    "a task": with_params(task={"ttl": 1}).encode(),
    "a name that is no string": with_params(name=["echo"]).encode(),
    "a name of 2000 characters": with_params(name="e" * 2000).encode(),
    "arguments as text": with_params(arguments="{}").encode(),
    "a progress token that is none": with_params(_meta={"progressToken": {}}).encode(),
    "the stateless era": with_params(_meta={"io.modelcontextprotocol/protocolVersion": "2026-07-28"}).encode(),
    "a tool in capitals": with_params(name="ECHO").encode(),
    "a tool with a space": with_params(name="echo ").encode(),
    "a tool with a zero": with_params(name="echo\0").encode(),
    "a tool in full width": with_params(name="\uff45cho").encode(),
    "a notification": json.dumps({key: CALL[key] for key in CALL if key != "id"}).encode(),
    "a response": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "an error": b'{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":""}}',
    "4 MiB and one": TEXT.replace("{}", json.dumps({"n": "x" * 4 * 1024 * 1024})).encode(),
}


async def test_hostile_messages_are_refused_recorded_and_not_forwarded(bench: Bench) -> None:
    got_through = []
    for count, (name, body) in enumerate(HOSTILE.items(), start=1):
        answer = await bench.client.post(body)
        is_refused = answer.status == 400 or answer.reason in {"MethodNotAllowed", "ToolNotMapped"}
        if bench.executed() or len(bench.guard.records()) != count or not is_refused:
            got_through.append(name)
    assert got_through == []
    assert {record["decision"] for record in bench.guard.records()} == {"Deny"}
    assert (await bench.client.post(TEXT)).reason is None


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
    writer.write("\r\n".join(["POST /mcp/crm HTTP/1.1", *lines, "", TEXT]).encode())
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
    for version in ("2026-07-28", "1999-01-01", ""):
        assert (await bench.client.post(TEXT, {"MCP-Protocol-Version": version})).status == 400
    assert (await bench.client.post(TEXT, {"MCP-Protocol-Version": "2025-06-18"})).reason is None
    assert len(bench.executed()) == 1


async def test_a_stateless_probe_is_told_which_versions_there_are(bench: Bench) -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    answer = await bench.client.request("server/discover", {"_meta": meta})
    assert (answer.status, answer.body["error"]["code"]) == (400, -32022)
    assert "2025-11-25" in answer.body["error"]["data"]["supported"]


async def test_no_other_http_method_is_offered(bench: Bench) -> None:
    for method in ("GET", "DELETE", "PUT", "OPTIONS"):
        for headers, status in (({}, 405), ({"Host": "evil.example"}, 403)):
            async with bench.client.session.request(method, bench.client.url, headers=headers) as response:
                assert response.status == status


async def test_another_source_is_unknown(bench: Bench) -> None:
    for path in ("/mcp/mail", "/mcp/..%2fcrm", "/mcp/CRM", "/mcp/crm%00"):
        answer = await bench.client.post(TEXT, url=f"http://127.0.0.1:{bench.guard.port}{path}")
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
    url = f"http://127.0.0.1:{bench.guard.observe_port}/mcp/crm"
    async with bench.client.session.post(url, data=TEXT) as response:
        assert response.status == 404
    assert bench.executed() == []
