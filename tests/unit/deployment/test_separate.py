"""Agent and guard in a pod each: what each of them has, and what they reach of each other."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from interlock.deployment.children.network import build_network_policies
from interlock.deployment.children.services import build_internal_services, guard_url
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import agent_account, guard_account
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock_contract.names import AGENT_LABEL, GUARD_LABEL
from interlock_guard.egress_check import read_settings as read_gate_settings
from interlock_guard.settings import read_settings
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, a_separate_placement, a_stage, an_agent
from tests.support.pod_security import restricted_violations

SECRET = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "crm-secret", "key": "token"}}}]
CRM = a_binding().with_server(env=SECRET)
SCRAPERS = {"namespaceSelector": {"matchLabels": {"interlock.dev/scrape": "allowed"}}}
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def a_full_placement() -> Placement:
    agent = an_agent().using("crm", "mail").with_files({"prompts/system.md": "Be kind."}).with_replicas(2)
    mail = a_binding("mail").serving("mail", "development")
    policy = a_policy().giving("triage", "mail", read=["inbox"])
    return a_separate_placement(agent, policy=policy, bindings=(CRM, mail))


def workloads(placement: Placement) -> dict[str, Any]:
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in build_workloads(placement)}


def pods(placement: Placement) -> dict[str, Any]:
    return {name: one["spec"]["template"]["spec"] for name, one in workloads(placement).items()}


def children(placement: Placement, kind: str) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in desired_children(placement) if one["kind"] == kind}


def values(container: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


@requirement("isolation.by-environment")
@pytest.mark.parametrize(("environment", "count"), [("development", 1), ("staging", 2), ("production", 2)], ids=str)
def test_agent_and_guard_share_a_pod_in_development_and_have_one_each_elsewhere(environment: str, count: int) -> None:
    agent = an_agent().with_stages(a_stage("only", environment))

    assert len(build_workloads(a_placement(agent, policy=a_policy().isolating()))) == count


def test_a_policy_may_say_otherwise_for_each_environment() -> None:
    policy = a_policy().isolating(development="Separate", production="Shared")
    agent = an_agent().with_stages(a_stage("a", "development"), a_stage("b", "staging"), a_stage("c", "production"))

    assert [len(build_workloads(a_placement(agent, policy=policy, stage=at))) for at in range(3)] == [2, 2, 1]


def test_agent_and_guard_have_the_requested_number_of_pods_and_none_while_killed() -> None:
    for count in (2, 0):
        placement = replace(a_full_placement(), replicas=count)
        assert {one["spec"]["replicas"] for one in build_workloads(placement)} == {count}


@requirement("isolation.egress-check")
def test_the_egress_check_is_the_first_of_the_agents_pod_and_ends_before_the_agent_starts() -> None:
    pod = pods(a_full_placement())["agent"]

    assert [one["name"] for one in pod["initContainers"]] == ["egress-check"]
    assert "restartPolicy" not in pod["initContainers"][0]
    assert [one["name"] for one in pod["containers"]] == ["agent"]


@pytest.mark.parametrize(("environment", "required"), [("development", False), ("staging", True), ("production", True)])
def test_the_egress_check_gets_what_must_answer_what_must_not_and_whether_it_is_required(
    environment: str, required: object
) -> None:
    agent = an_agent().with_stages(a_stage("only", environment))
    placement = replace(a_separate_placement(agent), guard_addresses=("10.96.0.41", "fd00::41"))
    check = pods(placement)["agent"]["initContainers"][0]

    settings = read_gate_settings({**values(check), **KUBERNETES})

    assert (settings.guard.host, settings.guard.port) == ("guard", 7410)
    assert [one.authority for one in settings.closed] == ["10.96.0.41:7411", "[fd00::41]:7411", "10.96.0.1:443"]
    assert settings.requires_closed is required


def test_the_agent_finds_its_guard_by_a_name_in_its_own_hosts_without_dns() -> None:
    placement = a_full_placement()
    pod = pods(placement)["agent"]
    [secret] = children(placement, "Secret").values()

    assert pod["hostAliases"] == [{"ip": "10.96.0.41", "hostnames": ["guard"]}]
    assert (pod["dnsPolicy"], pod["dnsConfig"]) == ("None", {"nameservers": ["127.0.0.1"]})
    assert guard_url(placement) == "http://guard:7410"
    config = json.loads(base64.b64decode(secret["data"]["mcp.json"]))
    assert config["mcpServers"]["crm"]["url"] == f"http://guard:7410/{placement.agent_key}/mcp/crm"


def test_the_agents_own_pod_has_no_token_no_secret_no_pipe_and_nothing_of_the_guards() -> None:
    placement = a_full_placement()
    pod = pods(placement)["agent"]

    assert pod["serviceAccountName"] == agent_account(placement), "which has no rights"
    assert pod["automountServiceAccountToken"] is False
    assert {volume["name"] for volume in pod["volumes"]} == {"config", "tmp-agent"}
    for word in ("crm-secret", "serviceAccountToken", "guard-token", "pipes", "launcher", "spool"):
        assert word not in json.dumps(pod), word


def test_the_guards_pod_has_its_servers_and_nothing_of_the_agents() -> None:
    placement = a_full_placement()
    pod = pods(placement)["guard"]

    assert [one["name"] for one in pod["initContainers"]] == ["guard", "launcher"]
    assert [one.get("restartPolicy") for one in pod["initContainers"]] == ["Always", None]
    assert [one["name"] for one in pod["containers"]] == ["mcp-crm", "mcp-mail"]
    assert not any("restartPolicy" in one for one in pod["containers"])
    assert {volume["name"] for volume in pod["volumes"]} == {
        "launcher",
        "pipes",
        "guard-token",
        "spool",
        "tmp-mcp-crm",
        "tmp-mcp-mail",
    }
    assert pod["serviceAccountName"] == guard_account(placement)


def test_a_guard_without_sidecar_servers_is_an_ordinary_container() -> None:
    placement = a_separate_placement(bindings=(a_binding().over_http(),))
    pod = pods(placement)["guard"]

    assert "initContainers" not in pod
    assert [one["name"] for one in pod["containers"]] == ["guard"]
    assert "restartPolicy" not in pod["containers"][0]


def test_the_guard_listens_at_its_pods_address_under_the_name_that_the_agent_calls_it_by() -> None:
    guard = pods(a_full_placement())["guard"]["initContainers"][0]
    variables = values(guard)

    assert variables["INTERLOCK_LISTEN"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}
    settings = read_settings({**variables, **KUBERNETES, "INTERLOCK_POD": "p", "INTERLOCK_LISTEN": "10.244.0.7"})
    assert (settings.listen, settings.host, settings.mcp_port) == ("10.244.0.7", "guard", 7410)


def test_a_guard_that_shares_a_pod_keeps_to_loopback() -> None:
    guard = build_workloads(a_placement())[0]["spec"]["template"]["spec"]["initContainers"][0]

    assert not {"INTERLOCK_LISTEN", "INTERLOCK_HOST"} & set(values(guard))


def test_the_guards_service_selects_its_pods_alone_and_keeps_an_agent_with_one_of_them() -> None:
    placement = a_full_placement()
    [(_, service)] = [(name, one) for name, one in children(placement, "Service").items() if name.startswith("mcp-")]
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in workloads(placement).items()}

    assert service["spec"]["selector"].items() <= labels["guard"].items()
    assert not service["spec"]["selector"].items() <= labels["agent"].items()
    assert service["spec"]["sessionAffinity"] == "ClientIP"
    assert [port["port"] for port in service["spec"]["ports"]] == [7410, 7411]


def test_the_agents_stable_service_points_at_whatever_pod_the_guard_is_in() -> None:
    for placement in (a_placement(), a_separate_placement()):
        service = children(placement, "Service")["guard-triage"]
        found = [
            one["metadata"]["labels"]["app.kubernetes.io/component"]
            for one in build_workloads(placement)
            if service["spec"]["selector"].items() <= one["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert found == (["guard"] if placement.is_separate else ["agent"])


def test_without_an_address_of_the_guard_there_is_no_agent_yet() -> None:
    placement = replace(a_full_placement(), guard_addresses=())

    assert list(workloads(placement)) == ["guard"]
    assert any(name.startswith("mcp-") for name in children(placement, "Service"))


def test_a_new_address_of_the_guard_replaces_the_agents_pods() -> None:
    before, after = (
        pods(replace(a_full_placement(), guard_addresses=(address,)))["agent"] for address in ("10.0.0.1", "10.0.0.2")
    )

    assert before != after


def test_selectors_tell_agent_guard_and_the_shared_pod_apart() -> None:
    separate, shared = a_separate_placement(), a_placement()
    found = [*build_workloads(separate), *build_workloads(shared)]

    for one in found:
        wanted = one["spec"]["selector"]["matchLabels"]
        selected = [
            other for other in found if wanted.items() <= other["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert selected == [one]


@requirement("isolation.both-end")
def test_pods_and_deployments_of_both_carry_the_label_that_a_kill_goes_by() -> None:
    for one in build_workloads(a_full_placement()):
        assert one["metadata"]["labels"][AGENT_LABEL] == "triage"
        assert one["spec"]["template"]["metadata"]["labels"][AGENT_LABEL] == "triage"
        assert one["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 1


@requirement("deployment.pod-security")
def test_both_pods_pass_restricted() -> None:
    for pod in pods(a_full_placement()).values():
        assert restricted_violations(pod) == []


def test_no_two_containers_of_a_pod_share_a_uid() -> None:
    for pod in pods(a_full_placement()).values():
        uids = [one["securityContext"]["runAsUser"] for one in (*pod.get("initContainers", ()), *pod["containers"])]
        assert len(set(uids)) == len(uids)


# NetworkPolicies


def policies(placement: Placement) -> dict[str, Any]:
    found = children(placement, "NetworkPolicy")
    return {name.rsplit("-", 1)[-1]: one["spec"] for name, one in found.items()}


@requirement("isolation.agent-egress")
def test_an_agent_is_let_out_to_its_own_guards_port_and_to_nothing_else() -> None:
    placement = a_full_placement()
    spec = policies(placement)["agent"]
    guard = workloads(placement)["guard"]["spec"]["template"]["metadata"]["labels"]
    agent = workloads(placement)["agent"]["spec"]["template"]["metadata"]["labels"]

    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["ingress"] == []
    [rule] = spec["egress"]
    [peer] = rule["to"]
    assert rule["ports"] == [{"port": 7410, "protocol": "TCP"}]
    assert list(peer) == ["podSelector"], "no address and no other namespace, so it is closed in every family"
    assert peer["podSelector"]["matchLabels"].items() <= guard.items()
    assert peer["podSelector"]["matchLabels"][GUARD_LABEL] == "triage"
    assert spec["podSelector"]["matchLabels"].items() <= agent.items()


@requirement("isolation.agent-egress")
def test_a_policy_of_the_agent_as_a_whole_closes_its_own_pods_whatever_becomes_of_the_others() -> None:
    placement = a_full_placement()
    spec = policies(placement)["closed"]
    labels = {name: one["spec"]["template"]["metadata"]["labels"] for name, one in workloads(placement).items()}

    assert (spec["policyTypes"], "ingress" in spec, "egress" in spec) == (["Ingress", "Egress"], False, False)
    assert spec["podSelector"]["matchLabels"].items() <= labels["agent"].items()
    assert not spec["podSelector"]["matchLabels"].items() <= labels["guard"].items()


def test_a_guard_admits_its_agent_and_probes() -> None:
    placement = a_full_placement()
    tools, probes = policies(placement)["guard"]["ingress"]
    agent = workloads(placement)["agent"]["spec"]["template"]["metadata"]["labels"]

    assert tools["ports"] == [{"port": 7410, "protocol": "TCP"}]
    [peer] = tools["from"]
    assert peer["podSelector"]["matchLabels"].items() <= agent.items()
    assert probes == {"from": [SCRAPERS, peer], "ports": [{"port": 7411, "protocol": "TCP"}]}


def test_a_shared_pod_has_one_policy() -> None:
    [policy] = build_network_policies(a_placement())

    assert policy["metadata"]["name"] == build_workloads(a_placement())[0]["metadata"]["name"]


def test_an_agent_that_takes_tasks_is_reached_by_its_guard_at_that_port_alone() -> None:
    placement = a_separate_placement(an_agent().taking_tasks(8080))
    found = policies(placement)
    [rule] = found["agent"]["ingress"]
    out = found["guard"]["egress"][0]
    guard = workloads(placement)["guard"]["spec"]["template"]["metadata"]["labels"]
    agent = workloads(placement)["agent"]["spec"]["template"]["metadata"]["labels"]
    [_, service] = build_internal_services(placement)
    [container, _] = pods(placement)["guard"]["initContainers"]
    *_, tasks = found["guard"]["ingress"]

    assert values(container)["INTERLOCK_AGENT_HOST"] == f"{service['metadata']['name']}.agents.svc"
    assert tasks == {"from": [{"podSelector": {}}], "ports": [{"port": 7412, "protocol": "TCP"}]}
    assert any({"port": 53, "protocol": "UDP"} in one.get("ports", ()) for one in found["guard"]["egress"])
    assert rule["ports"] == out["ports"] == [{"port": 8080, "protocol": "TCP"}]
    assert rule["from"][0]["podSelector"]["matchLabels"].items() <= guard.items()
    assert out["to"][0]["podSelector"]["matchLabels"].items() <= agent.items()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"].items() <= agent.items()
