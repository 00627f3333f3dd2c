"""The tools of every server as it lists them: read once per connection, after each change, and while tools are called.

Lists are not trusted: `decide` lets them make a decision stricter, never laxer. Until a server answers, none is known.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import HINTS
from interlock_guard.decision.decide import Deny
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.wire.jsonrpc import RpcResponse
from interlock_guard.wire.large_messages import MAX_LIST, LargeMessages
from interlock_kube.background import log_failure

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


async def read_tools(upstream: Upstream) -> tuple[list[dict[str, Any]], list[RpcResponse]]:
    """Return a server's tools as it lists them, raw, each with a name that is a string.

    The answers that they came in are returned as well: each keeps its part of the budget for large messages.

    Raises:
        ListFailed: It is not there, refuses, lists what is no tool, or does not come to an end.
    """
    tools: list[dict[str, Any]] = []
    answers: list[RpcResponse] = []
    params: dict[str, Any] = {}
    for _ in range(_MAX_PAGES):
        answer = await _ask(upstream, params)
        answers.append(answer)
        if sum(one.size for one in answers) > MAX_LIST:
            raise ListFailed(f"its list has more than {MAX_LIST} bytes")
        result = answer.result or {}
        for tool in _items(result):
            if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
                raise ListFailed("it lists what is no tool")
            tools.append(tool)
        if len(tools) > MAX_TOOLS:
            raise ListFailed(f"it lists more than {MAX_TOOLS} tools")
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return tools, answers
        params = {"cursor": cursor}
    raise ListFailed(f"its list has more than {_MAX_PAGES} pages")


async def _ask(upstream: Upstream, params: dict[str, Any]) -> RpcResponse:
    server_info, refusal = upstream.server_info, upstream.refusal()
    if refusal is not None or server_info is None:
        raise ListFailed("it is not there" if refusal is None else refusal.message, refusal)
    if "tools" not in server_info.capabilities:
        return RpcResponse(None, {"tools": []}, None)
    call = upstream.start(_LIST, build_params(Forward(upstream.source, _LIST, params=params), server_info, {}))
    outcome = await call.future
    if isinstance(outcome, Deny):
        raise ListFailed(outcome.message, outcome)
    if not isinstance(outcome, RpcResponse):
        raise ListFailed("it was interrupted")
    if outcome.result is None:
        raise ListFailed(f"it refuses: {str((outcome.error or {}).get('message', ''))[:200]}")
    return outcome


def _items(result: dict[str, Any]) -> list[Any]:
    tools = result.get("tools")
    if not isinstance(tools, list):
        raise ListFailed("its answer has no tools")
    return tools


FRESH_SECONDS: Final = 5.0
"""How old a list may be on which a call is decided."""
_MAX_SCHEMAS: Final = 16_384
"""Values of all input schemas of one list that are kept; further schemas are taken for unknown."""
_CHARACTERS: Final = 64
"""Characters of a text that count as one more value."""
_REREAD_SECONDS: Final = 0.05
"""First pause before a list is read again that has changed while it was read; it doubles each time."""


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool's `annotations` and `inputSchema`, None where there are none, and the digest of the whole of it.

    The digest is empty where the server does not list the tool, or lists two of its name.
    """

    annotations: Mapping[str, Any] | None
    input_schema: Mapping[str, Any] | None
    definition: str


_ABSENT: Final = ToolEntry(None, None, "")


@dataclass(slots=True)
class _Known:
    """What one generation of one server has listed; `tools` is None until it has.

    `asked_at` is when the list was asked for that is known; None where it is known to be out of date. `trouble` is what
    kept the server from answering the last time.
    """

    upstream: Upstream
    tools: dict[str, ToolEntry] | None = None
    asked_at: float | None = None
    trouble: Deny | None = None
    has_changed: bool = False
    reading: asyncio.Task[None] | None = field(default=None)


