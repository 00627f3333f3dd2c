"""Agent and guard in a pod each, at a real API server: what it takes, what it refuses, what pods' own words do."""

from typing import Any

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Json, Refused, eventually
from tests.integration.operator.sandbox import Sandbox, condition_of
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

CHILDREN = {
    "Deployment": 2,
    "ConfigMap": 2,
    "Lease": 1,
    "Service": 3,
    "ServiceAccount": 2,
    "Role": 1,
    "RoleBinding": 1,
    "NetworkPolicy": 3,
}
SAID = "open: 10.96.0.1:443 answered for 10 s"


@pytest.fixture
def separate(operator: OperatorProcess, sandbox: Sandbox) -> Sandbox:
    sandbox.apply_policy_and_bindings("triage", isolation="Separate")
    return sandbox


def start(sandbox: Sandbox, environment: str = "staging", **spec: Any) -> None:
    sandbox.create("triage", environment=environment, **spec)
    eventually(lambda: len(sandbox.children("triage").get("Deployment", [])) == 2, "agent and guard have a Deployment")


def component(sandbox: Sandbox, kind: str, part: str) -> Json:
    return sandbox.child("triage", kind, part)


def network_policies(sandbox: Sandbox, part: str) -> list[Json]:
    return [one for one in sandbox.children("triage")["NetworkPolicy"] if one["metadata"]["name"].endswith(f"-{part}")]


def is_guards(service: Json) -> bool:
    """Return True if this is the Service by which a placement's agent reaches its guard."""
    labels = service["metadata"]["labels"]
    return "interlock.dev/revision" in labels and labels["app.kubernetes.io/component"] == "guard"


def agent_pod(sandbox: Sandbox) -> Json:
    """Return the agent's pod once the simulated kubelet has started it, and writes no other status later."""
    labels = "interlock.dev/agent=triage,app.kubernetes.io/component=agent"

    def started() -> Json | None:
        pods = sandbox.api.listed("pods", sandbox.namespace, labels)
        return next((pod for pod in pods if pod["status"].get("podIP")), None)

    return eventually(started, "the agent has a pod that has started")


