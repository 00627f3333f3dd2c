"""The guard's container and its volumes, and the egress check of a separate agent."""

from typing import Any

from interlock.deployment.children.config_maps import copies_of
from interlock.deployment.children.pod_parts import (
    AUDIT_TOKEN_VOLUME,
    LAST_LINES,
    PIPES_VOLUME,
    TOKEN_VOLUME,
    build_audit_token_volume,
    build_launcher_volume,
    build_pipes_volume,
    build_token_volume,
    container_security,
    field_ref,
    observe_probe,
)
from interlock.deployment.children.resources import EGRESS_CHECK_NEEDS, ContainerNeeds, defaults_of, own_resources
from interlock.deployment.children.server_containers import build_server_volumes
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import build_secrets_mount, build_secrets_volume
from interlock.deployment.egress_exceptions import words_for_check
from interlock.deployment.names import agent_service, name_of
from interlock.deployment.placement import Placement, may_start_open
from interlock_contract.pod import (
    AGENT_HOST_VARIABLE,
    AGENT_VARIABLE,
    AUDIT_TOKEN_PATH,
    AUDIT_URL_VARIABLE,
    BUNDLE_VARIABLE,
    EGRESS_CHECK_CLOSED_VARIABLE,
    EGRESS_CHECK_CONTAINER,
    EGRESS_CHECK_NODE_VARIABLE,
    EGRESS_CHECK_OPEN_VARIABLE,
    EGRESS_CHECK_REPORT,
    EGRESS_CHECK_REQUIRE,
    EGRESS_CHECK_VARIABLE,
    END_SECONDS,
    GRACE_VARIABLE,
    GUARD_CONTAINER,
    GUARD_HOST,
    GUARD_URL_VARIABLE,
    HOST_VARIABLE,
    LISTEN_VARIABLE,
    MODEL_REQUEST_VARIABLE,
    NAMESPACE_VARIABLE,
    OBSERVE_PORT,
    PIPES_PATH,
    POD_UID_VARIABLE,
    POD_VARIABLE,
    SPOOL_PATH,
    TASK_PORT,
    TOKEN_PATH,
)

SPOOL_VOLUME = "spool"
SPOOL_SIZE = "128Mi"  # twice the guard's own bound: beyond the volume's size the kubelet ends the pod
_MIB = 1024 * 1024
_GUARD_MEMORY = 128
"""Memory limit of a guard whose agent has no models, in MiB."""
_MODEL_MEMORY = 5
"""By how much each MiB of a request to a model raises it: three that are under way, and the parser of one."""


def build_guard(placement: Placement) -> dict[str, Any]:
    """Return the guard as a sidecar. MCP servers need its pipes before they start."""
    metadata = placement.agent.metadata
    env: list[dict[str, Any]] = [
        {"name": AGENT_VARIABLE, "value": metadata.name},
        {"name": NAMESPACE_VARIABLE, "value": metadata.namespace},
        {"name": POD_VARIABLE, "valueFrom": field_ref("metadata.name")},
        {"name": BUNDLE_VARIABLE, "value": name_of(placement)},
        *([{"name": POD_UID_VARIABLE, "valueFrom": field_ref("metadata.uid")}] if placement.budget else []),
    ]
    mounts: list[dict[str, Any]] = [
        {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
        {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
        *build_secrets_mount(placement),
        {"name": SPOOL_VOLUME, "mountPath": SPOOL_PATH},
    ]
    memory = _GUARD_MEMORY
    if placement.agent.spec.models:
        request_bytes = placement.policy.spec.models.request_bytes
        env.append({"name": MODEL_REQUEST_VARIABLE, "value": str(request_bytes)})
        memory += _MODEL_MEMORY * -(-request_bytes // _MIB)
    if placement.grace_seconds > END_SECONDS:
        env.append({"name": GRACE_VARIABLE, "value": str(placement.grace_seconds)})
    if placement.audit_url:
        env.append({"name": AUDIT_URL_VARIABLE, "value": placement.audit_url})
        mounts.append({"name": AUDIT_TOKEN_VOLUME, "mountPath": AUDIT_TOKEN_PATH, "readOnly": True})
    if placement.is_separate:  # in a shared pod everything is on the loopback interface
        env += [
            {"name": LISTEN_VARIABLE, "valueFrom": field_ref("status.podIP")},
            {"name": HOST_VARIABLE, "value": GUARD_HOST},
            {"name": AGENT_HOST_VARIABLE, "value": f"{agent_service(placement)}.{metadata.namespace}.svc"},
        ]
    return {
        "name": GUARD_CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        "env": env,
        "ports": [
            {"name": "observe", "containerPort": OBSERVE_PORT, "protocol": "TCP"},
            {"name": "tasks", "containerPort": TASK_PORT, "protocol": "TCP"},
        ],
        "startupProbe": observe_probe("/startupz", period=1, failures=60),
        "livenessProbe": observe_probe("/healthz", period=10, failures=3),
        "readinessProbe": observe_probe("/readyz", period=2, failures=2),
        "resources": own_resources(placement, ContainerNeeds("20m", 48, memory)),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(placement.users.guard),
        "volumeMounts": mounts,
    }


def build_guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes of guard and MCP servers.

    The token for the API server has the default audience, because any other is answered with 401.
    """
    volumes = [
        build_pipes_volume(),
        build_token_volume(),
        {"name": SPOOL_VOLUME, "emptyDir": {"sizeLimit": SPOOL_SIZE}},
    ]
    if placement.audit_url:
        volumes.append(build_audit_token_volume())
    volumes += build_secrets_volume(placement)
    servers = [
        (index, bound.source, bound.binding.spec.server.stdio)
        for index, bound in enumerate(placement.sources)
        if bound.binding.spec.server.stdio is not None
    ]
    if servers:
        volumes.append(build_launcher_volume())
    defaults = defaults_of(placement)
    for index, source, stdio in servers:
        volumes += build_server_volumes(source, stdio, index, defaults, copies_of(placement))
    return volumes


def build_egress_check(placement: Placement) -> dict[str, Any]:
    """Return the container that lets the agent start only once the network is closed to its pod."""
    closed = [
        f"[{address}]:{OBSERVE_PORT}" if ":" in address else f"{address}:{OBSERVE_PORT}"
        for address in placement.guard_addresses
    ]
    mode = (
        EGRESS_CHECK_REPORT
        if may_start_open(placement.policy.spec.class_of(placement.stage.environment))
        else EGRESS_CHECK_REQUIRE
    )
    opened = words_for_check(placement)
    return {
        "name": EGRESS_CHECK_CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-m", "interlock_guard.egress_check"],
        "env": [
            {"name": GUARD_URL_VARIABLE, "value": guard_url(placement)},
            {"name": EGRESS_CHECK_CLOSED_VARIABLE, "value": " ".join(closed)},
            {"name": EGRESS_CHECK_VARIABLE, "value": mode},
            {"name": EGRESS_CHECK_NODE_VARIABLE, "valueFrom": field_ref("status.hostIP")},
            *([{"name": EGRESS_CHECK_OPEN_VARIABLE, "value": opened}] if opened else []),
        ],
        "resources": own_resources(placement, EGRESS_CHECK_NEEDS),
        "securityContext": container_security(placement.users.egress_check),
    }
