"""Connections to servers over HTTP: only to addresses that were checked, and to exactly those.

The name is resolved once per connection. Every address of the answer must be allowed, and what is dialled is an
address of that very answer, checked once more where its socket is made: no second look-up lies between check and use,
so a name that changes its mind in between (DNS rebinding) changes nothing. A URL that holds an address in whatever
notation comes to the same place.

Where an egress proxy is used, the proxy is what is dialled, and the checks hold for its address.
"""
# The guard's image has no `typing_extensions`, whose `override` `_ProxiedConnector` would need.
# mypy: disable-error-code="explicit-override"

import asyncio
import socket
import ssl
import struct
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final, cast
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from interlock_contract.addresses import Network, refuse_address
from interlock_contract.egress_proxy import refuse_proxied_host
from interlock_contract.http_target import HttpTarget
from interlock_http.client import BoundedConnector

CONNECT_SECONDS: Final = 10.0
"""How long a connection may take to be there, its name's look-up and the TLS handshake included."""
_NO_LINGERING: Final = struct.pack("ii", 1, 0)
_KEEPALIVE_SECONDS: Final = 4.0  # less than the 5 s of uvicorn and Node.js, whose end could cross a request


class AddressRefused(OSError):  # noqa: N818 - says what happened to an address
    """The address may not be dialled; nothing was sent to it."""


class Dialer:
    """Makes the connections to one server, provider or receiver, and breaks all of them together.

    Attributes:
        proxy_trust: What the certificate of an egress proxy is checked with; None where there is none.

    Args:
        network: Which addresses may be dialled, as the binding, provider or webhook says.
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
        self.proxy_trust: ssl.SSLContext | None = None

    @classmethod
    def for_target(cls, target: HttpTarget, exempt: Collection[str]) -> "Dialer":
        """Return the dialer of a server. With an egress proxy, only the proxy is dialled, wherever it is.

        Args:
            target: The server.
            exempt: As for `Dialer`.
        """
        return cls("Private" if target.proxy is not None else target.network, exempt=exempt)

    def build_connector(self) -> aiohttp.TCPConnector:
        """Return a connector of aiohttp whose every connection is made here."""
        return _ProxiedConnector(
            self,
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

    def check_proxied(self, host: str) -> None:
        """Check the host of a server before the egress proxy is told to reach it.

        Raises:
            AddressRefused: It may not be.
        """
        trouble = None if host in self._exempt else refuse_proxied_host(host)
        if trouble is not None:
            raise AddressRefused(f"{host} may not be reached through a proxy: {trouble}")

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


class _ProxiedConnector(BoundedConnector):
    """Makes connections. Tells certificates and failures of an egress proxy from those of servers."""

    def __init__(self, dialer: Dialer, **options: Any) -> None:
        super().__init__(**options)
        self._dialer = dialer

    def _get_ssl_context(self, req: aiohttp.ClientRequest) -> ssl.SSLContext | None:
        """Return what a certificate is checked with. aiohttp has one context for a server and its proxy.

        The request to the proxy itself is the one that has no proxy.
        """
        if req.proxy is None and req.is_ssl() and self._dialer.proxy_trust is not None:
            return self._dialer.proxy_trust
        return super()._get_ssl_context(req)

    async def _create_proxy_connection(self, req: aiohttp.ClientRequest, *rest: Any) -> tuple[Any, Any]:
        """Return a connection through a proxy.

        A proxy that ends the connection, or answers with no HTTP, looks to aiohttp like a server that does so after a
        request. The server has got nothing then.
        """
        try:
            return await super()._create_proxy_connection(req, *rest)
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientConnectorError):
            raise  # each says what failed
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            broken = OSError("it ended the connection before its answer was complete")
        except aiohttp.ClientResponseError:
            broken = OSError("its answer is no HTTP")
        raise aiohttp.ClientProxyConnectionError(req.connection_key, broken)


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


class TrustCache:
    """The TLS contexts of `trust` by the file of their CA certificates, each as long as the file's content is equal."""

    def __init__(self) -> None:
        self._known: dict[str | None, tuple[bytes | None, ssl.SSLContext]] = {}

    def find(self, file: str | None, authorities: bytes | None) -> ssl.SSLContext:
        """Return the context for the content of a file; for None and None that of the image's CA certificates.

        Raises:
            ssl.SSLError: There is no certificate in `authorities`, or one that cannot be read.
            UnicodeDecodeError: It is no PEM at all.
        """
        known = self._known.get(file)
        if known is None or known[0] != authorities:
            known = self._known[file] = authorities, trust(authorities)
        return known[1]


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