class ToolCache:
    """The tools of every server, as its present generation lists them."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        log: Callable[[str], None] = lambda _: None,
        large: LargeMessages | None = None,
    ) -> None:
        self._large = large or LargeMessages()
        self._known: dict[str, _Known] = {}
        self._monotonic = monotonic
        self._log = log

    def find(self, source: str, tool: str | None) -> ToolEntry | None:
        """Return what is known of a source's tool; None where the source's list is not known."""
        known = self._known.get(source)
        return None if known is None or known.tools is None or tool is None else known.tools.get(tool, _ABSENT)

    def is_fresh(self, source: str) -> bool:
        """Say whether a call may be decided on what is known."""
        known = self._known.get(source)
        return known is not None and self._is_fresh(known)

    def trouble(self, source: str) -> Deny | None:
        """Return what kept a server from listing its tools, where it did not answer at all."""
        known = self._known.get(source)
        return None if known is None else known.trouble

    async def refresh(self, source: str) -> None:
        """Wait until the list is one that a call may be decided on, or cannot be had."""
        known = self._known.get(source)
        if known is None or self._is_fresh(known):
            return
        self._read(known)
        if known.reading is not None:
            await asyncio.wait({known.reading})

    def begin(self, upstream: Upstream) -> None:
        """Read the list of a server that has just begun."""
        known = self._known[upstream.source] = _Known(upstream)
        self._read(known)

    def end(self, source: str) -> None:
        """Forget what an ended generation listed."""
        known = self._known.pop(source, None)
        if known is not None and known.reading is not None:
            known.reading.cancel()

    def read(self, upstream: Upstream) -> None:
        """Read the list again, since it has changed; until it is there, no call is decided on the old one."""
        known = self._known.get(upstream.source)
        if known is not None:
            known.asked_at, known.has_changed = None, True
            self._read(known)

    def _is_fresh(self, known: _Known) -> bool:
        return known.asked_at is not None and self._monotonic() - known.asked_at < FRESH_SECONDS

    def _read(self, known: _Known) -> None:
        if known.reading is None:
            name = f"tools of {known.upstream.source}"
            known.reading = asyncio.get_running_loop().create_task(self._follow(known), name=name)
            known.reading.add_done_callback(partial(log_failure, log=self._log))

    async def _follow(self, known: _Known) -> None:
        """Read the list, and again where it has changed meanwhile."""
        pause = _REREAD_SECONDS
        try:
            while True:
                known.has_changed = False
                asked_at = self._monotonic()
                tools = await self._list(known)
                if not known.has_changed:
                    known.tools, known.asked_at = tools, None if tools is None else asked_at
                    return
                # A server that changes its list whenever it has told it must not keep the guard busy.
                await asyncio.sleep(pause)
                pause = min(2 * pause, FRESH_SECONDS)
        except Exception:
            known.tools = known.asked_at = None  # no call is decided on a list that could not be read again
            raise
        finally:
            known.reading = None

    async def _list(self, known: _Known) -> dict[str, ToolEntry] | None:
        known.trouble = None
        try:
            tools, answers = await read_tools(known.upstream)
        except ListFailed as failed:
            self._log(f"server of {known.upstream.source}: its tools are not known: {failed}")
            known.trouble = failed.denial
            return None
        listed: dict[str, ToolEntry] = {}
        room = _MAX_SCHEMAS
        is_large = any(answer.hold is not None for answer in answers)
        for tool in tools:
            name = tool["name"]
            definition = ""
            if name not in listed:
                definition = await self._large.digest(tool) if is_large else digest_of(canonicalize(tool))
            schema = tool.get("inputSchema")
            if isinstance(schema, dict) and (room := _take_room(schema, room)) < 0:
                schema = None
            listed[name] = ToolEntry(_read_hints(tool), schema if isinstance(schema, dict) else None, definition)
        return listed


def _read_hints(tool: dict[str, Any]) -> Mapping[str, Any] | None:
    """Return the annotations that are decided by; a value that is no hint stays recognizable as none, but short."""
    annotations = tool.get("annotations")
    if not isinstance(annotations, dict):
        return None
    said = {key: annotations[key] for key in HINTS if key in annotations}
    return {key: value if value is None or isinstance(value, bool) else "" for key, value in said.items()}


def _take_room(value: Any, room: int) -> int:
    """Return the room that is left once a value is kept; negative where it does not fit."""
    waiting = [value]
    while waiting and room >= 0:
        one = waiting.pop()
        room -= 1 + len(one) // _CHARACTERS if isinstance(one, str) else 1
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return room
