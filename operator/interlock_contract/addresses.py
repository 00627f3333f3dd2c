"""The table of addresses: where guards may dial and where pods may connect. No I/O.

The guard checks each address that it dials with `refuse_address`. NetworkPolicies are made from `allowed_blocks` and
`OPEN_BLOCKS`. Both come from the table of this module, so that no address is closed in one and open in the other.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
    summarize_address_range,
)
from typing import Final, Literal

from interlock_contract.spans import Span, join_spans, meet_spans

Network = Literal["Public", "Private"]
"""Which addresses a binding lets the guard dial.

The resolver of a name is not trusted, so the guard checks the address and dials the address that it checked.
`Public` is globally routable unicast. `Private` adds the ranges of clusters and company networks. Neither allows
loopback, link-local, multicast, unspecified or reserved addresses, or the metadata services of clouds.
"""

AddressRange = IPv4Network | IPv6Network
"""A range of addresses of one family."""
_Table = tuple[tuple[AddressRange, str], ...]


def _ranges(**named: str) -> _Table:
    return tuple((ip_network(cidr), name.replace("_", " ")) for name, cidrs in named.items() for cidr in cidrs.split())


_CLOSED: Final = _ranges(
    # On IPv4 most are link-local. Azure's wire server, Alibaba's and Oracle's are not. On IPv6: AWS, with several
    # services such as the credentials of EKS pods, then GCP, Oracle, Akamai, Scaleway and Alibaba.
    a_metadata_service="169.254.169.254/32 168.63.129.16/32 100.100.100.200/32 192.0.0.192/32 fd00:ec2::/32 "
    "fd20:ce::/32 fd00:c1::a9fe:a9fe/128 fd00:a9fe:a9fe::1/128 fd00:42::42/128 fd00:100::100:200/128",
    link_local="169.254.0.0/16 fe80::/10",
    # The prefix of a network's own NAT64 (RFC 8215), 6to4 and Teredo. Each may lead to link-local IPv4 addresses.
    an_IPv4_address_in_IPv6="64:ff9b:1::/48 2002::/16 2001::/32",
)
"""Closed to every pod of an agent, its guard and its servers, in every isolation."""

# The ranges are those of IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and successors). They are
# written out because the meaning of `ipaddress`'s `is_global` differs between versions of Python, which is checked too.
_NEVER: Final = _CLOSED + _ranges(
    loopback="127.0.0.0/8 ::1/128",
    unspecified="0.0.0.0/8 ::/128",
    multicast="224.0.0.0/4 ff00::/8",
    broadcast="255.255.255.255/32",
    reserved="240.0.0.0/4 192.0.0.0/24 fec0::/10",
    for_documentation="192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    for_benchmarks="198.18.0.0/15",
    # IPv4 embedded in IPv6: the digits of such an address do not show where it leads.
    an_IPv4_address_in_IPv6="::ffff:0:0/96 ::/96",
    anycast_of_a_protocol="192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 2001::/23 2620:4f:8000::/48",
)
"""Never dialled by a guard."""

_PRIVATE: Final = _ranges(
    # RFC 1918 and RFC 4193; and RFC 6598, from which some clouds give pods their addresses.
    private="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    shared_by_carriers="100.64.0.0/10",
)
_IPV4: Final = IPv4Network("0.0.0.0/0")
_IPV6: Final = IPv6Network("::/0")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
NAT64: Final = IPv6Network("64:ff9b::/96")
"""The well-known prefix of RFC 6052: its last 32 bits are the IPv4 address that it leads to.

Clusters with IPv6 alone reach public IPv4 addresses by it, so it is open where the IPv4 address is public.
"""


def refuse_address(address: str, network: Network) -> str | None:
    """Return why the guard may not dial the address, such as `it is loopback`, or None if it may.

    Args:
        address: A numeric address as the resolver gives it; anything else is refused.
        network: What the binding allows.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return "it is no numeric address"
    if isinstance(parsed, IPv6Address) and parsed in NAT64:
        embedded = str(IPv4Address(int(parsed) & 0xFFFFFFFF))
        trouble = refuse_address(embedded, "Public")
        return None if trouble is None else f"{trouble}, {embedded} by NAT64"
    for never, name in _NEVER:
        if parsed in never:
            return f"it is {name}"
    for private, name in _PRIVATE:
        if parsed in private:
            return None if network == "Private" else f"it is {name}"
    return None if _is_global(parsed) else "it is not globally routable"


def _is_global(parsed: IPv4Address | IPv6Address) -> bool:
    return parsed.is_global and (isinstance(parsed, IPv4Address) or parsed in _GLOBAL_UNICAST)


@dataclass(frozen=True, slots=True)
class AddressBlock:
    """An `ipBlock` of a NetworkPolicy: a range, and the ranges in it that are closed."""

    cidr: str
    excepted: tuple[str, ...]


def allowed_blocks(network: Network) -> tuple[AddressBlock, ...]:
    """Return the blocks that have exactly the addresses that `refuse_address` allows."""
    closed = [one for one, _ in (_NEVER if network == "Private" else _NEVER + _PRIVATE)]
    private = [one for one, _ in _PRIVATE if network == "Private" and isinstance(one, IPv6Network)]
    by_nat64 = nat64_forms(one for one, _ in _NEVER + _PRIVATE)
    bases: list[AddressRange] = [_IPV4, _GLOBAL_UNICAST, *private]
    return (*(_block(base, closed) for base in bases), _block(NAT64, by_nat64))


