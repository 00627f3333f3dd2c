"""The HTTP target: the description of a server that a guard reaches over HTTP, and the rules that it must keep.

The CRDs check the same rules with the patterns of this module. No I/O.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Final, Literal

from msgspec import Meta

from interlock_contract.strict_fields import StrictStruct, Text, like, refuse_doubles, require_one

Network = Literal["Public", "Private"]
"""Which addresses a binding lets the guard dial.

The resolver of a name is not trusted, so the guard checks the address and dials the address that it checked.
`Public` is globally routable unicast. `Private` adds the ranges of clusters and company networks. Neither allows
loopback, link-local, multicast, unspecified or reserved addresses, or the metadata services of clouds.
"""

_AddressRange = IPv4Network | IPv6Network


def _ranges(**named: str) -> tuple[tuple[_AddressRange, str], ...]:
    return tuple((ip_network(cidr), name.replace("_", " ")) for name, cidrs in named.items() for cidr in cidrs.split())


# The ranges are those of IANA's IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890 and successors). They are
# written out because the meaning of `ipaddress`'s `is_global` differs between versions of Python, which is checked too.
_NEVER: Final = _ranges(
    # First the addresses of clouds' metadata services, so that a refusal names them: AWS, Azure and GCP on
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
    # IPv4 embedded in IPv6, and tunnels: the digits of such an address do not show where it leads.
    an_IPv4_address_in_IPv6="::ffff:0:0/96 ::/96 64:ff9b::/96 64:ff9b:1::/48 2002::/16 2001::/32",
    anycast_of_a_protocol="192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.175.48.0/24 2001::/23 2620:4f:8000::/48",
)
_PRIVATE: Final = _ranges(
    # RFC 1918 and RFC 4193; and RFC 6598, from which some clouds give pods their addresses.
    private="10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 fc00::/7",
    shared_by_carriers="100.64.0.0/10",
)
_GLOBAL_UNICAST: Final = ip_network("2000::/3")

_LABEL: Final = r"[0-9A-Za-z]([-0-9A-Za-z]{0,61}[0-9A-Za-z])?"
_PORT: Final = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
URL: Final = rf"^https?://{_LABEL}(\.{_LABEL})*(:{_PORT})?([/?][!$-;=?-\[\]_a-z~]*)?$"
"""A name or an IPv4 address, no user, no fragment, and nothing that two readers of URLs could take for other hosts."""

HEADER_NAME: Final = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$"
"""A token of RFC 9110, section 5.6.2."""

HEADER_RESERVED: Final = (
    r"^([Mm][Cc][Pp]-.*|(?i:accept|accept-encoding|connection|content-encoding|content-length|content-type|expect|host"
    r"|keep-alive|last-event-id|proxy-.*|te|trailer|transfer-encoding|upgrade))$"
)
"""Names of headers that belong to MCP, to the guard or to one connection alone; no binding may set them."""

HEADER_VALUE: Final = r"^[!-~]([ -~]*[!-~])?$"
"""Printable ASCII that neither begins nor ends with a space."""

FileName = Annotated[str, like(r"[0-9a-z]{1,32}", "the name of a file")]
"""Of a file with a Secret's or ConfigMap's key."""

_MAX_VALUE: Final = 8192


def matches(pattern: str, text: str) -> bool:
    """Match as RE2 does: `$` is the end of the text, not also a line break before it."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


class TargetHeader(StrictStruct, frozen=True):
    """A header of every request to a server: its value, or the name of the file that holds it, a secret's."""

    name: Annotated[str, like(HEADER_NAME, "the name of an HTTP header"), Meta(max_length=128)]
    value: Annotated[str, like(HEADER_VALUE, "printable ASCII"), Meta(max_length=_MAX_VALUE)] | None = None
    file: FileName | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if matches(HEADER_RESERVED, self.name):
            raise ValueError(".name: is the guard's own")
        require_one(value=self.value, file=self.file)


class HttpTarget(StrictStruct, frozen=True):
    """What a server is reached with; of a file of CA certificates, where there is one, those alone are trusted."""

    url: Annotated[Text, like(URL, "an http or https URL without user and fragment")]
    network: Network
    headers: tuple[TargetHeader, ...]
    ca_file: FileName | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if not self.url.startswith("https:") and (self.network == "Public" or self.ca_file is not None):
            raise ValueError(".url: must be https for the network Public, and with caFile")
        refuse_doubles((header.name.lower() for header in self.headers), "headers", "name")


def is_header_value(text: str) -> bool:
    """Say whether a text can be a header's value."""
    return len(text) <= _MAX_VALUE and matches(HEADER_VALUE, text)


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
