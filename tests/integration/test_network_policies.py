"""The address blocks of NetworkPolicies on a real API server, which checks each range and each exception in it."""

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from interlock.deployment.children.egress_rules import everywhere_but_metadata, network_egress
from interlock.deployment.egress_exceptions import agent_exceptions, rules_of
from interlock.deployment.node_ranges import NodeRanges
from tests.integration.kubectl import Kubectl
from tests.requirements import requirement
from tests.support.builders import a_policy, a_separate_placement

pytestmark = pytest.mark.api

EVERYWHERE = {
    "to": [{"cidr": "0.0.0.0/0"}, {"cidr": "::/0"}, {"cidr": "10.0.0.0/8"}, {"cidr": "64:ff9b::/96"}],
    "ports": [{"port": 1, "endPort": 7409}, {"port": 53, "protocol": "UDP"}],
    "public": "Allowed",
    "dns": "Allowed",
}
PODS = {"to": [{"podSelector": {"matchLabels": {"a": "b"}}}, {"namespaceSelector": {"matchLabels": {"a": "b"}}}]}


def opened() -> list[dict[str, Any]]:
    """Return what the widest rows open on a cluster with nodes of both families."""
    nodes = NodeRanges(ip_network(one) for one in ("172.18.0.3/32", "10.244.0.0/24", "fd01::3/128", "93.184.215.14/32"))
    placement = a_separate_placement(policy=a_policy().opening(EVERYWHERE, PODS))
    return rules_of(agent_exceptions(replace(placement, nodes=nodes)))


EGRESS: dict[str, list[dict[str, Any]]] = {
    "shared": [{"to": everywhere_but_metadata()}],
    "public": network_egress("Public"),
    "private": network_egress("Private"),
    "exceptions": opened(),
}


@requirement("isolation.addresses", "egress.cut-out")
@pytest.mark.parametrize("name", EGRESS)
def test_the_api_server_takes_the_blocks_as_they_are(kubectl: Kubectl, name: str) -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": EGRESS[name]},
    }
    answer = kubectl.run("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(policy))
    assert answer.ok, answer.text
    assert json.loads(answer.text)["spec"]["egress"] == EGRESS[name]