def say(sandbox: Sandbox, code: int, message: str = "") -> None:
    """Let the egress check of the agent's pod end so, as a kubelet would report it."""
    pod = agent_pod(sandbox)["metadata"]["name"]
    ended = {"exitCode": code, "message": message, "reason": "Error", "containerID": "containerd://x"}
    one = {
        "name": "egress-check",
        "image": "x",
        "imageID": "x",
        "ready": code == 0,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    path = f"/api/v1/namespaces/{sandbox.namespace}/pods/{pod}/status"
    sandbox.api.request("PATCH", path, {"status": {"initContainerStatuses": [one]}}, "application/merge-patch+json")


def reason(sandbox: Sandbox, kind: str) -> str:
    return str(condition_of(sandbox.agent("triage"), kind).get("reason"))


@requirement("isolation.by-environment")
def test_an_agent_outside_of_development_becomes_two_pods_and_every_child_is_taken(separate: Sandbox) -> None:
    start(separate)
    separate.wait_ready("triage")

    assert {kind: len(found) for kind, found in separate.children("triage").items()} == CHILDREN
    assert sorted(pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in separate.pods("triage")) == [
        "agent",
        "guard",
    ]


def test_an_agent_knows_the_address_of_its_guard(separate: Sandbox) -> None:
    start(separate)
    service = next(one for one in separate.children("triage")["Service"] if is_guards(one))
    pod = component(separate, "Deployment", "agent")["spec"]["template"]["spec"]

    assert pod["hostAliases"] == [{"ip": service["spec"]["clusterIP"], "hostnames": ["guard"]}]


def test_a_guard_is_let_out_to_the_api_server_that_kubernetes_names(separate: Sandbox) -> None:
    start(separate)
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    slices = separate.api.request("GET", path)
    behind = {address for one in slices["endpoints"] for address in one["addresses"]}
    port = slices["ports"][0]["port"]
    [policy] = [one["spec"] for one in network_policies(separate, "guard")]

    rule = next(one for one in policy["egress"] if {"port": port, "protocol": "TCP"} in one["ports"])
    assert {f"{address}/32" for address in behind} <= {peer["ipBlock"]["cidr"] for peer in rule["to"]}


@pytest.mark.parametrize(
    "network", ["Public", *(pytest.param(network, marks=pytest.mark.nightly) for network in ("None", "Private"))]
)
def test_the_api_server_takes_the_policy_of_every_network(separate: Sandbox, network: str) -> None:
    binding = objects.binding()
    binding["spec"]["server"]["stdio"]["network"] = network
    separate.api.apply(binding, separate.namespace)
    mail = objects.binding("mail", "staging")
    mail["spec"] |= {"source": "mail", "server": {"http": {"url": "https://mail.example.com/mcp"}}}
    separate.api.create(mail, separate.namespace)
    row = {"agents": ["triage"], "source": "mail", "read": ["contacts"]}
    spec = objects.policy("triage", isolation="Separate")["spec"]
    separate.api.patch(
        "agentpolicies", separate.namespace, objects.POLICY, {"spec": {"dataAccess": [*spec["dataAccess"], row]}}
    )
    start(separate, bindings=[{"source": "crm"}, {"source": "mail"}])

    separate.wait_ready("triage")


@requirement("isolation.open-network")
def test_an_open_network_that_a_pod_has_seen_refuses_the_agent_and_a_closed_one_lets_it_start(
    separate: Sandbox,
) -> None:
    start(separate)
    say(separate, 3, SAID)
    eventually(lambda: reason(separate, "Ready") == "NetworkOpen", "it is refused", 10)
    for kind, status in (("Ready", "False"), ("Stalled", "True"), ("EgressEnforced", "False")):
        found = separate.condition("triage", kind)
        assert (found["status"], found["reason"]) == (status, "NetworkOpen")
        assert "10.96.0.1:443 answered for 10 s" in found["message"]
    assert len(separate.children("triage")["Deployment"]) == 2

    say(separate, 0)
    eventually(lambda: reason(separate, "EgressEnforced") == "EgressClosed", "it says that egress is enforced", 10)
    separate.wait_ready("triage")


def test_what_was_seen_is_known_to_the_next_operator_too(separate: Sandbox, operator: OperatorProcess) -> None:
    start(separate)
    say(separate, 3, SAID)
    eventually(lambda: reason(separate, "Ready") == "NetworkOpen", "it is refused", 10)
    operator.kill()
    say(separate, 0)
    operator.start()

    eventually(lambda: reason(separate, "EgressEnforced") == "EgressClosed", "it says that egress is enforced")


@requirement("isolation.both-end")
def test_a_kill_ends_both_pods_and_holds_both_workloads_at_zero_against_any_scaler(separate: Sandbox) -> None:
    start(separate, replicas=2)
    eventually(lambda: len(separate.pods("triage")) == 4, "two pods of each")
    separate.api.patch(
        "agents", separate.namespace, "triage", {"metadata": {"annotations": {objects.KILL_SWITCH: "now"}}}
    )
    eventually(lambda: not separate.pods("triage") and separate.replicas("triage") == 0, "none of them is left")

    for part in ("agent", "guard"):
        separate.api.scale(separate.namespace, component(separate, "Deployment", part)["metadata"]["name"], 3)
        eventually(lambda: not separate.pods("triage") and separate.replicas("triage") == 0, f"the {part} is at zero")


def test_a_policy_that_was_deleted_or_widened_is_healed(separate: Sandbox) -> None:
    start(separate)
    separate.wait_ready("triage")
    for part in ("agent", "guard", "closed"):
        [name] = [one["metadata"]["name"] for one in network_policies(separate, part)]
        before = separate.api.get("networkpolicies", separate.namespace, name)["spec"]
        separate.api.patch("networkpolicies", separate.namespace, name, {"spec": {"egress": [{}]}})

        def is_healed(name: str = name, before: Json = before) -> bool:
            found = separate.api.find("networkpolicies", separate.namespace, name)
            return found is not None and found["spec"] == before

        eventually(is_healed, f"{part} is narrow again", 10)
        separate.api.delete("networkpolicies", separate.namespace, name)
        eventually(is_healed, f"{part} stands again", 10)


def test_a_change_of_the_isolation_replaces_the_pods_and_leaves_nothing_behind(separate: Sandbox) -> None:
    start(separate)
    separate.wait_ready("triage")
    for isolation, count in (("Shared", 1), ("Separate", 2)):
        spec = objects.policy("triage", isolation=isolation)["spec"]
        separate.api.patch("agentpolicies", separate.namespace, objects.POLICY, {"spec": spec})

        def is_replaced(isolation: str = isolation, count: int = count) -> bool:
            templates = [one["spec"]["template"] for one in separate.children("triage").get("Deployment", [])]
            pods = separate.pods("triage")
            kinds = {one["metadata"]["labels"]["interlock.dev/isolation"] for one in (*templates, *pods)}
            return len(templates) == len(pods) == count and kinds == {isolation}

        eventually(is_replaced, f"{isolation}: Deployments and pods of this kind and no others")
        separate.wait_ready("triage")


def test_a_guards_service_that_is_deleted_comes_back_and_the_agent_gets_its_new_address(separate: Sandbox) -> None:
    start(separate)
    separate.wait_ready("triage")

    def service() -> Json | None:
        found = separate.children("triage").get("Service", [])
        return next((one for one in found if is_guards(one)), None)

    before = service()
    assert before is not None
    separate.api.delete("services", separate.namespace, before["metadata"]["name"])

    def is_updated() -> bool:
        now = service()
        found = [
            one
            for one in separate.children("triage").get("Deployment", [])
            if one["metadata"]["labels"]["app.kubernetes.io/component"] == "agent"
        ]
        if now is None or now["metadata"]["uid"] == before["metadata"]["uid"] or not found:
            return False
        [alias] = found[0]["spec"]["template"]["spec"]["hostAliases"]
        return bool(alias["ip"] == now["spec"]["clusterIP"])

    eventually(is_updated, "the agent's pods know the new address")
    separate.wait_ready("triage")


@requirement("crd.accepted")
@pytest.mark.parametrize("environment", ["development", "staging", "production"])
def test_an_isolation_that_is_none_is_refused(sandbox: Sandbox, environment: str) -> None:
    policy = objects.policy("triage")
    policy["spec"]["environments"] = [{"name": environment, "isolation": "None"}]

    with pytest.raises(Refused, match='supported values: "Shared", "Separate"'):
        sandbox.api.create(policy, sandbox.namespace)


@requirement("crd.accepted")
@pytest.mark.parametrize("network", ["Any", "", "none"])
def test_a_network_that_is_none_of_the_three_is_refused(sandbox: Sandbox, network: str) -> None:
    binding = objects.binding()
    binding["spec"]["server"]["stdio"]["network"] = network

    with pytest.raises(Refused, match='supported values: "None", "Public", "Private"'):
        sandbox.api.create(binding, sandbox.namespace)
