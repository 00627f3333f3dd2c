import json
from typing import Any

from interlock.deployment.children.config import compile_bundle
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.plan import desired_children
from interlock_contract.bundle import BundleTasks
from interlock_contract.pod import TASK_PORT
from tests.requirements import requirement
from tests.support.builders import a_placement, an_agent

SCRAPERS = {"namespaceSelector": {"matchLabels": {"interlock.dev/scrape": "allowed"}}}
TAKING = a_placement(an_agent().taking_tasks(8080, maxConcurrentTasks=4))
NOT_TAKING = a_placement()


def child(placement: Any, kind: str) -> Any:
    return next(one["spec"] for one in desired_children(placement) if one["kind"] == kind)


def containers_of(placement: Any) -> dict[str, Any]:
    pod = build_workloads(placement)[0]["spec"]["template"]["spec"]
    return {one["name"]: one for one in (*pod["initContainers"], *pod["containers"])}


@requirement("tasks.way")
def test_the_service_takes_tasks_on_port_80_and_brings_them_to_the_guard() -> None:
    ports = {port["name"]: port for port in child(TAKING, "Service")["ports"]}
    guard = {port["name"]: port["containerPort"] for port in containers_of(TAKING)["guard"]["ports"]}

    assert (ports["tasks"]["port"], ports["tasks"]["targetPort"]) == (80, guard["tasks"])
    assert guard["tasks"] == TASK_PORT
    assert 8080 not in {port["targetPort"] for port in ports.values()}


@requirement("tasks.way")
def test_the_network_policy_opens_the_guards_port_to_the_namespace_and_the_agents_to_no_one() -> None:
    observe, tasks = child(TAKING, "NetworkPolicy")["ingress"]

    assert observe == {"from": [SCRAPERS], "ports": [{"port": 7411, "protocol": "TCP"}]}
    assert tasks == {"from": [{"podSelector": {}}], "ports": [{"port": 7412, "protocol": "TCP"}]}
    assert "8080" not in json.dumps(child(TAKING, "NetworkPolicy"))


@requirement("tasks.way")
def test_an_agent_without_a_port_has_no_way_for_tasks() -> None:
    assert [port["name"] for port in child(NOT_TAKING, "Service")["ports"]] == ["observe"]
    [observe] = child(NOT_TAKING, "NetworkPolicy")["ingress"]
    assert observe == {"from": [SCRAPERS], "ports": [{"port": 7411, "protocol": "TCP"}]}
    assert "readinessProbe" not in containers_of(NOT_TAKING)["agent"]
    assert compile_bundle(NOT_TAKING).tasks is None


def test_no_task_is_sent_to_a_pod_whose_agent_does_not_listen_yet() -> None:
    assert containers_of(TAKING)["agent"]["readinessProbe"]["tcpSocket"] == {"port": 8080}


def test_the_bundle_says_where_the_agent_listens_and_how_much_it_takes_at_once() -> None:
    assert compile_bundle(TAKING).tasks == BundleTasks(8080, 4)
    assert compile_bundle(a_placement(an_agent().taking_tasks(9000))).tasks == BundleTasks(9000, 8)
