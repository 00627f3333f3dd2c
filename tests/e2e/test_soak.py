"""Soaks on real pods: an agent that keeps ending is not promoted, and a pod that is deleted costs no time."""

from typing import Any

import pytest

from interlock_contract.clock import read_time, utc_now
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(420)]

AGENT = "support-triage"
ENDS = 2
SOAK_SECONDS, RUN_SECONDS = 18, 10
"""Each run is far shorter than the soak, and two of them are longer."""


def _objects(namespace: str, soak: str, **template: Any) -> list[dict[str, Any]]:
    """Return the example with a soak of this length in each stage."""
    objects = example_objects("05-staged-scope", namespace)
    find(objects, "AgentPolicy")["spec"]["rollout"] |= {"minStaging": soak, "minLimitedScope": soak}
    spec = find(objects, "Agent")["spec"]
    spec["template"] |= template
    for stage in spec["rollout"]["stages"][:-1]:
        stage["minDuration"] = soak
    return objects


def _ends(live: Live) -> int:
    """Return how often the kubelet has started the agent's container again."""
    pods = live.pods_with(AGENT, "agent")
    statuses = [one for pod in pods for one in pod.get("status", {}).get("containerStatuses", [])]
    return sum(one["restartCount"] for one in statuses if one["name"] == "agent")


def _ready_seconds(live: Live) -> float:
    """Return how long the stage has been Ready by now."""
    now = utc_now()
    return (now - read_time(live.stage(AGENT).get("readySince"), now)).total_seconds()


@requirement("rollout.soak-on-a-cluster")
def test_an_agent_that_ends_again_and_again_is_not_promoted(live: Live) -> None:
    run = ["python", "-c", f"import time; time.sleep({RUN_SECONDS})"]
    live.apply(*_objects(live.namespace, f"{SOAK_SECONDS}s", command=run))
    stages = set()

    def has_ended_often() -> bool:
        stages.add(live.stage(AGENT).get("name", "staging"))
        return _ends(live) >= ENDS

    eventually(has_ended_often, 240, lambda: f"{_ends(live)} ends, {live.stage(AGENT)}")
    assert stages == {"staging"}
    eventually(lambda: "soakRestartedAt" in live.stage(AGENT), 30, lambda: str(live.stage(AGENT)))
    said = live.condition(AGENT, "PromotionPending")
    assert said["status"] == "True"
    assert "the agent's container ended by itself more often than spec.rollout.maxRestarts (0)" in said["message"]

    def reasons() -> set[str]:
        return {event["reason"] for event in live.items("events.events.k8s.io")}

    eventually(lambda: "SoakRestarted" in reasons(), 30, lambda: str(reasons()))


@requirement("rollout.soak-on-a-cluster")
def test_a_pod_that_is_deleted_pauses_the_soak_and_starts_nothing_again(live: Live) -> None:
    live.apply(*_objects(live.namespace, "1h"))
    live.until_ready(AGENT)
    live.until_said(AGENT, "allowed: list_contacts region=us-east")
    eventually(lambda: _ready_seconds(live) >= 2, 30, lambda: str(live.stage(AGENT)))  # status counts whole seconds
    [pod] = [found["metadata"]["name"] for found in live.pods_with(AGENT, "agent")]
    live.kubectl("-n", live.namespace, "delete", "pod", pod)
    eventually(lambda: live.stage(AGENT).get("soakedSeconds", 0) > 0, 60, lambda: str(live.stage(AGENT)))
    live.until_ready(AGENT)
    eventually(lambda: "readySince" in live.stage(AGENT), 60, lambda: str(live.stage(AGENT)))
    stage = live.stage(AGENT)
    assert (stage["name"], stage["restarts"]) == ("staging", 0)
    assert "soakRestartedAt" not in stage
