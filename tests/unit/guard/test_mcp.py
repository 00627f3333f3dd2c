import json
from typing import Any

import pytest
from mcp_types import UNSUPPORTED_PROTOCOL_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION

from interlock_guard import mcp
from interlock_guard.decide import Deny, Reason
from interlock_guard.jsonrpc import MessageInvalid, Request, Response
from interlock_guard.replies import answer, deny, refuse, refuse_version


def request(method: str, **params: Any) -> Request:
    return Request(1, method, params)


def test_the_versions_are_those_of_the_official_types() -> None:
    assert mcp.HANDSHAKE_VERSIONS == HANDSHAKE_PROTOCOL_VERSIONS
    assert mcp.LATEST_VERSION == LATEST_HANDSHAKE_VERSION
    assert mcp.UNSUPPORTED_VERSION == UNSUPPORTED_PROTOCOL_VERSION


def test_a_call_is_rebuilt_from_what_was_understood() -> None:
    meta = {"progressToken": 7, "authorization": "secret"}
    forward = mcp.read_forward(request("tools/call", name="t", arguments={"a": 1}, _meta=meta))
    assert forward == mcp.Forward("tools/call", {"name": "t", "arguments": {"a": 1}}, "t", 7)
    assert mcp.read_forward(request("tools/call", name="t")).params == {"name": "t", "arguments": {}}
    assert mcp.read_forward(request("tools/list", cursor="c", _meta={})).params == {"cursor": "c"}
    assert mcp.read_forward(request("prompts/list", a=1)).params == {}


@pytest.mark.parametrize(
    "params",
    [
        {"name": 1},
        {"name": "t", "arguments": None},
        {"name": "t", "extra": 1},
        {"name": "t", "_meta": []},
        {"name": "t", "_meta": {"progressToken": True}},
        {},
    ],
)
def test_a_call_with_anything_else_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(MessageInvalid):
        mcp.read_forward(request("tools/call", **params))


@pytest.mark.parametrize("params", [{"cursor": 1}, {"extra": 1}])
def test_a_list_with_anything_else_is_refused(params: dict[str, Any]) -> None:
    with pytest.raises(MessageInvalid):
        mcp.read_forward(request("tools/list", **params))


@pytest.mark.parametrize(
    "tools", [None, "echo", {"name": "echo"}, [{"name": ["echo"]}], ["echo"], [{"title": "echo"}], [{"name": "drop"}]]
)
def test_a_list_that_is_malformed_or_of_others_shows_nothing(tools: Any) -> None:
    assert mcp.filter_tools({"tools": tools, "nextCursor": 1}, "echo".__eq__) == {"tools": []}


def test_a_list_keeps_permitted_tools_whole_and_the_cursor() -> None:
    tool = {"name": "echo", "inputSchema": {"type": "object"}}
    result = {"tools": [tool, {"name": "drop"}], "nextCursor": "c", "_meta": {}}
    assert mcp.filter_tools(result, "echo".__eq__) == {"tools": [tool], "nextCursor": "c"}


def test_a_list_without_a_bundle_shows_nothing() -> None:
    response = Response(9, {"tools": [{"name": "echo"}]}, None)
    assert json.loads(answer(request("tools/list"), response, None, "crm").body)["result"] == {"tools": []}


def test_progress_keeps_only_progress_under_the_clients_token() -> None:
    said = {"progressToken": 5, "progress": 1, "total": 2, "message": "m", "_meta": {}}
    assert mcp.progress_params(said, "mine") == {"progressToken": "mine", "progress": 1, "total": 2, "message": "m"}


@pytest.mark.parametrize("reason", list(Reason))
def test_a_call_that_policy_denies_is_a_result_and_a_closed_guard_is_an_error(reason: Reason) -> None:
    reply = deny(request("tools/call", name="t"), Deny(reason, "rule", "No."))
    body = json.loads(reply.body)
    if reason in {Reason.KILLED, Reason.NO_BUNDLE, Reason.STALE_STATE, Reason.AGENT_MISMATCH}:
        assert reply.status == 503
        assert body["error"]["data"] == {"reason": reason.value, "message": "No."}
    elif reason in {Reason.UNKNOWN_SOURCE, Reason.BAD_REQUEST, Reason.METHOD_NOT_ALLOWED}:
        assert body["error"]["data"]["reason"] == reason.value
    else:
        assert reply.status == 200
        assert body["result"] == {
            "content": [{"type": "text", "text": "No."}],
            "isError": True,
            "_meta": {"interlock.dev/denial": {"reason": reason.value, "rule": "rule"}},
        }


def test_other_refusals_are_errors_with_the_reason() -> None:
    assert deny(request("tools/list"), Deny(Reason.SERVER_UNAVAILABLE, "", "No.")).status == 503
    assert refuse(None, Deny(Reason.BAD_REQUEST, "", "No."), -32700).status == 400
    assert json.loads(refuse_version(1, "2026-07-28").body)["error"]["data"]["requested"] == "2026-07-28"


def test_a_servers_error_is_passed_on_under_the_clients_id() -> None:
    reply = answer(Request("mine", "tools/call", {}), Response(9, None, {"code": -1, "message": "no"}), None, "crm")
    assert json.loads(reply.body) == {"jsonrpc": "2.0", "id": "mine", "error": {"code": -1, "message": "no"}}
