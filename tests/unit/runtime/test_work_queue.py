"""The queue's promises, on an event loop whose time is ours: a minute of backing off takes no time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from interlock_kube.reconcile_loop import BACKOFF_SECONDS, ReconcileLoop, WorkQueue
from interlock_process.metrics import PrometheusLoopMetrics
from tests.requirements import requirement


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer whenever there is nothing else to do."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Impatient(self))

    def time(self) -> float:
        return self._now

    def skip(self, seconds: float) -> None:
        self._now += seconds


class _Impatient(selectors.DefaultSelector):
    def __init__(self, loop: FakeTimeLoop) -> None:
        super().__init__()
        self._fake = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout:
            self._fake.skip(timeout)
        return super().select(0)


def in_fake_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        runner.run(asyncio.wait_for(scenario(), 100_000))


class RecordingReconciler:
    """Reconciles that are recorded with their time, with scripted results."""

    def __init__(self, answers: str = "") -> None:
        """Take the answers in order: `-` fails, whatever else succeeds."""
        self.answers = list(answers)
        self.seen: list[tuple[str, float]] = []
        self.inside: list[str] = []
        self.seconds = 0.0
        self.again: float | None = None
        """Seconds until the next turn that each reconcile asks for."""

    async def reconcile(self, key: str) -> float | None:
        assert key not in self.inside, "reconciled twice concurrently"
        self.inside.append(key)
        self.seen.append((key, asyncio.get_running_loop().time()))
        await asyncio.sleep(self.seconds)
        self.inside.remove(key)
        if self.answers and self.answers.pop(0) == "-":
            raise TimeoutError
        return self.again

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.seen]

    @property
    def times(self) -> list[float]:
        return [round(moment, 3) for _, moment in self.seen]


async def show_nothing(_key: str, _error: Exception) -> None:
    pass


async def work(queue: WorkQueue[str], reconciler: RecordingReconciler, span: float, workers: int = 1) -> None:
    loop = ReconcileLoop(
        "Agent", queue, reconciler.reconcile, metrics=PrometheusLoopMetrics(), show_failure=show_nothing
    )
    tasks = [asyncio.create_task(loop.run()) for _ in range(workers)]
    await asyncio.sleep(span)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@requirement("operator.queue")
def test_asking_twice_is_asking_once() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        await work(queue, recording, 1)
        assert recording.keys == ["a", "b"]

    in_fake_time(scenario)


def keys_of(namespace: str, count: int) -> list[tuple[str, str]]:
    return [(namespace, str(number)) for number in range(count)]


@requirement("operator.fair")
async def test_namespaces_are_served_in_turn_and_each_in_its_order() -> None:
    queue = WorkQueue[tuple[str, str]]()
    for key in (*keys_of("crowd", 4), *keys_of("other", 2), *keys_of("third", 1)):
        queue.add(key)

    got = [await queue.get() for _ in range(7)]

    assert [namespace for namespace, _ in got] == ["crowd", "other", "third", "crowd", "other", "crowd", "crowd"]
    for namespace in ("crowd", "other"):
        assert [key for key in got if key[0] == namespace] == sorted(key for key in got if key[0] == namespace)


@requirement("operator.fair")
async def test_workers_have_a_bounded_number_of_one_namespaces_keys() -> None:
    queue = WorkQueue[tuple[str, str]](most_of_a_namespace=2)
    for key in (*keys_of("crowd", 3), ("other", "0")):
        queue.add(key)
    taken = [await queue.get() for _ in range(3)]
    assert sorted(taken) == [("crowd", "0"), ("crowd", "1"), ("other", "0")]

    waiting = asyncio.create_task(queue.get())
    queue.add(("crowd", "0"))  # while a worker has it
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()

    queue.done(("crowd", "0"))
    assert await waiting == ("crowd", "2")
    queue.done(("crowd", "1"))
    assert await queue.get() == ("crowd", "0")


@requirement("operator.fair")
async def test_a_worker_that_is_cancelled_takes_no_key_with_it() -> None:
    queue = WorkQueue[tuple[str, str]]()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    waiting.cancel()
    queue.add(("a", "0"))

    assert await queue.get() == ("a", "0")


@requirement("operator.queue")
def test_a_key_that_is_enqueued_while_it_is_reconciled_is_reconciled_once_more() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        recording.seconds = 10
        queue.add("a")
        loop = asyncio.get_running_loop()
        for moment in (1, 2, 3):
            loop.call_later(moment, queue.add, "a")
        await work(queue, recording, 100, workers=4)
        assert recording.seen == [("a", 0), ("a", 10)]

    in_fake_time(scenario)


@requirement("operator.queue")
def test_many_changes_within_a_time_are_one_reconcile_at_its_end_and_the_next_starts_a_new_time() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        loop = asyncio.get_running_loop()
        for moment in (0, 0.5, 0.9, 3):
            loop.call_later(moment, queue.add_sooner, "a", 1)
        await work(queue, recording, 100)
        assert recording.seen == [("a", 1), ("a", 4)]

    in_fake_time(scenario)


def test_a_change_ends_a_long_timer_and_no_short_one() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        queue.add_after("a", 60)
        queue.add_after("b", 0.5)
        for moment in (0, 0.2):
            asyncio.get_running_loop().call_later(moment, queue.add_sooner, "a", 1)
            asyncio.get_running_loop().call_later(moment, queue.add_sooner, "b", 1)
        await work(queue, recording, 100)
        assert recording.seen == [("b", 0.5), ("a", 1)]

    in_fake_time(scenario)


@requirement("operator.queue")
@pytest.mark.parametrize(("answers", "again", "first"), [("", 60, 3), ("-", None, 2.5)], ids=["success", "failure"])
def test_a_change_during_a_turn_does_not_wait_for_the_timer_of_this_turn(
    answers: str, again: float | None, first: float
) -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler(answers)
        recording.seconds, recording.again = 2, again
        queue.add("a")
        asyncio.get_running_loop().call_later(1.5, queue.add_sooner, "a", 1.5)
        await work(queue, recording, 50)
        assert recording.seen[:2] == [("a", 0), ("a", first)]

    in_fake_time(scenario)


def test_several_workers_reconcile_several_keys_at_once_and_never_one_twice() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        recording.seconds = 10
        for key in "abcdef":
            queue.add(key)
        await work(queue, recording, 15, workers=3)
        assert recording.times == [0, 0, 0, 10, 10, 10]

    in_fake_time(scenario)


@requirement("operator.queue")
def test_a_failed_reconcile_is_retried_later_and_later_and_a_success_resets_the_delay() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler("-------+-+")
        queue.add("a")
        asyncio.get_running_loop().call_later(1000, queue.add, "a")
        await work(queue, recording, 2000)
        gaps = [later - earlier for earlier, later in zip(recording.times, recording.times[1:], strict=False)]
        assert gaps[:7] == [*BACKOFF_SECONDS, 10, 10]
        assert recording.times[8] == 1000
        assert gaps[8:] == [0.5]

    in_fake_time(scenario)


def test_a_change_does_not_wait_for_the_end_of_a_back_off() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler("-----")
        queue.add("a")
        asyncio.get_running_loop().call_later(10, queue.add, "a")
        await work(queue, recording, 12)
        assert 10.0 in recording.times

    in_fake_time(scenario)


def test_one_failing_key_does_not_hold_up_the_others() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler("-+")
        for key in ("bad", "good"):
            queue.add(key)
        await work(queue, recording, 0.4)
        assert recording.keys == ["bad", "good"]

    in_fake_time(scenario)


def test_a_requested_time_replaces_the_one_before() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        queue.add_after("a", 5)
        queue.add_after("a", 50)
        await work(queue, recording, 100)
        assert recording.times == [50]

    in_fake_time(scenario)


def test_a_time_that_has_passed_is_now() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        queue.add_after("a", -5)
        await work(queue, recording, 1)
        assert recording.times == [0]

    in_fake_time(scenario)


def test_a_time_that_is_cancelled_does_not_come() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        queue.add_after("a", 5)
        queue.cancel("a")
        queue.cancel("a")
        await work(queue, recording, 100)
        assert recording.seen == []

    in_fake_time(scenario)


def test_a_time_that_a_turn_was_set_for_does_not_come_after_an_earlier_turn() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        queue.add_after("a", 5)
        queue.add("a")
        await work(queue, recording, 100)
        assert recording.times == [0]

    in_fake_time(scenario)


def test_a_key_that_succeeds_begins_its_back_off_from_the_start() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler("---+--")
        queue.add("a")
        asyncio.get_running_loop().call_later(2, queue.add, "a")  # failed at 0, 0.5 and 1.5
        asyncio.get_running_loop().call_later(3, queue.add, "a")
        await work(queue, recording, 3.6)
        assert recording.times == [0, 0.5, 1.5, 2, 3, 3.5]

    in_fake_time(scenario)


def test_a_requeue_after_a_success_is_not_lost_to_the_reconcile_itself() -> None:
    async def scenario() -> None:
        queue, recording = WorkQueue[str](), RecordingReconciler()
        asyncio.get_running_loop().call_later(1, queue.add_after, "a", 29)
        recording.seconds = 2
        queue.add("a")
        await work(queue, recording, 100)
        assert recording.times == [0, 30]

    in_fake_time(scenario)
