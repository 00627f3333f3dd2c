"""The first messages to a server, and what its answers mean. No I/O.

The order is that of the official SDK's client (`mcp.client._probe`): `server/discover` goes first, and every answer but
a positive one of a sessionless version leads to `initialize`.
"""

from itertools import islice
from typing import Any, Final

from interlock_contract import mcp
from interlock_guard.upstream.forward import GUARD_INFO, sessionless_meta
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcResponse

PROBE_SECONDS: Final = 10.0
"""How long a server may take to answer `server/discover` before `initialize` is sent; the SDK's own bound."""
_UNDECLARED: Final[dict[str, Any]] = {"tools": {}}
_MAX_INSTRUCTIONS: Final = 64 * 1024
_MAX_TEXT: Final = 1024
_MOST_NAMED: Final = 16
"""Members of an error's data, and values of each, in which a version is searched for."""


class FirstMessage:
    """The first message to a server: the probe `server/discover`, or `initialize`.

    Many session-based servers answer the probe with an error, as the specification wants, but some end. A pipe does not
    tell the cause of an end, so the next connection tries the other message:

        the connection ended with the probe unanswered, even if     initialize
        initialize was sent after its 10 s
        initialize was refused, or the connection ended before      the probe
        a version was agreed on                                     the message that it was agreed on with
        nothing is known, or another version was verified           what the verification has found, else the probe
    """

    def __init__(self) -> None:
        self._next = self._verified = ""

    def choose(self, verified: str) -> str:
        """Return the method of the first message of the next connection.

        Args:
            verified: The version that the server spoke when it was verified; empty if unknown.
        """
        if verified != self._verified:
            self._next, self._verified = "", verified
        return self._next or ("initialize" if verified in mcp.SESSION_VERSIONS else mcp.DISCOVER)

    def note_agreement(self, info: ServerInfo) -> None:
        """Take note of a version that was agreed on."""
        self._next = mcp.DISCOVER if info.is_sessionless else "initialize"

    def note_failure(self, asked: str) -> None:
        """Take note that a connection failed after this message, before a version was agreed on."""
        self._next = "initialize" if asked == mcp.DISCOVER else mcp.DISCOVER


def probe_params(capabilities: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of `server/discover`."""
    return {"_meta": sessionless_meta(mcp.LATEST_SESSIONLESS, capabilities)}


def initialize_params(capabilities: dict[str, Any], version: str = mcp.LATEST_SESSION) -> dict[str, Any]:
    """Return the parameters of `initialize`."""
    return {"protocolVersion": version, "capabilities": capabilities, "clientInfo": GUARD_INFO}


def read_discovered(outcome: RpcResponse) -> ServerInfo | None:
    """Return what a server of a sessionless version answered, or None from a server of another version."""
    result = outcome.result or {}
    supported, capabilities = result.get("supportedVersions"), result.get("capabilities")
    if not isinstance(supported, list) or not isinstance(capabilities, dict):
        return None
    version = next((one for one in reversed(mcp.SESSIONLESS_VERSIONS) if one in supported), None)
    return None if version is None else ServerInfo(version, capabilities, _instructions(result), is_sessionless=True)


def read_initialized(outcome: RpcResponse) -> ServerInfo | None:
    """Return what a server answered to `initialize`, or None if no version is agreed on.

    A server that declares no capability at all is asked for its tools all the same: many small ones leave them out.
    """
    result = outcome.result or {}
    version, capabilities = result.get("protocolVersion"), result.get("capabilities")
    if version not in mcp.SESSION_VERSIONS:
        return None
    declared = capabilities if isinstance(capabilities, dict) and capabilities else _UNDECLARED
    return ServerInfo(version, declared, _instructions(result))


def is_sessionless_error(outcome: RpcResponse) -> bool:
    """Return True if a server refused `initialize` since it speaks sessionless versions, and answered too late."""
    error = outcome.error or {}
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    return (
        error.get("code") == mcp.UNSUPPORTED_VERSION
        and isinstance(supported, list)
        and any(one in supported for one in mcp.SESSIONLESS_VERSIONS)
    )


def find_older_version(outcome: RpcResponse) -> str:
    """Return the newest older version that a refusal of `initialize` names; empty if it names none.

    A server should answer with the version that it speaks. Some refuse every other one, and name theirs in the error:

        {"code": -32602, "message": "Unsupported protocol version", "data": {"expected": "2025-06-18"}}

    A server that speaks a sessionless version is asked for that instead.
    """
    if is_sessionless_error(outcome):
        return ""
    error = outcome.error or {}
    data = error.get("data")
    said: list[Any] = [error.get("message")]
    for value in islice(data.values(), _MOST_NAMED) if isinstance(data, dict) else [data]:
        said += value[:_MOST_NAMED] if isinstance(value, list) else [value]
    text = " ".join(one[:_MAX_TEXT] for one in said if isinstance(one, str))
    return next((one for one in reversed(mcp.SESSION_VERSIONS[:-1]) if one in text), "")


def _instructions(result: dict[str, Any]) -> str | None:
    instructions = result.get("instructions")
    return instructions[:_MAX_INSTRUCTIONS] if isinstance(instructions, str) else None
