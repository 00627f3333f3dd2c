import json
import re
from unittest.mock import MagicMock

import pytest
from a2a.server.routes.jsonrpc_dispatcher import JSONRPC03Adapter, JsonRpcDispatcher
from a2a.server.routes.rest_routes import create_rest_routes
from starlette.routing import Route

from interlock_guard.tasks.request_classes import RequestClass, classify_request, read_rpc_method

WORK = {"SendMessage", "SendStreamingMessage", "message/send", "message/stream"}
METHODS = sorted({*JsonRpcDispatcher.METHOD_TO_MODEL, *JSONRPC03Adapter.METHOD_TO_MODEL})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_a2a_is_work_or_a_word_about_it(method: str) -> None:
    assert classify_request("POST", "/", method) == (RequestClass.TASK if method in WORK else RequestClass.CONTROL)


@pytest.mark.parametrize("rpc", ["", "tools/call", "tasks/anything", "gettask"])
def test_what_is_not_known_is_work(rpc: str) -> None:
    assert classify_request("POST", "/run", rpc) == RequestClass.TASK


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_method_that_changes_something_is_work(method: str) -> None:
    assert classify_request(method, "/tickets/7", "") == RequestClass.TASK


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_method_that_only_reads_is_a_control_request(method: str) -> None:
    assert classify_request(method, "/tickets/7?verbose=1", "") == RequestClass.READ


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/.well-known/agent-card.json"),
        ("GET", "/.well-known/agent.json?x=1"),
        ("GET", "/v1/tasks?pageSize=1"),
        ("GET", "/rest/tasks/t-1"),
        ("POST", "/tasks/t-1:cancel"),
        ("POST", "/v1/tasks/t-1:cancel"),
        ("GET", "/v1/tasks/t-1:subscribe"),
        ("POST", "/tasks/t-1/pushNotificationConfigs"),
        ("DELETE", "/tenant/tasks/t-1/pushNotificationConfigs/c"),
    ],
)
def test_so_are_the_paths_of_a2a_over_plain_http(method: str, target: str) -> None:
    assert classify_request(method, target, "") == RequestClass.CONTROL


@pytest.mark.parametrize(
    "target", ["/message:send", "/v1/message:stream", "/tasks", "/tasks/t", "/tasks/:cancel", "/x:cancel"]
)
def test_and_no_others(target: str) -> None:
    assert classify_request("POST", target, "") == RequestClass.TASK


def test_a_body_that_names_work_is_work_wherever_it_is_sent() -> None:
    assert classify_request("POST", "/tasks/t:cancel", "SendMessage") == RequestClass.TASK


def paths_of_the_official_sdk() -> set[tuple[str, str]]:
    routes = create_rest_routes(MagicMock(), enable_v0_3_compat=True)
    return {
        (method, re.sub(r"\{[^}]+\}", "t", route.path))
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }


def test_every_path_of_the_official_sdk_is_told_apart() -> None:
    found = paths_of_the_official_sdk()
    assert {("POST", "/v1/message:send"), ("POST", "/message:send"), ("POST", "/tasks/t:cancel")} <= found
    for method, target in found:
        is_work = method == "POST" and "message:" in target
        assert classify_request(method, target, "") == (RequestClass.TASK if is_work else RequestClass.CONTROL), (
            method,
            target,
        )


@pytest.mark.parametrize(
    "body",
    [b"", b"nonsense", b"[]", b"1", b'{"method": "GetTask"}', b'{"jsonrpc": "2.0"}', b'{"jsonrpc":"2.0","method":1}'],
)
def test_what_is_no_request_of_json_rpc_names_no_method(body: bytes) -> None:
    assert read_rpc_method(body) == ""


def test_a_request_of_json_rpc_names_its_method() -> None:
    assert read_rpc_method(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "GetTask"}).encode()) == "GetTask"
    for method in ("m" * 129, "a\nb"):
        assert read_rpc_method(json.dumps({"jsonrpc": "2.0", "method": method}).encode()) == ""
