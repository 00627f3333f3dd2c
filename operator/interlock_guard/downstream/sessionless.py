"""Sessionless clients, 2026-07-28: each request is complete in itself, and its body counts, never a header.

A session-based server may send a request of its own in the middle of a call. A sessionless client gets it as the
answer of its request (`input_required`). The call is held until the client repeats the request with the input.
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
from interlock_guard.audit.recorder import Caller, read_caller
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.authorizer import ANSWERED, INPUT_REQUIRED, Authorizer
from interlock_guard.downstream.event_stream import EventStream, accepts_events
from interlock_guard.downstream.exchange import (
    DownstreamClient,
    Exchange,
    ExchangeState,
    ServerInitiatedRequest,
    to_response,
)
from interlock_guard.downstream.relay import UNKNOWN_INPUT_REQUEST, Relay
from interlock_guard.downstream.replies import (
    Reply,
    deny,
    for_sessionless,
    give,
    input_required,
    needs_input,
    read_input_requests,
    refuse_version,
)
from interlock_guard.downstream.request_states import MAX_LENGTH, RequestStates, RequiredInput
from interlock_guard.downstream.sessions import NO_ANSWER
from interlock_guard.downstream.subscriptions import Subscription, Subscriptions
from interlock_guard.state import LiveState
from interlock_guard.upstream.forward import Forward, read_forward, read_listen
from interlock_guard.upstream.sources import Sources
from interlock_guard.upstream.upstream import Interrupted, unavailable
from interlock_guard.wire.jsonrpc import INVALID_PARAMS, MessageInvalid, RpcRequest, RpcResponse

HOLD_SECONDS: Final = 120.0
"""How long a call that waits for input is held for the client's repetition."""
_SENTINEL: Final = re.compile(r"=\?base64\?(.*)\?=\Z", re.ASCII)
_NOT_GIVEN: Final = "has a requestState that is unknown, was used, or is of another request: send it again without"
_SERVER_KINDS: Final = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}


def is_sessionless(message: RpcRequest) -> bool:
    """Return True if a request is of a sessionless version, which its body names."""
    meta = message.params.get("_meta")
    return isinstance(meta, dict) and mcp.VERSION_META in meta


@dataclass(slots=True, eq=False)
class _Held:
    """A call between a request for input and the client's repetition."""

    exchange: Exchange
    required: dict[str, ServerInitiatedRequest]
    expiry: asyncio.TimerHandle


