"""Which containers have the preStop hook, by which a kubelet waits until nothing is under way in the pod.

A container that a failed probe ends does not wait so long.
"""

from typing import Any

import pytest

from interlock.deployment.children.workload import build_workloads
from interlock.deployment.placement import Placement
from tests.support.builders import AgentBuilder, a_binding, a_placement, a_separate_placement, an_agent

HOOK = {"preStop": {"httpGet": {"path": "/pre-stop", "port": 7411}}}
OVER_HTTP = (a_binding().over_http(),)


def agent(grace: int | None = 30, *, takes_tasks: bool = True) -> AgentBuilder:
    found = an_agent().taking_tasks(8080) if takes_tasks else an_agent()
    return found.with_template(terminationGracePeriodSeconds=grace) if grace else found


def pods(placement: Placement) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in build_workloads(placement)]


def hooks(*pods: dict[str, Any]) -> dict[str, Any]:
    """Return the hooks by container."""
    containers = [one for pod in pods for kind in ("initContainers", "containers") for one in pod.get(kind, ())]
    return {one["name"]: one["lifecycle"] for one in containers if "lifecycle" in one}


def guard_variable(*pods: dict[str, Any]) -> str | None:
    containers = [one for pod in pods for kind in ("initContainers", "containers") for one in pod.get(kind, ())]
    (guard,) = (one for one in containers if one["name"] == "guard")
    return next((one["value"] for one in guard["env"] if one["name"] == "INTERLOCK_GRACE_SECONDS"), None)


def test_the_agent_of_a_shared_pod_is_ended_once_its_guard_says_so() -> None:
    found = pods(a_placement(agent()))
    assert hooks(*found) == {"agent": HOOK}
    assert guard_variable(*found) == "30"


def test_an_agent_that_takes_no_tasks_ends_its_own_work() -> None:
    assert hooks(*pods(a_placement(agent(takes_tasks=False)))) == {}


@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
@pytest.mark.parametrize("grace", [None, 1, 2])
def test_a_short_grace_period_has_no_hook(grace: int | None, build: Any) -> None:
    found = pods(build(agent(grace)))
    assert hooks(*found) == {}
    assert guard_variable(*found) is None


@pytest.mark.parametrize("takes_tasks", [True, False])
def test_all_that_the_pod_of_a_separate_guard_works_with_has_the_hook(*, takes_tasks: bool) -> None:
    """MCP servers on pipes make the guard a sidecar, which ends after them: at once where they have all crashed."""
    with_servers = pods(a_separate_placement(agent(takes_tasks=takes_tasks)))
    assert hooks(with_servers[0]) == {"guard": HOOK, "mcp-crm": HOOK}
    without = pods(a_separate_placement(agent(takes_tasks=takes_tasks), bindings=OVER_HTTP))
    assert hooks(without[0]) == {"guard": HOOK}
    for guard, own in (with_servers, without):
        assert hooks(own) == {}, "no guard in the agent's own pod could answer"
        assert guard_variable(guard) == "30"
        assert (guard["terminationGracePeriodSeconds"], own["terminationGracePeriodSeconds"]) == (30, 30)


def ends_by_probes(*pods: dict[str, Any]) -> dict[str, dict[str, int | None]]:
    """Return by container which grace period each of its probes states."""
    containers = [one for pod in pods for kind in ("initContainers", "containers") for one in pod.get(kind, ())]
    return {
        one["name"]: {
            name.removesuffix("Probe"): probe.get("terminationGracePeriodSeconds")
            for name, probe in one.items()
            if name.endswith("Probe")
        }
        for one in containers
        if one["name"] in {"guard", "mcp-crm", "agent"}
    }


@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
@pytest.mark.parametrize(("grace", "expected"), [(300, 1), (2, None)])
def test_a_container_that_fails_a_probe_ends_quickly_whatever_the_grace_period(
    grace: int, expected: int | None, build: Any
) -> None:
    """A kubelet turns to a kill only once such an end is over, and an agent can fail its probes when it wants to."""
    fails = {"exec": {"command": ["false"]}}
    probed = agent(grace).with_template(
        terminationGracePeriodSeconds=grace, startupProbe=fails, livenessProbe=fails, readinessProbe=fails
    )
    found = ends_by_probes(*pods(build(probed)))
    ending = {"startup": expected, "liveness": expected}
    assert found.pop("mcp-crm") == ending
    assert found == dict.fromkeys(("guard", "agent"), ending | {"readiness": None})
