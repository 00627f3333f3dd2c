"""A policy's egress proxy reaches the verification of the bindings under it, and nothing is verified past it."""

import json
from typing import Any

from interlock_kube.resource_types import MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy
from tests.support.small_operator import SmallOperator

PROXY = "http://proxy.example.com:3128"


@requirement("proxy.verified")
async def test_a_binding_is_verified_again_through_the_proxy_that_its_policy_gets() -> None:
    operator = SmallOperator()
    policy = a_policy().giving("triage", "mail", read=["mails"])
    operator.put(policy.to_kubernetes())
    key = operator.put(a_binding("mail").serving("mail", "development").over_http().unverified().to_kubernetes())
    assert await operator.turn(MCP_BINDING, key)
    assert [target.get("proxy") for target in planned(operator)] == [None]
    first = set(operator.client.of_kind("Job"))

    operator.put(policy.through_proxy(PROXY).to_kubernetes())
    assert await operator.turn(MCP_BINDING, key)
    assert {"url": PROXY} in [target.get("proxy") for target in planned(operator)]
    (network,) = operator.client.of_kind("NetworkPolicy").values()
    assert [rule["ports"][0]["port"] for rule in network["spec"]["egress"] if len(rule["ports"]) == 1][-1] == 3128
    assert operator.client.of_kind("Job").keys().isdisjoint(first)  # the run of another way has ended


@requirement("proxy.verified")
async def test_nothing_is_verified_while_the_policy_that_may_have_the_proxy_cannot_be_read() -> None:
    operator = SmallOperator()
    policy = a_policy().giving("triage", "mail", read=["mails"])
    operator.put(policy.to_kubernetes())
    unread = a_policy("other").to_kubernetes()
    operator.put({**unread, "spec": {"dataAccess": "everything"}})
    key = operator.put(a_binding("mail").serving("mail", "development").over_http().unverified().to_kubernetes())
    assert await operator.turn(MCP_BINDING, key)
    assert await operator.turn(MCP_BINDING, key)
    assert operator.client.of_kind("Job") == {}
    verified = operator.condition(MCP_BINDING, key, "Verified")
    assert "AgentPolicy other, which may have the egress proxy" in verified["message"]

    operator.put(unread)
    assert await operator.turn(MCP_BINDING, key)
    assert len(operator.client.of_kind("Job")) == 1


def planned(operator: SmallOperator) -> list[dict[str, Any]]:
    """Return the server of each verification that was planned."""
    maps = operator.client.of_kind("ConfigMap").values()
    texts = [found["data"]["bundle.json"] for found in maps if "bundle.json" in found.get("data", {})]
    return [json.loads(text)["sources"][0]["http"] for text in texts]
