"""Ask a server for all of its tools, page by page."""

from typing import Any, Final

from interlock_guard.decision.decide import Deny
from interlock_guard.servers.forward import Forward, build_params
from interlock_guard.servers.upstream import Upstream
from interlock_guard.wire.jsonrpc import Response

MAX_TOOLS: Final = 2048
"""Tools of one server that are read; a server with more is taken to have failed."""
_MAX_PAGES: Final = 64
_LIST: Final = "tools/list"


class ListFailed(Exception):  # noqa: N818 - says what became of the list
    """The list could not be had whole; the message says why.

    Attributes:
        denial: What kept the server from answering at all; None where it has answered.
    """

    def __init__(self, message: str, denial: Deny | None = None) -> None:
        super().__init__(message)
        self.denial = denial


async def read_tools(upstream: Upstream) -> list[dict[str, Any]]:
    """Return a server's tools as it lists them, raw, each with a name that is a string.

    Raises:
        ListFailed: It is not there, refuses, lists what is no tool, or does not come to an end.
    """
    tools: list[dict[str, Any]] = []
    params: dict[str, Any] = {}
    for _ in range(_MAX_PAGES):
        result = await _ask(upstream, params)
        for tool in _items(result):
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                raise ListFailed("it lists what is no tool")
            tools.append(tool)
        if len(tools) > MAX_TOOLS:
            raise ListFailed(f"it lists more than {MAX_TOOLS} tools")
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return tools
        params = {"cursor": cursor}
    raise ListFailed(f"its list has more than {_MAX_PAGES} pages")


async def _ask(upstream: Upstream, params: dict[str, Any]) -> dict[str, Any]:
    hello, refusal = upstream.hello, upstream.refusal()
    if refusal is not None or hello is None:
        raise ListFailed("it is not there" if refusal is None else refusal.message, refusal)
    if "tools" not in hello.capabilities:
        return {"tools": []}
    call = upstream.start(_LIST, build_params(Forward(_LIST, params), hello, {}))
    outcome = await call.future
    if isinstance(outcome, Deny):
        raise ListFailed(outcome.message, outcome)
    if not isinstance(outcome, Response):
        raise ListFailed("it was interrupted")
    if outcome.result is None:
        raise ListFailed(f"it refuses: {str((outcome.error or {}).get('message', ''))[:200]}")
    return outcome.result


def _items(result: dict[str, Any]) -> list[Any]:
    tools = result.get("tools")
    if not isinstance(tools, list):
        raise ListFailed("its answer has no tools")
    return tools
