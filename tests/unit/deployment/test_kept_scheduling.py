"""Deployments whose pods stay where they run, since it cannot be read where they must run."""

from typing import Any

from interlock.deployment.children.scheduling import scheduling_digest
from interlock.deployment.kept_scheduling import keep_scheduling
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
    (found,) = keep_scheduling([WANTED], CHILDREN, {"affinity", "tolerations", "priorityClassName"})
    kept = deployment(
        affinity={"nodeAffinity": {}}, tolerations=[{"key": "a"}], nodeSelector={"pool": "others"}, dnsPolicy="None"
    )
    assert found["spec"] == kept["spec"]
    digest = scheduling_digest(kept["spec"]["template"]["spec"])
    assert found["metadata"] == {"name": "triage", "annotations": {SCHEDULING_DIGEST: digest}}


def test_a_deployment_that_does_not_exist_yet_waits_until_all_can_be_read() -> None:
    service = {"kind": "Service", "metadata": {"name": "new"}}
    assert keep_scheduling([service, deployment("new"), WANTED], CHILDREN, {"dnsPolicy"})[0] == service
    assert [one["metadata"]["name"] for one in keep_scheduling([deployment("new"), WANTED], CHILDREN, {"x"})] == [
        "triage"
    ]


def test_nothing_changes_where_all_can_be_read() -> None:
    assert keep_scheduling([deployment("new"), WANTED], CHILDREN, ()) == (deployment("new"), WANTED)
