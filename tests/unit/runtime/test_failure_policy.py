"""One failure policy for Agents, AgentPolicies and MCPBindings: log, count, show, retry; and everyone else goes on."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.placement import ApiServerAddress
from interlock.runtime import agent_decision, bindings, policies
from interlock.runtime.agents import AgentReconciler
from interlock.runtime.bindings import BindingReconciler, BindingSnapshotReader
from interlock.runtime.failure_report import FailureReporter
from interlock.runtime.policies import NotifierApplier, PolicyReconciler
from interlock.runtime.router import Router
from interlock.runtime.snapshot_reader import SnapshotReader
from interlock.settings import OperatorSettings
from interlock_kube.client import ApiError
from interlock_kube.reconcile_loop import ReconcileLoop, WorkQueue
from interlock_kube.resource_types import Key
from interlock_process.metrics import PrometheusLoopMetrics
from tests.requirements import requirement
from tests.support.builders import GUARD_IMAGE, NOW, a_binding, a_policy, an_agent
from tests.support.computing import compute
from tests.support.deciders import a_decider
from tests.support.enqueued import Enqueued
from tests.support.fake_client import FakeClient
from tests.support.keys import OPERATOR_KEY

BASE = "/apis/interlock.dev/v1alpha1/namespaces/agents"
NAMES = ("healthy", "sick", "sound")


@dataclass
class Kind:
    """One kind: its path, the function of its reconcile that a test lets crash, and what shows the failure."""

    kind: str
    plural: str
    module: Any
    function: str
    name_of: Callable[..., str]
    condition: tuple[str, str]


KINDS = [
    Kind(
        "Agent",
        "agents",
        agent_decision,
        "reconcile",
        lambda found, *_: found.agent.metadata.name,
        ("Deployed", "False"),
    ),
    Kind(
        "AgentPolicy",
        "agentpolicies",
        policies,
        "build_access_request",
        lambda found, *_: found.metadata.name,
        ("ReconcileFailed", "True"),
    ),
    Kind(
        "MCPBinding",
        "mcpbindings",
        bindings,
        "verify_binding",
        lambda found, *_: found.binding.metadata.name,
        ("ReconcileFailed", "True"),
    ),
]


class Operator:
    """The loop of one kind with three objects, against an API server in memory."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.client = FakeClient()
        self.cache = ResourceCache()
        self.queue: WorkQueue[Key] = WorkQueue()
        client: Any = self.client
        writer = StatusWriter(client)
        self.events = EventPoster(client, "operator-1", lambda: NOW)
        children = ChildCache(kind.kind)
        router = Router(self.cache, *(Enqueued() for _ in range(4)))
        failures = FailureReporter(self.cache, writer, lambda: NOW, lambda _: None, router.handle_answer)
        reconciler: AgentReconciler | PolicyReconciler | BindingReconciler
        settings = OperatorSettings(guard_image=GUARD_IMAGE)
        if kind.kind == "Agent":
            reader = SnapshotReader(self.cache, children, settings, operator_key=OPERATOR_KEY, kill_seen={}.get)
            applier = Applier(client, children)
            reconciler = AgentReconciler(
                cache=self.cache,
                decider=a_decider(client, reader, applier),
                applier=applier,
                writer=writer,
                events=self.events,
                clock=lambda: NOW,
                wake=self.queue.add,
            )
            show = failures.show_on_agent
        elif kind.kind == "AgentPolicy":
            notifiers = NotifierApplier(
                children, Applier(client, children), settings=settings, api_server=ApiServerAddress
            )
            reconciler, show = (
                PolicyReconciler(self.cache, notifiers, writer, router.handle_answer, compute, lambda: NOW),
                failures.show_on_policy,
            )
        else:
            reconciler = BindingReconciler(
                cache=self.cache,
                reader=BindingSnapshotReader(
                    self.cache,
                    children,
                    client,
                    settings=settings,
                    api_server=ApiServerAddress,
                    drift_seen_at=lambda _: None,
                    compute=compute,
                ),
                applier=Applier(client, children),
                writer=writer,
                events=self.events,
                clock=lambda: NOW,
                handle_answer=router.handle_answer,
            )
            show = failures.show_on_binding
        self.loop = ReconcileLoop(
            kind.kind, self.queue, reconciler.reconcile, metrics=PrometheusLoopMetrics(), show_failure=show
        )
        for name in NAMES:
            self.put(name)

    def put(self, name: str) -> None:
        build, put = {
            "Agent": (an_agent, self.cache.put_agent),
            "AgentPolicy": (a_policy, self.cache.put_policy),
            "MCPBinding": (a_binding, self.cache.put_binding),
        }[self.kind.kind]
        put(self.client.put(self.path(name), build(name).to_kubernetes()))

    def path(self, name: str) -> str:
        return f"{BASE}/{self.kind.plural}/{name}"

    def conditions(self, name: str) -> dict[str, dict[str, Any]]:
        status = self.client.objects[self.path(name)].get("status", {})
        return {one["type"]: one for one in status.get("conditions", [])}

    def status_writes(self, name: str) -> int:
        return len([path for _, path in self.client.writes() if path == f"{self.path(name)}/status"])

    @contextmanager
    def sick_with(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> Iterator[None]:
        """Let the reconcile of the object `sick` fail, whatever it reads."""
        healthy = getattr(self.kind.module, self.kind.function)

        def crash(*arguments: Any, **keywords: Any) -> Any:
            if self.kind.name_of(*arguments) == "sick":
                raise error
            return healthy(*arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr(self.kind.module, self.kind.function, crash)
            yield


@pytest.fixture(params=KINDS, ids=lambda kind: kind.kind)
def operator(request: pytest.FixtureRequest) -> Operator:
    return Operator(request.param)


def failures(kind: str, cause: str) -> float:
    return REGISTRY.get_sample_value("interlock_reconcile_failures_total", {"kind": kind, "cause": cause}) or 0.0


SICK = ("agents", "sick")


@requirement("operator.defects")
async def test_a_defect_on_one_object_costs_no_other_its_turn_and_ends_no_worker(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operator.sick_with(monkeypatch, KeyError("a defect")):
        worker = asyncio.create_task(operator.loop.run())
        for name in ("sick", "healthy", "sound"):
            operator.queue.add(("agents", name))
        async with asyncio.timeout(5):
            while not all(operator.status_writes(name) for name in NAMES):  # noqa: ASYNC110 - a turn of the loop each
                await asyncio.sleep(0)
        assert not worker.done()
        worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await operator.events.close()

    kind, status = operator.kind.condition
    assert operator.conditions("sick")[kind]["status"] == status
    for name in ("healthy", "sound"):
        assert operator.conditions(name).get(kind, {}).get("reason") != "ReconcileError"


@requirement("operator.defects")
async def test_a_defect_is_shown_on_the_object_and_gone_once_a_reconcile_succeeds(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.loop.turn(SICK)
    before = operator.conditions("sick")
    with operator.sick_with(monkeypatch, KeyError("hunter2")):
        assert not await operator.loop.turn(SICK)

    kind, status = operator.kind.condition
    shown = operator.conditions("sick")[kind]
    assert (shown["status"], shown["reason"]) == (status, "ReconcileError")
    assert shown["message"].startswith(
        f"the operator could not reconcile this {operator.kind.kind} because of a defect"
    )
    assert "KeyError at runtime/test_failure_policy.py:" in shown["message"]
    assert "kubectl -n interlock-system logs deploy/interlock" in shown["message"]
    assert "hunter2" not in shown["message"], "the text of an exception may quote a secret"
    if operator.kind.kind != "Agent":
        others = {name: one for name, one in operator.conditions("sick").items() if name != kind}
        assert others == before, "what Agents depend on stays"

    assert await operator.loop.turn(SICK)
    await operator.events.close()
    assert operator.conditions("sick") == before


@requirement("operator.defects")
async def test_a_defect_is_logged_with_its_trace_and_written_once_and_counted_each_time(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted = failures(operator.kind.kind, "defect")
    with operator.sick_with(monkeypatch, KeyError("a defect")), caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert not await operator.loop.turn(SICK)
        writes = operator.status_writes("sick")
        (record,) = caplog.records
    with operator.sick_with(monkeypatch, ValueError("another")), caplog.at_level(logging.WARNING):
        assert not await operator.loop.turn(SICK)

    assert writes == 1
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert record.object == "agents/sick"  # type: ignore[attr-defined]
    assert len(caplog.records) == 2, "another cause is logged again"
    assert failures(operator.kind.kind, "defect") == counted + 4


async def test_a_failure_is_retried_with_back_off(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(operator.queue, "add_after", lambda _key, seconds: waited.append(seconds))
    with operator.sick_with(monkeypatch, KeyError("a defect")):
        for _ in range(7):
            await operator.loop.turn(SICK)

    assert waited == [0.5, 1, 2, 5, 10, 10, 10]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ApiError(403, "forbidden"), "refused"),
        (aiohttp.ClientConnectionError("reset"), "unreachable"),
        (aiohttp.ServerDisconnectedError(), "unreachable"),
        (TimeoutError(), "unreachable"),
        (OSError("no route"), "unreachable"),
    ],
    ids=repr,
)
async def test_an_expected_error_is_a_lesser_cause_and_shown_nowhere(
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    cause: str,
) -> None:
    counted = failures(operator.kind.kind, cause)
    with operator.sick_with(monkeypatch, error), caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not await operator.loop.turn(SICK)

    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("WARNING", None)
    assert failures(operator.kind.kind, cause) == counted + 2
    assert operator.status_writes("sick") == 0


async def test_a_failure_that_cannot_be_shown_is_retried_all_the_same(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.client.break_with(RuntimeError("another defect"), "PATCH", operator.path("sick"), times=99)
    with operator.sick_with(monkeypatch, KeyError("a defect")):
        assert not await operator.loop.turn(SICK)

    assert SICK in operator.queue._timers  # noqa: SLF001 - half a second that need not be waited for
    operator.queue.cancel(SICK)


async def test_an_object_that_went_meanwhile_is_shown_nothing(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operator.sick_with(monkeypatch, KeyError("a defect")):
        del operator.client.objects[operator.path("sick")]
        assert not await operator.loop.turn(SICK)
    operator.cache.drop_agent(SICK)
    operator.cache.drop_policy(SICK)
    operator.cache.drop_binding(SICK)

    assert await operator.loop.turn(SICK), "the reconcile of what is gone ends its back-off"


async def test_a_refused_child_of_a_binding_is_shown_on_it() -> None:
    operator = Operator(KINDS[2])
    operator.client.refuse("POST", "/configmaps/", status=403)
    assert not await operator.loop.turn(SICK)
    await operator.events.close()

    message = operator.conditions("sick")["ReconcileFailed"]["message"]
    assert message.startswith("the operator could not reconcile this MCPBinding because the API server refused ")
