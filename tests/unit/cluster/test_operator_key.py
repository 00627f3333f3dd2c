"""The operator's key: read from its file, made at the first start, awaited where an earlier start has made it."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from interlock.cluster import operator_key
from interlock.cluster.operator_key import OperatorKeyUnusable, obtain_operator_key
from interlock_kube.client import ApiError
from tests.requirements import requirement
from tests.support.fake_client import FakeClient

NAMESPACE = "interlock-system"
PATH = f"/api/v1/namespaces/{NAMESPACE}/secrets/interlock-key"
KEY = "0123456789abcdef" * 2


async def obtain(client: FakeClient, path: Path, seconds: float = 0) -> bytes:
    anything: Any = client
    return await obtain_operator_key(anything, NAMESPACE, path, seconds)


@requirement("agent-key.operator")
async def test_a_mounted_key_is_used_and_nothing_is_asked(tmp_path: Path) -> None:
    client, path = FakeClient(), tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert await obtain(client, path) == KEY.encode()
    assert client.requests == []


@requirement("agent-key.operator")
async def test_the_first_start_makes_a_random_key_that_cannot_be_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    clients = FakeClient(), FakeClient()
    first, second = [await obtain(client, tmp_path / "key") for client in clients]
    stored = clients[0].objects[PATH]
    assert base64.b64decode(stored["data"]["key"]) == first
    assert stored["immutable"] is True
    assert first != second
    assert len(first) == 64
    assert clients[0].requests == [("POST", PATH)], "it is never read"
    assert first.decode() not in caplog.text


@requirement("agent-key.operator")
async def test_a_key_that_exists_is_awaited_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator_key, "_POLL_SECONDS", 0.01)
    client, path = FakeClient(), tmp_path / "key"
    await obtain(client, path)
    before = dict(client.objects)

    waiting = asyncio.create_task(obtain(client, path, 60))
    await asyncio.sleep(0)
    path.write_text(KEY)
    assert await waiting == KEY.encode()
    assert client.objects == before
    assert {method for method, _ in client.requests} == {"POST"}


@requirement("agent-key.operator")
async def test_a_key_that_is_never_mounted_ends_the_start_with_the_way_out(tmp_path: Path) -> None:
    client, path = FakeClient(), tmp_path / "key"
    await obtain(client, path)
    with pytest.raises(OperatorKeyUnusable, match=r"interlock-system/interlock-key exists, but .*INTERLOCK_KEY_FILE"):
        await obtain(client, path)


@requirement("agent-key.operator")
@pytest.mark.parametrize("content", ["", "short", "x" * 31])
async def test_a_short_key_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(OperatorKeyUnusable, match="needs at least 32"):
        await obtain(FakeClient(), path)


async def test_a_key_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorKeyUnusable, match="cannot be read"):
        await obtain(FakeClient(), tmp_path)


@pytest.mark.parametrize(
    ("status", "message"), [(403, "forbidden"), (409, "Operation cannot be fulfilled on resourcequotas")]
)
async def test_a_refusal_of_the_api_server_is_reported(status: int, message: str, tmp_path: Path) -> None:
    client = FakeClient()
    client.break_with(ApiError(status, message), "POST", PATH)
    with pytest.raises(ApiError, match=message):
        await obtain(client, tmp_path / "key")
