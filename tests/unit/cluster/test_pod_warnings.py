"""The reads of Warning Events are bounded, and a flood of Events hides no pod for ever."""

from collections.abc import Mapping
from typing import Any

import pytest

from interlock.cluster import pod_warnings
from interlock.cluster.pod_warnings import MOST_ASKED, PodWarnings, read_warnings
from interlock.deployment.observed.causes import PodWarning, read_warning
from tests.requirements import requirement

FLOOD = 5000
UIDS = [f"pod-{number:02d}" for number in range(20)]


def an_event(uid: str, second: int = 0) -> dict[str, Any]:
    at = f"2026-03-02T09:00:{second:02d}.000000Z"
    return {"reason": "FailedMount", "note": uid, "regarding": {"kind": "Pod", "uid": uid}, "eventTime": at}


class Events:
    """An API server with Events: those of others first."""

    def __init__(self, others: int) -> None:
        self.events = [an_event(f"other-{number}") for number in range(others)] + [an_event(uid) for uid in UIDS]
        self.requests: list[str] = []

    async def get(self, _path: str, query: Mapping[str, str], **_: Any) -> dict[str, Any]:
        selector = query["fieldSelector"]
        self.requests.append(selector)
        uid = selector.partition("regarding.uid=")[2]
        found = [one for one in self.events if not uid or one["regarding"]["uid"] == uid]
        begin, limit = int(query.get("continue", "0")), int(query["limit"])
        rest = begin + limit if begin + limit < len(found) else None
        return {"items": found[begin : begin + limit], "metadata": {"continue": str(rest)} if rest else {}}


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_warnings, "_PAUSE_SECONDS", 0)


async def read(api: Any, turn: int = 0) -> dict[str, PodWarning]:
    return await read_warnings(api, "agents", UIDS, turn)


@requirement("status.events-bounded")
async def test_all_pods_of_a_namespace_cost_one_list() -> None:
    api = Events(0)
    assert (await read(api)).keys() == set(UIDS)
    assert api.requests == ["type=Warning"]


@requirement("status.events-bounded")
async def test_in_a_flood_of_events_each_pod_is_asked_about_in_its_turn_and_a_turn_is_bounded() -> None:
    api, found = Events(FLOOD), dict[str, PodWarning]()
    for turn in range(5):
        api.requests.clear()
        found |= await read(api, turn)
        assert len(api.requests) == 5 + MOST_ASKED
    assert found.keys() == set(UIDS)


@requirement("status.events-bounded")
async def test_a_flood_in_one_namespace_keeps_no_other_one_from_its_turn() -> None:
    api, told = Events(FLOOD), dict[str, int]()
    client: Any = api
    warnings = PodWarnings(
        client,
        lambda: {f"ns-{number}": set(UIDS[:1]) for number in range(3)},
        lambda namespace, found: told.update({namespace: len(found)}),
    )
    await warnings.turn()
    assert told == {"ns-0": 1, "ns-1": 1, "ns-2": 1}


async def test_the_newest_event_of_a_pod_counts_whatever_its_place_in_the_list() -> None:
    api = Events(0)
    newest = {**an_event(UIDS[0], second=9), "note": "newest"}
    api.events = [an_event(UIDS[0], second=3), newest, an_event(UIDS[0], second=5)]
    assert (await read(api))[UIDS[0]].message == 'a pod: FailedMount ("newest")'


@requirement("status.events-bounded")
async def test_of_many_events_about_a_pod_the_newest_of_each_page_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    api, quoted = Events(FLOOD), list[str]()

    def quote(event: dict[str, Any]) -> PodWarning | None:
        quoted.append(event["eventTime"])
        return read_warning(event)

    monkeypatch.setattr(pod_warnings, "read_warning", quote)
    api.events = [an_event(UIDS[0], second % 60) for second in range(400)]
    found = await read(api)
    assert len(quoted) == 2
    assert found[UIDS[0]].at.second == 59
