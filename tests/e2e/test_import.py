"""Files of three MCP clients, imported and reviewed, and the result verified against the same servers."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from interlock_cli.import_servers import main
from interlock_contract.names import NEEDS_REVIEW
from tests.e2e.live import Live, eventually
from tests.requirements import requirement

pytestmark = [pytest.mark.kind, pytest.mark.nightly, pytest.mark.timeout(300)]

DESKTOP = Path(__file__).parents[1] / "data" / "desktop"
IMAGE = "registry.invalid/interlock/example-everything:dev"
REVIEWED = {
    "everything": ("everything.json", ["mcp-server-everything", "stdio"]),
    "filesystem": ("filesystem.json", ["mcp-server-filesystem", "/tmp"]),  # noqa: S108 - in the server's container
    "memory": ("memory-windows.json", ["mcp-server-memory"]),
}
"""For each server its file, and what the reviewer has its image run instead of npx, with folders that are there."""


def imported(server: str, namespace: str) -> dict[str, Any]:
    file, _ = REVIEWED[server]
    options = ("--image", f"{server}={IMAGE}", "--tools", f"{server}={DESKTOP / f'{server}-tools.json'}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([str(DESKTOP / file), *options, "--namespace", namespace]) == 0
    (binding,) = yaml.safe_load_all(printed.getvalue())
    return dict(binding)


def review(binding: dict[str, Any], command: list[str]) -> dict[str, Any]:
    """Do what the import asks its reader to do: a command that the image has, and a review of each guess."""
    del binding["metadata"]["annotations"][NEEDS_REVIEW]
    stdio = binding["spec"]["server"]["stdio"]
    stdio["command"] = command
    stdio.pop("args", None)
    return binding


@requirement("import.verified")
def test_files_of_well_known_servers_become_bindings_that_pass_verification_after_review(live: Live) -> None:
    bindings = {server: review(imported(server, live.namespace), command) for server, (_, command) in REVIEWED.items()}
    live.apply(*bindings.values())
    for server, binding in bindings.items():
        eventually(lambda name=server: is_verified(live, name), 120, lambda name=server: said(live, name))
        tools = {tool["name"]: tool["state"] for tool in verification(live, server)["tools"]}
        assert tools == {tool["name"]: "Verified" for tool in binding["spec"]["tools"]}


def verification(live: Live, name: str) -> dict[str, Any]:
    found: dict[str, Any] = live.get("mcpbindings.interlock.dev", name)["status"]["verification"]
    return found


def is_verified(live: Live, name: str) -> bool:
    status = live.get("mcpbindings.interlock.dev", name).get("status", {})
    return any((one["type"], one["status"]) == ("Verified", "True") for one in status.get("conditions", []))


def said(live: Live, name: str) -> str:
    return str(live.get("mcpbindings.interlock.dev", name).get("status"))
