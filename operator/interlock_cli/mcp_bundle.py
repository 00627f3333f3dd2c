"""The `manifest.json` of an MCP bundle (.mcpb, formerly .dxt), as the settings that an MCP client config would have.

Claude Desktop unpacks a bundle on the user's machine and fills in `${__dirname}` and `${user_config.NAME}`. A pod has
only the files of its image, so a path into the bundle is refused like any other folder of the client.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock_cli.config_json import ImportRefusedError

NOTE: Final = "the file describes an MCP bundle: its program and its other files must be in the image"
_USER_CONFIG: Final = re.compile(r"\$\{user_config\.([A-Za-z_][-A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class McpBundle:
    """The server of an MCP bundle.

    Attributes:
        members: The settings that a client would have for it.
        origins: The key in the file of each setting.
    """

    members: dict[str, Any]
    origins: dict[str, str]


def is_bundle(document: Any) -> bool:
    """Return True if a JSON value is the manifest of an MCP bundle."""
    has_version = isinstance(document, Mapping) and not {"manifest_version", "dxt_version"}.isdisjoint(document)
    return has_version and isinstance(document.get("name"), str) and isinstance(document.get("server"), Mapping)


def bundle_server(manifest: Mapping[str, Any], place: str) -> McpBundle:
    """Return the server of an MCP bundle.

    Args:
        manifest: The manifest.
        place: Its place in the file.

    Raises:
        ImportRefusedError: The manifest has no command.
    """
    config = manifest["server"].get("mcp_config")
    if not isinstance(config, Mapping):
        raise ImportRefusedError(
            f"{place}.server has no mcp_config: write its command and args as "
            '{"mcpServers": {"<name>": {"command": ..., "args": [...]}}}'
        )
    defaults = _defaults(manifest.get("user_config"))
    members = {name: _filled(one, defaults) for name, one in config.items() if name != "platform_overrides"}
    origins = {name: f"server.mcp_config.{name}" for name in members}
    args = members.get("args")
    count = len(args) if isinstance(args, list) else 0
    origins |= {f"args[{index}]": f"server.mcp_config.args[{index}]" for index in range(count)}
    return McpBundle(members, origins)


def _defaults(described: Any) -> dict[str, str]:
    """Return the defaults of the user's settings that are no secrets."""
    return {
        name: str(one["default"]).lower() if isinstance(one["default"], bool) else str(one["default"])
        for name, one in (described.items() if isinstance(described, Mapping) else ())
        if isinstance(one, Mapping)
        and one.get("sensitive") is not True
        and isinstance(one.get("default"), str | int | float)
    }


def _filled(value: Any, defaults: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _USER_CONFIG.sub(lambda found: defaults.get(found[1], found[0]), value)
    if isinstance(value, list):
        return [_filled(one, defaults) for one in value]
    if isinstance(value, Mapping):
        return {name: _filled(one, defaults) for name, one in value.items()}
    return value
