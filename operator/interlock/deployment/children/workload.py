"""The Deployments of a placement: one in which agent and guard share a pod, or one of each."""

import hashlib
import json
from typing import Any

from interlock.deployment.children.config import build_agent_config
from interlock.deployment.children.pod import build_agent_pod, build_guard_pod, build_shared_pod
from interlock.deployment.names import (
    AGENT_POD,
    GUARD_POD,
    Manifest,
    agent_workload,
    build_child,
    guard_workload,
    placement_labels,
    pod_labels,
    selector,
)
from interlock.deployment.placement import Placement
from interlock_contract.names import CONFIG_DIGEST
from interlock_contract.pod import AGENT_CONTAINER, GUARD_CONTAINER

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


def build_workloads(placement: Placement) -> tuple[Manifest, ...]:
    """Return the Deployments; the agent's own only once its guard has an address that its pods can be told."""
    if not placement.is_separate:
        return (build_deployment(placement),)
    guard = build_guard_deployment(placement)
    return (guard, build_agent_deployment(placement)) if placement.guard_addresses else (guard,)


def build_deployment(placement: Placement) -> Manifest:
    """Return the Deployment of guard, MCP servers and agent in one pod (`isolation: Shared`)."""
    return _deployment(placement, agent_workload(placement), AGENT_POD, build_shared_pod(placement))


def build_agent_deployment(placement: Placement) -> Manifest:
    """Return the Deployment of the agent's pods of their own (`isolation: Separate`)."""
    return _deployment(placement, agent_workload(placement), AGENT_POD, build_agent_pod(placement))


def build_guard_deployment(placement: Placement) -> Manifest:
    """Return the Deployment of the guard's pods: as many as the agent has, each with MCP servers of its own."""
    return _deployment(placement, guard_workload(placement), GUARD_POD, build_guard_pod(placement))


def _deployment(placement: Placement, name: str, component: str, pod: dict[str, Any]) -> Manifest:
    annotations = {DEFAULT_CONTAINER: AGENT_CONTAINER, CONFIG_DIGEST: _config_digest(placement)}
    return build_child(
        placement.agent,
        "apps/v1",
        "Deployment",
        name,
        placement_labels(placement, component),
        spec={
            "replicas": placement.replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": selector(placement, component)},
            "template": {
                "metadata": {
                    "labels": pod_labels(placement, component),
                    "annotations": annotations if component == AGENT_POD else {DEFAULT_CONTAINER: GUARD_CONTAINER},
                },
                "spec": pod,
            },
        },
    )


def _config_digest(placement: Placement) -> str:
    """Return what makes pods roll when the agent's files or sources change: a mounted file reaches them too late."""
    data = json.dumps(build_agent_config(placement)["data"], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()[:16]
