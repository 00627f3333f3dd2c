"""The tools and prompts of every server as it lists them: read after each change, and while they are called.

Lists are not trusted: `decide` lets them make a decision stricter, never laxer. Until a server answers, none is known.
Tools are also read once per connection. Prompts are not, since few agents use them.

A call is decided on a list of the last 5 s that has not changed since, else on one that is asked for after the call
came. A server may say at any rate that its list has changed. Lists then follow one another with a pause that grows:

    list_changed while a list is read, again and again    lists after 0.05, 0.1, 0.2 ... 5 s
    the same while calls wait                             the pause of a call is at most 1 s
    a list that does not change for 5 s                   the next change is read immediately
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from interlock_contract import mcp
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import HINTS
from interlock_contract.strict_json import build_encoder
from interlock_guard.decision.decide import PROMPTS_LIST, TOOLS_LIST, Deny
from interlock_guard.upstream.forward import Forward, build_params
from interlock_guard.upstream.reconnect_pause import ReconnectPause
from interlock_guard.upstream.upstream import Upstream, unavailable
from interlock_guard.wire.jsonrpc import RpcResponse
from interlock_guard.wire.large_messages import MAX_LIST, LargeMessages, Pace
from interlock_kube.background import log_failure

MAX_ITEMS: Final = 2048
"""Tools, or prompts, of one server that are read; a server with more is taken to have failed."""
LIST_SECONDS: Final = 30.0
"""How long a server may take for a whole list."""
MAX_LIST_VALUES: Final = 131_072
"""Values and keys of all small pages of one list. A large page has a bound of its own."""
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
        ListFailed: It is not there, refuses, lists what is no tool, or does not come to an end in time.
    """
    try:
        async with asyncio.timeout(LIST_SECONDS):
            return await _read_pages(upstream, method)
    except TimeoutError:
        key, _ = mcp.LISTS[method]
        slow = f"did not list its {key} within {LIST_SECONDS:.0f} s"
        raise ListFailed(f"it {slow}", unavailable(upstream.source, slow)) from None


async def _read_pages(upstream: Upstream, method: str) -> tuple[list[dict[str, Any]], list[RpcResponse]]:
    """Return all pages of a list.

    Any text is a cursor, also an empty one. A cursor that was there before is no progress and ends the list:

        tools/list              <- a, b   nextCursor ""
        tools/list cursor ""    <- a, b   nextCursor ""      the list is a, b
    """
    key, _ = mcp.LISTS[method]
    items: list[dict[str, Any]] = []
    answers: list[RpcResponse] = []
    params: dict[str, Any] = {}
    cursors: set[str] = set()
    room = MAX_LIST_VALUES
    for _ in range(MAX_ITEMS):
        answer = await _ask(upstream, method, params)
        answers.append(answer)
        if sum(one.size for one in answers) > MAX_LIST:
            raise ListFailed(f"its list has more than {MAX_LIST} bytes")
        if answer.size == 0 and (room := _take_room(answer.result, room)) < 0:
            raise ListFailed(f"its list has more than {MAX_LIST_VALUES} values and keys in small pages")
        page, nameless, cursor = _read_page(answer, key)
        if nameless:
            upstream.dropped.note(b"", len(answers), f"{nameless} items of {method} without a name")
        is_last = not isinstance(cursor, str) or cursor in cursors
        if is_last and isinstance(cursor, str):
            page = await _without_repeated(page, items)
        items += page
        if len(items) > MAX_ITEMS:
            raise ListFailed(f"it lists more than {MAX_ITEMS} {key}")
        if is_last:
            return items, answers
        cursors.add(cursor)
        params = {"cursor": cursor}
    raise ListFailed(f"its list has more than {MAX_ITEMS} pages")


def _read_page(answer: RpcResponse, key: str) -> tuple[list[dict[str, Any]], int, Any]:
    """Return the items of a page, the number of those that are left out since they have no name, and the next cursor.

    What is left out cannot be called, as if the server had not listed it.
    """
    result = answer.result or {}
    page = result.get(key)
    if key in result and page in (None, {}):
        page = []  # an empty list, as Go and Lua write it
    if not isinstance(page, list):
        raise ListFailed(f"its answer has no {key}")
    named = [item for item in page if isinstance(item, dict) and isinstance(item.get("name"), str)]
    if page and not named:
        raise ListFailed(f"it lists what is no {key.removesuffix('s')}")
    return named, len(page) - len(named), result.get("nextCursor")


