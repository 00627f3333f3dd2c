"""What servers say of their tools: asked by the guard itself, once per generation and after each change.

It is not trusted: `decide` lets it make a decision stricter, never laxer. Until a server answers, nothing is known.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from interlock_guard.forward import Forward, build_params
from interlock_guard.jsonrpc import Response
from interlock_guard.upstream import Outcome, Upstream

MAX_TOOLS: Final = 2048
"""Tools of one server that are remembered."""
_MAX_PAGES: Final = 64
_LIST: Final = "tools/list"


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool's `annotations` and `inputSchema`, None where there are none."""

    annotations: Mapping[str, Any] | None
    input_schema: Mapping[str, Any] | None


@dataclass(slots=True)
class _Known:
    """What one generation of one server has listed; `being_read` takes its place when the last page is in."""

    tools: dict[str, Listed] = field(default_factory=dict)
    being_read: dict[str, Listed] = field(default_factory=dict)
    pages: int = 0


class Catalogue:
    """The tools of every server, as its present generation lists them."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def find(self, source: str, tool: str | None) -> Listed | None:
        """Return what is known of a source's tool."""
        known = self._known.get(source)
        return None if known is None or tool is None else known.tools.get(tool)

    def begin(self, upstream: Upstream) -> None:
        """Read the list of a server that has just begun."""
        self._known[upstream.source] = _Known()
        self.read(upstream)

    def end(self, source: str) -> None:
        """Forget what an ended generation listed."""
        self._known.pop(source, None)

    def read(self, upstream: Upstream) -> None:
        """Read the list anew; what was known stays until it is there."""
        known = self._known.get(upstream.source)
        if known is not None:
            known.being_read, known.pages = {}, 0
            self._ask(upstream, known, {})

    def _ask(self, upstream: Upstream, known: _Known, params: dict[str, Any]) -> None:
        hello = upstream.hello
        if hello is None or "tools" not in hello.capabilities or upstream.refusal() is not None:
            return
        known.pages += 1
        call = upstream.start(_LIST, build_params(Forward(_LIST, params), hello, {}))
        call.future.add_done_callback(partial(self._take, upstream, known))

    def _take(self, upstream: Upstream, known: _Known, future: asyncio.Future[Outcome]) -> None:
        outcome = future.result()
        if not isinstance(outcome, Response) or outcome.result is None or self._known.get(upstream.source) is not known:
            return
        tools = outcome.result.get("tools")
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict) and isinstance(tool.get("name"), str) and len(known.being_read) < MAX_TOOLS:
                known.being_read[tool["name"]] = Listed(_mapping(tool, "annotations"), _mapping(tool, "inputSchema"))
        cursor = outcome.result.get("nextCursor")
        if isinstance(cursor, str) and known.pages < _MAX_PAGES:
            self._ask(upstream, known, {"cursor": cursor})
        else:
            known.tools = known.being_read


def _mapping(tool: dict[str, Any], key: str) -> Mapping[str, Any] | None:
    value = tool.get(key)
    return value if isinstance(value, dict) else None
