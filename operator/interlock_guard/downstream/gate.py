"""The one way to a server: decided, recorded, and only then sent; and the way back.

Between a decision and its forward nothing is awaited, so that no kill can come between.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_guard.audit.caller import Caller, read_caller
from interlock_guard.audit.recorder import Recorder, RecordFailed
from interlock_guard.decision.decide import (
    Allow,
    Decision,
    DecisionInput,
    Deny,
    DenyReason,
    check_cut,
    check_open,
    decide,
    find_source,
)
from interlock_guard.decision.model_call import decide_model
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.broker import Broker
from interlock_guard.downstream.capabilities import offer
from interlock_guard.downstream.exchange import DownstreamClient, Exchange
from interlock_guard.downstream.outcomes import INPUT_REQUIRED, NOT_ASKED, OpenRecord, outcome_of
from interlock_guard.downstream.replies import Form, Reply, answer, deny, give
from interlock_guard.state import LiveState, State
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.sources import Sources
from interlock_guard.upstream.upstream import Outcome, Upstream, unavailable
from interlock_guard.wire.jsonrpc import RpcNotification, RpcRequest, RpcResponse

RESUME_SECONDS: Final = 30.0
"""How long the answer of a request whose connection broke is waited for and kept."""
UNKNOWN_QUESTIONS: Final = "asked in a way that the guard does not know"
"""What is the matter with a server whose questions cannot be read."""
_NO_SERVER: Final = Deny(DenyReason.SERVER_UNAVAILABLE, "", "This source has no server at the moment.")

_BY_LIST: Final = frozenset({DenyReason.TOOL_DRIFTED, DenyReason.TOOL_NOT_VERIFIED, DenyReason.RULE_UNMATCHABLE})
"""Denials that another list of the server's tools could change."""

