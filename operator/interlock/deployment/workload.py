"""The Deployment of a placement."""

import hashlib
import json
from typing import Any

from interlock.deployment.agent_config import build_agent_config, build_config_volume
from interlock.deployment.agent_container import CONTAINER, TMP_VOLUME, build_agent
from interlock.deployment.child import Manifest, build_child
from interlock.deployment.guard_sidecar import build_guard, build_guard_volumes
from interlock.deployment.http_servers import build_secrets_volume
from interlock.deployment.labels import placement_labels, selector
from interlock.deployment.mcp_sidecar import build_server_volumes, build_servers
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement
from interlock.deployment.security import pod_security
from interlock.deployment.service_account import service_account_name

GRACE_SECONDS = 1  # a kill cannot shorten a longer one that a plain delete has begun


def build_deployment(placement: Placement) -> Manifest:
    """Return the Deployment: guard, MCP servers and agent in one pod (`isolation: Shared`)."""
    return build_child(
        placement.agent,
        "apps/v1",
        "Deployment",
        name_of(placement),
        placement_labels(placement, "agent"),
        spec={
            "replicas": placement.replicas,
            "revisionHistoryLimit": 1,
            "selector": {"matchLabels": selector(placement)},
            "template": {
                "metadata": {
                    "labels": placement_labels(placement, "agent"),
                    "annotations": {
                        "kubectl.kubernetes.io/default-container": CONTAINER,
                        "interlock.dev/config-digest": _config_digest(placement),
                    },
                },
                "spec": _pod(placement),
            },
        },
    )


def _pod(placement: Placement) -> dict[str, Any]:
    return {
        "serviceAccountName": service_account_name(placement.agent),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": pod_security(),
        "initContainers": [build_guard(placement), *build_servers(placement)],
        "containers": [build_agent(placement)],
        "volumes": [
            *build_guard_volumes(placement),
            *build_secrets_volume(placement),
            *build_server_volumes(placement),
            build_config_volume(placement),
            {"name": TMP_VOLUME, "emptyDir": {}},
        ],
    }


def _config_digest(placement: Placement) -> str:
    """Return what makes pods roll when the agent's files or sources change: a mounted file reaches them too late."""
    data = json.dumps(build_agent_config(placement)["data"], sort_keys=True)
    return hashlib.sha256(data.encode()).hexdigest()[:16]
