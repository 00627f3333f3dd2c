"""What is in a pod: agent, guard and MCP servers in one, or the agent in one and the rest in another."""

import json
from typing import Any

from interlock.api.binding import ServerEnvVar, StdioServer
from interlock.api.shared_types import Resources
from interlock.deployment.children.config import FILES_PATH, MCP_CONFIG, build_config_volume
from interlock.deployment.children.identity import service_account_name
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import build_secrets_mount, build_secrets_volume, model_variables
from interlock.deployment.names import agent_service, mcp_container, mcp_volume, name_of
from interlock.deployment.placement import Placement, may_start_open
from interlock_contract.pod import (
    AGENT_CONTAINER,
    AGENT_HOST_VARIABLE,
    AGENT_UID,
    AGENT_VARIABLE,
    AUDIT_AUDIENCE,
    AUDIT_TOKEN_PATH,
    AUDIT_URL_VARIABLE,
    AUTHORITY_FILE,
    BUNDLE_VARIABLE,
    CONFIG_PATH,
    EGRESS_CHECK_CLOSED_VARIABLE,
    EGRESS_CHECK_CONTAINER,
    EGRESS_CHECK_REPORT,
    EGRESS_CHECK_REQUIRE,
    EGRESS_CHECK_UID,
    EGRESS_CHECK_VARIABLE,
    FIRST_SERVER_UID,
    GUARD_CONTAINER,
    GUARD_GID,
    GUARD_HOST,
    GUARD_UID,
    GUARD_URL_VARIABLE,
    HOST_VARIABLE,
    LISTEN_VARIABLE,
    NAMESPACE_VARIABLE,
    OBSERVE_PORT,
    PIPES_PATH,
    POD_VARIABLE,
    SPOOL_PATH,
    TASK_PORT,
    TOKEN_FILE,
    TOKEN_PATH,
)


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


PIPES_VOLUME = "pipes"
TOKEN_VOLUME = "guard-token"  # noqa: S105 - a volume's name
TOKEN_SECONDS = 3600
SPOOL_VOLUME = "spool"
SPOOL_SIZE = "128Mi"  # the guard keeps to 64 MiB by itself; beyond the volume's size the kubelet would end the pod
AUDIT_TOKEN_VOLUME = "audit-token"  # noqa: S105 - a volume's name
_TOKEN = {"serviceAccountToken": {"path": TOKEN_FILE, "expirationSeconds": TOKEN_SECONDS}}


def build_guard(placement: Placement) -> dict[str, Any]:
    """Return the guard's container."""
    return {
        "name": GUARD_CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": [
            {"name": AGENT_VARIABLE, "value": placement.agent.metadata.name},
            {"name": NAMESPACE_VARIABLE, "value": placement.agent.metadata.namespace},
            {"name": POD_VARIABLE, "valueFrom": {"fieldRef": _field("metadata.name")}},
            {"name": BUNDLE_VARIABLE, "value": name_of(placement)},
            *([{"name": AUDIT_URL_VARIABLE, "value": placement.audit_url}] if placement.audit_url else []),
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
            *_audit_token_mount(placement),
        ],
    }


def _listening(placement: Placement) -> list[dict[str, Any]]:
    """Return where a guard in a pod of its own listens, what it is called, where its agent is; else all is loopback."""
    if not placement.is_separate:
        return []
    return [
        {"name": LISTEN_VARIABLE, "valueFrom": {"fieldRef": _field("status.podIP")}},
        {"name": HOST_VARIABLE, "value": GUARD_HOST},
        {
            "name": AGENT_HOST_VARIABLE,
            "value": f"{agent_service(placement)}.{placement.agent.metadata.namespace}.svc",
        },
    ]


def _audit_token_mount(placement: Placement) -> list[dict[str, Any]]:
    mount = {"name": AUDIT_TOKEN_VOLUME, "mountPath": AUDIT_TOKEN_PATH, "readOnly": True}
    return [mount] if placement.audit_url else []


