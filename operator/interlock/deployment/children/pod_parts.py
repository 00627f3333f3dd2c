"""The parts that pods of Interlock have in common: security contexts, volumes, probes."""

from typing import Any

from interlock.api.policy import ContainerDefaults
from interlock.deployment.pod_users import Ids
from interlock_contract.pod import (
    AUDIT_AUDIENCE,
    AUTHORITY_FILE,
    END_SECONDS,
    OBSERVE_PORT,
    PRE_STOP_PATH,
    TOKEN_FILE,
)

PIPES_VOLUME = "pipes"
LAUNCHER_VOLUME = "launcher"
TOKEN_VOLUME = "guard-token"  # noqa: S105 - a volume's name
AUDIT_TOKEN_VOLUME = "audit-token"  # noqa: S105 - a volume's name
LAST_LINES = "FallbackToLogsOnError"
"""The kubelet puts the last lines of a container that fails into the status of its pod."""
_TOKEN = {"path": TOKEN_FILE, "expirationSeconds": 3600}


def pod_defaults(grace: int) -> dict[str, Any]:
    """Return what every pod of a placement states: no token unless a container mounts one.

    Args:
        grace: Its grace period in seconds.
    """
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": pod_security(),
    }


def pod_security() -> dict[str, Any]:
    """Return a pod's security context. There is no fsGroup, since the agent would be in it too."""
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroupsPolicy": "Strict",
    }


def container_security(ids: Ids) -> dict[str, Any]:
    """Return the security context of a container with a user of its own."""
    return {
        "runAsUser": ids.uid,
        "runAsGroup": ids.gid,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def build_launcher_volume() -> dict[str, Any]:
    """Return the volume of the launcher, which only its init container can write to.

    The volume is in memory: programs on the node's disk cannot run where the kubelet's folder is mounted noexec.
    """
    return {"name": LAUNCHER_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}


def build_pipes_volume() -> dict[str, Any]:
    """Return the volume with the pipes of stdio servers."""
    return {"name": PIPES_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def build_tmp_volume(name: str, defaults: ContainerDefaults) -> dict[str, Any]:
    """Return the volume of a container's /tmp. A pod that writes more is evicted: the node's disk belongs to all."""
    return {"name": name, "emptyDir": {"sizeLimit": defaults.tmp_size_limit}}


def build_token_volume() -> dict[str, Any]:
    """Return the volume with a token for the API server and the CA certificates of the API server."""
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": AUTHORITY_FILE}]}}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", **field_ref("metadata.namespace")}]}}
    sources = [{"serviceAccountToken": _TOKEN}, authority, namespace]
    return {"name": TOKEN_VOLUME, "projected": {"sources": sources}}


def build_audit_token_volume() -> dict[str, Any]:
    """Return the volume with a token for the audit collector, whose audience makes it valid nowhere else."""
    token = {"serviceAccountToken": {**_TOKEN, "audience": AUDIT_AUDIENCE}}
    return {"name": AUDIT_TOKEN_VOLUME, "projected": {"sources": [token]}}


def observe_probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    """Return a probe at the guard's port for probes.

    Args:
        path: Its path.
        period: Seconds between two probes.
        failures: Failures in a row that count.
    """
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}


def build_pre_stop(grace: int) -> dict[str, Any]:
    """Return the preStop hook of a container in the guard's pod: it gets SIGTERM once nothing is under way.

    Args:
        grace: The pod's grace period in seconds. A short one is left to the end of the processes.
    """
    if grace <= END_SECONDS:
        return {}
    return {"lifecycle": {"preStop": {"httpGet": {"path": PRE_STOP_PATH, "port": OBSERVE_PORT}}}}


def field_ref(path: str) -> dict[str, Any]:
    """Return a reference to a field of the pod, for a variable or a file."""
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}
