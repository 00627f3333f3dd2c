"""Agents per second to Ready, compared with a bare kopf handler on the same machine in the same run.

Bare handler and operator run in turn, as many pairs as asked for, and the figures are the medians of the pairs: a
shared processor is faster in one minute than in the next, so that one pair says little.

Each run has a fresh kwok cluster: a real API server with etcd, controllers and scheduler; nodes and pods are simulated.
The clock runs from the first Agent's creation until every Agent has its status and every Deployment its pod. Requests
are counted in the API server's audit log. The last line is JSON.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bare_handler import AGENT_NAME, AGENT_UID
from benchmarks.in_pod import OPERATOR_USER, operator_in_pod
from interlock.api.agent import Agent
from interlock.api.binding import MCPBinding
from interlock.api.policy import AgentPolicy
from interlock.deployment.content import content_of
from interlock.deployment.placement import BoundSource, Placement
from interlock.deployment.plan import desired_children
from interlock_contract.names import OPERATOR_NAMESPACE
from tests.integration.operator import objects
from tests.integration.operator.api import Access, Api, Json, Refused, eventually
from tests.support.operator_process import OperatorProcess, cpu_seconds, kill_controller
from tests.support.verification_jobs import VerificationJobs
from tools.cluster import kwok

ROOT = Path(__file__).parents[1]
AUDIT_POLICY = Path(__file__).parent / "audit-policy.yaml"
NAMESPACE = "bench"
CLUSTER = "interlock-bench"
CREATORS = 8
SERVICE_RANGE = "service-cluster-ip-range=10.96.0.0/16"  # kwokctl's own has room for 253 Services
MEMORY = "6GiB"  # the API server has 1.5 GB of 1 000 agents, and would collect garbage all the time
NODES = 20
ROW_LENGTH = 60
SECONDS_PER_AGENT = 1.0
LEAST_RUN_SECONDS = 120.0
QUIET_SECONDS = 3.0
RESTART_SECONDS = 20.0
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run has shown."""

    agents: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    rss_mb_at_rest: float
    reads: int
    writes: int
    events: int
    cluster_cpu_seconds: dict[str, float]
    restart_writes: int = 0
    restart_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Agents per second."""
        return self.agents / self.seconds


class Cluster:
    """A fresh cluster, prepared for so many Agents."""

    def __init__(self, made: kwok.KwokCluster, agents: int) -> None:
        assert made.audit_log is not None
        self.made = made
        self.agents = agents
        self.api = Api(Access.of(made.kubeconfig))
        self._log = made.audit_log
        self._offset = 0

    def prepare(self) -> None:
        """Install the CRDs, the namespace, the policy and the binding."""
        kubectl = [str(self.made.kubectl), "--kubeconfig", str(self.made.kubeconfig)]
        for command in (
            ("apply", "--server-side", "-k", "crds"),
            ("wait", "--for=condition=Established", "--timeout=30s", "crd/agents.interlock.dev"),
            ("create", "namespace", NAMESPACE),
            ("create", "namespace", OPERATOR_NAMESPACE),  # of the kill controller's Lease
        ):
            subprocess.run([*kubectl, *command], cwd=ROOT, check=True, timeout=60, stdout=subprocess.DEVNULL)
        names = [f"agent-{number:04}" for number in range(self.agents)]
        rows = [names[start : start + ROW_LENGTH] for start in range(0, len(names), ROW_LENGTH)]
        policy = objects.policy("x")
        row = policy["spec"]["dataAccess"][0]
        policy["spec"]["dataAccess"] = [row | {"agents": part} for part in rows]
        retried(lambda: self.api.create(policy, NAMESPACE))
        retried(lambda: self.api.create(objects.binding(), NAMESPACE))
        retried(lambda: self.api.listed("agents", NAMESPACE))

    def wait_verified(self) -> None:
        """Wait until the binding is verified: what is measured are agents, not how they wait for it."""

        def is_verified() -> bool:
            status = self.api.listed("mcpbindings", NAMESPACE)[0].get("status", {})
            return any((one["type"], one["status"]) == ("Verified", "True") for one in status.get("conditions", []))

        eventually(is_verified, "the binding is verified", RESTART_SECONDS)

    def create_agents(self) -> None:
        """Create all Agents, several at a time."""
        with ThreadPoolExecutor(CREATORS) as pool:
            list(pool.map(self._create_some, range(CREATORS)))

    def mark(self) -> None:
        """Count requests from now on."""
        self._offset = self._log.stat().st_size

    def requests(self, user: str = "") -> Counter[str]:
        """Count what operator or handler have asked for since the mark: reads, writes, events.

        The Lease of the kill controller, and Events about the installation, are not about Agents.

        Args:
            user: The name of its user; empty for every user of kopf and of our own client.
        """
        counted: Counter[str] = Counter()
        for entry in self._entries(user):
            is_event = entry["objectRef"].get("resource") == "events"
            is_write = entry["verb"] in WRITES
            counted["events" if is_event else "writes" if is_write else "reads"] += 1
        return counted

    def written(self, user: str) -> Counter[str]:
        """Count what a user has written since the mark besides Events, by verb and resource, such as `patch agents`."""
        written = (entry for entry in self._entries(user) if entry["verb"] in WRITES)
        counted = Counter(f"{entry['verb']} {entry['objectRef'].get('resource')}" for entry in written)
        return Counter({what: number for what, number in counted.items() if not what.endswith(" events")})

    def _entries(self, user: str) -> Iterator[Json]:
        """Yield the requests about Agents since the mark; `user` as in `requests`."""
        with self._log.open("rb") as log:
            log.seek(self._offset)
            for line in log:
                entry = json.loads(line)
                is_asked = entry["user"]["username"] == user if user else _is_our_client(entry)
                if is_asked and entry.setdefault("objectRef", {}).get("namespace") != OPERATOR_NAMESPACE:
                    yield entry

    def processor_times(self) -> dict[str, float]:
        """Return the CPU seconds of every part of the cluster by now."""
        times = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                program = path.read_bytes().split(b"\0")[0].decode()
                if f"/clusters/{CLUSTER}/" in program:
                    times[Path(program).name] = cpu_seconds(int(path.parent.name))
            except OSError:  # it has just ended
                continue
        return times

    def _create_some(self, creator: int) -> None:
        client = Api(self.api.access)
        for number in range(creator, self.agents, CREATORS):
            client.create(objects.agent(f"agent-{number:04}"), NAMESPACE)
        client.close()


def retried(ask: Callable[[], Any]) -> None:
    """Ask until a kind that has just been installed is served."""
    deadline = time.monotonic() + RESTART_SECONDS
    while True:
        try:
            ask()
        except Refused:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


def _is_our_client(entry: Json) -> bool:
    """Return True if kopf or our own client has sent a request of the audit log."""
    return bool(entry.get("userAgent", "").startswith(("interlock", "kopf")))


class Progress:
    """Follows Agents and Deployments until all of them are done."""

    def __init__(self, api: Api, wanted: int, is_done: Callable[[Json], bool]) -> None:
        self._remaining = {"agents": wanted, "deployments": wanted}
        self._checks = {"agents": is_done, "deployments": is_available}
        self._api = api
        self._seconds = LEAST_RUN_SECONDS + wanted * SECONDS_PER_AGENT
        self._threads = [threading.Thread(target=self._follow, args=(plural,), daemon=True) for plural in self._checks]

    def start(self) -> None:
        """Begin to follow."""
        for thread in self._threads:
            thread.start()

    def wait(self) -> None:
        """Wait until all is done."""
        deadline = time.monotonic() + self._seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(self._remaining.values()):
            raise SystemExit(f"not done within {self._seconds:.0f} s: {self._remaining} left")

    def _follow(self, plural: str) -> None:
        """Watch until all are done; restart a watch that the API server ends before, with a new list."""
        done: set[str] = set()
        wanted, check = self._remaining[plural], self._checks[plural]
        deadline = time.monotonic() + self._seconds
        while time.monotonic() < deadline:
            for event in watch(self._api.access, plural, self._seconds):
                if check(event["object"]):
                    done.add(event["object"]["metadata"]["name"])
                    self._remaining[plural] = wanted - len(done)
                if len(done) == wanted:
                    return


def watch(access: Access, plural: str, seconds: float) -> Iterator[Json]:
    """Yield the events of one collection."""
    group = {"agents": "/apis/interlock.dev/v1alpha1", "deployments": "/apis/apps/v1"}[plural]
    connection = access.connect(seconds)
    connection.request("GET", f"{group}/namespaces/{NAMESPACE}/{plural}?watch=1&timeoutSeconds={seconds:.0f}")
    answer = connection.getresponse()
    while line := answer.readline():
        yield json.loads(line)


def is_available(deployment: Json) -> bool:
    """Whether the pod of a Deployment serves."""
    return bool(deployment.get("status", {}).get("availableReplicas", 0) >= 1)


def is_ready(agent: Json) -> bool:
    """Whether the operator has brought the Agent to Ready."""
    conditions = agent.get("status", {}).get("conditions", [])
    return any((found["type"], found["status"]) == ("Ready", "True") for found in conditions)


def is_told(agent: Json) -> bool:
    """Whether the bare handler has written the Agent's status."""
    return "observedGeneration" in agent.get("status", {})


