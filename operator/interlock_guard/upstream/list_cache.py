"""The tools and prompts of every server as it lists them: read after each change, and while they are called.

Lists are not trusted: `decide` lets them make a decision stricter, never laxer. Until a server answers, none is known.
Tools are also read once per connection. Prompts are not, since few agents use them.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import HINTS
from interlock_guard.decision.decide import PROMPTS_LIST, TOOLS_LIST, Deny
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.upstream import Upstream
from interlock_guard.wire.jsonrpc import RpcResponse
from interlock_guard.wire.large_messages import MAX_LIST, LargeMessages
from interlock_kube.background import log_failure

MAX_ITEMS: Final = 2048
"""Tools, or prompts, of one server that are read; a server with more is taken to have failed."""
_MAX_PAGES: Final = 64
_LISTS: Final = (TOOLS_LIST, PROMPTS_LIST)
"""The lists that are kept: those whose items are pinned."""


class ListFailed(Exception):  # noqa: N818 - says what became of the list
    """The list could not be had whole; the message says why.

    Attributes:
        denial: What kept the server from answering at all; None where it has answered.
    """

    def __init__(self, message: str, denial: Deny | None = None) -> None:
        super().__init__(message)
        self.denial = denial


async def read_list(upstream: Upstream, method: str) -> tuple[list[dict[str, Any]], list[RpcResponse]]:
    """Return a server's tools or prompts as it lists them, raw, each with a name that is a string.

    The answers that they came in are returned as well: each keeps its part of the budget for large messages.

    Args:
        upstream: The server.
        method: `tools/list` or `prompts/list`.

    Raises:
        ListFailed: It is not there, refuses, lists what is no tool, or does not come to an end.
    """
    key, _ = mcp.LISTS[method]
    items: list[dict[str, Any]] = []
    answers: list[RpcResponse] = []
    params: dict[str, Any] = {}
    for _ in range(_MAX_PAGES):
        answer = await _ask(upstream, method, params)
        answers.append(answer)
        if sum(one.size for one in answers) > MAX_LIST:
            raise ListFailed(f"its list has more than {MAX_LIST} bytes")
        result = answer.result or {}
        page = result.get(key)
        if not isinstance(page, list):
            raise ListFailed(f"its answer has no {key}")
        for item in page:
            if not isinstance(item, dict) or not isinstance(item.get("name"), str):
                raise ListFailed(f"it lists what is no {key.removesuffix('s')}")
            items.append(item)
        if len(items) > MAX_ITEMS:
            raise ListFailed(f"it lists more than {MAX_ITEMS} {key}")
        cursor = result.get("nextCursor")
        if not isinstance(cursor, str):
            return items, answers
        params = {"cursor": cursor}
    raise ListFailed(f"its list has more than {_MAX_PAGES} pages")


async def _ask(upstream: Upstream, method: str, params: dict[str, Any]) -> RpcResponse:
    server_info, refusal = upstream.server_info, upstream.refusal()
    if refusal is not None or server_info is None:
        raise ListFailed("it is not there" if refusal is None else refusal.message, refusal)
    key, _ = mcp.LISTS[method]
    if key not in server_info.capabilities:
        return RpcResponse(None, {key: []}, None)
    call = upstream.start(method, build_params(Forward(upstream.source, method, params=params), server_info, {}))
    outcome = await call.future
    if isinstance(outcome, Deny):
        raise ListFailed(outcome.message, outcome)
    if not isinstance(outcome, RpcResponse):
        raise ListFailed("it was interrupted")
    if outcome.result is None:
        raise ListFailed(f"it refuses: {str((outcome.error or {}).get('message', ''))[:200]}")
    return outcome


FRESH_SECONDS: Final = 5.0
"""How old a list may be on which a call is decided."""
_MAX_SCHEMAS: Final = 16_384
"""Values of all input schemas of one list that are kept; further schemas are taken for unknown."""
_CHARACTERS: Final = 64
"""Characters of a text that count as one more value."""
_REREAD_SECONDS: Final = 0.05
"""First pause before a list is read again that has changed while it was read; it doubles each time."""


@dataclass(frozen=True, slots=True)
class ListedItem:
    """A tool's `annotations` and `inputSchema`, None where there are none, and the digest of the whole tool or prompt.

    The digest is empty where the server does not list the item, or lists two of its name.
    """

    annotations: Mapping[str, Any] | None
    input_schema: Mapping[str, Any] | None
    definition: str


_ABSENT: Final = ListedItem(None, None, "")


@dataclass(slots=True)
class _Known:
    """One list of one generation of one server; `items` is None until it has answered.

    `asked_at` is when the list was asked for that is known; None where it is known to be out of date. `trouble` is what
    kept the server from answering the last time.
    """

    upstream: Upstream
    method: str
    items: dict[str, ListedItem] | None = None
    asked_at: float | None = None
    trouble: Deny | None = None
    has_changed: bool = False
    reading: asyncio.Task[None] | None = field(default=None)


class ListCache:
    """The tools and prompts of every server, as its present generation lists them."""

    def __init__(
        self,
        monotonic: Callable[[], float],
        log: Callable[[str], None] = lambda _: None,
        large: LargeMessages | None = None,
    ) -> None:
        self._large = large or LargeMessages()
        self._known: dict[tuple[str, str], _Known] = {}
        self._monotonic = monotonic
        self._log = log

    def find(self, source: str, method: str, name: str) -> ListedItem | None:
        """Return what is known of a source's tool or prompt; None where the source's list is not known.

        Args:
            source: Name of the source.
            method: `tools/list` or `prompts/list`.
            name: The item's name.
        """
        known = self._known.get((source, method))
        return None if known is None or known.items is None else known.items.get(name, _ABSENT)

    def is_fresh(self, source: str, method: str) -> bool:
        """Say whether a call may be decided on what is known."""
        known = self._known.get((source, method))
        return known is not None and self._is_fresh(known)

    def trouble(self, source: str, method: str) -> Deny | None:
        """Return what kept a server from giving the list, where it did not answer at all."""
        known = self._known.get((source, method))
        return None if known is None else known.trouble

    async def refresh(self, source: str, method: str) -> None:
        """Wait until the list is one that a call may be decided on, or cannot be had."""
        known = self._known.get((source, method))
        if known is None or self._is_fresh(known):
            return
        self._read(known)
        if known.reading is not None:
            await asyncio.wait({known.reading})

    def begin(self, upstream: Upstream) -> None:
        """Read the tools of a server that has just begun; the prompts are read at their first use."""
        for method in _LISTS:
            self._known[upstream.source, method] = _Known(upstream, method)
        self._read(self._known[upstream.source, TOOLS_LIST])

    def end(self, source: str) -> None:
        """Forget what an ended generation listed."""
        for method in _LISTS:
            known = self._known.pop((source, method), None)
            if known is not None and known.reading is not None:
                known.reading.cancel()

    def read(self, upstream: Upstream, method: str) -> None:
        """Read a list again, since it has changed; until it is there, no call is decided on the old one."""
        known = self._known.get((upstream.source, method))
        if known is None:
            return
        known.asked_at, known.has_changed = None, True
        if method == TOOLS_LIST or known.items is not None:
            self._read(known)

    def _is_fresh(self, known: _Known) -> bool:
        return known.asked_at is not None and self._monotonic() - known.asked_at < FRESH_SECONDS

    def _read(self, known: _Known) -> None:
        if known.reading is None:
            name = f"{known.method} of {known.upstream.source}"
            known.reading = asyncio.get_running_loop().create_task(self._follow(known), name=name)
            known.reading.add_done_callback(partial(log_failure, log=self._log))

    async def _follow(self, known: _Known) -> None:
        """Read the list, and again where it has changed meanwhile."""
        pause = _REREAD_SECONDS
        try:
            while True:
                known.has_changed = False
                asked_at = self._monotonic()
                items = await self._list(known)
                if not known.has_changed:
                    known.items, known.asked_at = items, None if items is None else asked_at
                    return
                # A server that changes its list whenever it has told it must not keep the guard busy.
                await asyncio.sleep(pause)
                pause = min(2 * pause, FRESH_SECONDS)
        except Exception:
            known.items = known.asked_at = None  # no call is decided on a list that could not be read again
            raise
        finally:
            known.reading = None

    async def _list(self, known: _Known) -> dict[str, ListedItem] | None:
        known.trouble = None
        try:
            items, answers = await read_list(known.upstream, known.method)
        except ListFailed as failed:
            key, _ = mcp.LISTS[known.method]
            self._log(f"server of {known.upstream.source}: its {key} are not known: {failed}")
            known.trouble = failed.denial
            return None
        listed: dict[str, ListedItem] = {}
        room = _MAX_SCHEMAS
        is_large = any(answer.hold is not None for answer in answers)
        for item in items:
            name = item["name"]
            definition = ""
            if name not in listed:
                definition = await self._large.digest(item) if is_large else digest_of(canonicalize(item))
            schema = item.get("inputSchema")
            if isinstance(schema, dict) and (room := _take_room(schema, room)) < 0:
                schema = None
            listed[name] = ListedItem(_read_hints(item), schema if isinstance(schema, dict) else None, definition)
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
