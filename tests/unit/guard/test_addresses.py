from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.addresses import Network, refuse_address
from tests.requirements import requirement
from tests.support.ssrf_corpus import NEVER, PRIVATE, PUBLIC


@pytest.mark.parametrize("network", ["Public", "Private"])
@pytest.mark.parametrize("address", NEVER)
@requirement("http.addresses")
def test_what_no_binding_may_reach_is_refused(address: str, network: Network) -> None:
    assert refuse_address(address, network) is not None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_ranges_need_a_binding_that_allows_them(address: str) -> None:
    assert refuse_address(address, "Public") is not None
    assert refuse_address(address, "Private") is None


@pytest.mark.parametrize("network", ["Public", "Private"])
@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_may_be_dialled(address: str, network: Network) -> None:
    assert refuse_address(address, network) is None


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("169.254.169.254", "a metadata service"),
        ("fd00:ec2::254", "a metadata service"),
        ("127.0.0.1", "loopback"),
        ("::ffff:8.8.8.8", "an IPv4 address in IPv6"),
        ("10.0.0.1", "private"),
        ("64:ff9b::169.254.169.254", "a metadata service, 169.254.169.254 by NAT64"),
    ],
)
def test_a_refusal_says_what_the_address_is(address: str, words: str) -> None:
    assert refuse_address(address, "Public") == f"it is {words}"


@given(st.ip_addresses())
def test_what_public_allows_is_global_unicast_and_private_allows_it_too(address: IPv4Address | IPv6Address) -> None:
    if refuse_address(str(address), "Public") is None:
        if address in ip_network("64:ff9b::/96"):
            address = IPv4Address(int(address) & 0xFFFFFFFF)
        assert address.is_global
        assert not any((address.is_multicast, address.is_private, address.is_loopback, address.is_link_local))
        assert refuse_address(str(address), "Private") is None


@given(st.text(max_size=40))
def test_text_is_refused_or_an_address(text: str) -> None:
    if refuse_address(text, "Private") is None:
        assert str(IPv4Address(text) if "." in text else IPv6Address(text))
