"""Which addresses the guard may dial for a server that is reached over HTTP. No I/O.

A name in a binding is resolved by whoever serves that name, so it is the address that is checked, and the one that was
checked that is dialled (`dialer`). `Public` is globally routable unicast and nothing else; `Private` adds the ranges
that clusters and company networks give their own machines. Neither ever gives loopback, link-local, multicast,
unspecified or reserved addresses, or those at which clouds hand out credentials.

The ranges are those of IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and its successors), spelled
out: what `ipaddress` calls global differs between versions of Python, and is asked on top.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Network = Literal["Public", "Private"]
"""What a binding lets the guard dial."""

_Range = IPv4Network | IPv6Network


def _ranges(**named: str) -> tuple[tuple[_Range, str], ...]:
    return tuple((ip_network(cidr), name.replace("_", " ")) for name, cidrs in named.items() for cidr in cidrs.split())


_NEVER: Final = _ranges(
    # First the addresses of clouds' metadata services, so that they are told by their name: AWS, Azure and GCP on
    # IPv4 are link-local, Azure's wire server is not; then Alibaba, Oracle, and AWS and GCP on IPv6.
    a_metadata_service="169.254.169.254/32 168.63.129.16/32 100.100.100.200/32 192.0.0.192/32 fd00:ec2::/32 "
    "fd20:ce::/32",
    loopback="127.0.0.0/8 ::1/128",
    link_local="169.254.0.0/16 fe80::/10",
    unspecified="0.0.0.0/8 ::/128",
    multicast="224.0.0.0/4 ff00::/8",
    broadcast="255.255.255.255/32",
    reserved="240.0.0.0/4 192.0.0.0/24 fec0::/10",
    for_documentation="192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 2001:db8::/32 3fff::/20",
    for_benchmarks="198.18.0.0/15",
    # IPv4 in IPv6's clothes, and tunnels: where such an address leads is decided elsewhere than in its own digits.
    an_IPv4_address_in_IPv6="::ffff:0:0/96 ::/96 64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32",
    anycast_of_a_protocol="192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 2001::/23 2620:4f:8000::/48",
)
_PRIVATE: Final = _ranges(
    # RFC 1918 and RFC 4193; and RFC 6598, from which some clouds give pods their addresses.
    private="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    shared_by_carriers="100.64.0.0/10",
)
_GLOBAL_UNICAST: Final = ip_network("2000::/3")


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
    for never, name in _NEVER:
        if parsed in never:
            return f"it is {name}"
    for private, name in _PRIVATE:
        if parsed in private:
            return None if network == "Private" else f"it is {name}"
    return None if _is_global(parsed) else "it is not globally routable"


def _is_global(parsed: IPv4Address | IPv6Address) -> bool:
    return parsed.is_global and (parsed.version == 4 or parsed in _GLOBAL_UNICAST)  # noqa: PLR2004 - IPv4
