"""A database past the guard: the named agent reaches it and nothing else, and another agent does not.

Once the policy no longer opens the database, a connection to it ends within seconds, though it has been open for long.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from interlock_contract.clock import utc_now
from tests.e2e.conftest import a_namespace
from tests.e2e.live import Live
from tests.e2e.probes import Probe, a_pod, assert_only_answered, until_answered
from tests.requirements import requirement
from tests.support import bounds
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(420)]

NAMED, OTHER = "first-agent", "other-agent"
PORT = 8000
PROMISED_SECONDS = 10
"""After how long a connection has ended at the latest: the operator reconciles, and a pod takes 2 to 3 s to end."""
LISTEN = r"""
import socket, sys, threading, time

def follow(connection):
    connection.settimeout(2.0)
    count = last = 0
    try:
        while connection.recv(64):
            count, last = count + 1, time.time()
            if count == 10:
                print("open", flush=True)
    except OSError:
        pass
    if count >= 10:
        print("ended", last, flush=True)

server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    threading.Thread(target=follow, args=server.accept()[:1], daemon=True).start()
"""
"""A database that says when a connection is used, and when it was used last. Probes of the kubelet send nothing."""
HOLD = r"""
import os, socket, sys, time

connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
if os.fork():
    sys.exit()
os.setsid()
for number in range(3):
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
while True:
    connection.send(b"x")
    time.sleep(0.05)
