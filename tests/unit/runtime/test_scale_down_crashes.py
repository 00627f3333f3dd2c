"""An operator that ends at any write of a scale-down is followed by one that goes on, and ends the same pods."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from interlock.deployment.names import Manifest
from interlock.deployment.observed.pod_reports import AgentPods, PodReport, read_pod
from interlock_contract.bundle import BUNDLE_KEY, parse_bundle
from tests.requirements import requirement
from tests.support.builders import NOW, an_agent, hours, seconds
from tests.support.simulation import group_of
from tests.unit.runtime.test_agent_reconciler import Operator
from tests.unit.runtime.test_rollout_crashes import converge, end_at, every_other

AGENT = an_agent().in_environment("development").taking_tasks()
PODS = "/api/v1/namespaces/agents/pods"
WRITES = 20


class ScaledOperator(Operator):
    """An operator whose Deployment has pods: those that are marked are deleted first."""

    def restart(self) -> "ScaledOperator":
        return ScaledOperator(self.client, self.now)

    def serve(self) -> None:
        super().serve()
        for path, found in self.client.of_kind("Deployment").items():
            pods = sorted(self._pods(), key=lambda one: read_pod(one).is_marked is True)
            wanted = found["spec"]["replicas"]
            for pod in pods[wanted:]:
                del self.client.objects[f"{PODS}/{pod['metadata']['name']}"]
            for number in range(len(pods), wanted):
                name = f"{path.rpartition('/')[2]}-{number}"
                said = found["spec"]["template"]["metadata"]
                metadata = {"name": name, "uid": name, "labels": said["labels"], "annotations": said["annotations"]}
                self.client.put(f"{PODS}/{name}", {"kind": "Pod", "metadata": metadata})

    def pods(self) -> AgentPods:
        [workload, *others] = self.client.of_kind("Deployment").values() or [None]
        assert not others
        return (
            AgentPods() if workload is None else AgentPods(tuple(self._report(one, workload) for one in self._pods()))
        )

    def _pods(self) -> list[Manifest]:
        return list(self.client.of_kind("Pod").values())

    def _report(self, pod: Manifest, workload: Manifest) -> PodReport:
        return replace(read_pod(pod), group=group_of(workload), ready_since=NOW - hours(1))

    @property
    def names(self) -> set[str]:
        return {one["metadata"]["name"] for one in self._pods()}


def draining(operator: Operator) -> Iterator[tuple[str, ...]]:
    for found in operator.client.of_kind("ConfigMap").values():
        if BUNDLE_KEY in (found.get("data") or {}):
            yield parse_bundle(found["data"][BUNDLE_KEY]).draining_pods


async def a_running_agent() -> ScaledOperator:
    operator = ScaledOperator()
    operator.apply(AGENT.with_replicas(3))
    await operator.converge()
    assert len(operator.names) == 3
    return operator


async def scale_down(operator: Operator) -> Operator:
    operator.apply(AGENT.with_replicas(1))
    operator = await converge(operator)
    operator.now += seconds(30)
    return await converge(operator)


@requirement("operator.converges")
@pytest.mark.parametrize("nth", every_other(WRITES))
async def test_a_scale_down_survives_an_operator_that_ends_at_any_write(nth: int) -> None:
    operator = await a_running_agent()
    written = end_at(operator.client, nth)

    ended = await scale_down(operator)

    assert len(written) < WRITES, "each write is tried"
    assert isinstance(ended, ScaledOperator)
    assert len(ended.names) == 1
    assert list(draining(ended)) == [()]
    [workload] = ended.client.of_kind("Deployment").values()
    assert workload["spec"]["replicas"] == 1
    assert [read_pod(one).is_marked for one in ended.client.of_kind("Pod").values()] == [False], "Services lead to it"
