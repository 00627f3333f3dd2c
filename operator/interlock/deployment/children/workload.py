"""The Deployments of a placement."""

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
    """Return one Deployment for agent and guard (`isolation: Shared`), or one of each (`Separate`).

    A separate agent's Deployment follows only once its guard's Service has an address, which /etc/hosts needs.
    Every separate guard has MCP servers of its own, and there are as many guards as agents.
    """
    if not placement.is_separate:
        return (_deployment(placement, agent_workload(placement), AGENT_POD, build_shared_pod(placement)),)
    guard = _deployment(placement, guard_workload(placement), GUARD_POD, build_guard_pod(placement))
    if not placement.guard_addresses:
        return (guard,)
    return (guard, _deployment(placement, agent_workload(placement), AGENT_POD, build_agent_pod(placement)))


def _deployment(placement: Placement, name: str, component: str, pod: dict[str, Any]) -> Manifest:
    annotations = {DEFAULT_CONTAINER: GUARD_CONTAINER}
    if component == AGENT_POD:
        # The kubelet updates a mounted file too late for a running agent, so a change of files or sources rolls pods.
        files = json.dumps(build_agent_config(placement)["data"], sort_keys=True)
        digest = hashlib.sha256(files.encode()).hexdigest()[:16]
        annotations = {DEFAULT_CONTAINER: AGENT_CONTAINER, CONFIG_DIGEST: digest}
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
                "metadata": {"labels": pod_labels(placement, component), "annotations": annotations},
                "spec": pod,
            },
        },
    )
