"""The relay: starts the call of an authorized request at its server, waits for it, and ends it.

The protocol version of the client is a strategy (`ProtocolVersion`): it turns the end of a call into a reply, and puts
the server's requests to the client.
"""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from interlock_contract import mcp
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_guard.audit.recorder import Caller, RecordFailed
from interlock_guard.decision.decide import Deny, check_terminated
from interlock_guard.downstream import capabilities
from interlock_guard.downstream.authorizer import (
    INPUT_REQUIRED,
    NO_SERVER,
    NOT_ASKED,
    Authorizer,
    OpenRecord,
    deny_unrecorded,
    outcome_of,
)
from interlock_guard.downstream.cursors import MAX_LENGTH as MAX_CURSOR
from interlock_guard.downstream.cursors import CursorOwner, Cursors
from interlock_guard.downstream.event_stream import accepts_events
from interlock_guard.downstream.exchange import DownstreamClient, Exchange, ExchangeState, ProtocolVersion
from interlock_guard.downstream.replies import WITHOUT_TEXT, Form, MayShow, Reply, answer, deny, give
from interlock_guard.downstream.server_requests import ServerMessages
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.log import log
from interlock_guard.state import LiveState
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.sources import Sources
from interlock_guard.upstream.upstream import Call, Outcome, Upstream, unavailable
from interlock_guard.wire.jsonrpc import INVALID_PARAMS, MessageInvalid, RpcRequest, RpcResponse
from interlock_guard.wire.large_messages import MAX_LIST, LargeMessages, Pace
from interlock_kube.background import log_failure

RESUME_SECONDS: Final = 30.0
"""How long the answer of a request whose connection broke is waited for and kept."""
_MAX_LOGGED: Final = 200
UNKNOWN_INPUT_REQUEST: Final = "asked in a way that the guard does not know"
"""What is wrong with a server whose requests for input cannot be read."""


