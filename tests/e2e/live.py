"""A real cluster as a user sees it, through kubectl, and the node below it."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.e2e.reader import Reader
from tests.support import bounds
from tests.support.admission import is_unsettled
from tests.support.offspring import end_with_parent
from tools.cluster.kind import KindCluster

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Live:
    """The cluster, seen from one namespace."""

    cluster: KindCluster
    reader: Reader
    namespace: str = "default"
    credential: Path | None = None
    """A kubeconfig with another user's credential; the cluster administrator's by default."""

    def within(self, namespace: str) -> "Live":
        return replace(self, namespace=namespace)

    def with_token(self, token: str, file: Path) -> "Live":
        """Return the cluster as the bearer of a token sees it.

        Args:
            token: Of a ServiceAccount or a user.
            file: Where a kubeconfig with it is written.
        """
        config = json.loads(self.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
        config["users"][0]["user"] = {"token": token}
        file.write_text(json.dumps(config))
        file.chmod(0o600)
        return replace(self, credential=file)

    @property
    def _kubectl(self) -> list[str]:
        kubeconfig = self.credential or self.cluster.kubeconfig
        command = [self.cluster.kubectl, "--kubeconfig", kubeconfig, "--context", self.cluster.context]
        return [str(word) for word in command]

    def attempt(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._kubectl, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            cwd=ROOT,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.attempt(*arguments, stdin=stdin)
        bounds.check_kubectl(done.returncode, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> str:
        """Apply objects; again, while admission has not seen yet the AgentPolicy that was applied with its Agent."""
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})

        def applied() -> str | None:
            done = self.attempt("apply", "-f", "-", stdin=body)
            if is_unsettled(done.stderr):
                return None
            assert done.returncode == 0, f"kubectl apply: {done.stdout}{done.stderr}"
            return done.stdout

        return bounds.eventually(applied, "admission knows the AgentPolicy", 30, poll=0.2)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object, as the cluster's administrator sees it."""
        return self.reader.get(kind, self.namespace, name)

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind, as the cluster's administrator sees them."""
        return self.reader.items(kind, self.namespace, selector)

    def annotate(self, agent: str, value: str) -> None:
        self.kubectl(
            "-n",
            self.namespace,
            "annotate",
            "agents.interlock.dev",
            agent,
            f"interlock.dev/kill-switch={value}",
            "--overwrite",
        )

    def condition(self, agent: str, kind: str) -> dict[str, str]:
        conditions = self.get("agents.interlock.dev", agent).get("status", {}).get("conditions", [])
        return next((found for found in conditions if found["type"] == kind), {"status": "Unknown", "reason": ""})

    def until_ready(self, agent: str, seconds: float = 90) -> None:
        """Wait until status and pods are ready: after an absence of the operator, the status alone may be old."""
        eventually(
            lambda: self.condition(agent, "Ready")["status"] == "True" and self._are_up(agent),
            seconds,
            lambda: (
                f"{self.condition(agent, 'Ready')}\n{self.kubectl('-n', self.namespace, 'get', 'pods', '-o', 'wide')}"
            ),
        )

    def _are_up(self, agent: str) -> bool:
        """Whether each Deployment of an agent wants pods, and the agent has as many, all Ready.

        The pods themselves are asked: a Deployment counts one that was deleted until its controller has seen that.
        """
        wanted = [one["spec"]["replicas"] for one in self.items("deployments", f"interlock.dev/agent={agent}")]
        found = [pod for pod in self.pods(agent) if "deletionTimestamp" not in pod["metadata"] and _is_replica(pod)]
        return all(wanted) and len(found) == sum(wanted) and all(map(_is_ready, found))

    def stage(self, agent: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get("agents.interlock.dev", agent).get("status", {}).get("stage", {})
        return found

    def pods(self, agent: str) -> list[dict[str, Any]]:
        return self.items("pods", f"interlock.dev/agent={agent}")

    def starting_pods(self, agent: str) -> list[str]:
        """Return the agent's pods that are not terminating."""
        return [pod["metadata"]["name"] for pod in self.pods(agent) if "deletionTimestamp" not in pod["metadata"]]

    def until_said(self, agent: str, *texts: str) -> None:
        """Wait until each text stands in what the agent's newest pod has printed: a record precedes the answer."""

        def missing() -> list[str]:
            log = self.agent_log(agent)
            return [text for text in texts if text not in log]

        eventually(lambda: not missing(), 60, lambda: f"without {missing()}: {self.agent_log(agent)[-3000:]}")

    def until_condition(self, agent: str, kind: str, status: str) -> None:
        """Wait until a condition of the agent has this status."""
        eventually(
            lambda: self.condition(agent, kind).get("status") == status, 60, lambda: str(self.condition(agent, kind))
        )

    def agent_log(self, agent: str) -> str:
        """Return what the agent's newest pod has printed."""
        return self.log(agent, "agent")

    def decisions(self, agent: str) -> list[dict[str, Any]]:
        """Return the guard's decision records of the agent's newest pod."""
        return [record for record in map(json.loads, self.records(agent)) if record["kind"] == "decision"]

    def records(self, agent: str) -> list[str]:
        """Return every line of the chain that the guard of the agent's newest pod has written."""
        return [line for line in self.log(agent, "guard").splitlines() if line.startswith('{"guard":')]

    def pods_with(self, agent: str, container: str) -> list[dict[str, Any]]:
        """Return the agent's pods that have this container, the newest last: the guard may have pods of its own."""

        def has(pod: dict[str, Any]) -> bool:
            every = (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
            return container in [one["name"] for one in every]

        found = [pod for pod in self.pods(agent) if has(pod)]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def only_pod(self, agent: str, container: str) -> dict[str, Any]:
        """Return the agent's pod that has this container, once a rollout that may be under way has left one alone."""
        eventually(
            lambda: len(self.pods_with(agent, container)) == 1,
            120,
            lambda: str([pod["metadata"]["name"] for pod in self.pods_with(agent, container)]),
        )
        [pod] = self.pods_with(agent, container)
        return pod

    def log(self, agent: str, container: str) -> str:
        pods = self.pods_with(agent, container)
        if not pods:
            return ""
        return self.reader.log(self.namespace, pods[-1]["metadata"]["name"], container)

    def exec(self, agent: str, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        pod = self.only_pod(agent, container)
        return self.attempt("-n", self.namespace, "exec", pod["metadata"]["name"], "-c", container, "--", *command)

    def places(self, agent: str, container: str, text: str) -> list[str]:
        """Return the files and the processes' environments of a container that contain a text."""
        script = (
            'grep -rlaF -e "$0" /etc /tmp /app /home /root /run /srv /var /dev/shm 2>/dev/null;'
            'grep -laF -e "$0" /proc/[0-9]*/environ 2>/dev/null; true'
        )
        found_files = self.exec(agent, container, "sh", "-c", script, text)
        assert found_files.returncode == 0, found_files.stderr
        return found_files.stdout.split()

    def assert_only_the_guard_has(self, agent: str, secret: str, kinds: str) -> None:
        """Assert that a secret is in the guard's volume, and nowhere that the agent and readers see.

        Args:
            agent: Whose guard has it.
            secret: The text.
            kinds: Objects of the namespace in which it must not stand, separated by commas.
        """
        [key, *_] = self.places(agent, "guard", secret)
        assert key.startswith("/run/interlock/secrets/")
        assert self.places(agent, "agent", secret) == []
        seen = [
            self.agent_log(agent),
            self.log(agent, "guard"),
            self.kubectl("-n", self.namespace, "get", kinds, "-o", "yaml"),
            self.log_of("interlock"),
            self.log_of("interlock-kill"),
            self.log_of("interlock-audit"),
        ]
        assert all(seen[:4])
        assert not any(secret in text for text in seen)

    def app_log(self, app: str, container: str) -> str:
        """Return what the one pod with this label `app` has printed."""
        [pod] = self.items("pods", f"app={app}")
        return self.reader.log(self.namespace, pod["metadata"]["name"], container)

    def log_of(self, deployment: str) -> str:
        """Return the log of a Deployment of Interlock's own, once there is any.

        A test in another lane may have restarted the program just now. Until the new container runs, kubectl refuses
        to read its log; the program writes its first line a moment later.
        """

        def read() -> str | None:
            answers.append(self.attempt("-n", "interlock-system", "logs", f"deployment/{deployment}"))
            return answers[-1].stdout if answers[-1].returncode == 0 and answers[-1].stdout else None

        answers: list[subprocess.CompletedProcess[str]] = []
        return bounds.eventually(read, lambda: f"no log of {deployment}: {answers[-1].stderr}", 60, poll=0.2)

    @contextmanager
    def forwarded(self, workload: str, port: int, local: int | None = None) -> Iterator[str]:
        """Reach a port of a workload in this namespace as a user does; yield the URL.

        Args:
            workload: Such as `deployment/interlock-audit`.
            port: The workload's.
            local: The one here, any that is free by default.
        """
        here = local or ""
        command = [*self._kubectl, "-n", self.namespace, "port-forward", workload, f"{here}:{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent) as process:
            assert process.stdout is not None
            try:
                yield f"http://{process.stdout.readline().split()[2]}"  # Forwarding from 127.0.0.1:40123 -> 7420
            finally:
                process.terminate()

    def running_containers(self) -> list[str]:
        """Return the running containers of the namespace as the node itself knows them, whatever the API says."""
        found = self.cluster.containers(self.namespace)
        return [f"{one.pod}/{one.name}" for one in found if one.is_running]

    def restart_operator(self) -> None:
        """End the operator without grace and wait until another one works.

        The status of the Deployment may still speak of the pods before, so a new pod must be ready.
        """
        system, selector = self.within("interlock-system"), "app.kubernetes.io/name=interlock"
        before = {pod["metadata"]["uid"] for pod in system.items("pods", selector)}
        self.kubectl("-n", "interlock-system", "delete", "pods", "-l", selector, "--grace-period=0", "--force")

        def is_ready() -> bool:
            found = system.items("pods", selector)
            return any(_is_ready(pod) for pod in found if pod["metadata"]["uid"] not in before)

        eventually(is_ready, 120, lambda: str(system.items("pods", selector))[-3000:])


def _is_replica(pod: dict[str, Any]) -> bool:
    """Whether a ReplicaSet asks for the pod: those of a stage's tests belong to Jobs."""
    return any(one["kind"] == "ReplicaSet" for one in pod["metadata"].get("ownerReferences", ()))


def _is_ready(pod: dict[str, Any]) -> bool:
    found = [(one["type"], one["status"]) for one in pod["status"].get("conditions", ())]
    return ("Ready", "True") in found


def eventually(check: Callable[[], bool], seconds: float, describe: Callable[[], str]) -> None:
    """Ask `check` again until it holds, for so many seconds at most; then say what was found instead."""
    bounds.eventually(check, lambda: f"found: {describe()}", seconds, poll=0.2)


def always(check: Callable[[], bool], seconds: float, describe: Callable[[], str]) -> None:
    """Ask `check` again and again for so many seconds; it must hold each time."""
    bounds.always(check, describe, seconds)
