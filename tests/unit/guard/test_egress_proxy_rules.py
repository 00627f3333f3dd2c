"""Which servers are reached through an egress proxy, and which hosts a proxy may be told."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from interlock_contract.addresses import refuse_address
from interlock_contract.bundle import AgentIdentity, Bundle, dump_bundle, parse_bundle
from interlock_contract.egress_proxy import is_proxied, refuse_proxied_host
from interlock_contract.http_target import HttpTarget, ProxyTarget
from interlock_contract.model_access import Model, ModelAccess, Provider
from interlock_contract.strict_fields import BundleInvalid
from tests.requirements import requirement


@requirement("proxy.used")
@pytest.mark.parametrize(
    ("url", "no_proxy", "expected"),
    [
        ("https://mcp.example.com/mcp", (), True),
        ("https://mcp.example.com/mcp", ("example.com",), False),
        ("https://MCP.Example.com:8443/mcp", ("mcp.EXAMPLE.com",), False),
        ("https://example.com/mcp", ("example.com",), False),
        ("https://example.com/mcp", (".example.com",), True),
        ("https://mcp.example.com/mcp", (".example.com",), False),
        ("https://mcp.example.com./mcp", ("example.com",), False),
        ("https://evilexample.com/mcp", ("example.com", ".example.com"), True),
        ("https://example.com.evil.example/mcp", ("example.com",), True),
        ("https://93.184.215.14/mcp", ("93.184.215.14",), False),
        ("https://93.184.215.14/mcp", ("215.14.example",), True),
    ],
)
def test_a_public_server_is_reached_through_the_proxy_unless_it_is_excepted(
    url: str,
    no_proxy: tuple[str, ...],
    expected: bool,  # noqa: FBT001 - a row of the table
) -> None:
    assert is_proxied(url, "Public", no_proxy) is expected
    assert not is_proxied(url, "Private", no_proxy)


@requirement("proxy.checked")
@pytest.mark.parametrize(
    ("host", "why"),
    [
        *((host, None) for host in ("mcp.example.com", "a", "1.example.com", "x-1.y2", "93.184.215.14", "1e100.net")),
        *((host, "it is loopback") for host in ("localhost", "LOCALHOST", "x.localhost", "127.0.0.1")),
        ("169.254.169.254", "it is a metadata service"),
        ("10.0.0.1", "it is private"),
        ("100.64.0.1", "it is shared by carriers"),
        ("0.0.0.0", "it is unspecified"),  # noqa: S104 - refused
        ("127.1", "it is another spelling of 127.0.0.1"),
        ("2130706433", "it is another spelling of 127.0.0.1"),
        ("0x7f.0.0.1", "it is another spelling of 127.0.0.1"),
        ("0X7f000001", "it is another spelling of 127.0.0.1"),
        ("0177.0.0.1", "it is another spelling of 127.0.0.1"),
        ("93.184.215.014", "it is another spelling of 93.184.215.12"),
        ("8.8", "it is another spelling of 8.0.0.8"),
        *((host, "it is no address, and ends as one") for host in ("1.2.3.4.5", "a.1", "a.0x1", "256.1.1.1", "1.09")),
    ],
)
def test_a_proxy_is_told_names_and_public_addresses_alone(host: str, why: str | None) -> None:
    assert refuse_proxied_host(host) == why


@requirement("proxy.checked")
@given(st.ip_addresses(v=4))
def test_an_address_is_judged_as_without_a_proxy(address: Any) -> None:
    assert refuse_proxied_host(str(address)) == refuse_address(str(address), "Public")


TARGET = HttpTarget(
    "https://llm.example.com/v1", "Public", (), None, ProxyTarget("https://proxy.example.com:3128", "0a")
)


def a_bundle(target: HttpTarget) -> Bundle:
    provider = Provider("openai", "OpenAI", target, (Model("gpt", "0b"),))
    identity = AgentIdentity("a", "agents", "u-1")
    return Bundle(4, identity, "r", "staging", "staging", (), (), models=ModelAccess((provider,)))


@requirement("proxy.used")
def test_a_proxy_is_read_back_as_it_is_written() -> None:
    for target in (TARGET, structs.replace(TARGET, proxy=None)):
        bundle = a_bundle(target)
        assert parse_bundle(dump_bundle(bundle)) == bundle
    assert '"proxy"' not in dump_bundle(a_bundle(structs.replace(TARGET, proxy=None)))


@requirement("proxy.used")
@pytest.mark.parametrize(
    "edit",
    [
        {"url": "socks5://proxy.example.com:1080"},
        {"url": "http://user@proxy.example.com"},
        {"url": "http://proxy.example.com/path"},
        {"url": "http://proxy.example.com"},  # with caFile
        {"caFile": "../x"},
        {"more": 1},
    ],
)
def test_a_proxy_that_is_none_is_refused(edit: dict[str, Any]) -> None:
    written = json.loads(dump_bundle(a_bundle(TARGET)))
    written["models"]["providers"][0]["target"]["proxy"] |= edit
    with pytest.raises(BundleInvalid, match=r"^models"):
        parse_bundle(json.dumps(written))
    written = json.loads(dump_bundle(a_bundle(TARGET)))
    written["models"]["providers"][0]["target"]["network"] = "Private"
    with pytest.raises(BundleInvalid, match="is for the network Public alone"):
        parse_bundle(json.dumps(written))
