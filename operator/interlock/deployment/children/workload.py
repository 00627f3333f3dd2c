"""The Deployments of a placement and their pods.

There is one Deployment of guard, MCP servers and agent (Shared), or one of each of guard and agent (Separate).
"""

import hashlib
import json
from typing import Any, Final

from interlock.api.pod_template import SAFE_TO_EVICT, PodMetadata
from interlock.deployment.children.agent_container import build_agent, build_agent_volumes
from interlock.deployment.children.claim_volumes import claims_group
from interlock.deployment.children.config import user_files
from interlock.deployment.children.guard_container import build_egress_check, build_guard, build_guard_volumes
from interlock.deployment.children.pod_parts import bound_restarts, build_pre_stop, pod_defaults, pod_security
from interlock.deployment.children.resources import LAUNCHER_NEEDS, own_resources
from interlock.deployment.children.scheduling import (
    build_pull_secrets,
    build_scheduling,
    scheduling_digest,
    stdio_servers,
)
from interlock.deployment.children.server_containers import build_launcher, build_servers
from interlock.deployment.cloud_identity import pod_metadata
from interlock.deployment.egress_exceptions import agent_exceptions, opens_dns
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_account,
    agent_workload,
    build_placement_child,
    guard_account,
    guard_workload,
    pod_labels,
    selector,
)
from interlock.deployment.openings import openings_of
from interlock.deployment.placement import Placement
from interlock_contract.bundle_schema import write_schemas
from interlock_contract.names import (
    BUNDLE_SCHEMAS,
    CLAIMS,
    CONFIG_DIGEST,
    HAS_CLAIMS_LABEL,
    OPENINGS,
    SCHEDULING_DIGEST,
)
from interlock_contract.pod import AGENT_CONTAINER, GUARD_CONTAINER, GUARD_HOST

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
PROGRESS_SECONDS: Final = 600
"""In which the pods of a Deployment must make progress. It is Kubernetes' own default, and stated so that a longer one,
of a Deployment that holds pods (`pod_replacement`), is taken back."""
_NO_DNS: dict[str, Any] = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}
"""No server listens there, so a look-up fails immediately."""
_CLUSTER_DNS: dict[str, Any] = {"dnsPolicy": "ClusterFirst"}


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
    identity_labels, identity_annotations = pod_metadata(placement)
    opened = openings_of(placement, component)
    digest = _digest(opened)
    labels = {**identity_labels, **pod_labels(placement, component)}
    stated = placement.agent.spec.template.metadata or PodMetadata()
    annotations = {
        **_eviction(stated),
        **identity_annotations,
        DEFAULT_CONTAINER: GUARD_CONTAINER,
        CONFIG_DIGEST: digest,
    }
    if component == AGENT_POD:
        # The kubelet updates a mounted file too late for a running agent, so a change of the user's files rolls pods.
        # One of the scope does not: the guard enforces it at once, and the agent may read it late.
        digest = _digest(user_files(placement), opened)
        annotations = {**stated.annotations, DEFAULT_CONTAINER: AGENT_CONTAINER, CONFIG_DIGEST: digest}
        labels = pod_labels(placement, component)
        if placement.claims:
            labels[HAS_CLAIMS_LABEL] = "true"
            annotations[CLAIMS] = ",".join(sorted(placement.claims))
        labels = {**stated.labels, **labels}  # those of Interlock last: kills and NetworkPolicies find pods by them
    if opened:
        annotations[OPENINGS] = opened
    if component == GUARD_POD or not placement.is_separate:
        annotations[BUNDLE_SCHEMAS] = write_schemas()
    manifest = build_placement_child(
        placement,
        "apps/v1",
        "Deployment",
        name,
        component,
        spec={
            "replicas": placement.replicas,
            # Of two pods that use one claim, the old one goes first.
            **({"strategy": {"type": "Recreate"}} if component == AGENT_POD and placement.claims else {}),
            "progressDeadlineSeconds": PROGRESS_SECONDS,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": selector(placement, component)},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": bound_restarts(pod, placement.grace_seconds),
            },
        },
    )
    manifest["metadata"]["annotations"][SCHEDULING_DIGEST] = scheduling_digest(pod)
    return manifest


