"""The guard's container: first native sidecar of the pod, so that nothing starts before it."""

from typing import Any

from interlock.deployment.http_servers import build_secrets_mount
from interlock.deployment.names import agent_service, name_of
from interlock.deployment.placement import Placement
from interlock.deployment.security import GUARD_GID, GUARD_UID, container_security

MCP_PORT = 7410  # for the agent alone: on loopback in a shared pod, else at the pod's own address
OBSERVE_PORT = 7411
TASK_PORT = 7412
GUARD_HOST = "guard"
"""A guard's name in the pod of its agent: it stands in the pod's own /etc/hosts, so no DNS is needed."""
PIPES_VOLUME = "pipes"
PIPES_PATH = "/run/interlock/pipes"
TOKEN_VOLUME = "guard-token"  # noqa: S105 - a volume's name
TOKEN_PATH = "/var/run/secrets/interlock"  # noqa: S105 - a path
TOKEN_SECONDS = 3600
SPOOL_VOLUME = "spool"
SPOOL_PATH = "/var/lib/interlock/spool"
SPOOL_SIZE = "128Mi"  # the guard keeps to 64 MiB by itself; beyond the volume's size the kubelet would end the pod
RECORDS_TOKEN_VOLUME = "records-token"  # noqa: S105 - a volume's name
RECORDS_TOKEN_PATH = "/var/run/secrets/interlock-records"  # noqa: S105 - a path
RECORDS_AUDIENCE = "interlock-records"
_TOKEN = {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}}


def build_guard(placement: Placement) -> dict[str, Any]:
    """Return the guard's container."""
    return {
        "name": "guard",
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": [
            {"name": "INTERLOCK_AGENT", "value": placement.agent.metadata.name},
            {"name": "INTERLOCK_NAMESPACE", "value": placement.agent.metadata.namespace},
            {"name": "INTERLOCK_POD", "valueFrom": {"fieldRef": _field("metadata.name")}},
            {"name": "INTERLOCK_BUNDLE", "value": name_of(placement)},
            *([{"name": "INTERLOCK_RECORDS_URL", "value": placement.records_url}] if placement.records_url else []),
            *_listening(placement),
        ],
        "ports": [
            {"name": "observe", "containerPort": OBSERVE_PORT, "protocol": "TCP"},
            {"name": "tasks", "containerPort": TASK_PORT, "protocol": "TCP"},
        ],
        "startupProbe": _probe("/startupz", period=1, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "resources": {
            "requests": {"cpu": "20m", "memory": "48Mi"},
            "limits": {"memory": "128Mi"},
        },
        "securityContext": container_security(GUARD_UID, GUARD_GID),
        "volumeMounts": [
            {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
            *build_secrets_mount(placement),
            {"name": SPOOL_VOLUME, "mountPath": SPOOL_PATH},
            *_records_token_mount(placement),
        ],
    }


def _listening(placement: Placement) -> list[dict[str, Any]]:
    """Return where a guard in a pod of its own listens, what it is called, where its agent is; else all is loopback."""
    if not placement.is_separate:
        return []
    return [
        {"name": "INTERLOCK_LISTEN", "valueFrom": {"fieldRef": _field("status.podIP")}},
        {"name": "INTERLOCK_HOST", "value": GUARD_HOST},
        {
            "name": "INTERLOCK_AGENT_HOST",
            "value": f"{agent_service(placement)}.{placement.agent.metadata.namespace}.svc",
        },
    ]


def _records_token_mount(placement: Placement) -> list[dict[str, Any]]:
    mount = {"name": RECORDS_TOKEN_VOLUME, "mountPath": RECORDS_TOKEN_PATH, "readOnly": True}
    return [mount] if placement.records_url else []


def build_guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes that only guard and MCP servers mount: pipes, and what is the guard's alone.

    That is its spool of records and its tokens. The one for the API server keeps the default audience: one for another
    audience is answered with 401. The one for the collector is good nowhere else.
    """
    records_token = {**_TOKEN["serviceAccountToken"], "audience": RECORDS_AUDIENCE}
    return [
        build_pipes_volume(),
        build_token_volume(),
        {"name": SPOOL_VOLUME, "emptyDir": {"sizeLimit": SPOOL_SIZE}},
        *(
            [{"name": RECORDS_TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": records_token}]}}]
            if placement.records_url
            else []
        ),
    ]


def build_pipes_volume() -> dict[str, Any]:
    """Return the volume with the pipes of stdio servers."""
    return {"name": PIPES_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def build_token_volume() -> dict[str, Any]:
    """Return the volume with a token for the API server and the authority that it is known by."""
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": _field("metadata.namespace")}]}}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [_TOKEN, authority, namespace]}}


def _field(path: str) -> dict[str, str]:
    return {"apiVersion": "v1", "fieldPath": path}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}
