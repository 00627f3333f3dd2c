"""Whole reconciles, against a fake of the Client that refuses one write at a time."""

import asyncio
import copy
from datetime import datetime
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.status import Condition
from interlock.cluster.applier import Applier
from interlock.cluster.child_cache import ChildCache
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.resource_cache import ResourceCache
from interlock.cluster.status_writer import StatusWriter
from interlock.deployment.observed.pod_reports import AgentPods, PodReport
from interlock.runtime.agents import POD_END_SECONDS, SETTLE_SECONDS, AgentReconciler
from interlock.runtime.failure_report import FailureReporter
from interlock.runtime.snapshot_reader import SnapshotReader
from interlock.settings import OperatorSettings
from interlock.telemetry import ENFORCEMENT_LOST
from interlock_contract.bundle import digest
from interlock_kube.client import ApiError
from interlock_kube.reconcile_loop import ReconcileLoop, WorkQueue
from interlock_kube.resource_types import CHILDREN, Key
from interlock_process.metrics import PrometheusLoopMetrics
from tests.requirements import requirement
from tests.support.builders import (
    GUARD_IMAGE,
    NOW,
    AgentBuilder,
    a_binding,
    a_policy,
    a_stage,
    an_agent,
    hours,
    seconds,
)
from tests.support.deciders import a_decider
from tests.support.fake_client import FakeClient
from tests.support.keys import OPERATOR_KEY
from tests.support.simulation import group_of
from tests.support.small_operator import fill

KEY = ("agents", "triage")
PATH = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"
PODS = "/api/v1/namespaces/agents/pods"
STAGED = an_agent().with_stages(a_stage("staging", lasting="1h"), a_stage("everywhere", "production"))

PROMOTION_WRITES = 13  # the status, the new placement next to the old one, the status


class Operator:
    """The parts that one reconcile needs, as the runtime wires them; a kill keeps nothing but the cluster."""

    def __init__(self, client: FakeClient | None = None, now: datetime = NOW, guard_image: str = GUARD_IMAGE) -> None:
        self.client = client or FakeClient()
        self.now = now
        self.resources = ResourceCache()
        self.children = ChildCache()
        self.queue: WorkQueue[Key] = WorkQueue()
        client: Any = self.client
        self.events = EventPoster(client, "operator-1", lambda: self.now)
        writer = StatusWriter(client)
        reader = self.reader = SnapshotReader(
            self.resources,
            self.children,
            OperatorSettings(guard_image=guard_image),
            operator_key=OPERATOR_KEY,
            kill_seen={}.get,
            pods=lambda *_: self.pods(),
        )
        applier = Applier(client, self.children)
        self.reconciler = AgentReconciler(
            cache=self.resources,
            decider=a_decider(client, reader, applier),
            applier=applier,
            writer=writer,
            events=self.events,
            clock=lambda: self.now,
            wake=self.queue.add,
        )
        failures = FailureReporter(self.resources, writer, lambda: self.now, self.queue.add, lambda *_: None)
        self.loop = ReconcileLoop(
            "Agent",
            self.queue,
            self.reconciler.reconcile,
            metrics=PrometheusLoopMetrics(),
            show_failure=failures.show_on_agent,
        )
        self.resources.put_policy(a_policy().to_kubernetes())
        self.resources.put_binding(a_binding().to_kubernetes())
        self.watch()

    def apply(self, agent: AgentBuilder) -> None:
        raw = agent.to_kubernetes()
        known = self.client.objects.get(PATH)
        if known is not None and "status" in known:
            raw["status"] = known["status"]
        self.client.put(PATH, raw)
        self.watch()

    def watch(self) -> None:
        """Fill the caches as the watches would."""
        if PATH in self.client.objects:
            self.resources.put_agent(self.client.objects[PATH])
        fill(self.children, self.client)

    def restart(self, guard_image: str = GUARD_IMAGE) -> "Operator":
        return Operator(self.client, self.now, guard_image)

    def serve(self) -> None:
        for path, found in self.client.of_kind("Deployment").items():
            count = found["spec"]["replicas"]
            status = {"replicas": count, "updatedReplicas": count, "availableReplicas": count}
            generation = found["metadata"]["generation"]
            self.client.put(path, {**found, "status": {"observedGeneration": generation, **status}})
        self.watch()

    def pods(self) -> AgentPods:
        """Every pod that serves has been Ready for long."""
        return AgentPods(
            tuple(
                PodReport(path, group_of(found), ready_since=NOW - hours(1))
                for path, found in self.client.of_kind("Deployment").items()
                if "status" in found
            )
        )

    async def reconcile_agent(self) -> bool:
        self.queue.cancel(KEY)  # as a worker does when it gets the key
        succeeded = await self.loop.turn(KEY)
        await self.events.close()
        self.watch()
        return succeeded

    async def converge(self) -> None:
        for _ in range(10):
            before = self.client.version
            succeeded = await self.reconcile_agent()
            self.serve()
            if succeeded and self.client.version == before:
                return
        raise AssertionError("it did not converge")

    def condition(self, kind: str) -> Condition:
        status = Agent.model_validate(self.client.objects[PATH]).status
        assert status is not None, "no status was reported"
        return next(found for found in status.conditions if found.type == kind)

    def end_state(self) -> Any:
        """The final state: children without what counts writes, and the status without their uids."""
        objects = {
            path: {name: value for name, value in found.items() if name in ("spec", "data", "rules", "subjects")}
            for path, found in self.client.objects.items()
            if found["kind"] != "Event"
        }
        status = copy.deepcopy(self.client.objects[PATH]["status"])
        for managed in status["managedObjects"]:
            assert managed.pop("uid") or managed["kind"] == "Secret"
        return objects, status


