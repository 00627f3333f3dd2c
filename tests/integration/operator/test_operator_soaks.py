"""What a soak counts: the test is the kubelet, and reports readiness and ends of the agent's container.

The soaks last an hour, so that no test depends on how fast the machine is.
"""

from datetime import datetime, timedelta
from typing import Any

import pytest

from interlock_contract.clock import utc_now
from tests.integration.operator import objects
from tests.integration.operator.api import MERGE_PATCH, Json, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

AGENT = "triage"
SOAK = timedelta(hours=1)
ENDED = {"exitCode": 1, "reason": "Error", "startedAt": "2026-03-02T09:00:00Z", "finishedAt": "2026-03-02T09:00:20Z"}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


class Soak:
    """An agent in the first of two stages, and its kubelet."""

    def __init__(self, sandbox: Sandbox, **rollout: Any) -> None:
        self.sandbox = sandbox
        sandbox.apply_policy_and_bindings(AGENT, production=True)
        stages = objects.stages("1h")["stages"]
        sandbox.create(AGENT, rollout={"stages": [stages[0], stages[2]], **rollout})
        sandbox.wait_ready(AGENT)

    @property
    def stage(self) -> Json:
        found: Json = self.sandbox.agent(AGENT)["status"]["stage"]
        return found

    def until(self, what: str, **values: Any) -> Json:
        """Wait until fields of the stage have these values; None is an absent one."""

        def find() -> Json | None:
            stage = self.stage
            return stage if {name: stage.get(name) for name in values} == values else None

        return eventually(find, what)

    def until_ready(self) -> Json:
        eventually(lambda: "readySince" in self.stage, "it is Ready")
        return self.stage

    def until_some_time_counts(self) -> None:
        since = moment(self.until_ready()["readySince"])
        eventually(lambda: utc_now() - since > timedelta(seconds=2), "two seconds have passed")

    def pod(self) -> Json:
        """Return the agent's pod, once it is the only one and the simulated kubelet writes no other status later."""

        def only() -> Json | None:
            pods = [pod for pod in self.sandbox.pods(AGENT) if "deletionTimestamp" not in pod["metadata"]]
            return pods[0] if len(pods) == 1 and "podIP" in pods[0].get("status", {}) else None

        return eventually(only, "one pod")

    def report(self, *, ready: bool, restarts: int = 0) -> None:
        """Report the pod as the kubelet does."""
        pod = self.pod()
        ready_now = {"type": "Ready", "status": str(ready), "lastTransitionTime": now()}
        conditions = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
        statuses = [one for one in pod["status"].get("containerStatuses", []) if one["name"] != "agent"]
        agent = {
            "name": "agent",
            "image": "registry.example.com/agent:1.0",
            "imageID": "",
            "ready": ready,
            "restartCount": restarts,
            "state": {"running": {"startedAt": now()}},
            "lastState": {"terminated": ENDED} if restarts else {},
        }
        status = {"conditions": [*conditions, ready_now], "containerStatuses": [*statuses, agent]}
        path = f"/api/v1/namespaces/{self.sandbox.namespace}/pods/{pod['metadata']['name']}/status"
        self.sandbox.api.request("PATCH", path, {"status": status}, MERGE_PATCH)


def now() -> str:
    return utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")


@requirement("rollout.pause")
def test_lost_readiness_pauses_the_soak(operator: OperatorProcess, sandbox: Sandbox) -> None:
    soak = Soak(sandbox)
    soak.until_some_time_counts()
    soak.report(ready=False)
    paused = soak.until("it is paused", readySince=None, nextAt=None)
    assert paused["soakedSeconds"] >= 1
    assert "is paused at" in sandbox.condition(AGENT, "PromotionPending")["message"]

    soak.report(ready=True)
    resumed = soak.until_ready()
    assert resumed["soakedSeconds"] == paused["soakedSeconds"]
    counted = timedelta(seconds=resumed["soakedSeconds"])
    assert moment(resumed["nextAt"]) == moment(resumed["readySince"]) + SOAK - counted


@requirement("rollout.restarts")
def test_an_end_of_the_agents_container_starts_the_soak_again(operator: OperatorProcess, sandbox: Sandbox) -> None:
    soak = Soak(sandbox)
    soak.until_some_time_counts()
    before = soak.stage
    soak.report(ready=True, restarts=1)  # it is back before the operator saw that it was gone
    again = eventually(lambda: soak.stage if "soakRestartedAt" in soak.stage else None, "the soak starts again")
    assert (again["soakedSeconds"], again["restarts"]) == (0, 0)
    assert moment(again["readySince"]) > moment(before["readySince"])
    [counted] = again["restartedPods"]
    assert counted == {"uid": soak.pod()["metadata"]["uid"], "restarts": 1}
    eventually(lambda: "SoakRestarted" in {event["reason"] for event in events(sandbox)}, "an Event says so")


def events(sandbox: Sandbox) -> list[Json]:
    return sandbox.api.listed("events", sandbox.namespace)


@requirement("rollout.restarts", "rollout.pause")
def test_allowed_ends_are_counted_also_in_pods_that_are_gone_and_a_pod_that_is_deleted_only_pauses(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    soak = Soak(sandbox, maxRestarts=1)
    soak.until_some_time_counts()
    soak.report(ready=False, restarts=1)
    counted = soak.until("one end is counted", restarts=1, readySince=None)["soakedSeconds"]
    assert counted >= 1
    soak.report(ready=True, restarts=1)
    soak.until_ready()
    first = soak.pod()["metadata"]
    sandbox.api.delete("pods", sandbox.namespace, first["name"])
    eventually(lambda: soak.pod()["metadata"]["uid"] != first["uid"], "another pod is there")
    soak.until("the pod that is gone is forgotten, its end is not", restarts=1, restartedPods=[])
    stage = soak.until_ready()
    assert "soakRestartedAt" not in stage
    assert stage["soakedSeconds"] >= counted

    soak.report(ready=False, restarts=1)
    again = eventually(lambda: soak.stage if "soakRestartedAt" in soak.stage else None, "the soak starts again")
    assert (again["soakedSeconds"], again["restarts"]) == (0, 0)


@requirement("rollout.unproven", "rollout.restart")
def test_what_no_operator_saw_counts_only_where_the_pod_shows_it(operator: OperatorProcess, sandbox: Sandbox) -> None:
    soak = Soak(sandbox)
    soak.until_some_time_counts()
    before = soak.stage
    operator.kill()
    operator.start()
    sandbox.api.patch("agents", sandbox.namespace, AGENT, {"spec": {"purpose": "Sort tickets"}})
    sandbox.wait_ready(AGENT)  # it was reconciled
    assert soak.stage == before, "the pod was Ready all the while"

    operator.kill()
    soak.report(ready=False)
    soak.report(ready=True)
    operator.start()
    after = eventually(
        lambda: soak.stage if soak.stage.get("readySince") != before["readySince"] else None, "the soak has moved"
    )
    after = soak.until_ready() if "readySince" not in after else after
    assert after["soakedSeconds"] == 0
    assert moment(after["readySince"]) > moment(before["readySince"]) + timedelta(seconds=2)


@pytest.mark.nightly
@requirement("rollout.restarts")
def test_an_end_that_no_operator_saw_starts_the_soak_again(operator: OperatorProcess, sandbox: Sandbox) -> None:
    soak = Soak(sandbox)
    soak.until_some_time_counts()
    operator.kill()
    soak.report(ready=True, restarts=1)
    operator.start()
    eventually(lambda: "soakRestartedAt" in soak.stage, "the soak starts again")
