"""The sidecars of stdio MCP servers, and the init container that copies their launcher."""

from typing import Any

from interlock.api.policy import ContainerDefaults
from interlock.api.stdio_server import StdioServer
from interlock.deployment.children.config_maps import Copies, build_variables, copies_of
from interlock.deployment.children.pod_parts import (
    LAST_LINES,
    LAUNCHER_VOLUME,
    PIPES_VOLUME,
    build_tmp_volume,
    container_security,
    observe_probe,
)
from interlock.deployment.children.resources import build_resources, defaults_of
from interlock.deployment.children.user_volumes import (
    build_env,
    build_user_mounts,
    build_user_volumes,
    dump_part,
    server_volume,
)
from interlock.deployment.names import mcp_container, mcp_volume
from interlock.deployment.placement import Placement
from interlock.deployment.pod_users import Ids, PodUsers
from interlock_contract.pod import (
    LAUNCHER_CONTAINER,
    LAUNCHER_IN_IMAGE,
    LAUNCHER_PATH,
    PIPES_PATH,
)


def build_servers(placement: Placement) -> list[dict[str, Any]]:
    """Return the sidecars of the stdio sources, in the order of the spec."""
    return [
        {
            **build_server(
                bound.source,
                bound.binding.spec.server.stdio,
                index,
                defaults_of(placement),
                copies_of(placement),
                placement.users,
            ),
            # The agent's container starts after this: once the guard has initialized the server.
            "startupProbe": observe_probe(f"/ready/{bound.source}", period=1, failures=60),
            # A server that neither answers nor ends after its input has ended would block its source for ever.
            "livenessProbe": observe_probe(f"/ready/{bound.source}", period=10, failures=6),
        }
        for index, bound in enumerate(placement.sources)
        if bound.binding.spec.server.stdio is not None
    ]


def build_server(
    source: str, stdio: StdioServer, index: int, defaults: ContainerDefaults, copies: Copies, users: PodUsers
) -> dict[str, Any]:
    """Return the sidecar of one stdio server, without the guard's probes.

    Args:
        source: The source that it serves.
        stdio: The server.
        index: Position of the source among those of the agent.
        defaults: The policy's, for what the server does not state.
        copies: The copies of ConfigMaps that the pod refers to.
        users: The users and groups of the pods of its namespace.
    """
    variables = build_env(stdio.env, copies)
    chosen = stdio.security_context.run_as_user if stdio.security_context else None
    return {
        "name": mcp_container(source),
        "image": stdio.image,
        "imagePullPolicy": stdio.image_pull_policy or "IfNotPresent",
        "restartPolicy": "Always",
        # The launcher opens the pipes and becomes the server: no shell in the image, no port around the guard.
        "command": [f"{LAUNCHER_PATH}/launch", f"{PIPES_PATH}/{source}", *stdio.command],
        **({"args": list(stdio.args)} if stdio.args else {}),
        **({"workingDir": stdio.working_dir} if stdio.working_dir else {}),
        **({"envFrom": [build_variables(one, copies) for one in stdio.env_from]} if stdio.env_from else {}),
        **({"env": variables} if variables else {}),
        **({"readinessProbe": dump_part(stdio.readiness_probe)} if stdio.readiness_probe else {}),
        "resources": build_resources(stdio.resources, defaults),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(users.choose(users.server(index), chosen)),
        "volumeMounts": [
            {"name": LAUNCHER_VOLUME, "mountPath": LAUNCHER_PATH, "readOnly": True},
            # Its own folder alone: all servers have the group of the pipes. The guard makes it before servers start.
            {"name": PIPES_VOLUME, "mountPath": f"{PIPES_PATH}/{source}", "subPath": source},
            {"name": mcp_volume(source), "mountPath": "/tmp"},  # noqa: S108 - a path in the container
            *build_user_mounts(server_volume(index), stdio.volume_mounts),
        ],
    }


def build_server_volumes(
    source: str, stdio: StdioServer, index: int, defaults: ContainerDefaults, copies: Copies
) -> list[dict[str, Any]]:
    """Return the volumes that one stdio server alone mounts. The arguments are those of `build_server`."""
    return [
        build_tmp_volume(mcp_volume(source), defaults),
        *build_user_volumes(server_volume(index), stdio.volumes, defaults, copies),
    ]


def build_launcher(guard_image: str, resources: dict[str, Any], ids: Ids) -> dict[str, Any]:
    """Return the init container that copies the launcher of stdio servers, whose images need no shell.

    Args:
        guard_image: Image of the guards, which contains the launcher.
        resources: Its resources.
        ids: Its user and group.
    """
    return {
        "name": LAUNCHER_CONTAINER,
        "image": guard_image,
        "imagePullPolicy": "IfNotPresent",
        # A pod may repeat its init containers, so an earlier copy is replaced.
        "command": ["cp", "--remove-destination", LAUNCHER_IN_IMAGE, f"{LAUNCHER_PATH}/launch"],
        "resources": resources,
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(ids),
        "volumeMounts": [{"name": LAUNCHER_VOLUME, "mountPath": LAUNCHER_PATH}],
    }
