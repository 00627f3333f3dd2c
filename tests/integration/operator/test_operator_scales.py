"""Scale-downs against a real API server and its controllers: the pods that were chosen get no new tasks, and end."""

import pytest

from tests.integration.operator.api import eventually
from tests.integration.operator.sandbox import Sandbox
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

COST = "controller.kubernetes.io/pod-deletion-cost"


@pytest.mark.parametrize("isolation", [pytest.param("Shared", marks=pytest.mark.nightly), "Separate"])
def test_a_scale_down_ends_exactly_the_pods_that_took_no_new_tasks(
    operator: OperatorProcess, sandbox: Sandbox, isolation: str
) -> None:
    sandbox.apply_policy_and_bindings("triage", isolation=isolation)
    stage = {"name": "dev", "environment": "development", "replicas": 3}
    sandbox.create("triage", rollout={"stages": [stage], "drainTimeout": "5s"}, tasks={"port": 8080})
    sandbox.wait_ready("triage")
    before, agents = guards(sandbox), separate_agents(sandbox)
    assert len(before) == 3

    fewer = {"spec": {"rollout": {"stages": [stage | {"replicas": 1}]}}}
    sandbox.api.patch("agents", sandbox.namespace, "triage", fewer)
    chosen = eventually(lambda: draining(sandbox) or None, "pods are chosen")
    going, left = chosen & before, {one for name, addresses in agents.items() if name in chosen for one in addresses}
    assert (len(going), len(left)) == (2, 4 if isolation == "Separate" else 0), "of both IP families"

    def told() -> tuple[set[str], set[str]]:
        bundle = sandbox.bundle("triage")  # one, since the drain lasts only seconds
        return set(bundle.get("drainingPods", ())), set(bundle.get("drainingAddresses", ()))

    eventually(lambda: told() == (going, left), "their guards know it")

    eventually(lambda: guards(sandbox) == before - going, "the chosen pods are gone, and the other one stayed")
    kept = {name: addresses for name, addresses in agents.items() if name not in chosen}
    eventually(lambda: separate_agents(sandbox) == kept, "so did the pod of the agent that was not chosen")
    eventually(lambda: not named(sandbox, "drainingPods") | named(sandbox, "drainingAddresses"), "nothing drains")
    eventually(lambda: sandbox.agent("triage")["status"]["readySummary"] == "1/1", "the status counts the stage's pods")
    assert not any(COST in (pod["metadata"].get("annotations") or {}) for pod in sandbox.pods("triage"))


def test_services_lead_to_no_pod_that_goes_and_to_it_again_if_it_stays_after_all(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    stage = {"name": "dev", "environment": "development", "replicas": 3}
    sandbox.create("triage", rollout={"stages": [stage], "drainTimeout": "2m"}, tasks={"port": 8080})
    sandbox.wait_ready("triage")
    before, fronts = guards(sandbox), ("guard-triage", "guard-triage--dev")
    eventually(lambda: all(led_to(sandbox, front) == before for front in fronts), "the Services lead to all pods")

    def scale(replicas: int) -> None:
        changed = {"spec": {"rollout": {"stages": [stage | {"replicas": replicas}]}}}
        sandbox.api.patch("agents", sandbox.namespace, "triage", changed)

    scale(1)
    going = eventually(lambda: draining(sandbox) or None, "pods are chosen")
    left = before - going
    eventually(lambda: all(led_to(sandbox, front) == left for front in fronts), "the Services lead to one pod alone")
    assert (len(left), guards(sandbox)) == (1, before), "all are still there"

    scale(3)
    eventually(lambda: all(led_to(sandbox, front) == before for front in fronts), "the Services lead to all pods again")
    eventually(lambda: not named(sandbox, "drainingPods"), "nothing drains")
    assert guards(sandbox) == before


def led_to(sandbox: Sandbox, service: str) -> set[str]:
    """Return the names of the pods that a Service leads to."""
    slices = sandbox.api.listed("endpointslices", sandbox.namespace, f"kubernetes.io/service-name={service}")
    return {endpoint["targetRef"]["name"] for one in slices for endpoint in one.get("endpoints") or ()}


def guards(sandbox: Sandbox) -> set[str]:
    """Return the names of the pods with a guard that are not being deleted."""
    found = [pod for pod in sandbox.pods("triage") if "deletionTimestamp" not in pod["metadata"]]
    own = [pod for pod in found if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "guard"]
    return {pod["metadata"]["name"] for pod in own or found}


def separate_agents(sandbox: Sandbox) -> dict[str, list[str]]:
    """Return the addresses of the pods with an agent alone that are not being deleted, by their names."""
    found = [pod for pod in sandbox.pods("triage") if "deletionTimestamp" not in pod["metadata"]]
    labels = {"app.kubernetes.io/component": "agent", "interlock.dev/isolation": "Separate"}
    own = [pod for pod in found if labels.items() <= pod["metadata"]["labels"].items()]
    return {pod["metadata"]["name"]: [one["ip"] for one in pod["status"].get("podIPs", ())] for pod in own}


def named(sandbox: Sandbox, member: str) -> set[str]:
    """Return what a list of the bundle names."""
    return set(sandbox.bundle("triage").get(member, ()))


def draining(sandbox: Sandbox) -> set[str]:
    """Return the names of the pods that the status says to drain."""
    rollout = sandbox.agent("triage")["status"].get("rollout") or {}
    return {pod["name"] for one in rollout.get("scaleDowns", ()) for pod in one["pods"]}
