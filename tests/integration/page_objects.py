"""The objects that pages and examples show, for an API server to judge."""

import re
from typing import Any

import yaml

from tests.integration.kubectl import ROOT

_PART = {"MCPBinding": "server", "Agent": "owner"}
"""A member of the spec that each whole object has. Pages also show parts of objects."""


def shown_manifests() -> dict[str, dict[str, Any]]:
    """Return the objects of pages, and the bindings for common servers, without overlays and parts of objects."""
    servers = sorted((ROOT / "examples" / "mcp-servers").glob("[a-z]*.yaml"))
    found = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in servers}
    for path in (ROOT / "docs").rglob("*.md"):
        blocks = re.findall(r"^```ya?ml\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        for manifest in [] if path.parent.name == "v1alpha1" else yaml.safe_load_all("\n---\n".join(blocks)):
            if _is_whole(manifest):
                found[f"{path.name}: {manifest['kind']} {manifest['metadata']['name']}"] = manifest
    return found


def _is_whole(manifest: Any) -> bool:
    if not isinstance(manifest, dict) or "metadata" not in manifest or manifest["kind"] == "Kustomization":
        return False
    return manifest["kind"] not in _PART or _PART[manifest["kind"]] in manifest["spec"]
