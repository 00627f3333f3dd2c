"""Messages that servers send of their own accord: requests and notifications, on their way to the right clients."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.audit.recorder import UNKNOWN_CALLER, RecordFailed
from interlock_guard.decision.decide import PROMPTS_LIST, TOOLS_LIST, Deny, DenyReason
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.authorizer import (
    ABANDONED,
    Authorizer,
    OpenRecord,
    outcome_of_server_request,
)
from interlock_guard.downstream.exchange import Exchange, ServerInitiatedRequest
from interlock_guard.downstream.sessions import Session
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.state import LiveState
from interlock_guard.upstream.forward import server_request_params, without_meta
from interlock_guard.upstream.list_cache import ListCache
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.wire.jsonrpc import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Id,
    RpcNotification,
    RpcRequest,
    RpcResponse,
    dump_notification,
)

_MAX_OPEN: Final = 64
"""Server requests that wait for the answers of clients at once."""
_CHANGED_LISTS: Final = {mcp.TOOLS_CHANGED: TOOLS_LIST, mcp.PROMPTS_CHANGED: PROMPTS_LIST}
_NOT_NOW: Final = (DenyReason.SERVER_REQUEST_NOT_PASSED, DenyReason.LOOP_DETECTED)
"""Reasons for which a request is refused whose method the server may use otherwise."""
_LOG_KEYS: Final = ("level", "logger", "data")


@dataclass(slots=True, eq=False)
class _OpenRequest:
    """A server's request that a client has not answered yet."""

    exchange: Exchange
    request: ServerInitiatedRequest
    record: OpenRecord

    def withdraw(self) -> None:
        """Take the request back: the server has cancelled it, or has ended."""
        self.exchange.withdraw(self.request)
        self.record.complete(ABANDONED)


