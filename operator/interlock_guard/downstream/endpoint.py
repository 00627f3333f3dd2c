"""The HTTP endpoint for the agent: `/<key>/mcp/<source>` speaks MCP's streamable HTTP in every protocol version.

The agent's key is part of the path, since every MCP client can carry a URL. A request is read whole, parsed,
authorized, recorded, and only then forwarded. The body of a request says which protocol version it is of.
"""

from collections.abc import Callable
from typing import Final

from aiohttp import HttpVersion10, HttpVersion11, web

from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.mcp import MCP_JSON, METHOD_HEADER, NAME_HEADER, SESSION_HEADER, VERSION_HEADER
from interlock_guard.audit.recorder import RecordFailed
from interlock_guard.decision.decide import Deny, DenyReason, check_terminated, find_source
from interlock_guard.downstream.authorizer import Authorizer, deny_unrecorded
from interlock_guard.downstream.callers import Callers
from interlock_guard.downstream.exchange import to_response
from interlock_guard.downstream.relay import Relay
from interlock_guard.downstream.replies import deny, refuse
from interlock_guard.downstream.server_requests import ServerMessages
from interlock_guard.downstream.session_based import SessionBasedClients
from interlock_guard.downstream.sessionless import SessionlessClients, is_sessionless
from interlock_guard.downstream.sessions import Sessions
from interlock_guard.downstream.subscriptions import Subscriptions
from interlock_guard.state import LiveState
from interlock_guard.upstream.list_cache import ListCache
from interlock_guard.upstream.sources import Sources
from interlock_guard.wire.jsonrpc import (
    INVALID_REQUEST,
    MAX_BODY,
    Message,
    MessageInvalid,
    RpcRequest,
    RpcResponse,
)
from interlock_guard.wire.large_messages import MAX_REQUEST_NODES, SMALL, LargeMessages, NoRoom, without_frames
from interlock_http.listener import BodyRefused, BoundedListener, read_body, release_body

_MAX_SESSION: Final = 128
_CHUNKED: Final = "chunked"
_VERSIONS: Final = (HttpVersion10, HttpVersion11)
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_ONCE: Final = (
    "Host",
    "Authorization",
    "X-Api-Key",
    "Origin",
    "Content-Type",
    "Transfer-Encoding",
    "Last-Event-ID",
    SESSION_HEADER,
    VERSION_HEADER,
    METHOD_HEADER,
    NAME_HEADER,
)


class HttpChecks:
    """Refuses requests that were not meant for this guard or that two parsers might read differently.

    Args:
        port: The guard's.
        host: The one name that clients call a guard in a separate pod by; empty for those of loopback.
        callers: Refuses callers that are not the agent.
    """

    def __init__(self, port: int, host: str = "", *, callers: Callers) -> None:
        self.callers = callers
        self._hosts = frozenset(f"{name}:{port}".lower() for name in ((host,) if host else _LOOPBACK_NAMES))
        self._origins = frozenset(f"http://{host}" for host in self._hosts)

    def refuse_caller(self, http: web.Request, *, by_image: bool = True) -> web.Response | None:
        """Refuse callers in the guard's own pod or, unless that does not matter, with another image, and other hosts.

        A web page may have made its own name resolve to 127.0.0.1.
        """
        refused = self.callers.refuse_peer(http, by_image=by_image)
        if refused is not None:
            return refused
        headers = http.headers
        if http.version not in _VERSIONS:  # the parser takes a request line without a version for HTTP/0.9
            return web.Response(status=505, text="This speaks HTTP/1.1.\n")
        # Most requests repeat no header at all, which one set of names tells.
        if len({name.lower() for name in headers}) < len(headers) and any(
            len(headers.getall(name, ())) > 1 for name in _ONCE
        ):
            return web.Response(status=400, text="A header is there twice.\n")
        host, origin = headers.get("Host", "").lower(), headers.get("Origin")
        if host not in self._hosts or (origin is not None and origin.lower() not in self._origins):
            return web.Response(status=403, text="Host or Origin is not this guard's.\n")
        return None

    def refuse_body(self, http: web.Request) -> web.Response | None:
        """Refuse a body that is not plain JSON, and a malformed session id."""
        coding = http.headers.get("Transfer-Encoding", _CHUNKED).lower()
        if http.content_type != MCP_JSON or "Content-Encoding" in http.headers or coding != _CHUNKED:
            return web.Response(status=415, text="The body must be plain application/json.\n")
        return self.refuse_session(http)

    def refuse_session(self, http: web.Request) -> web.Response | None:
        """Refuse a malformed session id."""
        session = http.headers.get(SESSION_HEADER, "")
        if len(session) > _MAX_SESSION or not (session.isascii() and (session.isprintable() or not session)):
            return web.Response(status=400, text=f"{SESSION_HEADER} is malformed.\n")
        return None