@contextmanager
def cluster(agents: int) -> Iterator[Cluster]:
    """Make a cluster for one run."""
    options = kwok.KwokOptions(
        nodes=NODES,
        audit_policy=AUDIT_POLICY,
        unlimited_qps=True,
        memory=MEMORY,
        extra_args=(f"kube-apiserver={SERVICE_RANGE}",),
    )
    made = kwok.create(CLUSTER, options)
    try:
        prepared = Cluster(made, agents)
        prepared.prepare()
        yield prepared
    finally:
        made.delete()


def measure(prepared: Cluster, process: OperatorProcess, is_done: Callable[[Json], bool], user: str = "") -> Run:
    """Create all Agents and measure until they are done; `user` as in `Cluster.requests`."""
    progress = Progress(prepared.api, prepared.agents, is_done)
    progress.start()
    before, cpu = prepared.processor_times(), process.cpu_seconds()
    prepared.mark()
    started = time.monotonic()
    prepared.create_agents()
    progress.wait()
    seconds = time.monotonic() - started
    time.sleep(QUIET_SECONDS)  # late writes count
    requests = prepared.requests(user)
    after = prepared.processor_times()
    return Run(
        agents=prepared.agents,
        seconds=seconds,
        cpu_seconds=process.cpu_seconds() - cpu,
        rss_mb=process.peak_rss_mb(),
        rss_mb_at_rest=process.rss_mb(),
        reads=requests["reads"],
        writes=requests["writes"],
        events=requests["events"],
        cluster_cpu_seconds={name: round(after[name] - before.get(name, 0.0), 1) for name in sorted(after)},
    )


