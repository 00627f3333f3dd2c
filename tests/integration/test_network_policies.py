"""The address blocks of NetworkPolicies on a real API server, which checks each range and each exception in it."""

import json
from typing import Any

import pytest

from interlock.deployment.children.egress_rules import everywhere_but_metadata, network_egress
from tests.integration.kubectl import Kubectl
from tests.requirements import requirement

pytestmark = pytest.mark.api

EGRESS: dict[str, list[dict[str, Any]]] = {
    "shared": [{"to": everywhere_but_metadata()}],
    "public": network_egress("Public"),
    "private": network_egress("Private"),
}


@requirement("isolation.addresses")
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
