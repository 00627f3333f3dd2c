"""The guard's container: first native sidecar of the pod, so that nothing starts before it."""

from typing import Any

from interlock.deployment.http_servers import build_secrets_mount
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement
from interlock.deployment.security import GUARD_GID, GUARD_UID, container_security

MCP_PORT = 7410  # loopback only: the agent in the same pod is its one caller
OBSERVE_PORT = 7411
PIPES_VOLUME = "pipes"
PIPES_PATH = "/run/interlock/pipes"
TOKEN_VOLUME = "guard-token"  # noqa: S105 - a volume's name
TOKEN_PATH = "/var/run/secrets/interlock"  # noqa: S105 - a path
TOKEN_SECONDS = 3600


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
            {"name": "INTERLOCK_BUNDLE", "value": name_of(placement)},
        ],
        "ports": [{"name": "observe", "containerPort": OBSERVE_PORT, "protocol": "TCP"}],
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
        ],
    }


def build_guard_volumes() -> list[dict[str, Any]]:
    """Return the volumes that only guard and MCP servers mount: pipes, and the guard's own API token.

    The token keeps the API server's default audience: one for another audience is answered with 401.
    """
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}}
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": field}]}}
    return [
        {"name": PIPES_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": TOKEN_VOLUME, "projected": {"sources": [token, authority, namespace]}},
    ]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}
