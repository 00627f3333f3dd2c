"""The metrics-server of a test cluster: its image, made of the program alone, and its objects.

The objects are those of its own manifests, for a cluster whose kubelets have certificates that they have signed
themselves.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.e2e.live import Live, eventually
from tools.cluster import programs

NAME: Final = "metrics-server"
IMAGE: Final = "registry.invalid/interlock/metrics-server:test"
PORT: Final = 10250
_SYSTEM: Final = "kube-system"
_LABELS: Final = {"k8s-app": NAME}


@contextmanager
def running(live: Live) -> Iterator[None]:
    """Run metrics-server. When the context begins, it has figures of the nodes."""
    _load_image(live)
    live.apply(*_objects())
    try:
        live.kubectl("-n", _SYSTEM, "rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        eventually(lambda: not _trouble(live), 120, lambda: _trouble(live))
        yield
    finally:
        # A group without its server keeps namespaces from being deleted.
        body = json.dumps({"apiVersion": "v1", "kind": "List", "items": _objects()})
        live.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=body)


def _trouble(live: Live) -> str:
    done = live.attempt("top", "nodes")
    return done.stderr if done.returncode else ""


def _load_image(live: Live) -> None:
    cluster = live.cluster
    program = programs.ensure_built(cluster.settings, [NAME])[NAME]
    if not cluster.engine.has_image(IMAGE):
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy2(program, Path(folder) / NAME)
            cluster.engine.import_root(Path(folder), IMAGE, [f'ENTRYPOINT ["/{NAME}"]'])
    cluster.load([IMAGE])


def _objects() -> list[dict[str, Any]]:
    account = [{"kind": "ServiceAccount", "name": NAME, "namespace": _SYSTEM}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole"}
    return [
        _object("v1", "ServiceAccount", NAME),
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRole",
            f"system:{NAME}",
            rules=[
                {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
            ],
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            f"system:{NAME}",
            roleRef=role | {"name": f"system:{NAME}"},
            subjects=account,
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            f"{NAME}:system:auth-delegator",
            roleRef=role | {"name": "system:auth-delegator"},
            subjects=account,
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            f"{NAME}-auth-reader",
            roleRef=role | {"kind": "Role", "name": "extension-apiserver-authentication-reader"},
            subjects=account,
        ),
        _object("v1", "Service", NAME, spec={"selector": _LABELS, "ports": [{"port": 443, "targetPort": PORT}]}),
        _object("apps/v1", "Deployment", NAME, spec=_deployment()),
        _object(
            "apiregistration.k8s.io/v1",
            "APIService",
            "v1beta1.metrics.k8s.io",
            spec={
                "group": "metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {"name": NAME, "namespace": _SYSTEM},
            },
        ),
    ]


def _object(version: str, kind: str, name: str, **more: Any) -> dict[str, Any]:
    is_namespaced = not kind.startswith(("Cluster", "APIService"))
    metadata = {"name": name, "labels": _LABELS} | ({"namespace": _SYSTEM} if is_namespaced else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def _deployment() -> dict[str, Any]:
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--cert-dir=/tmp",
            f"--secure-port={PORT}",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            "--kubelet-insecure-tls",
            "--metric-resolution=15s",
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": PORT, "scheme": "HTTPS"}, "periodSeconds": 2},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108 - a path in the container
    }
    spec = {"serviceAccountName": NAME, "containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]}
    return {"selector": {"matchLabels": _LABELS}, "template": {"metadata": {"labels": _LABELS}, "spec": spec}}
