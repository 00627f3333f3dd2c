"""The guard's HTTP client for MCP servers and providers: connections, addresses, TLS, credentials and failures.

Only addresses that were checked are dialled. No redirect is followed, since its target was not checked, except for one
slash at the end of an MCP server's path. The only proxy is that of the policy: never one of the environment. The .netrc
and compression are not used either, nor are cookies but those of one connection to an MCP server.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
import yarl

from interlock_contract.mcp import EVENT_STREAM, MCP_JSON
from interlock_contract.version import VERSION
from interlock_guard.upstream.cookies import Cookies
from interlock_guard.upstream.credentials import Credentials, CredentialsUnreadable
from interlock_guard.wire.large_messages import SMALL, Hold, MemoryBudget, NoRoom, Pace
from interlock_guard.wire.streams import EventParser, EventTooLarge, ServerEvent
from interlock_http.client import explain_head
from interlock_http.dialer import CONNECT_SECONDS, AddressRefused, Dialer

BROKEN: Final = "broke the connection off; the call may have been executed or not"
MAX_FIELD: Final = 16 * 1024
"""Longest header field of an answer, in bytes: a session id of 8 KiB has room, and so has a content security policy."""
_IDLE_SECONDS: Final = 600.0
_REDIRECTS: Final = range(300, 400)
_REPEATING: Final = (307, 308)
"""Redirects that ask for the same request, body included."""
_ANSWERS: Final = range(200, 600)
_NO_ENCODINGS: Final = frozenset({"", "identity", "none", "utf-8", "utf8", "binary"})
"""Values of `Content-Encoding` that change no byte: some servers name the encoding of characters there."""
_FIRST_TRANSIENT: Final = 500
"""From this status on, a proxy may reach the server a moment later."""


class UpstreamError(Exception):
    """No usable answer came.

    The message is for the agent and names neither address nor secret; `detail` is for the log. `is_sent` says whether
    the request may have reached the server, `is_connection` whether its connection failed, so that a new one may work.
    `refused_status` is the HTTP status of an answer that was refused by its head, None without one.
    """

    def __init__(
        self,
        message: str,
        *,
        is_sent: bool,
        detail: str = "",
        is_connection: bool = False,
        refused_status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.is_sent, self.is_connection = is_sent, is_connection
        self.refused_status = refused_status
        self.detail = detail or message


class Redirected(UpstreamError):  # noqa: N818 - says what happened
    """The server answered with a redirect; `location` is what it says."""

    def __init__(self, status: int, location: str) -> None:
        message = f"answered with a redirect (HTTP {status}), which the guard does not follow"
        detail = f"{message}; to {json.dumps(location[:256])}"
        super().__init__(message, is_sent=True, detail=detail, refused_status=status)
        self.status, self.location = status, location


class HttpSession:
    """Sends requests with the credentials of one server or provider.

    Args:
        credentials: What the server or provider is sent.
        dialer: Makes the connections.
    """

    def __init__(self, credentials: Credentials, dialer: Dialer) -> None:
        self.credentials = credentials
        self._dialer = dialer
        self._session = _open_session(dialer)

    def open(self) -> None:
        """Let requests be sent again after `close`."""
        if self._session.closed:
            self._session = _open_session(self._dialer)

    def reset(self) -> None:
        """Break every connection immediately; the next request makes new ones."""
        self._dialer.reset()

    async def close(self) -> None:
        """Break every connection and send no further request."""
        self._dialer.reset()
        await self._session.close()

    def shows_secret(self, text: bytes | bytearray) -> bool:
        """Return True if a credential that was sent is in a text that came from the other side.

        A text that is searched in parts must have parts that overlap by `SECRET_REACH`.
        """
        return self.credentials.stands_in(text)

    @contextmanager
    def unsent(self) -> Iterator[None]:
        """Read credentials in here; where they cannot be, nothing is sent.

        Raises:
            UpstreamError: They cannot.
        """
        try:
            yield
        except CredentialsUnreadable as error:
            message = "cannot be reached: its credentials cannot be read; nothing was sent to it"
            raise UpstreamError(message, is_sent=False, detail=str(error)) from None

    @asynccontextmanager
    async def request(
        self, method: str, url: yarl.URL, body: bytes | aiohttp.Payload | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; once, whatever happens.

        Raises:
            UpstreamError: Also while the body is read.
        """
        proxy = self.credentials.proxy
        with self.unsent():
            context = self.credentials.read_trust() if url.scheme == "https" else True
            self._dialer.proxy_trust = self.credentials.read_proxy_trust()
        with self.credentials.answer_due():
            try:
                if proxy is not None:
                    self._dialer.check_proxied(url.host or "")
                async with self._session.request(
                    method, url, data=body, headers=headers, ssl=context, allow_redirects=False, proxy=proxy
                ) as response:
                    try:
                        _refuse_answer(response)
                        yield response
                    finally:
                        if not response.content.at_eof():
                            response.close()  # the rest of it is not needed
            except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last is of a name that can be none
                raise self._withhold(
                    _explain_failure(error) if proxy is None else _explain_proxied(error, proxy)
                ) from None
            except UpstreamError as failed:
                raise self._withhold(failed) from None

    def _withhold(self, failed: UpstreamError) -> UpstreamError:
        """Take out of what is logged what the other side said, should a credential stand in it."""
        if self.shows_secret(failed.detail.encode("utf-8", "replace")):
            failed.detail = f"{failed} (the rest is withheld: it shows a credential)"
        return failed


