"""Agent and guard in a pod each, on a network that enforces NetworkPolicies: no way leads round the guard."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import a_namespace
from tests.e2e.live import Live, eventually
from tests.e2e.probes import AS_THE_AGENT, Probe, a_pod, answered, assert_only_answered, until_answered
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(420)]

AGENT, OTHER = "first-agent", "other-agent"
CANARY = "canary-2290-do-not-leak"
PORT = 8000
LEAST_PROBES = 16


def staged(namespace: str, *names: str) -> list[dict[str, Any]]:
    """Return the first example in staging, for several agents, with a secret for its server."""
    objects = example_objects("01-first-agent", namespace)
    policy, binding, agent = (find(objects, kind) for kind in ("AgentPolicy", "MCPBinding", "Agent"))
    policy["spec"]["dataAccess"][0]["agents"] = list(names)
    policy["spec"]["audit"] = {"arguments": "Redacted"}
    binding["spec"]["environments"] = ["development", "staging"]
    reference = {"secretKeyRef": {"name": "crm", "key": "token"}}
    binding["spec"]["server"]["stdio"]["env"].append({"name": "CRM_TOKEN", "valueFrom": reference})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "crm", "namespace": namespace}}
    agents = [
        {**agent, "metadata": {**agent["metadata"], "name": name}, "spec": {**agent["spec"], "environment": "staging"}}
        for name in names
    ]
    return [secret | {"stringData": {"token": CANARY}}, policy, binding, *agents]


@pytest.fixture(scope="module")
def crowd(operator: Live) -> Iterator[Live]:
    """A namespace with two agents, their guards, and a pod that nothing holds back; one more such pod elsewhere."""
    with a_namespace(operator) as here, a_namespace(operator) as elsewhere:
        here.kubectl("label", "namespace", here.namespace, "interlock.dev/scrape=allowed")
        here.apply(*staged(here.namespace, AGENT, OTHER))
        for place in (here, elsewhere):
            place.apply(a_pod("free", PORT, place.namespace))
        for name in (AGENT, OTHER):
            here.until_ready(name, 120)
        for place in (here, elsewhere):
            place.kubectl("-n", place.namespace, "wait", "pod/free", "--for=condition=Ready", "--timeout=60s")
        here.kubectl("-n", here.namespace, "expose", "pod", "free", f"--port={PORT}")
        here.kubectl("-n", here.namespace, "annotate", "pod", "free", f"elsewhere={elsewhere.namespace}")
        yield here


def ip_of(live: Live, name: str, agent: str = "", container: str = "") -> str:
    pod = live.pods_with(agent, container)[-1] if agent else live.get("pod", name)
    return str(pod["status"]["podIP"])


def service_of(live: Live, name: str) -> str:
    return str(live.get("service", name)["spec"]["clusterIP"])


def guard_service(live: Live, agent: str) -> str:
    selector = f"interlock.dev/agent={agent},interlock.dev/revision,app.kubernetes.io/component=guard"
    [found] = live.items("services", selector)
    return str(found["spec"]["clusterIP"])


def the_other_namespace(live: Live) -> Live:
    return live.within(live.get("pod", "free")["metadata"]["annotations"]["elsewhere"])


def ways_out(live: Live) -> list[Probe]:
    """Return every way that we know of, but for the one that is meant."""
    node = live.items("pods", f"interlock.dev/agent={AGENT}")[0]["status"]["hostIP"]
    system, kube = live.within("interlock-system"), live.within("kube-system")
    elsewhere = the_other_namespace(live)
    [dns] = kube.items("services", "k8s-app=kube-dns")
    dns_pod = kube.items("pods", "k8s-app=kube-dns")[0]["status"]["podIP"]
    guard, other = (ip_of(live, "", name, "guard") for name in (AGENT, OTHER))
    free, far = ip_of(live, "free"), ip_of(elsewhere, "free")
    return [
        Probe("its guard's port for probes, by Service", "tcp", guard_service(live, AGENT), 7411),
        Probe("its guard's port for probes, by pod", "tcp", guard, 7411),
        Probe("its guard over UDP", "udp", guard, 7410, is_alive=False),
        Probe("its guard by ICMP", "icmp", guard, is_alive=False),
        Probe("another agent's guard, by Service", "tcp", guard_service(live, OTHER), 7410, is_alive=False),
        Probe("another agent's guard, by pod", "tcp", other, 7410, is_alive=False),
        Probe("another agent's guard's probes", "tcp", other, 7411),
        Probe("another agent's pod", "icmp", ip_of(live, "", OTHER, "agent"), is_alive=False),
        Probe("the API server, by Service", "tcp", service_of(live.within("default"), "kubernetes"), 443),
        Probe("the API server, on its node", "tcp", node, 6443),
        Probe("the kubelet", "tcp", node, 10250),
        Probe("etcd", "tcp", node, 2379),
        Probe("a port on the node that kube-proxy listens at", "tcp", node, 10256),
        Probe("DNS over UDP, by Service", "udp", dns["spec"]["clusterIP"], 53),
        Probe("DNS over TCP, by Service", "tcp", dns["spec"]["clusterIP"], 53),
        Probe("DNS over UDP, by pod", "udp", dns_pod, 53),
        Probe("a name in the cluster", "name", "kubernetes.default.svc", 443),
        Probe("a name outside, by the resolver", "name", "example.com", 443, is_alive=False),
        Probe("a TXT query to a resolver outside", "udp", "1.1.1.1", 53, is_alive=False),
        Probe("the internet over IPv4", "tcp", "1.1.1.1", 443, is_alive=False),
        Probe("the internet over IPv6", "tcp", "2606:4700:4700::1111", 443, is_alive=False),
        Probe("QUIC to the internet", "udp", "1.1.1.1", 443, is_alive=False),
        Probe("the metadata service of clouds", "tcp", "169.254.169.254", 80, is_alive=False),
        Probe("a pod of its namespace", "tcp", free, PORT),
        Probe("a pod of its namespace over UDP", "udp", free, PORT + 1),
        Probe("a pod of its namespace by ICMP", "icmp", free),
        Probe("a Service of its namespace", "tcp", service_of(live, "free"), PORT),
        Probe("a proxy in its namespace", "proxied", free, PORT),
        Probe("a pod of another namespace", "tcp", far, PORT),
        Probe("the operator, a Service of another namespace", "tcp", service_of(system, "interlock"), 8080),
        Probe("the collector of records", "tcp", service_of(system, "interlock-audit"), 7420, is_alive=False),
    ]


def the_way(live: Live) -> Probe:
    return Probe("its guard", "tcp", guard_service(live, AGENT), 7410)


def assert_the_agent_reaches(live: Live, names: set[str], probes: list[Probe]) -> None:
    assert_only_answered(live, live.pods_with(AGENT, "agent")[-1]["metadata"]["name"], "agent", probes, names)


@requirement("isolation.on-a-cluster")
def test_no_way_leads_out_of_the_agents_pod_but_its_guard(crowd: Live) -> None:
    probes = ways_out(crowd)
    assert len(probes) >= LEAST_PROBES

    until_answered(crowd, "free", "main", [probe for probe in probes if probe.is_alive])  # else they show nothing

    assert_the_agent_reaches(crowd, {"its guard"}, [*probes, the_way(crowd)])


def test_no_other_pod_uses_an_agents_guard(crowd: Live) -> None:
    by_pod = Probe("its guard, by pod", "tcp", ip_of(crowd, "", AGENT, "guard"), 7410)

    assert answered(crowd, "free", "main", [the_way(crowd), by_pod]) == set()
    assert_the_agent_reaches(crowd, {"its guard", "its guard, by pod"}, [the_way(crowd), by_pod])


@requirement("agent-key.on-a-cluster")
def test_a_server_in_the_guards_pod_is_not_taken_for_the_agent(crowd: Live) -> None:
    guard, service = ip_of(crowd, "", AGENT, "guard"), guard_service(crowd, AGENT)
    urls = [f"http://{at}:7410{path}" for at in (guard, service) for path in ("/mcp/crm", "/interlock-guessed/mcp/crm")]
    urls.append(f"http://{guard}:7412/")
    tries = json.dumps([(url, "guard:7410") for url in urls])

    done = crowd.exec(AGENT, "mcp-crm", "python", "-c", AS_THE_AGENT, tries)
    *by_pod, by_service, by_service_too, task = json.loads(done.stdout)
    assert all(answer.startswith("403 ") and "OwnPod" in answer for answer in by_pod), by_pod
    for answer in (by_service, by_service_too):  # the network may show the node as the caller, or let nothing through
        assert answer == "closed" or answer.startswith("403 "), answer
    assert task == "closed" or (task.startswith("403 ") and "OwnPod" in task), task


@requirement("isolation.on-a-cluster")
def test_only_namespaces_that_may_scrape_reach_the_ports_of_metrics(crowd: Live) -> None:
    system = crowd.within("interlock-system")
    ports = [Probe("the guard", "tcp", ip_of(crowd, "", AGENT, "guard"), 7411)]
    ports += [Probe(name, "tcp", service_of(system, name), 8080) for name in ("interlock", "interlock-kill")]

    until_answered(crowd, "free", "main", ports)
    assert answered(the_other_namespace(crowd), "free", "main", ports) == set()


@requirement("isolation.on-a-cluster")
def test_no_other_pod_reaches_the_agents_pod(crowd: Live) -> None:
    listen = (
        "import socket\none = socket.create_server(('0.0.0.0', 9000))\none.settimeout(60)\nwhile True: one.accept()\n"
    )
    pod = crowd.pods_with(AGENT, "agent")[-1]
    here = ("-n", crowd.namespace, "exec", pod["metadata"]["name"], "-c", "agent", "--")
    crowd.kubectl(*here, "sh", "-c", f'python -c "{listen}" >/dev/null 2>&1 &')
    local = Probe("from inside", "tcp", "127.0.0.1", 9000)
    door = Probe("the agent's pod", "tcp", pod["status"]["podIP"], 9000)

    assert_the_agent_reaches(crowd, {"from inside"}, [local])
    assert answered(crowd, "free", "main", [door]) == set()
    assert_the_agent_reaches(crowd, {"from inside"}, [local])  # it listens still


@requirement("isolation.on-a-cluster")
def test_the_agent_works_through_its_guard_and_the_status_says_that_egress_is_enforced(crowd: Live) -> None:
    crowd.until_said(AGENT, "allowed: list_contacts", "denied: ToolNotMapped export_everything")
    found = crowd.condition(AGENT, "EgressEnforced")
    assert (found["status"], found["reason"]) == ("True", "EgressClosed")


@requirement("isolation.canaries")
def test_the_secret_of_a_server_is_nowhere_that_the_agent_and_readers_see(crowd: Live) -> None:
    eventually(lambda: len(crowd.decisions(AGENT)) > 3, 60, lambda: crowd.log(AGENT, "guard")[-2000:])
    assert "/proc/1/environ" in crowd.places(AGENT, "mcp-crm", CANARY), "where it belongs"
    assert crowd.places(AGENT, "agent", CANARY) == []
    assert crowd.places(AGENT, "guard", CANARY) == []
    everything = "all,agents,agentpolicies,mcpbindings,configmaps,events,leases,networkpolicies,roles,rolebindings"
    metrics = crowd.exec(AGENT, "guard", "/opt/venv/bin/python", "-c", READ_METRICS).stdout
    seen = {
        "the agent's log": crowd.agent_log(AGENT),
        "the egress check's log": crowd.log(AGENT, "egress-check") + "\n",
        "the guard's log and records": crowd.log(AGENT, "guard"),
        "objects, their status and Events": crowd.kubectl("-n", crowd.namespace, "get", everything, "-o", "yaml"),
        "metrics": metrics,
        "the operator's log": crowd.log_of("interlock"),
        "the collector's log": crowd.log_of("interlock-audit"),
    }
    assert [what for what, text in seen.items() if not text] == []
    assert [what for what, text in seen.items() if CANARY in text] == []
    eventually(lambda: stands_in_the_collectors_store(crowd, crowd.namespace), 60, lambda: "no record has arrived")
    assert not stands_in_the_collectors_store(crowd, CANARY)


def stands_in_the_collectors_store(live: Live, text: str) -> bool:
    search = ("sh", "-c", 'grep -rlaF -e "$0" /var/lib/interlock-audit || true', text)
    return bool(live.kubectl("-n", "interlock-system", "exec", "deployment/interlock-audit", "--", *search))


READ_METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:7411/metrics').read().decode())"


def test_a_kill_ends_agent_and_guard_on_the_node_and_off_brings_both_back(crowd: Live) -> None:
    def running(agent: str) -> list[str]:
        return [one for one in crowd.running_containers() if one.startswith(f"{agent}-")]

    def replicas() -> set[int]:
        return {one["spec"]["replicas"] for one in crowd.items("deployments", f"interlock.dev/agent={AGENT}")}

    assert {one.partition("/")[2] for one in running(AGENT)} >= {"agent", "guard", "mcp-crm"}
    others = running(OTHER)

    crowd.annotate(AGENT, "INC-7 leaves its pod")
    eventually(lambda: not running(AGENT), 15, lambda: str(running(AGENT)))
    eventually(lambda: replicas() == {0}, 60, lambda: str(replicas()))
    assert running(OTHER) == others, "no other agent's"

    crowd.annotate(AGENT, "off")
    crowd.until_ready(AGENT, 120)


@pytest.mark.exclusive
@requirement("isolation.on-a-cluster")
def test_without_its_guard_the_agent_reaches_nothing(crowd: Live) -> None:
    live = crowd
    probes = [*ways_out(live), the_way(live)]
    [guards] = live.items("deployments", f"interlock.dev/agent={AGENT},app.kubernetes.io/component=guard")
    system = ("-n", "interlock-system", "scale", "deployment/interlock")
    live.kubectl(*system, "--replicas=0")  # it would heal what is done next
    try:
        eventually(lambda: not live.within("interlock-system").items("pods", OPERATOR), 60, lambda: "operator runs")
        live.kubectl("-n", live.namespace, "scale", "deployment", guards["metadata"]["name"], "--replicas=0")
        eventually(lambda: not live.pods_with(AGENT, "guard"), 60, lambda: str(live.starting_pods(AGENT)))

        assert_the_agent_reaches(live, set(), probes)
    finally:
        live.kubectl(*system, "--replicas=1")
        live.kubectl("-n", "interlock-system", "rollout", "status", "deployment/interlock", "--timeout=120s")
    live.until_ready(AGENT, 120)
    assert_the_agent_reaches(live, {"its guard"}, [the_way(live)])


OPERATOR = "app.kubernetes.io/name=interlock"
