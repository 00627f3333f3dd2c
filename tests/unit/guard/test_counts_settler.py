"""Counts in the Lease: none is lost or doubled, whenever a process ends and however late a write of it arrives."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from interlock_contract.names import COUNTS_PREFIX
from interlock_contract.work_counts import NO_COUNTS, WorkCounts, read_counts
from interlock_guard.counts_settler import SETTLE_SECONDS, CountsSettler
from interlock_guard.work_counter import WorkCounter
from interlock_kube.client import CONFLICT, INVALID, JSON_PATCH, ApiError
from tests.support.virtual_time import run_in_virtual_time

KEY = f"{COUNTS_PREFIX}a-0"


class Lease:
    """The Lease in an API server, to which requests may be lost, come late, or have no answer."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {}
        self.version = 1
        self.late: list[tuple[Any, bool]] = []
        self.fates: Callable[[], str] = lambda: "fine"
        self.writes = 0

    async def patch(self, _path: str, body: Any, _manager: str, *, content_type: str = "merge") -> Any:
        fate, is_json = self.fates(), content_type == JSON_PATCH
        if fate == "lost":
            raise ConnectionResetError
        if fate == "late":
            self.late.append((body, is_json))
            raise TimeoutError
        self.apply(body, is_json=is_json)
        if fate == "unanswered":
            raise TimeoutError
        return {"metadata": {"annotations": dict(self.annotations), "resourceVersion": str(self.version)}}

    def apply(self, body: Any, *, is_json: bool) -> None:
        if is_json:
            test, replace = body
            assert test["path"] == replace["path"] == "/metadata/annotations/counts.interlock.dev~1a-0"
            if self.annotations.get(KEY) != test["value"]:
                raise ApiError(INVALID, "testing path: test failed")
            self.write({KEY: replace["value"]})
            return
        metadata = body["metadata"]
        if metadata.get("resourceVersion", str(self.version)) != str(self.version):
            raise ApiError(CONFLICT, "the object has been modified")
        if "annotations" in metadata:
            self.write(metadata["annotations"])

    def write(self, annotations: dict[str, str]) -> None:
        self.annotations |= annotations
        self.version += 1
        self.writes += 1

    def deliver(self) -> None:
        """Let a late request arrive; its answer reaches no one."""
        body, is_json = self.late.pop(0)
        with suppress(ApiError):
            self.apply(body, is_json=is_json)


class Process:
    """One process of a guard."""

    def __init__(self, lease: Lease, number: int = 0, *, is_wanted: Callable[[], bool] = lambda: True) -> None:
        client: Any = lease
        self.work = WorkCounter()
        self.settler = CountsSettler(
            client, "/lease", "a-0", run=f"{number:016x}", count=lambda: self.work.counts, is_wanted=is_wanted
        )


@pytest.mark.parametrize("first", range(0, 100, 25))
async def test_whatever_is_lost_late_or_restarted_no_count_is_doubled_and_no_settled_one_is_lost(first: int) -> None:
    for seed in range(first, first + 25):
        await run_schedule(seed)


