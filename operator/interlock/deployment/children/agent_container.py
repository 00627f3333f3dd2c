"""The agent's container and its volumes."""

import json
from typing import Any

from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.config import (
    AGENT_KEY,
    FILES_PATH,
    MCP_CONFIG,
    SCOPE_FILE,
    build_config_volume,
    name_of_secret,
)
from interlock.deployment.children.pod_parts import LAST_LINES, build_tmp_volume, container_security
from interlock.deployment.children.resources import build_resources
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import model_variables
from interlock.deployment.placement import Placement
from interlock_contract.pod import AGENT_CONTAINER, AGENT_UID, AGENT_VARIABLE, CONFIG_PATH

TMP_VOLUME = "tmp-agent"
CONFIG_VOLUME = "config"


def build_agent(placement: Placement) -> dict[str, Any]:
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


def build_agent_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes of the agent's container."""
    return [build_config_volume(placement), build_tmp_volume(TMP_VOLUME, placement.policy.spec.resources)]
