"""HTTP as the guard speaks it to anybody outside: to addresses that were checked, and nowhere that an answer leads to.

No redirect is followed, anywhere: where it leads was decided by nobody. No proxy, cookie, netrc or compression either.
"""

import json
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import aiohttp
import yarl

from interlock_guard.servers.credentials import Credentials, CredentialsUnreadable
from interlock_guard.servers.dialer import CONNECT_SECONDS, AddressRefused, Dialer

BROKEN: Final = "broke the connection off; the call may have been executed or not"
_IDLE_SECONDS: Final = 600.0
_REDIRECTS: Final = range(300, 400)


class LinkFailed(Exception):  # noqa: N818 - says what happened
    """No usable answer came.

    The message is for the agent and names neither address nor secret; `detail` is for the log. `is_sent` says whether
    the request may have reached the server.
    """

    def __init__(self, message: str, *, is_sent: bool, detail: str = "") -> None:
        super().__init__(message)
        self.is_sent = is_sent
        self.detail = detail or message


class HttpSession:
    """Sends requests with the credentials of one server or provider."""

    def __init__(self, credentials: Credentials, dialer: Dialer) -> None:
        self.credentials = credentials
        self._dialer = dialer
        self._session = _open_session(dialer)

    def cut(self) -> None:
        """Break every connection at once; the next request makes new ones."""
        self._dialer.cut()

    async def close(self) -> None:
        """Let go of everything."""
        self._dialer.cut()
        await self._session.close()

    def shows_secret(self, text: bytes) -> bool:
        """Say whether a credential that was sent stands in a text that came from the other side."""
        return self.credentials.stands_in(text)

    @contextmanager
    def unsent(self) -> Iterator[None]:
        """Read credentials in here; where they cannot be, nothing is sent.

        Raises:
            LinkFailed: They cannot.
        """
        try:
            yield
        except CredentialsUnreadable as error:
            message = "cannot be reached: its credentials cannot be read; nothing was sent to it"
            raise LinkFailed(message, is_sent=False, detail=str(error)) from None

    @asynccontextmanager
    async def request(
        self, method: str, url: yarl.URL, body: bytes | None, headers: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; once, whatever happens.

        Raises:
            LinkFailed: Also while the body is read.
        """
        with self.unsent():
            context = self.credentials.read_trust() if url.scheme == "https" else True
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, ssl=context, allow_redirects=False
            ) as response:
                try:
                    _refuse_answer(response)
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()  # what is left of it is wanted by nobody
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last is of a name that can be none
            raise self._withhold(_explain_failure(error)) from None
        except LinkFailed as failed:
            raise self._withhold(failed) from None

    def _withhold(self, failed: LinkFailed) -> LinkFailed:
        """Take out of what is logged what the other side said, should a credential stand in it."""
        if self.shows_secret(failed.detail.encode("utf-8", "replace")):
            failed.detail = f"{failed} (the rest is withheld: it shows a credential)"
        return failed


def _open_session(dialer: Dialer) -> aiohttp.ClientSession:
    """Return a session whose every connection the dialer makes: no proxy, no cookies, no decompression."""
    return aiohttp.ClientSession(
        connector=dialer.build_connector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(
            total=None, connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=_IDLE_SECONDS
        ),
    )


def _refuse_answer(response: aiohttp.ClientResponse) -> None:
    """Refuse an answer that is no answer: a redirect, or a body that was not asked for in this form.

    Raises:
        LinkFailed: It is one.
    """
    if response.status in _REDIRECTS:
        message = f"answered with a redirect (HTTP {response.status}), which the guard does not follow"
        where = json.dumps(response.headers.get("Location", "")[:256])
        raise LinkFailed(message, is_sent=True, detail=f"{message}; to {where}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise LinkFailed("answered with a compressed body, which the guard had not asked for", is_sent=True)


def _explain_failure(error: Exception) -> LinkFailed:
    """Return what to tell of an error: to the agent what kind it is, to the log what it says."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    detail = f"{type(cause).__name__}: {cause}"
    if isinstance(cause, AddressRefused):
        message = "cannot be reached: its address is none that its binding allows; nothing was sent to it"
        return LinkFailed(message, is_sent=False, detail=str(cause))
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail = f"{type(error).__name__}: {error.certificate_error}"
        message = "cannot be reached: its certificate is not trusted; nothing was sent to it"
        return LinkFailed(message, is_sent=False, detail=detail)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | aiohttp.InvalidURL):
        return LinkFailed("cannot be reached; nothing was sent to it", is_sent=False, detail=detail)
    if isinstance(error, ssl.SSLError):
        return LinkFailed("cannot be reached over TLS; nothing was sent to it", is_sent=False, detail=detail)
    if isinstance(error, aiohttp.ClientResponseError):
        # Not its repr: that holds the headers of the request.
        detail = f"{type(error).__name__}: {error.message}"
        return LinkFailed("answered with something that is not HTTP", is_sent=True, detail=detail)
    return LinkFailed(BROKEN, is_sent=True, detail=detail)
