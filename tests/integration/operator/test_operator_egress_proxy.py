"""An egress proxy on a real API server: a binding is verified through it, and guards and networks get it."""

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.timeout(120)]

BINDING = "crm-sandbox"
PROXY = {"url": "https://proxy.example.com:3128", "caFrom": {"configMapKeyRef": {"name": "proxy-ca", "key": "ca.crt"}}}


def opened(policy: Json) -> set[int]:
    """Return the ports that a NetworkPolicy opens for addresses anywhere."""
    return {
        port["port"]
        for rule in policy["spec"].get("egress", [])
        for port in rule.get("ports", [])
        if any(peer.get("ipBlock", {}).get("cidr") == "0.0.0.0/0" for peer in rule["to"])
    }


@requirement("proxy.on-a-cluster")
def test_a_proxy_reaches_verification_bundle_and_networks_and_goes_again(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    binding = objects.binding()
    binding["spec"]["server"] = {"http": {"url": "https://crm.example.com/mcp"}}
    policy = objects.policy("triage", isolation="Separate")
    sandbox.api.create({**policy, "spec": {**policy["spec"], "egressProxy": PROXY}}, sandbox.namespace)
    sandbox.api.create(binding, sandbox.namespace)
    sandbox.wait_verified(BINDING)

    def opened_to_verify() -> set[int]:
        return opened(sandbox.api.get("networkpolicies", sandbox.namespace, f"{BINDING}-verify"))

    # The operator may read the binding before its policy: each kind has a watch of its own.
    eventually(lambda: opened_to_verify() == {3128}, "the server is verified through the proxy")
    sandbox.wait_verified(BINDING)
    sandbox.create("triage")

    sandbox.wait_good("triage", 1)

    def guards_proxy() -> Json:
        proxy: Json = sandbox.bundle("triage")["sources"][0]["http"].get("proxy", {})
        return proxy

    assert guards_proxy()["url"] == PROXY["url"]

    def networks_of_guard() -> list[Json] | None:
        networks = sandbox.children("triage").get("NetworkPolicy", [])
        return [one for one in networks if 3128 in opened(one)] or None

    (guard,) = eventually(networks_of_guard, "the guard's network opens the proxy")
    assert 443 not in opened(guard)

    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"egressProxy": None}})

    eventually(lambda: opened_to_verify() == {443}, "the server is verified without the proxy")
    sandbox.wait_good("triage", 2)
    assert guards_proxy() == {}, "the guard is told to reach the server directly"
    eventually(lambda: networks_of_guard() is None, "no network opens the proxy any more")
