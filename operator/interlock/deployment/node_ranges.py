"""The addresses of nodes and of their pods, which no row of a policy's egress opens by a cidr."""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any, Final

from interlock_contract.addresses import NAT64, AddressRange, merge_ranges, nat64_forms, span_of

_IPV6: Final = 6


class NodeRanges:
    """Ranges of addresses.

    Results are kept: the agents of a policy ask for the same ranges, and there may be thousands of nodes.

    Args:
        ranges: The ranges of all nodes, in any order.
    """

    def __init__(self, ranges: Iterable[AddressRange] = ()) -> None:
        self.ranges = frozenset(ranges)
        self._near: dict[AddressRange, tuple[AddressRange, ...]] = {}

    def near(self, base: AddressRange) -> tuple[AddressRange, ...]:
        """Return the ranges that have addresses in common with another one, or whose forms by NAT64 have.

        Neighbours are one range.
        """
        if base not in self._near:
            forms = nat64_forms(self.ranges) if base.version == _IPV6 and base.overlaps(NAT64) else ()
            begin, end = span_of(base)
            self._near[base] = merge_ranges(
                one
                for one in (*self.ranges, *forms)
                if one.version == base.version and (span := span_of(one))[0] <= end and begin <= span[1]
            )
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
