"""The egress proxy: which servers are reached through it, and which names of servers it may be told. No I/O.

Operator and guard share these rules. The operator decides which server is reached through the proxy, and opens the
NetworkPolicies for exactly that. The guard obeys, and checks what can still be checked without an address: a proxy
looks names up itself, but an address that is written in a URL is known.

    server                                  network   way
    https://mcp.example.com                 Public    through the proxy
    https://mcp.example.com                 Private   direct
    https://api.internal.example.com        Public    direct, if noProxy has internal.example.com
"""

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Final
from urllib.parse import urlsplit

from interlock_contract.addresses import Network, refuse_address

NO_PROXY: Final = r"^[.]?[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?([.][0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?)*$"
"""A host or a domain that is reached directly; with a dot at its beginning only what is below it."""

_NUMBER: Final = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)\Z")
"""A last label that makes a whole name an IPv4 address, for every reader of URLs."""
_LOCALHOST: Final = re.compile(r"(?:.*\.)?localhost\Z", re.IGNORECASE)


def is_proxied(url: str, network: Network, no_proxy: Iterable[str]) -> bool:
    """Return True if a server is reached through the egress proxy, where there is one.

    Args:
        url: The server's.
        network: What its binding or provider says.
        no_proxy: Hosts and domains that are reached directly.
    """
    if network != "Public":
        return False
    host = (urlsplit(url).hostname or "").lower().removesuffix(".")  # a name may end with the dot of the root
    return not any(_covers(one.lower(), host) for one in no_proxy)


def _covers(entry: str, host: str) -> bool:
    return host == entry or host.endswith(entry if entry.startswith(".") else f".{entry}")


def refuse_proxied_host(host: str) -> str | None:
    """Return why the proxy may not be told to reach a host, such as `it is loopback`, or None if it may.

    An address must be public, and be written as four decimal numbers: readers differ in what 0177.1 or 10.1 are.

    Args:
        host: The host of a URL.
    """
    if _LOCALHOST.match(host):
        return "it is loopback"
    if _NUMBER.match(host.rpartition(".")[2]) is None:
        return None
    try:
        written = str(IPv4Address(socket.inet_aton(host)))
    except (OSError, UnicodeError):
        return "it is no address, and ends as one"
    return refuse_address(host, "Public") if host == written else f"it is another spelling of {written}"
