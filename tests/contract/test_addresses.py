"""NetworkPolicies and guards have one table of addresses: what one closes, the other closes too."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.deployment.children.egress_rules import everywhere_but_metadata, network_egress
from interlock_contract import addresses
from interlock_contract.addresses import Network, refuse_address
from tests.requirements import requirement
from tests.support.ssrf_corpus import NEVER, PRIVATE, PUBLIC

NAT64 = int(ip_network("64:ff9b::/96").network_address)
METADATA = (
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe"),
    *("fd00:c1::a9fe:a9fe", "fd00:a9fe:a9fe::1", "fd00:42::42", "fd00:100::100:200"),
)


def lets_out(peers: list[dict[str, Any]], address: str) -> bool:
    found = ip_address(address)
    return any(
        found in ip_network(block["cidr"]) and not any(found in ip_network(one) for one in block.get("except", ()))
        for block in (peer["ipBlock"] for peer in peers if "ipBlock" in peer)
    )


def edges() -> list[str]:
    """Return the first and last address of each range in the table, their neighbours, and their NAT64 forms."""
    found: set[IPv4Address | IPv6Address] = set()
    for one, _ in (*addresses._NEVER, *addresses._PRIVATE, (ip_network("64:ff9b::/96"), "")):  # noqa: SLF001 - all of it
        first, last = int(one.network_address), int(one.broadcast_address)
        kind = type(one.network_address)
        top = 2**one.max_prefixlen - 1
        found |= {kind(min(max(number, 0), top)) for number in (first - 1, first, last, last + 1)}
    found |= {IPv6Address(NAT64 + int(one)) for one in found if isinstance(one, IPv4Address)}
    return sorted(str(one) for one in found)


@requirement("isolation.addresses")
@pytest.mark.parametrize("network", ["Public", "Private"])
def test_a_network_policy_has_exactly_the_addresses_that_a_guard_dials(network: Network) -> None:
    peers = network_egress(network)[0]["to"]
    asked = [*edges(), *METADATA, *PUBLIC, *PRIVATE, *(one for one in NEVER if _is_address(one))]

    different = [one for one in asked if lets_out(peers, one) != (refuse_address(one, network) is None)]

    assert different == []


@requirement("isolation.addresses")
@given(st.ip_addresses() | st.integers(0, 2**32 - 1).map(lambda number: IPv6Address(NAT64 + number)))
def test_no_address_is_open_in_one_and_closed_in_the_other(address: IPv4Address | IPv6Address) -> None:
    for network in ("Public", "Private"):
        is_dialled = refuse_address(str(address), network) is None
        assert lets_out(network_egress(network)[0]["to"], str(address)) == is_dialled


@requirement("isolation.addresses")
@pytest.mark.parametrize("address", METADATA)
def test_no_pod_reaches_a_metadata_service_in_whatever_way_its_address_is_written(address: str) -> None:
    forms = [address]
    if "." in address:
        number = int(IPv4Address(address))
        forms += [f"64:ff9b::{address}", f"64:ff9b:1::{address}"]
        forms += [str(IPv6Address((0x2002 << 112) + (number << 80) + 1))]  # 6to4
        forms += [str(IPv6Address((0x20010000 << 96) + (number << 64) + (number ^ 0xFFFFFFFF)))]  # Teredo
    for form in forms:
        assert not lets_out(everywhere_but_metadata(), form), "a pod that agent and guard share"
        assert refuse_address(form, "Private") is not None


def test_a_shared_pod_reaches_what_is_neither_metadata_nor_link_local() -> None:
    for address in (
        "10.0.0.1",
        "127.0.0.1",
        "8.8.8.8",
        "2606:4700::1111",
        "fd12::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b::a00:1",
    ):
        assert lets_out(everywhere_but_metadata(), address)


def _is_address(text: str) -> bool:
    try:
        return "%" not in text and bool(ip_address(text))
    except ValueError:
        return False
