import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from interlock_notify import delivery_queue, dispatcher
from interlock_notify.alerts import Alert, read_alerts
from interlock_notify.dispatcher import Dispatcher, Sender
from interlock_notify.record import Recorded
from interlock_notify.sender import FailedAttempt
from tests.support.bounds import until, until_count
from tests.unit.notify.ledgers import AT, DAY, NOW, UID, a_ledger, an_entry

EVER = datetime.fromtimestamp(0, UTC)
AWAY = FailedAttempt("the receiver gave no answer")


@dataclass
class Receiver:
    """A webhook that answers as a test says: with `answers`, then with a success."""

    answers: list[FailedAttempt | None] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)
    answers_at_all: asyncio.Event = field(default_factory=asyncio.Event)
    unusable: str | None = None

    def __post_init__(self) -> None:
        self.answers_at_all.set()

    def check(self) -> str | None:
        return self.unusable

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
    since: Mapping[str, datetime] | None = None,
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
    appeared, digests = since or {}, delivered or {}
    found.restore(
        {name: Recorded(appeared.get(name, EVER), dict.fromkeys(digests.get(name, ()))) for name in receivers}
    )
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
            running.dispatcher.handle_ledger(a_ledger(an_entry(50), an_entry(80), day={"start": DAY, "spent": spent}))
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


async def test_a_webhook_that_was_added_gets_the_alerts_that_are_raised_from_then_on() -> None:
    known, added = Receiver(), Receiver()
    appeared = {"pager": datetime.fromisoformat(AT) + timedelta(seconds=1)}
    late = an_entry(80, at="2026-03-02T14:05:01Z")
    async with dispatching({"chat": known, "pager": added}, since=appeared) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry(50), late))
        await until_count(lambda: len(running.done), 3, "deliveries")

    assert [one.rpartition("/")[2] for one in known.posted] == ["50", "80"]
    assert [one.rpartition("/")[2] for one in added.posted] == ["80"]
    assert running.dispatcher.counts == {("chat", "Delivered"): 2, ("pager", "Delivered"): 1}


async def test_an_alert_that_no_receiver_took_for_three_days_is_given_up() -> None:
    receiver, now = Receiver(answers=[AWAY]), [NOW]
    async with dispatching({"chat": receiver}, clock=lambda: now[0]) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        now[0] = datetime.fromisoformat(AT) + timedelta(hours=72, seconds=1)
        await until_count(lambda: len(running.done), 1, "alerts that are given up")

    assert receiver.posted == []
    assert running.dispatcher.counts == {("chat", "Expired"): 1}


async def test_an_alert_that_is_too_old_when_it_is_seen_is_neither_posted_nor_counted() -> None:
    receiver = Receiver()
    late = datetime.fromisoformat(AT) + timedelta(hours=73)
    fresh = an_entry(80, at="2026-03-05T00:00:00Z")
    async with dispatching({"chat": receiver}, clock=lambda: late) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry(50), fresh))
        await until_count(lambda: len(running.done), 1, "deliveries")

    assert [one.rpartition("/")[2] for one in receiver.posted] == ["80"]
    assert running.dispatcher.counts == {("chat", "Delivered"): 1}


async def test_alerts_that_found_no_room_are_sent_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_queue, "MOST_PENDING", 2)
    monkeypatch.setattr(dispatcher, "MOST_PENDING", 2)
    receiver = Receiver()
    ledger = a_ledger(*(an_entry(percent) for percent in range(1, 8)))
    async with dispatching({"chat": receiver}) as running:
        running.dispatcher.handle_ledger(ledger)

        def are_all_sent() -> bool:
            if running.dispatcher.wants_ledgers.is_set():
                running.dispatcher.wants_ledgers.clear()
                running.dispatcher.handle_ledger(ledger)
            return len(running.done) == 7

        await until(are_all_sent, "all alerts are delivered")

    assert len(set(receiver.posted)) == 7


@pytest.mark.parametrize("broken", [{"metadata": {"name": "evil.staging", "namespace": "agents"}}, {"status": 5}])
async def test_a_ledger_that_cannot_be_read_keeps_no_alert_of_another_away(
    broken: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(found: dict[str, Any], policy: str) -> tuple[Alert, ...]:
        if found["metadata"]["name"] == "evil.staging":
            raise RuntimeError("a defect")
        return read_alerts(found, policy)

    monkeypatch.setattr(dispatcher, "read_alerts", read)
    receiver = Receiver()
    evil = {**a_ledger(an_entry(), name="evil.staging"), **broken}
    async with dispatching({"chat": receiver}) as running:
        running.dispatcher.handle_ledger(evil)
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until_count(lambda: len(running.done), 1, "deliveries")
        assert running.dispatcher.unreadable == 1
        running.dispatcher.handle_deletion(("agents", "evil.staging"))
        assert running.dispatcher.unreadable == 0


async def test_a_webhook_without_its_files_is_a_problem_immediately_and_one_that_fails_after_minutes() -> None:
    now = [NOW]
    missing, away = Receiver(unusable="its Secret is missing"), Receiver(answers=[AWAY] * 99)
    async with dispatching({"chat": missing, "pager": away}, clock=lambda: now[0]) as running:
        running.dispatcher.handle_ledger(a_ledger(an_entry()))
        await until(lambda: running.dispatcher.reasons["pager"] != "", "an attempt has failed")
        assert running.dispatcher.find_problems() == {"chat": "its Secret is missing"}

        now[0] += timedelta(seconds=dispatcher.FAILING_SECONDS)
        assert running.dispatcher.find_problems() == {"chat": "its Secret is missing", "pager": AWAY.reason}


async def test_of_a_thousand_ledgers_little_is_kept() -> None:
    receiver = Receiver()
    receiver.answers_at_all.clear()
    entries = [an_entry(percent) for percent in (50, 80, 100)]
    async with dispatching({"chat": receiver}) as running:
        tracemalloc.start()
        for number in range(1000):
            uid = f"{UID[:-4]}{number:04d}"
            running.dispatcher.handle_ledger(a_ledger(*entries, name=f"agent-{number}.staging", uid=uid))
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert running.dispatcher.pending() == {"chat": delivery_queue.MOST_PENDING}

    assert kept < 4 * 1024 * 1024


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
