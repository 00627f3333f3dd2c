"""What is recorded at the end of what was allowed, and what happens where nothing can be recorded."""

import asyncio

import pytest

from interlock_guard.audit.spool import SpoolRefused
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream import sessionless as sessionless_module
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcNotification, RpcRequest, RpcResponse
from tests.requirements import requirement
from tests.unit.guard.test_relay import META, SECRET, SESSIONLESS_HEADERS, Rig, reached, rig

__all__ = ["rig"]


async def ended(rig: Rig) -> list[tuple[str, str, str]]:
    """Wait until everything that was allowed has an outcome; return (method, decision, outcome) in their order."""
    await reached(lambda: {line.fields["of"] for line in rig.chain("outcome")} >= allowed(rig))
    outcomes = {line.fields["of"]: line.fields["outcome"] for line in rig.chain("outcome")}
    assert len(outcomes) == len(rig.chain("outcome"))
    return [
        (str(line.fields["method"]), str(line.fields["decision"]), str(outcomes.get(line.seq, "")))
        for line in rig.chain("decision")
    ]


def allowed(rig: Rig) -> set[int]:
    return {line.seq for line in rig.chain("decision") if line.fields["decision"] == "Allow"}


CALL = "tools/call", "Allow"
ROOTS = "roots/list", "Allow"
ASKS = RpcResponse(1, {"resultType": "input_required", "requestState": "x", "inputRequests": {}}, None)
ASKS_ROOTS = RpcResponse(
    1, {"resultType": "input_required", "inputRequests": {"one": {"method": "roots/list", "params": {}}}}, None
)


@pytest.mark.parametrize("headers", [{}, SESSIONLESS_HEADERS])
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (SECRET, "Answered"),
        (RpcResponse(1, {"content": [], "isError": True}, None), "ToolError"),
        (RpcResponse(1, None, {"code": -1, "message": "no"}), "Error"),
        (Deny(DenyReason.SERVER_UNAVAILABLE, "", "It ended."), "ServerUnavailable"),
    ],
)
@requirement("records.outcomes")
async def test_how_a_call_ended_is_recorded_in_either_protocol_version(
    rig: Rig, headers: dict[str, str], answer: RpcResponse | Deny, outcome: str
) -> None:
    waiting = asyncio.create_task(rig.post(headers, **({"_meta": META} if headers else {})))
    (await rig.call()).resolve(answer)
    await waiting
    assert await ended(rig) == [(*CALL, outcome)]


@requirement("records.outcomes")
async def test_a_call_that_its_client_gave_up_ended_abandoned(rig: Rig) -> None:
    waiting = asyncio.create_task(rig.post())
    await rig.call()
    waiting.cancel()
    assert await ended(rig) == [(*CALL, "Abandoned")]


@requirement("records.outcomes")
async def test_a_call_answered_by_a_server_request_ends_with_it_and_its_repetition_is_a_call_of_its_own(
    rig: Rig,
) -> None:
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    await rig.call()
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    result = (await waiting)[1]["result"]
    answers = {key: {"roots": []} for key in result["inputRequests"]}
    repeated = asyncio.create_task(
        rig.post(SESSIONLESS_HEADERS, _meta=META, requestState=result["requestState"], inputResponses=answers)
    )
    await reached(lambda: bool(rig.upstream.responses))
    (await rig.call()).resolve(SECRET)
    await repeated
    assert await ended(rig) == [(*CALL, "InputRequired"), (*ROOTS, "Answered"), (*CALL, "Answered")]


@requirement("records.outcomes")
async def test_an_unanswered_server_request_and_its_call_end_abandoned(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessionless_module, "HOLD_SECONDS", 0.05)
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    await rig.call()
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    await waiting
    assert await ended(rig) == [(*CALL, "Abandoned"), (*ROOTS, "Abandoned")]


@requirement("records.outcomes")
async def test_a_server_request_without_a_client_is_denied(rig: Rig) -> None:
    waiting = asyncio.create_task(rig.post())
    call = await rig.call()
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    call.resolve(SECRET)
    await waiting
    assert await ended(rig) == [(*CALL, "Answered"), ("roots/list", "Deny", "")]
    assert rig.chain("decision")[1].fields["reason"] == "ServerRequestNotPassed"