async def a_ready_agent(agent: AgentBuilder = STAGED) -> Operator:
    operator = Operator()
    operator.apply(agent)
    await operator.converge()
    assert operator.condition("Ready").status == "True"
    return operator


async def test_a_new_agent_costs_its_children_and_two_writes_of_its_status() -> None:
    operator = Operator()
    operator.apply(an_agent())
    operator.client.forget_requests()

    assert await operator.reconcile_agent()
    operator.serve()
    assert await operator.reconcile_agent()

    writes = operator.client.writes()
    assert [method for method, path in writes if path == f"{PATH}/status"] == ["PATCH", "PATCH"]
    assert len([path for method, path in writes if method == "POST" and "/events/" not in path]) == 12
    assert [method for method, _ in writes if method == "DELETE"] == []


@requirement("operator.idle")
async def test_a_restart_writes_nothing() -> None:
    operator = (await a_ready_agent()).restart()
    operator.client.forget_requests()

    assert await operator.reconcile_agent()

    assert writes_of(operator.client) == []
    read = [path for _, path in operator.client.requests]
    assert [path.rpartition("/")[0] for path in read] == ["/apis/apps/v1/namespaces/agents/controllerrevisions"]
    assert await operator.reconcile_agent()
    assert len(operator.client.requests) == 1, "a revision is read once"


@requirement("rollout.restart", "rollout.requeue")
async def test_a_restart_in_mid_soak_requeues_at_the_same_moment_as_before() -> None:
    operator = await a_ready_agent()
    operator.now += hours(0.75)
    operator = operator.restart()

    await operator.reconcile_agent()
    assert due_in(operator) == pytest.approx(15 * 60, abs=5)

    operator.now += hours(0.25)
    await operator.converge()
    assert operator.client.objects[PATH]["status"]["stage"]["name"] == "everywhere"


def due_in(operator: Operator) -> float:
    timer = operator.queue._timers[KEY]  # noqa: SLF001 - a reconcile that is due in an hour cannot be waited for
    return timer.when() - asyncio.get_running_loop().time()


@requirement("operator.converges")
async def test_an_agent_after_a_write_or_a_new_stage_is_requeued_and_a_settled_one_is_not() -> None:
    """An operator that ends between two writes may leave nothing that an event would report."""
    operator = Operator()
    operator.apply(an_agent())

    await operator.reconcile_agent()
    assert due_in(operator) <= SETTLE_SECONDS
    await operator.converge()
    assert operator.queue._timers == {}  # noqa: SLF001 - a reconcile that never comes cannot be waited for


