"""What a guard's pod of its own is let out to."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from interlock.deployment.children.egress_rules import endpoints_of, guard_egress, verification_egress
from interlock.deployment.placement import ApiEndpoint, ApiServerAddress, Placement
from interlock_contract.addresses import refuse_address
from tests.requirements import requirement
from tests.support.builders import BindingBuilder, a_binding, a_policy, a_separate_placement, an_agent

PUBLIC = ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c")
PRIVATE = ("10.96.0.10", "172.18.0.2", "192.168.1.1", "100.64.0.1", "fd00::1")
METADATA = (
    *("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    *("fe80::1", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe"),
)
POD = "a pod of another namespace"


def a_guard(*bindings: BindingBuilder, records: str = "") -> Placement:
    sources = [one.raw["spec"]["source"] for one in bindings]
    policy = a_policy()
    for source in sources:
        policy = policy.giving("triage", source, read=["contacts"])
    placement = a_separate_placement(an_agent().using(*sources), policy=policy, bindings=bindings)
    return replace(placement, audit_url=records)


def lets_out(rules: list[dict[str, Any]], target: str, port: int = 443, protocol: str = "TCP") -> bool:
    return any(
        any(_is_peer(peer, target) for peer in rule["to"])
        and ("ports" not in rule or {"port": port, "protocol": protocol} in rule["ports"])
        for rule in rules
    )


def _is_peer(peer: dict[str, Any], target: str) -> bool:
    if target == POD:
        return peer == {"namespaceSelector": {}}
    block = peer.get("ipBlock")
    if block is None:
        return False
    address = ip_address(target)
    return address in ip_network(block["cidr"]) and not any(
        address in ip_network(excepted) for excepted in block.get("except", ())
    )


@requirement("isolation.guard-egress")
def test_a_guard_whose_servers_need_nothing_reaches_the_api_server_alone() -> None:
    assert guard_egress(a_guard(a_binding())) == [
        {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}]},
        {"ports": [{"port": 6443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "172.18.0.2/32"}}]},
    ]


def test_an_api_server_in_ipv6_is_one_address_too() -> None:
    placement = replace(a_guard(a_binding()), api_server=ApiServerAddress((ApiEndpoint("fd00::1", 6443),)))

    assert guard_egress(placement) == [
        {"ports": [{"port": 6443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "fd00::1/128"}}]}
    ]


def test_an_api_server_that_was_not_found_gets_no_rule() -> None:
    assert guard_egress(replace(a_guard(a_binding()), api_server=ApiServerAddress())) == []


def test_its_port_at_any_address_is_opened_only_where_the_operator_is_configured_so() -> None:
    placement = a_guard(a_binding())
    rules = guard_egress(replace(placement, api_server=replace(placement.api_server, is_anywhere=True)))

    assert lets_out(rules, "203.0.113.9", 6443)
    assert not lets_out(rules, "203.0.113.9", 80)
    assert not any(lets_out(rules, one, 6443) for one in METADATA)


@requirement("isolation.guard-egress")
@pytest.mark.parametrize(
    ("network", "reached"),
    [("None", ()), ("Public", PUBLIC), ("Private", (*PUBLIC, *PRIVATE, POD))],
)
def test_a_stdio_server_reaches_what_its_binding_says(network: str, reached: tuple[str, ...]) -> None:
    rules = guard_egress(a_guard(a_binding().with_server(network=network)))

    found = [one for one in (*PUBLIC, *PRIVATE, POD, *METADATA) if lets_out(rules, one, 8765)]
    assert found == list(reached)
    assert lets_out(rules, POD, 53, "UDP") == (network != "None"), "names are for those who have somewhere to go"


def test_a_binding_that_says_nothing_reaches_nothing() -> None:
    assert a_binding().build().spec.server.stdio.network == "None"  # type: ignore[union-attr]


@requirement("isolation.guard-egress")
@pytest.mark.parametrize(
    ("url", "port"),
    [("https://mail.example.com/mcp", 443), ("https://mail.example.com:8443/mcp", 8443)],
)
def test_a_public_server_over_http_is_reached_at_its_port_and_never_in_private_networks(url: str, port: int) -> None:
    rules = guard_egress(a_guard(a_binding().over_http(url)))

    assert all(lets_out(rules, one, port) for one in PUBLIC)
    assert not any(lets_out(rules, one, 22) for one in PUBLIC)
    assert not any(lets_out(rules, one, port) for one in (*PRIVATE, POD, *METADATA))
    assert lets_out(rules, POD, 53, "UDP")


def test_a_private_server_over_http_may_be_behind_a_service_with_another_port() -> None:
    rules = guard_egress(a_guard(a_binding().over_http("http://crm:80/mcp", network="Private")))

    assert lets_out(rules, POD, 8000)
    assert lets_out(rules, "10.1.2.3", 8000)
    assert not any(lets_out(rules, one, 80) for one in METADATA)


@pytest.mark.parametrize("network", ["Public", "Private"])
def test_no_policy_keeps_a_guard_from_what_it_would_dial(network: Any) -> None:
    url = "https://mail.example.com/mcp"
    rules = guard_egress(a_guard(a_binding().over_http(url, network=network)))

    dialled = [one for one in (*PUBLIC, *PRIVATE) if refuse_address(one, network) is None]
    assert all(lets_out(rules, one) for one in dialled)


@pytest.mark.parametrize(
    ("url", "peer", "port"),
    [
        (
            "http://interlock-audit.interlock-system.svc:7420",
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "interlock-system"}}},
            7420,
        ),
        (
            "http://records.audit.svc.cluster.local",
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "audit"}}},
            80,
        ),
        ("https://192.0.2.7:7420", {"ipBlock": {"cidr": "192.0.2.7/32"}}, 7420),
        ("https://[2001:db8::7]:7420", {"ipBlock": {"cidr": "2001:db8::7/128"}}, 7420),
    ],
)
def test_the_way_to_the_collector_is_as_narrow_as_its_address_says(url: str, peer: dict[str, Any], port: int) -> None:
    rules = guard_egress(a_guard(a_binding(), records=url))

    assert {"ports": [{"port": port, "protocol": "TCP"}], "to": [peer]} in rules
    assert not any(lets_out(rules, one, port) for one in PUBLIC)


def test_a_collector_outside_of_the_cluster_is_reached_at_its_port() -> None:
    rules = guard_egress(a_guard(a_binding(), records="https://records.example.com"))

    assert lets_out(rules, PUBLIC[0], 443)
    assert not lets_out(rules, PUBLIC[0], 80)


def test_no_rule_is_without_a_destination_and_every_exception_lies_in_its_block() -> None:
    bindings = (a_binding(), a_binding("mail").serving("mail", "development").over_http())
    for network in ("None", "Public", "Private"):
        server = a_binding().with_server(network=network)
        for rule in guard_egress(a_guard(server, *bindings[1:], records="http://records.audit:7420")):
            assert rule["to"], "a rule without a destination opens every address of both families"
            for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
                for excepted in block.get("except", ()):
                    assert ip_network(excepted).subnet_of(ip_network(block["cidr"]))  # type: ignore[arg-type]


def test_a_guard_is_let_out_to_the_providers_of_its_agents_models() -> None:
    agent, policy = an_agent().calling("openai/gpt-4o-mini"), a_policy().allowing_models("openai/*")
    rules = guard_egress(a_separate_placement(agent, policy=policy))

    assert lets_out(rules, PUBLIC[0])
    assert lets_out(rules, POD, 53, "UDP")
    assert not any(lets_out(rules, address) for address in (*PRIVATE[1:], *METADATA))


def test_no_rule_stands_there_twice() -> None:
    one, two = (a_binding(name).serving(name, "development").over_http() for name in ("crm", "mail"))
    rules = guard_egress(a_guard(one, two))

    assert all(rules.count(rule) == 1 for rule in rules)


@pytest.mark.parametrize("network", ["None", "Public", "Private"])
def test_what_verifies_a_server_is_let_out_as_a_guard_is_for_it_but_not_to_the_collector(network: Any) -> None:
    binding = a_binding().with_server(network=network)
    guard = a_guard(binding, records="http://records.audit:7420")

    rules = verification_egress(binding.build().spec.server, guard.api_server)

    assert rules == guard_egress(replace(guard, audit_url=""))
    assert rules != guard_egress(guard)


def test_the_api_server_is_where_its_service_and_its_endpoints_are() -> None:
    service = {"spec": {"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": [{"port": 443}]}}
    slices = [
        {"ports": [{"port": 6443}], "endpoints": [{"addresses": ["172.18.0.2"]}, {"addresses": ["172.18.0.3"]}]},
        {"ports": None, "endpoints": None},
    ]

    assert endpoints_of(service, slices) == (
        ApiEndpoint("10.96.0.1", 443),
        ApiEndpoint("172.18.0.2", 6443),
        ApiEndpoint("172.18.0.3", 6443),
        ApiEndpoint("fd00::1", 443),
    )
