"""Clients of the stateless era, 2026-07-28: each request speaks for itself, and the body decides, never a header.

A question that a server of the handshake era asks in the middle of a request becomes the request's answer
(`input_required`); the request stays under way until the client repeats it with what it was asked for.
"""

import asyncio
import base64
import binascii
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.mcp import EVENT_STREAM, METHOD_HEADER, NAME_HEADER, VERSION_HEADER
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream.capabilities import for_sessionless, input_required, needs_input, read_questions
from interlock_guard.downstream.event_stream import EventStream
from interlock_guard.downstream.exchange import DownstreamClient, Exchange, ServerInitiatedRequest, to_response
from interlock_guard.downstream.gate import UNKNOWN_QUESTIONS, Gate, Inbound
from interlock_guard.downstream.outcomes import ANSWERED, INPUT_REQUIRED
from interlock_guard.downstream.replies import Reply, deny, give, refuse_version
from interlock_guard.downstream.sessions import NO_ANSWER
from interlock_guard.downstream.subscriptions import Subscription, Subscriptions
from interlock_guard.upstream.forward import Forward, read_forward, read_listen
from interlock_guard.upstream.upstream import Interrupted, unavailable
from interlock_guard.wire.jsonrpc import INVALID_PARAMS, MessageInvalid, RpcRequest, RpcResponse

HOLD_SECONDS: Final = 120.0
"""How long a request that a server's question has interrupted is held for its repetition."""
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=\Z", re.ASCII)
_SERVER_KINDS: Final = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}


def is_sessionless(message: RpcRequest) -> bool:
    """Say whether a request is of the stateless era: its body says so, or it is not."""
    meta = message.params.get("_meta")
    return isinstance(meta, dict) and mcp.VERSION_META in meta


@dataclass(frozen=True, slots=True)
class _Held:
    """A request between a question and its repetition."""

    exchange: Exchange
    questions: dict[str, ServerInitiatedRequest]
    expiry: asyncio.TimerHandle