Settle = Callable[[Exchange], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the agent's side is made of; `monotonic` is the clock of the state, `host` see `HttpChecks`."""

    live: LiveState
    sources: Sources
    broker: Broker
    recorder: Recorder
    monotonic: Callable[[], float]
    port: int
    host: str = ""
    drifted: Callable[[str], None] = lambda _: None
    """Told the name of a binding one of whose tools was denied since it has changed."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """One message of one client, and the HTTP request that brought it."""

    http: web.Request
    source: str
    session: str


class Gate:
    """Decides, records, forwards and waits, for clients of both eras."""

    def __init__(self, parts: Parts) -> None:
        self._live, self._sources, self._broker = parts.live, parts.sources, parts.broker
        self._recorder, self._monotonic, self._drifted = parts.recorder, parts.monotonic, parts.drifted
        self._lingering: set[asyncio.Task[None]] = set()

    def check_open(self) -> Deny | None:
        """Return why the guard is closed for everything, or None."""
        return check_open(self._live.bundle, self._live.state, self._monotonic())

    def upstream(self, source: str) -> Upstream | None:
        """Return the server of a source."""
        return self._sources.get(source)

    def refuse(self, source: str, method: str, denial: Deny) -> None:
        """Record a refusal of what was not decided on any further.

        Raises:
            RecordFailed: It could not be stored.
        """
        self._recorder.record(self._live.bundle, DecisionInput(source, method), denial)

    def decide(self, inbound: Inbound, message: RpcRequest, forward: Forward) -> OpenRecord | Deny:
        """Decide on a request and record it; what no server can take now is refused too.

        Returns:
            The refusal; else the record, which is owed an outcome.

        Raises:
            RecordFailed: The record could not be stored; nothing may be forwarded.
        """
        return self._decide(inbound.source, forward, read_caller(message.params.get("_meta"), inbound.http.headers))

    def _decide(self, source: str, forward: Forward, caller: Caller) -> OpenRecord | Deny:
        request = capabilities.to_request(source, forward, self._broker.catalogue.find(source, forward.tool))
        decision = self.judge(request, self._live.state)
        seq = self._recorder.record(self._live.bundle, request, decision, caller)
        served = find_source(self._live.bundle, source)
        if isinstance(decision, Deny) and decision.reason is DenyReason.TOOL_DRIFTED and served is not None:
            self._drifted(served.binding)
        return decision if isinstance(decision, Deny) else OpenRecord(self._recorder, seq, self._monotonic)

    async def look_at_tools(self, source: str, forward: Forward) -> None:
        """Know what a server says of its tools now, where that can matter: before a call that is not denied anyway."""
        catalogue = self._broker.catalogue
        if forward.method != mcp.TOOLS_CALL or catalogue.is_fresh(source):
            return
        request = capabilities.to_request(source, forward, catalogue.find(source, forward.tool))
        decision = decide(self._live.bundle, self._live.state, request, self._monotonic())
        # Whatever kept the server from listing the last time: only a look can tell whether it still does.
        if isinstance(decision, Allow) or decision.reason in _BY_LIST:
            await catalogue.refresh(source)

    def judge(self, request: DecisionInput, state: State) -> Decision:
        """Return what becomes of a request, recording and forwarding nothing.

        Args:
            request: What is asked.
            state: What is known of the Agent; the guard's proof leaves out the doubt that it is there to settle.
        """
        if request.model is not None:
            return decide_model(self._live.bundle, state, request, self._monotonic())
        decision = decide(self._live.bundle, state, request, self._monotonic())
        is_unlisted = isinstance(decision, Deny) and decision.reason in _BY_LIST and request.definition is None
        if isinstance(decision, Allow) or is_unlisted:  # a server that is not there lists nothing
            upstream = self._sources.get(request.source)
            unavailable = _NO_SERVER if upstream is None else upstream.refusal()
            if is_unlisted and unavailable is None:
                unavailable = self._broker.catalogue.trouble(request.source)
            if unavailable is not None:
                return replace(unavailable, tool=decision.tool)
        return decision

    def begin(
        self, inbound: Inbound, client: DownstreamClient, message: RpcRequest, forward: Forward
    ) -> Exchange | Reply:
        """Decide on a request and send it; return it under way, or the refusal."""
        record = self.decide(inbound, message, forward)
        if isinstance(record, Deny):
            return deny(message, record, to_stateless=client.is_stateless)
        exchange = self.prepare(inbound, client, message, forward)
        self.send(exchange, record)
        return exchange

    def prepare(self, inbound: Inbound, client: DownstreamClient, message: RpcRequest, forward: Forward) -> Exchange:
        """Return a request that has just been allowed, before it is sent."""
        upstream = self._sources.get(client.source)
        if upstream is None:
            raise AssertionError("decide() allows nothing without a server")
        return Exchange(inbound.http, client, message, forward, upstream, self._broker.take_event)

    def send(self, exchange: Exchange, record: OpenRecord) -> None:
        """Send a request that has just been decided on; its outcome is recorded at its end."""
        exchange.record = record
        client, forward, upstream = exchange.client, exchange.forward, exchange.upstream
        if upstream.hello is None:
            raise AssertionError("refusal() returned None, so the server is ready")
        log_level = client.log_level
        shared = {}
        if upstream.hello.is_stateless:
            if forward.method in mcp.MAY_ASK:
                offered = capabilities.client_capabilities(self._live.bundle, client.source)
                shared = {key: value for key, value in offered.items() if key in client.capabilities}
        elif log_level is not None:
            self._broker.raise_log_level(upstream, log_level)
        params = build_params(forward, upstream.hello, shared, log_level)
        wants_progress = forward.progress_token is not None and exchange.accepts_events
        exchange.call = upstream.start(forward.method, params, exchange.take_event, wants_progress=wants_progress)
        self._broker.add(exchange)

    def take_over(self, before: Exchange, exchange: Exchange, record: OpenRecord) -> None:
        """Let a repeated request, which was decided on anew, go on with the call of the one before it."""
        before.record.complete(INPUT_REQUIRED)
        exchange.record = record
        exchange.call, exchange.questions = before.call, before.questions
        exchange.call.on_event = exchange.take_event
        before.questions, before.is_held = [], False
        self._broker.replace(before, exchange)

    def give(self, exchange: Exchange, result: dict[str, Any]) -> Reply:
        """Return a result of the guard's own making, unless everything must end."""
        cut = check_cut(self._live.bundle, self._live.state)
        return give(exchange.message, result) if cut is None else deny(exchange.message, cut)

    def again(self, exchange: Exchange) -> Deny | None:
        """Decide on what a request has become and send it anew; return the refusal, if it is one."""
        exchange.record.complete(outcome_of(exchange.call))
        record = self._decide(exchange.client.source, exchange.forward, exchange.caller)
        if isinstance(record, Deny):
            return record
        if self._sources.get(exchange.client.source) is not exchange.upstream:
            record.complete(_NO_SERVER.reason.value)
            return _NO_SERVER
        self._broker.remove(exchange)
        self.send(exchange, record)
        return None

    async def relay(self, exchange: Exchange, settle: Settle) -> web.StreamResponse:
        """Wait for the answer and give it; a client that hangs up ends its call, unless it can come back for it."""
        lingers = False
        try:
            return await exchange.answer(await self._settle(exchange, settle))
        except (asyncio.CancelledError, ConnectionError):
            lingers = exchange.hang_up()
            if lingers:
                self._linger(exchange, settle)
            else:
                self.end(exchange)
                exchange.upstream.abandon(exchange.call, "the client hung up")
            raise
        finally:
            if not lingers:
                self.end(exchange)

    async def _settle(self, exchange: Exchange, settle: Settle) -> Reply:
        """Wait for the answer; a question on its way that cannot be recorded is not asked."""
        try:
            return await settle(exchange)
        except RecordFailed as error:
            return self.reply(exchange, unrecorded(error))

    def end(self, exchange: Exchange) -> None:
        """Forget a request that is not under way any more, or only its connection while a question is open."""
        if exchange.is_held:
            return
        exchange.record.complete(outcome_of(exchange.call))
        exchange.close()
        self._broker.remove(exchange)
        session = exchange.client.session
        if session is not None and session.exchanges.get(exchange.message.id) is exchange:
            del session.exchanges[exchange.message.id]

    def reply(self, exchange: Exchange, outcome: Outcome) -> Reply:
        """Return the answer to a request; it may have come before a kill and be passed on after it, so look again."""
        client, message = exchange.client, exchange.message
        cut = check_cut(self._live.bundle, self._live.state)
        if cut is not None:
            return deny(message, cut)
        if isinstance(outcome, RpcResponse):
            hello = exchange.upstream.hello
            may_show = partial(capabilities.may_list, self._live.bundle, client.source, message.method)
            form = Form(client.is_stateless, hello is not None and hello.is_stateless, may_show)
            return answer(message, outcome, form)
        denial = outcome if isinstance(outcome, Deny) else _NO_SERVER
        return deny(message, denial, to_stateless=client.is_stateless)

    def decide_questions(
        self, exchange: Exchange, questions: dict[str, tuple[str, dict[str, Any]]]
    ) -> dict[str, OpenRecord] | Deny:
        """Decide on a server's questions to a client; return why they may not be put, or the records of all of them."""
        records: dict[str, OpenRecord] = {}
        refused: Deny | None = None
        try:
            for key, (method, _) in questions.items():
                refused = self._decide_question(exchange, method, records, key)
                if refused is not None:
                    break
        finally:
            if len(records) < len(questions) or refused is not None:
                for record in records.values():
                    record.complete(NOT_ASKED)
        return records if refused is None else refused

    def _decide_question(
        self, exchange: Exchange, method: str, records: dict[str, OpenRecord], key: str
    ) -> Deny | None:
        source = exchange.client.source
        record = self._broker.decide_question(source, method, exchange.caller)
        if isinstance(record, Deny):
            return record
        records[key] = record
        if exchange.can_ask(method):
            return None
        return unavailable(source, f"asks for {method}, which this client does not offer")

    def offer(self, source: str) -> dict[str, Any]:
        """Return what a source offers to a client that greets it: capabilities, and the server's instructions."""
        upstream = self._sources.get(source)
        hello = None if upstream is None else upstream.hello
        return offer(hello, capabilities.offers(self._live.bundle, source))

    def may_ask_anything(self, source: str) -> bool:
        """Say whether the policy lets a source's server ask its client anything."""
        return bool(capabilities.client_capabilities(self._live.bundle, source))

    def may_be_asked(self, source: str, method: str) -> bool:
        """Say whether the policy lets a source's server ask its client this."""
        capability = mcp.SERVER_REQUESTS[method]
        return capability in capabilities.client_capabilities(self._live.bundle, source)

    def tell_server(self, source: str, notification: RpcNotification) -> None:
        """Pass a client's notification on; which ones may pass is the caller's to know."""
        upstream = self._sources.get(source)
        if upstream is not None and upstream.hello is not None and not upstream.hello.is_stateless:
            upstream.notify(notification.method, {})

    def _linger(self, exchange: Exchange, settle: Settle) -> None:
        """Go on waiting for an answer whose client may come back for it, for a while."""
        task = asyncio.create_task(self._wait_on(exchange, settle))
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)

    async def _wait_on(self, exchange: Exchange, settle: Settle) -> None:
        if exchange.call.future.cancelled():
            exchange.call.renew()
        settled = asyncio.ensure_future(self._settle(exchange, settle))
        try:
            while not settled.done():
                await asyncio.wait({settled}, timeout=RESUME_SECONDS)
                if not settled.done() and (exchange.stream is None or not exchange.stream.is_attached):
                    settled.cancel()
                    exchange.upstream.abandon(exchange.call, "the client hung up")
                    exchange.conclude(Reply(503, b"", closes=True))
                    return
            exchange.conclude(settled.result())
        finally:
            settled.cancel()
            self.end(exchange)


def unrecorded(error: RecordFailed) -> Deny:
    """Return the denial that says that something was not recorded and so did not happen."""
    return Deny(DenyReason.AUDIT_UNAVAILABLE, "", f"The record of this call was not stored: {error}.")
