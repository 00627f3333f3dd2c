"""The Deployments of a placement and their pods.

There is one Deployment of guard, MCP servers and agent (Shared), or one of each of guard and agent (Separate).
"""

import hashlib
import json
from typing import Any

from interlock.api.binding import StdioServer
from interlock.api.policy import ContainerDefaults
from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.config import (
    AGENT_KEY,
    FILES_PATH,
    MCP_CONFIG,
    SCOPE_FILE,
    build_config_volume,
    name_of_secret,
    user_files,
)
from interlock.deployment.children.resources import build_resources
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import build_secrets_mount, build_secrets_volume, model_variables
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_account,
    agent_service,
    agent_workload,
    build_placement_child,
    guard_account,
    guard_workload,
    mcp_container,
    mcp_volume,
    name_of,
    pod_labels,
    selector,
)
from interlock.deployment.placement import Placement, may_start_open
from interlock_contract.kill import GRACE_SECONDS
from interlock_contract.names import CONFIG_DIGEST
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
    LAUNCHER_CONTAINER,
    LAUNCHER_IN_IMAGE,
    LAUNCHER_PATH,
    LAUNCHER_UID,
    LISTEN_VARIABLE,
    MODEL_REQUEST_VARIABLE,
    NAMESPACE_VARIABLE,
    OBSERVE_PORT,
    PIPES_PATH,
    POD_UID_VARIABLE,
    POD_VARIABLE,
    SPOOL_PATH,
    TASK_PORT,
    TOKEN_FILE,
    TOKEN_PATH,
)

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
PIPES_VOLUME = "pipes"
LAUNCHER_VOLUME = "launcher"
TOKEN_VOLUME = "guard-token"  # noqa: S105 - a volume's name
AUDIT_TOKEN_VOLUME = "audit-token"  # noqa: S105 - a volume's name
SPOOL_VOLUME = "spool"
TMP_VOLUME = "tmp-agent"
CONFIG_VOLUME = "config"
SPOOL_SIZE = "128Mi"  # twice the guard's own bound: beyond the volume's size the kubelet ends the pod
_MIB = 1024 * 1024
_GUARD_MEMORY = 128
"""Memory limit of a guard whose agent has no models, in MiB."""
_MODEL_MEMORY = 5
"""By how much each MiB of a request to a model raises it: three that are under way, and the parser of one."""
LAST_LINES = "FallbackToLogsOnError"
"""The kubelet puts the last lines of a container that fails into the status of its pod."""
_TOKEN = {"path": TOKEN_FILE, "expirationSeconds": 3600}


def build_workloads(placement: Placement) -> tuple[Manifest, ...]:
    """Return one Deployment for agent and guard (`isolation: Shared`), or one of each (`Separate`).

    A separate agent's Deployment follows only once its guard's Service has an address, which /etc/hosts needs.
    Every separate guard has MCP servers of its own, and there are as many guards as agents.
    """
    if not placement.is_separate:
        return (_deployment(placement, agent_workload(placement), AGENT_POD, _shared_pod(placement)),)
    guard = _deployment(placement, guard_workload(placement), GUARD_POD, _guard_pod(placement))
    if not placement.guard_addresses:
        return (guard,)
    return (guard, _deployment(placement, agent_workload(placement), AGENT_POD, _agent_pod(placement)))


def _deployment(placement: Placement, name: str, component: str, pod: dict[str, Any]) -> Manifest:
    annotations = {DEFAULT_CONTAINER: GUARD_CONTAINER}
    if component == AGENT_POD:
        # The kubelet updates a mounted file too late for a running agent, so a change of the user's files rolls pods.
        # One of the scope does not: the guard enforces it at once, and the agent may read it late.
        files = json.dumps(user_files(placement), sort_keys=True)
        digest = hashlib.sha256(files.encode()).hexdigest()
        annotations = {DEFAULT_CONTAINER: AGENT_CONTAINER, CONFIG_DIGEST: digest}
    return build_placement_child(
        placement,
        "apps/v1",
        "Deployment",
        name,
        component,
        spec={
            "replicas": placement.replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": selector(placement, component)},
            "template": {
                "metadata": {"labels": pod_labels(placement, component), "annotations": annotations},
                "spec": pod,
            },
        },
    )


def _shared_pod(placement: Placement) -> dict[str, Any]:
    """Return the pod of guard, MCP servers and agent (`isolation: Shared`)."""
    servers = _servers(placement)
    launcher = [build_launcher(placement.guard_image)] if servers else []
    return {
        "serviceAccountName": guard_account(placement),
        **_pod_defaults(),
        "initContainers": [_guard(placement), *launcher, *servers],
        "containers": [_agent(placement)],
        "volumes": [*_guard_volumes(placement), *_agent_volumes(placement)],
    }