class SessionlessClients:
    """Answers clients of the stateless era."""

    def __init__(self, gate: Gate, interests: Subscriptions) -> None:
        self._gate, self._interests = gate, interests
        self._held: dict[str, _Held] = {}

    async def take_request(self, inbound: Inbound, message: RpcRequest) -> web.StreamResponse:
        """Answer a request.

        Raises:
            MessageInvalid: It is none that a client may send, or its headers say something else.
        """
        meta = message.params["_meta"]
        version, capabilities = meta[mcp.VERSION_META], meta.get(mcp.CLIENT_CAPABILITIES_META)
        _check_headers(inbound.http, message, version)
        if version not in mcp.SESSIONLESS_VERSIONS:
            denial = Deny(DenyReason.BAD_REQUEST, "", "The message is of a protocol version that is not spoken.")
            self._gate.refuse(inbound.source, message.method, denial)
            return to_response(refuse_version(message.id, version))
        if not isinstance(capabilities, dict):
            raise MessageInvalid(INVALID_PARAMS, f"lacks _meta[{mcp.CLIENT_CAPABILITIES_META!r}]", message.id)
        if message.method not in mcp.SESSIONLESS_REQUESTS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
            self._gate.refuse(inbound.source, message.method, denial)
            return to_response(deny(message, denial, to_stateless=True))
        level = meta.get(mcp.LOG_LEVEL_META)
        if level is not None and level not in mcp.LOG_LEVELS:
            raise MessageInvalid(INVALID_PARAMS, f"has no log level as _meta[{mcp.LOG_LEVEL_META!r}]", message.id)
        client = DownstreamClient(inbound.source, None, capabilities, is_stateless=True, asked_log_level=level)
        if message.method == mcp.DISCOVER:
            return to_response(self._discover(inbound, message))
        if message.method == mcp.LISTEN:
            return await self._listen(inbound, message)
        return await self._forward(inbound, client, message)

    def break_off(self) -> None:
        """Forget every request that waits for its repetition."""
        for state in list(self._held):
            self._drop(state, "the guard is closed")

    def _discover(self, inbound: Inbound, message: RpcRequest) -> Reply:
        result = {"supportedVersions": list(mcp.SESSIONLESS_VERSIONS), **self._gate.offer(inbound.source)}
        return give(message, for_sessionless(message.method, result))

    async def _listen(self, inbound: Inbound, message: RpcRequest) -> web.StreamResponse:
        """Answer with a stream of what the client asked to hear of and may, until it hangs up."""
        if EVENT_STREAM not in inbound.http.headers.get("Accept", ""):
            return web.Response(status=406, text=f"The answer is {EVENT_STREAM}.\n")
        wanted = read_listen(message)
        offered = self._gate.offer(inbound.source)["capabilities"]
        honoured: dict[str, Any] = {
            key: True
            for key, kind in _SERVER_KINDS.items()
            if key in wanted and offered.get(kind, {}).get("listChanged")
        }
        uris = [uri for uri in wanted["resourceSubscriptions"] if self._may_subscribe(inbound, message, uri)]
        if uris:
            honoured["resourceSubscriptions"] = uris
        listening = Subscription(inbound.source, message.id, honoured, EventStream())
        listening.tell(mcp.ACKNOWLEDGED, {"notifications": honoured})
        self._interests.add(listening)
        try:
            return await listening.stream.serve(inbound.http)
        finally:
            self._interests.remove(listening)

    def _may_subscribe(self, inbound: Inbound, message: RpcRequest, uri: str) -> bool:
        record = self._gate.decide(inbound, message, Forward(mcp.SUBSCRIBE, {"uri": uri}, uri=uri))
        if isinstance(record, Deny):
            return False
        record.complete(ANSWERED)
        return True

    async def _forward(self, inbound: Inbound, client: DownstreamClient, message: RpcRequest) -> web.StreamResponse:
        forward = read_forward(message, is_stateless=True)
        upstream = self._gate.upstream(inbound.source)
        if forward.answers_questions and (
            upstream is None or upstream.hello is None or not upstream.hello.is_stateless
        ):
            return await self._repeat(inbound, client, message, forward)
        if forward.input_responses and not self._gate.may_ask_anything(inbound.source):
            raise MessageInvalid(INVALID_PARAMS, "answers questions that this server may not ask", message.id)
        await self._gate.look_at_tools(inbound.source, forward)
        begun = self._gate.begin(inbound, client, message, forward)
        if isinstance(begun, Reply):
            return to_response(begun)
        return await self._gate.relay(begun, self._settle)

    async def _settle(self, exchange: Exchange) -> Reply:
        """Wait for the answer of a server of either era, or for a question of it."""
        outcome = await exchange.call.future
        if isinstance(outcome, Interrupted):
            return self._hold(exchange)
        if isinstance(outcome, RpcResponse) and outcome.result is not None and needs_input(outcome.result):
            questions = read_questions(outcome.result)
            if questions is None:
                return self._gate.reply(exchange, unavailable(exchange.client.source, UNKNOWN_QUESTIONS))
            records = self._gate.decide_questions(exchange, questions)
            if isinstance(records, Deny):
                return self._gate.reply(exchange, records)
            for record in records.values():
                record.complete(INPUT_REQUIRED)
            return self._gate.give(exchange, _ask(questions, outcome.result.get("requestState")))
        return self._gate.reply(exchange, outcome)

    def _hold(self, exchange: Exchange) -> Reply:
        """Put a server's questions to the client as the answer, and keep the request for its repetition."""
        state = secrets.token_urlsafe(32)
        questions = {f"question-{number}": one for number, one in enumerate(exchange.questions, start=1)}
        exchange.questions = []
        exchange.call.renew()
        expiry = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._drop, state, "the client did not answer")
        self._held[state] = _Held(exchange, questions, expiry)
        exchange.is_held = True
        asked = {key: (question.method, question.params) for key, question in questions.items()}
        return self._gate.give(exchange, _ask(asked, state))

    def _drop(self, state: str, why: str) -> None:
        held = self._held.pop(state, None)
        if held is not None:
            held.expiry.cancel()
            for question in held.questions.values():
                question.answered(RpcResponse(None, None, NO_ANSWER))
            held.exchange.upstream.abandon(held.exchange.call, why)
            held.exchange.is_held = False
            self._gate.end(held.exchange)

    async def _repeat(
        self, inbound: Inbound, client: DownstreamClient, message: RpcRequest, forward: Forward
    ) -> web.StreamResponse:
        """Go on with a request that a question had interrupted; it is decided on anew."""
        state = forward.request_state or ""
        held = self._held.get(state)
        if (
            held is None
            or held.exchange.client.source != inbound.source
            or not _is_same(held.exchange.forward, forward)
        ):
            raise MessageInvalid(
                INVALID_PARAMS, "has a requestState that is unknown, was used, or is of another", message.id
            )
        record = self._gate.decide(inbound, message, forward)
        if isinstance(record, Deny):
            self._drop(state, "the request is not allowed any more")
            return to_response(deny(message, record, to_stateless=True))
        del self._held[state]
        held.expiry.cancel()
        exchange = self._gate.prepare(inbound, client, message, forward)
        self._gate.take_over(held.exchange, exchange, record)
        for key, question in held.questions.items():
            result = (forward.input_responses or {}).get(key)
            question.answered(RpcResponse(None, result, None if result is not None else NO_ANSWER))
        return await self._gate.relay(exchange, self._settle)


def _is_same(before: Forward, now: Forward) -> bool:
    return (before.method, before.params) == (now.method, now.params)


def _ask(questions: dict[str, tuple[str, dict[str, Any]]], state: str | None) -> dict[str, Any]:
    return input_required(
        {key: {"method": method, "params": params} for key, (method, params) in questions.items()}, state
    )


def _check_headers(http: web.Request, message: RpcRequest, version: Any) -> None:
    """Refuse headers that disagree with the body: whoever routes by them must not be told something else."""
    headers = http.headers
    expected = {VERSION_HEADER: version, METHOD_HEADER: message.method}
    for name, value in expected.items():
        if headers.get(name) != value:
            raise MessageInvalid(mcp.HEADER_MISMATCH, f"is not what its {name} header says", message.id)
    key = mcp.NAME_PARAMETERS.get(message.method)
    if key is None:
        return
    value = message.params.get(key)
    if value is not None and decode_header(headers.get(NAME_HEADER)) != value:
        raise MessageInvalid(mcp.HEADER_MISMATCH, f"is not what its {NAME_HEADER} header says", message.id)


def decode_header(value: str | None) -> str | None:
    """Return what a header says: itself, or the text in its base64 sentinel; None if that is malformed."""
    match = None if value is None else _SENTINEL.match(value)
    if match is None:
        return value
    try:
        decoded = base64.b64decode(match.group(1), validate=True)
        is_canonical = base64.b64encode(decoded).decode() == match.group(1)
        return decoded.decode() if is_canonical else None
    except (binascii.Error, UnicodeDecodeError):
        return None
