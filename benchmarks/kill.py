"""The time to kill: quiet, under a tenant's flood of requests, and for an agent with a thousand pods.

A fresh kwok cluster: a real API server with few seats for requests, so that a flood fills them on a small machine, with
etcd, controllers and scheduler; nodes and pods are simulated. The kill controller runs with its own rights. The clock
runs from the start of `kubectl annotate` until every pod of the agent has a deletionTimestamp. A user with the role
`edit` runs it, so that these requests, too, pass priority and fairness. The flood lists and reads ConfigMaps and
patches an Agent of its own namespace, as one ServiceAccount.

The same kills under the same flood are measured once more without the FlowSchemas of manifests/base/flow-control.yaml.

The bare minimum for the thousand pods is one request of the administrator that deletes the collection of as many pods.
The last line is JSON.
"""

import argparse
import http.client
import json
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import yaml

from tests.integration.operator import objects
from tests.integration.operator.api import Access, Api, Json
from tests.integration.operator.conftest import write_kubeconfig
from tests.integration.operator.objects import KILL_SWITCH
from tests.support.bounds import eventually
from tests.support.operator_process import kill_controller
from tools.cluster import kwok

ROOT = Path(__file__).parents[1]
CLUSTER = "interlock-bench-kill"
NAMESPACE, TENANT = "bench", "tenant"
SEATS = ("kube-apiserver=max-requests-inflight=40", "kube-apiserver=max-mutating-requests-inflight=20")
PODS = 3
TRIALS = 15
CONNECTIONS = 60
"""Connections of the flood: more than the seats of a tenant's priority level, so that its requests wait."""
FLOOD_SECONDS = 5.0
"""Until the flood has filled the queues."""
LISTED = 200
"""Objects of one list of the flood."""
REQUESTS = (
    ("GET", f"/api/v1/namespaces/{TENANT}/configmaps", None, "application/json"),
    ("GET", f"/api/v1/namespaces/{TENANT}/configmaps/c-1", None, "application/json"),
    (
        "PATCH",
        f"/apis/interlock.dev/v1alpha1/namespaces/{TENANT}/agents/noise",
        json.dumps({"metadata": {"labels": {"noise": "on"}}}),
        "application/merge-patch+json",
    ),
)
"""What each connection of the flood sends in turn: methods, paths, bodies and types."""
DATA = {"text": "x" * 2000}
BOUND_SECONDS = 120.0


@contextmanager
def cluster() -> Iterator[kwok.KwokCluster]:
    """Make the cluster, with the CRDs and the objects of the installation."""
    made = kwok.create(CLUSTER, kwok.KwokOptions(nodes=20, extra_args=SEATS))
    try:
        kubectl = [str(made.kubectl), "--kubeconfig", str(made.kubeconfig)]
        for command in (
            ("apply", "--server-side", "-k", "crds"),
            ("wait", "--for=condition=Established", "--timeout=30s", "crd/agents.interlock.dev"),
            ("apply", "--server-side", "-k", "manifests/base"),
            ("create", "namespace", NAMESPACE),
            ("create", "namespace", TENANT),
            ("-n", TENANT, "create", "serviceaccount", "tenant"),
            an_editor(NAMESPACE, "--user=ada"),
            an_editor(TENANT, f"--serviceaccount={TENANT}:tenant"),
        ):
            subprocess.run([*kubectl, *command], cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
        yield made
    finally:
        made.delete()


def an_editor(namespace: str, subject: str) -> tuple[str, ...]:
    """Return the command that lets a subject, such as `--user=ada`, edit a namespace."""
    return ("-n", namespace, "create", "rolebinding", "editor", "--clusterrole=edit", subject)


def pods_of(api: Api, agent: str) -> list[Json]:
    """Return the agent's pods that are not being deleted."""
    found = api.listed("pods", NAMESPACE, f"interlock.dev/agent={agent}")
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def start_agent(api: Api, agent: str, pods: int) -> None:
    """Create an Agent, and pods with its label as its workload would."""
    api.create(objects.agent(agent), NAMESPACE)
    labels = {"interlock.dev/agent": agent}
    deployment: Json = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": agent, "labels": labels},
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "agent", "image": "none"}]},
            },
        },
    }
    api.create(deployment, NAMESPACE)
    eventually(lambda: len(pods_of(api, agent)) == pods, f"{agent} has its pods", BOUND_SECONDS)


def time_to_kill(api: Api, kubectl: list[str], agent: str) -> float:
    """Kill the agent; return the seconds until every pod of it is being deleted."""
    command = ("annotate", "agents.interlock.dev", agent, f"{KILL_SWITCH}=bench")
    return time_until_deleted(api, agent, lambda: subprocess.run([*kubectl, *command], check=True, capture_output=True))