def _agent_pod(placement: Placement) -> dict[str, Any]:
    """Return the agent's own pod (`isolation: Separate`): the egress check, then the agent.

    The pod's ServiceAccount has no rights, no token of it is mounted, and the pod has no DNS. Its /etc/hosts holds the
    one name that it needs, its guard's.
    """
    return {
        "serviceAccountName": agent_account(placement),
        **_pod_defaults(),
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},  # no server listens there, so a look-up fails immediately
        "hostAliases": [{"ip": address, "hostnames": [GUARD_HOST]} for address in placement.guard_addresses],
        "initContainers": [_egress_check(placement)],
        "containers": [_agent(placement)],
        "volumes": _agent_volumes(placement),
    }


def _guard_pod(placement: Placement) -> dict[str, Any]:
    """Return the guard's own pod (`isolation: Separate`).

    MCP servers need the guard's pipes before they start. So the guard is a sidecar if there are any servers.
    """

    def as_container(sidecar: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in sidecar.items() if name != "restartPolicy"}

    guard, servers = _guard(placement), _servers(placement)
    if servers:
        containers = {
            "initContainers": [guard, build_launcher(placement.guard_image)],
            "containers": [as_container(server) for server in servers],
        }
    else:
        containers = {"containers": [as_container(guard)]}
    return {
        "serviceAccountName": guard_account(placement),
        **_pod_defaults(),
        **containers,
        "volumes": _guard_volumes(placement),
    }


def pod_security() -> dict[str, Any]:
    """Return a pod's security context. There is no fsGroup, since the agent would be in it too."""
    return {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "supplementalGroupsPolicy": "Strict",
    }


def container_security(uid: int, gid: int) -> dict[str, Any]:
    """Return the security context of a container with a user of its own."""
    return {
        "runAsUser": uid,
        "runAsGroup": gid,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }


def build_server(source: str, stdio: StdioServer, uid: int, defaults: ContainerDefaults) -> dict[str, Any]:
    """Return the sidecar of one stdio server, without probes."""
    variables: list[dict[str, Any]] = []
    for variable in stdio.env:
        if variable.value_from is None:
            variables.append({"name": variable.name, "value": variable.value or ""})
        else:
            key = variable.value_from.secret_key_ref
            variables.append({"name": variable.name, "valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}})
    return {
        "name": mcp_container(source),
        "image": stdio.image,
        "imagePullPolicy": "IfNotPresent",
        "restartPolicy": "Always",
        # The launcher opens the pipes and becomes the server: no shell in the image, no port around the guard.
        "command": [f"{LAUNCHER_PATH}/launch", f"{PIPES_PATH}/{source}", *stdio.command],
        **({"args": list(stdio.args)} if stdio.args else {}),
        **({"env": variables} if variables else {}),
        "resources": build_resources(stdio.resources, defaults),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(uid, GUARD_GID),
        "volumeMounts": [
            {"name": LAUNCHER_VOLUME, "mountPath": LAUNCHER_PATH, "readOnly": True},
            {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
            {"name": mcp_volume(source), "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
    }


def build_launcher(guard_image: str) -> dict[str, Any]:
    """Return the init container that copies the launcher of stdio servers, whose images need no shell.

    Args:
        guard_image: Image of the guards, which contains the launcher.
    """
    return {
        "name": LAUNCHER_CONTAINER,
        "image": guard_image,
        "imagePullPolicy": "IfNotPresent",
        # A pod may repeat its init containers, so an earlier copy is replaced.
        "command": ["cp", "--remove-destination", LAUNCHER_IN_IMAGE, f"{LAUNCHER_PATH}/launch"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(LAUNCHER_UID, LAUNCHER_UID),
        "volumeMounts": [{"name": LAUNCHER_VOLUME, "mountPath": LAUNCHER_PATH}],
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
    namespace = {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": _field("metadata.namespace")}]}}
    sources = [{"serviceAccountToken": _TOKEN}, authority, namespace]
    return {"name": TOKEN_VOLUME, "projected": {"sources": sources}}


def _pod_defaults() -> dict[str, Any]:
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
    }


def _guard(placement: Placement) -> dict[str, Any]:
    metadata = placement.agent.metadata
    env: list[dict[str, Any]] = [
        {"name": AGENT_VARIABLE, "value": metadata.name},
        {"name": NAMESPACE_VARIABLE, "value": metadata.namespace},
        {"name": POD_VARIABLE, "valueFrom": {"fieldRef": _field("metadata.name")}},
        {"name": BUNDLE_VARIABLE, "value": name_of(placement)},
        *([{"name": POD_UID_VARIABLE, "valueFrom": {"fieldRef": _field("metadata.uid")}}] if placement.budget else []),
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
    if placement.audit_url:
        env.append({"name": AUDIT_URL_VARIABLE, "value": placement.audit_url})
        mounts.append({"name": AUDIT_TOKEN_VOLUME, "mountPath": AUDIT_TOKEN_PATH, "readOnly": True})
    if placement.is_separate:  # in a shared pod everything is on the loopback interface
        env += [
            {"name": LISTEN_VARIABLE, "valueFrom": {"fieldRef": _field("status.podIP")}},
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
        "startupProbe": _probe("/startupz", period=1, failures=60),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "resources": {
            "requests": {"cpu": "20m", "memory": "48Mi"},
            "limits": {"memory": f"{memory}Mi"},
        },
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(GUARD_UID, GUARD_GID),
        "volumeMounts": mounts,
    }


def _guard_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes of guard and MCP servers.

    The token for the API server has the default audience, because any other is answered with 401. The token for the
    audit collector has an audience of its own, so that it is valid nowhere else.
    """
    volumes = [
        build_pipes_volume(),
        build_token_volume(),
        {"name": SPOOL_VOLUME, "emptyDir": {"sizeLimit": SPOOL_SIZE}},
    ]
    if placement.audit_url:
        token = {"serviceAccountToken": {**_TOKEN, "audience": AUDIT_AUDIENCE}}
        volumes.append({"name": AUDIT_TOKEN_VOLUME, "projected": {"sources": [token]}})
    volumes += build_secrets_volume(placement)
    servers = [bound.source for bound in placement.sources if bound.binding.spec.server.stdio is not None]
    if servers:
        volumes.append(build_launcher_volume())
    # Each server has a /tmp of its own.
    return volumes + [build_tmp_volume(mcp_volume(source), placement.policy.spec.resources) for source in servers]


def _servers(placement: Placement) -> list[dict[str, Any]]:
    """Return the sidecars of the stdio sources, in the order of the spec."""
    return [
        {
            **build_server(
                bound.source,
                bound.binding.spec.server.stdio,
                FIRST_SERVER_UID + index,
                placement.policy.spec.resources,
            ),
            # The agent's container starts after this: once the guard has initialized the server.
            "startupProbe": _probe(f"/ready/{bound.source}", period=1, failures=60),
            # A server that neither answers nor ends after its input has ended would block its source for ever.
            "livenessProbe": _probe(f"/ready/{bound.source}", period=10, failures=6),
        }
        for index, bound in enumerate(placement.sources)
        if bound.binding.spec.server.stdio is not None
    ]


def _agent(placement: Placement) -> dict[str, Any]:
    """Return the agent's container: it alone gets the agent's key, and no secret of a server, no token, no pipe."""
    template, tasks = placement.agent.spec.template, placement.agent.spec.tasks
    scope = [limit.model_dump(mode="json") for limit in placement.scope]
    own = {
        AGENT_VARIABLE: placement.agent.metadata.name,
        "INTERLOCK_ENVIRONMENT": placement.stage.environment,
        "INTERLOCK_STAGE": placement.stage.name,
        "INTERLOCK_SCOPE": json.dumps(scope, separators=(",", ":")),
        "INTERLOCK_SCOPE_FILE": f"{CONFIG_PATH}/{SCOPE_FILE}",
        "INTERLOCK_MCP_CONFIG": f"{CONFIG_PATH}/{MCP_CONFIG}",
        "INTERLOCK_FILES": f"{CONFIG_PATH}/{FILES_PATH}",
    }
    key = SecretKeyRef(name=name_of_secret(placement), key=AGENT_KEY)
    readiness: dict[str, Any] = {}
    if tasks is not None:  # no task is sent to a pod before its agent listens
        probe = {"tcpSocket": {"port": tasks.port}, "periodSeconds": 2, "failureThreshold": 3}
        readiness = {"readinessProbe": probe}
    return {
        "name": AGENT_CONTAINER,
        "image": template.image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": list(template.command)} if template.command else {}),
        **({"args": list(template.args)} if template.args else {}),
        "env": [
            *({"name": variable.name, "value": variable.value} for variable in template.env),
            *({"name": name, "value": value} for name, value in own.items()),
            *model_variables(placement, guard_url(placement), key),
        ],
        **readiness,
        "resources": build_resources(template.resources, placement.policy.spec.resources),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(AGENT_UID, AGENT_UID),
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True},
            {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108 - a path in the container
        ],
    }


def _agent_volumes(placement: Placement) -> list[dict[str, Any]]:
    return [build_config_volume(placement), build_tmp_volume(TMP_VOLUME, placement.policy.spec.resources)]


def _egress_check(placement: Placement) -> dict[str, Any]:
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
    return {
        "name": EGRESS_CHECK_CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-m", "interlock_guard.egress_check"],
        "env": [
            {"name": GUARD_URL_VARIABLE, "value": guard_url(placement)},
            {"name": EGRESS_CHECK_CLOSED_VARIABLE, "value": " ".join(closed)},
            {"name": EGRESS_CHECK_VARIABLE, "value": mode},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(EGRESS_CHECK_UID, EGRESS_CHECK_UID),
    }


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": OBSERVE_PORT}, "periodSeconds": period, "failureThreshold": failures}


def _field(path: str) -> dict[str, str]:
    return {"apiVersion": "v1", "fieldPath": path}