_PATH: Final = "/{key}/mcp/{source}"
_SHUTDOWN_SECONDS: Final = 0.2

AddRoutes = Callable[[web.Application], None]


class McpEndpoint:
    """Answers the agent's requests.

    Its parts live and end with it: the relay, the clients of both kinds of protocol version and what they remember.

    Args:
        live: The Agent's state and its bundle.
        sources: The servers.
        lists: The tools and prompts that the servers list.
        authorizer: Decides on requests.
        checks: Refuses what was not meant for this guard.
        add_routes: Adds the other paths that the agent finds at the same port.
        large: The large messages of this guard.
    """

    def __init__(
        self,
        *,
        live: LiveState,
        sources: Sources,
        lists: ListCache,
        authorizer: Authorizer,
        checks: HttpChecks,
        add_routes: AddRoutes = lambda _: None,
        large: LargeMessages | None = None,
    ) -> None:
        self._live, self._authorizer, self._checks = live, authorizer, checks
        self._large = large or LargeMessages()
        self.sessions = Sessions()
        subscriptions = Subscriptions(self.sessions)
        self.messages = ServerMessages(live=live, authorizer=authorizer, subscriptions=subscriptions, lists=lists)
        """Takes the messages that the servers send on their own."""
        self._relay = relay = Relay(
            live=live,
            sources=sources,
            authorizer=authorizer,
            messages=self.messages,
            subscriptions=subscriptions,
            large=self._large,
        )
        self._session_based = SessionBasedClients(
            live=live,
            sources=sources,
            authorizer=authorizer,
            relay=relay,
            sessions=self.sessions,
            subscriptions=subscriptions,
        )
        self._sessionless = SessionlessClients(
            live=live, sources=sources, authorizer=authorizer, relay=relay, subscriptions=subscriptions
        )
        self.is_leaving: Callable[[], bool] = lambda: False
        """Returns True while the pod waits for its end. A separate agent must then connect again, to another guard."""
        self.listener = BoundedListener(LISTENERS[ListenerName.AGENT])
        self.runner = self._build_runner(add_routes)

    async def close(self) -> None:
        """Give up the calls that wait for a client to come back; only after the runner has ended."""
        self._sessionless.close()
        await self._relay.close()

    def _build_runner(self, add_routes: AddRoutes) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/ready", self._ready, allow_head=False)
        for slash in ("", "/"):  # some clients add one to every URL
            app.router.add_post(_PATH + slash, self._post)
            app.router.add_get(_PATH + slash, self._get, allow_head=False)
            app.router.add_delete(_PATH + slash, self._delete)
            app.router.add_route("*", _PATH + slash, self._refuse_method)
            app.router.add_route("*", "/mcp/{source}" + slash, self._refuse_missing_key)
        add_routes(app)
        app.on_response_prepare.append(self._end_connection)
        return self.listener.build_app_runner(
            app,
            handler_cancellation=True,  # a client that hangs up ends its call
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )

    def follow(self) -> None:
        """Once the agent may do nothing any longer, abort every answer that is still going out.

        Calls and streams that wait for a server need nothing here: the sources have answered them with the denial.
        """
        if check_terminated(self._live.bundle, self._live.state) is None:
            return
        self._relay.abort()
        self._session_based.abort()
        self._sessionless.abort()
        connections = [] if self.runner.server is None else self.runner.server.connections
        for connection in connections:
            transport = connection.transport
            if transport is not None and transport.get_write_buffer_size() > 0:
                transport.abort()

    async def _end_connection(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.is_leaving():
            response.headers["Connection"] = "close"
            response.force_close()

    async def _ready(self, http: web.Request) -> web.Response:
        """Answer the egress check of an agent's pod, which can reach no other port: are requests decided on?

        A pod that is refused for its image gets the answer, too. It may only be a new one whose image is not known yet,
        and would never be known: the agent's container starts after the egress check.
        """
        refused = self._checks.refuse_caller(http, by_image=False)
        if refused is not None:
            return refused
        denial = self._authorizer.check_open()
        return web.Response(text="ok\n") if denial is None else web.Response(status=503, text=f"{denial.reason}\n")

    async def _refuse_method(self, http: web.Request) -> web.Response:
        refused = self._checks.refuse_caller(http) or self._refuse_key(http)
        return refused or web.Response(status=405, headers={"Allow": "GET, POST, DELETE"})

    async def _refuse_missing_key(self, http: web.Request) -> web.Response:
        refused = self._checks.refuse_caller(http) or self._checks.callers.refuse_key("")
        return refused or web.Response(status=503, text=f"{DenyReason.NO_BUNDLE}\n")

    def _refuse_key(self, http: web.Request) -> web.Response | None:
        return self._checks.callers.refuse_key(http.match_info["key"])

    async def _get(self, http: web.Request) -> web.StreamResponse:
        refused = self._refuse_bodiless(http)
        if refused is not None:
            return refused
        try:
            return await self._session_based.serve_stream(http, http.match_info["source"])
        except ConnectionError:
            return web.Response(status=400)  # the client is gone

    async def _delete(self, http: web.Request) -> web.StreamResponse:
        return self._refuse_bodiless(http) or self._session_based.end_session(http, http.match_info["source"])

    def _refuse_bodiless(self, http: web.Request) -> web.Response | None:
        """Refuse a request without a message; none is recorded, since nothing of it can reach a server."""
        refused = self._checks.refuse_caller(http) or self._refuse_key(http) or self._checks.refuse_session(http)
        if refused is not None:
            return refused
        source = http.match_info["source"]
        denial = self._refuse_source(source)
        return self._session_based.refuse_ended(http, source) if denial is None else to_response(refuse(None, denial))

    def _refuse_source(self, source: str) -> Deny | None:
        denial = self._authorizer.check_open()
        if denial is None and find_source(self._live.bundle, source) is None:
            return Deny(DenyReason.UNKNOWN_SOURCE, "", "This agent has no such source.")
        return denial

    async def _post(self, http: web.Request) -> web.StreamResponse:
        refused = self._checks.refuse_caller(http) or self._refuse_key(http) or self._checks.refuse_body(http)
        if refused is not None:
            return refused
        source = http.match_info["source"]
        message: Message | MessageInvalid | NoRoom
        try:
            message = await self._read_message(http, source)
        except (MessageInvalid, NoRoom) as error:
            message = without_frames(error)
        except BodyRefused as refusal:
            message = MessageInvalid(INVALID_REQUEST, str(refusal))
        try:
            return await self._handle(http, source, message)
        except ConnectionError:
            return web.Response(status=400)  # the client is gone
        except RecordFailed as error:
            denial = deny_unrecorded(error)
            if isinstance(message, RpcRequest):
                return to_response(deny(message, denial, to_sessionless=is_sessionless(message)))
            return to_response(refuse(getattr(message, "id", None), denial))

    async def _read_message(self, http: web.Request, source: str) -> Message:
        """Read and parse one message.

        Raises:
            MessageInvalid: It is no message, or beyond a bound.
            NoRoom: There is no memory for it.
        """
        async with self._large.receive(http.content_length):
            data = await read_body(http)
            if len(data) > SMALL and self._refuse_source(source) is not None:
                raise MessageInvalid(INVALID_REQUEST, "was not read")  # `_handle` answers with that refusal
            [message] = await self._large.parse_messages(
                data,
                max_bytes=self._max_bytes(source),
                hold=self._large.requests.hold(),
                max_nodes=MAX_REQUEST_NODES,
                is_forwarded=True,
            )
        release_body(http)
        return message

    def _max_bytes(self, source: str) -> int:
        served = find_source(self._live.bundle, source)
        return MAX_BODY if served is None else served.limits.request_bytes

    async def _handle(
        self, http: web.Request, source: str, message: Message | MessageInvalid | NoRoom
    ) -> web.StreamResponse:
        """Answer one message, or bytes that are none; a closed guard answers before it looks at the message."""
        denial = self._refuse_source(source)
        if denial is not None:
            return self._refuse(source, message, denial)
        refused = self._refuse_key(http)  # once more: the bundle may have come, or changed, while the body was read
        if refused is not None:
            return refused
        if isinstance(message, NoRoom):
            return self._refuse(source, message, Deny(DenyReason.SERVER_UNAVAILABLE, "", f"The message {message}."))
        try:
            if isinstance(message, MessageInvalid):
                raise message
            if isinstance(message, RpcRequest) and is_sessionless(message):
                return await self._sessionless.handle_request(http, source, message)
            ended = self._session_based.refuse_ended(http, source)
            return ended or await self._session_based.handle(http, source, message)
        except MessageInvalid as error:
            return self._refuse(source, message, Deny(DenyReason.BAD_REQUEST, "", f"The message {error}."), error.code)

    def _refuse(
        self, source: str, message: Message | MessageInvalid | NoRoom, denial: Deny, code: int | None = None
    ) -> web.Response:
        self._authorizer.record_refusal(source, getattr(message, "method", ""), denial)
        request_id = None if isinstance(message, RpcResponse) else getattr(message, "id", None)
        return to_response(refuse(request_id, denial, code))
