"""Requests that servers send to clients: how many there may be, and what they may ask for."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from interlock_guard.downstream.exchange import MAX_SERVER_REQUESTS
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcNotification, RpcRequest, RpcResponse
from tests.requirements import requirement
from tests.unit.guard.test_relay import META, SECRET, SESSIONLESS_HEADERS, Rig, reached, rig

__all__ = ["rig"]

MANY = 2 * MAX_SERVER_REQUESTS
SAMPLING = {**META, "io.modelcontextprotocol/clientCapabilities": {"sampling": {}}}
SAMPLE = {"messages": [], "maxTokens": 1}


def allow_sampling(rig: Rig) -> None:
    bundle = rig.live.bundle
    assert bundle is not None
    [source] = bundle.sources
    rig.live.bundle = replace(bundle, sources=(replace(source, server_requests=("Sampling",)),))


def decisions(rig: Rig, decision: str) -> int:
    return sum(line.fields["decision"] == decision for line in rig.chain("decision"))


@requirement("guard.server-requests")
async def test_requests_that_no_client_can_be_given_fill_no_spool(rig: Rig) -> None:
    for number in range(MANY):
        rig.endpoint.messages.handle_request(rig.upstream, RpcRequest(number, "roots/list", {}))
    assert [response.error and response.error["code"] for response in rig.upstream.responses] == [-32600] * MANY
    assert (decisions(rig, "Allow"), decisions(rig, "Deny"), len(rig.chain("outcome"))) == (0, 100, 0)


@requirement("guard.server-requests")
async def test_a_server_that_asks_and_withdraws_during_one_call_fills_no_spool(rig: Rig) -> None:
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    call = await rig.call()
    for number in range(MANY):
        rig.on_event(RpcRequest(number, "roots/list", {}))
        rig.on_event(RpcNotification("notifications/cancelled", {"requestId": number}))
    assert decisions(rig, "Allow") == 1 + MAX_SERVER_REQUESTS
    call.resolve(SECRET)
    await waiting


@requirement("guard.server-requests")
async def test_an_answer_with_more_requests_for_input_than_its_bound_is_refused_and_none_is_recorded(rig: Rig) -> None:
    rig.upstream.server_info = ServerInfo("2026-07-28", {}, is_sessionless=True)
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    asked = {str(number): {"method": "roots/list"} for number in range(65)}
    (await rig.call()).resolve(RpcResponse(1, {"resultType": "input_required", "inputRequests": asked}, None))
    assert (await waiting)[1]["result"]["isError"]
    assert decisions(rig, "Allow") == 1


@requirement("guard.server-requests")
@pytest.mark.parametrize("is_sessionless", [False, True])
async def test_a_server_does_not_ask_for_what_other_servers_said(rig: Rig, is_sessionless: bool) -> None:  # noqa: FBT001
    allow_sampling(rig)
    asked = await ask(rig, {**SAMPLE, "includeContext": "allServers"}, is_sessionless=is_sessionless)
    [request] = asked["inputRequests"].values()
    assert request == {"method": "sampling/createMessage", "params": SAMPLE}


@requirement("guard.server-requests")
@pytest.mark.parametrize("is_sessionless", [False, True])
@pytest.mark.parametrize("name", ["tools", "toolChoice", "task"])
async def test_a_server_does_not_ask_in_a_way_that_the_guard_has_not_declared(
    rig: Rig,
    name: str,
    is_sessionless: bool,  # noqa: FBT001
) -> None:
    allow_sampling(rig)
    answered = await ask(rig, {**SAMPLE, name: {}}, is_sessionless=is_sessionless)
    assert "inputRequests" not in answered
    [denied] = [line.fields for line in rig.chain("decision") if line.fields["decision"] == "Deny"]
    assert denied["reason"] == "ServerRequestNotPassed"
    assert name in str(denied["message"])


async def ask(rig: Rig, params: dict[str, Any], *, is_sessionless: bool) -> Any:
    """Have the server of a call ask its client; return the result that the client gets."""
    if is_sessionless:
        rig.upstream.server_info = ServerInfo("2026-07-28", {}, is_sessionless=True)
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=SAMPLING))
    call = await rig.call()
    if is_sessionless:
        asked = {"one": {"method": "sampling/createMessage", "params": params}}
        call.resolve(RpcResponse(1, {"resultType": "input_required", "inputRequests": asked}, None))
    else:
        rig.on_event(RpcRequest("their-id", "sampling/createMessage", params))
        if rig.upstream.responses:
            call.resolve(SECRET)
    await reached(waiting.done)
    return (await waiting)[1]["result"]
