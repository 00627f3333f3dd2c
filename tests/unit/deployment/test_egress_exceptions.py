"""What rows of egress open in the NetworkPolicies of a placement, and what they never open."""

import json
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Network, collapse_addresses, ip_address, ip_network
from typing import Any

import pytest

from interlock.deployment.children.network import build_network_policies
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.egress_exceptions import (
    MAX_EXCEPTED,
    MAX_POLICY_BYTES,
    agent_exceptions,
    cluster_dns_rule,
    rules_of,
    server_exceptions,
    words_for_check,
)
from interlock.deployment.node_ranges import MOST_KEPT, NodeRanges, ranges_of_node
from interlock.deployment.placement import ApiEndpoint, ApiServerAddress, Placement
from interlock_contract.addresses import AddressBlock, open_block, parse_cidr
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, a_separate_placement, a_stage, an_agent

DATABASE = {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.20.0.0/24"}}]}
EVERYWHERE: dict[str, Any] = {"to": [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}], "public": "Allowed"}
NODES = NodeRanges(
    ip_network(one) for one in ("172.18.0.3/32", "10.20.0.7/32", "10.244.0.0/24", "fd01::3/128", "93.184.215.14/32")
)
CLOSED = (
    *("169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "127.0.0.1", "224.0.0.1"),
    *("172.18.0.2", "10.96.0.1", "172.18.0.3", "10.20.0.7", "10.244.0.9", "93.184.215.14"),
    *("fe80::1", "fd00:ec2::254", "fd01::3", "::1", "64:ff9b::a9fe:a9fe", "64:ff9b::a14:7"),
    "64:ff9b::5db8:d70e",
)
OPEN = ("10.20.0.8", "10.244.1.9", "93.184.215.15", "fd01::4", "2606:2800:21f::1", "64:ff9b::5db8:d70f")


def a_placement(*rows: dict[str, Any], **parts: Any) -> Placement:
    return replace(a_separate_placement(policy=a_policy().opening(*rows), **parts), nodes=NODES)


def egress(placement: Placement, component: str = "agent") -> list[dict[str, Any]]:
    """Return the rules of one of the NetworkPolicies without those that it has in any case."""
    policies = {
        one["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"]: one for one in _built(placement)
    }
    usual = {"agent": 1, "guard": len(_rules(_built(replace(placement, policy=_without_rows(placement)))[1]))}
    return _rules(policies[component])[usual[component] :]


def _built(placement: Placement) -> tuple[dict[str, Any], ...]:
    return build_network_policies(placement)


def _without_rows(placement: Placement) -> Any:
    policy = placement.policy
    return policy.model_copy(update={"spec": policy.spec.model_copy(update={"egress": ()})})


def _rules(policy: dict[str, Any]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = policy["spec"]["egress"]
    return rules


def lets_out(rules: Iterable[dict[str, Any]], address: str) -> bool:
    blocks = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    found = ip_address(address)
    return any(
        found in ip_network(block["cidr"]) and not any(found in ip_network(one) for one in block.get("except", ()))
        for block in blocks
    )


@requirement("egress.rows")
def test_a_row_opens_its_peers_and_ports_to_the_named_agent_alone() -> None:
    assert egress(replace(a_placement({}), nodes=NodeRanges())) == [DATABASE]
    assert egress(a_placement({"agents": ["another"]})) == []
    assert egress(a_placement({}), "guard") == []


@requirement("egress.rows")
def test_a_row_for_labels_opens_to_the_agents_that_carry_them() -> None:
    row = {"agents": None, "agentSelector": {"matchLabels": {"tier": "gold"}}}

    assert len(egress(a_placement(row, agent=an_agent().labelled(tier="gold")))) == 1
    assert egress(a_placement(row)) == []


@requirement("egress.rows")
def test_a_row_for_servers_opens_the_guards_pod_and_not_the_agents() -> None:
    placement = replace(a_placement({"servers": ["crm", "other"]}), nodes=NodeRanges())

    assert (egress(placement), egress(placement, "guard")) == ([], [DATABASE])
    assert egress(a_placement({"servers": ["other"]}), "guard") == []
    over_http = a_placement({"servers": ["crm"]}, bindings=(a_binding().over_http(),))
    assert egress(over_http, "guard") == [], "the guard itself reaches a server over HTTP as its binding says"


@requirement("egress.rows")
@pytest.mark.parametrize(("environments", "count"), [([], 1), (["production"], 1), (["staging"], 0)])
def test_a_row_holds_in_its_environments_alone(environments: list[str], count: int) -> None:
    agent = an_agent().with_stages(a_stage("only", "production"))

    assert len(egress(a_placement({"environments": environments}, agent=agent))) == count


@requirement("egress.rows")
def test_selectors_never_select_pods_of_interlock() -> None:
    namespaces, pods = {"matchLabels": {"team": "data"}}, {"matchLabels": {"app": "pg"}}
    row = {"to": [{"namespaceSelector": namespaces}, {"podSelector": pods}]}
    ours = [
        {"key": "app.kubernetes.io/managed-by", "operator": "NotIn", "values": ["interlock"]},
        {"key": "app.kubernetes.io/part-of", "operator": "NotIn", "values": ["interlock"]},
    ]

    [rule] = egress(a_placement(row))

    assert rule["to"] == [
        {"namespaceSelector": namespaces, "podSelector": {"matchExpressions": ours}},
        {"podSelector": {**pods, "matchExpressions": ours}},
    ]


@requirement("egress.killed")
def test_while_an_agent_is_killed_its_pods_reach_the_api_server_and_the_collector_alone() -> None:
    rows = ({**EVERYWHERE, "dns": "Allowed"}, {"servers": ["crm"]})
    binding = a_binding().with_server(network="Private")
    placement = replace(a_placement(*rows, bindings=(binding,)), audit_url="http://10.9.9.9:7420")
    killed = replace(placement, is_killed=True)

    agent, guard = (_rules(one) for one in _built(killed))

    assert len(agent) == 1, "the guard, which refuses everything"
    blocks = {peer["ipBlock"]["cidr"] for rule in guard for peer in rule["to"] if "ipBlock" in peer}
    endpoints = {f"{one.address}/32" for one in killed.api_server.endpoints}
    assert blocks == endpoints | {"10.9.9.9/32"}, "an address needs no DNS"
    assert [_rules(one) for one in _built(placement)] != [agent, guard]


@requirement("egress.killed")
def test_the_guard_of_a_killed_agent_finds_the_collector_by_the_clusters_dns_and_by_no_other_pod() -> None:
    placement = replace(a_placement(), audit_url="http://interlock-audit.interlock-system.svc:7420")

    _, guard = (_rules(one) for one in _built(replace(placement, is_killed=True)))

    assert [rule for rule in guard if {"port": 53, "protocol": "UDP"} in rule["ports"]] == [cluster_dns_rule()]


@requirement("egress.cut-out")
@pytest.mark.parametrize("address", CLOSED)
def test_no_cidr_opens_metadata_services_nodes_their_pods_and_the_api_server(address: str) -> None:
    assert not lets_out(egress(a_placement(EVERYWHERE)), address)


@requirement("egress.cut-out")
@pytest.mark.parametrize("address", OPEN)
def test_a_cidr_opens_the_other_addresses(address: str) -> None:
    assert lets_out(egress(a_placement(EVERYWHERE)), address)


@requirement("egress.cut-out")
@pytest.mark.parametrize("cidr", ["0.0.0.0/0", "::/0", "10.0.0.0/8", "172.16.0.0/12", "fd00::/8", "64:ff9b::/96"])
def test_each_cut_out_range_is_a_strict_subset_of_its_cidr(cidr: str) -> None:
    [rule] = egress(a_placement({"to": [{"cidr": cidr}], "public": "Allowed"}))
    [block] = [peer["ipBlock"] for peer in rule["to"]]
    base, excepted = ip_network(block["cidr"]), [ip_network(one) for one in block["except"]]

    assert excepted
    assert all(one.version == base.version and one.subnet_of(base) and one != base for one in excepted)  # type: ignore[arg-type]


@requirement("egress.cut-out")
@pytest.mark.parametrize("cidr", ["172.18.0.3/32", "172.18.0.2/32", "10.96.0.1/32", "10.244.0.128/25", "fd01::3/128"])
def test_a_cidr_of_which_nothing_is_left_is_not_opened(cidr: str) -> None:
    placement = a_placement({"to": [{"cidr": cidr}]})
    [found] = agent_exceptions(placement)

    assert egress(placement) == []
    why = "it has only addresses of nodes, pods, Services or the API server, or of INTERLOCK_CLOSED_RANGES"
    assert found.withheld == (f"{cidr}: {why}",)


@requirement("egress.cut-out")
def test_addresses_that_together_are_all_of_a_cidr_leave_nothing_of_it() -> None:
    both = (ip_network("10.20.0.6/32"), ip_network("10.20.0.7/32"))

    assert open_block(ip_network("10.20.0.6/31"), both) is None
    assert open_block(ip_network("10.20.0.4/30"), both) == AddressBlock("10.20.0.4/30", ("10.20.0.6/31",))


@requirement("egress.cut-out")
def test_while_the_nodes_are_not_known_no_cidr_is_opened() -> None:
    pods = {"podSelector": {"matchLabels": {"app": "pg"}}}
    placement = replace(a_placement({"to": [{"cidr": "10.20.0.0/24"}, pods]}), nodes=None)
    [found] = agent_exceptions(placement)

    assert not lets_out(egress(placement), "10.20.0.8")
    assert len(egress(placement)[0]["to"]) == 1
    why = "the operator cannot list Nodes or ServiceCIDRs, which must be left out"
    assert found.withheld == (f"10.20.0.0/24: {why}",)


@requirement("egress.cut-out")
def test_a_cidr_with_more_nodes_than_can_be_cut_out_is_not_opened() -> None:
    nodes = [ip_network(f"10.{number // 128}.{2 * (number % 128)}.1/32") for number in range(MAX_EXCEPTED + 1)]
    most = a_placement({"to": [{"cidr": "10.0.0.0/8"}]})
    api_server = ApiServerAddress((ApiEndpoint("192.168.0.1", 443),))

    assert egress(replace(most, nodes=NodeRanges(nodes), api_server=api_server)) == []
    assert len(egress(replace(most, nodes=NodeRanges(nodes[:-1]), api_server=api_server))) == 1


def test_neighbours_count_as_one_range_and_equal_what_the_standard_library_says() -> None:
    nodes = [ip_network(f"10.1.{number // 256}.{number % 256}/32") for number in range(1000)]
    nodes += [ip_network(one) for one in ("10.9.0.0/24", "10.9.1.0/24", "10.9.0.64/26", "fd01::/64", "11.0.0.1/32")]
    base = ip_network("10.0.0.0/8")
    v4 = [one for one in nodes if isinstance(one, IPv4Network) and one.subnet_of(base)]

    assert NodeRanges(nodes).near(base) == tuple(collapse_addresses(v4))


def test_the_addresses_of_a_node_and_the_ranges_of_its_pods_are_known() -> None:
    node = {
        "metadata": {"name": "one"},
        "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:1::/64"]},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "172.18.0.3"},
                {"type": "ExternalIP", "address": "93.184.215.14"},
                {"type": "Hostname", "address": "one"},
            ]
        },
    }

    found = {str(one) for one in ranges_of_node(node)}

    assert found == {"172.18.0.3/32", "93.184.215.14/32", "10.244.0.0/24", "fd00:1::/64"}
    assert ranges_of_node({"metadata": {"name": "new"}}) == frozenset()


