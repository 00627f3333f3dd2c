"""An agent with stages on a real cluster, and a client that sends it tasks without a pause."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from tests.e2e.live import Live, eventually
from tests.e2e.probes import a_pod

PROGRAM = (Path(__file__).parent / "programs" / "prober.py").read_text()
REGIONS = ("eu-west", "us-east", "-")
PROBER = "prober"
HAND_OVER_SECONDS = 1.0
"""Two placements serve the same for some milliseconds while one takes over, and longer where machines are busy."""
STAGE_SECONDS = 120
"""In which a stage must be entered: the soak is a part of it, and the pods start within the rest."""
SEND = (
    "import json, sys, urllib.request, urllib.error\n"
    "url, headers, task = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3].encode()\n"
    "try: print(urllib.request.urlopen(urllib.request.Request(url, task, headers), timeout=30).read().decode())\n"
    "except urllib.error.HTTPError as error: print(json.dumps({'status': error.code} | json.load(error)))\n"
)


@dataclass(frozen=True)
class Staged:
    """An agent with stages, as its user sees it."""

    live: Live
    agent: str

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.live.get("agents.interlock.dev", self.agent).get("status", {})
        return found

    def serves(self) -> dict[str, str]:
        """Return what each placement serves, by number of its revision and stage, such as 2/one-region."""
        placements = self.status.get("placements", [])
        return {f"{one['revision'].partition('-')[0]}/{one['stage']}": one["serves"] for one in placements}

    def until_serves(self, expected: dict[str, str], seconds: float = STAGE_SECONDS) -> None:
        """Wait until the placements serve exactly this."""
        eventually(lambda: self.serves() == expected, seconds, self.describe)

    def until_good(self, number: int) -> None:
        """Wait until the revision with this number is the good one, and alone."""

        def is_good() -> bool:
            good = self.status.get("rollout", {}).get("good", {})
            return good.get("number") == number and self.serves() == {f"{number}/everywhere": "all"}

        eventually(is_good, 2 * STAGE_SECONDS, self.describe)

    def describe(self) -> str:
        """Return what says why the rollout is where it is."""
        status = self.status
        said = [f"{one['type']}={one['status']} {one['reason']}: {one['message']}" for one in status["conditions"]]
        pods = self.live.kubectl("-n", self.live.namespace, "get", "pods", "-o", "wide")
        return "\n".join([json.dumps(status.get("rollout")), json.dumps(status.get("placements")), *said, pods])

    def revision(self, number: int) -> str:
        """Return the name of a revision that the status still names."""
        rollout = self.status["rollout"]
        known = [rollout.get("newest"), rollout.get("good"), *rollout.get("passed", ())]
        return next(f"{one['number']}-{one['digest'][:10]}" for one in known if one and one["number"] == number)

    def change(self, variable: str, value: str) -> None:
        """Change the agent: another value of an environment variable."""
        agent = self.live.get("agents.interlock.dev", self.agent)
        env = [one for one in agent["spec"]["template"].get("env", ()) if one["name"] != variable]
        self._patch({"spec": {"template": {"env": [*env, {"name": variable, "value": value}]}}})

    def scale(self, replicas: int) -> None:
        """Give the agent this many replicas."""
        self._patch({"spec": {"replicas": replicas}})

    def ready_pods(self) -> int:
        """Return how many pods the agent has if all of them are Ready, -1 otherwise."""
        pods = self.live.pods(self.agent)
        ready = [one["status"] for pod in pods for one in pod["status"].get("conditions", ()) if one["type"] == "Ready"]
        return len(pods) if ready == ["True"] * len(pods) else -1

    def gate(self, stage: str, gates: dict[str, Any]) -> None:
        """Give a stage these gates."""
        stages = self.live.get("agents.interlock.dev", self.agent)["spec"]["rollout"]["stages"]
        changed = [one | ({"gates": gates} if one["name"] == stage else {}) for one in stages]
        self._patch({"spec": {"rollout": {"stages": changed}}})

    def tests(self) -> list[tuple[str, str, str, int | None]]:
        """Return the tests of the newest revision: stage, name, outcome and exit code of each."""
        recorded = self.status.get("rollout", {}).get("tests", ())
        return [(one["stage"], one["name"], one["outcome"], one.get("exitCode")) for one in recorded]

    def log(self, stage: str) -> str:
        """Return what the agent's pods of a stage have printed."""
        pods = self.live.items("pods", f"interlock.dev/agent={self.agent},interlock.dev/stage={stage}")
        names = [pod["metadata"]["name"] for pod in pods if _has(pod, "agent")]
        return "".join(self.live.reader.log(self.live.namespace, name, "agent") for name in names)

    def command(self, verb: str, value: str | None) -> None:
        """Give a command about the rollout as the cluster's administrator; None takes it back."""
        user = self.live.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        name = f"interlock.dev/{verb}"
        by = {f"{name}-by": user if value is not None else None}
        self._patch({"metadata": {"annotations": {name: value} | by}})

    def _patch(self, change: dict[str, Any]) -> None:
        where = ("-n", self.live.namespace, "patch", "agents.interlock.dev", self.agent)
        self.live.kubectl(*where, "--type=merge", "-p", json.dumps(change))

    def condition(self, kind: str) -> tuple[str, str]:
        """Return status and reason of a condition."""
        found = self.live.condition(self.agent, kind)
        return found["status"], found["reason"]

    def pods_of(self, stage: str) -> dict[str, int]:
        """Return the pods of a stage by uid, with how often their containers were restarted."""
        selector = f"interlock.dev/agent={self.agent},interlock.dev/stage={stage}"
        return {
            pod["metadata"]["uid"]: sum(one["restartCount"] for one in pod["status"].get("containerStatuses", ()))
            for pod in self.live.items("pods", selector)
        }

    def send(
        self, region: str | None, stage: str = "", *, is_forwarded: bool = False, **task: object
    ) -> dict[str, Any]:
        """Send one task from the prober's pod to the agent's Service, or to that of a stage; return the answer."""
        service = f"guard-{self.agent}--{stage}" if stage else f"guard-{self.agent}"
        headers = {"Content-Type": "application/json"} | ({"X-Region": region} if region else {})
        headers |= {"Interlock-Forwarded": "1"} if is_forwarded else {}
        program = ("python", "-c", SEND, f"http://{service}/", json.dumps(headers), json.dumps(task))
        answer = self.live.kubectl("-n", self.live.namespace, "exec", PROBER, "--", *program)
        found: dict[str, Any] = json.loads(answer)
        return found


