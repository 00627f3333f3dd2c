"""A way past the guard that a policy withdraws, at a real API server with the controllers of Deployments."""

from ipaddress import ip_network
from typing import Any

import pytest

from interlock_contract.names import OPENINGS
from tests.integration.operator import objects
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

ROW = {"name": "db", "agents": ["triage"], "to": [{"cidr": "10.0.0.0/8"}], "ports": [{"port": 5432}]}
NOWHERE = {"nodeSelector": {"example.com/nowhere": "x"}}
"""Keeps new pods from every node, so that none of them is ever Ready."""


@pytest.fixture
def opened(operator: OperatorProcess, sandbox: Sandbox) -> Sandbox:
    """An agent that was started with a way past its guard."""
    sandbox.apply_policy_and_bindings("triage", isolation="Separate")
    change(sandbox, egress=[ROW])
    sandbox.create("triage", environment="staging")
    sandbox.wait_ready("triage")
    return sandbox


def change(sandbox: Sandbox, **spec: Any) -> None:
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": spec})


def agents(sandbox: Sandbox) -> dict[str, Json]:
    """Return the agent's own pods that are not terminating, by uid."""
    found = (one["metadata"] for one in sandbox.pods("triage") if "deletionTimestamp" not in one["metadata"])
    return {one["uid"]: one for one in found if one["labels"]["app.kubernetes.io/component"] == "agent"}


def rules(sandbox: Sandbox) -> list[Json]:
    [policy] = [
        one for one in sandbox.children("triage")["NetworkPolicy"] if one["metadata"]["name"].endswith("-agent")
    ]
    found: list[Json] = policy["spec"]["egress"]
    return found


@requirement("egress.withdrawn")
def test_pods_with_a_withdrawn_way_end_though_no_new_one_is_ever_ready(opened: Sandbox) -> None:
    [old] = agents(opened)

    change(opened, egress=[], podTemplate={"default": NOWHERE})

    eventually(lambda: old not in agents(opened), "the pod with the withdrawn way ends")
    assert all("5432" not in str(rule) for rule in rules(opened)), "it was closed before"
    # Until the Deployment is replaced, its controller makes another pod of the same template, which ends as well.
    eventually(
        lambda: [OPENINGS in one["annotations"] for one in agents(opened).values()] == [False], "a new one waits"
    )


@requirement("egress.withdrawn")
def test_without_a_withdrawal_the_old_pod_stays_until_a_new_one_is_ready(opened: Sandbox) -> None:
    [old] = agents(opened)

    change(opened, podTemplate={"default": NOWHERE})

    eventually(lambda: len(agents(opened)) == 2, "there is a new pod, which waits")
    assert old in agents(opened)


@requirement("egress.cut-out")
def test_the_addresses_of_services_are_left_out_as_the_cluster_names_them(opened: Sandbox) -> None:
    service_cidrs = opened.api.request("GET", "/apis/networking.k8s.io/v1/servicecidrs")["items"]
    services = [ip_network(cidr) for one in service_cidrs for cidr in one["spec"]["cidrs"]]
    assert services

    [block] = [peer["ipBlock"] for rule in rules(opened) for peer in rule["to"] if "ipBlock" in peer]

    excepted = [ip_network(one) for one in block["except"]]
    for service in services:
        inside = service.version == 4 and service.subnet_of(ip_network("10.0.0.0/8"))
        assert not inside or any(service.subnet_of(one) for one in excepted if one.version == service.version)
