"""Lists of tools: their pages, their bounds, and what a server that changes them without end costs."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

from interlock_guard.decision.decide import TOOLS_LIST, DenyReason
from interlock_guard.upstream import list_cache
from interlock_guard.upstream.list_cache import MAX_ITEMS, ListCache, ListFailed, read_list
from interlock_guard.upstream.upstream import Call, ServerInfo
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement
from tests.support.bounds import limit, until

Json = dict[str, Any]
SECONDS = 30.0


def tool(name: str, **members: Any) -> Json:
    return {"name": name, "inputSchema": {"type": "object"}, **members}


def is_listed(cache: ListCache, name: str) -> bool:
    found = cache.find("crm", TOOLS_LIST, name)
    return found is not None and found.definition != ""


def page(*tools: Json, cursor: Any = None) -> RpcResponse:
    return RpcResponse(1, {"tools": list(tools)} | ({} if cursor is None else {"nextCursor": cursor}), None)


class Server:
    """An upstream whose lists are answered by a function of the cursor; None leaves one open in `held`."""

    def __init__(self, answer: Callable[[str | None], RpcResponse | None]) -> None:
        self.source, self.server_info = "crm", ServerInfo("2025-11-25", {"tools": {}})
        self.answer = answer
        self.asked: list[str | None] = []
        self.held: list[Call] = []
        self.abandoned = 0

    def refusal(self) -> None: ...

    def start(self, _method: str, params: Json) -> Call:
        self.asked.append(params.get("cursor"))
        call = Call(len(self.asked), asyncio.get_running_loop().create_future(), None, 0.0)
        answer = self.answer(params.get("cursor"))
        if answer is None:
            self.held.append(call)
        else:
            call.resolve(answer)
        return call

    def abandon(self, _call: Call, _why: str) -> None:
        self.abandoned += 1


async def listed(answer: Callable[[str | None], RpcResponse | None]) -> tuple[list[str], list[str | None]]:
    """Return the names that a server lists, and the cursors that it was asked with."""
    server: Any = Server(answer)
    items, _ = await read_list(server, TOOLS_LIST)
    return [item["name"] for item in items], server.asked


@requirement("guard.lists-bounded")
@pytest.mark.parametrize("cursor", ["", "more"])
async def test_a_cursor_that_was_there_before_ends_the_list_with_what_there_is(cursor: str) -> None:
    names, asked = await listed(lambda _: page(tool("a"), tool("b"), cursor=cursor))
    assert (names, asked) == (["a", "b"], [None, cursor])


async def test_an_empty_cursor_is_followed_as_any_other() -> None:
    pages = {None: page(tool("a"), cursor=""), "": page(tool("b"), cursor="x"), "x": page(tool("c"))}
    assert await listed(pages.get) == (["a", "b", "c"], [None, "", "x"])


async def test_the_page_of_a_repeated_cursor_keeps_what_is_new_in_it() -> None:
    pages = {None: page(tool("a"), cursor="x"), "x": page(tool("b"), tool("a"), cursor="x")}
    assert (await listed(pages.get))[0] == ["a", "b"]


@requirement("drift.quarantined")
async def test_two_tools_of_a_name_that_differ_stay_two_also_on_the_page_of_a_repeated_cursor() -> None:
    """Neither can be called then: the guard cannot tell which one the server would execute."""
    pages = {None: page(tool("a"), cursor="x"), "x": page(tool("a", description="Send all."), cursor="x")}
    assert (await listed(pages.get))[0] == ["a", "a"]
    ones = {None: page(tool("a", x=1), cursor="x"), "x": page(tool("a", x=True), cursor="x")}
    assert (await listed(ones.get))[0] == ["a", "a"]


@pytest.mark.parametrize("cursor", [None, 1, [], {}])
async def test_what_is_no_text_is_no_cursor(cursor: Any) -> None:
    assert await listed(lambda _: page(tool("a"), cursor=cursor)) == (["a"], [None])


@requirement("guard.lists-bounded")
async def test_as_many_pages_as_tools_are_read() -> None:
    def answer(cursor: str | None) -> RpcResponse:
        number = int(cursor or 1)
        return page(tool(f"t{number}"), cursor=str(number + 1) if number < MAX_ITEMS else None)

    names, asked = await listed(answer)
    assert len(names) == len(asked) == MAX_ITEMS


def numbered(size: int) -> Callable[[str | None], RpcResponse]:
    """Return a server whose list has no end, with pages of so many tools."""
    numbers: Iterator[int] = count()
    return lambda _: page(*(tool(f"t{next(numbers)}") for _ in range(size)), cursor=f"c{next(numbers)}")


@requirement("guard.lists-bounded")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (numbered(0), f"more than {MAX_ITEMS} pages"),
        (numbered(1), "pages"),
        (numbered(100), f"more than {MAX_ITEMS} tools"),
        (
            lambda cursor: RpcResponse(1, {"tools": [], "nextCursor": f"{cursor}x", "x": [0] * 4000}, None),
            "values and keys",
        ),
    ],
    ids=["empty pages", "a tool a page", "many tools", "values"],
)
async def test_a_list_without_end_fails(answer: Any, words: str) -> None:
    with pytest.raises(ListFailed, match=words):
        await listed(answer)


@requirement("guard.lists-bounded")
async def test_a_list_that_is_not_answered_fails_in_time_and_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_cache, "LIST_SECONDS", 0.01)
    server: Any = Server(lambda _: None)
    with pytest.raises(ListFailed, match="within") as failed:
        await read_list(server, TOOLS_LIST)
    assert failed.value.denial is not None
    assert failed.value.denial.reason == DenyReason.SERVER_UNAVAILABLE
    assert server.abandoned == 1, "else the call would take a place for ten minutes"


class Changing:
    """A cache, and a server that says that its list has changed while it lists it."""

    def __init__(self, *, often: bool = True) -> None:
        self.now, self.often = 0.0, often
        self.cache = ListCache(lambda: self.now)
        self.version = 0
        self.server: Any = Server(self._answer)
        self.cache.begin(self.server)

    def change(self) -> None:
        self.version += 1
        self.cache.read(self.server, TOOLS_LIST)

    def _answer(self, _: str | None) -> RpcResponse:
        if self.often:
            self.change()
        return page(tool(f"v{self.version}"))


async def test_a_list_that_changes_whenever_it_is_read_is_rarely_read() -> None:
    changing = Changing()
    await asyncio.sleep(1.0)
    assert len(changing.server.asked) <= 7, "after 0.05, 0.1, 0.2 ... s"


@requirement("guard.lists-bounded")
async def test_many_changes_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_cache, "_REREAD_SECONDS", 0.0)
    changing = Changing(often=False)
    await until(lambda: changing.cache.is_fresh("crm", TOOLS_LIST), "the first list is there")
    for _ in range(1000):
        changing.change()
    await until(lambda: changing.cache.is_fresh("crm", TOOLS_LIST), "the list is read again")
    assert len(changing.server.asked) == 2


@requirement("guard.lists-bounded")
async def test_a_call_waits_for_the_first_list_that_is_asked_for_after_it_came() -> None:
    """A server whose list always changes keeps no call waiting, and none is decided on a list from before it."""
    changing = Changing()
    await until(lambda: len(changing.server.asked) >= 2, "the list is read again and again")
    for _ in range(3):
        before = len(changing.server.asked)
        async with limit(SECONDS, "the call is decided"):
            await changing.cache.refresh("crm", TOOLS_LIST)
        assert len(changing.server.asked) == before + 1
        newest = f"v{changing.version}"
        assert is_listed(changing.cache, newest)


@requirement("drift.quarantined")
async def test_a_call_is_not_decided_on_a_list_that_was_being_read_when_the_list_changed() -> None:
    cache = ListCache(lambda: 0.0)
    server: Any = Server(lambda _: None)
    cache.begin(server)
    await until(lambda: len(server.held) == 1, "the first list is asked for")
    cache.read(server, TOOLS_LIST)
    waiting = asyncio.create_task(cache.refresh("crm", TOOLS_LIST))
    server.held[0].resolve(page(tool("old")))
    await until(lambda: len(server.held) == 2, "the list is asked for again")
    assert not waiting.done()
    server.held[1].resolve(page(tool("new")))
    async with limit(SECONDS, "the call is decided"):
        await waiting
    assert (is_listed(cache, "new"), is_listed(cache, "old")) == (True, False)


async def test_a_call_does_not_wait_for_the_list_of_a_connection_that_has_ended() -> None:
    cache = ListCache(lambda: 0.0)
    server: Any = Server(lambda _: None)
    cache.begin(server)
    waiting = asyncio.create_task(cache.refresh("crm", TOOLS_LIST))
    await until(lambda: len(server.held) == 1, "the list is asked for")
    cache.end("crm")
    async with limit(SECONDS, "the call is decided"):
        await waiting
    assert cache.find("crm", TOOLS_LIST, "old") is None