@requirement("deployment.prune-networks")
async def test_an_agent_whose_pods_take_long_to_end_is_reconciled_until_its_networkpolicies_are_gone() -> None:
    operator = await a_ready_agent(an_agent())
    [workload] = operator.client.of_kind("Deployment").values()
    labels = workload["spec"]["template"]["metadata"]["labels"]
    pod = operator.client.put(f"{PODS}/p1", {"kind": "Pod", "metadata": {"name": "p1", "labels": labels}})
    operator.client.pods_linger = True
    operator.apply(an_agent().without_owner())

    await operator.reconcile_agent()
    assert due_in(operator) <= SETTLE_SECONDS
    assert "deletionTimestamp" in pod["metadata"]
    operator.client.forget_requests()
    await operator.reconcile_agent()
    assert SETTLE_SECONDS < due_in(operator) <= POD_END_SECONDS
    assert writes_of(operator.client) == []
    assert operator.client.of_kind("NetworkPolicy")

    del operator.client.objects[f"{PODS}/p1"]
    await operator.reconcile_agent()
    assert not operator.client.of_kind("NetworkPolicy")


def writes_of(client: FakeClient) -> list[tuple[str, str]]:
    return [(method, path) for method, path in client.writes() if "/events/" not in path]


async def all_writes(agent: AgentBuilder) -> list[tuple[str, str]]:
    operator = Operator()
    operator.apply(agent)
    operator.client.forget_requests()
    await operator.reconcile_agent()
    return writes_of(operator.client)


@requirement("operator.converges")
@pytest.mark.parametrize("nth", range(12))
@pytest.mark.parametrize("error", [ApiError(500, "storage is away"), TimeoutError()], ids=["refused", "lost"])
async def test_whichever_first_write_fails_the_next_reconciles_reach_the_same_end(nth: int, error: Exception) -> None:
    undisturbed = await a_ready_agent(an_agent())
    writes = await all_writes(an_agent())
    assert len(writes) == 13
    operator = Operator()
    operator.apply(an_agent())
    method, path = writes[nth]
    operator.client.break_with(error, method, path)

    assert not await operator.reconcile_agent()

    status = operator.client.objects[PATH].get("status")
    if status is not None:
        assert operator.condition("Ready").status == "False"
        assert operator.condition("Deployed").reason == "ApplyFailed"
        said = "the API server gave no answer (TimeoutError)" if isinstance(error, TimeoutError) else "storage is away"
        assert operator.condition("Deployed").message.endswith(f": {said}")
    else:
        assert method == "PATCH", "the status could have been written"
    await operator.converge()
    assert operator.end_state() == undisturbed.end_state()


@requirement("operator.converges")
@pytest.mark.parametrize("nth", range(PROMOTION_WRITES))
async def test_an_operator_that_ends_at_any_write_of_a_promotion_is_followed_by_one_that_comes_to_the_same_end(
    nth: int,
) -> None:
    undisturbed = await a_ready_agent()
    undisturbed.now += hours(1)
    undisturbed.client.forget_requests()
    await undisturbed.reconcile_agent()
    writes = writes_of(undisturbed.client)
    await undisturbed.converge()
    operator = await a_ready_agent()
    operator.now += hours(1)
    assert len(writes) == PROMOTION_WRITES

    operator.client.break_with(_Ended(), *writes[nth])
    with pytest.raises(_Ended):
        await operator.reconcile_agent()
    operator.client.refusals.clear()
    successor = operator.restart()
    await successor.converge()

    assert successor.end_state() == undisturbed.end_state()


class _Ended(BaseException):
    """The operator's process ends here."""