"""
"""A client that connects, goes on in the background, and uses its connection all the time."""


def staged(namespace: str, database: str, node: str) -> list[dict[str, Any]]:
    """Return the first example in staging for two agents: one may reach the database, the other the DNS."""
    objects = example_objects("01-first-agent", namespace)
    policy, binding, agent = (find(objects, kind) for kind in ("AgentPolicy", "MCPBinding", "Agent"))
    policy["spec"]["dataAccess"][0]["agents"] = [NAMED, OTHER]
    pods = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": database}},
        "podSelector": {"matchLabels": {"app": "database"}},
    }
    node_and_neighbours = f"{node.rpartition('.')[0]}.0/24"
    policy["spec"]["egress"] = [
        {"name": "database", "agents": [NAMED], "to": [pods], "ports": [{"port": PORT}]},
        {
            "name": "node",
            "agents": [NAMED],
            "to": [{"cidr": node_and_neighbours}],
            "ports": [{"port": 6443}, {"port": 10250}],
        },
        {
            "name": "names",
            "agents": [OTHER],
            "to": [{"podSelector": {"matchLabels": {"app": "nothing"}}}],
            "ports": [{"port": 9}],
            "dns": "Allowed",
        },
    ]
    binding["spec"]["environments"] = ["development", "staging"]
    agents = [
        {**agent, "metadata": {**agent["metadata"], "name": name}, "spec": {**agent["spec"], "environment": "staging"}}
        for name in (NAMED, OTHER)
    ]
    return [policy, binding, *agents]


@pytest.fixture(scope="module")
def service(operator: Live) -> Iterator[Live]:
    """A namespace with both agents. An annotation of the pod `free` names that of the database."""
    with a_namespace(operator) as here, a_namespace(operator) as elsewhere:
        for place, name in ((here, "free"), (elsewhere, "database"), (elsewhere, "neighbour")):
            place.apply(a_pod(name, PORT, place.namespace))
            place.kubectl("-n", place.namespace, "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        elsewhere.kubectl("-n", elsewhere.namespace, "expose", "pod", "database", f"--port={PORT}")
        here.kubectl("-n", here.namespace, "annotate", "pod", "free", f"database={elsewhere.namespace}")
        here.apply(*staged(here.namespace, elsewhere.namespace, here.get("pod", "free")["status"]["hostIP"]))
        for name in (NAMED, OTHER):
            here.until_ready(name, 120)
        yield here


def ways(live: Live) -> list[Probe]:
    elsewhere = live.within(live.get("pod", "free")["metadata"]["annotations"]["database"])
    database, neighbour = (elsewhere.get("pod", name)["status"]["podIP"] for name in ("database", "neighbour"))
    address = elsewhere.get("service", "database")["spec"]["clusterIP"]
    node = live.get("pod", "free")["status"]["hostIP"]
    [dns] = live.within("kube-system").items("services", "k8s-app=kube-dns")
    return [
        Probe("the database, by pod", "tcp", database, PORT),
        Probe("the database, by Service", "tcp", address, PORT),
        Probe("the database over UDP", "udp", database, PORT + 1),
        Probe("a pod next to the database", "tcp", neighbour, PORT),
        Probe("a pod of the agents' namespace", "tcp", live.get("pod", "free")["status"]["podIP"], PORT),
        Probe("the API server", "tcp", node, 6443),
        Probe("the kubelet", "tcp", node, 10250),
        Probe("the DNS", "udp", dns["spec"]["clusterIP"], 53),
        Probe("a name", "name", "kubernetes.default.svc", 443),
    ]


def assert_the_agent_reaches(live: Live, agent: str, names: set[str]) -> None:
    assert_only_answered(live, live.only_pod(agent, "agent")["metadata"]["name"], "agent", ways(live), names)


@requirement("egress.on-a-cluster")
def test_the_named_agent_reaches_the_database_and_nothing_else(service: Live) -> None:
    until_answered(service, "free", "main", ways(service))

    assert_the_agent_reaches(service, NAMED, {"the database, by pod", "the database, by Service"})


@requirement("egress.on-a-cluster")
def test_another_agent_reaches_no_database_and_only_the_names_that_it_may_resolve(service: Live) -> None:
    assert_the_agent_reaches(service, OTHER, {"the DNS", "a name"})


@requirement("egress.on-a-cluster")
@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (NAMED, ("its guard and 2 exceptions: database (pods app=database in namespaces", "node (")),
        (OTHER, ("its guard and 2 exceptions: names (", "the cluster's DNS")),
    ],
)
def test_the_status_names_what_is_open_and_that_nothing_of_it_is_recorded(
    service: Live, agent: str, words: tuple[str, ...]
) -> None:
    found = service.condition(agent, "EgressEnforced")

    assert (found["status"], found["reason"]) == ("True", "EgressOpened")
    assert [one for one in (*words, "neither metered nor recorded") if one not in found["message"]] == []


def a_listener(namespace: str) -> dict[str, Any]:
    """Return another pod of the database, which follows its connections."""
    pod = a_pod("held", PORT, namespace)
    pod["metadata"]["labels"] = {"app": "database"}
    pod["spec"]["containers"][0]["command"] = ["python", "-c", LISTEN, str(PORT)]
    return pod


@requirement("egress.on-a-cluster")
def test_an_open_connection_ends_within_seconds_once_the_policy_no_longer_opens_the_database(service: Live) -> None:
    """The last test: it takes the database away from its agent."""
    elsewhere = service.within(service.get("pod", "free")["metadata"]["annotations"]["database"])
    elsewhere.apply(a_listener(elsewhere.namespace))
    elsewhere.kubectl("-n", elsewhere.namespace, "wait", "pod/held", "--for=condition=Ready", "--timeout=60s")
    address = elsewhere.get("pod", "held")["status"]["podIP"]
    [pod] = service.pods_with(NAMED, "agent")
    name = pod["metadata"]["name"]
    command = ("-n", service.namespace, "exec", name, "-c", "agent", "--", "python", "-c", HOLD, address, str(PORT))
    # The network plugin opens the new pod of the database some moments after it has an address.
    bounds.eventually(lambda: service.attempt(*command).returncode == 0, "the agent connects", 30, poll=0.5)

    def said(word: str) -> list[str]:
        log = elsewhere.reader.log(elsewhere.namespace, "held", "main")
        return [line for line in log.splitlines() if line.startswith(word)]

    bounds.eventually(lambda: said("open") or None, "the connection is used", 30, poll=0.2)
    [policy] = service.items("agentpolicies.interlock.dev")
    removal = '[{"op": "remove", "path": "/spec/egress/0"}]'
    kind = f"agentpolicies.interlock.dev/{policy['metadata']['name']}"
    withdrawn_at = utc_now().timestamp()
    service.kubectl("-n", service.namespace, "patch", kind, "--type=json", "-p", removal)

    [ended] = bounds.eventually(lambda: said("ended") or None, "the connection has ended", 60, poll=0.2)
    assert float(ended.split()[1]) - withdrawn_at < PROMISED_SECONDS
    service.until_ready(NAMED, 120)
    assert name not in service.starting_pods(NAMED)
    assert_the_agent_reaches(service, NAMED, set())
