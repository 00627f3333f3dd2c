"""Odd messages of MCP servers over HTTP: each costs at most its own call, as on pipes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from interlock_contract.http_target import HttpTarget
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habit_server import SSE, HabitServer
from tests.integration.guard.harness import Client, Guard, a_bundle_over_http
from tests.requirements import requirement
from tests.support.bounds import until

MADE_UP = {"jsonrpc": "2.0", "method": "notifications/made_up"}
FORMS: dict[str, Callable[[dict[str, Any]], str]] = {
    "error null": lambda message: json.dumps({**message, "error": None}),
    "empty error": lambda message: json.dumps({**message, "error": {}}),
    "method": lambda message: json.dumps({**message, "method": "tools/call"}),
    "array": lambda message: json.dumps([message]),
    "array of several": lambda message: json.dumps([MADE_UP, message, {**message, "id": 987654}, 7]),
    "unknown member": lambda message: json.dumps({**message, "serverTime": "now"}),
    "id as text": lambda message: json.dumps({**message, "id": str(message["id"])}),
    "id as decimal": lambda message: json.dumps({**message, "id": float(message["id"])}),
    "byte order mark": lambda message: "\ufeff" + json.dumps(message),
}
"""How a server may write all of its answers."""
RESULT = '{"jsonrpc":"2.0","id":#,"result":%s}'
ANSWERS: dict[str, tuple[str, str]] = {
    "half": (RESULT % '{"content":[{"type":"text","text":"party \\ud83c"}]}', "party \ufffd"),
    "nan": (RESULT % '{"content":[],"structuredContent":{"mean":NaN}}', '"mean": null'),
    "list": (RESULT % "[]", "The MCP server answered with a result that is no object."),
    "code": ('{"jsonrpc":"2.0","id":#,"error":{"code":"ENOENT","message":"no file"}}', "ENOENT: no file"),
    "twice": (RESULT % '{"content":[],"content":[]}', "duplicate key"),
    "half_line": ('{"jsonrpc":"2.0","id":#,"result":{', "not JSON"),
}
"""Answers of tools, with the id for #, and what their client reads."""
EVENTS = [
    "DEBUG: querying with key 0123456789abcdef0123",
    '"ready"',
    '{"jsonrpc":"2.0","id":987654,"result":{}}',
    '{"jsonrpc":"2.0","id":null,"result":{}}',
    '[{"jsonrpc":"2.0","id":987654,"result":{}},{"jsonrpc":"2.0","id":987655,"result":{}}]',
    '{"jsonrpc":"2.0","method":"notifications/message","params":"x"}',
]
"""Events that mean nothing, one of them with two messages.

A notification with `params: []` means something, so it is none of them."""


class OddServer(HabitServer):
    """Writes its answers in a form, as one JSON text or on a stream with odd events before it."""

    def __init__(self, form: Callable[[dict[str, Any]], str] = json.dumps, *, streams: bool = False) -> None:
        super().__init__("plain")
        self._form, self._streams = form, streams

    async def _answer(
        self,
        http: web.Request,  # noqa: ARG002 - as the base has it
        number: Any,
        result: Any,
        headers: dict[str, str] | None = None,
    ) -> web.StreamResponse:
        return self._write(self._form({"jsonrpc": "2.0", "id": number, "result": result}), headers or {})

    async def _call(self, http: web.Request, number: Any, params: dict[str, Any]) -> web.StreamResponse:
        if params["name"] in ANSWERS:
            self.counts[params["name"]] += 1
            return self._write(ANSWERS[params["name"]][0].replace("#", str(number)), {})
        return await super()._call(http, number, params)

    def _write(self, text: str, headers: dict[str, str]) -> web.Response:
        if not self._streams:
            return web.Response(text=text, content_type="application/json", headers=headers)
        body = "".join(f"data: {event}\n\n" for event in [*EVENTS, text])
        return web.Response(text=body, content_type=SSE, headers=headers)


@asynccontextmanager
async def client_of(api: FakeApiServer, guard: Guard, server: OddServer) -> AsyncIterator[Client]:
    await server.start()
    target = HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), None)
    api.set_bundle(a_bundle_over_http(["echo", "slow", *ANSWERS], target))
    await guard.started()
    async with aiohttp.ClientSession() as session:
        await until(lambda: guard.probe("/ready/crm"), guard.log)
        yield Client(session, guard.url)
    await server.stop()


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.integration.guard.habit_server.TOOLS", ["echo", "slow", *ANSWERS])


@requirement("guard.odd-messages")
@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("form", FORMS)
async def test_a_server_that_writes_its_answers_so_can_be_used(
    api: FakeApiServer, guard: Guard, form: str, *, streams: bool
) -> None:
    server = OddServer(FORMS[form], streams=streams)
    async with client_of(api, guard, server) as client:
        answer = await client.call("echo", a="b")
        assert (answer.reason, answer.text) == (None, '{"a": "b"}')
        assert server.counts["initialize"] == 1


@requirement("guard.odd-messages")
@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
async def test_an_odd_answer_costs_at_most_its_own_call(api: FakeApiServer, guard: Guard, *, streams: bool) -> None:
    server = OddServer(streams=streams)
    async with client_of(api, guard, server) as client:
        slow = asyncio.create_task(client.call("slow"))
        await until(lambda: server.counts["slow"] == 1, "another call is under way")
        for tool, (_, words) in ANSWERS.items():
            answer = await client.call(tool)
            shown = json.dumps(answer.body, ensure_ascii=False)
            assert words in shown, tool
            assert ("ServerUnavailable" in shown) == (tool in {"twice", "half_line"}), shown
        server.release.set()
        assert (await slow).reason is None
        assert [server.counts[tool] for tool in ANSWERS] == [1] * len(ANSWERS), "each call is executed once"
        assert server.counts["initialize"] == 1


@requirement("guard.odd-messages")
async def test_odd_events_on_the_standalone_stream_are_dropped_and_the_stream_goes_on(
    api: FakeApiServer, guard: Guard
) -> None:
    server = OddServer()
    async with client_of(api, guard, server) as client:
        await until(lambda: bool(server.open_streams), "the stream is open")
        for event in EVENTS:
            await server.open_streams[0].write(f"data: {event}\n\n".encode())
        await server.say({"id": "last", "method": "ping"})
        await until(lambda: server.counts["None"] == 1, "the guard has answered what came after them")
        assert len(server.asked_at) == 1, "the stream was opened once"
        assert f'dropped_total{{source="crm"}} {len(EVENTS) + 1}\n' in await guard.metrics()
        assert "0123456789abcdef0123" not in guard.log()
        assert (await client.call("echo")).reason is None