def nat64_forms(ranges: Iterable[AddressRange]) -> Iterator[IPv6Network]:
    """Yield the forms of the IPv4 ranges under the well-known prefix: of 169.254.0.0/16, 64:ff9b::a9fe:0/112."""
    for one in ranges:
        if isinstance(one, IPv4Network):
            first = int(NAT64.network_address) + int(one.network_address)
            yield IPv6Network((first, NAT64.prefixlen + one.prefixlen))


def _block(base: AddressRange, closed: Iterable[AddressRange]) -> AddressBlock:
    """Return a range without the closed ranges in it, each of which is named once, also where two overlap."""
    inside = [one for one in closed if _is_within(one, base)]
    distinct = [one for one in inside if not any(one != other and _is_within(one, other) for other in inside)]
    return AddressBlock(str(base), tuple(str(one) for one in distinct))


def _is_within(inner: AddressRange, outer: AddressRange) -> bool:
    return inner.prefixlen >= outer.prefixlen and inner.network_address in outer


OPEN_BLOCKS: Final = (
    _block(_IPV4, [one for one, _ in _CLOSED]),
    _block(_IPV6, [*(one for one, _ in _CLOSED), *nat64_forms(one for one, _ in _CLOSED)]),
)
"""Every address but metadata services and link-local ones, in both families."""

_CIDR: Final = re.compile(r"[0-9a-fA-F:.]+/(0|[1-9][0-9]{0,2})")


def parse_cidr(text: str) -> AddressRange | None:
    """Return the range that a CIDR such as 10.20.0.0/24 names; None for other text and for one with host bits."""
    if not _CIDR.fullmatch(text):
        return None
    try:
        found = ip_network(text)
    except ValueError:
        return None
    return None if _is_within(found, _MAPPED) else found


_MAPPED: Final = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as programs write them for IPv6. No packet has one, and the API server takes none in a rule."""
_NEVER_OPENED: Final = (
    *((one, name) for one, name in _NEVER if one != _MAPPED),
    *((form, "closed by NAT64") for form in nat64_forms(one for one, _ in _NEVER + _PRIVATE)),
)
"""What no row of `egress` opens, with NAT64's forms of it."""

NEVER_OPENED: Final = tuple(
    str(one)
    for one, _ in _NEVER_OPENED
    if not any(one != other and _is_within(one, other) for other, _ in _NEVER_OPENED)
)
"""The same ranges as text, each once."""


def never_opened(found: AddressRange) -> str | None:
    """Return what a range is, such as `link local`, if no NetworkPolicy of an agent opens any of it; else None."""
    return next((name for one, name in _NEVER_OPENED if _is_within(found, one)), None)


def has_public(found: AddressRange) -> bool:
    """Return True unless all addresses of a range are private."""
    return not any(_is_within(found, one) for one, _ in _PRIVATE)


PRIVATE_RANGES: Final = tuple(str(one) for one, _ in _PRIVATE)
"""The private ranges as text."""


def merge_ranges(ranges: Iterable[AddressRange]) -> tuple[AddressRange, ...]:
    """Return the fewest ranges that have exactly the addresses of these ranges, which are of one family.

    As `ipaddress.collapse_addresses`, and many times faster for thousands of ranges.
    """
    found = tuple(ranges)
    if not found:
        return ()
    return tuple(_ranges_of(join_spans(map(span_of, found)), found[0]))


def _ranges_of(spans: Iterable[Span], like: AddressRange) -> Iterator[AddressRange]:
    """Yield the fewest ranges that have exactly these addresses, of the family of another range."""
    address = IPv4Address if isinstance(like, IPv4Network) else IPv6Address
    for first, last in spans:
        yield from summarize_address_range(address(first), address(last))


def span_of(one: AddressRange) -> Span:
    """Return the first and the last address of a range as numbers."""
    first = int(one.network_address)
    return first, first + (1 << one.max_prefixlen - one.prefixlen) - 1


def open_block(base: AddressRange, closed: Iterable[AddressRange]) -> AddressBlock | None:
    """Return a range without everything in it that is closed; None if nothing is left of it.

    Each excepted range is a strict subset of the range and of its family, as the API server requires. Neighbours become
    one range, so that the nodes of a subnet take few of them.

    Args:
        base: The range.
        closed: What is closed besides `NEVER_OPENED`. The forms of these ranges by NAT64 are closed, too.
    """
    more = tuple(closed)
    found = (one for one in (*more, *nat64_forms(more)) if one.version == base.version)
    cut = join_spans((*_NEVER_SPANS[base.version], *map(span_of, found)))
    whole = span_of(base)
    excepted = meet_spans(cut, [whole])
    return None if excepted == [whole] else AddressBlock(str(base), tuple(map(str, _ranges_of(excepted, base))))


_NEVER_SPANS: Final = {
    version: join_spans(span_of(one) for one, _ in _NEVER_OPENED if one.version == version) for version in (4, 6)
}
"""What no row of `egress` opens, by the version of the Internet Protocol."""
