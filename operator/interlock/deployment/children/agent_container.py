"""The agent's container and its volumes."""

import json
from typing import Any

from interlock.api.pod_template import ContainerPort, ContainerUser
from interlock.api.shared_types import SecretKeyRef
from interlock.deployment.children.claim_volumes import build_claim_volumes
from interlock.deployment.children.config import (
    AGENT_KEY,
    FILES_PATH,
    MCP_CONFIG,
    SCOPE_FILE,
    build_config_volume,
    name_of_secret,
)
from interlock.deployment.children.config_maps import build_variables, copies_of
from interlock.deployment.children.pod_parts import LAST_LINES, build_tmp_volume, container_security
from interlock.deployment.children.resources import build_resources, defaults_of
from interlock.deployment.children.services import guard_url
from interlock.deployment.children.upstreams import model_variables
from interlock.deployment.children.user_volumes import (
    USER_VOLUME,
    build_env,
    build_user_mounts,
    build_user_volumes,
    dump_part,
)
from interlock.deployment.placement import Placement
from interlock_contract.pod import AGENT_CONTAINER, AGENT_VARIABLE, CONFIG_PATH

TMP_VOLUME = "tmp-agent"
CONFIG_VOLUME = "config"


def build_agent(placement: Placement) -> dict[str, Any]:
    """Return the agent's container: it alone gets the agent's key, and no secret of a server, no token, no pipe."""
    template, copies = placement.agent.spec.template, copies_of(placement)
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
    user, users = template.security_context or ContainerUser(), placement.users
    return {
        "name": AGENT_CONTAINER,
        "image": template.image,
        "imagePullPolicy": template.image_pull_policy or "IfNotPresent",
        **({"command": list(template.command)} if template.command else {}),
        **({"args": list(template.args)} if template.args else {}),
        **({"workingDir": template.working_dir} if template.working_dir else {}),
        **({"ports": [_port(port) for port in template.ports]} if template.ports else {}),
        **({"envFrom": [build_variables(one, copies) for one in template.env_from]} if template.env_from else {}),
        "env": [
            *build_env(template.env, copies),
            *({"name": name, "value": value} for name, value in own.items()),
            *model_variables(placement, guard_url(placement), key),
        ],
        **_probes(placement),
        "resources": build_resources(template.resources, defaults_of(placement)),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(users.choose(users.agent, user.run_as_user, user.run_as_group)),
        "volumeMounts": [
            {"name": CONFIG_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True},
            {"name": TMP_VOLUME, "mountPath": "/tmp"},  # noqa: S108 - a path in the container
            *build_user_mounts(USER_VOLUME, template.volume_mounts),
        ],
    }


def _probes(placement: Placement) -> dict[str, Any]:
    """Return the probes of the template. By default no task is sent to a pod before its agent listens."""
    template, tasks = placement.agent.spec.template, placement.agent.spec.tasks
    found: dict[str, Any] = {}
    if tasks is not None:
        found["readinessProbe"] = {"tcpSocket": {"port": tasks.port}, "periodSeconds": 2, "failureThreshold": 3}
    stated = {
        "startupProbe": template.startup_probe,
        "livenessProbe": template.liveness_probe,
        "readinessProbe": template.readiness_probe,
    }
    return found | {name: dump_part(probe) for name, probe in stated.items() if probe is not None}


def _port(port: ContainerPort) -> dict[str, Any]:
    return {**dump_part(port), "protocol": port.protocol}


def build_agent_volumes(placement: Placement) -> list[dict[str, Any]]:
    """Return the volumes of the agent's container."""
    defaults = defaults_of(placement)
    return [
        build_config_volume(placement),
        build_tmp_volume(TMP_VOLUME, defaults),
        *build_user_volumes(
            USER_VOLUME,
            (one for one in placement.agent.spec.template.volumes if one.persistent_volume_claim is None),
            defaults,
            copies_of(placement),
        ),
        *build_claim_volumes(placement),
    ]
