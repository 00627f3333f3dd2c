"""A HorizontalPodAutoscaler with metrics-server: an agent follows its load, up and down, and no task fails."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import metrics_server
from tests.e2e.live import Live, eventually
from tests.e2e.rollouts import answers, start_prober
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(1200)]

AGENT, LOAD = "echo", "load"
PROGRAM = (Path(__file__).parent / "programs" / "worker.py").read_text()
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "autoscale.md"
SCALE_SECONDS = 240
"""Controller and metrics-server look every 15 s, and a pod starts or drains in between."""


def worker(namespace: str) -> list[dict[str, Any]]:
    """Return examples/08-tasks with an agent that computes as tasks say, and no number of pods."""
    objects = example_objects("08-tasks", namespace)
    agent = find(objects, "Agent")
    agent["spec"] |= {
        "tasks": {"port": 8080, "maxConcurrentTasks": 16},
        "files": [{"path": "worker.py", "content": PROGRAM}],
    }
    agent["spec"]["template"] |= {
        "command": ["sh", "-c", 'exec python "$INTERLOCK_FILES/worker.py"'],
        "env": [{"name": "VERSION", "value": "one"}],
        "resources": {"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}},
    }
    return objects


def autoscaler(namespace: str) -> dict[str, Any]:
    """Return the HPA of the page for this agent: from one pod to three, and down without a wait of minutes."""
    (text,) = re.findall(r"```yaml\n(apiVersion: autoscaling.*?)```", PAGE.read_text(), flags=re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    found["metadata"] = {"name": AGENT, "namespace": namespace}
    found["spec"]["scaleTargetRef"]["name"] = AGENT
    found["spec"] |= {
        "minReplicas": 1,
        "maxReplicas": 3,
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}},
    }
    return found


def scaling_active(live: Live) -> str:
    path = 'jsonpath={.status.conditions[?(@.type=="ScalingActive")].status}'
    return live.kubectl("-n", live.namespace, "get", "hpa", AGENT, "-o", path)


def replicas(live: Live) -> int:
    found: int = live.get("agents.interlock.dev", AGENT)["spec"].get("replicas", 1)
    return found


def describe(live: Live) -> str:
    autoscalers = live.attempt("-n", live.namespace, "describe", "hpa", AGENT).stdout
    usage = live.attempt("-n", live.namespace, "top", "pods", "--containers").stdout
    return "\n".join([autoscalers, usage, live.kubectl("-n", live.namespace, "get", "pods", "-o", "wide")])


@pytest.fixture
def measured(live: Live) -> Iterator[Live]:
    """The cluster with a metrics-server."""
    with metrics_server.running(live):
        yield live


def test_an_autoscaler_follows_the_load_of_an_agent_and_no_task_fails(measured: Live) -> None:
    live = measured
    live.apply(*worker(live.namespace))
    live.until_ready(AGENT)
    start_prober(live, AGENT, ["-"])
    live.apply(autoscaler(live.namespace))
    assert replicas(live) == 1

    start_prober(live, AGENT, ["-"], name=LOAD, task={"busy": 2})
    eventually(lambda: replicas(live) >= 2, SCALE_SECONDS, lambda: describe(live))
    eventually(lambda: len(live.starting_pods(AGENT)) >= 2, 120, lambda: describe(live))
    live.until_ready(AGENT)
    assert scaling_active(live) == "True"
    loaded = answers(live, LOAD)
    live.kubectl("-n", live.namespace, "delete", "pod", LOAD, "--wait=false")

    eventually(lambda: replicas(live) == 1, SCALE_SECONDS, lambda: describe(live))
    eventually(lambda: len(live.pods(AGENT)) == 1, 120, lambda: describe(live))
    before = len(answers(live).lines)
    eventually(lambda: len(answers(live).lines) > before + 20, 60, lambda: str(len(answers(live).lines)))
    assert loaded.failures == [], json.dumps(loaded.failures)
    assert answers(live).failures == [], json.dumps(answers(live).failures)
