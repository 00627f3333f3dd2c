"""Clients of the handshake era, 2024-11-05 to 2025-11-25: `initialize`, sessions, a stream beside the requests."""

import asyncio
import re
from dataclasses import replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.mcp import EVENT_STREAM, SESSION_HEADER, VERSION_HEADER
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream.capabilities import needs_input, read_questions
from interlock_guard.downstream.exchange import DownstreamClient, Exchange, ServerInitiatedRequest, to_response
from interlock_guard.downstream.gate import UNKNOWN_QUESTIONS, Gate, Inbound
from interlock_guard.downstream.outcomes import ABANDONED, ANSWERED, OpenRecord, outcome_of_question
from interlock_guard.downstream.replies import Reply, answer_cancelled, deny, give
from interlock_guard.downstream.sessions import Session, Sessions
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.upstream.forward import GUARD_INFO, Forward, read_forward, without_meta
from interlock_guard.upstream.upstream import unavailable
from interlock_guard.wire.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    MessageInvalid,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    is_id,
)

MAX_ROUNDS: Final = 10
"""How often a server of the stateless era may answer one request with questions."""
_STATE_ONLY_SECONDS: Final = 0.25
_EVENT_ID: Final = re.compile(r"(\d{1,15})-(\d{1,15})\Z", re.ASCII)
_BAD_EVENT_ID: Final = "Last-Event-ID is of no stream that can be resumed.\n"


