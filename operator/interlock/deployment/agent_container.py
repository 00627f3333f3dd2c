"""The agent's own container: any image, told where its tools are, and given nothing else."""

import json
from typing import Any

from interlock.deployment.agent_config import CONFIG_PATH, FILES_PATH, MCP_CONFIG
from interlock.deployment.guard_service import guard_url
from interlock.deployment.models import model_variables
from interlock.deployment.placement import Placement
from interlock.deployment.resources import build_resources
from interlock.deployment.security import AGENT_UID, container_security

CONTAINER = "agent"
TMP_VOLUME = "tmp-agent"


def build_agent(placement: Placement) -> dict[str, Any]:
    """Return the agent's container: no secret of an MCP server, no Kubernetes token, no pipe."""
    template = placement.agent.spec.template
    return {
        "name": CONTAINER,
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
    taken = placement.agent.spec.orchestration
    if taken is None:
        return {}
    return {"readinessProbe": {"tcpSocket": {"port": taken.port}, "periodSeconds": 2, "failureThreshold": 3}}


def _own(placement: Placement) -> list[dict[str, str]]:
    """Return the variables that tell an agent who and where it is; the names are ours alone."""
    scope = [limit.model_dump(mode="json") for limit in placement.scope]
    values = {
        "INTERLOCK_AGENT": placement.agent.metadata.name,
        "INTERLOCK_ENVIRONMENT": placement.stage.environment,
        "INTERLOCK_STAGE": placement.stage.name,
        "INTERLOCK_SCOPE": json.dumps(scope, separators=(",", ":")),
        "INTERLOCK_MCP_CONFIG": f"{CONFIG_PATH}/{MCP_CONFIG}",
        "INTERLOCK_FILES": f"{CONFIG_PATH}/{FILES_PATH}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]