def time_until_deleted(api: Api, agent: str, act: Callable[[], object]) -> float:
    """Do something; return the seconds until every pod of the agent is being deleted."""
    with api.watching("pods", NAMESPACE) as seen:
        living = {pod["metadata"]["uid"] for pod in pods_of(api, agent)}
        read = 0
        started = time.monotonic()
        act()

        def is_over() -> bool:
            nonlocal read
            while read < len(seen):
                metadata = seen[read]["object"]["metadata"]
                if seen[read]["type"] == "DELETED" or "deletionTimestamp" in metadata:
                    living.discard(metadata["uid"])
                read += 1
            return not living

        eventually(is_over, f"all pods of {agent} are being deleted", BOUND_SECONDS, poll=0.002)
        return time.monotonic() - started


class Flood:
    """Many connections of a tenant's ServiceAccount that list without a pause."""

    def __init__(self, token: str, access: Access) -> None:
        self._token, self._access = token, access
        self._stop = threading.Event()
        self.answers = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CONNECTIONS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        time.sleep(FLOOD_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        connection = http.client.HTTPSConnection(
            self._access.host,
            self._access.port,
            timeout=30,
            context=ssl._create_unverified_context(),  # noqa: S323, SLF001
        )
        while not self._stop.is_set():
            try:
                for method, path, body, content_type in REQUESTS:
                    connection.request(method, path, body, headers | {"Content-Type": content_type})
                    connection.getresponse().read()
                    self.answers += 1
            except (OSError, http.client.HTTPException):
                connection.close()


def waiting(api: Api) -> int:
    """Return how many requests wait for a seat in the API server."""
    lines = api.text("/metrics").splitlines()
    queued = [line for line in lines if line.startswith("apiserver_flowcontrol_current_inqueue_requests{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in queued)


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--pods", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, cluster() as made:
        folder, api = Path(name), Api(Access.of(made.kubeconfig))
        killer = kill_controller(
            write_kubeconfig(folder / "kill", made, api, "interlock-kill"), folder / "kill.log"
        ).start()
        try:
            print(json.dumps(measure(made, api, folder, trials=options.trials, pods=options.pods)))
        finally:
            killer.stop()


def measure(made: kwok.KwokCluster, api: Api, folder: Path, *, trials: int, pods: int) -> dict[str, float]:
    """Return the figures."""
    kubectl = [str(made.kubectl), "--kubeconfig", str(made.kubeconfig), "--as=ada", "-n", NAMESPACE]
    api.create(objects.agent("noise"), TENANT)
    for number in range(LISTED):
        api.request(
            "POST", f"/api/v1/namespaces/{TENANT}/configmaps", {"metadata": {"name": f"c-{number}"}, "data": DATA}
        )
    token = yaml.safe_load(write_kubeconfig(folder / "t", made, api, "tenant", namespace=TENANT).read_text())
    for number in range(3 * trials):
        start_agent(api, f"agent-{number}", PODS)
    quiet = [time_to_kill(api, kubectl, f"agent-{number}") for number in range(trials)]
    with Flood(token["users"][0]["user"]["token"], api.access) as flood:
        queued = waiting(api)
        flooded = [time_to_kill(api, kubectl, f"agent-{number}") for number in range(trials, 2 * trials)]
        queued = min(queued, waiting(api))
        names = ("interlock-kill", "interlock-guards", "interlock-accounts", "interlock-switches")
        subprocess.run([*kubectl[:3], "delete", "flowschemas", *names], check=True, capture_output=True)
        unprotected = [time_to_kill(api, kubectl, f"agent-{number}") for number in range(2 * trials, 3 * trials)]
    start_agent(api, "large", pods)
    swept = time_to_kill(api, kubectl, "large")
    start_agent(api, "bare", pods)
    path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=interlock.dev/agent=bare"
    bare = time_until_deleted(api, "bare", lambda: api.request("DELETE", path, {"gracePeriodSeconds": 1}))
    return {
        "quiet_p50_seconds": round(statistics.median(quiet), 3),
        "quiet_max_seconds": round(max(quiet), 3),
        "flooded_p50_seconds": round(statistics.median(flooded), 3),
        "flooded_max_seconds": round(max(flooded), 3),
        "flooded_ratio": round(statistics.median(flooded) / statistics.median(quiet), 2),
        "unprotected_p50_seconds": round(statistics.median(unprotected), 3),
        "unprotected_max_seconds": round(max(unprotected), 3),
        "flood_answers": flood.answers,
        "flood_waiting": queued,
        "sweep_pods": pods,
        "sweep_seconds": round(swept, 2),
        "sweep_pods_per_second": round(pods / swept, 1),
        "bare_seconds": round(bare, 2),
    }


if __name__ == "__main__":
    main()
