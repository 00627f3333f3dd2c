"""Connections to servers over HTTP: only to addresses that were checked, and to exactly those.

The name is resolved once per connection. Every address of the answer must be allowed, and what is dialled is an
address of that very answer, checked once more where its socket is made: no second look-up lies between check and use,
so a name that changes its mind in between (DNS rebinding) changes nothing. A URL that holds an address in whatever
notation comes to the same place.
"""
# The guard's image has no `typing_extensions`, whose `override` `_Responses` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
import socket
import ssl
import struct
from collections.abc import Collection
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast
from weakref import WeakSet

import aiohttp
from aiohttp import StreamReader
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError

from interlock_contract.addresses import Network, refuse_address

CONNECT_SECONDS: Final = 10.0
"""How long a connection may take to be there, its name's look-up and the TLS handshake included."""
_MOST_RESPONSES: Final = 16
"""Most responses to one request: the provisional ones (HTTP 1xx) and the final one."""
_PROVISIONAL: Final = frozenset(range(100, 200)) - {101}
_PORTION: Final = 8 * 1024
"""Bytes that are parsed at a time."""
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
_KEEPALIVE_SECONDS: Final = 4.0  # less than the 5 s of uvicorn and Node.js, whose end could cross a request


class AddressRefused(OSError):  # noqa: N818 - says what happened to an address
    """The address may not be dialled; nothing was sent to it."""


class Dialer:
    """Makes the connections of one source, and breaks all of them together.

    Args:
        network: What the binding allows.
        exempt: Numeric addresses that are dialled whatever they are; for tests, whose servers are on loopback.
        resolver: Who looks names up; the system, unless a test says otherwise.
    """

    def __init__(
        self, network: Network, *, exempt: Collection[str] = (), resolver: AbstractResolver | None = None
    ) -> None:
        self._network = network
        self._exempt = frozenset(exempt)
        self._resolver = _CheckedResolver(self, resolver or aiohttp.ThreadedResolver())
        self._sockets: WeakSet[socket.socket] = WeakSet()

    def build_connector(self) -> aiohttp.TCPConnector:
        """Return a connector of aiohttp whose every connection is made here."""
        return _Connector(
            resolver=cast("AbstractResolver", self._resolver),  # by its shape: `override` is not in Python 3.11
            use_dns_cache=False,
            socket_factory=self._make_socket,
            limit=0,  # the calls in flight are bounded, and each has one connection
            keepalive_timeout=_KEEPALIVE_SECONDS,
        )

    def check(self, address: str) -> None:
        """Check one address.

        Raises:
            AddressRefused: It may not be dialled.
        """
        if address in self._exempt:
            return
        trouble = refuse_address(address, self._network)
        if trouble is None and _is_own(address):
            trouble = "it is this pod's own"
        if trouble is not None:
            raise AddressRefused(f"{address} may not be dialled: {trouble}")

    def reset(self) -> None:
        """Break every connection immediately; bytes that the kernel had not sent yet never leave the machine.

        The shutdown makes the socket's owner close it now. Lingering for 0 s makes that close throw away what
        waits to be sent (a TCP reset) instead of sending it.
        """
        for one in list(self._sockets):
            with suppress(OSError):  # it is closed, or was not connected yet
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
                one.shutdown(socket.SHUT_RDWR)

    def _make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        self.check(address[0])
        made = socket.socket(family, kind, protocol)
        self._sockets.add(made)
        return made


class _Responses(ResponseHandler):
    """The responses of one connection: to each request a few provisional ones (HTTP 1xx) and a final one.

    aiohttp keeps any number of both until they are read, so that a server could fill the memory with them.
    """

    _left = 0
    """Responses that may still come to the request."""

    def set_response_params(self, **options: Any) -> None:
        self._left = _MOST_RESPONSES
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        super().data_received(data[:_PORTION])
        for start in range(_PORTION, len(data), _PORTION):
            if not self.is_connected():
                break
            super().data_received(data[start : start + _PORTION])

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if self._left == 0:
            self.set_exception(HttpProcessingError(message="more responses than a request can have"))
            if self.transport is not None:
                self.transport.abort()
            return
        self._left = self._left - 1 if data[0].code in _PROVISIONAL else 0
        super().feed_data(data, size)


class _Connector(aiohttp.TCPConnector):
    """Makes connections whose responses are bounded."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        build = cast("type[ResponseHandler]", _Responses)
        self._factory = partial(build, loop=asyncio.get_running_loop())  # aiohttp has no option for it


class _CheckedResolver:
    """An `AbstractResolver` that gives an answer only if every address in it may be dialled."""

    def __init__(self, dialer: Dialer, resolver: AbstractResolver) -> None:
        self._dialer, self._resolver = dialer, resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await self._resolver.resolve(host, port, family)
        for one in found:
            self._dialer.check(one["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def trust(authorities: bytes | None) -> ssl.SSLContext:
    """Return what a server's certificate is checked with, its name included; TLS 1.2 or newer.

    Args:
        authorities: CA certificates in PEM, which alone are trusted then; None trusts those of the image.

    Raises:
        ssl.SSLError: There is no certificate in `authorities`, or one that cannot be read.
        UnicodeDecodeError: It is no PEM at all.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if authorities is None:
        context.load_default_certs()
    else:
        context.load_verify_locations(cadata=authorities.decode("ascii"))
    return context


def _is_own(address: str) -> bool:
    """Say whether the address is one of this machine: then the kernel would send from the address itself.

    Connecting a datagram socket sends nothing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            own: str = probe.getsockname()[0]
    except OSError:
        return False  # there is no way to it: the connection will say so
    return own == address
