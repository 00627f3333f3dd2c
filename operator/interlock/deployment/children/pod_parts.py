"""The parts that pods of Interlock have in common: security contexts, volumes, probes."""

from typing import Any

from interlock.api.policy import ContainerDefaults
from interlock.deployment.pod_users import Ids
from interlock_contract.kill import GRACE_SECONDS
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
_ENDING_PROBES = ("livenessProbe", "startupProbe")
"""Probes by which a kubelet ends a container."""


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


def bound_restarts(pod: dict[str, Any], grace: int) -> dict[str, Any]:
    """Return a pod whose containers end quickly where a probe fails, and not with the grace period of the pod.

    A kubelet ends the old container first, and turns to a deletion of the pod only afterwards. So an agent that fails
    its own probe and ignores SIGTERM would outlast a kill by the grace period. A guard or MCP server that hangs would
    be restarted only after the whole period, and until then its hook would wait for tasks that are none of its own.

    Args:
        pod: The pod's spec.
        grace: Its grace period in seconds. A kubelet gives a container `END_SECONDS` in any case.
    """
    if grace <= END_SECONDS:
        return pod
    kinds = [kind for kind in ("initContainers", "containers") if kind in pod]
    return pod | {kind: [_bound_restart(one) for one in pod[kind]] for kind in kinds}


def _bound_restart(container: dict[str, Any]) -> dict[str, Any]:
    probes = [name for name in _ENDING_PROBES if name in container]
    return container | {name: container[name] | {"terminationGracePeriodSeconds": GRACE_SECONDS} for name in probes}


def field_ref(path: str) -> dict[str, Any]:
    """Return a reference to a field of the pod, for a variable or a file."""
    return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}