async def _without_repeated(page: list[dict[str, Any]], items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a page without the items that are equal to earlier ones; two of one name that differ both stay."""
    earlier, pace = {item["name"]: item for item in items}, Pace()
    kept = []
    for item in page:
        before = earlier.get(item["name"])
        if before is None or _encode(before) != _encode(item):
            kept.append(item)
        await pace.pause()
    return kept


async def _ask(upstream: Upstream, method: str, params: dict[str, Any]) -> RpcResponse:
    server_info, refusal = upstream.server_info, upstream.refusal()
    if refusal is not None or server_info is None:
        raise ListFailed("it is not there" if refusal is None else refusal.message, refusal)
    key, _ = mcp.LISTS[method]
    if key not in server_info.capabilities:
        return RpcResponse(None, {key: []}, None)
    call = upstream.start(method, build_params(Forward(upstream.source, method, params=params), server_info, {}))
    try:
        outcome = await call.future
    except asyncio.CancelledError:
        upstream.abandon(call, "its list is no longer waited for")
        raise
    if isinstance(outcome, Deny):
        raise ListFailed(outcome.message, outcome)
    if not isinstance(outcome, RpcResponse):
        raise ListFailed("it was interrupted")
    if outcome.result is None:
        raise ListFailed(f"it refuses: {str((outcome.error or {}).get('message', ''))[:200]}")
    return outcome


_encode: Final = build_encoder(sort_keys=True)
FRESH_SECONDS: Final = 5.0
"""How old a list may be on which a call is decided."""
_MAX_SCHEMAS: Final = 16_384
"""Values of all input schemas of one list that are kept; further schemas are taken for unknown."""
_CHARACTERS: Final = 64
"""Characters of a text that count as one more value."""
_REREAD_SECONDS: Final = 0.05
"""First pause before a list that has changed soon is read again; it doubles each time."""
_MAX_REREAD_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class ListedItem:
    """A tool's `annotations` and `inputSchema`, None where there are none, and the digest of the whole tool or prompt.

    The digest is empty where the server does not list the item, or lists two of its name.
    """

    annotations: Mapping[str, Any] | None
    input_schema: Mapping[str, Any] | None
    definition: str


_ABSENT: Final = ListedItem(None, None, "")


@dataclass(slots=True, eq=False)
class _Known:
    """One list of one connection of one server.

    Attributes:
        upstream: The server.
        method: `tools/list` or `prompts/list`.
        items: What it listed the last time; None until it has answered, and where it did not answer the last time.
        asked: How many lists were asked for.
        asked_at: When the last one was asked for, whatever became of it; minus infinity before the first.
        has_changed: Whether the server has said since then that its list has changed.
        trouble: What kept the server from answering the last time.
        pause: The pause before the next list.
        reading: The list that is being read, or that waits for its pause.
    """

    upstream: Upstream
    method: str
    items: dict[str, ListedItem] | None = None
    asked: int = 0
    asked_at: float = -math.inf
    has_changed: bool = False
    trouble: Deny | None = None
    pause: ReconnectPause = field(
        default_factory=lambda: ReconnectPause(first=_REREAD_SECONDS, longest=_MAX_REREAD_SECONDS, steady=FRESH_SECONDS)
    )
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
        """Wait until the list is one that a call may be decided on which came now, or cannot be had.

        A wait has a bound: the rest of a list that is being read, a pause of a second, and one whole list.
        """
        known = self._known.get((source, method))
        if known is None or self._is_fresh(known):
            return
        needed = known.asked + 1
        while known.asked < needed and not self._is_fresh(known) and self._known.get((source, method)) is known:
            known.pause.want()
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
        """Read a list again, since it has changed; no call that comes from now on is decided on the old one."""
        known = self._known.get((upstream.source, method))
        if known is None:
            return
        if not known.has_changed:
            known.has_changed = True
            known.pause.note_end(self._monotonic() - known.asked_at)
        if method == TOOLS_LIST or known.items is not None:
            self._read(known)

    def _is_fresh(self, known: _Known) -> bool:
        is_known = known.items is not None and not known.has_changed
        return is_known and self._monotonic() - known.asked_at < FRESH_SECONDS

    def _read(self, known: _Known) -> None:
        if known.reading is None:
            name = f"{known.method} of {known.upstream.source}"
            known.reading = asyncio.get_running_loop().create_task(self._follow(known), name=name)
            known.reading.add_done_callback(partial(self._finish, known))

    def _finish(self, known: _Known, task: asyncio.Task[None]) -> None:
        known.reading = None
        log_failure(task, self._log)
        if (
            not task.cancelled()
            and known.has_changed
            and self._known.get((known.upstream.source, known.method)) is known
        ):
            self._read(known)

    async def _follow(self, known: _Known) -> None:
        """Read the list once, after its pause."""
        if known.has_changed:
            await known.pause.wait()
        known.has_changed, known.asked_at = False, self._monotonic()
        known.asked += 1
        try:
            known.items = await self._list(known)
        except Exception:
            known.items = None  # no call is decided on a list that could not be read again
            raise

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
