"""The guard as a program: an unexpected exception in a long-lived task is logged, and the guard stays closed."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientSession, web

from interlock_contract.bundle import AgentIdentity, Bundle, digest, dump_bundle
from interlock_guard import program
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.audit.spool import Spool
from interlock_guard.downstream.endpoint import McpEndpoint
from interlock_guard.llm.provider_client import ProviderClients
from interlock_guard.object_watch import ObjectWatch
from interlock_guard.selftest.reporter import SelfTestReporter
from interlock_guard.settings import GuardSettings, read_settings
from interlock_guard.state import LiveState
from interlock_guard.tasks.endpoint import TaskEndpoint
from interlock_kube.client import KubeClient
from tests.support.ports import free_port


async def reached(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.005)


def settings_of(folder: Path, port: int) -> GuardSettings:
    """Return settings without a cluster; the probes are at `port`."""
    (folder / "token").write_text("t")
    return read_settings(
        {
            "INTERLOCK_AGENT": "a",
            "INTERLOCK_NAMESPACE": "n",
            "INTERLOCK_POD": "a-0",
            "INTERLOCK_BUNDLE": "b",
            "INTERLOCK_API_SERVER": f"http://127.0.0.1:{free_port()}",
            "INTERLOCK_CREDENTIALS": str(folder),
            "INTERLOCK_PIPES": str(folder / "pipes"),
            "INTERLOCK_SPOOL": str(folder / "spool"),
            "INTERLOCK_MCP_PORT": str(free_port()),
            "INTERLOCK_OBSERVE_PORT": str(port),
            "INTERLOCK_TASK_PORT": str(free_port()),
        }
    )


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
    settings = settings_of(tmp_path, port)
    serving = asyncio.create_task(program.serve(settings))
    await reached(lambda: all(any(line.startswith(f"{name}: unexpected error") for line in said) for name in names))
    assert any("Traceback" in line and "RuntimeError: unexpected" in line for line in said)
    async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.status == 503
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await serving
    assert said[-1] == "SIGTERM: ending"


async def test_a_guard_that_ends_closes_in_the_reverse_order_of_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(program, "log", said.append)

    def spy(kind: Any, name: str) -> None:
        original = getattr(kind, name)

        def note(one: Any, *arguments: Any) -> Any:
            closed.append(f"{kind.__name__}.{name}")
            return original(one, *arguments)

        monkeypatch.setattr(kind, name, note)

    spy(TaskEndpoint, "end")
    spy(web.AppRunner, "cleanup")
    spy(web.ServerRunner, "cleanup")
    spy(McpEndpoint, "close")
    spy(ProviderClients, "close")
    spy(KubeClient, "close")
    spy(AuditShipper, "finish")
    spy(Spool, "close")
    port = free_port()
    serving = asyncio.create_task(program.serve(settings_of(tmp_path, port)))
    await reached(lambda: any(line.startswith("watch of") for line in said))
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await serving
    assert closed == [
        "AppRunner.cleanup",  # of the probes
        "TaskEndpoint.end",
        "ServerRunner.cleanup",
        "AppRunner.cleanup",
        "McpEndpoint.close",  # only when no request can begin to wait for its client any longer
        "ProviderClients.close",
        "KubeClient.close",
        "AuditShipper.finish",
        "Spool.close",
    ]


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


@pytest.mark.parametrize("host", ["", "guard"])
async def test_a_separate_guard_waits_for_its_agents_calls_and_that_of_a_shared_pod_for_tasks_alone(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(program, "monotonic", lambda: now)
    upstream, llm = SimpleNamespace(in_flight=2), SimpleNamespace(in_flight=0)
    tasks = SimpleNamespace(under_way=1, drains=False, is_chosen=False, listener=SimpleNamespace(requested_at=19.0))
    settings = replace(settings_of(tmp_path, 1), host=host, grace_seconds=60.0)
    sources: Any = SimpleNamespace(all=lambda: [upstream])
    mcp = SimpleNamespace(listener=SimpleNamespace(requested_at=25.0))
    others: list[Any] = [llm, mcp, tasks]
    live, text = LiveState(), dump_bundle(Bundle(4, AgentIdentity("a", "n", "u"), "r", "all", "production", (), ()))
    live.handle_agent({"metadata": {"uid": "u"}, "status": {"bundleDigests": [digest(text)]}})
    live.handle_bundle(text)
    hook = program.build_pre_stop(settings, live, sources, *others)
    assert not mcp.is_leaving()
    tasks.is_chosen = True
    assert mcp.is_leaving() == bool(host), "a separate agent connects to a guard that stays"
    tasks.is_chosen = False
    call = asyncio.create_task(hook.wait("10.0.0.1"))
    await reached(lambda: hook.is_waiting)
    now = 30.0
    tasks.under_way = 0
    if host:
        await asyncio.wait({call}, timeout=0.3)
        assert not call.done()
        upstream.in_flight, llm.in_flight = 0, 1
        await asyncio.wait({call}, timeout=0.3)
        assert not call.done()
        llm.in_flight = 0
        await asyncio.wait({call}, timeout=0.3)
        assert not call.done(), "a node has sent it a call five seconds ago"
        now = 35.0
    async with asyncio.timeout(10):
        await call
