"""Session-based clients, 2024-11-05 to 2025-11-25: `initialize`, sessions, and a stream next to the requests.

A sessionless server answers a call with `input_required` where it needs input. Its requests for input are then sent to
the client one by one on the request's stream, and the call is sent again with the answers.
"""

import asyncio
import re
from functools import partial
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.mcp import EVENT_STREAM, SESSION_HEADER, VERSION_HEADER
from interlock_guard.audit.recorder import read_caller
from interlock_guard.decision.decide import Deny, DenyReason
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.authorizer import ABANDONED, ANSWERED, Authorizer, OpenRecord, outcome_of_server_request
from interlock_guard.downstream.event_stream import accepts_events
from interlock_guard.downstream.exchange import DownstreamClient, Exchange, ServerInitiatedRequest, to_response
from interlock_guard.downstream.relay import UNKNOWN_INPUT_REQUEST, Relay
from interlock_guard.downstream.replies import Reply, deny, give, needs_input, read_input_requests
from interlock_guard.downstream.sessions import Session, Sessions
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.state import LiveState
from interlock_guard.upstream.forward import GUARD_INFO, Forward, read_forward, without_meta
from interlock_guard.upstream.sources import Sources
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
"""How often a sessionless server may require input for one request."""
_STATE_ONLY_SECONDS: Final = 0.25
"""Pause before a call is sent again whose server required no input but a repetition: it polls."""
_EVENT_ID: Final = re.compile(r"(\d{1,15})-(\d{1,15})\Z", re.ASCII)
"""`<number of the stream>-<position>`, see `EventStream`."""
_BAD_EVENT_ID: Final = "Last-Event-ID is of no stream that can be resumed.\n"


