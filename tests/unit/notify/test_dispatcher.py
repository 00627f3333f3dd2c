import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from interlock_notify import delivery_queue, dispatcher
from interlock_notify.alerts import Alert
from interlock_notify.dispatcher import Dispatcher, Sender
from interlock_notify.sender import FailedAttempt
from tests.support.bounds import until, until_count
from tests.unit.notify.ledgers import AT, NOW, UID, a_ledger, an_entry

AWAY = FailedAttempt("the receiver gave no answer")


@dataclass
class Receiver:
    """A webhook that answers as a test says: with `answers`, then with a success."""

    answers: list[FailedAttempt | None] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)
    answers_at_all: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers_at_all.set()

    async def send(self, alert: Alert) -> FailedAttempt | None:
        self.posted.append(alert.id)
        await self.answers_at_all.wait()
        return self.answers.pop(0) if self.answers else None


@dataclass
class Running:
    """A dispatcher that runs, and what it reports as done."""

    dispatcher: Dispatcher
    done: list[tuple[str, str]]


@asynccontextmanager
async def dispatching(
    receivers: Mapping[str, Sender],
    *,
    delivered: Mapping[str, Iterable[str]] | None = None,
    clock: Callable[[], datetime] = lambda: NOW,
) -> AsyncIterator[Running]:
    done: list[tuple[str, str]] = []
    found = Dispatcher(
        "support",
        receivers,
        random=lambda: 0.0,
        clock=clock,
        monotonic=time.monotonic,
        on_done=lambda webhook, digest: done.append((webhook, digest)),
    )
    found.restore(delivered or {})
    task = asyncio.create_task(found.run())
    try:
        yield Running(found, done)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(delivery_queue, "LONGEST_PAUSE", 0.02)


async def test_each_webhook_gets_each_alert_once_however_often_the_ledger_changes() -> None:
    chat, pager = Receiver(), Receiver()
    async with dispatching({"chat": chat, "pager": pager}) as running:
        for spent in range(5):
            running.dispatcher.handle_ledger(a_ledger(an_entry(50), an_entry(80), day={"spent": spent}))
            await asyncio.sleep(0)
        await until_count(lambda: len(running.done), 4, "deliveries")

    assert sorted(chat.posted) == sorted(pager.posted) == [f"{UID}/day/2026-03-02T00:00:00Z/{one}" for one in (50, 80)]


async def test_a_slow_webhook_delays_no_other() -> None:
    slow, quick = Receiver(), Receiver()
    slow.answers_at_all.clear()
    async with dispatching({"slow": slow, "quick": quick}) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry(50), an_entry(80)))
        await until_count(lambda: len(quick.posted), 2, "deliveries to the quick webhook")

        assert len(slow.posted) == 1
        assert running.dispatcher.pending() == {"slow": 2, "quick": 0}
        assert running.dispatcher.oldest_seconds() == {"slow": 1.0, "quick": 0.0}


async def test_an_alert_is_tried_again_until_its_webhook_takes_it() -> None:
    receiver = Receiver(answers=[AWAY, AWAY, FailedAttempt("HTTP 400", is_away=False)])
    async with dispatching({"chat": receiver}) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(running.done), 1, "deliveries")

    assert len(receiver.posted) == 4
    assert len(set(receiver.posted)) == 1
    assert running.dispatcher.counts == {("chat", "Failed"): 3, ("chat", "Delivered"): 1}


async def test_what_was_delivered_before_a_restart_is_not_sent_again() -> None:
    first, second = Receiver(), Receiver()
    async with dispatching({"chat": first}) as before:
        before.dispatcher.handle_ledger(a_ledger(an_entry(50)))
        await until_count(lambda: len(before.done), 1, "deliveries")
    recorded = [digest for _, digest in before.done]

    async with dispatching({"chat": second}, delivered={"chat": recorded}) as after:
        after.dispatcher.handle_ledger(a_ledger(an_entry(50), an_entry(80)))
        await until_count(lambda: len(after.done), 1, "deliveries")

    assert [one.rpartition("/")[2] for one in second.posted] == ["80"]


async def test_a_webhook_that_was_added_gets_what_the_others_have_got() -> None:
    known, added = Receiver(), Receiver()
    async with dispatching({"chat": known}) as before:
        before.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(before.done), 1, "deliveries")
    async with dispatching({"chat": known, "pager": added}, delivered={"chat": [before.done[0][1]]}) as after:
        after.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(after.done), 1, "deliveries")

    assert (len(known.posted), len(added.posted)) == (1, 1)


async def test_an_alert_that_no_receiver_took_for_three_days_is_given_up() -> None:
    receiver = Receiver()
    late = datetime.fromisoformat(AT) + timedelta(hours=72, seconds=1)
    async with dispatching({"chat": receiver}, clock=lambda: late) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(running.done), 1, "alerts that are given up")

    assert receiver.posted == []
    assert running.dispatcher.counts == {("chat", "Expired"): 1}


async def test_alerts_that_found_no_room_are_sent_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "MOST_PENDING", 2)
    monkeypatch.setattr(dispatcher, "MOST_PENDING", 2)
    receiver = Receiver()
    async with dispatching({"chat": receiver}) as running:
        running.dispatcher.handle_ledger(a_ledger(*(an_entry(percent) for percent in range(1, 8))))
        await until_count(lambda: len(running.done), 7, "deliveries")

    assert len(set(receiver.posted)) == 7


async def test_the_alert_of_a_ledger_that_is_gone_is_sent_all_the_same() -> None:
    receiver = Receiver(answers=[AWAY])
    receiver.answers_at_all.clear()
    async with dispatching({"chat": receiver}) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(receiver.posted), 1, "attempts")
        running.dispatcher.handle_deletion(("agents", "triage.staging"))
        receiver.answers_at_all.set()
        await until(lambda: bool(running.done), "the alert is delivered")


async def test_a_defect_in_one_webhooks_attempt_ends_neither_it_nor_another() -> None:
    class Broken(Receiver):
        async def send(self, alert: Alert) -> FailedAttempt | None:
            if not self.posted:
                self.posted.append(alert.id)
                raise RuntimeError("a defect")
            return await super().send(alert)

    broken, other = Broken(), Receiver()
    async with dispatching({"broken": broken, "other": other}) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(running.done), 2, "deliveries")
