"""A drain of a node under tasks that never stop: agents with two pods and a grace period lose none of them."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import a_namespace
from tests.e2e.live import Live, eventually
from tests.e2e.rollouts import PROBER, answers, start_prober
from tests.support.bounds import TOLERANCE, check_promise
from tests.support.clusters import POOL
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(900)]

AGENT = "echo"
PROGRAM = (Path(__file__).parent / "programs" / "worker.py").read_text()
GRACE = 45
"""Seconds of the pods' grace period: ten more than the longest task."""
CUT_SECONDS, KILL_SECONDS = 1.0, 5.0


def worker(namespace: str, isolation: str) -> list[dict[str, Any]]:
    """Return examples/08-tasks with two pods and a grace period.

    In a shared pod the agent ends immediately on SIGTERM, so that its guard alone saves its tasks.
    """
    objects = example_objects("08-tasks", namespace)
    policy, agent = find(objects, "AgentPolicy"), find(objects, "Agent")
    policy["spec"] |= {
        "environments": [{"name": "development", "isolation": isolation}],
        "podTemplate": {"maxTerminationGracePeriodSeconds": GRACE},
    }
    agent["spec"] |= {
        "replicas": 2,
        "tasks": {"port": 8080, "maxConcurrentTasks": 16},
        "files": [{"path": "worker.py", "content": PROGRAM}],
    }
    agent["spec"]["template"] |= {
        "command": ["sh", "-c", 'exec python "$INTERLOCK_FILES/worker.py"'],
        "env": [
            {"name": "VERSION", "value": "one"},
            {"name": "ON_SIGTERM", "value": "end" if isolation == "Shared" else "finish"},
        ],
        "terminationGracePeriodSeconds": GRACE,
    }
    return objects


def stubborn(namespace: str) -> list[dict[str, Any]]:
    """Return an agent that ignores SIGTERM, and fails its own liveness probe ten seconds after each start."""
    objects = worker(namespace, "Shared")
    agent = find(objects, "Agent")
    del agent["spec"]["tasks"], agent["spec"]["files"]
    agent["spec"] |= {"replicas": 1}
    agent["spec"]["template"] |= {
        "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
        "livenessProbe": {
            "exec": {"command": ["false"]},
            "initialDelaySeconds": 10,
            "periodSeconds": 1,
            "failureThreshold": 1,
        },
    }
    return objects


def is_failing(live: Live) -> bool:
    """Whether the kubelet has begun to end a container for its probe."""
    ends = [json.dumps(one) for one in live.items("events") if one.get("reason") == "Killing"]
    return any("failed liveness probe" in one for one in ends)


def on_second_node(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Let the agent's pods prefer the second node, which they may leave."""
    ((label, value),) = POOL.items()
    preferred = {
        "weight": 100,
        "preference": {"matchExpressions": [{"key": label, "operator": "In", "values": [value]}]},
    }
    find(objects, "Agent")["spec"]["template"] |= {
        "tolerations": [{"key": label, "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}},
    }
    return objects


def nodes_of_pods(live: Live) -> set[str]:
    return {pod["spec"].get("nodeName", "") for pod in live.pods(AGENT)}


def describe(live: Live) -> str:
    return live.kubectl("-n", live.namespace, "get", "pods", "-o", "wide")


def until_answered(live: Live, count: int) -> None:
    """Wait until the prober has so many more answers."""
    before = len(answers(live).lines)
    eventually(lambda: len(answers(live).lines) > before + count, 60, lambda: str(len(answers(live).lines)))


def evict(live: Live, pod: str) -> None:
    """Evict a pod with its own grace period, as `kubectl drain` does."""
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": live.namespace},
    }
    path = f"/api/v1/namespaces/{live.namespace}/pods/{pod}/eviction"
    live.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_a_drain_of_its_node_fails_no_task_of_an_agent(operator: Live, second_node: str) -> None:
    """One drain ends the pods of two agents, one of each isolation."""
    with a_namespace(operator) as shared, a_namespace(operator) as separate:
        agents = {"Shared": shared, "Separate": separate}
        for isolation, live in agents.items():
            live.apply(*on_second_node(worker(live.namespace, isolation)))
        for live in agents.values():
            live.until_ready(AGENT, 120)
            eventually(lambda live=live: nodes_of_pods(live) == {second_node}, 60, lambda live=live: describe(live))
            start_prober(live, AGENT, ["-"])
        for live in agents.values():
            until_answered(live, 20)
        try:
            operator.kubectl(
                *("drain", second_node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=170s"),
                f"--pod-selector=interlock.dev/agent={AGENT}",
            )
            for live in agents.values():
                assert second_node not in nodes_of_pods(live)
                live.until_ready(AGENT)
                until_answered(live, 20)
        finally:
            operator.kubectl("uncordon", second_node)
        for live in agents.values():
            assert answers(live).failures == [], json.dumps(answers(live).failures)
            assert {one["seconds"] for one in answers(live).lines} == {0.2, 4.0}


def test_a_kill_during_an_eviction_cuts_traffic_immediately(live: Live) -> None:
    live.apply(*worker(live.namespace, "Shared"))
    live.until_ready(AGENT)
    start_prober(live, AGENT, ["-"])
    until_answered(live, 5)
    evicted = live.pods(AGENT)[0]["metadata"]["name"]
    evict(live, evicted)
    until_answered(live, 5)
    assert answers(live).failures == []

    def running() -> list[str]:
        return [one for one in live.running_containers() if not one.startswith(f"{PROBER}/")]

    assert any(one.startswith(f"{evicted}/") for one in running())
    began = time.monotonic()
    live.annotate(AGENT, "INC-42 wrong mails")
    eventually(lambda: bool(answers(live).failures), 30, lambda: str(answers(live).lines[-3:]))
    check_promise(time.monotonic() - began, CUT_SECONDS, "a kill during an eviction ends tasks under way")
    eventually(lambda: not running(), KILL_SECONDS * TOLERANCE, lambda: str(running()))
    check_promise(
        time.monotonic() - began, KILL_SECONDS, "no container of an agent that is killed during an eviction runs"
    )


def test_a_kill_ends_an_agent_that_a_kubelet_is_restarting_for_its_probe(live: Live) -> None:
    """A kubelet turns to the deletion of a pod only once the end of a container that has failed a probe is over."""
    live.apply(*stubborn(live.namespace))
    live.running_containers()  # the first time it may build the program that it asks
    eventually(lambda: is_failing(live), 90, lambda: describe(live))
    began = time.monotonic()
    live.annotate(AGENT, "INC-42 wrong mails")
    eventually(lambda: not live.running_containers(), 2 * GRACE, lambda: str(live.running_containers()))
    check_promise(time.monotonic() - began, KILL_SECONDS, "a kill ends an agent that fails its own probe")
