"""The heartbeat of a holder."""

from datetime import UTC, datetime
from typing import Any

import pytest

from interlock_guard.budget.holder_heartbeat import BEAT_SECONDS, HolderHeartbeat

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


class FakeBudget:
    holder = "uid-a/1000"
    has_open_slice = True
    written_at = 0.0


class Bench:
    def __init__(self) -> None:
        self.client, self.budget, self.now = FakeClient(), FakeBudget(), 100.0
        self.heartbeat = HolderHeartbeat(
            self.client,  # type: ignore[arg-type]
            LEASE,
            "pod-a",
            budget=self.budget,  # type: ignore[arg-type]
            clock=lambda: datetime(2026, 3, 2, 9, tzinfo=UTC),
            monotonic=lambda: self.now,
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_an_open_slice_is_renewed_in_time(bench: Bench) -> None:
    await bench.heartbeat.beat()
    assert bench.client.annotations[KEY] == "uid-a/1000 2026-03-02T09:00:00Z"
    bench.now += BEAT_SECONDS - 1
    await bench.heartbeat.beat()
    assert bench.client.writes == 1
    bench.now += 1
    await bench.heartbeat.beat()
    assert bench.client.writes == 2


async def test_a_guard_without_an_open_slice_writes_nothing(bench: Bench) -> None:
    bench.budget.has_open_slice = False
    await bench.heartbeat.beat()
    assert bench.client.writes == 0


async def test_a_write_to_the_ledger_is_a_sign_of_life_too(bench: Bench) -> None:
    bench.budget.written_at = bench.now - BEAT_SECONDS + 1
    await bench.heartbeat.beat()
    assert bench.client.writes == 0


async def test_annotations_of_pods_that_are_gone_do_not_pile_up(bench: Bench) -> None:
    for number in range(70):
        bench.client.annotations[f"holder.interlock.dev/old-{number}"] = (
            f"uid/{number} 2026-03-01T00:00:{number % 60:02}Z"
        )
    await bench.heartbeat.beat()
    kept = [key for key in bench.client.annotations if key.startswith("holder.")]
    assert len(kept) == 65
    assert KEY in kept
    assert "selftest.interlock.dev/pod-a" in bench.client.annotations
