"""One source's HTTP: requests to its one URL, and answers of which no part is larger than its bound.

Only the headers of the binding and of MCP itself go out.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import aiohttp
import yarl

from interlock_guard.servers.credentials import Credentials
from interlock_guard.servers.dialer import Dialer
from interlock_guard.servers.http_session import BROKEN, HttpSession, LinkFailed
from interlock_guard.wire.eventstream import EventParser, EventTooLarge, ServerEvent
from interlock_guard.wire.http_names import EVENT_STREAM, MCP_JSON

_OWN_HEADERS: Final = {
    "Accept": f"{MCP_JSON}, {EVENT_STREAM}",
    "Accept-Encoding": "identity",
    "Content-Type": MCP_JSON,
}
_USER_AGENT: Final = {"User-Agent": "interlock-guard/0.1.0"}  # a binding may say another
_SUCCESS: Final = range(200, 300)
_DRAIN_SECONDS: Final = 0.2
_MAX_ERROR: Final = 64 * 1024


class StreamBroken(LinkFailed):
    """A stream of events broke off; where it could be taken up again, that may be tried."""


@dataclass(frozen=True, slots=True)
class Answer:
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

    def header(self, name: str) -> str:
        """Return a header, empty without one."""
        return self.response.headers.get(name, "")

    async def read(self, limit: int) -> bytes:
        """Return the body.

        Raises:
            LinkFailed: It is beyond the limit.
        """
        parts, size = [], 0
        async for chunk in self.response.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise LinkFailed(f"answered with more than {limit} bytes", is_sent=True)
            parts.append(chunk)
        return b"".join(parts)

    async def read_error(self) -> bytes:
        """Return the body of an error, or nothing if it is no JSON or large."""
        if self.media_type != MCP_JSON:
            return b""
        try:
            return await self.read(_MAX_ERROR)
        except LinkFailed:
            return b""

    async def drain(self) -> None:
        """Wait a moment for the end of what is of no interest, so that the connection can be used again."""
        with suppress(TimeoutError, aiohttp.ClientError, OSError, LinkFailed):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self.read(_MAX_ERROR)

    async def events(self, parser: EventParser) -> AsyncIterator[ServerEvent]:
        """Yield the events of a stream.

        Raises:
            LinkFailed: One of them is beyond its bound.
            StreamBroken: The connection broke.
        """
        try:
            async for chunk in self.response.content.iter_any():
                for event in parser.feed(chunk):
                    yield event
        except EventTooLarge as error:
            raise LinkFailed(f"answered with {error}", is_sent=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise StreamBroken(BROKEN, is_sent=True, detail=f"{type(error).__name__}: {error}") from None


class HttpLink(HttpSession):
    """Sends requests to one URL."""

    def __init__(self, url: str, credentials: Credentials, dialer: Dialer) -> None:
        super().__init__(credentials, dialer)
        self._url = yarl.URL(url, encoded=True)

    @asynccontextmanager
    async def send(self, method: str, body: bytes | None, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """Send a request; once, whatever happens.

        Args:
            method: The HTTP method.
            body: The message, if there is one.
            headers: Those of MCP; they win over the binding's.

        Raises:
            LinkFailed: Also while the body is read.
        """
        own = {name: value for name, value in _OWN_HEADERS.items() if body is not None or name != "Content-Type"}
        with self.unsent():
            merged = _merge(_USER_AGENT, self.credentials.read_headers(), own, headers)
        async with self.request(method, self._url, body, merged) as response:
            yield Answer(response)


def _merge(*layers: Mapping[str, str]) -> dict[str, str]:
    """Return all headers, the later layer's where a name, in whatever case, is in several."""
    merged: dict[str, tuple[str, str]] = {}
    for layer in layers:
        merged.update({name.lower(): (name, value) for name, value in layer.items()})
    return dict(merged.values())
