"""The kill controller's Lease as the operator sees it, by clocks that a test sets."""

from datetime import timedelta
from typing import Any

import pytest

from interlock.cluster.kill_lease import KillLease
from tests.requirements import requirement
from tests.support.builders import NOW
from tests.support.fake_client import FakeClient

LEASE = "/apis/coordination.k8s.io/v1/namespaces/interlock-system/leases/interlock-kill"


class Scene:
    def __init__(self) -> None:
        self.monotonic = 1000.0
        self.changes: list[bool] = []
        self.client: Any = FakeClient()
        self.lease = KillLease(
            clock=lambda: NOW, monotonic=lambda: self.monotonic, changed=lambda: self.changes.append(self.lease.is_held)
        )

    async def read(self, *, renewed_ago: float | None = None) -> bool:
        """Let the Lease be renewed where a time is given, and read it."""
        if renewed_ago is not None:
            renewed = (NOW - timedelta(seconds=renewed_ago)).isoformat()
            self.client.put(LEASE, {"kind": "Lease", "metadata": {"name": "l"}, "spec": {"renewTime": renewed}})
        await self.lease.read(self.client)
        return self.lease.is_held


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_a_missing_lease_is_not_held_which_is_reported_once(scene: Scene) -> None:
    assert not await scene.read()
    assert not await scene.read()
    assert scene.changes == [False]


@requirement("kill.lease")
async def test_a_lease_is_held_for_a_minute_after_its_renewal_was_observed(scene: Scene) -> None:
    assert await scene.read(renewed_ago=0)
    scene.monotonic += 60
    assert await scene.read()
    scene.monotonic += 1
    assert not await scene.read()
    assert scene.changes == [True, False]


async def test_a_renewal_is_counted_from_its_observation_whatever_the_other_nodes_clock_says(scene: Scene) -> None:
    await scene.read(renewed_ago=0)
    scene.monotonic += 50

    assert await scene.read(renewed_ago=100_000)
    scene.monotonic += 59
    assert await scene.read()


async def test_an_old_lease_that_is_read_first_must_be_renewed_before_it_counts(scene: Scene) -> None:
    assert not await scene.read(renewed_ago=61)
    assert await scene.read(renewed_ago=60.5)


@pytest.mark.parametrize("renewal", [None, 7, [], "", "soon", "2026-03-02T09:00:00", {"a": 1}])
async def test_anything_but_a_time_is_no_renewal(scene: Scene, renewal: Any) -> None:
    scene.client.put(LEASE, {"kind": "Lease", "metadata": {"name": "l"}, "spec": {"renewTime": renewal}})

    assert not await scene.read()


async def test_an_api_server_that_is_away_makes_the_lease_older_and_is_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.read(renewed_ago=0)
    scene.client.break_with(TimeoutError(), "GET", "leases", times=3)
    for _ in range(3):
        scene.monotonic += 25
        await scene.read()

    assert not scene.lease.is_held
    assert [record.message for record in caplog.records].count("the Lease of the kill controller cannot be read") == 1