def _open_session(dialer: Dialer) -> aiohttp.ClientSession:
    """Return a session whose every connection the dialer makes: no proxy of the environment, no cookies."""
    return aiohttp.ClientSession(
        connector=dialer.build_connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=_IDLE_SECONDS
        ),
        max_field_size=MAX_FIELD,
    )


def _refuse_answer(response: aiohttp.ClientResponse) -> None:
    """Refuse an answer that is no answer: a redirect, or a body that was not asked for in this form.

    Raises:
        UpstreamError: It is one.
    """
    if response.status in _REDIRECTS:
        raise Redirected(response.status, response.headers.get("Location", ""))
    if response.status not in _ANSWERS:
        message = f"answered with HTTP {response.status}, which answers no request"
        raise UpstreamError(message, is_sent=True, refused_status=response.status)
    encodings = ",".join(response.headers.getall("Content-Encoding", ()))
    if not {one.strip().lower() for one in encodings.split(",")} <= _NO_ENCODINGS:
        message = "answered with a compressed body, which the guard had not asked for"
        raise UpstreamError(message, is_sent=True, refused_status=response.status)


def _explain_failure(error: Exception) -> UpstreamError:
    """Return what to tell of an error: to the agent what kind it is, to the log what it says."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    detail = f"{type(cause).__name__}: {cause}"
    if isinstance(cause, AddressRefused):
        message = "cannot be reached: its address is none that its binding allows; nothing was sent to it"
        return UpstreamError(message, is_sent=False, detail=str(cause))
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail = f"{type(error).__name__}: {error.certificate_error}"
        message = "cannot be reached: its certificate is not trusted; nothing was sent to it"
        return UpstreamError(message, is_sent=False, detail=detail)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        message = "cannot be reached; nothing was sent to it"
        return UpstreamError(message, is_sent=False, detail=detail, is_connection=True)
    if isinstance(error, ssl.SSLError):
        message = "cannot be reached over TLS; nothing was sent to it"
        return UpstreamError(message, is_sent=False, detail=detail, is_connection=True)
    if isinstance(error, aiohttp.ClientResponseError):
        message = "answered with something that is not HTTP"
        # Not its repr: that holds the headers of the request.
        detail = f"{type(error).__name__}: {error.message}"
        too_large = explain_head(error)
        if too_large:
            message = detail = f"answered with {too_large}"
        return UpstreamError(message, is_sent=True, detail=detail)
    return UpstreamError(BROKEN, is_sent=True, detail=detail, is_connection=True)


def _explain_proxied(error: Exception, proxy: str) -> UpstreamError:
    """Return what to tell of an error where an egress proxy is used: whether the way to the server is its cause."""
    sent = "nothing was sent to it"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        message = f"cannot be reached: the egress proxy answered with HTTP {error.status}; {sent}"
        detail = f"{message} ({json.dumps(error.message[:256])})"
        is_transient = error.status >= _FIRST_TRANSIENT
        return UpstreamError(message, is_sent=False, detail=detail, is_connection=is_transient)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        message = f"cannot be reached: its address, or that of the egress proxy, may not be dialled; {sent}"
        return UpstreamError(message, is_sent=False, detail=str(cause))
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientConnectorDNSError):
        detail = f"egress proxy: {type(cause).__name__}: {cause}"
        message = f"cannot be reached: the egress proxy does not answer; {sent}"
        return UpstreamError(message, is_sent=False, detail=detail, is_connection=True)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        message = f"cannot be reached: the egress proxy made no connection within {CONNECT_SECONDS:g} s; {sent}"
        return UpstreamError(message, is_sent=False, is_connection=True)
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and error.host == yarl.URL(proxy).host:
        detail = f"egress proxy: {type(error).__name__}: {error.certificate_error}"
        message = f"cannot be reached: the certificate of the egress proxy is not trusted; {sent}"
        return UpstreamError(message, is_sent=False, detail=detail)
    return _explain_failure(error)


_OWN_HEADERS: Final = {
    "Accept": f"{MCP_JSON}, {EVENT_STREAM}",
    "Accept-Encoding": "identity",
    "Content-Type": MCP_JSON,
}
_USER_AGENT: Final = {"User-Agent": f"interlock-guard/{VERSION}"}  # a binding may say another
_SUCCESS: Final = range(200, 300)
_JSON_TYPES: Final = frozenset(
    {MCP_JSON, "application/json-rpc", "text/json", "text/plain", "application/octet-stream"}
)
"""The HTTP library has the last one for an answer without a type."""
_DRAIN_SECONDS: Final = 0.2
_MAX_DRAINED: Final = 64 * 1024
_STEP: Final = 16 * 1024


async def make_room(hold: Hold | None, size: int) -> None:
    """Take the part of a budget that an answer of this size needs; a small one needs none.

    Raises:
        UpstreamError: There is no room.
    """
    if hold is None or (size <= SMALL and hold.size == 0):
        return
    try:
        await hold.resize(size)
    except NoRoom as error:
        raise UpstreamError(f"answered with a message that {error}", is_sent=True) from None


class StreamBroken(UpstreamError):  # noqa: N818 - says what happened
    """A stream of events broke off; where it could be taken up again, that may be tried."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """The head of an answer, and its body as far as it was asked for."""

    response: aiohttp.ClientResponse

    @property
    def status(self) -> int:
        """The HTTP status, no redirect."""
        return self.response.status

    @property
    def is_success(self) -> bool:
        """Whether the status is 200 to 299."""
        return self.response.status in _SUCCESS

    @property
    def media_type(self) -> str:
        """The media type, in lower case, without parameters."""
        return self.response.content_type.lower()

    @property
    def may_be_json(self) -> bool:
        """Whether the body may be JSON: by its type, or because no type, or that of any text or bytes, is given."""
        return self.media_type in _JSON_TYPES or self.media_type.endswith("+json")

    def header(self, name: str) -> str:
        """Return a header, empty without one."""
        return self.response.headers.get(name, "")

    async def read(self, limit: int, budget: MemoryBudget | None = None) -> bytes | bytearray:
        """Return the body.

        Args:
            limit: Its bound in bytes.
            budget: What a large body is received within; without one the limit must be small.

        Raises:
            UpstreamError: It is beyond the limit, or has no room.
        """
        body = bytearray()
        hold = None if budget is None else budget.hold()
        is_whole = False
        try:
            async for chunk in self.response.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise UpstreamError(f"answered with more than {limit} bytes", is_sent=True)
                await make_room(hold, len(body))
            is_whole = True
        finally:
            if not is_whole:
                body.clear()  # frames of the exception refer to it, until the garbage collector runs
            if hold is not None:
                hold.release()
        return body

    async def drain(self) -> None:
        """Wait a moment for the end of what is of no interest, so that the connection can be used again."""
        with suppress(TimeoutError, aiohttp.ClientError, OSError, UpstreamError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.read(_MAX_DRAINED)

    async def events(self, parser: EventParser, budget: MemoryBudget | None = None) -> AsyncIterator[ServerEvent]:
        """Yield the events of a stream.

        Args:
            parser: Takes the stream apart.
            budget: What a large event is received within.

        Raises:
            UpstreamError: One of them is beyond its bound, or has no room.
            StreamBroken: The connection broke.
        """
        hold, pace = None if budget is None else budget.hold(), Pace()
        parser.restart()
        try:
            async for chunk in self.response.content.iter_any():
                for start in range(0, len(chunk), _STEP):  # a chunk may hold thousands of small events
                    for event in parser.feed(chunk[start : start + _STEP]):
                        yield event
                        await pace.pause()
                    await make_room(hold, parser.size)
                    await asyncio.sleep(0)
        except EventTooLarge as error:
            raise UpstreamError(f"answered with {error}", is_sent=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(BROKEN, is_sent=True, detail=f"{type(error).__name__}: {error}") from None
        finally:
            parser.restart()  # an incomplete event is none, and frames of an exception would refer to it
            if hold is not None:
                hold.release()


class HttpClient(HttpSession):
    """Sends requests to one URL.

    Attributes:
        cookies: Those of the present connection to the server.
    """

    def __init__(self, url: str, credentials: Credentials, dialer: Dialer) -> None:
        super().__init__(credentials, dialer)
        self._url = yarl.URL(url, encoded=True)
        self.cookies = Cookies()

    @asynccontextmanager
    async def send(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> AsyncIterator[HttpAnswer]:
        """Send a request; once, whatever happens.

        Many web frameworks know a path either with or without a slash at its end, and answer the other one with a
        redirect before they handle anything. Only that redirect is followed, once, to the same scheme, host and port,
        and later requests go there immediately:

            POST /mcp     <- 307, Location: http://.../mcp/
            POST /mcp/    <- 200

        Args:
            method: The HTTP method.
            body: The message, if there is one.
            headers: Those of MCP; they win over the binding's.

        Raises:
            UpstreamError: Also while the body is read.
        """
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._send(method, body, headers))
            except Redirected as redirected:
                other = _find_slash(self._url, redirected)
                if other is None:
                    raise
                self._url = other
                response = await stack.enter_async_context(self._send(method, body, headers))
            yield HttpAnswer(response)

    @asynccontextmanager
    async def _send(
        self, method: str, body: bytes | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        own = {name: value for name, value in _OWN_HEADERS.items() if body is not None or name != "Content-Type"}
        with self.unsent():
            merged = _merge(_USER_AGENT, self.cookies.headers(), self.credentials.read_headers(), own, headers)
        async with self.request(method, self._url, body, merged) as response:
            self.cookies.take(response.headers.getall("Set-Cookie", ()))
            yield response


def _find_slash(url: yarl.URL, redirected: Redirected) -> yarl.URL | None:
    """Return the URL with or without a slash at the end of its path, if a redirect leads to that; else None.

    Scheme and port of the redirect are ignored, since a server behind a gateway often knows those of its own only.
    """
    other = url.raw_path.removesuffix("/") if url.raw_path.endswith("/") else f"{url.raw_path}/"
    try:
        target = url.join(yarl.URL(redirected.location, encoded=True))
    except ValueError:
        return None
    is_same_host = (target.raw_host or "").lower() == (url.raw_host or "").lower()
    is_slash = (target.raw_path, target.raw_query_string) == (other, url.raw_query_string)
    if redirected.status not in _REPEATING or not is_same_host or not is_slash:
        return None
    return url.with_path(other, encoded=True, keep_query=True)


def _merge(*layers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers, the later layer's where a name, in whatever case, is in several."""
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        merged.update({name.lower(): (name, value) for name, value in layer.items()})
    return dict(merged.values())
