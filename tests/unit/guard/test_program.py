"""The guard as a program: an unexpected exception in a long-lived task is logged, and the guard stays closed."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from interlock_guard import program
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.object_watch import ObjectWatch
from interlock_guard.selftest.reporter import SelfTestReporter
from interlock_guard.settings import read_settings
from tests.support.ports import free_port


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (ObjectWatch, ("watch of the agent", "watch of the bundle")),
        (AuditShipper, ("audit shipper",)),
        (SelfTestReporter, ("self-test reporter",)),
    ],
)
async def test_an_unexpected_exception_in_a_long_lived_task_is_logged_and_leaves_the_guard_closed(
    kind: type, names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    async def fail(*_: Any) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(program, "log", said.append)
    monkeypatch.setattr(kind, "run", fail)
    port = free_port()
    (tmp_path / "token").write_text("t")
    settings = read_settings(
        {
            "INTERLOCK_AGENT": "a",
            "INTERLOCK_NAMESPACE": "n",
            "INTERLOCK_POD": "a-0",
            "INTERLOCK_BUNDLE": "b",
            "INTERLOCK_API_SERVER": f"http://127.0.0.1:{free_port()}",
            "INTERLOCK_CREDENTIALS": str(tmp_path),
            "INTERLOCK_PIPES": str(tmp_path / "pipes"),
            "INTERLOCK_SPOOL": str(tmp_path / "spool"),
            "INTERLOCK_MCP_PORT": str(free_port()),
            "INTERLOCK_OBSERVE_PORT": str(port),
            "INTERLOCK_TASK_PORT": str(free_port()),
        }
    )
    serving = asyncio.create_task(program.serve(settings))
    await reached(lambda: all(any(line.startswith(f"{name}: unexpected error") for line in said) for name in names))
    assert any("Traceback" in line and "RuntimeError: unexpected" in line for line in said)
    async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.status == 503
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await serving
    assert said[-1] == "SIGTERM: ending"


async def test_an_exception_that_no_task_reads_is_logged_with_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(program, "log", said.append)
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(program._log_unread)  # noqa: SLF001 - the program sets it for its own loop
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    loop.set_exception_handler(before)
    assert len(said) == 1
    assert "ZeroDivisionError" in said[0]