def run_operator(agents: int, folder: Path) -> Run:
    """Measure the operator, and what it writes after a restart."""
    with cluster(agents) as prepared:
        process = operator_in_pod(prepared.made, folder / "serviceaccount", folder / "operator.log")
        killer = kill_controller(prepared.made.kubeconfig, folder / "kill.log").start()
        verifiers = VerificationJobs(lambda: Api(Access.of(prepared.made.kubeconfig))).start()
        process.start()
        try:
            prepared.wait_verified()
            verifiers.stop()
            run = measure(prepared, process, is_ready, OPERATOR_USER)
            process.stop()
            prepared.mark()
            started = time.monotonic()
            process.start()
            restart_seconds = time.monotonic() - started
            looked = process.metric("interlock_reconciles_total", 'kind="Agent"')
            deadline = time.monotonic() + RESTART_SECONDS
            while looked < agents and time.monotonic() < deadline:
                time.sleep(0.2)
                looked = process.metric("interlock_reconciles_total", 'kind="Agent"')
            assert looked >= agents, f"only {looked} of {agents} were looked at after the restart"
            time.sleep(QUIET_SECONDS)
            requests = prepared.requests(OPERATOR_USER)
        finally:
            process.stop()
            killer.stop()
    return dataclasses.replace(
        run,
        restart_writes=requests["writes"] + requests["events"],
        restart_seconds=restart_seconds,
    )


