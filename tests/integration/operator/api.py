"""The API server of a test as plain JSON: hundreds of reads without a kubectl process for each."""

import base64
import contextlib
import http.client
import json
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import yaml

from tests.support import bounds

Json = dict[str, Any]
T = TypeVar("T")

WAIT_SECONDS = 15.0
REQUEST_SECONDS = 30.0
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"

_OURS = "/apis/interlock.dev/v1alpha1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_PREFIXES = {
    "agents": _OURS,
    "agentpolicies": _OURS,
    "mcpbindings": _OURS,
    "budgetledgers": _OURS,
    "deployments": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "roles": _RBAC,
    "rolebindings": _RBAC,
    "endpointslices": "/apis/discovery.k8s.io/v1",
    "events": "/apis/events.k8s.io/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "jobs": "/apis/batch/v1",
}
CHILD_KINDS = {
    "Deployment": "deployments",
    "ConfigMap": "configmaps",
    "Lease": "leases",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "NetworkPolicy": "networkpolicies",
    "PodDisruptionBudget": "poddisruptionbudgets",
}


class Refused(Exception):  # noqa: N818 - it says what the API server did
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Access:
    """How to reach an API server as its administrator."""

    host: str
    port: int
    tls: ssl.SSLContext
    authority: str = ""
    """The file of the certificate authority; empty where the kubeconfig contains it."""

    @classmethod
    def of(cls, kubeconfig: Path) -> "Access":
        """Read the first cluster and user of a kubeconfig, which names files or contains them."""
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        url = urlsplit(cluster["server"])
        with tempfile.TemporaryDirectory() as folder:
            tls = ssl.create_default_context(cafile=_file(cluster, "certificate-authority", folder))
            tls.load_cert_chain(_file(user, "client-certificate", folder), _file(user, "client-key", folder))
        return cls(str(url.hostname), int(url.port or 443), tls, cluster.get("certificate-authority", ""))

    def connect(self, seconds: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self.host, self.port, timeout=seconds, context=self.tls)


@dataclass
class Api:
    """Requests as the cluster's administrator."""

    access: Access
    _connection: http.client.HTTPSConnection | None = field(default=None, repr=False)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        text = json.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        status, data = self._ask_again(method, path, text, headers)
        if status >= 300:
            raise Refused(status, str(json.loads(data).get("message")) if data[:1] == b"{" else data.decode())
        loaded: Json = json.loads(data)
        return loaded

    def _ask_again(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Ask, on a new connection if need be: the API server ends idle ones.

        A request without an answer in time is not repeated: it may have created its object.
        """
        is_kept = self._connection is not None
        try:
            return self._ask(method, path, body, headers)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if not is_kept or isinstance(error, TimeoutError):
                raise
            return self._ask(method, path, body, headers)

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self.access.connect(REQUEST_SECONDS)
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def text(self, path: str) -> str:
        """Return a page that is no JSON, such as /metrics."""
        return self._ask("GET", path, None, {})[1].decode()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def log(self, namespace: str, pod: str, container: str) -> str:
        """Return what a container has printed; empty while there is no log."""
        path = f"{_path('pods', namespace, pod)}/log?container={container}"
        status, data = self._ask_again("GET", path, None, {})
        return data.decode(errors="replace") if status == http.HTTPStatus.OK else ""

    def collection(self, plural: str, namespace: str, selector: str = "") -> Json:
        return self.request("GET", _path(plural, namespace) + (f"?labelSelector={selector}" if selector else ""))

    def listed(self, plural: str, namespace: str, selector: str = "") -> list[Json]:
        items: list[Json] = self.collection(plural, namespace, selector)["items"]
        return items

    def get(self, plural: str, namespace: str, name: str) -> Json:
        return self.request("GET", _path(plural, namespace, name))

    def find(self, plural: str, namespace: str, name: str) -> Json | None:
        try:
            return self.get(plural, namespace, name)
        except Refused as refused:
            if refused.status == 404:
                return None
            raise

    def create(self, manifest: Json, namespace: str) -> Json:
        return self.request("POST", _path(_plural(manifest), namespace), manifest)

    def apply(self, manifest: Json, namespace: str, manager: str = "another-manager") -> Json:
        path = f"{_path(_plural(manifest), namespace, manifest['metadata']['name'])}?fieldManager={manager}&force=true"
        return self.request("PATCH", path, manifest, APPLY_PATCH)

    def patch(self, plural: str, namespace: str, name: str, body: Any) -> Json:
        """Merge a dict into an object, or apply a list of JSON patch operations, as `another-manager`."""
        content_type = JSON_PATCH if isinstance(body, list) else MERGE_PATCH
        return self.request(
            "PATCH", f"{_path(plural, namespace, name)}?fieldManager=another-manager", body, content_type
        )

    def delete(self, plural: str, namespace: str, name: str) -> None:
        self.request("DELETE", _path(plural, namespace, name))

    def delete_all(self, plural: str, namespace: str) -> None:
        self.request("DELETE", _path(plural, namespace))

    def scale(self, namespace: str, deployment: str, replicas: int) -> None:
        """Do what `kubectl scale` does."""
        path = _path("deployments", namespace, deployment)
        self.request("PATCH", f"{path}/scale", {"spec": {"replicas": replicas}}, MERGE_PATCH)

    @contextlib.contextmanager
    def watching(self, plural: str, namespace: str) -> Iterator[list[Json]]:
        """Collect all events of a collection, from its present objects on, for as long as the context lasts.

        Of pods those of agents only: what verifies a binding's server has pods as well.
        """
        selector = "&labelSelector=interlock.dev/agent" if plural == "pods" else ""
        seen: list[Json] = []
        connection = self.access.connect(REQUEST_SECONDS)
        connection.request("GET", f"{_path(plural, namespace)}?watch=1&timeoutSeconds=90{selector}")
        answer = connection.getresponse()

        def collect() -> None:
            with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):
                while line := answer.readline():
                    seen.append(json.loads(line))

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(2)
            thread.join(5)
            answer.close()
            connection.close()


def eventually(check: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
    """Return the first answer of `check` that is not None and not False."""
    return bounds.eventually(check, what, seconds)


def _plural(manifest: Json) -> str:
    own = {"Agent": "agents", "AgentPolicy": "agentpolicies", "MCPBinding": "mcpbindings", "Pod": "pods"}
    return (own | CHILD_KINDS)[manifest["kind"]]


def _file(part: Json, name: str, folder: str) -> str:
    """Return the path of a file that a kubeconfig names or contains."""
    if name in part:
        return str(part[name])
    path = Path(folder) / name
    path.write_bytes(base64.b64decode(part[f"{name}-data"]))
    return str(path)


def _path(plural: str, namespace: str, name: str = "") -> str:
    base = f"{_PREFIXES.get(plural, '/api/v1')}/namespaces/{namespace}/{plural}"
    return f"{base}/{name}" if name else base