@pytest.mark.parametrize("take_away", ["policy", "kill"])
async def test_a_failed_write_does_not_hide_why_an_agent_is_refused_or_killed(take_away: str) -> None:
    operator = await a_ready_agent(an_agent())
    if take_away == "policy":
        operator.resources.drop_policy(("agents", "support"))
        operator.client.refuse("DELETE", "/deployments/")
    else:
        operator.apply(an_agent().killed("runaway"))
        operator.client.refuse("PATCH", "/deployments/")

    assert not await operator.reconcile_agent()

    ready = operator.condition("Ready")
    assert (ready.status, ready.reason) == ("False", "PolicyNotFound" if take_away == "policy" else "KillSwitch")
    assert operator.condition("Deployed").reason == "ApplyFailed"
    await operator.converge()
    assert operator.condition("Deployed").reason in ("Applied", "WaitingForGovernance")


async def test_a_drift_that_cannot_be_healed_is_reported() -> None:
    operator = await a_ready_agent(an_agent())
    (path,) = operator.client.of_kind("Role")
    del operator.client.objects[path]
    operator.watch()
    operator.client.refuse("POST", path, status=403)

    assert not await operator.reconcile_agent()

    assert operator.condition("Ready").reason == "WaitingForDeployment"
    assert operator.condition("Deployed").message == f"Role {path.rsplit('/', 1)[1]}: no POST today"
    await operator.converge()
    assert operator.condition("Ready").status == "True"
    assert operator.condition("Deployed").reason == "Applied"


async def test_an_event_that_is_lost_fails_no_reconcile() -> None:
    operator = Operator()
    operator.apply(an_agent().without_owner())
    operator.client.refuse("POST", "/events", times=99)

    assert await operator.reconcile_agent()

    assert operator.condition("Ready").reason == "OwnerMissing"


async def test_events_are_posted_for_what_changed_and_not_for_reconciles() -> None:
    operator = Operator()
    operator.apply(an_agent().without_owner())
    await operator.reconcile_agent()
    await operator.reconcile_agent()
    await operator.restart().reconcile_agent()

    assert sorted(event["reason"] for event in operator.client.of_kind("Event").values()) == [
        "OwnerMissing",
        "OwnerMissing",
    ]


@requirement("governance.deleted")
async def test_an_agent_that_is_deleted_and_kept_by_a_finalizer_loses_its_children_before_it_is_gone() -> None:
    operator = await a_ready_agent(an_agent())

    operator.apply(an_agent().being_deleted("example.com/keep").at_version(9))
    await operator.converge()

    assert [path for kind in CHILDREN for path in operator.client.of_kind(kind.kind)] == []
    assert operator.condition("Ready").reason == "BeingDeleted"


async def test_an_agent_that_is_gone_is_no_longer_reconciled_and_stays_forgotten() -> None:
    operator = await a_ready_agent(an_agent())
    operator.resources.drop_agent(KEY)
    operator.client.forget_requests()

    assert await operator.loop.turn(KEY)

    assert operator.client.requests == []


async def test_an_agent_that_goes_while_its_status_is_written_stays_forgotten() -> None:
    operator = Operator()
    operator.apply(an_agent())
    patch = operator.client.patch

    async def then_delete(*arguments: Any, **keywords: Any) -> Any:
        answer = await patch(*arguments, **keywords)
        operator.resources.drop_agent(KEY)
        return answer

    operator.client.patch = then_delete  # type: ignore[method-assign]

    assert await operator.loop.turn(KEY)

    assert operator.resources.agents() == set()


async def test_a_change_that_comes_while_the_status_is_written_is_reconciled() -> None:
    operator = Operator()
    operator.apply(an_agent())
    patch = operator.client.patch

    async def onto_a_later_spec(*arguments: Any, **keywords: Any) -> Any:
        answer = await patch(*arguments, **keywords)
        return {**answer, "metadata": {**answer["metadata"], "generation": 99}}

    operator.client.patch = onto_a_later_spec  # type: ignore[method-assign]
    assert await operator.loop.turn(KEY)
    operator.queue.cancel(KEY)  # no timer triggers what is left

    async with asyncio.timeout(5):
        assert await operator.queue.get() == KEY


async def test_a_defect_on_one_agent_is_a_failed_reconcile_and_not_the_end_of_the_operator() -> None:
    operator = Operator()
    operator.apply(an_agent())
    operator.client.break_with(KeyError("a defect of ours"), "POST", "/deployments/")

    assert not await operator.reconcile_agent()

    await operator.converge()
    assert operator.condition("Ready").status == "True"


