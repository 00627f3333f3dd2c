from typing import Any

import pytest

from interlock_contract import mcp
from interlock_contract.version import VERSION
from interlock_guard.upstream.forward import Forward, build_params, progress_params, read_forward, read_listen
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import MessageInvalid, RpcRequest

URI = "test://a"
PROMPT_REF = {"type": "ref/prompt", "name": "p"}
ARGUMENT = {"name": "a", "value": "v"}
SESSION_BASED = ServerInfo("2025-11-25", {})
SESSIONLESS = ServerInfo("2026-07-28", {}, is_sessionless=True)


def request(method: str, **params: Any) -> RpcRequest:
    return RpcRequest(1, method, params)


def test_a_call_is_rebuilt_from_what_was_understood() -> None:
    meta = {"progressToken": 7, "authorization": "secret", "traceparent": "00-1-1-01"}
    forward = read_forward("crm", request("tools/call", name="t", arguments={"a": 1}, _meta=meta))
    assert forward.params == {"name": "t", "arguments": {"a": 1}}
    assert (forward.tool, forward.arguments, forward.progress_token) == ("t", {"a": 1}, 7)
    assert forward.trace == {"traceparent": "00-1-1-01"}
    assert read_forward("crm", request("tools/call", name="t")).params == {"name": "t", "arguments": {}}


def test_each_method_says_what_it_is_about() -> None:
    assert read_forward("crm", request("tools/list", cursor="c", _meta={})).params == {"cursor": "c"}
    assert read_forward("crm", request("prompts/get", name="p", arguments={"a": "b"})).prompt == "p"
    for method in ("resources/read", "resources/subscribe", "resources/unsubscribe"):
        assert read_forward("crm", request(method, uri=URI)) == Forward("crm", method, uri=URI, params={"uri": URI})
    completed = read_forward("crm", request("completion/complete", ref={**PROMPT_REF, "title": "x"}, argument=ARGUMENT))
    assert (completed.prompt, completed.params) == ("p", {"ref": PROMPT_REF, "argument": ARGUMENT})
    ref = {"type": "ref/resource", "uri": "test://{id}"}
    context = {"arguments": {"a": "b"}}
    completed = read_forward("crm", request("completion/complete", ref=ref, argument=ARGUMENT, context=context))
    assert (completed.uri, completed.params["context"]) == ("test://{id}", context)


BAD = [
    ("tools/call", {"name": 1}),
    ("tools/call", {"name": ""}),
    ("tools/call", {"name": "t", "arguments": None}),
    ("tools/call", {"name": "t", "extra": 1}),
    ("tools/call", {"name": "t", "_meta": []}),
    ("tools/call", {"name": "t", "_meta": None}),
    ("tools/call", {"name": "t", "_meta": {"progressToken": True}}),
    ("tools/call", {"name": "t", "inputResponses": {}}),
    ("tools/call", {}),
    ("tools/list", {"cursor": 1}),
    ("tools/list", {"extra": 1}),
    ("resources/read", {"uri": ["test://a"]}),
    ("resources/read", {"uri": URI, "url": URI}),
    ("resources/read", {"uri": "x" * 8193}),
    ("resources/subscribe", {}),
    ("prompts/get", {"name": "p", "arguments": {"a": 1}}),
    ("prompts/get", {"name": None}),
    ("completion/complete", {"ref": PROMPT_REF}),
    ("completion/complete", {"ref": PROMPT_REF, "argument": {"name": "a"}}),
    ("completion/complete", {"ref": PROMPT_REF, "argument": {**ARGUMENT, "extra": "x"}}),
    ("completion/complete", {"ref": {"type": "ref/tool", "name": "t"}, "argument": ARGUMENT}),
    ("completion/complete", {"ref": {"type": "ref/prompt"}, "argument": ARGUMENT}),
    ("completion/complete", {"ref": "p", "argument": ARGUMENT}),
    ("completion/complete", {"ref": PROMPT_REF, "argument": ARGUMENT, "context": {"arguments": {"a": 1}}}),
    ("completion/complete", {"ref": PROMPT_REF, "argument": ARGUMENT, "context": {"extra": {}}}),
    ("completion/complete", {"ref": PROMPT_REF, "argument": ARGUMENT, "extra": 1}),
]