class Relay:
    """Runs the calls of clients of either protocol version."""

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        authorizer: Authorizer,
        messages: ServerMessages,
        subscriptions: Subscriptions,
        large: LargeMessages,
    ) -> None:
        self._live, self._sources, self._authorizer, self._large = live, sources, authorizer, large
        self._messages, self._subscriptions = messages, subscriptions
        self._cursors = Cursors()
        self._lingering: set[asyncio.Task[None]] = set()

    def offer(self, source: str) -> dict[str, Any]:
        """Return the `capabilities` and `instructions` of an answer to `initialize` or `server/discover`."""
        bundle, upstream = self._live.bundle, self._sources.get(source)
        server_info = None if upstream is None else upstream.server_info
        pin = capabilities.find_instructions_pin(bundle, source)
        if server_info is not None and pin is not None and server_info.instructions_digest != pin:
            self._authorizer.report_drift(source, f"instructions {server_info.instructions_digest}")
        return capabilities.offer(server_info, capabilities.offers(bundle, source), pin)

    def start(
        self,
        http: web.Request,
        *,
        protocol: ProtocolVersion,
        client: DownstreamClient,
        message: RpcRequest,
        forward: Forward,
        caller: Caller,
        record: OpenRecord,
    ) -> Exchange:
        """Send a request to its server.

        Args:
            http: The HTTP request that brought it.
            protocol: The client's protocol version.
            client: The sender.
            message: The request as it came.
            forward: The request as it goes out.
            caller: On whose behalf it is made.
            record: The record of its authorization, with nothing awaited since.
        """
        upstream = self._get_authorized(client.source)
        accepts_progress = forward.progress_token is not None and accepts_events(http)
        call = self._send(upstream, client, forward, wants_progress=accepts_progress)
        exchange = Exchange(http, protocol, client, message, forward, caller, upstream, call, record)
        # A server's messages arrive in later turns of the event loop, so none came before this.
        call.on_event = partial(self._messages.handle_call_message, exchange)
        self._messages.add(exchange)
        return exchange

    def restore_cursor(self, client: DownstreamClient, message: RpcRequest, forward: Forward) -> None:
        """Put the server's cursor in place of the guard's, in a request for a list.

        Raises:
            MessageInvalid: The guard gave this client no such cursor for this list, or has forgotten it.
        """
        given = forward.params.get("cursor")
        if message.method not in mcp.LISTS or given is None:
            return
        cursor = self._cursors.find(_owner_of_cursors(client, message), given)
        if cursor is None:
            raise MessageInvalid(
                INVALID_PARAMS,
                "has a cursor that this guard did not give for this list: list again without",
                message.id,
            )
        forward.params = {**forward.params, "cursor": cursor}

    def resume(
        self,
        before: Exchange,
        http: web.Request,
        *,
        client: DownstreamClient,
        message: RpcRequest,
        forward: Forward,
        caller: Caller,
        record: OpenRecord,
    ) -> Exchange:
        """Let the repetition of a held request, which was authorized again, go on with the call of the first one.

        Args:
            before: The held request.
            http: The HTTP request that brought the repetition; the other arguments are those of `start`.
            client: The sender.
            message: The repetition as it came.
            forward: The repetition, taken apart.
            caller: On whose behalf it is made.
            record: The record of its authorization.
        """
        upstream = self._get_authorized(client.source)
        before.record.complete(INPUT_REQUIRED)
        call, pending = before.call, before.pending
        exchange = Exchange(http, before.protocol, client, message, forward, caller, upstream, call, record, pending)
        exchange.call.on_event = partial(self._messages.handle_call_message, exchange)
        before.pending, before.state = [], ExchangeState.ENDED
        self._messages.replace(before, exchange)
        return exchange

    def restart(self, exchange: Exchange) -> Deny | None:
        """Authorize a request with the input that its server required, and send it again; return the denial, if any."""
        exchange.record.complete(outcome_of(exchange.call))
        record = self._authorizer.authorize(exchange.forward, exchange.caller, is_continued=True)
        if isinstance(record, Deny):
            return record
        if self._sources.get(exchange.client.source) is not exchange.upstream:
            record.complete(NO_SERVER.reason.value)
            return NO_SERVER
        exchange.record = record
        wants_progress = exchange.forward.progress_token is not None and exchange.accepts_events
        call = self._send(exchange.upstream, exchange.client, exchange.forward, wants_progress=wants_progress)
        call.on_event = partial(self._messages.handle_call_message, exchange)
        exchange.call = call
        self._messages.remove(exchange)
        self._messages.add(exchange)  # last again: the newest call of a session gets its server's messages
        return None

    async def wait(self, exchange: Exchange) -> web.StreamResponse:
        """Wait for the reply and give it.

        A client that hangs up ends its call, unless it can come back for the answer.
        """
        lingers = False
        try:
            return await exchange.answer(await self._wait_for_reply(exchange))
        except (asyncio.CancelledError, ConnectionError):
            lingers = exchange.disconnect()
            if lingers:
                self._linger(exchange)
            else:
                self.end(exchange)
                exchange.upstream.abandon(exchange.call, "the client hung up")
            raise
        finally:
            if not lingers:
                self.end(exchange)

    def end(self, exchange: Exchange) -> None:
        """Record the outcome of a request and forget it, unless it is held for its repetition."""
        if exchange.state is ExchangeState.HELD:
            return
        exchange.record.complete(outcome_of(exchange.call))
        exchange.close()
        exchange.call.on_event = None  # no cycle of references is left for the garbage collector
        self._messages.remove(exchange)
        session = exchange.client.session
        if session is not None and session.requests.get(exchange.message.id) is exchange:
            del session.requests[exchange.message.id]

    async def reply(self, exchange: Exchange, outcome: Outcome) -> Reply:
        """Return the answer to a request; after a kill it is the denial, even if the server's answer came before."""
        if not isinstance(outcome, RpcResponse) or outcome.hold is None:
            return self._reply(exchange, outcome, partial(self._may_show, exchange))
        async with self._large.turn():
            is_list = exchange.message.method in mcp.LISTS
            if is_list and outcome.size > MAX_LIST:
                too_large = unavailable(exchange.client.source, f"answered with a list of more than {MAX_LIST} bytes")
                return self._reply(exchange, too_large)
            shown = await self._find_shown(exchange, outcome.result or {}) if is_list else set()
            reply = self._reply(exchange, outcome, lambda _, item: id(item) in shown)
            reply.hold = outcome.hold
            return reply

    def _reply(self, exchange: Exchange, outcome: Outcome, may_show: MayShow = lambda *_: False) -> Reply:
        client, message = exchange.client, exchange.message
        cut = check_terminated(self._live.bundle, self._live.state)
        if cut is not None:
            return deny(message, cut)
        if isinstance(outcome, RpcResponse):
            server_info = exchange.upstream.server_info
            is_from_sessionless = server_info is not None and server_info.is_sessionless
            if outcome.error is not None and message.method in WITHOUT_TEXT:
                said = json.dumps(str(outcome.error.get("message", ""))[:_MAX_LOGGED])
                log(f"server of {client.source}: answered {message.method} with an error: {said}")
            cursor = (outcome.result or {}).get("nextCursor") if message.method in mcp.LISTS else None
            if isinstance(cursor, str) and len(cursor) > MAX_CURSOR:
                too_long = unavailable(client.source, f"answered with a cursor of more than {MAX_CURSOR} characters")
                return deny(message, too_long, to_sessionless=client.is_sessionless)
            form = Form(
                client.is_sessionless,
                is_from_sessionless,
                may_show,
                partial(self._cursors.give, _owner_of_cursors(client, message)),
                capabilities.has_descriptions(self._live.bundle, client.source),
            )
            return answer(message, outcome, form)
        denial = outcome if isinstance(outcome, Deny) else NO_SERVER
        return deny(message, denial, to_sessionless=client.is_sessionless)

    def _may_show(self, exchange: Exchange, name: str, item: Mapping[str, Any]) -> bool:
        bundle, source, method = self._live.bundle, exchange.client.source, exchange.message.method
        return capabilities.may_list(bundle, source, method, name) and (
            method not in capabilities.PINNED_LISTS
            or capabilities.is_verified(bundle, source, method, name, digest_of(canonicalize(item)))
        )

    async def _find_shown(self, exchange: Exchange, result: dict[str, Any]) -> set[int]:
        """Decide on the items of a large list in steps; return the `id()` of each that may be shown."""
        source, method = exchange.client.source, exchange.message.method
        key, naming = mcp.LISTS[method]
        items = result.get(key)
        named = [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []
        while True:
            bundle, pace, shown = self._live.bundle, Pace(), set()
            for item in named:
                await pace.pause()
                name = item.get(naming)
                if isinstance(name, str) and capabilities.may_list(bundle, source, method, name):
                    digest = await self._large.digest(item) if method in capabilities.PINNED_LISTS else ""
                    if not digest or capabilities.is_verified(bundle, source, method, name, digest):
                        shown.add(id(item))
            if bundle is self._live.bundle:
                return shown
            # Another bundle has come meanwhile: decide by that one.

    def reply_with(self, exchange: Exchange, result: dict[str, Any]) -> Reply:
        """Return a result that the guard itself made, unless everything must end."""
        cut = check_terminated(self._live.bundle, self._live.state)
        return give(exchange.message, result) if cut is None else deny(exchange.message, cut)

    def authorize_input_requests(
        self, exchange: Exchange, required: Mapping[str, tuple[str, dict[str, Any]]]
    ) -> dict[str, OpenRecord] | Deny:
        """Decide on the requests that a server answered a call with.

        Args:
            exchange: The call.
            required: The method and the parameters of each request, by its key.

        Returns:
            The denial if one of them may not be put to the client, or the records of all.
        """
        records: dict[str, OpenRecord] = {}
        try:
            for key, (method, params) in required.items():
                record = self._authorizer.authorize_server_request(
                    exchange.client.source,
                    method,
                    exchange.caller,
                    params=params,
                    obstacle=exchange.find_obstacle(method, params),
                )
                if isinstance(record, Deny):
                    return record
                records[key] = record
                exchange.asked += 1
        finally:
            if len(records) < len(required):
                for record in records.values():
                    record.complete(NOT_ASKED)
        return records

    def abort(self) -> None:
        """End the streams of all calls under way in the middle."""
        self._messages.abort_streams()

    async def close(self) -> None:
        """Give up the calls whose clients have not come back for the answer."""
        lingering = list(self._lingering)
        for task in lingering:
            task.cancel()
        await asyncio.gather(*lingering, return_exceptions=True)

    def _get_authorized(self, source: str) -> Upstream:
        upstream = self._sources.get(source)
        if upstream is None:
            raise AssertionError("authorize() allows nothing without a server")
        return upstream

    def _send(self, upstream: Upstream, client: DownstreamClient, forward: Forward, *, wants_progress: bool) -> Call:
        server_info, log_level = upstream.server_info, client.log_level
        if server_info is None:
            raise AssertionError("authorize() allows nothing that the server is not ready for")
        shared = {}
        if server_info.is_sessionless:
            if forward.method in mcp.MAY_ASK:
                allowed = capabilities.client_capabilities(self._live.bundle, client.source)
                shared = {key: value for key, value in allowed.items() if key in client.capabilities}
        elif log_level is not None:
            self._subscriptions.raise_log_level(upstream, log_level)
        params = build_params(forward, server_info, shared, log_level)
        return upstream.start(forward.method, params, wants_progress=wants_progress)

    async def _wait_for_reply(self, exchange: Exchange) -> Reply:
        """Wait for the reply; a server's request that cannot be recorded is not put to the client."""
        try:
            return await exchange.protocol.wait_for_reply(exchange)
        except RecordFailed as error:
            return self._reply(exchange, deny_unrecorded(error))

    def _linger(self, exchange: Exchange) -> None:
        task = asyncio.create_task(self._wait_for_client(exchange), name="wait for a client to come back")
        self._lingering.add(task)
        task.add_done_callback(self._lingering.discard)
        task.add_done_callback(partial(log_failure, log=log))

    async def _wait_for_client(self, exchange: Exchange) -> None:
        """Go on waiting for an answer whose client may come back for it; give up once it stays away too long."""
        if exchange.call.future.cancelled():
            exchange.call.renew()
        waiting = asyncio.ensure_future(self._wait_for_reply(exchange))
        try:
            while not waiting.done():
                await asyncio.wait({waiting}, timeout=RESUME_SECONDS)
                if not waiting.done() and (exchange.stream is None or not exchange.stream.is_attached):
                    waiting.cancel()
                    exchange.upstream.abandon(exchange.call, "the client hung up")
                    exchange.finish_stream(Reply(503, b"", closes=True))
                    return
            exchange.finish_stream(waiting.result())
        finally:
            waiting.cancel()
            self.end(exchange)


def _owner_of_cursors(client: DownstreamClient, message: RpcRequest) -> CursorOwner:
    return CursorOwner(client.source, message.method, None if client.session is None else client.session.id)
