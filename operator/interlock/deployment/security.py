"""Security contexts under which all our pods are admitted by Pod Security `restricted`."""

from typing import Any

GUARD_UID = 10001
GUARD_GID = 2000  # shared with the MCP servers, for the pipes; never with the agent
AGENT_UID = 10002
GATE_UID = 10003
FIRST_SERVER_UID = 10010


def pod_security() -> dict[str, Any]:
    """Return the pod's security context. No fsGroup: the agent would carry it, too."""
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroupsPolicy": "Strict",
    }


def container_security(uid: int, gid: int) -> dict[str, Any]:
    """Return a container's security context, under a uid of its own."""
    return {
        "runAsUser": uid,
        "runAsGroup": gid,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