class SessionBasedClients:
    """Answers clients of the handshake era."""

    def __init__(self, gate: Gate, sessions: Sessions, interests: Subscriptions) -> None:
        self._gate, self._sessions, self._interests = gate, sessions, interests

    async def take_request(self, inbound: Inbound, message: RpcRequest) -> web.StreamResponse:
        """Answer a request.

        Raises:
            MessageInvalid: It is none that a client may send.
        """
        _check_version_header(inbound.http, message)
        if message.method == "initialize":
            return self._initialize(inbound, message)
        session = self._sessions.take_up(inbound.source, inbound.session) if inbound.session else None
        if message.method == "ping":
            return to_response(give(message, {}))
        if message.method == mcp.SET_LEVEL:
            return to_response(self._set_level(inbound, session, message))
        if message.method not in mcp.SESSION_REQUESTS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
            self._gate.refuse(inbound.source, message.method, denial)
            return to_response(deny(message, denial))
        return await self._forward(inbound, session, message)

    def take_notification(self, inbound: Inbound, message: RpcNotification) -> web.Response:
        """Take in a notification: a cancellation, or that the client's roots changed."""
        if message.method not in mcp.CLIENT_NOTIFICATIONS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this notification pass.")
            self._gate.refuse(inbound.source, message.method, denial)
            return web.Response(status=400)
        if message.method == mcp.CANCELLED and inbound.session:
            self._cancel(self._sessions.take_up(inbound.source, inbound.session), message.params.get("requestId"))
        if message.method == mcp.ROOTS_CHANGED and self._gate.may_be_asked(inbound.source, "roots/list"):
            self._gate.tell_server(inbound.source, message)
        return web.Response(status=202)

    def take_response(self, inbound: Inbound, message: RpcResponse) -> web.Response:
        """Take in the answer to a server's question.

        Raises:
            MessageInvalid: Nobody asked.
        """
        session = self._sessions.take_up(inbound.source, inbound.session) if inbound.session else None
        answered = None if session is None or message.id is None else session.questions.pop(message.id, None)
        if answered is None:
            raise MessageInvalid(INVALID_REQUEST, "answers a request that was never made")
        answered(message)
        return web.Response(status=202)

    async def take_stream(self, inbound: Inbound) -> web.StreamResponse:
        """Answer a `GET`: what belongs to no request, or the rest of a stream that broke."""
        if EVENT_STREAM not in inbound.http.headers.get("Accept", ""):
            return web.Response(status=406, text=f"The answer is {EVENT_STREAM}.\n")
        if not inbound.session:
            return web.Response(status=400, text=f"{SESSION_HEADER} is missing.\n")
        session = self._sessions.take_up(inbound.source, inbound.session)
        stream, after = session.standalone, None
        last = inbound.http.headers.get("Last-Event-ID")
        if last is not None:
            match = _EVENT_ID.match(last)
            if match is None:
                return web.Response(status=400, text=_BAD_EVENT_ID)
            number, after = int(match.group(1)), int(match.group(2))
            found = stream if number == 0 else session.streams.get(number)
            if found is None or not found.can_resume(after):
                return web.Response(status=400, text=_BAD_EVENT_ID)
            stream = found
        return await stream.serve(inbound.http, after)

    def end_session(self, inbound: Inbound) -> web.Response:
        """Answer a `DELETE`: the session and all that is under way in it end."""
        if not inbound.session:
            return web.Response(status=400, text=f"{SESSION_HEADER} is missing.\n")
        session = self._sessions.end(inbound.source, inbound.session)
        if session is not None:
            for exchange in list(session.exchanges.values()):
                _give_up(exchange, "the client ended its session")
            session.subscriptions.clear()
            session.break_off()
            self._interests.follow(inbound.source)
        return web.Response(status=204)

    def _initialize(self, inbound: Inbound, message: RpcRequest) -> web.Response:
        wanted, capabilities = message.params.get("protocolVersion"), message.params.get("capabilities", {})
        if not isinstance(wanted, str) or not isinstance(capabilities, dict):
            raise MessageInvalid(
                INVALID_PARAMS, "must name protocolVersion (a string) and capabilities (an object)", message.id
            )
        session = self._sessions.begin(inbound.source, capabilities)
        result: dict[str, Any] = {
            "protocolVersion": wanted if wanted in mcp.SESSION_VERSIONS else mcp.LATEST_SESSION,
            "serverInfo": GUARD_INFO,
            **self._gate.offer(inbound.source),
        }
        return to_response(give(message, result), {SESSION_HEADER: session.id})

    def _set_level(self, inbound: Inbound, session: Session | None, message: RpcRequest) -> Reply:
        level = message.params.get("level")
        if level not in mcp.LOG_LEVELS:
            raise MessageInvalid(INVALID_PARAMS, f"takes one of {', '.join(mcp.LOG_LEVELS)} as level", message.id)
        record = self._gate.decide(inbound, message, Forward(message.method, {"level": level}))
        if isinstance(record, Deny):
            return deny(message, record)
        record.complete(ANSWERED)
        upstream = self._gate.upstream(inbound.source)
        if session is not None:
            session.log_level = level
            if upstream is not None:
                self._interests.raise_log_level(upstream, level)
        return give(message, {})

    async def _forward(self, inbound: Inbound, session: Session | None, message: RpcRequest) -> web.StreamResponse:
        forward = read_forward(message)
        client = DownstreamClient(inbound.source, session, {} if session is None else session.capabilities)
        if forward.method in {mcp.SUBSCRIBE, mcp.UNSUBSCRIBE}:
            return await self._subscribe(inbound, client, message, forward)
        await self._gate.look_at_tools(inbound.source, forward)
        begun = self._gate.begin(inbound, client, message, forward)
        if isinstance(begun, Reply):
            return to_response(begun)
        if session is not None:
            session.exchanges[message.id] = begun
        return await self._gate.relay(begun, self._settle)

    async def _subscribe(
        self, inbound: Inbound, client: DownstreamClient, message: RpcRequest, forward: Forward
    ) -> web.StreamResponse:
        """Subscribe or unsubscribe: what several clients want of a server, it is asked for once."""
        session, uri = client.session, str(forward.uri)
        if session is None:
            raise MessageInvalid(INVALID_REQUEST, f"needs a session ({SESSION_HEADER})", message.id)
        session.subscriptions.discard(uri)
        record = self._gate.decide(inbound, message, forward)
        if isinstance(record, Deny):
            return to_response(deny(message, record))
        upstream = self._gate.upstream(client.source)
        is_stateless = upstream is not None and upstream.hello is not None and upstream.hello.is_stateless
        if forward.method == mcp.SUBSCRIBE and not is_stateless:
            exchange = self._gate.prepare(inbound, client, message, forward)
            self._gate.send(exchange, record)
            return await self._gate.relay(exchange, self._settle_subscription)
        record.complete(ANSWERED)
        if forward.method == mcp.SUBSCRIBE:
            session.subscriptions.add(uri)
        self._interests.follow(client.source)
        return to_response(give(message, {}))

    async def _settle_subscription(self, exchange: Exchange) -> Reply:
        outcome = await exchange.call.future
        session, uri = exchange.client.session, exchange.forward.uri
        if isinstance(outcome, RpcResponse) and outcome.result is not None and session is not None and uri is not None:
            session.subscriptions.add(uri)
            self._interests.note_subscribed(exchange.client.source, uri)
        return self._gate.reply(exchange, outcome)

    async def _settle(self, exchange: Exchange) -> Reply:
        """Wait for the answer of a server of either era; the questions of a stateless one are put to the client."""
        outcome = await exchange.call.future
        rounds = 0
        while isinstance(outcome, RpcResponse) and needs_input(outcome.result):
            rounds += 1
            denial = (
                unavailable(exchange.client.source, f"asked more than {MAX_ROUNDS} times")
                if rounds > MAX_ROUNDS
                else await self._answer_questions(exchange, outcome.result or {})
            )
            if denial is not None:
                return self._gate.reply(exchange, denial)
            outcome = await exchange.call.future
        return self._gate.reply(exchange, outcome)

    async def _answer_questions(self, exchange: Exchange, result: dict[str, Any]) -> Deny | None:
        """Put a server's questions to the client and repeat the request with the answers; return why not, if so."""
        questions = read_questions(result)
        if questions is None:
            return unavailable(exchange.client.source, UNKNOWN_QUESTIONS)
        records = self._gate.decide_questions(exchange, questions)
        if isinstance(records, Deny):
            return records
        try:
            answers = await self._ask(exchange, questions, records)
        finally:
            for record in records.values():
                record.complete(ABANDONED)  # unless it was answered
        if answers is None:
            return unavailable(exchange.client.source, "asked for something that the client did not give")
        state = result.get("requestState")
        exchange.forward = replace(exchange.forward, input_responses=answers or None, request_state=state)
        return self._gate.again(exchange)

    async def _ask(
        self, exchange: Exchange, questions: dict[str, tuple[str, dict[str, Any]]], records: dict[str, OpenRecord]
    ) -> dict[str, Any] | None:
        """Ask the client; return its answers, or None once one is none."""
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[RpcResponse]] = {key: loop.create_future() for key in questions}
        for key, (method, params) in questions.items():
            exchange.ask(ServerInitiatedRequest(method, params, partial(_resolve, futures[key])))
        if not futures:
            await asyncio.sleep(_STATE_ONLY_SECONDS)
        answers = {}
        for key, future in futures.items():
            response = await future
            records[key].complete(outcome_of_question(response))
            if response.result is None:
                return None
            answers[key] = without_meta(response.result)
        return answers

    def _cancel(self, session: Session, request_id: Any) -> None:
        """Give up the client's own request; without a session nobody can say whose request an id means."""
        exchange = session.exchanges.get(request_id) if is_id(request_id) else None
        if exchange is not None:
            _give_up(exchange, "the client cancelled the request")


def _give_up(exchange: Exchange, why: str) -> None:
    exchange.is_unwanted = True
    exchange.record.complete(ABANDONED)
    exchange.upstream.abandon(exchange.call, why)
    exchange.call.resolve(answer_cancelled())
    exchange.close()


def _resolve(future: asyncio.Future[RpcResponse], response: RpcResponse) -> None:
    if not future.done():
        future.set_result(response)


def _check_version_header(http: web.Request, message: RpcRequest) -> None:
    version = http.headers.get(VERSION_HEADER)
    if version in mcp.SESSIONLESS_VERSIONS:
        raise MessageInvalid(mcp.HEADER_MISMATCH, f"names no version, and its {VERSION_HEADER} header does", message.id)
    if version is not None and version not in mcp.SESSION_VERSIONS:
        raise MessageInvalid(INVALID_REQUEST, f"comes with an unsupported {VERSION_HEADER} header", message.id)
