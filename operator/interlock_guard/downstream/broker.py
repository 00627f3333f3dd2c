"""What servers say of their own accord, on its way to the clients that it concerns: notifications and questions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.audit.caller import UNKNOWN_CALLER, Caller
from interlock_guard.audit.recorder import Recorder, RecordFailed
from interlock_guard.decision.decide import DecisionInput, Deny, decide_server_request
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.exchange import Exchange, ServerInitiatedRequest
from interlock_guard.downstream.outcomes import ABANDONED, NOT_ASKED, OpenRecord, outcome_of_question
from interlock_guard.downstream.sessions import Session
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.state import LiveState
from interlock_guard.upstream.forward import without_meta
from interlock_guard.upstream.tool_cache import ToolCache
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

_MAX_QUESTIONS: Final = 64
_LOG_KEYS: Final = ("level", "logger", "data")


@dataclass(slots=True)
class _Asked:
    """A question that was put to a client and is not answered yet."""

    exchange: Exchange
    question: ServerInitiatedRequest
    record: OpenRecord

    def withdraw(self) -> None:
        """Take it back: the server does not ask any more."""
        self.exchange.withdraw(self.question)
        self.record.complete(ABANDONED)


class Broker:
    """The `Listener` of every server."""

    def __init__(
        self,
        live: LiveState,
        recorder: Recorder,
        interests: Subscriptions,
        monotonic: Callable[[], float],
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.catalogue = ToolCache(monotonic, log)
        """What the servers say of their tools."""
        self._live, self._recorder, self._interests, self._monotonic = live, recorder, interests, monotonic
        self._underway: dict[str, dict[Exchange, None]] = {}
        self._questions: dict[tuple[str, Id], _Asked] = {}

    def add(self, exchange: Exchange) -> None:
        """Note that a request is under way, so that what its server says can be told to its client."""
        self._underway.setdefault(exchange.client.source, {})[exchange] = None

    def remove(self, exchange: Exchange) -> None:
        """Note that a request is under way no more; what it was asked and did not answer is nobody's."""
        self._underway.get(exchange.client.source, {}).pop(exchange, None)
        if self._questions:
            for key in [key for key, asked in self._questions.items() if asked.exchange is exchange]:
                self._questions.pop(key).record.complete(ABANDONED)

    def break_off(self) -> None:
        """Break off, in the middle, the streams of everything that is under way."""
        for exchanges in self._underway.values():
            for exchange in exchanges:
                if exchange.stream is not None:
                    exchange.stream.break_off()

    def replace(self, before: Exchange, exchange: Exchange) -> None:
        """Note that a request under way goes on as another."""
        self._underway.get(before.client.source, {}).pop(before, None)
        self.add(exchange)
        for asked in self._questions.values():
            if asked.exchange is before:
                asked.exchange = exchange

    def raise_log_level(self, upstream: Upstream, level: str) -> None:
        """Have a server report what it logs from this level on, at least."""
        self._interests.raise_log_level(upstream, level)

    def client_capabilities(self, upstream: Upstream) -> dict[str, Any]:
        """Return what the policy lets this server ask."""
        return capabilities.client_capabilities(self._live.bundle, upstream.source)

    def take_begin(self, upstream: Upstream) -> None:
        """Tell a new generation what its clients want to hear."""
        self._interests.begin(upstream)
        self.catalogue.begin(upstream)

    def take_end(self, upstream: Upstream) -> None:
        """Forget what an ended generation had asked."""
        self._interests.end(upstream)
        self.catalogue.end(upstream.source)
        for key in [key for key in self._questions if key[0] == upstream.source]:
            self._questions.pop(key).withdraw()

    def take_event(self, exchange: Exchange, event: RpcNotification | RpcRequest) -> None:
        """Hear what a server says on the way of one request."""
        if isinstance(event, RpcRequest):
            self._take_question(exchange.upstream, event, exchange)
        elif event.method == mcp.PROGRESS:
            exchange.report_progress(event.params)
        elif event.method == mcp.LOG_MESSAGE:
            self._log(exchange, event)
        else:
            self.take_notification(exchange.upstream, event)

    def take_request(self, upstream: Upstream, request: RpcRequest) -> None:
        """Hear a question that does not say which request it belongs to."""
        self._take_question(upstream, request, self._who_caused_it(upstream.source))

    def take_notification(self, upstream: Upstream, notification: RpcNotification) -> None:
        """Hear a notification that does not say which request it belongs to."""
        source, method, params = upstream.source, notification.method, notification.params
        if method in mcp.LISTS_CHANGED:
            if method == mcp.TOOLS_CHANGED:
                self.catalogue.read(upstream)
            if method.split("/")[1] in capabilities.offers(self._live.bundle, source):
                self._interests.tell_list_changed(source, method)
        elif method == mcp.RESOURCE_UPDATED:
            uri = params.get("uri")
            if isinstance(uri, str) and capabilities.may_hear_of(self._live.bundle, source, uri):
                self._interests.tell_updated(source, uri)
        elif method == mcp.LOG_MESSAGE:
            self._log_to_all(source, notification)
        elif method == mcp.CANCELLED:
            self._cancel_question(source, params.get("requestId"))
        elif method == mcp.ELICITATION_COMPLETE:
            self._complete_elicitation(source, params)

    def decide_question(self, source: str, method: str, caller: Caller) -> OpenRecord | Deny:
        """Decide whether a server may ask this, and record it.

        Returns:
            The refusal; else the record, which is owed an outcome.

        Raises:
            RecordFailed: The record could not be stored; nothing may be asked.
        """
        decision = decide_server_request(self._live.bundle, self._live.state, source, method, self._monotonic())
        seq = self._recorder.record(self._live.bundle, DecisionInput(source, method), decision, caller)
        return decision if isinstance(decision, Deny) else OpenRecord(self._recorder, seq, self._monotonic)

    def _take_question(self, upstream: Upstream, request: RpcRequest, exchange: Exchange | str) -> None:
        caller = UNKNOWN_CALLER if isinstance(exchange, str) else exchange.caller
        try:
            record = self.decide_question(upstream.source, request.method, caller)
        except RecordFailed as error:
            refused = _error(INVALID_REQUEST, f"The record of this request was not stored: {error}.")
            upstream.respond(RpcResponse(request.id, None, refused))
            return
        if isinstance(record, Deny):
            upstream.respond(RpcResponse(request.id, None, _error(METHOD_NOT_FOUND, record.message)))
            return
        obstacle = self._find_obstacle(upstream.source, request, exchange)
        if obstacle is not None or isinstance(exchange, str):
            record.complete(NOT_ASKED)
            upstream.respond(RpcResponse(request.id, None, obstacle))
            return
        answered = partial(self._answer, upstream, upstream.generation, request.id)
        question = ServerInitiatedRequest(request.method, without_meta(request.params), answered)
        self._questions[upstream.source, request.id] = _Asked(exchange, question, record)
        exchange.ask(question)

    def _find_obstacle(self, source: str, request: RpcRequest, exchange: Exchange | str) -> dict[str, Any] | None:
        """Return why a question that the server may ask can be put to no client, or None."""
        refusal = None
        if isinstance(exchange, str):
            refusal = _error(INVALID_REQUEST, exchange)
        elif not exchange.can_ask(request.method):
            refusal = _error(METHOD_NOT_FOUND, "The client whose request is under way cannot be asked this.")
        elif len(self._questions) >= _MAX_QUESTIONS or (source, request.id) in self._questions:
            refusal = _error(INVALID_REQUEST, "Too many questions are open, or one of this id.")
        return refusal

    def _who_caused_it(self, source: str) -> Exchange | str:
        """Return the request that a question must belong to, or why that cannot be told.

        A pipe does not say. If all requests under way are of one session, any of them reaches the right client.
        """
        asking = [one for one in self._underway.get(source, {}) if one.forward.method in mcp.MAY_ASK]
        if not asking:
            return "No request of a client is under way that this could belong to."
        if len(asking) > 1 and (asking[0].client.session is None or len({one.client.session for one in asking}) > 1):
            return "Requests of several clients are under way, and the guard cannot tell whose this belongs to."
        return next((one for one in reversed(asking) if one.accepts_events), asking[-1])

    def _answer(self, upstream: Upstream, generation: int, request_id: Id, response: RpcResponse) -> None:
        asked = self._questions.pop((upstream.source, request_id), None)
        if asked is not None:
            asked.record.complete(outcome_of_question(response))
        if upstream.generation == generation:
            result = None if response.result is None else without_meta(response.result)
            upstream.respond(RpcResponse(request_id, result, response.error))

    def _cancel_question(self, source: str, request_id: Any) -> None:
        key = source, request_id
        asked = self._questions.pop(key, None) if isinstance(request_id, str | int) else None
        if asked is not None:
            asked.withdraw()

    def _log(self, exchange: Exchange, notification: RpcNotification) -> None:
        if exchange.client.wants_log(notification.params.get("level")):
            exchange.tell(_log_message(notification))

    def _log_to_all(self, source: str, notification: RpcNotification) -> None:
        """Tell each client once: on its newest request, or on the stream that belongs to none."""
        told: set[Session] = set()
        for exchange in reversed(self._underway.get(source, {})):
            session = exchange.client.session
            if session is None or (session not in told and exchange.accepts_events):
                self._log(exchange, notification)
            if session is not None and exchange.accepts_events:
                told.add(session)
        self._interests.tell_log(source, notification.params.get("level"), _log_message(notification), told)

    def _complete_elicitation(self, source: str, params: dict[str, Any]) -> None:
        number = params.get("elicitationId")
        if isinstance(number, str) and "elicitation" in capabilities.client_capabilities(self._live.bundle, source):
            message = dump_notification(mcp.ELICITATION_COMPLETE, {"elicitationId": number})
            self._interests.tell_sessions(source, message)


def _error(code: int, message: str) -> dict[str, Any]:
    return {"code": code, "message": message}


def _log_message(notification: RpcNotification) -> bytes:
    params = notification.params
    return dump_notification(mcp.LOG_MESSAGE, {key: params[key] for key in _LOG_KEYS if key in params})
