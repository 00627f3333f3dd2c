"""Unexpected exceptions in the guard's long-lived tasks: each is logged with its trace, and the work goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from interlock_contract.selftest_report import SelfTestReport
from interlock_guard.audit.shipper import AuditShipper
from interlock_guard.audit.spool import Spool, SpoolLimits
from interlock_guard.llm.provider_client import ProviderClients
from interlock_guard.object_watch import ObjectWatch
from interlock_guard.selftest.reporter import SelfTestReporter
from interlock_guard.state import LiveState
from interlock_guard.upstream import http_upstream
from interlock_guard.upstream.cookies import Cookies
from interlock_guard.upstream.http_initialize import Initialized
from interlock_guard.upstream.http_upstream import HttpUpstream
from interlock_guard.upstream.pipes import PipePair
from interlock_guard.upstream.stdio_upstream import StdioUpstream
from interlock_guard.upstream.upstream import ServerInfo
from interlock_kube import background
from interlock_kube.background import keep_running


class UnexpectedError(Exception):
    """An error that no code expects."""


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.001)


async def run_until(name: str, work: Callable[[], Awaitable[None]], is_done: Callable[[], bool]) -> list[str]:
    """Run the work as the guard does until something has happened; return what was logged."""
    log: list[str] = []
    task = asyncio.create_task(keep_running(name, work, log.append))
    async with asyncio.timeout(10):
        while not is_done():  # noqa: ASYNC110 - the work sends no notification
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return log


def assert_logged(log: list[str], name: str) -> None:
    trace = next(line for line in log if line.startswith(f"{name}: unexpected error"))
    assert "Traceback" in trace
    assert "UnexpectedError: surprise" in trace


async def test_work_that_returns_is_over() -> None:
    async def work() -> None:
        return

    await keep_running("work", work, pytest.fail)


async def test_pauses_grow_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            raise asyncio.CancelledError

    async def work() -> None:
        raise UnexpectedError("surprise")

    monkeypatch.setattr(background, "_FIRST_PAUSE", 0.2)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await keep_running("work", work, lambda _: None)
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


class FakeApi:
    """A client whose first request fails unexpectedly."""

    def __init__(self) -> None:
        self.requests = 0

    async def get(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self._answer()

    async def patch(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self._answer()

    async def lines(self, *_: Any, **__: Any) -> Any:
        await asyncio.sleep(0.001)
        return
        yield

    def _answer(self) -> dict[str, Any]:
        self.requests += 1
        if self.requests == 1:
            raise UnexpectedError("surprise")
        return {"items": [{"metadata": {}}], "metadata": {"resourceVersion": "1"}}


async def test_the_object_watch_goes_on_and_shows_no_freshness_meanwhile() -> None:
    client, seen, contacts = FakeApi(), list[Any](), list[float]()
    fake: Any = client
    watch = ObjectWatch(fake, "/x", "a", on_object=seen.append, on_contact=contacts.append, watch_seconds=1)
    log: list[str] = []
    assert_logged(await run_until("watch", lambda: watch.run(log.append), lambda: len(contacts) > 0), "watch")
    assert client.requests > len(contacts)


async def test_the_object_watch_goes_on_after_an_error_of_its_listener() -> None:
    fake: Any = FakeApi()
    fake.requests = 1
    seen, contacts = list[Any](), list[float]()

    def see(found: Any) -> None:
        seen.append(found)
        if len(seen) == 1:
            raise UnexpectedError("surprise")

    watch = ObjectWatch(fake, "/x", "a", on_object=see, on_contact=contacts.append, watch_seconds=1)
    log = await run_until("watch", lambda: watch.run(lambda _: None), lambda: len(contacts) > 0)
    assert_logged(log, "watch")
    assert len(contacts) < len(seen), "what was not handled counts as fresh"


async def test_the_reporter_writes_after_an_unexpected_error() -> None:
    client = FakeApi()
    fake: Any = client
    reporter = SelfTestReporter(fake, "/lease", "pod", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    reporter.report(SelfTestReport("digest", 1))
    log = await run_until("reporter", lambda: reporter.run(lambda _: None), lambda: client.requests > 1)
    assert_logged(log, "reporter")


async def test_the_shipper_ships_after_an_unexpected_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path, SpoolLimits(capacity=100_000, reserve=1_000, segment=1_000, memory=1_000), keeps=True)
    shipper = AuditShipper(spool, lambda _: None, url="http://127.0.0.1:1", token=tmp_path / "token")
    reads: list[None] = []

    def read(*_: Any) -> Any:
        reads.append(None)
        if len(reads) == 1:
            raise UnexpectedError("surprise")
        return b"", None

    monkeypatch.setattr(spool, "read", read)
    assert_logged(await run_until("shipper", shipper.run, lambda: len(reads) > 1), "shipper")


class Deaf:
    """A listener that ignores everything, but for what a test replaces."""

    def client_capabilities(self, _: Any) -> dict[str, Any]:
        return {}

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class SilentClient:
    """An HTTP client that sends nothing."""

    cookies = Cookies()

    def open(self) -> None: ...

    def reset(self) -> None: ...

    async def close(self) -> None: ...


async def test_an_http_upstream_begins_again_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[None] = []

    async def initialize(*_: Any, **_options: bool) -> Initialized:
        attempts.append(None)
        if len(attempts) == 1:
            raise UnexpectedError("surprise")
        return Initialized(ServerInfo("2026-07-28", {}, is_sessionless=True), "")

    monkeypatch.setattr(http_upstream, "initialize_http", initialize)
    log: list[str] = []
    client, listener = cast("Any", SilentClient()), cast("Any", Deaf())
    upstream = HttpUpstream("crm", client, listener, log.append)
    upstream.open()
    log += await run_until("upstream", upstream.run, lambda: upstream.is_ready)
    assert_logged(log, "server of crm")


async def test_an_upstreams_run_begins_again_after_an_unexpected_error(tmp_path: Path) -> None:
    opened: list[None] = []

    class Pipes(PipePair):
        def open_reader(self) -> int:
            opened.append(None)
            if len(opened) == 1:
                raise UnexpectedError("surprise")
            return super().open_reader()

    pipes = Pipes(tmp_path / "crm")
    upstream = StdioUpstream("crm", pipes, cast("Any", Deaf()), lambda _: None)
    opened.clear()
    assert_logged(await run_until("server of crm", upstream.run, lambda: len(opened) > 1), "server of crm")


async def test_a_message_that_is_handled_with_an_unexpected_error_is_logged(tmp_path: Path) -> None:
    listener, log = Deaf(), list[str]()

    def handle_notification(*_: Any) -> None:
        raise UnexpectedError("surprise")

    listener.handle_notification = handle_notification  # type: ignore[attr-defined]
    upstream = StdioUpstream("crm", PipePair(tmp_path / "crm"), cast("Any", listener), log.append)
    upstream._take_line(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}')  # noqa: SLF001
    assert_logged(log, "server of crm")


async def test_a_providers_client_that_cannot_be_closed_is_logged_and_the_others_are_closed(tmp_path: Path) -> None:
    log, closed = list[str](), list[str]()

    class Client(SilentClient):
        def __init__(self, name: str) -> None:
            self.name = name

        async def close(self) -> None:
            closed.append(self.name)
            if self.name == "bad":
                raise UnexpectedError("surprise")

    clients = ProviderClients(LiveState(), tmp_path, frozenset(), log.append)
    clients._retire(cast("Any", Client("bad")))  # noqa: SLF001 - a bundle that drops a provider
    await asyncio.sleep(0.01)
    assert_logged(log, "close a provider's connections")
    clients._clients = {name: cast("Any", Client(name)) for name in ("bad", "good")}  # noqa: SLF001
    with pytest.raises(UnexpectedError):
        await clients.close()
    assert closed == ["bad", "good", "bad"]
