"""One native sidecar per stdio MCP server, joined to the guard by two named pipes."""

from typing import Any

from interlock.api.mcpbinding import ServerEnvVar, StdioServer
from interlock.deployment.guard_sidecar import OBSERVE_PORT, PIPES_PATH, PIPES_VOLUME
from interlock.deployment.names import mcp_container, mcp_volume
from interlock.deployment.placement import Placement
from interlock.deployment.resources import build_resources
from interlock.deployment.security import FIRST_SERVER_UID, GUARD_GID, container_security


def build_servers(placement: Placement) -> list[dict[str, Any]]:
    """Return the sidecars of the placement's sources, in the order of the spec."""
    return [
        {
            **build_server(bound.source, bound.binding.spec.server.stdio, FIRST_SERVER_UID + index),
            **_probes(bound.source),
        }
        for index, bound in enumerate(placement.sources)
        if bound.binding.spec.server.stdio is not None
    ]


def _probes(source: str) -> dict[str, Any]:
    return {
        # The agent's container starts after this: only once the guard has shaken hands with the server.
        "startupProbe": _handshake(source, period=1, failures=60),
        # A server that neither answers nor ends, although its input has ended, would block its source for ever.
        "livenessProbe": _handshake(source, period=10, failures=6),
    }


def build_server_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return a /tmp of its own for each server: nothing is shared among them but the pipes' directory."""
    return [
        {"name": mcp_volume(bound.source), "emptyDir": {}}
        for bound in placement.sources
        if bound.binding.spec.server.stdio is not None
    ]


def build_server(source: str, stdio: StdioServer, uid: int) -> dict[str, Any]:
    """Return the sidecar of one server, without probes: who runs beside it knows when it is there."""
    directory = f"{PIPES_PATH}/{source}"
    return {
        "name": mcp_container(source),
        "image": stdio.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        # The shell opens the pipes and becomes the server: no adapter in the image, no port that could be bypassed.
        "command": ["sh", "-c", f'exec "$0" "$@" <{directory}/in >{directory}/out', *stdio.command],
        **({"args": list(stdio.args)} if stdio.args else {}),
        **({"env": [_variable(variable) for variable in stdio.env]} if stdio.env else {}),
        **build_resources(stdio.resources),
        "securityContext": container_security(uid, GUARD_GID),
        "volumeMounts": [
            {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
            {"name": mcp_volume(source), "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
    }


def _handshake(source: str, *, period: int, failures: int) -> dict[str, Any]:
    path = {"path": f"/ready/{source}", "port": OBSERVE_PORT}
    return {"httpGet": path, "periodSeconds": period, "failureThreshold": failures}


def _variable(variable: ServerEnvVar) -> dict[str, Any]:
    if variable.value_from is None:
        return {"name": variable.name, "value": variable.value or ""}
    reference = variable.value_from.secret_key_ref
    return {
        "name": variable.name,
        "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}},
    }
