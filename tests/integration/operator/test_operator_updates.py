"""Updates of the operator against a real API server and its controllers: guards are replaced in waves."""

from collections.abc import Iterator

import pytest

from tests.integration.operator.api import MERGE_PATCH, Json, eventually
from tests.integration.operator.conftest import OPERATOR_NAMESPACE, Operators
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.integration.operator.test_operator_scales import guards, led_to, named, separate_agents

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

COUNT = 20
NAMES = tuple(f"agent-{number}" for number in range(COUNT))
EARLIER, LATER = "registry.example.com/guard:1", "registry.example.com/guard:2"
HOLD = "interlock.dev/hold-guard-updates"
UPDATE_SECONDS = 150.0


@pytest.fixture
def held(operators: Operators) -> Iterator[None]:
    hold(operators, "on")
    yield
    hold(operators, None)


def hold(operators: Operators, value: str | None) -> None:
    body = {"metadata": {"annotations": {HOLD: value}}}
    operators.api.request("PATCH", f"/api/v1/namespaces/{OPERATOR_NAMESPACE}", body, MERGE_PATCH)


def test_twenty_agents_get_new_guards_two_at_a_time_also_across_a_restart(
    operators: Operators, sandbox: Sandbox, held: None
) -> None:
    del held
    operators.use(INTERLOCK_GUARD_IMAGE=EARLIER)
    sandbox.apply_policy_and_bindings(*NAMES)
    for name in NAMES:
        sandbox.create(name)
    for name in NAMES:
        sandbox.wait_ready(name)
    before = {name: rollout(sandbox.agent(name)) for name in NAMES}
    pods = uids(sandbox)

    operators.use(INTERLOCK_GUARD_IMAGE=LATER)
    eventually(lambda: reasons(sandbox) == {"GuardUpdateWaiting": COUNT}, "all agents wait", UPDATE_SECONDS)
    assert (images(sandbox), uids(sandbox)) == ({EARLIER: COUNT}, pods), "no pod was moved"

    with sandbox.api.watching("agents", sandbox.namespace) as seen:
        hold(operators, None)
        eventually(lambda: reasons(sandbox).get("GuardCurrent", 0) >= COUNT // 4, "some are updated", UPDATE_SECONDS)
        operators.stop()
        operators.use(INTERLOCK_GUARD_IMAGE=LATER)
        eventually(lambda: reasons(sandbox) == {"GuardCurrent": COUNT}, "all are updated", UPDATE_SECONDS)
        eventually(lambda: most_at_once(seen) > 0, "the watch has seen updates")
    assert most_at_once(seen) <= COUNT // 10
    assert images(sandbox) == {LATER: COUNT}
    assert {name: rollout(sandbox.agent(name)) for name in NAMES} == before, "nothing of a revision has changed"


@pytest.mark.parametrize("isolation", [pytest.param("Shared", marks=pytest.mark.nightly), "Separate"])
def test_pods_with_tasks_go_once_their_successors_took_over_and_their_drain_is_over(
    operators: Operators, sandbox: Sandbox, isolation: str
) -> None:
    operators.use(INTERLOCK_GUARD_IMAGE=EARLIER)
    sandbox.apply_policy_and_bindings("triage", isolation=isolation)
    stage = {"name": "dev", "environment": "development", "replicas": 2}
    sandbox.create("triage", rollout={"stages": [stage], "drainTimeout": "4m"}, tasks={"port": 8080})
    sandbox.wait_ready("triage")
    before, of_agents = guards(sandbox), separate_agents(sandbox)

    operators.use(INTERLOCK_GUARD_IMAGE=LATER)
    eventually(lambda: named(sandbox, "drainingPods") == before, "the earlier guards drain", UPDATE_SECONDS)
    after = guards(sandbox) - before
    assert len(after) == 2, "they have successors"
    eventually(lambda: led_to(sandbox, "guard-triage") == after, "the Service leads to the successors alone")
    operators.stop()
    operators.use(INTERLOCK_GUARD_IMAGE=LATER)
    drain_for(sandbox, "3m")
    sandbox.wait_ready("triage")  # so the operator that was restarted has decided
    assert (guards(sandbox), reasons(sandbox)) == (before | after, {"GuardUpdating": 1})

    drain_for(sandbox, "5s")
    eventually(lambda: guards(sandbox) == after, "the earlier guards are gone")
    eventually(lambda: reasons(sandbox) == {"GuardCurrent": 1}, "the update is over")
    assert separate_agents(sandbox) == of_agents, "the pods of separate agents stay"
    assert not named(sandbox, "drainingPods")


def drain_for(sandbox: Sandbox, timeout: str) -> None:
    sandbox.api.patch("agents", sandbox.namespace, "triage", {"spec": {"rollout": {"drainTimeout": timeout}}})


def agents(sandbox: Sandbox) -> list[Json]:
    return sandbox.api.listed("agents", sandbox.namespace)


def reasons(sandbox: Sandbox) -> dict[str, int]:
    """Return how many agents have which reason of GuardUpdated."""
    found = [condition_of(one, "GuardUpdated").get("reason", "") for one in agents(sandbox)]
    return {reason: found.count(reason) for reason in found}


def most_at_once(seen: list[Json]) -> int:
    """Return how many agents were being updated at the same time, by what a watch has seen of each of them."""
    reason, most = dict[str, str](), 0
    for event in list(seen):
        found = event["object"]
        reason[found["metadata"]["name"]] = condition_of(found, "GuardUpdated").get("reason", "")
        most = max(most, list(reason.values()).count("GuardUpdating"))
    return most


def images(sandbox: Sandbox) -> dict[str, int]:
    """Return how many Deployments start which image of guards."""
    found = [
        container["image"]
        for one in sandbox.api.listed("deployments", sandbox.namespace)
        for container in one["spec"]["template"]["spec"]["initContainers"]
        if container["name"] == "guard"
    ]
    return {image: found.count(image) for image in found}


def uids(sandbox: Sandbox) -> set[str]:
    return {pod["metadata"]["uid"] for pod in sandbox.api.listed("pods", sandbox.namespace, "interlock.dev/agent")}


def rollout(agent: Json) -> tuple[str, str]:
    stage = agent["status"]["stage"]
    return stage["revision"], stage["enteredAt"]
