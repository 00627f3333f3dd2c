"""What the agent's container reads: its sources as an `mcpServers` file, and the user's own files."""

import json
from typing import Any

from interlock.deployment.child import Manifest, build_child
from interlock.deployment.guard_service import guard_url
from interlock.deployment.labels import placement_labels
from interlock.deployment.names import agent_config
from interlock.deployment.placement import Placement

CONFIG_PATH = "/etc/interlock"
MCP_CONFIG = "mcp.json"
FILES_PATH = "files"


def build_agent_config(placement: Placement) -> Manifest:
    """Return the ConfigMap that the agent's container mounts."""
    files = {_key(index): file.content for index, file in enumerate(placement.agent.spec.files)}
    return build_child(
        placement.agent,
        "v1",
        "ConfigMap",
        agent_config(placement),
        placement_labels(placement, "files"),
        data={MCP_CONFIG: _mcp_servers(placement), **files},
    )


def build_config_volume(placement: Placement) -> dict[str, Any]:
    """Return the volume that lays the files out under the paths that the user gave them."""
    items = [{"key": MCP_CONFIG, "path": MCP_CONFIG}]
    items += [
        {"key": _key(index), "path": f"{FILES_PATH}/{file.path}"}
        for index, file in enumerate(placement.agent.spec.files)
    ]
    return {"name": "config", "configMap": {"name": agent_config(placement), "items": items}}


def _mcp_servers(placement: Placement) -> str:
    """Return the shape that desktop clients and the field's libraries read."""
    servers = {
        bound.source: {"type": "http", "url": f"{guard_url(placement)}/mcp/{bound.source}"}
        for bound in placement.sources
    }
    return json.dumps({"mcpServers": servers}, indent=2) + "\n"


def _key(index: int) -> str:
    """Return a ConfigMap's key for the user's file: keys allow no slash, paths do."""
    return f"file-{index}"