async def run_schedule(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - repeatable
    lease = Lease()
    lease.fates = lambda: chance.choice(["fine", "fine", "fine", "lost", "late", "unanswered"])
    process, number, counted, settled = Process(lease), 0, 0, 0
    for _ in range(120):
        match chance.randrange(8):
            case 0 | 1 | 2:
                process.work.end_task(0.1, is_failure=False)
                process.work.spend(7)
                counted += 1
            case 3 | 4 | 5:
                try:
                    await process.settler.settle()
                except (OSError, ApiError):
                    pass
                else:
                    settled = max(settled, read_counts(lease.annotations).tasks)
            case 6 if lease.late:
                lease.deliver()
            case _ if chance.random() < 0.3:  # the process ends, with what it has not settled
                number += 1
                process = Process(lease, number)
            case _:
                lease.write({"other": str(chance.random())})  # another guard writes
        found = read_counts(lease.annotations)
        assert settled <= found.tasks <= counted
        assert found.cost == 7 * found.tasks
    lease.fates = lambda: "fine"
    before = read_counts(lease.annotations).tasks
    process.work.end_task(0.1, is_failure=False)
    await process.settler.settle()
    await process.settler.settle()
    assert before < read_counts(lease.annotations).tasks <= counted + 1


async def test_one_process_without_restarts_settles_everything_once_answers_come_again() -> None:
    chance, lease = random.Random(1), Lease()  # noqa: S311 - repeatable
    process = Process(lease)
    lease.fates = lambda: chance.choice(["fine", "lost", "late", "unanswered"])
    for _ in range(300):
        process.work.end_call(0.1, is_failure=True)
        with suppress(OSError):
            await process.settler.settle()
        if lease.late and chance.random() < 0.5:
            lease.deliver()
    lease.fates = lambda: "fine"
    await process.settler.settle()
    await process.settler.settle()
    assert read_counts(lease.annotations) == process.work.counts == WorkCounts((), 0, (0, 0, 0, 0, 300), 300)


async def test_a_restarted_guard_goes_on_from_what_the_earlier_one_wrote() -> None:
    lease = Lease()
    for number in range(3):
        process = Process(lease, number)
        process.work.end_task(1, is_failure=True)
        await process.settler.settle()
    assert read_counts(lease.annotations).tasks_failed == 3


async def test_a_text_that_is_none_of_ours_is_replaced() -> None:
    lease = Lease()
    lease.annotations[KEY] = "nonsense"
    process = Process(lease)
    process.work.spend(1)
    await process.settler.settle()
    assert read_counts(lease.annotations) == WorkCounts(cost=1)


async def test_the_counts_of_a_pod_that_the_operator_took_for_gone_are_not_written_twice() -> None:
    lease = Lease()
    process = Process(lease)
    process.work.spend(5)
    await process.settler.settle()
    del lease.annotations[KEY]  # the operator has added 5 to the counts of ended pods
    process.work.spend(2)
    await process.settler.settle()
    assert read_counts(lease.annotations) == WorkCounts(cost=2)


async def test_a_failure_that_comes_after_its_task_was_settled_is_settled_too() -> None:
    lease = Lease()
    process = Process(lease)
    process.work.end_task(1, is_failure=False)
    await process.settler.settle()
    process.work.fail_task()
    await process.settler.settle()
    assert (read_counts(lease.annotations).tasks, read_counts(lease.annotations).tasks_failed) == (1, 1)

    lease.annotations.clear()  # with the task went what it failed of, and no text contradicts itself
    process.work.fail_task()
    process.work.spend(3)
    await process.settler.settle()
    assert read_counts(lease.annotations) == WorkCounts(cost=3)


async def test_what_was_counted_without_gates_is_never_settled() -> None:
    lease, gates = Lease(), [False]
    process = Process(lease, is_wanted=lambda: gates[0])
    process.work.spend(5)
    await process.settler.settle()
    assert lease.writes == 0
    gates[0] = True
    process.work.spend(2)
    await process.settler.settle()
    assert read_counts(lease.annotations) == WorkCounts(cost=2)


@pytest.mark.parametrize("text", [None, '{"run":"0000000000000001"}'])
async def test_a_write_that_is_refused_although_nothing_has_changed_is_an_error_at_the_first_time(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission policies and the largest size of all annotations refuse with the status of a failed test, too."""
    lease, requests = Lease(), 0
    lease.annotations |= {} if text is None else {KEY: text}

    def apply(body: Any, *, is_json: bool) -> None:
        nonlocal requests
        requests += 1
        if is_json or "annotations" in body["metadata"]:
            raise ApiError(INVALID, "metadata.annotations: Too long")

    monkeypatch.setattr(lease, "apply", apply)
    process = Process(lease)
    process.work.spend(1)
    with pytest.raises(ApiError):
        await process.settler.settle()
    assert requests == 3, "it read, wrote, and read again"
    monkeypatch.undo()
    await process.settler.settle()
    assert read_counts(lease.annotations) == WorkCounts(cost=1)


def test_counts_that_change_all_the_time_are_written_every_five_seconds() -> None:
    lease = Lease()
    process = Process(lease)

    async def serve() -> None:
        task = asyncio.create_task(process.settler.run(lambda _: None))
        for _ in range(600):
            process.work.spend(1)
            await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert lease.writes <= 60 / SETTLE_SECONDS + 1
        await process.settler.finish(1)

    run_in_virtual_time(serve())
    assert read_counts(lease.annotations) == process.work.counts != NO_COUNTS


def test_a_refusal_is_logged_once_and_tried_again_and_delays_no_end() -> None:
    lease, said = Lease(), list[str]()

    def refuse() -> str:
        raise ApiError(403, "not your annotation")

    async def serve() -> None:
        process = Process(lease)
        process.work.spend(1)
        lease.fates = refuse
        task = asyncio.create_task(process.settler.run(said.append))
        await asyncio.sleep(60)
        await process.settler.finish(1)
        assert said == ["counts in the Lease: ApiError: HTTP 403: not your annotation"]
        lease.fates = lambda: "fine"
        await asyncio.sleep(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run_in_virtual_time(serve())
    assert said[1:] == ["counts in the Lease: written again"]
    assert read_counts(lease.annotations) == WorkCounts(cost=1)