# The bundles that the status names


def bundle_of(operator: Operator) -> tuple[str, str]:
    """Return the path of the bundle and the digest of its text."""
    [(path, text)] = [
        (path, found["data"]["bundle.json"])
        for path, found in operator.client.of_kind("ConfigMap").items()
        if "bundle.json" in found["data"]
    ]
    return path, digest(text)


def narrow(operator: Operator) -> None:
    """Withdraw grants of the policy."""
    narrower = a_policy().giving_nothing().giving("triage", "crm", read=["contacts"])
    operator.resources.put_policy(narrower.at_version(7).to_kubernetes())


def named(operator: Operator) -> list[str]:
    found: list[str] = operator.client.objects[PATH]["status"]["bundleDigests"]
    return found


@requirement("guard.confirmed-bundle")
async def test_the_status_names_exactly_the_bundle_that_exists() -> None:
    operator = await a_ready_agent(an_agent())

    assert named(operator) == [bundle_of(operator)[1]]


@requirement("guard.confirmed-bundle")
async def test_a_new_bundle_is_named_before_it_is_written_and_the_one_before_only_until_then() -> None:
    operator = await a_ready_agent(an_agent())
    path, before = bundle_of(operator)
    narrow(operator)
    patch, seen = operator.client.patch, []

    async def watch(target: str, *arguments: Any, **keywords: Any) -> Any:
        answer = await patch(target, *arguments, **keywords)
        seen.append((target.removesuffix("/status"), named(operator)))
        return answer

    operator.client.patch = watch  # type: ignore[method-assign]
    assert await operator.reconcile_agent()

    after = bundle_of(operator)[1]
    assert before != after
    assert seen == [(PATH, [after, before]), (path, [after, before]), (PATH, [after])]


@requirement("guard.confirmed-bundle")
async def test_a_forged_bundle_is_never_named() -> None:
    operator = await a_ready_agent(an_agent())
    path, before = bundle_of(operator)
    operator.client.add_foreign(path, {"data": {"bundle.json": "widened"}})
    operator.watch()
    operator.client.refuse("PATCH", path)

    assert not await operator.reconcile_agent()
    assert named(operator) == [before]
    await operator.converge()
    assert named(operator) == [before]


@requirement("guard.confirmed-bundle")
async def test_an_earlier_bundle_is_named_for_ten_seconds_at_most() -> None:
    operator = await a_ready_agent(an_agent())
    path, before = bundle_of(operator)
    narrow(operator)
    operator.client.refuse("PATCH", path, times=99)

    assert not await operator.reconcile_agent()
    assert named(operator)[1:] == [before]
    operator.now += seconds(10)
    assert not await operator.reconcile_agent()

    assert before not in named(operator)
    assert len(named(operator)) == 1


async def test_a_refused_agent_names_no_bundle() -> None:
    operator = await a_ready_agent(an_agent())
    operator.resources.drop_policy(("agents", "support"))

    await operator.converge()

    assert named(operator) == []


# What cannot be restored


def put_pods(operator: Operator) -> str:
    """Put the pod of the Deployment there and return its path."""
    [workload] = operator.client.of_kind("Deployment").values()
    labels = workload["spec"]["template"]["metadata"]["labels"]
    path = "/api/v1/namespaces/agents/pods/triage-1"
    operator.client.put(
        path, {"kind": "Pod", "metadata": {"name": "triage-1", "namespace": "agents", "labels": labels}}
    )
    return path


async def a_lost(operator: Operator, kind: str) -> str:
    """Let others change an object that cannot be written then; return its path."""
    path = next(path for path in operator.client.of_kind(kind) if kind != "ConfigMap" or path == bundle_of(operator)[0])
    operator.client.add_foreign(path, {"smuggled": "x"})
    operator.watch()
    operator.client.refuse("PATCH", path, times=99)
    return path


