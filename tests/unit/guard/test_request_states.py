"""Request states: a sessionless server gets its own state back, and only with the request that it gave it for."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_guard.downstream import request_states
from interlock_guard.downstream.request_states import MAX_LENGTH, MAX_STATES, RequestStates, RequiredInput
from interlock_guard.upstream.forward import Forward
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement
from tests.unit.guard.test_relay import META, SECRET, SESSIONLESS_HEADERS, Rig, reached, rig

__all__ = ["rig"]

STATE = '{"delete": "/data/a"}'
ROOTS = {"one": {"method": "roots/list"}}
ANSWER = {"one": {"roots": []}}
CALL = Forward("crm", "tools/call", tool="echo", arguments={"path": "/data/a"})


class Server:
    """The rig's server in a sessionless version, which requires input once."""

    def __init__(self, rig: Rig, monkeypatch: pytest.MonkeyPatch, state: str | None = STATE) -> None:
        self.rig, self.state = rig, state
        self.sent: list[dict[str, Any]] = []
        rig.upstream.server_info = ServerInfo("2026-07-28", {"tools": {}}, is_sessionless=True)
        start = rig.upstream.start

        def note(method: str, params: dict[str, Any], *rest: Any, **options: bool) -> Any:
            if method == "tools/call":
                self.sent.append({key: params.get(key) for key in ("arguments", "requestState", "inputResponses")})
            return start(method, params, *rest, **options)

        monkeypatch.setattr(rig.upstream, "start", note)

    async def call(self, answer: dict[str, Any] | None, **more: Any) -> Any:
        """Call the tool; the server answers with this, or is not reached."""
        before = len(self.sent)
        waiting = asyncio.create_task(self.rig.post(SESSIONLESS_HEADERS, _meta=META, **more))
        await reached(lambda: waiting.done() or len(self.sent) > before)
        if len(self.sent) > before:
            self.rig.upstream.calls[-1][1].resolve(RpcResponse(1, answer or {}, None))
        return (await waiting)[1]

    async def ask(self, **more: Any) -> Any:
        asked: dict[str, Any] = {"resultType": "input_required", "inputRequests": ROOTS}
        return (await self.call(asked if self.state is None else {**asked, "requestState": self.state}, **more))[
            "result"
        ]


@requirement("guard.request-states")
@pytest.mark.parametrize("state", [STATE, None])
async def test_a_server_gets_its_state_back_and_its_client_never_sees_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    server = Server(rig, monkeypatch, state)
    asked = await server.ask(arguments={"path": "/data/a"})
    assert STATE not in str(asked)
    more = {"requestState": asked["requestState"], "inputResponses": ANSWER}
    assert (await server.call(SECRET.result, arguments={"path": "/data/a"}, **more))["result"]["content"]
    assert server.sent[1] == {"arguments": {"path": "/data/a"}, "requestState": state, "inputResponses": ANSWER}


@requirement("guard.request-states")
@pytest.mark.parametrize(
    "other",
    [
        {"requestState": STATE},
        {"requestState": None, "inputResponses": ANSWER},
        {"arguments": {"path": "/etc/passwd"}},
        {"inputResponses": {"two": {"roots": []}}},
        {"inputResponses": {**ANSWER, "two": {}}},
    ],
    ids=["made up", "none", "of other arguments", "other input", "more input"],
)
async def test_no_state_and_no_input_that_was_not_required_reaches_a_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any]
) -> None:
    server = Server(rig, monkeypatch)
    asked = await server.ask(arguments={"path": "/data/a"})
    more = {"arguments": {"path": "/data/a"}, "requestState": asked["requestState"], **other}
    refused = await server.call(None, **more)
    assert refused["error"]["code"] == -32602
    assert len(server.sent) == 1


@requirement("guard.request-states")
async def test_a_state_that_is_too_long_to_keep_is_refused_by_name(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(rig, monkeypatch, "x" * (MAX_LENGTH + 1))
    assert f"more than {MAX_LENGTH} characters" in (await server.ask())["content"][0]["text"]


@requirement("guard.request-states")
def test_the_oldest_states_are_forgotten_beyond_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    states, kept = RequestStates(), RequiredInput("x" * 10, {})
    texts = [states.give(CALL, kept) for _ in range(MAX_STATES + 1)]
    assert [states.find(CALL, text) for text in texts[:2]] == [None, kept]
    monkeypatch.setattr(request_states, "MAX_CHARACTERS", 25)
    texts = [states.give(CALL, kept) for _ in range(3)]
    assert [states.find(CALL, text) for text in texts] == [None, kept, kept]


@requirement("guard.request-states")
def test_a_state_is_of_one_request() -> None:
    states = RequestStates()
    text = states.give(CALL, RequiredInput(None, {}))
    others = (
        Forward("mail", "tools/call", tool="echo", arguments=CALL.arguments),
        Forward("crm", "prompts/get", prompt="echo", arguments=CALL.arguments),
        Forward("crm", "tools/call", tool="other", arguments=CALL.arguments),
        Forward("crm", "tools/call", tool="echo", arguments={}),
        Forward("crm", "tools/call", tool="echo", arguments=CALL.arguments, is_large=True),
    )
    assert [states.find(other, text) for other in others] == [None] * 5


@requirement("guard.request-states")
async def test_input_that_the_binding_no_longer_allows_reaches_no_server(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(rig, monkeypatch)
    asked = await server.ask()
    bundle = rig.live.bundle
    assert bundle is not None
    rig.live.bundle = replace(bundle, sources=(replace(bundle.sources[0], server_requests=("Sampling",)),))
    refused = await server.call(None, requestState=asked["requestState"], inputResponses=ANSWER)
    assert "may not send" in refused["error"]["message"]
    assert len(server.sent) == 1
