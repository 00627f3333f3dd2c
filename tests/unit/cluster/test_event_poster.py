"""Events are posted in the background; what loses one is logged and counted, and harms nothing."""

import asyncio
import logging
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from interlock.api.agent import Agent
from interlock.cluster.event_poster import EventPoster
from interlock.reconcile.agent_events import EventNote
from interlock_kube.client import ApiError
from tests.support.builders import NOW, an_agent
from tests.support.fake_client import FakeClient

EVENTS = "/apis/events.k8s.io/v1/namespaces/agents/events"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def poster(client: FakeClient) -> EventPoster:
    return EventPoster(client, "operator-1", lambda: NOW)  # type: ignore[arg-type]


async def post(client: FakeClient, *notes: EventNote) -> None:
    events, agent = poster(client), Agent.model_validate(an_agent().to_kubernetes())
    for note in notes:
        events.post(agent, note)
    await events.close()


def dropped() -> float:
    return REGISTRY.get_sample_value("interlock_events_dropped_total") or 0.0


async def test_an_event_says_what_about_whom_and_why(client: FakeClient) -> None:
    await post(client, EventNote("Warning", "OwnerMissing", "Governed=False: no"))

    (event,) = client.of_kind("Event").values()
    assert event["regarding"] == {
        "apiVersion": "interlock.dev/v1alpha1",
        "kind": "Agent",
        "namespace": "agents",
        "name": "triage",
        "uid": "uid-of-triage",
    }
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "OwnerMissing", "Governed=False: no")
    assert event["eventTime"] == "2026-03-02T09:00:00.000000Z"
    assert event["reportingInstance"] == "operator-1"


async def test_an_events_note_is_never_longer_than_the_api_server_takes(client: FakeClient) -> None:
    await post(client, EventNote("Normal", "X", "y" * 5000))

    (event,) = client.of_kind("Event").values()
    assert len(event["note"]) == 1024


async def test_two_events_of_one_moment_have_two_names(client: FakeClient) -> None:
    await post(client, *[EventNote("Normal", "X", "y")] * 2)

    assert len(client.of_kind("Event")) == 2


@pytest.mark.parametrize(
    "error",
    [
        ApiError(403, "no"),
        ApiError(500, "storage is away"),
        TimeoutError(),
        ConnectionResetError(),
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientPayloadError("cut off"),
        KeyError("a defect"),
    ],
    ids=repr,
)
async def test_an_event_that_cannot_be_posted_is_logged_counted_and_dropped(
    client: FakeClient, error: Any, caplog: pytest.LogCaptureFixture
) -> None:
    client.break_with(error, "POST", EVENTS)
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    before = dropped()

    with caplog.at_level(logging.WARNING):
        await post(client, EventNote("Normal", "X", "y"))

    assert client.of_kind("Event") == {}
    assert dropped() == before + 1
    (record,) = caplog.records
    assert record.message == "event not posted"
    assert (record.exc_info is not None) == isinstance(error, KeyError), "a defect is logged with its trace"
    assert unread == []


async def test_an_event_that_hangs_does_not_hold_up_the_end_of_the_operator(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock.cluster.event_poster._CLOSE_SECONDS", 0.01)

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    client.create = hang  # type: ignore[method-assign,assignment]
    async with asyncio.timeout(5):
        await post(client, EventNote("Normal", "X", "y"))