class ServerMessages:
    """The `UpstreamEvents` of every server: passes on what the policy lets pass."""

    def __init__(
        self, *, live: LiveState, authorizer: Authorizer, subscriptions: Subscriptions, lists: ListCache
    ) -> None:
        self._live, self._authorizer, self._subscriptions, self._lists = live, authorizer, subscriptions, lists
        # Exchanges under way by source, in the order of their starts: a dict serves as an ordered set.
        self._exchanges: dict[str, dict[Exchange, None]] = {}
        self._open: dict[tuple[str, Id], _OpenRequest] = {}

    def add(self, exchange: Exchange) -> None:
        """Note a request under way, so that its server's messages reach its client."""
        self._exchanges.setdefault(exchange.client.source, {})[exchange] = None

    def remove(self, exchange: Exchange) -> None:
        """Forget a request; the server requests that its client has not answered are abandoned."""
        self._exchanges.get(exchange.client.source, {}).pop(exchange, None)
        if self._open:
            for key in [key for key, one in self._open.items() if one.exchange is exchange]:
                self._open.pop(key).record.complete(ABANDONED)

    def replace(self, before: Exchange, exchange: Exchange) -> None:
        """Note that the call of one request goes on as another request's."""
        self._exchanges.get(before.client.source, {}).pop(before, None)
        self.add(exchange)
        for one in self._open.values():
            if one.exchange is before:
                one.exchange = exchange

    def abort_streams(self) -> None:
        """End the streams of all requests under way in the middle."""
        for exchanges in self._exchanges.values():
            for exchange in exchanges:
                if exchange.stream is not None:
                    exchange.stream.abort()

    def client_capabilities(self, upstream: Upstream) -> dict[str, Any]:
        """Return the capabilities that the policy lets this server use."""
        return capabilities.client_capabilities(self._live.bundle, upstream.source)

    def handle_connected(self, upstream: Upstream) -> None:
        """Subscribe at a server that is ready to what its clients want, and read its tools."""
        self._subscriptions.begin(upstream, self.handle_notification)
        self._lists.begin(upstream)

    def handle_disconnected(self, upstream: Upstream) -> None:
        """Forget what belongs to a server whose connection has ended."""
        self._subscriptions.end(upstream)
        self._lists.end(upstream.source)
        for key in [key for key in self._open if key[0] == upstream.source]:
            self._open.pop(key).withdraw()

    def handle_dropped(self, upstream: Upstream) -> None:
        """Report that many messages of a server were dropped."""
        self._authorizer.report_dropped(upstream.source)

    def handle_call_message(self, exchange: Exchange, message: RpcNotification | RpcRequest) -> None:
        """Handle a message that the server sent as part of one call."""
        if isinstance(message, RpcRequest):
            self._handle_request(exchange.upstream, message, exchange)
        elif message.method == mcp.PROGRESS:
            exchange.send_progress(message.params)
        elif message.method == mcp.LOG_MESSAGE:
            self._log(exchange, message)
        else:
            self.handle_notification(exchange.upstream, message)

    def handle_request(self, upstream: Upstream, request: RpcRequest) -> None:
        """Handle a server's request that does not say which call it belongs to."""
        self._handle_request(upstream, request, self._find_exchange(upstream.source))

    def handle_notification(self, upstream: Upstream, notification: RpcNotification) -> None:
        """Handle a notification that does not say which call it belongs to."""
        source, method, params = upstream.source, notification.method, notification.params
        if method in mcp.LISTS_CHANGED:
            changed = _CHANGED_LISTS.get(method)
            if changed is not None:
                self._lists.read(upstream, changed)
            # "notifications/tools/list_changed" is about "tools".
            if method.split("/")[1] in capabilities.offers(self._live.bundle, source):
                self._subscriptions.notify_list_changed(source, method)
        elif method == mcp.RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str) and capabilities.may_hear_of(self._live.bundle, source, uri):
                self._subscriptions.notify_updated(source, uri)
        elif method == mcp.LOG_MESSAGE:
            self._log_to_all(source, notification)
        elif method == mcp.CANCELLED:
            self._cancel(source, params.get("requestId"))
        elif method == mcp.ELICITATION_COMPLETE:
            self._complete_elicitation(source, params)

    def _handle_request(self, upstream: Upstream, request: RpcRequest, exchange: Exchange | str) -> None:
        """Put a server's request to the client of an exchange; a text says why there is none."""
        caller = UNKNOWN_CALLER if isinstance(exchange, str) else exchange.caller
        obstacle = self._find_obstacle(upstream.source, request, exchange)
        try:
            record = self._authorizer.authorize_server_request(
                upstream.source, request.method, caller, params=request.params, obstacle=obstacle
            )
        except RecordFailed as error:
            refused = _error(INVALID_REQUEST, f"The record of this request was not stored: {error}.")
            upstream.respond(RpcResponse(request.id, None, refused))
            return
        if isinstance(record, Deny):
            code = INVALID_REQUEST if record.reason in _NOT_NOW else METHOD_NOT_FOUND
            upstream.respond(RpcResponse(request.id, None, _error(code, record.message)))
            return
        assert not isinstance(exchange, str)  # noqa: S101 - nothing is allowed where there is an obstacle
        exchange.asked += 1
        # The answer goes back only to the connection that the request came on: ids mean nothing to the next one.
        on_answer = partial(self._answer, upstream, upstream.generation, request.id)
        passed = ServerInitiatedRequest(request.method, server_request_params(request.params), on_answer)
        self._open[upstream.source, request.id] = _OpenRequest(exchange, passed, record)
        exchange.put_server_request(passed)

    def _find_obstacle(self, source: str, request: RpcRequest, exchange: Exchange | str) -> str:
        """Return why no client can be given a server's request, empty if one can."""
        if isinstance(exchange, str):
            return exchange
        if len(self._open) >= _MAX_OPEN or (source, request.id) in self._open:
            return "Too many requests of servers are open, or one of this id."
        return exchange.find_obstacle(request.method, request.params)

    def _find_exchange(self, source: str) -> Exchange | str:
        """Return the exchange that a server's request must belong to, or why that cannot be told.

        A pipe does not say. If all requests under way are of one session, any of them reaches the right client.
        """
        asking = [one for one in self._exchanges.get(source, {}) if one.forward.method in mcp.MAY_ASK]
        if not asking:
            return "No request of a client is under way that this could belong to."
        if len(asking) > 1 and (asking[0].client.session is None or len({one.client.session for one in asking}) > 1):
            return "Requests of several clients are under way, and the guard cannot tell whose this belongs to."
        return next((one for one in reversed(asking) if one.accepts_events), asking[-1])

    def _answer(self, upstream: Upstream, generation: int, request_id: Id, response: RpcResponse) -> None:
        one = self._open.pop((upstream.source, request_id), None)
        if one is not None:
            one.record.complete(outcome_of_server_request(response))
        if upstream.generation == generation:
            result = None if response.result is None else without_meta(response.result)
            upstream.respond(RpcResponse(request_id, result, response.error))

    def _cancel(self, source: str, request_id: Any) -> None:
        key = source, request_id
        one = self._open.pop(key, None) if isinstance(request_id, str | int) else None
        if one is not None:
            one.withdraw()

    def _log(self, exchange: Exchange, notification: RpcNotification) -> None:
        if exchange.client.wants_log(notification.params.get("level")):
            exchange.send(_log_message(notification))

    def _log_to_all(self, source: str, notification: RpcNotification) -> None:
        """Send a log message to each client once: on its newest request, or on the session's own stream."""
        sent: set[Session] = set()
        for exchange in reversed(self._exchanges.get(source, {})):
            session = exchange.client.session
            if session is None or (session not in sent and exchange.accepts_events):
                self._log(exchange, notification)
            if session is not None and exchange.accepts_events:
                sent.add(session)
        self._subscriptions.notify_log(source, notification.params.get("level"), _log_message(notification), sent)

    def _complete_elicitation(self, source: str, params: dict[str, Any]) -> None:
        number = params.get("elicitationId")
        if isinstance(number, str) and "elicitation" in capabilities.client_capabilities(self._live.bundle, source):
            message = dump_notification(mcp.ELICITATION_COMPLETE, {"elicitationId": number})
            self._subscriptions.notify_sessions(source, message)


def _error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def _log_message(notification: RpcNotification) -> bytes:
    params = notification.params
    return dump_notification(mcp.LOG_MESSAGE, {key: params[key] for key in _LOG_KEYS if key in params})
