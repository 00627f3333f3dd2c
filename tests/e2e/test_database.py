"""A database past the guard: the named agent reaches it and nothing else, and another agent does not."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import a_namespace
from tests.e2e.live import Live
from tests.e2e.probes import Probe, a_pod, answered
from tests.requirements import requirement
from tests.support.examples import example_objects, find

pytestmark = [pytest.mark.kind, pytest.mark.timeout(420)]

NAMED, OTHER = "first-agent", "other-agent"
PORT = 8000


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


def from_agent(live: Live, agent: str) -> set[str]:
    return answered(live, live.pods_with(agent, "agent")[-1]["metadata"]["name"], "agent", ways(live))


@requirement("egress.on-a-cluster")
def test_the_named_agent_reaches_the_database_and_nothing_else(service: Live) -> None:
    assert answered(service, "free", "main", ways(service)) == {probe.what for probe in ways(service)}

    assert from_agent(service, NAMED) == {"the database, by pod", "the database, by Service"}


@requirement("egress.on-a-cluster")
def test_another_agent_reaches_no_database_and_only_the_names_that_it_may_resolve(service: Live) -> None:
    assert from_agent(service, OTHER) == {"the DNS", "a name"}


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
