"""The end of the operator: of any of its long-lived tasks, which ends the process, and of all of them at a stop."""

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from interlock.cluster.admission_policies import AdmissionPolicies
from interlock.cluster.agent_pods import AgentPodStore
from interlock.cluster.api_server import ApiServerFinder
from interlock.cluster.config_map_store import ConfigMapStore
from interlock.cluster.kill_lease import KillLease
from interlock.cluster.kubernetes_version import KubernetesVersion
from interlock.cluster.ledger_store import LedgerStore
from interlock.cluster.namespace_users import NamespaceUsers
from interlock.cluster.node_watch import NodeWatch
from interlock.runtime import app as app_module
from interlock.runtime import second_watch
from interlock.runtime.app import App
from interlock.runtime.child_watch import ChildWatch
from interlock.settings import OperatorSettings
from interlock_kube.reconcile_loop import ReconcileLoop
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, key_of, version_of
from interlock_process.heartbeat import Heartbeat
from tests.requirements import requirement
from tests.support.bounds import until
from tests.support.builders import a_binding, a_policy, an_agent
from tests.support.fake_client import FakeClient


class ClosingClient(FakeClient):
    """A fake of the Client that says whether it was closed."""

    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


async def _forever(*_: Any) -> None:
    await asyncio.Event().wait()


async def _done(*_: Any) -> None:
    pass


async def _nothing(*_: Any, **__: Any) -> AsyncIterator[Any]:
    for nothing in ():
        yield nothing


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ClosingClient:
    """Let the operator start against an API server in memory, with watches that bring nothing."""
    client = ClosingClient()

    async def version(_: Any) -> KubernetesVersion:
        return KubernetesVersion("v1.35.0", ())

    monkeypatch.setattr(app_module, "KubeClient", lambda *_, **__: client)
    monkeypatch.setattr(app_module, "check_version", version)
    monkeypatch.setattr(app_module, "list_objects", _nothing)
    monkeypatch.setattr(ApiServerFinder, "find", _done)
    monkeypatch.setattr(NodeWatch, "run", _forever)
    for part in (ChildWatch, AgentPodStore, LedgerStore, ConfigMapStore, NamespaceUsers):
        monkeypatch.setattr(part, "run", _forever)
        monkeypatch.setattr(part, "synced", _done)
    return client


PARTS = [
    ("child watch", ChildWatch),
    ("agent pods", AgentPodStore),
    ("ledgers", LedgerStore),
    ("users of namespaces", NamespaceUsers),
    ("API server finder", ApiServerFinder),
    ("nodes", NodeWatch),
    ("Lease of the kill controller", KillLease),
    ("admission policies", AdmissionPolicies),
    ("heartbeat", Heartbeat),
    ("worker", ReconcileLoop),
]


@requirement("operator.liveness")
@pytest.mark.parametrize(("name", "part"), PARTS, ids=[name for name, _ in PARTS])
async def test_a_task_that_ends_is_reported_by_health_and_ends_the_process(
    client: ClosingClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, part: type
) -> None:
    async def crash(*_: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(part, "run", crash)
    app = App(OperatorSettings())
    await app.start()
    async with asyncio.timeout(5):
        await app.stopping.wait()

    problem = app.problem()
    assert problem is not None
    assert name in problem
    assert app.failed, "the exit code is 1"
    assert any(record.exc_info and "a task of the operator ended" in record.message for record in caplog.records)
    await app.stop()


@requirement("rollout.one-clock")
async def test_every_client_tells_the_operator_the_time_of_the_api_server(
    client: ClosingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(app_module, "KubeClient", lambda *_, **more: told.append(more["on_date"]) or client)
    app = App(OperatorSettings())
    await app.start()
    assert told == [app._clock.observe] * 2  # noqa: SLF001 - no answer of a fake has a date
    await app.stop()


@requirement("operator.liveness")
async def test_a_second_watch_that_ends_is_reported_by_health_and_ends_the_process(
    client: ClosingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Any) -> Any:
        raise KeyError("a defect")

    monkeypatch.setattr(second_watch, "find_credentials", crash)
    app = App(OperatorSettings(telemetry_port=0))
    app.start_watching()
    async with asyncio.timeout(5):
        await app.stopping.wait()

    assert app.problem() == "the second watch ended: 'a defect'"
    assert app.failed
    await app.stop()


async def test_a_stop_closes_what_was_opened_and_is_no_failure(
    client: ClosingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = ClosingClient()
    monkeypatch.setattr(second_watch, "KubeClient", lambda *_, **__: second)
    monkeypatch.setattr(second_watch, "find_credentials", lambda _: Credentials())
    monkeypatch.setattr(second_watch, "follow_known", hanging)
    app = App(OperatorSettings(telemetry_port=0))
    app.start_watching()
    await app.start()
    port = app._telemetry.port  # type: ignore[union-attr]  # noqa: SLF001 - a free one was taken
    url = f"http://127.0.0.1:{port}/healthz"
    await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).close())
    app._agents.add(("agents", "triage"))  # noqa: SLF001 - a worker has had a turn
    await asyncio.sleep(0)

    await app.stop()

    assert client.is_closed
    assert second.is_closed
    assert not app.failed
    assert app.problem() is None
    with pytest.raises(OSError):  # noqa: PT011 - refused, whatever the system calls it
        await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).close())
    assert [task.get_name() for task in app._tasks if not task.done()] == []  # noqa: SLF001 - all have ended