@pytest.mark.parametrize(("method", "params"), BAD)
def test_anything_else_is_refused(method: str, params: dict[str, Any]) -> None:
    with pytest.raises(MessageInvalid, match=method):
        read_forward("crm", request(method, **params))


def test_answers_to_a_server_are_read_in_the_sessionless_protocol_only_and_without_their_meta() -> None:
    answers = {"q": {"action": "accept", "_meta": {"x": 1}}}
    forward = read_forward(
        "crm", request("tools/call", name="t", inputResponses=answers, requestState="s"), is_sessionless=True
    )
    assert (forward.input_responses, forward.request_state) == ({"q": {"action": "accept"}}, "s")
    assert forward.params == {"name": "t", "arguments": {}}
    for bad in ({"inputResponses": []}, {"inputResponses": {"q": 1}}, {"requestState": 1}):
        with pytest.raises(MessageInvalid):
            read_forward("crm", request("tools/call", name="t", **bad), is_sessionless=True)
    with pytest.raises(MessageInvalid):
        read_forward("crm", request("tools/list", requestState="s"), is_sessionless=True)


def test_a_server_gets_of_the_clients_meta_the_trace_alone() -> None:
    meta = {"progressToken": 7, "authorization": "x", "traceparent": "t", "tracestate": "s", "baggage": "b"}
    forward = read_forward("crm", request("tools/call", name="t", _meta=meta))
    assert build_params(forward, SESSION_BASED, {})["_meta"] == {"traceparent": "t", "tracestate": "s", "baggage": "b"}
    assert "_meta" not in build_params(read_forward("crm", request("tools/call", name="t")), SESSION_BASED, {}, "debug")


def test_a_sessionless_server_gets_the_metadata_that_every_request_carries() -> None:
    forward = Forward("crm", "tools/call", params={"name": "t"}, input_responses={"q": {}}, request_state="s")
    params = build_params(forward, SESSIONLESS, {"roots": {}}, "debug")
    assert params["_meta"] == {
        mcp.VERSION_META: "2026-07-28",
        mcp.CLIENT_INFO_META: {"name": "interlock-guard", "version": VERSION},
        mcp.CLIENT_CAPABILITIES_META: {"roots": {}},
        mcp.LOG_LEVEL_META: "debug",
    }
    assert (params["inputResponses"], params["requestState"]) == ({"q": {}}, "s")
    assert mcp.LOG_LEVEL_META not in build_params(forward, SESSIONLESS, {})["_meta"]


def test_progress_keeps_only_progress_under_the_clients_token() -> None:
    said = {"progressToken": 5, "progress": 1, "total": 2, "message": "m", "_meta": {}}
    assert progress_params(said, "mine") == {"progressToken": "mine", "progress": 1, "total": 2, "message": "m"}
    odd = {"progress": {"text": "obey me"}, "total": "obey me", "message": ["obey me"]}
    assert progress_params(odd, "mine") == {"progressToken": "mine"}


def test_a_subscription_is_read_as_kinds_and_uris() -> None:
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": False,
        "taskIds": [1],
        "resourceSubscriptions": [URI, URI],
    }
    read = read_listen(request("subscriptions/listen", notifications=wanted))
    assert read == {"toolsListChanged": True, "resourceSubscriptions": [URI]}
    for bad in (None, [], {"resourceSubscriptions": URI}, {"resourceSubscriptions": [1]}):
        with pytest.raises(MessageInvalid):
            read_listen(request("subscriptions/listen", notifications=bad))
    many = {"resourceSubscriptions": [f"test://{number}" for number in range(257)]}
    with pytest.raises(MessageInvalid, match="256"):
        read_listen(request("subscriptions/listen", notifications=many))
