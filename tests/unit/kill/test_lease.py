"""The renewal of the kill controller's Lease."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from interlock_kill import lease
from interlock_kill.lease import LeaseRenewer
from tests.requirements import requirement
from tests.support.builders import NOW
from tests.support.fake_client import FakeClient

LEASE = "/apis/coordination.k8s.io/v1/namespaces/interlock-system/leases/interlock-kill"


@pytest.fixture
def client() -> FakeClient:
    return FakeClient()


def renewer(client: Any, problem: str | None = None) -> LeaseRenewer:
    return LeaseRenewer(client, "interlock-system", "pod-1", clock=lambda: NOW, problem=lambda: problem)


async def test_a_missing_lease_is_created_and_then_renewed(client: FakeClient) -> None:
    await renewer(client).renew()
    await renewer(client).renew()

    assert [method for method, _ in client.writes()] == ["PATCH", "POST", "PATCH"]
    assert client.objects[LEASE]["spec"] == {
        "holderIdentity": "pod-1",
        "leaseDurationSeconds": 60,
        "renewTime": "2026-03-02T09:00:00.000000Z",
    }


@requirement("kill.lease")
async def test_it_is_not_renewed_while_switches_may_go_unseen_and_the_log_says_why_once(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    turns = await run(renewer(client, "a dead watch"), monkeypatch, 3)

    assert turns == 3
    assert client.requests == []
    assert [record.error for record in caplog.records] == ["a dead watch"]  # type: ignore[attr-defined]


async def test_a_refused_renewal_is_tried_again_and_logged_once(
    client: FakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client.refuse("PATCH", "leases", status=503, times=3)

    await run(renewer(client), monkeypatch, 5)

    assert LEASE in client.objects
    assert [record.message for record in caplog.records] == ["lease not renewed"]


async def run(made: LeaseRenewer, monkeypatch: pytest.MonkeyPatch, most: int) -> int:
    """Let it run for some turns, without their pauses."""
    turns = 0

    async def sleep(_: float) -> None:
        nonlocal turns
        turns += 1
        if turns == most:
            raise asyncio.CancelledError

    monkeypatch.setattr(lease.asyncio, "sleep", sleep)
    with suppress(asyncio.CancelledError):
        await made.run()
    return turns