class Credentials:
    async def current(self) -> None:
        pass


async def hanging(*_: Any) -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


KINDS = ((AGENT, an_agent), (AGENT_POLICY, a_policy), (MCP_BINDING, a_binding))


async def test_an_event_of_a_kind_that_users_apply_has_its_object_read_unless_it_is_known(
    client: ClosingClient,
) -> None:
    app = App(OperatorSettings())
    await app.start()
    for kind, build in KINDS:
        raw = build().to_kubernetes()
        stored = client.put(kind.path(*key_of(raw)), raw)
        event = {"metadata": {name: stored["metadata"][name] for name in ("name", "namespace", "resourceVersion")}}
        app.handle(kind, event, is_deleted=False)
        await until(lambda: not app._cache.is_newer(kind.kind, key_of(raw), version_of(stored)), "it was read")  # noqa: SLF001, B023
        client.forget_requests()
        app.handle(kind, event, is_deleted=False)
        await asyncio.sleep(0)
        assert ("GET", kind.path(*key_of(raw))) not in client.requests, "its version is known"
    gone = {"name": "triage", "namespace": "agents", "resourceVersion": "10000"}
    app.handle(AGENT, {"metadata": gone}, is_deleted=True)
    assert app._cache.agent(("agents", "triage")) is None  # noqa: SLF001 - no reconcile shows it
    await app.stop()


@requirement("operator.defects")
async def test_an_object_that_no_code_expects_does_not_keep_the_operator_from_its_start(
    client: ClosingClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def listed(_client: Any, kind: Any, **_: Any) -> AsyncIterator[Any]:
        if kind is AGENT:
            yield {"metadata": {"name": "odd", "namespace": "agents", "resourceVersion": "?"}}
            yield an_agent().to_kubernetes()

    monkeypatch.setattr(app_module, "list_objects", listed)
    app = App(OperatorSettings())
    await app.start()
    assert app._cache.agents() == {("agents", "triage")}  # noqa: SLF001 - what was cached
    await app.stop()


@requirement("operator.blast-radius")
async def test_an_event_that_cannot_be_handled_costs_no_other_event(client: ClosingClient) -> None:
    app = App(OperatorSettings())
    await app.start()
    for kind in (AGENT, AGENT_POLICY, MCP_BINDING):
        for found in (
            {},
            {"metadata": None},
            {"metadata": {"namespace": "agents", "name": "x", "resourceVersion": "?"}},
        ):
            for is_deleted in (True, False):
                app.handle(kind, found, is_deleted=is_deleted)
    raw = an_agent().to_kubernetes()
    stored = client.put(AGENT.path(*key_of(raw)), raw)
    app.handle(AGENT, stored, is_deleted=False)

    await until(lambda: not app._cache.is_newer(AGENT.kind, key_of(raw), version_of(stored)), "it was read")  # noqa: SLF001
    await app.stop()
