"""The heartbeat of a holder."""

from datetime import UTC, datetime
from typing import Any

import pytest

from interlock_contract.clock import write_time
from interlock_guard.budget.holder_heartbeat import BEAT_SECONDS, STALE_SECONDS, HolderHeartbeat

LEASE = "/leases/triage"
KEY = "holder.interlock.dev/pod-a"


class FakeClient:
    """The annotations of a Lease."""

    def __init__(self) -> None:
        self.annotations: dict[str, str] = {"selftest.interlock.dev/pod-a": "ok"}
        self.writes = 0

    async def patch(self, path: str, body: Any, _manager: str) -> dict[str, Any]:
        assert path == LEASE
        self.writes += 1
        merged = {**self.annotations, **body["metadata"]["annotations"]}
        self.annotations = {key: value for key, value in merged.items() if value is not None}
        return {"metadata": {"annotations": dict(self.annotations)}}


NOON = 1_772_366_400  # 2026-03-01T12:00:00Z


class FakeBudget:
    holder = "uid-a/1000"
    seen_at: int | None = 0
    time: int | None = NOON

    def now(self) -> int | None:
        return self.time


class Bench:
    def __init__(self) -> None:
        self.client, self.budget = FakeClient(), FakeBudget()
        self.heartbeat = HolderHeartbeat(self.client, LEASE, "pod-a", self.budget)  # type: ignore[arg-type]

    def pass_time(self, seconds: int) -> None:
        assert self.budget.time is not None
        self.budget.time += seconds


@pytest.fixture
def bench() -> Bench:
    return Bench()


def annotation(age: int) -> str:
    return f"uid-b/1 {write_time(datetime.fromtimestamp(NOON - age, UTC), 'seconds')}"


async def test_an_open_slice_is_renewed_in_time(bench: Bench) -> None:
    await bench.heartbeat.beat()
    assert bench.client.annotations[KEY] == "uid-a/1000 2026-03-01T12:00:00Z"
    bench.pass_time(BEAT_SECONDS - 1)
    await bench.heartbeat.beat()
    assert bench.client.writes == 1
    bench.pass_time(1)
    await bench.heartbeat.beat()
    assert bench.client.writes == 2


async def test_a_guard_without_an_open_slice_writes_nothing(bench: Bench) -> None:
    bench.budget.seen_at = None
    await bench.heartbeat.beat()
    assert bench.client.writes == 0


async def test_a_guard_that_does_not_know_the_time_writes_nothing(bench: Bench) -> None:
    bench.budget.time = None
    await bench.heartbeat.beat()
    assert bench.client.writes == 0


async def test_a_write_to_the_ledger_is_a_sign_of_life_too(bench: Bench) -> None:
    bench.budget.seen_at = NOON - BEAT_SECONDS + 1
    await bench.heartbeat.beat()
    assert bench.client.writes == 0


async def test_a_clock_that_went_back_delays_no_sign_of_life(bench: Bench) -> None:
    await bench.heartbeat.beat()
    bench.pass_time(-3600)
    await bench.heartbeat.beat()
    assert bench.client.writes == 2


@pytest.mark.parametrize("value", [annotation(STALE_SECONDS + 1), "uid-b/1", "uid-b/1 yesterday"])
async def test_annotations_of_pods_that_are_gone_do_not_pile_up(bench: Bench, value: str) -> None:
    for number in range(70):
        bench.client.annotations[f"holder.interlock.dev/old-{number}"] = value
    await bench.heartbeat.beat()
    assert set(bench.client.annotations) == {KEY, "selftest.interlock.dev/pod-a"}


async def test_of_many_pods_that_live_each_keeps_its_annotation(bench: Bench) -> None:
    for number in range(500):
        bench.client.annotations[f"holder.interlock.dev/pod-{number}"] = annotation(number % BEAT_SECONDS)
    await bench.heartbeat.beat()
    assert len([key for key in bench.client.annotations if key.startswith("holder.")]) == 501
    assert bench.client.writes == 1
