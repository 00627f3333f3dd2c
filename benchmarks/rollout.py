"""What rollouts cost: agents in the middle of one while nothing is due, and promotions that are all due at once.

A fresh kwok cluster: a real API server with etcd, controllers and scheduler; nodes and pods are simulated. Each agent
has a good revision that serves production, and a second one in staging whose soak is over and that waits for an
approval. Then nothing is due, and the operator has nothing to write. One change of the policy, which then requires
none, lets all of them go on at the same time. The clock runs until each second revision is good. Requests are counted
in the API server's audit log.

For comparison, the same numbers of the same writes are sent by clients that do nothing else, on the same cluster:
children of the placements are created and deleted, and the status of each agent is written. The last line is JSON.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.in_pod import OPERATOR_USER, operator_in_pod
from benchmarks.reconcile import CREATORS, NAMESPACE, Cluster, children_template, cluster, watch
from tests.integration.operator import objects
from tests.integration.operator.api import Access, Api, Json
from tests.support.operator_process import OperatorProcess, kill_controller
from tests.support.verification_jobs import VerificationJobs

SOAK_SECONDS = 5
IDLE_SECONDS = 60.0
SETTLE_SECONDS = 15.0
"""After which the operator has written all that it had to write about what happened before."""
SECONDS_PER_AGENT = 3.0
LEAST_SECONDS = 180.0
HEARTBEATS = frozenset({"leases"})


def agent(number: int, variant: str) -> Json:
    """Return an Agent that goes from staging to production."""
    stages = [
        {"name": "staging", "environment": "staging", "minDuration": f"{SOAK_SECONDS}s"},
        {"name": "everywhere", "environment": "production"},
    ]
    made = objects.agent(f"agent-{number:04}", rollout={"stages": stages})
    made["spec"]["template"]["env"] = [{"name": "VARIANT", "value": variant}]
    return made


def spread(access: Access, count: int, send: Callable[[Api, int], Any]) -> None:
    """Send something for each of `count` numbers, by several connections."""

    def some(first: int) -> None:
        client = Api(access)
        for number in range(first, count, CREATORS):
            send(client, number)
        client.close()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(some, range(CREATORS)))


class Rollouts:
    """So many agents on a fresh cluster, and what they have come to."""

    def __init__(self, prepared: Cluster) -> None:
        self.prepared = prepared
        self.api = prepared.api
        self.count = prepared.agents

    def require_approval(self, *classes: str) -> None:
        """Let the policy require approvals before stages of these classes of environments."""
        change = {"spec": {"rollout": {"requireApproval": list(classes)}}}
        self.api.patch("agentpolicies", NAMESPACE, objects.POLICY, change)

    def serve(self) -> None:
        """Create the agents, and wait until each has a good revision."""
        self._send("hello", lambda client, made: client.create(made, NAMESPACE))
        self.until("a good revision", lambda one: _number(one, "good") == 1)

    def change(self) -> None:
        """Change each agent, and wait until its second revision waits for nothing but an approval."""
        self.require_approval("production")

        def send(client: Api, made: Json) -> None:
            env = {"spec": {"template": {"env": made["spec"]["template"]["env"]}}}
            client.patch("agents", NAMESPACE, made["metadata"]["name"], env)

        self._send("good morning", send)
        self.until("a second revision that waits for an approval", _is_held)

    def promote(self) -> float:
        """Let all go on; return the seconds until each second revision is good."""
        started = time.monotonic()
        self.require_approval()
        self.until("a second revision that is good", lambda one: _number(one, "good") == 2)
        return time.monotonic() - started

    def until(self, what: str, is_done: Callable[[Json], bool]) -> None:
        """Wait until all agents are so."""
        began = time.monotonic()
        bound = LEAST_SECONDS + self.count * SECONDS_PER_AGENT
        done: set[str] = set()
        while len(done) < self.count:
            if time.monotonic() > began + bound:
                raise SystemExit(f"only {len(done)} of {self.count} agents have {what}")
            for event in watch(self.api.access, "agents", bound):  # a list each second would take half of the processor
                if event["type"] == "ERROR":  # the API server has forgotten where this watch stands
                    break
                if is_done(event["object"]):
                    done.add(event["object"]["metadata"]["name"])
                if len(done) == self.count:
                    break
        print(f"{what}: {self.count} agents after {time.monotonic() - began:.0f} s", flush=True)

    def _send(self, variant: str, send: Callable[[Api, Json], Any]) -> None:
        spread(self.api.access, self.count, lambda client, number: send(client, agent(number, variant)))


def _number(one: Json, which: str) -> int:
    found = one.get("status", {}).get("rollout", {}).get(which) or {}
    return int(found.get("number", 0))


def _is_held(one: Json) -> bool:
    conditions = one.get("status", {}).get("conditions", ())
    held = ("PromotionPending", "ApprovalRequired")
    return _number(one, "newest") == 2 and any((found["type"], found["reason"]) == held for found in conditions)


def writes_by_resource(prepared: Cluster) -> Counter[str]:
    """Return what the operator has written since the mark, by verb and resource, without heartbeats and Events."""
    counted = prepared.written(OPERATOR_USER)
    return Counter({what: number for what, number in counted.items() if what.split()[1] not in HEARTBEATS})


def idle(prepared: Cluster, process: OperatorProcess) -> tuple[float, float]:
    """Return writes in a minute, and CPU in percent of one core, while nothing is due."""
    time.sleep(SETTLE_SECONDS)
    prepared.mark()
    began, cpu = time.monotonic(), process.cpu_seconds()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - began
    percent = 100 * (process.cpu_seconds() - cpu) / seconds
    written = writes_by_resource(prepared)
    print(f"idle: {percent:.2f} % of a core, writes: {dict(written)}", flush=True)
    return 60 * sum(written.values()) / seconds, percent


def bare(prepared: Cluster, written: Counter[str]) -> float:
    """Send the writes of the promotions once more, by clients that do nothing else; return the seconds.

    Args:
        prepared: The cluster, on which no operator runs any more.
        written: What the operator has written.
    """
    template = children_template()
    statuses = round(sum(number for what, number in written.items() if what == "patch agents") / prepared.agents)
    known = {one["metadata"]["name"]: one for one in prepared.api.listed("agents", NAMESPACE)}
    started = time.monotonic()

    def send(client: Api, number: int) -> None:
        name = f"agent-{number:04}"
        created = [_renamed(child, f"bare-{number:04}") for child in template]
        for child in created:
            client.request("POST", _collection(child), child)
        for turn in range(statuses):
            status = known[name]["status"] | {"observedGeneration": turn}
            path = f"/apis/interlock.dev/v1alpha1/namespaces/{NAMESPACE}/agents/{name}/status"
            client.request("PATCH", path, {"status": status}, "application/merge-patch+json")
        for child in created:
            client.request("DELETE", f"{_collection(child)}/{child['metadata']['name']}")

    spread(prepared.api.access, prepared.agents, send)
    return time.monotonic() - started


def _renamed(child: Json, name: str) -> Json:
    """Return a child for another agent, without an owner that the garbage collector would look for."""
    metadata = {key: value for key, value in child["metadata"].items() if key != "ownerReferences"}
    return {**child, "metadata": metadata | {"name": f"{name}-{metadata['name']}"[:63].rstrip("-")}}


def _collection(manifest: Json) -> str:
    """Return the path of the collection that an object belongs to."""
    kind, version = str(manifest["kind"]).lower(), manifest["apiVersion"]
    plural = f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"
    return f"/api{'s' if '/' in version else ''}/{version}/namespaces/{NAMESPACE}/{plural}"


def run(agents: int, folder: Path) -> dict[str, float]:
    """Return the figures of one size."""
    with cluster(agents) as prepared:
        served = ("development", "staging", "production")
        prepared.api.patch("mcpbindings", NAMESPACE, "crm-sandbox", {"spec": {"environments": list(served)}})
        process = operator_in_pod(prepared.made, folder / "serviceaccount", folder / "operator.log")
        killer = kill_controller(prepared.made.kubeconfig, folder / "kill.log").start()
        verifiers = VerificationJobs(lambda: Api(Access.of(prepared.made.kubeconfig))).start()
        process.start()
        try:
            prepared.wait_verified()
            rollouts = Rollouts(prepared)
            rollouts.serve()
            rollouts.change()
            verifiers.stop()
            writes, percent = idle(prepared, process)
            prepared.mark()
            seconds = rollouts.promote()
            time.sleep(SETTLE_SECONDS)
            written = writes_by_resource(prepared)
            print(f"promotions: {dict(written)}", flush=True)
        finally:
            process.stop()
            killer.stop()
        return {
            "agents": agents,
            "idle_writes_per_minute": round(writes, 1),
            "idle_cpu_percent": round(percent, 2),
            "promote_seconds": round(seconds, 1),
            "bare_patch_seconds": round(bare(prepared, written), 1),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1000, help="number of agents")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        print(json.dumps(run(chosen.agents, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
