"""Ten minutes in which every part of Interlock is ended again and again, while an agent is killed and released.

The kernel's killer for memory cannot be had on every machine that these tests run on: a container is ended with
SIGKILL at the node, which is what a container out of memory sees. Each agent has a server of its own over HTTP, whose
log says when a call arrived there, whatever became of the guard that forwarded it.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from subprocess import CompletedProcess
from typing import Any

import pytest

from interlock_contract.clock import utc_now
from tests.e2e.attempts import SYSTEM
from tests.e2e.conftest import a_namespace
from tests.e2e.flood import a_flood
from tests.e2e.live import Live, always, eventually
from tests.requirements import requirement
from tests.support.bounds import check_promise
from tests.support.examples import example_objects, find
from tools.machine.process import CommandFailedError

pytestmark = [pytest.mark.kind, pytest.mark.exclusive, pytest.mark.nightly, pytest.mark.timeout(1500)]

AGENT = "sales-reader"
CHAOS_SECONDS = 600
LEASE_SECONDS = 30
AWAY_SECONDS = 40
HEAL_SECONDS = 240
WITH_ACCESS_LOG = """
import runpy, uvicorn
run = uvicorn.run
uvicorn.run = lambda app, **settings: run(app, **{**settings, "log_level": "info"})
runpy.run_path("/app/crm_server.py", run_name="__main__")
"""
SEED = 17


class Chaos:
    """Threads that end parts of Interlock until they are told to stop, and what went wrong in them."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []
        self.failures: list[str] = []
        self.strikes: dict[str, int] = {}

    def every(self, seconds: float, what: str, do: Callable[[], None]) -> None:
        """Do something again and again, with about so many seconds between."""
        pause = random.Random(f"{SEED} {what}")  # noqa: S311 - no secret

        def work() -> None:
            while not self._over.wait(pause.uniform(seconds / 2, seconds * 1.5)):
                try:
                    do()
                    self.strikes[what] = self.strikes.get(what, 0) + 1
                except CommandFailedError:  # it was already gone
                    continue
                except Exception as error:  # noqa: BLE001 - a thread's exception would be lost
                    self.failures.append(f"{what}: {error!r}")

        self._threads.append(threading.Thread(target=work, name=what, daemon=True))

    def strike(self, namespace: str, container: str) -> None:
        """End every running container of a name, at its node."""
        for one in self._live.cluster.containers(namespace):
            if one.name == container and one.is_running:
                self._live.cluster.kill_container(one)

    @contextmanager
    def raging(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(timeout=60)


def insistently(live: Live, *arguments: str, seconds: float = 120) -> str:
    """Run kubectl until the API server takes it; return what it printed."""
    answers: list[CompletedProcess[str]] = []

    def done() -> bool:
        answers.append(live.attempt("--request-timeout=10s", *arguments))
        return answers[-1].returncode == 0

    eventually(done, seconds, lambda: f"kubectl {' '.join(arguments)}: {answers[-1].stderr}")
    return answers[-1].stdout


def switch(live: Live, value: str) -> datetime:
    """Set the agent's kill switch; return when the API server had taken it."""
    annotation = f"interlock.dev/kill-switch={value}"
    insistently(live, "-n", live.namespace, "annotate", "agents.interlock.dev", AGENT, annotation, "--overwrite")
    return utc_now()


def away(system: Live, deployment: str) -> None:
    """Keep a Deployment at zero replicas for a while."""
    scale = ("-n", SYSTEM, "scale", f"deployment/{deployment}")
    insistently(system, *scale, "--replicas=0")
    try:
        time.sleep(AWAY_SECONDS)
    finally:
        insistently(system, *scale, "--replicas=1")


def forwards(live: Live) -> list[datetime]:
    """Return when each request reached the agent's server."""
    log = insistently(live, "-n", live.namespace, "logs", "deployment/sales-crm", "--timestamps", "--tail=-1")
    return [
        datetime.fromisoformat(line.split(" ", 1)[0][:26] + "+00:00")
        for line in log.splitlines()
        if "POST /mcp" in line
    ]


def runs_on_the_node(live: Live) -> list[str]:
    """Return the agent's and its guard's running containers, as the node knows them."""
    return [one for one in live.running_containers() if not one.startswith("sales-crm-")]


def objects(namespace: str) -> list[dict[str, Any]]:
    """Return the example with a server that writes down its requests, and an agent that calls it without a pause."""
    found = example_objects("07-http-server", namespace)
    [server] = find(found, "Deployment")["spec"]["template"]["spec"]["containers"]
    server["command"] = ["python", "-c", WITH_ACCESS_LOG]
    [interval] = [one for one in find(found, "Agent")["spec"]["template"]["env"] if one["name"] == "CALL_INTERVAL"]
    interval["value"] = "0.2"
    return found


@pytest.fixture
def agents(operator: Live) -> Iterator[dict[str, Live]]:
    """Three agents in a namespace each: one that works, one that is killed and released, one that is not governed."""
    with ExitStack() as stack:
        found = {
            name: stack.enter_context(a_namespace(operator)) for name in ("working", "killed", "ungoverned", "flood")
        }
        for name in ("working", "killed", "ungoverned"):
            found[name].apply(*objects(found[name].namespace))
        for name in ("working", "killed", "ungoverned"):
            found[name].until_ready(AGENT, 180)
        yield found


def killed_and_released(killed: Live, ungoverned: Live) -> tuple[datetime, datetime]:
    """Kill an agent, watch its node for a lease, and release it; return when the kill was taken and when it ended."""
    began = switch(killed, "INC-1 in chaos")
    eventually(lambda: not runs_on_the_node(killed), 120, lambda: str(runs_on_the_node(killed)))
    always(
        lambda: not runs_on_the_node(killed) and not runs_on_the_node(ungoverned),
        LEASE_SECONDS,
        lambda: f"pods: {runs_on_the_node(killed)} {runs_on_the_node(ungoverned)}",
    )
    ended = utc_now()
    switch(killed, "off")
    eventually(lambda: bool(runs_on_the_node(killed)), 180, lambda: "no pod after the release")
    return began, ended


@requirement("chaos.on-a-cluster")
def test_in_ten_minutes_of_chaos_no_killed_and_no_ungoverned_agent_works_and_everything_heals(
    operator: Live, agents: dict[str, Live]
) -> None:
    working, killed, ungoverned = (agents[name] for name in ("working", "killed", "ungoverned"))
    system = operator.within(SYSTEM)
    chaos = Chaos(operator)
    chaos.every(120, "the operator is ended", lambda: chaos.strike(SYSTEM, "operator"))
    chaos.every(120, "the kill controller is ended", lambda: chaos.strike(SYSTEM, "kill-controller"))
    chaos.every(100, "the collector is away", lambda: away(system, "interlock-audit"))
    chaos.every(200, "the API server is ended", lambda: chaos.strike("kube-system", "kube-apiserver"))
    chaos.every(150, "a guard is ended", lambda: chaos.strike(working.namespace, "guard"))

    operator.kubectl("label", "namespace", agents["flood"].namespace, "interlock.dev/scrape=allowed")
    agents["flood"].apply(a_flood(system, working, AGENT, agents["flood"].namespace))
    policy = find(objects(ungoverned.namespace), "AgentPolicy")
    intervals: list[tuple[datetime, datetime]] = []
    with chaos.raging():
        end = time.monotonic() + CHAOS_SECONDS
        insistently(ungoverned, "-n", ungoverned.namespace, "delete", "agentpolicy", policy["metadata"]["name"])
        eventually(lambda: not runs_on_the_node(ungoverned), 120, lambda: str(runs_on_the_node(ungoverned)))
        while time.monotonic() < end:
            intervals.append(killed_and_released(killed, ungoverned))
    assert chaos.failures == []
    assert len(intervals) >= 3, "kills"
    assert len(chaos.strikes) == 5, chaos.strikes

    insistently(agents["flood"], "-n", agents["flood"].namespace, "delete", "pods", "--all", "--force")
    reached = forwards(killed)
    assert any(at < intervals[0][0] for at in reached), "it had worked before the first kill"
    after = [(at - began).total_seconds() for began, released in intervals for at in reached if began < at < released]
    latest = max(after, default=0.0)
    assert latest <= LEASE_SECONDS, f"{latest} s after a kill a call reached the server"
    check_promise(latest, LEASE_SECONDS, f"the last forward after one of {len(intervals)} kills in chaos")

    for program in ("interlock", "interlock-kill", "interlock-audit"):
        insistently(
            system, "-n", SYSTEM, "rollout", "status", f"deployment/{program}", "--timeout=10s", seconds=HEAL_SECONDS
        )
    for live in (working, killed):
        live.until_ready(AGENT, HEAL_SECONDS)
        calls = len(forwards(live))
        eventually(lambda live=live, calls=calls: len(forwards(live)) > calls, 60, lambda: "no call after the chaos")
    assert not runs_on_the_node(ungoverned)
    ungoverned.apply(policy)
    ungoverned.until_ready(AGENT, HEAL_SECONDS)