@requirement("records.outcomes")
async def test_a_cancelled_server_request_ends_abandoned(rig: Rig) -> None:
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    call = await rig.call()
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    rig.on_event(RpcNotification("notifications/cancelled", {"requestId": "their-id"}))
    [_, question] = rig.chain("decision")
    assert [(line.fields["of"], line.fields["outcome"]) for line in rig.chain("outcome")] == [
        (question.seq, "Abandoned")
    ]
    call.resolve(SECRET)
    await waiting


@requirement("records.outcomes")
async def test_a_sessionless_servers_requests_are_recorded_and_so_is_each_round(rig: Rig) -> None:
    rig.upstream.server_info = ServerInfo("2026-07-28", {}, is_sessionless=True)
    waiting = asyncio.create_task(rig.post())
    (await rig.call()).resolve(ASKS)
    await reached(lambda: len(rig.upstream.calls) == 2)
    rig.upstream.calls[-1][1].resolve(SECRET)
    await waiting
    assert await ended(rig) == [(*CALL, "InputRequired"), (*CALL, "Answered")]
    passed_on = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    await reached(lambda: len(rig.upstream.calls) == 3)
    rig.upstream.calls[-1][1].resolve(ASKS_ROOTS)
    await passed_on
    assert (await ended(rig))[2:] == [(*CALL, "InputRequired"), (*ROOTS, "InputRequired")]


@requirement("records.outcomes")
async def test_a_sessionless_servers_request_that_the_client_does_not_support_is_denied(rig: Rig) -> None:
    rig.upstream.server_info = ServerInfo("2026-07-28", {}, is_sessionless=True)
    waiting = asyncio.create_task(rig.post())
    (await rig.call()).resolve(ASKS_ROOTS)
    await waiting
    assert await ended(rig) == [(*CALL, "InputRequired"), ("roots/list", "Deny", "")]


@requirement("records.unavailable")
@pytest.mark.parametrize("headers", [{}, SESSIONLESS_HEADERS])
async def test_nothing_is_forwarded_without_its_record(
    rig: Rig, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.spool, "append", refuse_line)
    status, body = await rig.post(headers, **({"_meta": META} if headers else {}))
    assert (status, body["result"]["_meta"]["interlock.dev/denial"]["reason"]) == (200, "AuditUnavailable")
    assert rig.upstream.calls == []


@requirement("records.unavailable")
async def test_no_server_request_and_no_further_round_is_sent_without_its_record(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    call = await rig.call()
    monkeypatch.setattr(rig.spool, "append", refuse_line)
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    assert "not stored" in str(rig.upstream.responses[0].error)
    call.resolve(ASKS_ROOTS)
    assert (await waiting)[1]["result"]["_meta"]["interlock.dev/denial"]["reason"] == "AuditUnavailable"
    assert not rig.endpoint.messages._exchanges["crm"]  # noqa: SLF001 - nothing outside shows it


@requirement("records.unavailable")
async def test_a_repetition_without_its_record_can_be_tried_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META))
    await rig.call()
    rig.on_event(RpcRequest("their-id", "roots/list", {}))
    state = (await waiting)[1]["result"]["requestState"]
    with monkeypatch.context() as patch:
        patch.setattr(rig.spool, "append", refuse_line)
        refused = await rig.post(SESSIONLESS_HEADERS, _meta=META, requestState=state)
    assert refused[1]["result"]["_meta"]["interlock.dev/denial"]["reason"] == "AuditUnavailable"
    again = asyncio.create_task(rig.post(SESSIONLESS_HEADERS, _meta=META, requestState=state))
    await reached(lambda: bool(rig.upstream.responses))
    (await rig.call()).resolve(SECRET)
    assert (await again)[1]["result"]["content"] == [{"type": "text", "text": "secret"}]


@requirement("records.unavailable")
async def test_a_round_without_its_record_ends_the_stream_that_the_answer_has_become(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.upstream.server_info = ServerInfo("2026-07-28", {}, is_sessionless=True)
    waiting = asyncio.create_task(rig.post(_meta={"progressToken": "mine"}))
    call = await rig.call()
    rig.on_event(RpcNotification("notifications/progress", {"progress": 1}))
    monkeypatch.setattr(rig.spool, "append", refuse_line)
    call.resolve(ASKS)
    async with asyncio.timeout(10):
        _, body = await waiting
    assert b'"reason":"AuditUnavailable"' in body
    assert len(rig.upstream.calls) == 1


def refuse_line(*_: object, **__: object) -> None:
    raise SpoolRefused("the disk refuses it")