def run_bare(agents: int, folder: Path) -> Run:
    """Measure the bare handler."""
    template = folder / "children.json"
    template.write_text(json.dumps(children_template()), encoding="utf-8")
    with cluster(agents) as prepared:
        kubeconfig = prepared.made.kubeconfig
        command = (sys.executable, "-m", "benchmarks.bare_handler", str(kubeconfig), str(template))
        process = OperatorProcess(kubeconfig, folder / "bare.log", {}, command, "authentication has finished")
        process.start()
        try:
            return measure(prepared, process, is_told)
        finally:
            process.stop()


def children_template() -> list[Json]:
    """Return the children that the operator makes of an Agent here, with placeholders for name and uid."""
    raw = objects.agent(AGENT_NAME)
    raw["metadata"] |= {"namespace": NAMESPACE, "uid": AGENT_UID, "generation": 1, "resourceVersion": "1"}
    raw["metadata"].pop("annotations")
    agent = Agent.model_validate(raw)
    policy = AgentPolicy.model_validate(_stored(objects.policy(AGENT_NAME)))
    binding = MCPBinding.model_validate(_stored(objects.binding()))
    placement = Placement(
        agent=agent,
        policy=policy,
        stage=agent.spec.stages[0],
        revision=content_of(agent, policy, (binding,)).digest,
        sources=(BoundSource("crm", binding),),
        replicas=1,
        guard_image="registry.invalid/interlock/guard:dev",
    )
    return list(desired_children(placement))


def _stored(manifest: Json) -> Json:
    server = {"namespace": NAMESPACE, "uid": "1", "generation": 1, "resourceVersion": "1"}
    return manifest | {"metadata": manifest["metadata"] | server}


def say(name: str, run: Run) -> None:
    """Print one run."""
    told: dict[str, Any] = {
        "agents": run.agents,
        "agents_per_second": round(run.per_second, 1),
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "rss_mb": round(run.rss_mb, 1),
        "rss_mb_at_rest": round(run.rss_mb_at_rest, 1),
        "requests_per_agent": round((run.reads + run.writes + run.events) / run.agents, 2),
        "writes_per_agent": round(run.writes / run.agents, 2),
        "events_per_agent": round(run.events / run.agents, 2),
        "cluster_cpu_seconds": run.cluster_cpu_seconds,
    }
    print(f"{name}: {json.dumps(told)}", flush=True)


def figures(ours: Run, bare: Run) -> dict[str, float]:
    """Return the figures of one pair that are compared from version to version."""
    return {
        "agents": ours.agents,
        "agents_per_second": ours.per_second,
        "bare_agents_per_second": bare.per_second,
        "ratio": ours.seconds / bare.seconds,
        "writes_per_agent": ours.writes / ours.agents,
        "events_per_agent": ours.events / ours.agents,
        "restart_writes": ours.restart_writes,
        "restart_seconds": ours.restart_seconds,
        "rss_mb": ours.rss_mb,
        "rss_mb_at_rest": ours.rss_mb_at_rest,
        "cpu_ms_per_agent": 1000 * ours.cpu_seconds / ours.agents,
        "bare_cpu_ms_per_agent": 1000 * bare.cpu_seconds / bare.agents,
    }


def summary(pairs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the medians of the pairs' figures."""
    medians = {key: round(statistics.median(pair[key] for pair in pairs), 2) for key in pairs[0]}
    ratios = [round(pair["ratio"], 2) for pair in pairs]
    return medians | {"pairs": len(pairs), "ratio_min": min(ratios), "ratio_max": max(ratios)}


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=[200, 1000], help="sizes")
    parser.add_argument("--pairs", type=int, default=3, help="pairs for each size")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interlock-bench-") as folder:
        for agents in arguments.agents:
            pairs = [run_pair(agents, Path(folder)) for _ in range(arguments.pairs)]
            print(json.dumps(summary(pairs)), flush=True)


def run_pair(agents: int, folder: Path) -> dict[str, float]:
    """Measure the bare handler, then the operator."""
    bare = run_bare(agents, folder)
    say("bare handler", bare)
    ours = run_operator(agents, folder)
    say("operator", ours)
    return figures(ours, bare)


if __name__ == "__main__":
    main()