@requirement("egress.cut-out")
@pytest.mark.parametrize(
    ("annotations", "ranges"),
    [
        (
            {
                "k8s.ovn.org/node-subnets": '{"default":["10.128.0.0/23","fd01:0:0:1::/64"]}',
                "k8s.ovn.org/host-cidrs": '["172.18.0.5/16","fc00::5/64"]',
                "k8s.ovn.org/node-primary-ifaddr": '{"ipv4":"172.18.0.6/16","ipv6":""}',
            },
            {"10.128.0.0/23", "fd01:0:0:1::/64", "172.18.0.5/32", "fc00::5/128", "172.18.0.6/32"},
        ),
        ({"k8s.ovn.org/node-subnets": '{"default":"10.128.0.0/23"}'}, {"10.128.0.0/23"}),
        (
            {"network.cilium.io/ipv4-pod-cidr": "10.0.0.1/27", "network.cilium.io/ipv4-cilium-host": "10.0.0.28"},
            {"10.0.0.0/27", "10.0.0.28/32"},
        ),
        (
            {"projectcalico.org/IPv4Address": "10.129.0.11/24", "projectcalico.org/IPv4VXLANTunnelAddr": "10.1.77.0"},
            {"10.129.0.11/32", "10.1.77.0/32"},
        ),
        ({"k8s.ovn.org/host-cidrs": '["cafe", 7, "1.2.3"]', "example.com/address": "10.9.9.9"}, set()),
    ],
)
def test_what_network_plugins_say_about_a_node_is_known(annotations: dict[str, str], ranges: set[str]) -> None:
    assert set(map(str, ranges_of_node({"metadata": {"annotations": annotations}}))) == ranges