@requirement("deployment.enforcement-lost")
@pytest.mark.parametrize("kind", ["ConfigMap", "NetworkPolicy", "Role", "RoleBinding", "Deployment"])
@pytest.mark.parametrize("is_set_back", [False, True], ids=["", "and the clock is set back"])
async def test_an_agent_whose_enforcement_cannot_be_restored_for_ten_seconds_has_no_pods(
    kind: str,
    is_set_back: bool,  # noqa: FBT001
) -> None:
    operator = await a_ready_agent(an_agent())
    pod = put_pods(operator)
    path = await a_lost(operator, kind)

    assert not await operator.reconcile_agent()
    operator.now += seconds(9.9)
    assert not await operator.reconcile_agent()
    assert pod in operator.client.objects
    assert operator.condition("Deployed").reason == "ApplyFailed"

    operator.now += seconds(0.1)
    if is_set_back:
        operator.now -= hours(1)
    assert not await operator.reconcile_agent()

    assert pod not in operator.client.objects
    assert operator.client.of_kind("Deployment") == {}
    for condition in ("Deployed", "Ready"):
        assert operator.condition(condition).reason == "EnforcementLost"
    assert operator.condition("Stalled").status == "True"
    assert f"{kind} {path.rsplit('/', 1)[1]} could not be restored for 10 s" in operator.condition("Ready").message
    assert "EnforcementLost" in {event["reason"] for event in operator.client.of_kind("Event").values()}
    assert ENFORCEMENT_LOST._value.get() == 1  # noqa: SLF001 - what Prometheus reads

    assert not await operator.reconcile_agent() or kind == "Deployment"
    operator.client.refusals.clear()
    await operator.converge()
    assert operator.condition("Ready").status == "True"
    assert ENFORCEMENT_LOST._value.get() == 0  # noqa: SLF001


@requirement("deployment.enforcement-lost")
async def test_a_reconcile_comes_when_the_bound_is_over() -> None:
    operator = await a_ready_agent(an_agent())
    await a_lost(operator, "Role")
    calls: list[float] = []
    loop = asyncio.get_running_loop()
    call_later = loop.call_later
    loop.call_later = lambda after, *more: calls.append(after) or call_later(after, *more)  # type: ignore[method-assign,assignment,func-returns-value,misc]
    try:
        assert not await operator.reconcile_agent()
    finally:
        loop.call_later = call_later  # type: ignore[method-assign]

    assert 10.0 in calls


async def test_an_agent_keeps_its_pods_while_an_object_fails_that_no_enforcement_rests_on() -> None:
    operator = await a_ready_agent(an_agent())
    pod = put_pods(operator)
    await a_lost(operator, "Service")

    for _ in range(3):
        assert not await operator.reconcile_agent()
        operator.now += seconds(60)

    assert pod in operator.client.objects
    assert operator.condition("Deployed").reason == "ApplyFailed"


async def test_the_clock_of_a_loss_starts_again_after_each_success() -> None:
    operator = await a_ready_agent(an_agent())
    pod = put_pods(operator)
    await a_lost(operator, "Role")
    assert not await operator.reconcile_agent()
    operator.client.refusals.clear()
    assert await operator.reconcile_agent()
    operator.now += seconds(60)

    await a_lost(operator, "Role")
    assert not await operator.reconcile_agent()

    assert pod in operator.client.objects


@requirement("deployment.names-of-others")
async def test_an_agent_is_stalled_with_the_name_of_an_object_of_others_until_that_is_gone() -> None:
    operator = Operator()
    path = "/api/v1/namespaces/agents/services/guard-triage"
    spec = {"selector": {"app": "payments-api"}}
    metadata = {"name": "guard-triage", "namespace": "agents", "uid": "theirs", "labels": {"team": "a"}}
    before = operator.client.put(path, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    operator.apply(an_agent())

    for _ in range(2):
        assert not await operator.reconcile_agent()
        for kind in ("Deployed", "Ready", "Stalled"):
            assert operator.condition(kind).reason == "NameTaken"
            assert operator.condition(kind).message.startswith("Service guard-triage exists and does not belong to")

    assert operator.client.objects[path] == before
    assert operator.client.of_kind("Deployment") == {}
    del operator.client.objects[path]
    await operator.converge()
    assert operator.condition("Ready").status == "True"
    assert operator.condition("Stalled").status == "False"
