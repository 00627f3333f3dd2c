"""A way out that is withdrawn, seen by a whole reconcile: closed first, then the pods that were started with it end.

Only then their Deployment changes, see `pod_ends`.
"""

import copy
from dataclasses import replace
from typing import Any

from interlock.deployment.observed.pod_reports import AgentPods
from interlock.deployment.openings import openings_in
from tests.requirements import requirement
from tests.support.builders import a_policy, an_agent, seconds
from tests.support.fake_client import FakeClient
from tests.unit.runtime.test_agent_reconciler import PODS, Operator

POLICY = a_policy().isolating(development="Separate")
OPEN = POLICY.opening({}, {"to": [{"podSelector": {"matchLabels": {"app": "pg"}}}]})


class AddressingClient(FakeClient):
    """An API server that gives Services an address."""

    def _store(self, path: str, manifest: dict[str, Any]) -> dict[str, Any]:
        if manifest.get("kind") == "Service":
            manifest["spec"].setdefault("clusterIP", "10.96.0.41")
        return super()._store(path, manifest)


class OpeningOperator(Operator):
    """An operator whose pods say what they were started with, whatever their Deployments say by now."""

    started: dict[str, str]
    altered = ""
    """What a webhook writes in place of what pods were started with, in new pods; empty for none."""

    def start_pods(self) -> None:
        self.started = {
            path: openings_in(found["spec"]["template"]["metadata"]["annotations"])
            for path, found in self.client.of_kind("Deployment").items()
        }

    def pods(self) -> AgentPods:
        found = super().pods()
        started = getattr(self, "started", {})
        named = (
            replace(one, name=one.group.component, openings=started.get(one.uid, ""), template_hash="5d8")
            for one in found.reports
        )
        reports = tuple(named)
        if self.altered:
            reports = tuple(replace(one, uid=f"{self.altered}-{one.name}", openings=self.altered) for one in reports)
        return replace(found, reports=reports)


async def an_agent_with_ways_out() -> OpeningOperator:
    operator = OpeningOperator(AddressingClient())
    operator.resources.put_policy(OPEN.at_version(7).to_kubernetes())
    operator.apply(an_agent().in_environment("development"))
    await operator.converge()
    operator.start_pods()
    operator.client.forget_requests()
    return operator


def ended(operator: OpeningOperator) -> list[str]:
    """Return the pods that were deleted one by one, not as those of a revision that another one has replaced."""
    return [path for method, path in operator.client.requests if method == "DELETE" and path.startswith(f"{PODS}/")]


@requirement("egress.withdrawn")
async def test_a_pod_with_a_withdrawn_way_ends_after_that_is_closed() -> None:
    operator = await an_agent_with_ways_out()
    assert [one for one in operator.started.values() if one], "the agent's pod was started with ways out"

    operator.resources.put_policy(POLICY.opening({}).at_version(8).to_kubernetes())
    assert await operator.reconcile_agent()

    requests = operator.client.requests
    assert ended(operator) == [f"{PODS}/agent"]
    closed = [at for at, (method, path) in enumerate(requests) if method == "PATCH" and "/networkpolicies/" in path]
    replaced = [at for at, (method, path) in enumerate(requests) if method == "PATCH" and "/deployments/" in path]
    assert max(closed) < requests.index(("DELETE", f"{PODS}/agent")) < min(replaced)
    assert any(method == "DELETE" and "replicasets?" in path and "5d8" in path for method, path in requests)
    [event] = [one for one in operator.client.of_kind("Event").values() if one["reason"] == "OpeningsWithdrawn"]
    assert event["note"].startswith("deleted pods agent, because they were started with a way out")


@requirement("egress.withdrawn")
async def test_a_way_that_is_added_or_wider_ends_no_pod() -> None:
    operator = await an_agent_with_ways_out()

    wider = POLICY.opening({"to": [{"cidr": "10.0.0.0/8"}]}, {"to": [{"podSelector": {"matchLabels": {"app": "pg"}}}]})
    operator.resources.put_policy(wider.at_version(8).to_kubernetes())
    await operator.converge()

    assert ended(operator) == []
    assert all(one["reason"] != "OpeningsWithdrawn" for one in operator.client.of_kind("Event").values())


@requirement("egress.withdrawn")
async def test_a_refused_deletion_of_something_else_keeps_no_pod_with_a_withdrawn_way() -> None:
    operator = await an_agent_with_ways_out()
    path, known = next(iter(operator.client.of_kind("ConfigMap").items()))
    stray = copy.deepcopy(known) | {"data": {"a": "b"}}
    stray["metadata"] |= {"name": "stray", "uid": "stray"}
    operator.client.put(f"{path.rpartition('/')[0]}/stray", stray)
    operator.client.refuse("DELETE", "/configmaps/stray", status=403, times=100)
    operator.watch()

    operator.resources.put_policy(POLICY.opening({}).at_version(8).to_kubernetes())
    assert not await operator.reconcile_agent()

    assert set(ended(operator)) == {f"{PODS}/agent"}
    assert "stray" in operator.condition("Deployed").message


@requirement("egress.withdrawn")
async def test_where_a_webhook_alters_what_each_new_pod_says_its_pods_end_in_turn_and_an_event_says_why() -> None:
    operator = await an_agent_with_ways_out()
    number = 0

    async def starts_altered_pods() -> int:
        """Reconcile once with new pods that say what they were not started with; return how many of them ended."""
        nonlocal number
        number += 1
        operator.altered = f"altered-{number}"
        operator.client.forget_requests()
        assert await operator.reconcile_agent()
        return len(ended(operator))

    for _ in range(3):
        assert await starts_altered_pods() > 0
        operator.now += seconds(10)
    operator.now -= seconds(9)

    assert await starts_altered_pods() == 0
    [event] = [one for one in operator.client.of_kind("Event").values() if one["reason"] == "OpeningsAltered"]
    cause = "something else than Interlock, such as an admission webhook, changes their annotation"
    assert cause in event["note"]
    egress = operator.condition("EgressEnforced")
    assert egress.reason == "OpeningsAltered"
    assert egress.message.startswith("new pods say that they were started with more")
    assert cause in egress.message
    operator.now += seconds(20)
    assert await starts_altered_pods() > 0
    operator.altered = ""
    operator.now += seconds(700)
    await operator.reconcile_agent()
    assert operator.condition("EgressEnforced").reason != "OpeningsAltered"