class SessionlessClients:
    """Answers sessionless clients; their `ProtocolVersion`."""

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        authorizer: Authorizer,
        relay: Relay,
        subscriptions: Subscriptions,
    ) -> None:
        self._live, self._sources, self._authorizer, self._relay = live, sources, authorizer, relay
        self._subscriptions = subscriptions
        self._held: dict[str, _Held] = {}
        self._states = RequestStates()

    async def handle_request(self, http: web.Request, source: str, message: RpcRequest) -> web.StreamResponse:
        """Answer a request.

        Raises:
            MessageInvalid: A client may not send it, or its headers disagree with it.
        """
        meta = message.params["_meta"]
        version, declared = meta[mcp.VERSION_META], meta.get(mcp.CLIENT_CAPABILITIES_META)
        _check_headers(http, message, version)
        if version not in mcp.SESSIONLESS_VERSIONS:
            denial = Deny(DenyReason.BAD_REQUEST, "", "The message is of a protocol version that is not spoken.")
            self._authorizer.record_refusal(source, message.method, denial)
            return to_response(refuse_version(message.id, version))
        if not isinstance(declared, dict):
            raise MessageInvalid(INVALID_PARAMS, f"lacks _meta[{mcp.CLIENT_CAPABILITIES_META!r}]", message.id)
        if message.method not in mcp.SESSIONLESS_REQUESTS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
            self._authorizer.record_refusal(source, message.method, denial)
            return to_response(deny(message, denial, to_sessionless=True))
        level = meta.get(mcp.LOG_LEVEL_META)
        if level is not None and level not in mcp.LOG_LEVELS:
            raise MessageInvalid(INVALID_PARAMS, f"has no log level as _meta[{mcp.LOG_LEVEL_META!r}]", message.id)
        if message.method == mcp.DISCOVER:
            result = {"supportedVersions": list(mcp.SESSIONLESS_VERSIONS), **self._relay.offer(source)}
            return to_response(give(message, for_sessionless(message.method, result)))
        caller = read_caller(meta, http.headers)
        if message.method == mcp.LISTEN:
            return await self._listen(http, source, message, caller)
        client = DownstreamClient(source, None, declared, is_sessionless=True, requested_log_level=level)
        return await self._forward(http, client, message, caller)

    def abort(self) -> None:
        """End every subscription's stream in the middle, and give up every held call."""
        self._subscriptions.abort()
        self.close()

    def close(self) -> None:
        """Give up every held call: its repetition can no longer be answered."""
        for state in list(self._held):
            self._drop(state, "the guard is closed")

    async def wait_for_reply(self, exchange: Exchange) -> Reply:
        """Wait for the end of the call, or for a request of a server of either version."""
        source = exchange.client.source
        outcome = await exchange.call.future
        if isinstance(outcome, Interrupted):
            return self._hold(exchange)
        if isinstance(outcome, RpcResponse) and outcome.result is not None and needs_input(outcome.result):
            required = read_input_requests(outcome.result)
            if required is None:
                return await self._relay.reply(exchange, unavailable(source, UNKNOWN_INPUT_REQUEST))
            records = self._relay.authorize_input_requests(exchange, required)
            if isinstance(records, Deny):
                return await self._relay.reply(exchange, records)
            for record in records.values():
                record.complete(INPUT_REQUIRED)
            asked = RequiredInput(
                outcome.result.get("requestState"), {key: method for key, (method, _) in required.items()}
            )
            if asked.state is not None and len(asked.state) > MAX_LENGTH:
                too_long = unavailable(source, f"answered with a requestState of more than {MAX_LENGTH} characters")
                return await self._relay.reply(exchange, too_long)
            return self._relay.reply_with(
                exchange, _input_required(required, self._states.give(exchange.forward, asked))
            )
        return await self._relay.reply(exchange, outcome)

    def put_server_request(self, exchange: Exchange, request: ServerInitiatedRequest) -> None:
        """Keep a server's request for the answer, and wake up the wait for it."""
        exchange.pending.append(request)
        exchange.call.interrupt()

    async def _listen(self, http: web.Request, source: str, message: RpcRequest, caller: Caller) -> web.StreamResponse:
        """Answer with a stream of the notifications that the client wants and may have, until it hangs up."""
        if not accepts_events(http):
            return web.Response(status=406, text=f"The answer is {EVENT_STREAM}.\n")
        wanted = read_listen(message)
        offered = self._relay.offer(source)["capabilities"]
        honoured: dict[str, Any] = {
            key: True
            for key, kind in _SERVER_KINDS.items()
            if key in wanted and offered.get(kind, {}).get("listChanged")
        }
        uris = [uri for uri in wanted["resourceSubscriptions"] if self._may_subscribe(source, uri, caller)]
        excess = self._subscriptions.find_excess(uris)
        if excess is not None:
            self._authorizer.record_refusal(source, message.method, excess, caller)
            return to_response(deny(message, excess, to_sessionless=True))
        if uris:
            honoured["resourceSubscriptions"] = uris
        subscription = Subscription(source, message.id, honoured, EventStream())
        subscription.notify(mcp.ACKNOWLEDGED, {"notifications": honoured})
        self._subscriptions.add(subscription)
        try:
            return await subscription.stream.serve(http)
        finally:
            self._subscriptions.remove(subscription)

    def _may_subscribe(self, source: str, uri: str, caller: Caller) -> bool:
        record = self._authorizer.authorize(Forward(source, mcp.SUBSCRIBE, uri=uri, params={"uri": uri}), caller)
        if isinstance(record, Deny):
            return False
        record.complete(ANSWERED)
        return True

    async def _forward(
        self, http: web.Request, client: DownstreamClient, message: RpcRequest, caller: Caller
    ) -> web.StreamResponse:
        source = client.source
        forward = read_forward(source, message, is_sessionless=True)
        self._relay.restore_cursor(client, message, forward)
        upstream = self._sources.get(source)
        # A sessionless server gets the client's input with the repetition. For any other the guard holds the call.
        if forward.answers_questions and (
            upstream is None or upstream.server_info is None or not upstream.server_info.is_sessionless
        ):
            return await self._resume(http, client, message, forward, caller)
        await self._authorizer.prepare(forward, caller)
        if forward.answers_questions:
            self._restore_state(message, forward)
        record = self._authorizer.authorize(forward, caller)
        if isinstance(record, Deny):
            return to_response(deny(message, record, to_sessionless=True))
        exchange = self._relay.start(
            http, protocol=self, client=client, message=message, forward=forward, caller=caller, record=record
        )
        return await self._relay.wait(exchange)

    def _restore_state(self, message: RpcRequest, forward: Forward) -> None:
        """Put the server's state in place of the guard's, in a request that is repeated with input.

        Raises:
            MessageInvalid: The guard gave no such state for this request, or the input is not what was required.
        """
        asked = self._states.find(forward, forward.request_state or "")
        answered = (forward.input_responses or {}).keys()
        if asked is None or not answered <= asked.methods.keys():
            raise MessageInvalid(INVALID_PARAMS, _NOT_GIVEN, message.id)
        allowed = capabilities.client_capabilities(self._live.bundle, forward.source)
        if any(mcp.SERVER_REQUESTS[asked.methods[key]] not in allowed for key in answered):
            raise MessageInvalid(INVALID_PARAMS, "answers requests that this server may not send", message.id)
        forward.request_state = asked.state

    def _hold(self, exchange: Exchange) -> Reply:
        """Answer with the server's requests, and hold the call for the client's repetition."""
        state = secrets.token_urlsafe(32)
        required = {f"question-{number}": one for number, one in enumerate(exchange.hold(), start=1)}
        expiry = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._drop, state, "the client did not answer")
        self._held[state] = _Held(exchange, required, expiry)
        shown = {key: (request.method, request.params) for key, request in required.items()}
        return self._relay.reply_with(exchange, _input_required(shown, state))

    def _drop(self, state: str, why: str) -> None:
        """Give up a held call."""
        held = self._held.pop(state, None)
        if held is not None:
            held.expiry.cancel()
            for request in held.required.values():
                request.on_answer(RpcResponse(None, None, NO_ANSWER))
            held.exchange.upstream.abandon(held.exchange.call, why)
            held.exchange.state = ExchangeState.ENDED
            self._relay.end(held.exchange)

    async def _resume(
        self, http: web.Request, client: DownstreamClient, message: RpcRequest, forward: Forward, caller: Caller
    ) -> web.StreamResponse:
        """Go on with a held call, if its repetition is allowed too."""
        state = forward.request_state or ""
        held = self._held.get(state)
        if held is None or held.exchange.client.source != client.source or not _is_same(held.exchange.forward, forward):
            raise MessageInvalid(INVALID_PARAMS, _NOT_GIVEN, message.id)
        forward.take_arguments(held.exchange.forward)  # those that the server has
        record = self._authorizer.authorize(forward, caller, is_paid=True)
        if isinstance(record, Deny):
            self._drop(state, "the request is no longer allowed")
            return to_response(deny(message, record, to_sessionless=True))
        del self._held[state]
        held.expiry.cancel()
        exchange = self._relay.resume(
            held.exchange, http, client=client, message=message, forward=forward, caller=caller, record=record
        )
        for key, request in held.required.items():
            result = (forward.input_responses or {}).get(key)
            request.on_answer(RpcResponse(None, result, None if result is not None else NO_ANSWER))
        return await self._relay.wait(exchange)


def _is_same(before: Forward, now: Forward) -> bool:
    # The guard may have added to the arguments of the first one.
    sent = before.params if before.sent_arguments is None else {**before.params, "arguments": before.sent_arguments}
    return (before.method, sent) == (now.method, now.params)


def _input_required(required: dict[str, tuple[str, dict[str, Any]]], state: str | None) -> dict[str, Any]:
    return input_required(
        {key: {"method": method, "params": params} for key, (method, params) in required.items()}, state
    )


def _check_headers(http: web.Request, message: RpcRequest, version: Any) -> None:
    """Refuse headers that disagree with the body: a router between client and guard may read them instead."""
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
    """Return the text of a header, `=?base64?...?=` decoded; None if that is malformed."""
    match = None if value is None else _SENTINEL.match(value)
    if match is None:
        return value
    try:
        decoded = base64.b64decode(match.group(1), validate=True)
        is_canonical = base64.b64encode(decoded).decode() == match.group(1)
        return decoded.decode() if is_canonical else None
    except (binascii.Error, UnicodeDecodeError):
        return None