class SessionBasedClients:
    """Answers session-based clients; their `ProtocolVersion`."""

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        authorizer: Authorizer,
        relay: Relay,
        sessions: Sessions,
        subscriptions: Subscriptions,
    ) -> None:
        self._live, self._sources, self._authorizer, self._relay = live, sources, authorizer, relay
        self._sessions, self._subscriptions = sessions, subscriptions

    async def handle(
        self, http: web.Request, source: str, message: RpcRequest | RpcNotification | RpcResponse
    ) -> web.StreamResponse:
        """Answer one message.

        Raises:
            MessageInvalid: A client may not send it.
        """
        if isinstance(message, RpcRequest):
            return await self._handle_request(http, source, message)
        if isinstance(message, RpcNotification):
            return self._handle_notification(http, source, message)
        return self._handle_response(http, source, message)

    async def _handle_request(self, http: web.Request, source: str, message: RpcRequest) -> web.StreamResponse:
        _check_version_header(http, message)
        if message.method == "initialize":
            return self._initialize(source, message)
        session = self._find_session(http, source)
        if message.method == "ping":
            return to_response(give(message, {}))
        if message.method == mcp.SET_LEVEL:
            return to_response(self._set_level(http, source, session, message))
        if message.method not in mcp.SESSION_REQUESTS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this method pass.")
            self._authorizer.record_refusal(source, message.method, denial)
            return to_response(deny(message, denial))
        return await self._forward(http, source, session, message)

    def _handle_notification(self, http: web.Request, source: str, message: RpcNotification) -> web.Response:
        """Handle a notification: a cancellation, or that the client's roots changed."""
        if message.method not in mcp.CLIENT_NOTIFICATIONS:
            denial = Deny(DenyReason.METHOD_NOT_ALLOWED, "", "The guard does not let this notification pass.")
            self._authorizer.record_refusal(source, message.method, denial)
            return web.Response(status=400)
        if message.method == mcp.CANCELLED:
            # Without a session an id says nothing: several clients may use the same one.
            session, request_id = self._find_session(http, source), message.params.get("requestId")
            if session is not None and is_id(request_id) and request_id in session.requests:
                session.requests[request_id].cancel("the client cancelled the request")
        if message.method == mcp.ROOTS_CHANGED and "roots" in capabilities.client_capabilities(
            self._live.bundle, source
        ):
            upstream = self._sources.get(source)
            if upstream is not None and upstream.server_info is not None and not upstream.server_info.is_sessionless:
                upstream.notify(message.method, {})
        return web.Response(status=202)

    def _handle_response(self, http: web.Request, source: str, message: RpcResponse) -> web.Response:
        """Pass on the answer to a server's request."""
        session = self._find_session(http, source)
        on_answer = None
        if session is not None and message.id is not None:
            on_answer = session.server_requests.pop(message.id, None)
        if on_answer is None:
            raise MessageInvalid(INVALID_REQUEST, "answers a request that was never made")
        on_answer(message)
        return web.Response(status=202)

    async def serve_stream(self, http: web.Request, source: str) -> web.StreamResponse:
        """Answer a `GET`: with messages that belong to no request, or with the rest of a stream that broke."""
        if not accepts_events(http):
            return web.Response(status=406, text=f"The answer is {EVENT_STREAM}.\n")
        session = self._find_session(http, source)
        if session is None:
            return web.Response(status=400, text=f"{SESSION_HEADER} is missing.\n")
        last = http.headers.get("Last-Event-ID")
        if last is None:
            return await session.standalone.serve(http)
        match = _EVENT_ID.match(last)
        if match is None:
            return web.Response(status=400, text=_BAD_EVENT_ID)
        number, after = int(match.group(1)), int(match.group(2))
        # Stream 0 is the standalone one. A stream that was forgotten or aborted cannot be resumed.
        stream = session.standalone if number == 0 else session.streams.get(number)
        if stream is None or not stream.can_resume(after):
            return web.Response(status=400, text=_BAD_EVENT_ID)
        return await stream.serve(http, after)

    def end_session(self, http: web.Request, source: str) -> web.Response:
        """Answer a `DELETE`: the session and all of its requests under way end."""
        session_id = http.headers.get(SESSION_HEADER, "")
        if not session_id:
            return web.Response(status=400, text=f"{SESSION_HEADER} is missing.\n")
        session = self._sessions.end(source, session_id)
        if session is not None:
            for request in list(session.requests.values()):
                request.cancel("the client ended its session")
            session.subscriptions.clear()
            session.abort()
            self._subscriptions.update(source)
        return web.Response(status=204)

    def refuse_ended(self, http: web.Request, source: str) -> web.Response | None:
        """Refuse a request of a session that its client has ended."""
        session_id = http.headers.get(SESSION_HEADER, "")
        if session_id and self._sessions.has_ended(source, session_id):
            return web.Response(status=404, text="The session has ended.\n")
        return None

    def abort(self) -> None:
        """End every session's streams in the middle."""
        for session in self._sessions.all():
            session.abort()

    async def wait_for_reply(self, exchange: Exchange) -> Reply:
        """Wait for the end of the call; get the input that a sessionless server requires from the client."""
        outcome = await exchange.call.future
        for _ in range(MAX_ROUNDS):
            if not isinstance(outcome, RpcResponse) or not needs_input(outcome.result):
                break
            denial = await self._provide_input(exchange, outcome.result or {})
            if denial is not None:
                return await self._relay.reply(exchange, denial)
            outcome = await exchange.call.future
        if isinstance(outcome, RpcResponse) and needs_input(outcome.result):
            denial = unavailable(exchange.client.source, f"asked more than {MAX_ROUNDS} times")
            return await self._relay.reply(exchange, denial)
        if exchange.forward.method == mcp.SUBSCRIBE and isinstance(outcome, RpcResponse) and outcome.result is not None:
            excess = self._note_subscribed(exchange)
            outcome = outcome if excess is None else excess
        return await self._relay.reply(exchange, outcome)

    def put_server_request(self, exchange: Exchange, request: ServerInitiatedRequest) -> None:
        """Send a server's request on the stream of the request that it belongs to."""
        if exchange.client.session is None:
            raise AssertionError("can_receive() is false without a session")
        exchange.send_request(exchange.client.session, request)

    def _find_session(self, http: web.Request, source: str) -> Session | None:
        """Return the session that a request names, or None if it names none."""
        session_id = http.headers.get(SESSION_HEADER, "")
        return self._sessions.get_or_create(source, session_id) if session_id else None

    def _initialize(self, source: str, message: RpcRequest) -> web.Response:
        wanted, declared = message.params.get("protocolVersion"), message.params.get("capabilities", {})
        if not isinstance(wanted, str) or not isinstance(declared, dict):
            raise MessageInvalid(
                INVALID_PARAMS, "must name protocolVersion (a string) and capabilities (an object)", message.id
            )
        session = self._sessions.begin(source, declared)
        result: dict[str, Any] = {
            "protocolVersion": wanted if wanted in mcp.SESSION_VERSIONS else mcp.LATEST_SESSION,
            "serverInfo": GUARD_INFO,
            **self._relay.offer(source),
        }
        return to_response(give(message, result), {SESSION_HEADER: session.id})

    def _set_level(self, http: web.Request, source: str, session: Session | None, message: RpcRequest) -> Reply:
        level = message.params.get("level")
        if level not in mcp.LOG_LEVELS:
            raise MessageInvalid(INVALID_PARAMS, f"takes one of {', '.join(mcp.LOG_LEVELS)} as level", message.id)
        caller = read_caller(message.params.get("_meta"), http.headers)
        record = self._authorizer.authorize(Forward(source, message.method, params={"level": level}), caller)
        if isinstance(record, Deny):
            return deny(message, record)
        record.complete(ANSWERED)
        upstream = self._sources.get(source)
        if session is not None:
            session.log_level = level
            if upstream is not None:
                self._subscriptions.raise_log_level(upstream, level)
        return give(message, {})

    async def _forward(
        self, http: web.Request, source: str, session: Session | None, message: RpcRequest
    ) -> web.StreamResponse:
        forward = read_forward(source, message)
        caller = read_caller(message.params.get("_meta"), http.headers)
        client = DownstreamClient(source, session, {} if session is None else session.capabilities)
        self._relay.restore_cursor(client, message, forward)
        is_subscription = forward.method in {mcp.SUBSCRIBE, mcp.UNSUBSCRIBE}
        if is_subscription and session is None:
            raise MessageInvalid(INVALID_REQUEST, f"needs a session ({SESSION_HEADER})", message.id)
        if is_subscription and session is not None:
            session.subscriptions.discard(str(forward.uri))
            excess = (
                self._subscriptions.find_excess([str(forward.uri)], session)
                if forward.method == mcp.SUBSCRIBE
                else None
            )
            if excess is not None:
                self._authorizer.record_refusal(source, message.method, excess, caller)
                return to_response(deny(message, excess))
        await self._authorizer.prepare(forward, caller)
        record = self._authorizer.authorize(forward, caller)
        if isinstance(record, Deny):
            return to_response(deny(message, record))
        if is_subscription and session is not None and not self._must_ask_server(forward):
            return self._subscribe_here(session, message, forward, record)
        exchange = self._relay.start(
            http, protocol=self, client=client, message=message, forward=forward, caller=caller, record=record
        )
        if session is not None and not is_subscription:
            session.requests[message.id] = exchange
        return await self._relay.wait(exchange)

    def _must_ask_server(self, forward: Forward) -> bool:
        """Return True if a session-based server decides on a subscription; sessionless ones get one `listen` for all.

        An unsubscription is never passed on as it is: another client may still want the resource.
        """
        upstream = self._sources.get(forward.source)
        is_sessionless = (
            upstream is not None and upstream.server_info is not None and upstream.server_info.is_sessionless
        )
        return forward.method == mcp.SUBSCRIBE and not is_sessionless

    def _subscribe_here(
        self, session: Session, message: RpcRequest, forward: Forward, record: OpenRecord
    ) -> web.Response:
        """Subscribe or unsubscribe a session, and bring the server's subscriptions in line."""
        record.complete(ANSWERED)
        if forward.method == mcp.SUBSCRIBE:
            session.subscriptions.add(str(forward.uri))
        self._subscriptions.update(forward.source)
        return to_response(give(message, {}))

    def _note_subscribed(self, exchange: Exchange) -> Deny | None:
        """Note a subscription that its server has accepted, unless others have taken its room meanwhile."""
        session, uri = exchange.client.session, exchange.forward.uri
        if session is None or uri is None:
            return None
        self._subscriptions.note_subscribed(exchange.client.source, uri)
        excess = self._subscriptions.find_excess([uri], session)
        if excess is None:
            session.subscriptions.add(uri)
        self._subscriptions.update(exchange.client.source)
        return excess

    async def _provide_input(self, exchange: Exchange, result: dict[str, Any]) -> Deny | None:
        """Get the input that a server requires from the client and send the call again; return why not, if so."""
        required = read_input_requests(result)
        if required is None:
            return unavailable(exchange.client.source, UNKNOWN_INPUT_REQUEST)
        records = self._relay.authorize_input_requests(exchange, required)
        if isinstance(records, Deny):
            return records
        try:
            answers = await self._request_input(exchange, required, records)
        finally:
            for record in records.values():
                record.complete(ABANDONED)  # unless it was answered
        if answers is None:
            return unavailable(exchange.client.source, "asked for something that the client did not give")
        exchange.forward.input_responses = answers or None
        exchange.forward.request_state = result.get("requestState")
        return self._relay.restart(exchange)

    async def _request_input(
        self, exchange: Exchange, required: dict[str, tuple[str, dict[str, Any]]], records: dict[str, OpenRecord]
    ) -> dict[str, Any] | None:
        """Send the client a server's requests for input; return its answers, or None once one is an error."""
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[RpcResponse]] = {key: loop.create_future() for key in required}
        for key, (method, params) in required.items():
            exchange.put_server_request(ServerInitiatedRequest(method, params, partial(_resolve, futures[key])))
        if not futures:
            await asyncio.sleep(_STATE_ONLY_SECONDS)
        answers = {}
        for key, future in futures.items():
            response = await future
            records[key].complete(outcome_of_server_request(response))
            if response.result is None:
                return None
            answers[key] = without_meta(response.result)
        return answers


def _resolve(future: asyncio.Future[RpcResponse], response: RpcResponse) -> None:
    if not future.done():
        future.set_result(response)


def _check_version_header(http: web.Request, message: RpcRequest) -> None:
    version = http.headers.get(VERSION_HEADER)
    if version in mcp.SESSIONLESS_VERSIONS:
        raise MessageInvalid(mcp.HEADER_MISMATCH, f"names no version, and its {VERSION_HEADER} header does", message.id)
    if version is not None and version not in mcp.SESSION_VERSIONS:
        raise MessageInvalid(INVALID_REQUEST, f"comes with an unsupported {VERSION_HEADER} header", message.id)
