"""Where the API server is, as far as a guard's NetworkPolicy must know it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True)
class Endpoint:
    """One address at which it answers.

    Attributes:
        address: Numeric, IPv4 or IPv6.
        port: Its TCP port.
    """

    address: str
    port: int


@dataclass(frozen=True)
class ApiServer:
    """The API server.

    Attributes:
        endpoints: The addresses of the Service `kubernetes` and of what is behind it. Networks differ in which of the
            two they compare: most look at a connection after its Service's address was replaced, some before.
        is_anywhere: Let guards out to its ports at any address: for networks whose rules do not match nodes.
    """

    endpoints: tuple[Endpoint, ...] = ()
    is_anywhere: bool = False


def endpoints_of(service: dict[str, Any], slices: Iterable[dict[str, Any]]) -> tuple[Endpoint, ...]:
    """Return where the API server is.

    Args:
        service: The Service `kubernetes` of the namespace `default`.
        slices: Its EndpointSlices, which the API server itself keeps up to date.
    """
    spec = service["spec"]
    addresses = spec.get("clusterIPs") or [spec["clusterIP"]]
    found = {Endpoint(address, port["port"]) for address in addresses for port in spec["ports"]}
    for one in slices:
        ports = [port["port"] for port in one.get("ports") or () if port.get("port")]
        behind = (address for endpoint in one.get("endpoints") or () for address in endpoint["addresses"])
        found |= {Endpoint(address, port) for address in behind for port in ports}
    return tuple(sorted(found))