def test_only_so_many_results_are_kept_and_the_last_ones() -> None:
    nodes, first = NodeRanges([ip_network("10.0.0.1/32")]), ip_network("10.0.0.0/8")
    kept = nodes.near(first)

    for number in range(MOST_KEPT + 5):
        nodes.near(ip_network(number << 8).supernet(new_prefix=24))
        assert nodes.near(first) is kept

    assert len(nodes._kept) == MOST_KEPT  # noqa: SLF001 - memory is what it is about


def test_rows_that_would_make_the_network_policy_too_large_are_not_opened() -> None:
    nodes = NodeRanges(ip_network(f"10.0.{2 * number}.1/32") for number in range(MAX_EXCEPTED // 2 - 2))
    row = {"to": [{"cidr": "10.0.0.0/16"}] * 16}
    placement = replace(a_placement(*[row] * 32), nodes=nodes)

    found = agent_exceptions(placement)

    assert len(json.dumps(rules_of(found))) < 1.1 * MAX_POLICY_BYTES
    assert found[0].withheld == ()
    assert found[-1].withheld[0] == "10.0.0.0/16: the NetworkPolicy would have more than 512 KiB: name narrower ranges"
    assert not found[-1].is_open


@requirement("egress.reported")
def test_the_text_names_no_peer_that_is_not_open() -> None:
    row = {"name": "db", "to": [{"cidr": "10.20.0.0/24"}, {"cidr": "172.18.0.3/32"}]}

    [found] = agent_exceptions(a_placement(row))

    assert found.text == "db (10.20.0.0/24, TCP 5432)"


@requirement("egress.dns")
def test_dns_is_open_and_usable_only_where_a_row_allows_it() -> None:
    closed, opened = a_placement({}), a_placement({"dns": "Allowed"})

    assert [_dns_of(closed), _dns_of(opened)] == [("None", {"nameservers": ["127.0.0.1"]}), ("ClusterFirst", None)]
    assert {port["port"] for port in egress(opened)[-1]["ports"]} == {53, 5353}
    assert all(port["port"] == 5432 for rule in egress(closed) for port in rule["ports"])


@requirement("egress.dns")
def test_dns_opens_pods_of_the_namespaces_of_the_clusters_dns_alone() -> None:
    namespaces = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["kube-system", "openshift-dns"]}

    pods, cache = egress(a_placement({"dns": "Allowed"}))[-1]["to"]

    assert pods["namespaceSelector"] == {"matchExpressions": [namespaces]}
    assert cache == {"ipBlock": {"cidr": "169.254.20.10/32"}}


def _dns_of(placement: Placement) -> tuple[str, Any]:
    pod = build_workloads(placement)[1]["spec"]["template"]["spec"]
    assert pod["hostAliases"] == [{"ip": "10.96.0.41", "hostnames": ["guard"]}]
    return pod["dnsPolicy"], pod.get("dnsConfig")


def test_in_a_shared_pod_rows_open_nothing_more() -> None:
    placement = a_placement({"servers": ["crm"]}, {"dns": "Allowed"})
    shared = replace(placement, policy=a_policy().opening({"dns": "Allowed"}, {"servers": ["crm"]}).build())

    assert (agent_exceptions(shared), server_exceptions(shared)) == ((), ())


def test_the_text_names_what_is_open() -> None:
    row = {
        "name": "vectors",
        "to": [
            {"namespaceSelector": {"matchLabels": {"team": "data"}}, "podSelector": {"matchLabels": {"app": "qdrant"}}},
            {"podSelector": {"matchLabels": {"app": "pg"}}},
        ],
        "ports": [{"port": 6333, "endPort": 6334}, {"port": 53, "protocol": "UDP"}],
    }

    [found] = agent_exceptions(a_placement(row))

    assert found.text == "vectors (pods app=qdrant in namespaces team=data, pods app=pg, TCP 6333-6334, UDP 53)"


@requirement("egress.check")
@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, ""),
        ({"to": [{"cidr": "10.20.0.8/32"}]}, "10.20.0.8:5432"),
        ({"to": [{"cidr": "fd01::4/128"}, {"cidr": "10.20.0.8/32"}]}, "10.20.0.8:5432 [fd01::4]:5432"),
        ({"to": [{"cidr": "10.20.0.8/32"}], "ports": [{"port": 9, "protocol": "UDP"}]}, ""),
        ({"to": [{"cidr": "10.20.0.8/32"}], "ports": [{"port": 9, "endPort": 10}]}, ""),
        ({"dns": "Allowed"}, "dns"),
        ({"ports": [{"port": 50, "endPort": 60}]}, "dns-untried"),
        ({"ports": [{"port": 5353}]}, "dns-untried"),
        ({"to": [{"cidr": "10.20.0.8/32"}], "servers": ["crm"]}, ""),
    ],
)
def test_the_egress_check_tries_single_addresses_and_spares_dns_where_a_row_opens_it(
    row: dict[str, Any], words: str
) -> None:
    assert words_for_check(a_placement(row)) == words


def test_pods_start_again_when_less_is_open_and_not_when_rows_are_named_or_split_otherwise() -> None:
    both = [{"port": 1}, {"port": 2}]
    one = a_placement({"ports": both})
    split = a_placement({"name": "a", "ports": both[:1]}, {"name": "b", "ports": both[1:]})
    less = a_placement({"ports": both[:1]})

    assert _stamp(one) == _stamp(split)
    assert len({_stamp(placement) for placement in (one, less, a_placement())}) == 3
    served = a_placement({"servers": ["crm"]})
    assert _stamp(served, 0) != _stamp(a_placement(), 0)
    assert _stamp(served) == _stamp(a_placement()), "the agent's pod does not depend on what its servers reach"


def _stamp(placement: Placement, index: int = 1) -> str:
    annotations = build_workloads(placement)[index]["spec"]["template"]["metadata"]["annotations"]
    return str(annotations["interlock.dev/config-digest"])


@pytest.mark.parametrize(
    "text", ["10.0.0.1/24", "10.0.0.0/08", "10.0.0.0/255.0.0.0", "10.0.0.0", "x/8", "fe80::%1/64", ""]
)
def test_only_the_first_address_with_a_length_is_a_cidr(text: str) -> None:
    assert parse_cidr(text) is None
