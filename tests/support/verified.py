"""The status of an MCPBinding whose server was verified: what the operator writes once a run has succeeded."""

from collections.abc import Iterable
from typing import Any

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import is_name_glob
from tests.support.pins import DEFINITION

AT = "2026-03-02T08:00:00Z"


def verified_status(binding: dict[str, Any], more: Iterable[str] = ()) -> dict[str, Any]:
    """Return the status of a binding all of whose tools were verified.

    Args:
        binding: The MCPBinding as JSON.
        more: Names of tools under its globs.
    """
    written = {tool["name"] for tool in binding["spec"].get("tools", []) if not is_name_glob(tool["name"])}
    tools = dict.fromkeys(sorted({*written, *more}), DEFINITION)
    digest = digest_of(canonicalize({"image": "", "tools": tools}))
    return {
        "observedGeneration": binding["metadata"].get("generation", 1),
        "conditions": [
            _condition("Verified", "True", "Verified", "initialized"),
            _condition("Drifted", "False", "NoDrift", "the MCP server lists the verified tools"),
        ],
        "verification": {
            "observedDigest": digest,
            "pinnedDigest": digest,
            "verifiedAt": AT,
            "tools": [
                {"name": name, "state": "Verified", "digest": definition, "pinnedDigest": definition}
                for name, definition in tools.items()
            ],
        },
    }


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": AT}
