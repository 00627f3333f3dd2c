"""Following a kind, against a fake with scripted answers to each list and each watch."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock_kube import retry, watch
from interlock_kube.client import AnswerTooLarge, ApiError
from interlock_kube.resource_types import AGENT
from interlock_kube.retry import retry_until_available
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions, follow, list_objects
from tests.requirements import requirement


def an_object(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def an_event(kind: str, name: str = "a", version: int = 1) -> dict[str, Any]:
    return {"type": kind, "object": an_object(name, version)}


class FakeWatches:
    """A fake of the Client: lists and watches answer from these, in order."""

    def __init__(self, lists: list[Any], watches: list[list[dict[str, Any] | Exception]]) -> None:
        self.lists, self.watches = lists, watches
        self.queries: list[dict[str, str]] = []

    async def get(self, _path: str, query: dict[str, str], **_: Any) -> Any:
        self.queries.append(query)
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def lines(self, _path: str, query: dict[str, str], **_: Any) -> AsyncIterator[Any]:
        self.queries.append(query)
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


def a_list(*objects: dict[str, Any], version: int = 10, more: str = "") -> dict[str, Any]:
    return {"items": list(objects), "metadata": {"resourceVersion": str(version), "continue": more}}


async def followed(
    client: FakeWatches, count: int, options: WatchOptions | None = None
) -> list[ListEvent | ChangeEvent]:
    events: list[ListEvent | ChangeEvent] = []
    fake: Any = client
    async for one in follow(fake, AGENT, options or WatchOptions()):
        events.append(one)
        if len(events) == count:
            return events
    raise AssertionError("it ended")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "BACKOFF_SECONDS", (0,))
    monkeypatch.setattr(retry, "PAUSE_SECONDS", 0)


async def test_a_kind_is_listed_page_by_page_and_then_watched_from_there() -> None:
    pages = [a_list(an_object("a", 1), more="next"), a_list(an_object("b", 2), version=12)]
    client = FakeWatches(pages, [[an_event("MODIFIED", "a", 13)]])

    contacts: list[None] = []
    options = WatchOptions(selector="app=x", page=1, on_contact=lambda: contacts.append(None))
    first, second, changed = await followed(client, 3, options)

    assert first == ListEvent((an_object("a", 1),), is_first=True, is_last=False)
    assert second == ListEvent((an_object("b", 2),), is_first=False, is_last=True)
    assert {query["limit"] for query in client.queries[:2]} == {"1"}
    assert len(contacts) == 2, "the whole list, and the change"
    assert changed == ChangeEvent("MODIFIED", an_object("a", 13))
    assert client.queries[1]["continue"] == "next"
    assert client.queries[2]["resourceVersion"] == "12"
    assert {query["labelSelector"] for query in client.queries} == {"app=x"}


async def test_an_empty_list_of_metadata_is_null() -> None:
    client = FakeWatches([{"items": None, "metadata": {"resourceVersion": "1"}}], [[]])

    assert await followed(client, 1) == [ListEvent(())]


@pytest.mark.parametrize("end", [None, TimeoutError(), ConnectionResetError()])
async def test_a_watch_that_ends_is_taken_up_where_it_was_without_a_list(end: Exception | None) -> None:
    first: list[Any] = [an_event("ADDED", "a", 11), an_event("BOOKMARK", version=20)]
    client = FakeWatches([a_list()], [[*first, *([end] if end else [])], [an_event("DELETED", "a", 21)]])

    events = await followed(client, 3)

    assert [one.type for one in events if isinstance(one, ChangeEvent)] == ["ADDED", "DELETED"]
    assert client.queries[-1]["resourceVersion"] == "20"


@pytest.mark.parametrize(
    "end",
    [
        {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}},
        ApiError(403, "forbidden"),
        ValueError("an event of the watch has more than 8388608 bytes"),
    ],
)
async def test_a_watch_that_is_refused_too_old_or_unreadable_begins_with_a_new_list(end: Any) -> None:
    client = FakeWatches([a_list(), a_list(an_object("b", 30), version=31)], [[end], []])

    assert await followed(client, 2) == [ListEvent(()), ListEvent((an_object("b", 30),))]


async def test_a_request_to_an_absent_api_server_is_retried() -> None:
    client = FakeWatches([ConnectionRefusedError(), ApiError(503, "starting"), a_list()], [[]])

    assert await followed(client, 1) == [ListEvent(())]


async def answers(*given: Exception | str) -> tuple[str, int]:
    left = list(given)

    async def ask() -> str:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return await retry_until_available(ask), len(left)


@pytest.mark.parametrize("error", [ApiError(429, "busy"), ApiError(500, "x"), TimeoutError(), ConnectionResetError()])
async def test_a_request_is_retried_where_that_may_help(error: Exception) -> None:
    assert await answers(error, error, "yes") == ("yes", 0)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_error_that_would_come_again_is_raised(status: int) -> None:
    with pytest.raises(ApiError, match=str(status)):
        await answers(ApiError(status, "no"), "yes")


@requirement("operator.memory")
async def test_a_page_of_a_list_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    too_large = AnswerTooLarge("the answer has more than 10 bytes")
    lists = [too_large, too_large, a_list(an_object("a", 1), more="next"), a_list(an_object("b", 2))]
    client: Any = FakeWatches(lists, [])

    found = [one["metadata"]["name"] async for one in list_objects(client, AGENT, limit=50, most=10)]

    assert found == ["a", "b"]
    assert [query["limit"] for query in client.queries] == ["50", "12", "3", "6"]
