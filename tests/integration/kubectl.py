"""kubectl against the API server of a test, and objects to send to it."""

import contextlib
import copy
import http.client
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from tests.support import bounds
from tests.support.offspring import end_with_parent

ROOT = Path(__file__).parents[2]
PLURALS = {
    "Agent": "agents",
    "AgentPolicy": "agentpolicies",
    "MCPBinding": "mcpbindings",
    "BudgetLedger": "budgetledgers",
}

AGENT: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "Agent",
    "metadata": {"name": "support-triage"},
    "spec": {
        "owner": {"name": "Ada Example", "email": "ada@example.com"},
        "purpose": "Sort incoming support tickets",
        "policyRef": {"name": "support"},
        "environment": "development",
        "template": {"image": "registry.example.com/agent:1.0"},
    },
}
POLICY: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "AgentPolicy",
    "metadata": {"name": "support"},
    "spec": {"dataAccess": [{"agents": ["support-triage"], "source": "crm", "read": ["*"], "write": ["tasks"]}]},
}
BINDING: dict[str, Any] = {
    "apiVersion": "interlock.dev/v1alpha1",
    "kind": "MCPBinding",
    "metadata": {"name": "crm-sandbox"},
    "spec": {
        "source": "crm",
        "environments": ["development", "staging"],
        "server": {"stdio": {"image": "registry.example.com/crm:1.0", "command": ["crm-server"]}},
        "tools": [{"name": "get_contact", "operation": "read", "resource": "contacts"}],
        "permissions": {"read": ["contacts"]},
    },
}


class Cluster(Protocol):
    """What is needed of a cluster fixture."""

    kubeconfig: Any
    context: str
    kubectl: Any


@dataclass(frozen=True)
class Answer:
    """What a command printed, and whether it succeeded."""

    ok: bool
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Kubectl:
    """kubectl bound to one cluster of ours."""

    def __init__(self, cluster: Cluster) -> None:
        self._command = [str(cluster.kubectl), "--kubeconfig", str(cluster.kubeconfig), "--context", cluster.context]

    def run(self, *arguments: str, stdin: str | None = None) -> Answer:
        done = subprocess.run(
            [*self._command, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Answer(done.returncode == 0, done.stdout if done.returncode == 0 else done.stdout + done.stderr)

    def must(self, *arguments: str, stdin: str | None = None) -> Answer:
        answer = self.run(*arguments, stdin=stdin)
        bounds.check_kubectl(0 if answer.ok else 1, answer.text)
        return answer

    def create(self, manifest: Mapping[str, Any], namespace: str) -> Answer:
        return self._send(manifest, namespace, "create")

    def replace(self, manifest: Mapping[str, Any], namespace: str) -> Answer:
        return self._send(manifest, namespace, "replace")

    def _send(self, manifest: Mapping[str, Any], namespace: str, *verb: str) -> Answer:
        return self.run(*verb, "-n", namespace, "-f", "-", stdin=json.dumps(manifest))

    def install_crds(self) -> None:
        """Install the CRDs and wait until they are served."""
        self.must("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
        names = [f"crd/{plural}.interlock.dev" for plural in PLURALS.values()]
        self.must("wait", "--for=condition=Established", "--timeout=30s", *names)

    @contextlib.contextmanager
    def proxied(self) -> Iterator["Api"]:
        """Reach the API server without a process for each request, for as long as the context lasts."""
        command = [*self._command, "proxy", "--port=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent) as proxy:
            assert proxy.stdout is not None
            try:
                address = proxy.stdout.readline().split()[-1]
                with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
                    yield Api(connection)
            finally:
                proxy.terminate()


@dataclass(frozen=True)
class Api:
    """The API server by HTTP, for what is done hundreds of times."""

    connection: http.client.HTTPConnection

    def try_create(self, manifest: Mapping[str, Any], namespace: str) -> Answer:
        """Dry-run the creation of an object; return the answer."""
        return self._request("POST", f"{_collection(manifest, namespace)}?dryRun=All", manifest)

    def create(self, manifest: Mapping[str, Any], namespace: str) -> Answer:
        return self._request("POST", _collection(manifest, namespace), manifest)

    @contextlib.contextmanager
    def namespace(self) -> Iterator[str]:
        """A namespace of its own, taken away afterwards without waiting for it."""
        name = f"test-{uuid4().hex[:10]}"
        made = self._request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        assert made.ok, made.text
        try:
            yield name
        finally:
            self._request("DELETE", f"/api/v1/namespaces/{name}")

    def getresponse(self) -> http.client.HTTPResponse:
        return self.connection.getresponse()

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        text = json.dumps(body) if body is not None else None
        self.connection.request(method, path, text, {"Content-Type": "application/json"})
        response = self.getresponse()
        answer = json.loads(response.read())
        ok = response.status < http.HTTPStatus.BAD_REQUEST
        return Answer(ok, json.dumps(answer) if ok else answer["message"])


def _collection(manifest: Mapping[str, Any], namespace: str) -> str:
    return f"/apis/interlock.dev/v1alpha1/namespaces/{namespace}/{PLURALS[manifest['kind']]}"


def edited(manifest: Mapping[str, Any], **edits: Any) -> dict[str, Any]:
    """Copy `manifest` with `path__to__field=value` set; None takes the field away."""
    result: dict[str, Any] = copy.deepcopy(dict(manifest))
    for path, value in edits.items():
        *parents, last = path.split("__")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return result


def eventually(check: Callable[[], bool], what: str, *, seconds: float = 20) -> None:
    """Ask `check` again until it holds."""
    bounds.eventually(check, what, seconds)