def build_guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes that only guard and MCP servers mount: pipes, and what is the guard's alone.

    That is its spool of records and its tokens. The one for the API server keeps the default audience: one for another
    audience is answered with 401. The one for the collector is good nowhere else.
    """
    audit_token = {**_TOKEN["serviceAccountToken"], "audience": AUDIT_AUDIENCE}
    return [
        build_pipes_volume(),
        build_token_volume(),
        {"name": SPOOL_VOLUME, "emptyDir": {"sizeLimit": SPOOL_SIZE}},
        *(
            [{"name": AUDIT_TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": audit_token}]}}]
            if placement.audit_url
            else []
        ),
    ]


def build_pipes_volume() -> dict[str, Any]:
    """Return the volume with the pipes of stdio servers."""
    return {"name": PIPES_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def build_token_volume() -> dict[str, Any]:
    """Return the volume with a token for the API server and the authority that it is known by."""
    authority = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": AUTHORITY_FILE}]}}
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": _field("metadata.namespace")}]}}
    return {"name": TOKEN_VOLUME, "projected": {"sources": [_TOKEN, authority, namespace]}}


def _field(path: str) -> dict[str, str]:
    return {"apiVersion": "v1", "fieldPath": path}


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}


def build_egress_check(placement: Placement) -> dict[str, Any]:
    """Return the container of the egress check."""
    mode = EGRESS_CHECK_REPORT if may_start_open(placement.stage.environment) else EGRESS_CHECK_REQUIRE
    closed = " ".join(_authority(address, OBSERVE_PORT) for address in placement.guard_addresses)
    return {
        "name": EGRESS_CHECK_CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-m", "interlock_guard.egress_check"],
        "env": [
            {"name": GUARD_URL_VARIABLE, "value": guard_url(placement)},
            {"name": EGRESS_CHECK_CLOSED_VARIABLE, "value": closed},
            {"name": EGRESS_CHECK_VARIABLE, "value": mode},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(EGRESS_CHECK_UID, EGRESS_CHECK_UID),
    }


def _authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def build_resources(resources: Resources | None) -> dict[str, Any]:
    """Return the `resources` member of a container, or nothing where none are asked for."""
    if resources is None:
        return {}
    return {"resources": resources.model_dump(by_alias=True, exclude_none=True, mode="json")}


TMP_VOLUME = "tmp-agent"


def build_agent(placement: Placement) -> dict[str, Any]:
    """Return the agent's container: no secret of an MCP server, no Kubernetes token, no pipe."""
    template = placement.agent.spec.template
    return {
        "name": AGENT_CONTAINER,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": list(template.command)} if template.command else {}),
        **({"args": list(template.args)} if template.args else {}),
        "env": [
            *({"name": variable.name, "value": variable.value} for variable in template.env),
            *_own(placement),
            *model_variables(placement, guard_url(placement)),
        ],
        **_readiness(placement),
        **build_resources(template.resources),
        "securityContext": container_security(AGENT_UID, AGENT_UID),
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_PATH, "readOnly": True},
            {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
    }


def _readiness(placement: Placement) -> dict[str, Any]:
    """Return the probe of an agent that takes tasks: no task is sent to a pod before it listens."""
    taken = placement.agent.spec.tasks
    if taken is None:
        return {}
    return {"readinessProbe": {"tcpSocket": {"port": taken.port}, "periodSeconds": 2, "failureThreshold": 3}}


def _own(placement: Placement) -> list[dict[str, str]]:
    """Return the variables that tell an agent who and where it is; the names are ours alone."""
    scope = [limit.model_dump(mode="json") for limit in placement.scope]
    values = {
        AGENT_VARIABLE: placement.agent.metadata.name,
        "INTERLOCK_ENVIRONMENT": placement.stage.environment,
        "INTERLOCK_STAGE": placement.stage.name,
        "INTERLOCK_SCOPE": json.dumps(scope, separators=(",", ":")),
        "INTERLOCK_MCP_CONFIG": f"{CONFIG_PATH}/{MCP_CONFIG}",
        "INTERLOCK_FILES": f"{CONFIG_PATH}/{FILES_PATH}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


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


GRACE_SECONDS = 1  # a kill cannot shorten a longer one that a plain delete has begun


def build_shared_pod(placement: Placement) -> dict[str, Any]:
    """Return the pod of guard, MCP servers and agent."""
    return {
        "serviceAccountName": service_account_name(placement.agent),
        **_common(),
        "initContainers": [build_guard(placement), *build_servers(placement)],
        "containers": [build_agent(placement)],
        "volumes": [*_guard_volumes(placement), *_agent_volumes(placement)],
    }


def build_agent_pod(placement: Placement) -> dict[str, Any]:
    """Return the agent's pod of its own: first the gate, then the agent; no identity, no DNS, its guard by one name."""
    return {
        **_common(),
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # nobody answers there: a look-up fails at once
        "hostAliases": [{"ip": address, "hostnames": [GUARD_HOST]} for address in placement.guard_addresses],
        "initContainers": [build_egress_check(placement)],
        "containers": [build_agent(placement)],
        "volumes": _agent_volumes(placement),
    }


def build_guard_pod(placement: Placement) -> dict[str, Any]:
    """Return the guard's pod of its own; its servers need it before them, so it is a sidecar wherever there are any."""
    guard, servers = build_guard(placement), build_servers(placement)
    ordered = {"initContainers": [guard], "containers": [_plain(one) for one in servers]}
    return {
        "serviceAccountName": service_account_name(placement.agent),
        **_common(),
        **(ordered if servers else {"containers": [_plain(guard)]}),
        "volumes": _guard_volumes(placement),
    }


def _common() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
    }


def _agent_volumes(placement: Placement) -> list[dict[str, Any]]:
    return [build_config_volume(placement), {"name": TMP_VOLUME, "emptyDir": {}}]


def _guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    return [
        *build_guard_volumes(placement),
        *build_secrets_volume(placement),
        *build_server_volumes(placement),
    ]


def _plain(container: dict[str, Any]) -> dict[str, Any]:
    """Return a sidecar as an ordinary container, which has no restart policy of its own."""
    return {name: value for name, value in container.items() if name != "restartPolicy"}
