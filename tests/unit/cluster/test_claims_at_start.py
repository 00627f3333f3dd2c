"""No Deployment that asks for pods is written while a pod of others uses one of its claims."""

import copy
from typing import Any

import pytest

from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.plan import WritePlan, desired_children, plan_children
from interlock_kube.watch import METADATA_PAGE
from tests.support.builders import a_placement
from tests.support.fake_client import FakeClient

AGENT = ("agents", "triage")
MANIFESTS = desired_children(a_placement())
POD = "/api/v1/namespaces/agents/pods/other"


def a_plan(*, replicas: int = 1, claim: str | None = "files") -> WritePlan:
    manifests = copy.deepcopy(MANIFESTS)
    for one in manifests:
        if one["kind"] == "Deployment":
            one["spec"]["replicas"] = replicas
            volume = {"name": "v", "persistentVolumeClaim": {"claimName": claim}}
            one["spec"]["template"]["spec"]["volumes"] += [volume] if claim else []
    return plan_children(manifests, {}, {})


def a_pod(claims: str = "files", *, phase: str = "Running", **labels: str) -> dict[str, Any]:
    metadata = {"name": "other", "namespace": "agents", "annotations": {"interlock.dev/claims": claims}}
    metadata |= {"labels": {"interlock.dev/has-claims": "true", "app.kubernetes.io/managed-by": "interlock", **labels}}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase}}


async def carry_out(plan: WritePlan, pod: dict[str, Any]) -> FakeClient:
    client = FakeClient()
    client.put(POD, pod)
    await Applier(client, ChildCache()).carry_out(plan, *AGENT, {})  # type: ignore[arg-type]
    return client


@pytest.mark.parametrize("claims", ["files", "index,files"])
async def test_a_pod_of_another_agent_or_placement_is_waited_for(claims: str) -> None:
    with pytest.raises(ApplyFailed, match="waits for the end of pod other, because both use claim files"):
        await carry_out(a_plan(), a_pod(claims))


async def test_a_pod_of_a_later_page_is_waited_for() -> None:
    client = FakeClient()
    for number in range(METADATA_PAGE):
        client.put(f"{POD}-{number}", a_pod("index"))
    client.put(POD, a_pod())
    with pytest.raises(ApplyFailed, match="waits for the end of pod other"):
        await Applier(client, ChildCache()).carry_out(a_plan(), *AGENT, {})  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_a_pod_that_has_ended_for_good_is_not_waited_for(phase: str) -> None:
    assert (await carry_out(a_plan(), a_pod(phase=phase))).of_kind("Deployment")


async def test_a_pod_of_a_user_that_claims_to_use_it_is_not_waited_for() -> None:
    pod = a_pod(**{"app.kubernetes.io/managed-by": "helm"})
    assert (await carry_out(a_plan(), pod)).of_kind("Deployment")


async def test_its_own_pods_are_not_waited_for() -> None:
    own = next(one["spec"]["selector"]["matchLabels"] for one in MANIFESTS if one["kind"] == "Deployment")
    assert (await carry_out(a_plan(), a_pod(**own))).of_kind("Deployment")


@pytest.mark.parametrize(
    ("plan", "claims"),
    [(a_plan(), "index"), (a_plan(claim=None), "files"), (a_plan(replicas=0), "files")],
    ids=["another claim", "no claim", "no pods"],
)
async def test_nothing_else_is_waited_for(plan: WritePlan, claims: str) -> None:
    assert (await carry_out(plan, a_pod(claims))).of_kind("Deployment")


async def test_without_an_answer_no_pod_starts() -> None:
    client = FakeClient()
    client.refuse("GET", "/pods")
    with pytest.raises(ApplyFailed, match="no GET today"):
        await Applier(client, ChildCache()).carry_out(a_plan(), *AGENT, {})  # type: ignore[arg-type]
    assert not client.of_kind("Deployment")
