"""Ready says within 15 s why an agent's pod fails, in the words of containers, scheduler and kubelet.

Pods are simulated: each row gives a pod of the agent the status, and the Event, that a kubelet reports.
"""

import secrets
from datetime import UTC, datetime

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import MERGE_PATCH, Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess
from tests.support.pod_failures import FAILURES, Failure, status_of, waiting

pytestmark = [pytest.mark.api, pytest.mark.timeout(120)]

CAUSE_SECONDS = 15.0
EXAMPLES = (
    "an image that does not exist",
    "a missing Secret",
    "a crash with its last line",
    "two servers that fail",
    "no node with enough memory",
    "a volume whose Secret is missing",
    "a failing readiness probe",
)
"""One of each kind of report: of containers, conditions and Events. `tests/unit/deployment` has all."""
FLOOD = 1100
"""More Events than the operator lists of one namespace."""


def now() -> str:
    return datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: TID251 - as a kubelet writes it


def report(sandbox: Sandbox, pod: Json, failure: Failure, kind: str = "Pod") -> None:
    """Report what a kubelet reports of a failure."""
    path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod['metadata']['name']}/status"
    sandbox.api.request("PATCH", path, {"status": status_of(failure)}, MERGE_PATCH)
    warn(sandbox, kind, pod, *failure.event)


def warn(sandbox: Sandbox, kind: str, about: Json, reason: str, note: str, container: str, prefix: str = "x") -> None:
    """Post a Warning Event."""
    if not reason:
        return
    regarding = {"kind": kind, "namespace": sandbox.namespace, "uid": about["metadata"]["uid"]}
    regarding["name"] = about["metadata"]["name"]
    regarding |= {"fieldPath": f"spec.containers{{{container}}}"} if container else {}
    event = {
        "metadata": {"name": f"{prefix}.{secrets.token_hex(8)}"},
        "eventTime": now(),
        "reportingController": "kubelet",
        "reportingInstance": "node-1",
        "action": "Start",
        "type": "Warning",
        "reason": reason,
        "note": note,
        "regarding": regarding,
    }
    sandbox.api.request("POST", f"/apis/events.k8s.io/v1/namespaces/{sandbox.namespace}/events", event)


@pytest.fixture(scope="module")
def failing(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.apply_policy_and_bindings("triage")
    shared_sandbox.create("triage")
    return shared_sandbox


@requirement("status.causes")
@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(failure, id=name, marks=() if name in EXAMPLES else pytest.mark.nightly)
        for name, failure in FAILURES.items()
    ],
)
def test_ready_says_why_a_pod_fails(operator: OperatorProcess, failing: Sandbox, failure: Failure) -> None:
    [pod] = eventually(lambda: failing.pods("triage") or None, "the agent has a pod", 30)
    eventually(lambda: failing.pods("triage")[0]["status"].get("podIP"), "the simulated kubelet has started it", 30)
    report(failing, pod, failure)

    def says_so() -> bool:
        ready = failing.condition("triage", "Ready")
        return ready["reason"] == "PodsNotReady" and failure.says in ready["message"]

    eventually(says_so, lambda: f"Ready says it, and not {failing.condition('triage', 'Ready')}", CAUSE_SECONDS)
    message = failing.condition("triage", "Ready")["message"]
    assert message.startswith("0 of 1 pods ready: ")
    assert failing.agent("triage")["status"]["readySummary"] == "0/1"


@requirement("status.events-bounded")
def test_a_flood_of_events_about_others_hides_no_cause(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    [pod] = eventually(lambda: sandbox.pods("triage") or None, "the agent has a pod", 30)
    eventually(lambda: sandbox.pods("triage")[0]["status"].get("podIP"), "the simulated kubelet has started it", 30)
    for number in range(FLOOD):
        other = {"metadata": {"uid": f"other-{number}", "name": f"other-{number}"}}
        warn(sandbox, "Pod", other, "BackOff", "of another pod", "", prefix="a")
    report(sandbox, pod, FAILURES["a network plugin that fails"])
    eventually(
        lambda: "a pod: FailedCreatePodSandBox" in sandbox.condition("triage", "Ready")["message"],
        lambda: f"Ready says it, and not {sandbox.condition('triage', 'Ready')}",
        CAUSE_SECONDS,
    )


def quota_without_pods(sandbox: Sandbox) -> None:
    quotas = f"/api/v1/namespaces/{sandbox.namespace}/resourcequotas"
    sandbox.api.request("POST", quotas, {"metadata": {"name": "small"}, "spec": {"hard": {"pods": "0"}}})
    eventually(lambda: sandbox.api.request("GET", f"{quotas}/small").get("status", {}).get("hard"), "it is in force")


@requirement("status.causes")
def test_ready_says_that_a_quota_refuses_the_pods(operator: OperatorProcess, sandbox: Sandbox) -> None:
    sandbox.apply_policy_and_bindings("triage")
    quota_without_pods(sandbox)
    sandbox.create("triage")
    eventually(
        lambda: "exceeded quota: small" in sandbox.condition("triage", "Ready").get("message", ""),
        lambda: f"Ready names the quota: {sandbox.condition('triage', 'Ready')}",
        CAUSE_SECONDS,
    )
    assert "; ResourceQuota small has no room for the pod: raise it" in sandbox.condition("triage", "Ready")["message"]


def verified(sandbox: Sandbox) -> str:
    return str(condition_of(sandbox.binding("crm-sandbox"), "Verified").get("message", ""))


@requirement("status.causes")
def test_a_binding_says_why_the_pod_of_its_verification_fails(
    operator: OperatorProcess, operators: Operators, sandbox: Sandbox
) -> None:
    operators.verifiers.silent = True
    sandbox.api.create(objects.binding(), sandbox.namespace)
    selector = "interlock.dev/binding=crm-sandbox"
    [pod] = eventually(lambda: sandbox.api.listed("pods", sandbox.namespace, selector) or None, "the Job has a pod")
    eventually(
        lambda: sandbox.api.listed("pods", sandbox.namespace, selector)[0]["status"].get("podIP"),
        "the simulated kubelet has started it, and writes no other status later",
        30,
    )
    secret = Failure("", waiting("CreateContainerConfigError", 'secret "crm-token" not found', name="mcp-crm"))
    report(sandbox, pod, secret)
    eventually(
        lambda: 'secret "crm-token" not found' in verified(sandbox),
        lambda: f"Verified names the Secret, and not: {verified(sandbox)}",
        CAUSE_SECONDS,
    )
    operators.verifiers.failing, operators.verifiers.silent = "the server was not initialized within 90 s", False
    eventually(
        lambda: "not initialized" in verified(sandbox) and 'secret "crm-token" not found' in verified(sandbox),
        "the failed run names it too",
    )


@requirement("status.causes")
def test_a_binding_says_that_a_quota_refuses_the_pod_of_its_verification(
    operator: OperatorProcess, operators: Operators, sandbox: Sandbox
) -> None:
    operators.verifiers.silent = True
    quota_without_pods(sandbox)
    sandbox.api.create(objects.binding(), sandbox.namespace)
    eventually(
        lambda: "its Job: FailedCreate" in verified(sandbox) and "ResourceQuota small has no room" in verified(sandbox),
        lambda: f"Verified names the quota: {verified(sandbox)}",
        CAUSE_SECONDS,
    )
