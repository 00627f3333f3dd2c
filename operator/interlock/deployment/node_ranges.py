"""The addresses of a cluster's own: of nodes, pods and Services. No row of a policy's egress opens them by a cidr."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

from interlock_contract.addresses import NAT64, AddressRange, merge_ranges, nat64_forms, span_of

_IPV6: Final = 6
MOST_KEPT: Final = 1024
"""Results that are kept. A namespace may name very many different cidrs."""
_POD_RANGES: Final = (
    "k8s.ovn.org/node-subnets",
    "network.cilium.io/ipv4-pod-cidr",
    "network.cilium.io/ipv6-pod-cidr",
    "io.cilium.network.ipv4-pod-cidr",
    "io.cilium.network.ipv6-pod-cidr",
)
"""Annotations by which network plugins say from which ranges a node's pods get their addresses."""
_NODE_ADDRESSES: Final = (
    "k8s.ovn.org/host-addresses",
    "k8s.ovn.org/host-cidrs",
    "k8s.ovn.org/node-primary-ifaddr",
    "network.cilium.io/ipv4-cilium-host",
    "network.cilium.io/ipv6-cilium-host",
    "network.cilium.io/ipv4-health-ip",
    "network.cilium.io/ipv6-health-ip",
    "network.cilium.io/ipv4-Ingress-ip",
    "network.cilium.io/ipv6-Ingress-ip",
    "projectcalico.org/IPv4Address",
    "projectcalico.org/IPv6Address",
    "projectcalico.org/IPv4IPIPTunnelAddr",
    "projectcalico.org/IPv4VXLANTunnelAddr",
    "projectcalico.org/IPv6VXLANTunnelAddr",
    "projectcalico.org/IPv4WireguardInterfaceAddr",
    "projectcalico.org/IPv6WireguardInterfaceAddr",
)
"""Annotations by which network plugins say which further addresses a node has. A length after one is that of its
network, which has other machines, too."""
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?")
"""What may be an address in the text of an annotation, which is one address, or JSON with several."""


class NodeRanges:
    """Ranges of addresses.

    Results are kept: the agents of a policy ask for the same ranges, and there may be thousands of nodes.

    Args:
        ranges: The ranges, in any order.
    """

    def __init__(self, ranges: Iterable[AddressRange] = ()) -> None:
        self.ranges = frozenset(ranges)
        self._kept: dict[AddressRange, tuple[AddressRange, ...]] = {}

    def near(self, base: AddressRange) -> tuple[AddressRange, ...]:
        """Return the ranges that have addresses in common with another one, or whose forms by NAT64 have.

        Neighbours are one range.
        """
        found = self._kept.pop(base, None)
        if found is None:
            found = self._find_near(base)
            while len(self._kept) >= MOST_KEPT:  # the one that was not asked for the longest
                del self._kept[next(iter(self._kept))]
        self._kept[base] = found
        return found

    def _find_near(self, base: AddressRange) -> tuple[AddressRange, ...]:
        forms = nat64_forms(self.ranges) if base.version == _IPV6 and base.overlaps(NAT64) else ()
        begin, end = span_of(base)
        return merge_ranges(
            one
            for one in (*self.ranges, *forms)
            if one.version == base.version and (span := span_of(one))[0] <= end and begin <= span[1]
        )


def ranges_of_node(node: Mapping[str, Any]) -> frozenset[AddressRange]:
    """Return the addresses of a node, and the ranges from which its pods get theirs.

    Kubernetes knows some of them, and annotations of Calico, Cilium and OVN-Kubernetes say others.

    Args:
        node: A Node as the API server has it.
    """
    addresses = [one.get("address", "") for one in (node.get("status") or {}).get("addresses") or ()]
    spec, annotations = node.get("spec") or {}, node["metadata"].get("annotations") or {}
    cidrs = [*(spec.get("podCIDRs") or ()), spec.get("podCIDR") or ""]
    cidrs += [word for key in _POD_RANGES for word in _ADDRESS.findall(annotations.get(key, ""))]
    addresses += [
        word.partition("/")[0] for key in _NODE_ADDRESSES for word in _ADDRESS.findall(annotations.get(key, ""))
    ]
    found: set[AddressRange] = set(_ranges(cidrs))
    for address in addresses:
        try:
            found.add(ip_network(ip_address(address)))
        except ValueError:  # a host name
            continue
    return frozenset(found)


def ranges_of_service_cidr(found: Mapping[str, Any]) -> frozenset[AddressRange]:
    """Return the ranges from which Services get their addresses.

    Args:
        found: A ServiceCIDR as the API server has it.
    """
    return frozenset(_ranges((found.get("spec") or {}).get("cidrs") or ()))


def _ranges(cidrs: Iterable[str]) -> Iterable[AddressRange]:
    for cidr in cidrs:
        try:
            yield ip_interface(cidr).network
        except ValueError:
            continue
