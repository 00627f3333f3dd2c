"""A tag that moves, on a real API server: the pods that run another image than before serve nothing.

Pods are simulated: this gives them the status that a kubelet reports. kwok reports no image.
"""

import pytest

from tests.integration.callers import MERGE
from tests.integration.operator.api import Json, eventually
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

OLD, NEW = (f"registry.example.com/agent@sha256:{two * 32}" for two in ("aa", "bb"))
SIDECAR = f"registry.example.com/crm@sha256:{'cc' * 32}"
STAGE = {"name": "dev", "environment": "development", "replicas": 2}


def run_image(sandbox: Sandbox, pod: str, image: str) -> None:
    """Let a pod's kubelet report the image of the agent's container, and those of its sidecars."""
    path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}/status"
    found = sandbox.api.get("pods", sandbox.namespace, pod)
    changed = [
        one | ({"imageID": image} if one["name"] == "agent" else {}) for one in found["status"]["containerStatuses"]
    ]
    sidecars = [
        {"name": one["name"], "image": one["image"], "imageID": SIDECAR, "ready": True, "restartCount": 0}
        for one in found["spec"].get("initContainers", ())
    ]
    status = {"containerStatuses": changed, "initContainerStatuses": sidecars}
    sandbox.api.request("PATCH", path, {"status": status}, MERGE)


def live_pods(sandbox: Sandbox) -> list[Json]:
    return [pod for pod in sandbox.pods("triage") if "deletionTimestamp" not in pod["metadata"]]


def agents(sandbox: Sandbox) -> dict[str, Json]:
    """Return the pods with the agent by their names."""
    return {pod["metadata"]["name"]: pod for pod in live_pods(sandbox) if _has_agent(pod)}


def _has_agent(pod: Json) -> bool:
    return any(one["name"] == "agent" for one in pod["spec"]["containers"])


def recorded(sandbox: Sandbox) -> set[tuple[str, str]]:
    """Return name and digest of each image that the status records, but of sidecars."""
    images = sandbox.agent("triage")["status"]["rollout"].get("images", ())
    return {(one["image"], one["digest"]) for one in images if one["digest"] not in SIDECAR}


def led_to(sandbox: Sandbox) -> set[str]:
    """Return the names of the pods that the agent's Service leads to."""
    slices = sandbox.api.listed("endpointslices", sandbox.namespace, "kubernetes.io/service-name=guard-triage")
    return {endpoint["targetRef"]["name"] for one in slices for endpoint in one.get("endpoints") or ()}


@requirement("rollout.images")
@pytest.mark.parametrize("isolation", [pytest.param("Shared", marks=pytest.mark.nightly), "Separate"])
def test_a_pod_whose_tag_has_moved_serves_nothing_until_it_runs_the_recorded_image(
    operator: OperatorProcess, sandbox: Sandbox, isolation: str
) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation=isolation)
    sandbox.create("triage", rollout={"stages": [STAGE]}, tasks={"port": 8080})
    sandbox.wait_ready("triage")
    for pod in agents(sandbox):
        run_image(sandbox, pod, OLD)
    digest, image = OLD.partition("@")[2], sandbox.agent("triage")["spec"]["template"]["image"]
    eventually(lambda: recorded(sandbox) == {(image, digest)}, "the status records what the tag led to")
    eventually(lambda: len(led_to(sandbox)) == STAGE["replicas"], "the Service leads to all pods")
    before = led_to(sandbox)

    moved, other = sorted(agents(sandbox))
    run_image(sandbox, moved, NEW)

    eventually(lambda: sandbox.condition("triage", "Ready").get("reason") == "ImageChanged", "status says why")
    message = sandbox.condition("triage", "Ready")["message"]
    assert all(part in message for part in (moved, digest, NEW.partition("@")[2], "1 of 2 pods ready"))
    addresses = {one["ip"] for one in agents(sandbox)[moved]["status"]["podIPs"]}
    listed = ("changedPods", {moved}) if isolation == "Shared" else ("changedAddresses", addresses)
    eventually(lambda: set(sandbox.bundle("triage").get(listed[0], ())) == listed[1], "the guards know it")
    if isolation == "Shared":
        eventually(lambda: led_to(sandbox) == {other}, "no Service leads to it")
    assert sandbox.condition("triage", "Serving")["status"] == "True"

    operator.kill()  # what was recorded stays
    operator.start()
    run_image(sandbox, moved, OLD)
    sandbox.wait_ready("triage")
    eventually(lambda: led_to(sandbox) == before, "the Service leads to all pods again")
    eventually(lambda: listed[0] not in sandbox.bundle("triage"), "no guard is told of a changed pod")
