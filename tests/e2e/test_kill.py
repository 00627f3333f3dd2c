"""The end of an agent on real pods: a kill (examples/06-kill), a policy that goes away, and a deletion.

After a kill nothing runs on the node any more, and nothing comes back before `off`.
"""

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
PRUNE_SECONDS = 10


@pytest.fixture
def agent(shared: Live) -> Live:
    """The namespace of the module with the first example, whose agent is ready."""
    shared.apply(*example_objects("01-first-agent", shared.namespace))
    shared.until_ready(AGENT)
    return shared


def recorded(live: Live) -> dict[str, Any]:
    """Return `status.kill`, empty until the kill controller has written it: the operator writes the conditions."""
    found: dict[str, Any] = live.get("agents.interlock.dev", AGENT)["status"].get("kill", {})
    return found


@requirement("kill.on-a-cluster")
def test_a_kill_ends_every_container_on_the_node_and_only_off_brings_them_back(agent: Live) -> None:
    live, objects = agent, example_objects("01-first-agent", agent.namespace)
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


def test_an_agent_that_is_created_killed_never_gets_a_pod(shared: Live) -> None:
    live = shared
    live.apply(*example_objects("01-first-agent", live.namespace, "2-policy.yaml"))
    live.apply(*example_objects("06-kill", live.namespace))
    live.until_condition("born-killed", "Killed", "True")
    always(lambda: not live.pods("born-killed"), 3, lambda: json.dumps(live.pods("born-killed"))[:500])
    assert live.condition("born-killed", "Ready")["reason"] == "KillSwitch"


@pytest.mark.parametrize(
    "gone",
    ["policy", *(pytest.param(gone, marks=pytest.mark.nightly) for gone in ("row", "binding"))],
)
def test_pods_end_when_what_they_stand_on_goes_away(agent: Live, gone: str) -> None:
    live, objects = agent, example_objects("01-first-agent", agent.namespace)
    policy, binding = find(objects, "AgentPolicy"), find(objects, "MCPBinding")
    if gone == "row":
        live.apply({**policy, "spec": {"dataAccess": []}})
    else:
        taken = policy if gone == "policy" else binding
        live.kubectl("-n", live.namespace, "delete", taken["kind"], taken["metadata"]["name"])
    began = time.monotonic()
    eventually(lambda: not live.running_containers(), PRUNE_SECONDS * TOLERANCE, lambda: str(live.running_containers()))
    check_promise(time.monotonic() - began, PRUNE_SECONDS, f"pods end after the {gone} is gone")
    live.until_condition(AGENT, "Ready", "False")
    live.until_condition(AGENT, "Stalled", "True")


def test_a_deleted_agent_leaves_nothing_behind(agent: Live) -> None:
    live = agent
    live.kubectl("-n", live.namespace, "delete", "agents.interlock.dev", AGENT)
    kinds = "deployments,pods,configmaps,services,serviceaccounts,roles,rolebindings,networkpolicies"

    def left() -> list[str]:
        found = json.loads(
            live.kubectl("-n", live.namespace, "get", kinds, "-l", f"interlock.dev/agent={AGENT}", "-o", "json")
        )
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found["items"]]

    eventually(lambda: not left(), 60, lambda: str(left()))
