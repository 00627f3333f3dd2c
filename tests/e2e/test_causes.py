"""Ready of an Agent says why its real pods fail, in the words of the kubelet of a real node."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from interlock_contract.clock import monotonic
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, check_promise

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(420)]

CAUSE_SECONDS = 15.0
KUBELET_SECONDS = 120.0
"""How long a kubelet may take until a pod's status, or an Event, names the failure."""
IMAGE = "registry.invalid/interlock/example-agent:dev"
MISSING = "registry.invalid/interlock/no-such-image:9"
POLICY = "causes"


@dataclass(frozen=True)
class Failing:
    """An Agent that fails.

    Attributes:
        seen: A text in the status of its pods, or in an Event about them.
        says: The parts of the message of Ready.
        template: Its container, on top of the image.
        spec: Its spec, on top of the usual.
    """

    seen: str
    says: tuple[str, ...]
    template: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)


AGENTS = {
    "crashing": Failing(
        "CrashLoopBackOff",
        ("container agent is in CrashLoopBackOff", 'exit code 3: "CRM_URL is not set"'),
        {"command": ["sh", "-c", "echo CRM_URL is not set >&2; exit 3"]},
    ),
    "no-image": Failing("ImagePullBackOff", ("container agent is in ImagePullBackOff",), {"image": MISSING}),
    "no-secret": Failing(
        'secret "missing-key" not found',
        ("FailedMount", 'secret "missing-key" not found'),
        spec={
            "models": [{"name": "openai/gpt-4o", "apiKeyFrom": {"secretKeyRef": {"name": "missing-key", "key": "k"}}}]
        },
    ),
    "no-port": Failing(
        "Readiness probe failed",
        ("container agent: Unhealthy", "Readiness probe failed"),
        {"command": ["sleep", "3600"]},
        {"tasks": {"port": 8080}},
    ),
}


def an_object(kind: str, name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "interlock.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


def an_agent(name: str, namespace: str, failing: Failing) -> dict[str, Any]:
    return an_object(
        "Agent",
        name,
        namespace,
        owner={"name": "Ada Example", "email": "ada@example.com"},
        purpose="Show what the status says of a pod that fails",
        policyRef={"name": POLICY},
        environment="development",
        template={"image": IMAGE, "command": ["sleep", "3600"], **failing.template},
        **failing.spec,
    )


@pytest.fixture(scope="module")
def failing(shared: Live) -> Live:
    models = {"allow": ["openai/gpt-4o"], "secretNames": ["missing-key"]}
    policy = an_object("AgentPolicy", POLICY, shared.namespace, dataAccess=[], models=models)
    shared.apply(policy, *(an_agent(name, shared.namespace, one) for name, one in AGENTS.items()))
    return shared


def is_seen(live: Live, agent: str, text: str) -> Callable[[], bool]:
    """Return whether a pod's status, or an Event about a pod of the agent, has a text."""

    def check() -> bool:
        pods = live.pods(agent)
        uids = {pod["metadata"]["uid"] for pod in pods}
        events = [one for one in live.items("events.events.k8s.io") if one["regarding"].get("uid") in uids]
        return text in str([pod.get("status") for pod in pods]) or any(text in one.get("note", "") for one in events)

    return check


@requirement("status.causes-on-a-cluster")
@pytest.mark.parametrize("agent", AGENTS)
def test_ready_says_why_a_real_pod_fails(failing: Live, agent: str) -> None:
    live, wanted = failing, AGENTS[agent]
    eventually(is_seen(live, agent, wanted.seen), KUBELET_SECONDS, lambda: str(live.pods(agent))[-3000:])
    began = monotonic()

    def says_so() -> bool:
        ready = live.condition(agent, "Ready")
        return ready["reason"] == "PodsNotReady" and all(text in ready["message"] for text in wanted.says)

    eventually(says_so, CAUSE_SECONDS * TOLERANCE, lambda: str(live.condition(agent, "Ready")))
    check_promise(monotonic() - began, CAUSE_SECONDS, f"cause of {agent} in the status")
    assert live.get("agents.interlock.dev", agent)["status"]["readySummary"] == "0/1"