def _eviction(stated: PodMetadata) -> dict[str, str]:
    """Return the annotation that also holds for the guard's pod: an agent whose guard is evicted cannot work either."""
    return {key: value for key, value in stated.annotations.items() if key == SAFE_TO_EVICT}


def _digest(*parts: Any) -> str:
    """Return the SHA-256 in hex of what a running pod would not see a change of."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _shared_pod(placement: Placement) -> dict[str, Any]:
    """Return the pod of guard, MCP servers and agent (`isolation: Shared`)."""
    # Kubelets end the guard and its servers after the agent. An agent without tasks ends its own work on SIGTERM.
    hook = build_pre_stop(placement.grace_seconds) if placement.agent.spec.tasks is not None else {}
    servers = build_servers(placement)
    launcher = [_launcher(placement)] if servers else []
    return {
        "serviceAccountName": guard_account(placement),
        **pod_defaults(placement.grace_seconds),
        **_chosen_by_agent(placement),
        "initContainers": [build_guard(placement), *launcher, *servers],
        "containers": [{**build_agent(placement), **hook}],
        "volumes": [*build_guard_volumes(placement), *build_agent_volumes(placement)],
    }


def _agent_pod(placement: Placement) -> dict[str, Any]:
    """Return the agent's own pod (`isolation: Separate`): the egress check, then the agent.

    The pod's ServiceAccount has no rights, no token of it is mounted, and the pod has no DNS unless a row of egress
    opens it. Its /etc/hosts holds the one name that it needs, its guard's. It has no hook, since no guard in the pod
    could answer it: the agent gets SIGTERM immediately.
    """
    agent = build_agent(placement)
    return {
        "serviceAccountName": agent_account(placement),
        **pod_defaults(placement.grace_seconds),
        **_chosen_by_agent(placement),
        "securityContext": {**pod_security(), **claims_group(placement, agent)},
        **(_CLUSTER_DNS if opens_dns(agent_exceptions(placement)) else _NO_DNS),
        "hostAliases": [{"ip": address, "hostnames": [GUARD_HOST]} for address in placement.guard_addresses],
        "initContainers": [build_egress_check(placement)],
        "containers": [agent],
        "volumes": build_agent_volumes(placement),
    }


def _guard_pod(placement: Placement) -> dict[str, Any]:
    """Return the guard's own pod (`isolation: Separate`).

    MCP servers need the guard's pipes before they start. So the guard is a sidecar if there are any servers. Kubelets
    call all hooks at the same time, and end sidecars last. A server that has crashed has no hook that they could call,
    so the guard has one in any case.
    """
    hook = build_pre_stop(placement.grace_seconds)

    def as_container(sidecar: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in sidecar.items() if name != "restartPolicy"}

    guard, *servers = (one | hook for one in (build_guard(placement), *build_servers(placement)))
    if servers:
        containers = {
            "initContainers": [guard, _launcher(placement)],
            "containers": [as_container(server) for server in servers],
        }
    else:
        containers = {"containers": [as_container(guard)]}
    return {
        "serviceAccountName": guard_account(placement),
        **pod_defaults(placement.grace_seconds),
        **build_scheduling(placement, GUARD_POD),
        **build_pull_secrets(
            placement.pull_secrets, placement.policy.spec.pod_template.default, *stdio_servers(placement)
        ),
        **containers,
        "volumes": build_guard_volumes(placement),
    }


def _launcher(placement: Placement) -> dict[str, Any]:
    resources = own_resources(placement, LAUNCHER_NEEDS)
    return build_launcher(placement.guard_image, resources, placement.users.launcher)


def _chosen_by_agent(placement: Placement) -> dict[str, Any]:
    """Return what the agent's template says about the agent's pod, besides its container and volumes."""
    template, defaults = placement.agent.spec.template, placement.policy.spec.pod_template.default
    runtime = template.runtime_class_name
    servers = () if placement.is_separate else stdio_servers(placement)
    return {
        **build_scheduling(placement, AGENT_POD),
        **build_pull_secrets(placement.pull_secrets, defaults, template, *servers),
        **({"runtimeClassName": runtime} if runtime else {}),
    }
