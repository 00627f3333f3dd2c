"""The addresses of nodes and of their pods, which no row of a policy's egress opens by a cidr."""

from collections.abc import Iterable, Mapping
from ipaddress import collapse_addresses, ip_address, ip_network
from typing import Any

from interlock_contract.addresses import AddressRange, nat64_forms


class NodeRanges:
    """Ranges of addresses, each of which stands once.

    Results are kept: the agents of a policy ask for the same ranges, and there may be thousands of nodes.

    Args:
        ranges: The ranges of all nodes, in any order.
    """

    def __init__(self, ranges: Iterable[AddressRange] = ()) -> None:
        found = tuple(ranges)
        self.ranges: tuple[AddressRange, ...] = (
            *collapse_addresses(one for one in found if one.version == 4),  # noqa: PLR2004 - a version of IP
            *collapse_addresses(one for one in found if one.version == 6),  # noqa: PLR2004 - a version of IP
        )
        self._near: dict[AddressRange, tuple[AddressRange, ...]] = {}

    def near(self, base: AddressRange) -> tuple[AddressRange, ...]:
        """Return the ranges that have addresses in common with another one, or whose forms by NAT64 have."""
        if base not in self._near:
            known = (*self.ranges, *nat64_forms(self.ranges))
            self._near[base] = tuple(one for one in known if one.version == base.version and one.overlaps(base))
        return self._near[base]


def ranges_of_node(node: Mapping[str, Any]) -> frozenset[AddressRange]:
    """Return the addresses of a node, and the ranges from which its pods get theirs, as far as Kubernetes knows them.

    Args:
        node: A Node as the API server has it.
    """
    addresses = [one.get("address", "") for one in (node.get("status") or {}).get("addresses") or ()]
    spec = node.get("spec") or {}
    cidrs = [*(spec.get("podCIDRs") or ()), spec.get("podCIDR") or ""]
    found: set[AddressRange] = set()
    for address in addresses:
        try:
            found.add(ip_network(ip_address(address)))
        except ValueError:  # a host name
            continue
    for cidr in cidrs:
        try:
            found.add(ip_network(cidr, strict=False))
        except ValueError:
            continue
    return frozenset(found)
