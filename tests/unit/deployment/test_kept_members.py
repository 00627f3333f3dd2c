"""Deployments whose pods stay as they are, since it cannot be read where they must run, or with which resources."""

from typing import Any

from interlock.deployment.children.scheduling import scheduling_digest
from interlock.deployment.kept_members import keep_members
from interlock.deployment.names import key_of
from interlock.deployment.plan import LiveChild
from interlock_contract.names import SCHEDULING_DIGEST


def deployment(name: str = "triage", **pod: Any) -> dict[str, Any]:
    spec = {"replicas": 2, "template": {"metadata": {"labels": {}}, "spec": {"containers": [], **pod}}}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": spec}


LIVE = deployment(affinity={"nodeAffinity": {}}, nodeSelector={"pool": "agents"}, tolerations=[{"key": "a"}])
CHILDREN = {key_of(LIVE): LiveChild(LIVE)}
WANTED = deployment(nodeSelector={"pool": "others"}, dnsPolicy="None", priorityClassName="low")


def test_members_that_cannot_be_read_are_those_of_the_live_deployment() -> None:
    (found,) = keep_members([WANTED], CHILDREN, {"affinity", "tolerations", "priorityClassName"})
    kept = deployment(
        affinity={"nodeAffinity": {}}, tolerations=[{"key": "a"}], nodeSelector={"pool": "others"}, dnsPolicy="None"
    )
    assert found["spec"] == kept["spec"]
    digest = scheduling_digest(kept["spec"]["template"]["spec"])
    assert found["metadata"] == {"name": "triage", "annotations": {SCHEDULING_DIGEST: digest}}


def test_a_deployment_that_does_not_exist_yet_waits_until_all_can_be_read() -> None:
    service = {"kind": "Service", "metadata": {"name": "new"}}
    assert keep_members([service, deployment("new"), WANTED], CHILDREN, {"dnsPolicy"})[0] == service
    assert [one["metadata"]["name"] for one in keep_members([deployment("new"), WANTED], CHILDREN, {"x"})] == ["triage"]


def test_nothing_changes_where_all_can_be_read() -> None:
    assert keep_members([deployment("new"), WANTED], CHILDREN, ()) == (deployment("new"), WANTED)


def with_resources(cpu: str) -> dict[str, Any]:
    resources = {"limits": {"cpu": cpu}}
    names = ("guard", "launcher", "egress-check", "mcp-crm", "agent")
    guard, *others = ({"name": name, "resources": resources} for name in names)
    return deployment(containers=[guard], initContainers=others)


def test_own_containers_have_the_resources_of_the_live_ones_and_others_those_of_today() -> None:
    live, today = with_resources("1"), with_resources("2")
    found = keep_members([today], {key_of(live): LiveChild(live)}, (), own_resources=True)[0]["spec"]["template"][
        "spec"
    ]
    amounts = {one["name"]: one["resources"]["limits"]["cpu"] for name in found for one in found[name]}
    assert amounts == {"guard": "1", "launcher": "1", "egress-check": "1", "mcp-crm": "2", "agent": "2"}
    assert keep_members([today], {}, (), own_resources=True) == (), "a new Deployment waits"
