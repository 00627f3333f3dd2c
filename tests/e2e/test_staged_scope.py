"""examples/05-staged-scope on real pods: the stage's scope is enforced, and soaks survive the operator.

Three agents soak next to each other: one passes all stages, one keeps ending, and one loses its pod.
"""

import copy
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from interlock_contract.clock import read_time, utc_now
from tests.e2e.live import Live, eventually
from tests.e2e.rollouts import Staged
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(600)]

AGENT, ENDING, PAUSED = "support-triage", "ends-again", "loses-its-pod"
SOAK = timedelta(seconds=12)
ENDS = 2
ENDING_SOAK, RUN_SECONDS = "55s", 30
"""Each run is far shorter than the soak, also where a busy kubelet reports its end late, and two of them are longer."""


def _objects(namespace: str) -> list[dict[str, Any]]:
    """Return the example with soaks as short as a test can be, and the two other agents."""
    objects = example_objects("05-staged-scope", namespace)
    seconds = f"{SOAK.seconds}s"
    policy, agent = find(objects, "AgentPolicy"), find(objects, "Agent")
    policy["spec"]["rollout"] |= {"minStaging": seconds, "minLimitedScope": seconds}
    policy["spec"]["dataAccess"][0]["agents"] = [AGENT, ENDING, PAUSED]
    run = ["python", "-c", f"import time; time.sleep({RUN_SECONDS})"]
    others = [_soaking(agent, ENDING, ENDING_SOAK, command=run), _soaking(agent, PAUSED, "1h")]
    return [*(one for one in objects if one is not agent), _soaking(agent, AGENT, seconds), *others]


def _soaking(agent: dict[str, Any], name: str, soak: str, **template: Any) -> dict[str, Any]:
    """Return a copy of an Agent with another name, and a soak of this length in each stage."""
    made = copy.deepcopy(agent)
    made["metadata"]["name"] = name
    made["spec"]["template"] |= template
    for stage in made["spec"]["rollout"]["stages"][:-1]:
        stage["minDuration"] = soak
    return made


@pytest.fixture(scope="module")
def soaking(shared: Live) -> Live:
    shared.apply(*_objects(shared.namespace))
    for name in (AGENT, ENDING, PAUSED):
        eventually(lambda name=name: "name" in shared.stage(name), 90, lambda name=name: str(shared.stage(name)))
    _require_limited_scope(shared, "1h")  # holds the last stage back until everything before it was seen
    return shared


def _require_limited_scope(live: Live, minimum: str) -> None:
    patch = json.dumps({"spec": {"rollout": {"minLimitedScope": minimum}}})
    live.kubectl("-n", live.namespace, "patch", "agentpolicy", "support", "--type=merge", "-p", patch)


def _until_stage(live: Live, name: str) -> None:
    eventually(lambda: live.stage(AGENT).get("name") == name, 90, lambda: str(live.stage(AGENT)))


def _ends(live: Live) -> int:
    """Return how often the kubelet has started the container of the agent that keeps ending again."""
    pods = live.pods_with(ENDING, "agent")
    statuses = [one for pod in pods for one in pod.get("status", {}).get("containerStatuses", [])]
    return sum(one["restartCount"] for one in statuses if one["name"] == "agent")


def _ready_seconds(live: Live) -> float:
    """Return how long the stage of the agent that loses its pod has been Ready by now."""
    now = utc_now()
    return (now - read_time(live.stage(PAUSED).get("readySince"), now)).total_seconds()


@requirement("rollout.on-a-cluster")
def test_the_other_region_is_denied_until_everywhere_also_across_an_operator_restart(soaking: Live) -> None:
    live = soaking
    _until_stage(live, "one-region")
    live.until_said(AGENT, "denied: OutOfScope list_contacts region=us-east")
    live.until_said(AGENT, "allowed: list_contacts region=eu-west: 3 found")  # of the production account
    live.until_ready(AGENT)
    before = live.stage(AGENT)
    live.restart_operator()
    after = live.stage(AGENT)
    kept = ("name", "enteredAt", "readySince")
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert {one["reason"] for one in live.decisions(AGENT) if one["decision"] == "Deny"} >= {"OutOfScope"}

    _require_limited_scope(live, f"{SOAK.seconds}s")
    _until_stage(live, "everywhere")
    entered = datetime.fromisoformat(live.stage(AGENT)["enteredAt"])
    assert entered >= datetime.fromisoformat(before["readySince"]) + SOAK
    live.until_said(AGENT, "allowed: list_contacts region=us-east: 2 found")
    live.until_ready(AGENT)
    Staged(live, AGENT).until_good(1)


@requirement("rollout.soak-on-a-cluster")
def test_a_pod_that_is_deleted_pauses_the_soak_and_starts_nothing_again(soaking: Live) -> None:
    live = soaking
    live.until_ready(PAUSED)
    live.until_said(PAUSED, "allowed: list_contacts region=us-east")  # staging has no scope
    eventually(lambda: _ready_seconds(live) >= 2, 30, lambda: str(live.stage(PAUSED)))  # status counts whole seconds
    [pod] = [found["metadata"]["name"] for found in live.pods_with(PAUSED, "agent")]
    live.kubectl("-n", live.namespace, "delete", "pod", pod)
    eventually(lambda: live.stage(PAUSED).get("soakedSeconds", 0) > 0, 60, lambda: str(live.stage(PAUSED)))
    live.until_ready(PAUSED)
    eventually(lambda: "readySince" in live.stage(PAUSED), 60, lambda: str(live.stage(PAUSED)))
    stage = live.stage(PAUSED)
    assert (stage["name"], stage["restarts"]) == ("staging", 0)
    assert "soakRestartedAt" not in stage


@requirement("rollout.soak-on-a-cluster")
def test_an_agent_that_ends_again_and_again_is_not_promoted(soaking: Live) -> None:
    live = soaking
    eventually(lambda: _ends(live) >= ENDS, 240, lambda: f"{_ends(live)} ends, {live.stage(ENDING)}")
    eventually(lambda: "soakRestartedAt" in live.stage(ENDING), 30, lambda: str(live.stage(ENDING)))
    stage = live.stage(ENDING)
    found = json.dumps([stage, *(pod["status"] for pod in live.pods_with(ENDING, "agent"))])
    assert stage["name"] == "staging", f"no stage goes back, so it was in no other one: {found}"
    said = live.condition(ENDING, "PromotionPending")
    assert said["status"] == "True"
    assert "the agent's container ended by itself more often than spec.rollout.maxRestarts (0)" in said["message"]

    def reasons() -> set[str]:
        events = live.items("events.events.k8s.io")
        return {event["reason"] for event in events if event["regarding"].get("name") == ENDING}

    eventually(lambda: "SoakRestarted" in reasons(), 30, lambda: str(reasons()))
