"""The name of every child: short enough for a label, and the placement's where the child is the placement's."""

import hashlib

from interlock.deployment.placement import Placement

LABEL_LENGTH = 63


def placement_name(agent: str, stage: str, revision: str) -> str:
    """Return `<agent>-<10 hexadecimal digits of stage and revision>`, at most 63 characters for agents of 52."""
    return f"{agent}-{hashlib.sha256(f'{stage}/{revision}'.encode()).hexdigest()[:10]}"


def name_of(placement: Placement) -> str:
    """Return the name that a placement's own objects share: Deployment, bundle, guard Role, NetworkPolicy."""
    return placement_name(placement.agent.metadata.name, placement.stage.name, placement.revision)


def agent_config(placement: Placement) -> str:
    """Return the name of the ConfigMap that the agent's container mounts."""
    return f"{name_of(placement)}-files"


def mcp_container(source: str) -> str:
    """Return the name of the sidecar that runs a source's MCP server, at most 63 characters."""
    return _label(f"mcp-{source}")


def mcp_volume(source: str) -> str:
    """Return the name of the volume that is the /tmp of a source's MCP server, at most 63 characters."""
    return _label(f"tmp-mcp-{source}")


def _label(name: str) -> str:
    """Return the name as a DNS label: what is too long ends in a digest of it, so that two never come out alike."""
    if len(name) <= LABEL_LENGTH:
        return name
    return f"{name[:54]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
