"""examples/06-kill on real pods: nothing runs on the node any more, and nothing comes back before `off`."""

import json
import time
from typing import Any

import pytest

from tests.e2e.live import Live, always, eventually
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, check_promise
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(420)]

AGENT = "first-agent"
KILL_SECONDS = 5.0


def recorded(live: Live) -> dict[str, Any]:
    found: dict[str, Any] = live.get("agents.interlock.dev", AGENT)["status"]["kill"]
    return found


@requirement("kill.on-a-cluster")
def test_a_kill_ends_every_container_on_the_node_and_only_off_brings_them_back(live: Live) -> None:
    objects = example_objects("01-first-agent", live.namespace)
    live.apply(*objects)
    live.until_ready(AGENT)
    assert live.running_containers()

    began = time.monotonic()
    live.annotate(AGENT, "INC-42 wrong mails")
    eventually(lambda: not live.running_containers(), KILL_SECONDS * TOLERANCE, lambda: str(live.running_containers()))
    check_promise(time.monotonic() - began, KILL_SECONDS, "no container of a killed agent runs on its node")
    live.until_condition(AGENT, "Killed", "True")
    eventually(lambda: "zeroPodsAt" in recorded(live), 60, lambda: str(recorded(live)))

    def nothing_runs() -> bool:
        return not live.running_containers()

    def describe() -> str:
        return str(live.running_containers())

    live.kubectl("-n", live.namespace, "scale", "deployment", "--all", "--replicas=2")
    always(lambda: nothing_runs() and not live.starting_pods(AGENT), 3, describe)
    live.restart_operator()
    always(nothing_runs, 2, describe)
    live.apply(find(objects, "Agent"))
    always(nothing_runs, 2, describe)
    removed = live.attempt(
        "-n", live.namespace, "annotate", "agents.interlock.dev", AGENT, "interlock.dev/kill-switch-"
    )
    assert "removing interlock.dev/kill-switch does not release it: set it to off" in removed.stderr
    always(nothing_runs, 2, describe)
    kill = recorded(live)
    assert kill["reason"] == "INC-42 wrong mails"
    assert kill["zeroPodsAt"] >= kill["requestedAt"]

    live.annotate(AGENT, "off")
    live.until_ready(AGENT)
    eventually(lambda: "releasedAt" in recorded(live), 60, lambda: str(recorded(live)))
    assert recorded(live)["releasedAt"] >= kill["requestedAt"]


def test_an_agent_that_is_created_killed_never_gets_a_pod(live: Live) -> None:
    live.apply(*example_objects("01-first-agent", live.namespace, "2-policy.yaml"))
    live.apply(*example_objects("06-kill", live.namespace))
    always(lambda: not live.pods("born-killed"), 8, lambda: json.dumps(live.pods("born-killed"))[:500])
    live.until_condition("born-killed", "Killed", "True")
    assert live.condition("born-killed", "Ready")["reason"] == "KillSwitch"
