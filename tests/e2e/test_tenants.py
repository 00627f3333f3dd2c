"""Two tenants on one cluster: what an administrator of one namespace tries against the other one, and against us.

The administrator holds Kubernetes' own `admin` in a namespace, as a ServiceAccount with a real token. The other
tenant's agent must serve all the while with the same pods, and a kill in its namespace must take its usual time.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.attempts import (
    ADMINISTRATOR,
    AGENT,
    SYSTEM,
    Tenants,
    against_the_other_tenant,
    against_the_programs,
    at_home,
    tried,
)
from tests.e2e.conftest import a_namespace
from tests.e2e.flood import a_flood
from tests.e2e.live import Live, eventually
from tests.requirements import requirement
from tests.support.bounds import TOLERANCE, check_promise
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.exclusive, pytest.mark.nightly, pytest.mark.timeout(600)]

KILL_SECONDS = 5.0
ATTEMPTS = 40
PRIORITIES = ["system-cluster-critical", "system-node-critical"]
QUOTA = {"pods": "12", "count/configmaps": "60"}


@pytest.fixture(scope="module")
def tenants(operator: Live, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """Two namespaces with an agent each. Both enforce `restricted`, and the hostile one has a ResourceQuota."""
    with a_namespace(operator) as victim, a_namespace(operator) as hostile:
        hostile.apply(*preconditions(hostile.namespace))
        eventually(lambda: quotas_are_counted(hostile), 120, lambda: str(hostile.items("resourcequotas")))
        for live in (victim, hostile):
            live.apply(*example_objects("01-first-agent", live.namespace))
        token = hostile.kubectl("-n", hostile.namespace, "create", "token", ADMINISTRATOR, "--duration=1h").strip()
        administrator = hostile.with_token(token, tmp_path_factory.mktemp("tenant") / "kubeconfig")
        for live in (victim, hostile):
            live.until_ready(AGENT, 120)
        yield Tenants(victim, hostile, administrator)


def quotas_are_counted(live: Live) -> bool:
    """Return True once the API server admits objects that a quota counts."""
    return all(
        quota["spec"]["hard"].keys() <= quota.get("status", {}).get("used", {}).keys()
        for quota in live.items("resourcequotas")
    )


def preconditions(namespace: str) -> list[dict[str, Any]]:
    """Return the tenant's administrator, and the quotas that the page about installing asks for."""
    metadata = {"name": ADMINISTRATOR, "namespace": namespace}
    return [
        {"kind": "ServiceAccount", "apiVersion": "v1", "metadata": metadata},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
            "subjects": [{"kind": "ServiceAccount", **metadata}],
        },
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "tenant", "namespace": namespace},
            "spec": {"hard": QUOTA},
        },
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "no-priority", "namespace": namespace},
            "spec": {
                "hard": {"pods": "0"},
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": PRIORITIES}]
                },
            },
        },
    ]


def pods_of(live: Live) -> dict[str, int]:
    """Return the uid of each pod of the agent, with the restarts of its containers."""
    return {
        pod["metadata"]["uid"]: sum(
            one["restartCount"]
            for kind in ("containerStatuses", "initContainerStatuses")
            for one in pod["status"].get(kind, ())
        )
        for pod in live.pods(AGENT)
    }


@requirement("tenants.refused")
def test_a_tenants_administrator_succeeds_with_nothing_against_another_tenant(tenants: Tenants) -> None:
    before = pods_of(tenants.victim)
    attempts = [*against_the_other_tenant(tenants), *against_the_programs(tenants), *at_home(tenants)]
    assert len({one.what for one in attempts}) >= ATTEMPTS

    wrong = [found for attempt in attempts if (found := tried(tenants.administrator, attempt))]
    assert not wrong, "\n".join(wrong)

    assert pods_of(tenants.victim) == before, "the same pods, and no restart"
    assert tenants.victim.condition(AGENT, "Ready")["status"] == "True"


def large_objects(namespace: str) -> list[dict[str, Any]]:
    """Return objects within all schemas and quotas that are as large as they may be."""
    metadata = {"name": "large", "namespace": namespace}
    rows = [{"agents": [AGENT], "source": "crm", "read": [f"r{row}-{each}" for each in range(64)]} for row in range(4)]
    configs = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"large-{number}", "namespace": namespace},
            "data": {"large": "x" * 1_000_000},
        }
        for number in range(20)
    ]
    policy = {"apiVersion": "interlock.dev/v1alpha1", "kind": "AgentPolicy", "metadata": metadata}
    return [policy | {"spec": {"dataAccess": rows}}, *configs]


def killed_agents(namespace: str) -> list[dict[str, Any]]:
    """Return agents that are killed when they are created, and the policy that lets them be."""
    objects = example_objects("01-first-agent", namespace)
    policy, agent = find(objects, "AgentPolicy"), find(objects, "Agent")
    names = [f"killed-{number}" for number in range(8)]
    policy["spec"]["dataAccess"][0]["agents"] = [AGENT, *names]
    killed = {"interlock.dev/kill-switch": "again and again", "interlock.dev/kill-switch-by": "x"}
    metadata = [{"name": name, "namespace": namespace, "annotations": killed} for name in names]
    return [policy, *({**agent, "metadata": one} for one in metadata)]


@requirement("tenants.flood")
def test_a_kill_takes_its_usual_time_while_another_tenant_floods_every_shared_part(tenants: Tenants) -> None:
    victim, administrator = tenants.victim, tenants.administrator

    def said(pod: str) -> str:
        return administrator.attempt("-n", administrator.namespace, "logs", pod).stdout

    def running() -> list[str]:
        return victim.running_containers()

    before = pods_of(victim)
    flood = a_flood(victim.within(SYSTEM), victim, AGENT, tenants.hostile.namespace, ADMINISTRATOR)
    for one in (flood, *large_objects(tenants.hostile.namespace)):
        administrator.kubectl("create", "-f", "-", stdin=json.dumps(one))
    try:
        eventually(
            lambda: "flooding" in administrator.attempt("-n", administrator.namespace, "logs", "flood").stdout,
            60,
            lambda: "no flood",
        )
        policy, *agents = killed_agents(tenants.hostile.namespace)
        administrator.apply(policy)
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": agents})
        eventually(lambda: administrator.attempt("apply", "-f", "-", stdin=body).returncode == 0, 30, lambda: "refused")
        called = len(victim.decisions(AGENT))
        eventually(lambda: len(victim.decisions(AGENT)) >= called + 10, 90, lambda: victim.agent_log(AGENT)[-2000:])
        assert pods_of(victim) == before, "the same pods, and no restart"
        assert victim.condition(AGENT, "Ready")["status"] == "True"

        began = time.monotonic()
        victim.annotate(AGENT, "INC-17 in the middle of a flood")
        eventually(lambda: not running(), KILL_SECONDS * TOLERANCE, lambda: str(running()))
        check_promise(time.monotonic() - began, KILL_SECONDS, "no container of a killed agent runs, in a flood")
    finally:
        administrator.kubectl("-n", administrator.namespace, "delete", "pod", "flood", "--grace-period=0", "--force")
    for program in ("interlock", "interlock-kill", "interlock-audit"):
        assert restarts(victim.within(SYSTEM), program) == 0, program


def restarts(system: Live, program: str) -> int:
    pods = system.items("pods", f"app.kubernetes.io/name={program}")
    return sum(one["restartCount"] for pod in pods for one in pod["status"]["containerStatuses"])