def _has(pod: dict[str, Any], container: str) -> bool:
    return any(one["name"] == container for one in pod["spec"]["containers"])


@dataclass(frozen=True)
class Answers:
    """What the prober has printed: one answer for each task."""

    lines: tuple[dict[str, Any], ...]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return [one for one in self.lines if one["status"] != 200]

    def of(self, region: str) -> list[dict[str, Any]]:
        """Return the answers to tasks of a region, in the order in which they were sent."""
        return sorted((one for one in self.lines if one["region"] == region), key=lambda one: one["began"])

    def versions(self, region: str) -> list[str]:
        """Return the versions that answered tasks of a region, each once for each time that it took over.

        While one takes over, guards that have not read their new bundle yet still serve by the old one. So the two may
        alternate for a moment, which is no take-over.
        """
        lasting = [version for version, seconds in self.runs(region) if seconds > HAND_OVER_SECONDS]
        return [version for version, _ in groupby(lasting)]

    def runs(self, region: str) -> list[tuple[str, float]]:
        """Return which version answered tasks of a region without a break, and for how many seconds."""
        answered = [(one["version"], one["began"]) for one in self.of(region) if "version" in one]
        groups = [(version, [began for _, began in group]) for version, group in groupby(answered, key=itemgetter(0))]
        return [(version, round(times[-1] - times[0], 2)) for version, times in groups]


def start_prober(
    live: Live,
    agent: str,
    regions: Iterable[str] = REGIONS,
    *,
    name: str = PROBER,
    task: dict[str, Any] | None = None,
) -> None:
    """Start a prober, and wait until each region was served.

    Args:
        live: The namespace.
        agent: The agent that gets the tasks.
        regions: One of them for each of the prober's threads, `-` for tasks that name none.
        name: Of its pod.
        task: What each task says besides its seconds.
    """
    pod = a_pod(name, 1, live.namespace)
    [container] = pod["spec"]["containers"]
    container["env"] = [{"name": "TASK", "value": json.dumps(task or {})}]
    container["command"] = ["python", "-c", PROGRAM, f"http://guard-{agent}/", *regions]
    del container["readinessProbe"]
    live.apply(pod)
    eventually(
        lambda: {one["region"] for one in answers(live, name).lines} >= {*regions}, 60, lambda: str(answers(live, name))
    )


def answers(live: Live, name: str = PROBER) -> Answers:
    """Return what a prober has printed by now."""
    lines = live.reader.log(live.namespace, name, "main").splitlines()
    return Answers(tuple(json.loads(line) for line in lines if line.endswith("}")))
