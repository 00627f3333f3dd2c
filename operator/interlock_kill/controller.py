"""The kill controller: it watches kill switches and pods, and keeps Agents that are killed or gone without pods.

The work is level-triggered: a turn reads what is known now and does what is missing. There are eight queues:

* kills: end the pods of one Agent that was just killed or deleted, or for which a pod has just started. A finalizer,
  which anyone who may edit an Agent can add, keeps a deleted Agent and would keep its pods;
* gone: find out whether an Agent exists no longer that has pods. A deletion with `--cascade=orphan` takes the owners
  of an Agent's objects away, so that the garbage collector never ends these pods;
* repeats: the same, for an Agent of which pods are left, ever more rarely while nothing changes;
* scales: keep the Deployments of such an Agent at zero, right behind the deletion of its first pods;
* records: write `status.kill` of one Agent, which no kill waits for;
* relabelled pods: end a pod whose label `interlock.dev/agent` was changed or taken away. It has left the kill, the
  NetworkPolicies and its ReplicaSet;
* misplaced pods: at the start, find such pods of one Agent by their ServiceAccount, which cannot be changed. At the
  start, and once an Agent is created with the name of an earlier one, scale the Deployments of that earlier one to
  zero. A deletion may have orphaned them, and the garbage collector may be late;
* loops: set the kill switch of one Agent for a loop that one of its guards reports (see `loop_reports`).

What is known comes from watches that hold names, labels and annotations alone, so that no spec can break a kill. The
latch survives a restart: `status.kill` of all Agents is read once at the start.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from interlock_contract.clock import read_time
from interlock_contract.kill import KillLatch, observe, shorten
from interlock_contract.names import AGENT_LABEL, KILL_SWITCH, KILL_SWITCH_BY, KILL_SWITCH_OFF
from interlock_kill.killer import Kill, Killer, Release, is_ending
from interlock_kill.loop_reports import SELECTOR, LoopReports
from interlock_kill.telemetry import AGENTS_KILLED, KILL_SECONDS, KILLS, RELABELLED_PODS
from interlock_kube.background import keep_running
from interlock_kube.client import NOT_FOUND, TABLE, ApiError, Json, KubeClient
from interlock_kube.reconcile_loop import ReconcileLoop, WorkQueue, share_of_a_namespace
from interlock_kube.resource_types import AGENT, LEASE, POD, Key, ResourceType, key_of
from interlock_kube.watch import GoneEvent, SeenEvent, WatchOptions, follow_known, read_pages
from interlock_process.metrics import PrometheusLoopMetrics, skip_on_defect

_log = logging.getLogger(__name__)

PodKey = tuple[str, str, str, str]
"""Namespace, name and uid of a pod, and the agent that it began as."""
K = TypeVar("K", bound=Sequence[str])

KILL_WORKERS: Final = 32
REPEAT_WORKERS: Final = 16
SCALE_WORKERS: Final = 16
RECORD_WORKERS: Final = 8
GONE_WORKERS: Final = 8
POD_WORKERS: Final = 8
MISPLACED_WORKERS: Final = 2
LOOP_WORKERS: Final = 4
SWEEP_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until the next sweep of an Agent of which pods are left, by the sweeps in a row that found nothing to do."""
BACKOFF_SECONDS: Final = (0.5, 0.5, 1.0, 2.0, 5.0)
WATCH_SECONDS: Final = 30
CONTACT_SECONDS: Final = 75.0
"""Seconds without contact after which a watch counts as dead: a new one begins every half minute."""
REFUSED_SECONDS: Final = 30.0
"""Seconds for which a kill may fail before that counts as a problem."""

_REQUESTED, _RELEASED, _REASON, _BY = "Kill-Requested", "Kill-Released", "Kill-Reason", "Kill-By"
"""Printer columns of Agents, which show `status.kill` and nothing else of the object."""


@dataclass(slots=True)
class AgentState:
    """What is known of one Agent.

    Attributes:
        uid: Another uid is another Agent.
        switch: The annotation's value as last observed, None without one.
        by: Who set it.
        was_off: Whether `off` was observed, which a page of recorded kills that is read later may not know.
        latch: The kill latch.
        kill: The engaged switch, None while the Agent is not killed.
        engaged_at: When this process engaged it, by the monotonic clock.
        is_deleted: Whether the Agent has a `deletionTimestamp`, which no user can take away, or is gone.
        release: The release that is not recorded yet.
        zero_at: When no pod of this kill or deletion was left first.
        fruitless: Sweeps in a row that found pods and had nothing to do.
    """

    uid: str
    switch: str | None = None
    by: str | None = None
    was_off: bool = False
    latch: KillLatch = field(default_factory=KillLatch)
    kill: Kill | None = None
    engaged_at: float = 0.0
    is_deleted: bool = False
    release: Release | None = None
    zero_at: datetime | None = None
    fruitless: int = 0

    @property
    def wants_no_pods(self) -> bool:
        """Whether the Agent is killed, is being deleted, or is gone."""
        return self.kill is not None or self.is_deleted


class ColumnsMissing(Exception):  # noqa: N818 - says what is wrong with the CRD
    """The table of Agents does not show `status.kill`."""


class KillController:
    """Watches and kills.

    Args:
        client: Sends the requests of kills.
        watcher: Sends those of watches, so that no number of kills keeps a switch from being seen.
        clock: Returns the time.
        monotonic: Returns seconds that never go back.
    """

    def __init__(
        self,
        client: KubeClient,
        watcher: KubeClient,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._watcher, self._killer = watcher, Killer(client, monotonic)
        self._clock, self._monotonic = clock, monotonic
        self._agents: dict[Key, AgentState] = {}
        self._unfinished: dict[Key, AgentState] = {}  # Agents that are gone before their pods were
        self._succeeded_at = monotonic()
        self._pods: dict[Key, tuple[str, str]] = {}  # by namespace and name: uid and agent
        self._reports = LoopReports(self._killer)
        self._known: dict[str, set[Key]] = {AGENT.kind: set(), POD.kind: set(), LEASE.kind: set()}
        self._synced = {kind.kind: asyncio.Event() for kind in (AGENT, POD, LEASE)}
        self._contact: dict[str, float] = {}
        self._is_recorded_read = False
        self._kills: WorkQueue[Key] = _queue(KILL_WORKERS)
        self._repeats: WorkQueue[Key] = _queue(REPEAT_WORKERS)
        self._scales: WorkQueue[Key] = _queue(SCALE_WORKERS)
        self._records: WorkQueue[Key] = _queue(RECORD_WORKERS)
        self._gone: WorkQueue[Key] = _queue(GONE_WORKERS)
        self._relabelled: WorkQueue[PodKey] = _queue(POD_WORKERS)
        self._misplaced: WorkQueue[Key] = _queue(MISPLACED_WORKERS)
        self._looping: WorkQueue[Key] = _queue(LOOP_WORKERS)
        self._kill_loop = _loop("Kill", self._kills, self._end)
        self._repeat_loop = _loop("KillRepeat", self._repeats, self._end)
        self._loops: tuple[tuple[ReconcileLoop[Any], int], ...] = (
            (self._kill_loop, KILL_WORKERS),
            (self._repeat_loop, REPEAT_WORKERS),
            (_loop("KillScale", self._scales, self._hold_at_zero), SCALE_WORKERS),
            (_loop("KillRecord", self._records, self._record), RECORD_WORKERS),
            (_loop("GoneAgent", self._gone, self._end_gone), GONE_WORKERS),
            (_loop("RelabelledPod", self._relabelled, self._end_relabelled), POD_WORKERS),
            (_loop("MisplacedPods", self._misplaced, self._end_misplaced), MISPLACED_WORKERS),
            (_loop("LoopReport", self._looping, self._obey_reports), LOOP_WORKERS),
        )

    async def run(self) -> None:
        """Watch and kill, for ever."""
        async with asyncio.TaskGroup() as group:
            for name, work in (
                ("watch of Agents", partial(self._follow, AGENT, "", self.observe_agent, self._forget)),
                ("watch of pods", partial(self._follow, POD, AGENT_LABEL, self.observe_pod, self._pod_left)),
                (
                    "watch of reports of loops",
                    partial(self._follow, LEASE, SELECTOR, self.observe_lease, self._reports.forget_lease),
                ),
                ("reading of recorded kills", self._read_recorded),
            ):
                group.create_task(keep_running(name, work, _log.error), name=name)
            for loop, workers in self._loops:
                for _ in range(workers):
                    group.create_task(loop.run())

    def watch_problem(self) -> str | None:
        """Return which switches may not be seen, None while all are. Reports of loops are no switches."""
        problem = self._silence(AGENT) or self._silence(POD)
        if problem is not None or self._is_recorded_read:
            return problem
        return "status.kill of the Agents has not been read yet"

    def _silence(self, kind: ResourceType) -> str | None:
        """Return what is wrong with the watch of a kind, None while nothing is."""
        if not self._synced[kind.kind].is_set():
            return f"the {kind.kind}s have not been listed yet"
        silent = self._monotonic() - self._contact[kind.kind]
        if silent > CONTACT_SECONDS:
            return f"the watch of {kind.kind}s had no contact to the API server for {silent:.0f} s"
        return None

    def problem(self) -> str | None:
        """Return what keeps kills from being carried out, None while nothing does."""
        for loop, _ in self._loops:
            if defects := loop.failing(0.0, only_defects=True):
                return f"a kill fails because of a defect of Interlock: {'/'.join(defects[0][:2])}"
        for loop, _ in self._loops:
            if refused := loop.failing(REFUSED_SECONDS):
                return (
                    f"the API server refuses a kill for more than {REFUSED_SECONDS:.0f} s: {'/'.join(refused[0][:2])}"
                )
        return self.watch_problem() or self._silence(LEASE)

    def lease_problem(self) -> str | None:
        """Return why pods of killed Agents may not be ended anywhere, None while they are.

        Failures in one namespace may be its own doing. Those in several count while no kill at all succeeds.
        """
        failing = {key[0] for loop in (self._kill_loop, self._repeat_loop) for key in loop.failing(REFUSED_SECONDS)}
        if len(failing) > 1 and self._monotonic() - self._succeeded_at >= REFUSED_SECONDS:
            return f"kills fail in {len(failing)} namespaces"
        return self.watch_problem()

    def killed(self, key: Key) -> str | None:
        """Return the switch's value while an Agent is killed."""
        state = self._agents.get(key)
        return state.kill.value if state and state.kill else None

    def _wants_no_pods(self, key: Key) -> bool:
        state = self._agents.get(key) or self._unfinished.get(key)
        return state is not None and state.wants_no_pods

    # Observations

    async def _follow(
        self, kind: ResourceType, selector: str, on_seen: Callable[[Json], None], on_gone: Callable[[Key], None]
    ) -> None:
        options, known = self._options(kind, selector), self._known[kind.kind]
        async for event in follow_known(self._watcher, kind, options, key_of, known):
            if isinstance(event, SeenEvent):
                on_seen(event.object)
            elif isinstance(event, GoneEvent):
                on_gone(event.key)
            else:
                self._synced[kind.kind].set()

    async def _read_recorded(self) -> None:
        """Read `status.kill` of all Agents once, after their switches, which kill without it.

        The API server sends a table of the printer columns that show it, so that no spec is read.
        """
        await self._synced[AGENT.kind].wait()
        for (namespace, _), (_, agent) in self._pods.items():
            self._check_gone((namespace, agent))
        names: list[str] = []
        query = {"includeObject": "Metadata"}
        async for table in read_pages(self._watcher, AGENT.everywhere(), query, accept=TABLE):
            names = [column["name"] for column in table.get("columnDefinitions") or ()] or names
            if missing := {_REQUESTED, _RELEASED, _REASON, _BY} - set(names):
                raise ColumnsMissing(f"the CRD of Agents is older than this program: it has no column {min(missing)}")
            for row in table["rows"] or ():
                self.observe_recorded(row["object"], dict(zip(names, row["cells"], strict=True)))
        self._is_recorded_read = True
        _log.info("kill switches are watched", extra={"agents": len(self._agents)})
        for key in self._agents:
            self._misplaced.add(key)
        for key in self._reports.agents:
            self._looping.add(key)

    def observe_agent(self, found: Json) -> None:
        """Observe the metadata of an Agent: engage, keep or release its kill, as the latch says."""
        with skip_on_defect(AGENT.kind, found):
            key, metadata = key_of(found), found["metadata"]
            state = self._agents.get(key)
            if state is None or state.uid != metadata["uid"]:
                self._forget(key)
                self._unfinished.pop(key, None)  # its pods are those of an Agent that is not killed
                state = self._agents[key] = AgentState(metadata["uid"])
                if self._is_recorded_read:  # at the start, all Agents come after the watches
                    self._misplaced.add(key)
                    if key in self._reports.agents:
                        self._looping.add(key)
            annotations = metadata.get("annotations") or {}
            state.switch, state.by = _shorten(annotations.get(KILL_SWITCH)), _shorten(annotations.get(KILL_SWITCH_BY))
            state.was_off = state.was_off or state.switch == KILL_SWITCH_OFF
            state.latch = observe(state.latch, annotations, None)
            self._update(key, state, state.by, self._clock())
            if state.kill is not None:
                self._reports.spend(key)
            if "deletionTimestamp" in metadata and not state.is_deleted:
                state.is_deleted = True
                self._kills.add(key)

    def observe_recorded(self, found: Json, row: dict[str, Any]) -> None:
        """Observe the recorded kill of an Agent, which stands for an annotation that was taken away."""
        with skip_on_defect(AGENT.kind, found):
            key, state = key_of(found), self._agents.get(key_of(found))
            is_standing = row[_REQUESTED] is not None and row[_RELEASED] is None
            if not is_standing or state is None or state.uid != found["metadata"]["uid"]:
                return
            if state.was_off:  # released: by now, or while no kill controller ran
                if state.switch == KILL_SWITCH_OFF and state.release is None:
                    state.release = Release(self._clock(), state.by, None)
                    self._records.add(key)
                return
            since = read_time(row[_REQUESTED], self._clock())
            annotations = {} if state.switch is None else {KILL_SWITCH: state.switch}
            recorded = {"requestedAt": row[_REQUESTED], "reason": row[_REASON] or "killed"}
            state.latch = observe(state.latch, annotations, {"kill": recorded})
            self._update(key, state, row[_BY], since)

    def _update(self, key: Key, state: AgentState, by: str | None, since: datetime) -> None:
        """Bring the kill of an Agent to what its latch says."""
        before, value = state.kill, state.latch.message
        if value is None and before is not None:
            state.kill, state.zero_at, state.release = None, None, Release(self._clock(), by, before)
            AGENTS_KILLED.dec()
            self._records.add(key)
        elif value is not None and (before is None or before.value != value):
            state.kill = Kill(value, by, since if before is None else before.since)
            state.release, state.fruitless = None, 0
            if before is None:
                state.zero_at = None
                state.engaged_at = self._monotonic()
                KILLS.inc()
                AGENTS_KILLED.inc()
                _log.warning("kill switch engaged", extra={"agent": "/".join(key), "value": value[:200]})
            self._kills.add(key)
            self._records.add(key)

    def observe_lease(self, lease: Json) -> None:
        """Observe the Lease of a placement whose policy kills for loops."""
        with skip_on_defect(LEASE.kind, lease):
            agent = self._reports.observe(lease)
            if agent is not None:
                self._looping.add(agent)

    def _forget(self, key: Key) -> None:
        self._reports.forget_agent(key)
        state = self._agents.pop(key, None)
        if state is not None and state.kill is not None:
            AGENTS_KILLED.dec()
        if state is not None and state.wants_no_pods and state.zero_at is None:
            self._unfinished[key] = state
            self._kills.add(key)
        elif state is not None:
            self._gone.add(key)

    def _check_gone(self, key: Key) -> None:
        """Enqueue an Agent that has a pod and is not known, once all Agents are known."""
        if self._synced[AGENT.kind].is_set() and key not in self._agents and key not in self._unfinished:
            self._gone.add(key)

    def observe_pod(self, pod: Json) -> None:
        """Observe a pod with the label of an Agent: one that starts for a killed or deleted Agent is ended."""
        with skip_on_defect(POD.kind, pod):
            metadata = pod["metadata"]
            agent = metadata["labels"][AGENT_LABEL]
            uid, began_as = self._pods.get(key_of(pod), ("", agent))
            if uid != metadata["uid"]:
                began_as = agent
            self._pods[key_of(pod)] = metadata["uid"], began_as
            if began_as != agent:
                self._relabelled.add((*key_of(pod), metadata["uid"], began_as))
            if is_ending(metadata):
                return
            owner = metadata["namespace"], agent
            if self._wants_no_pods(owner):
                self._kills.add(owner)
            else:
                self._check_gone(owner)

    def _pod_left(self, key: Key) -> None:
        """Handle that the watch lost a pod: it was deleted, or its label was taken away."""
        uid, agent = self._pods.pop(key, ("", ""))
        if not uid:
            return
        if self._wants_no_pods((key[0], agent)):
            self._repeats.add((key[0], agent))
        self._relabelled.add((*key, uid, agent))

    def _options(self, kind: ResourceType, selector: str) -> WatchOptions:
        def on_contact() -> None:
            self._contact[kind.kind] = self._monotonic()

        return WatchOptions(
            selector=selector,
            metadata_only=True,
            server_seconds=WATCH_SECONDS,
            silence_seconds=WATCH_SECONDS + 10,
            on_contact=on_contact,
        )

    # Work

    async def _end(self, key: Key) -> float | None:
        """End the pods of one killed or deleted Agent; more sweeps are the work of the repeats."""
        state = self._agents.get(key) or self._unfinished.get(key)
        if state is None or not state.wants_no_pods:
            return None
        engaged_at = state.engaged_at
        sweep = await self._killer.end(
            *key, is_killed=lambda: state.wants_no_pods, on_asked=lambda: self._scales.add(key)
        )
        self._succeeded_at = self._monotonic()
        if not state.wants_no_pods or state.engaged_at != engaged_at:
            self._kills.add(key)  # released, or killed again meanwhile
        elif sweep.is_full:
            self._repeats.add(key)
        elif sweep.left:
            state.fruitless = 0 if sweep.deleted else state.fruitless + 1
            self._repeats.add_after(key, SWEEP_SECONDS[min(state.fruitless, len(SWEEP_SECONDS) - 1)])
        elif self._unfinished.pop(key, None) is None and state.zero_at is None:
            state.zero_at = self._clock()
            if state.kill is not None:
                KILL_SECONDS.observe(self._monotonic() - engaged_at)
                self._records.add(key)
        return None

    async def _hold_at_zero(self, key: Key) -> float | None:
        """Keep the Deployments of one killed or deleted Agent at zero."""
        state = self._agents.get(key) or self._unfinished.get(key)
        if state is not None and state.wants_no_pods:
            await self._killer.hold_at_zero(*key, lambda: state.wants_no_pods)
        return None

    async def _record(self, key: Key) -> float | None:
        """Bring `status.kill` of one Agent to what is known."""
        state = self._agents.get(key)
        if state is None:
            return None
        kill, release = state.kill, state.release
        try:
            if kill is not None:
                requested = await self._killer.record(*key, state.uid, kill, state.zero_at)
                if requested is not None and state.kill is kill:
                    state.kill = replace(kill, since=requested)  # all replicas and restarts agree on it
            elif release is not None:
                await self._killer.record_release(*key, state.uid, release)
                if state.release is release:
                    state.release = None
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
        return None

    async def _end_gone(self, key: Key) -> float | None:
        """End the pods of an Agent that is not known, unless the watch of Agents is behind."""
        if key not in self._agents and not await self._killer.agent_exists(*key) and key not in self._agents:
            self._unfinished.setdefault(key, AgentState("", is_deleted=True))
            self._kills.add(key)
        return None

    async def _end_relabelled(self, key: PodKey) -> float | None:
        """End a pod that lives on without the label that it began with."""
        namespace, name, uid, agent = key
        metadata = await self._killer.find_pod(namespace, name)
        if metadata is None or metadata["uid"] != uid or (metadata.get("labels") or {}).get(AGENT_LABEL) == agent:
            return None
        await self._delete(namespace, metadata, agent)
        return None

    async def _end_misplaced(self, key: Key) -> float | None:
        """End the pods of one Agent whose labels were changed, and those of an earlier Agent of its name."""
        state = self._agents.get(key)
        if state is not None:
            await self._killer.hold_at_zero(*key, but_of=state.uid)
        for metadata in await self._killer.find_misplaced(*key):
            await self._delete(key[0], metadata, key[1])
        return None

    async def _obey_reports(self, key: Key) -> float | None:
        """Set the kill switch of one Agent if one of its guards reports a loop, once for each report."""
        state = self._agents.get(key)
        if not self._is_recorded_read or state is None or state.is_deleted:
            return None
        if state.kill is not None:
            self._reports.spend(key)
        else:
            await self._reports.kill(key, state.uid)
        return None

    async def _delete(self, namespace: str, metadata: Json, agent: str) -> None:
        if not is_ending(metadata):
            RELABELLED_PODS.inc()
            _log.warning("relabelled pod deleted", extra={"pod": f"{namespace}/{metadata['name']}", "agent": agent})
            await self._killer.delete_pod(namespace, metadata)


def _queue(workers: int) -> WorkQueue[Any]:
    return WorkQueue(most_of_a_namespace=share_of_a_namespace(workers))


def _loop(kind: str, queue: WorkQueue[K], turn: Callable[[K], Coroutine[Any, Any, float | None]]) -> ReconcileLoop[K]:
    return ReconcileLoop(kind, queue, turn, metrics=PrometheusLoopMetrics(), backoff=BACKOFF_SECONDS)


def _shorten(text: Any) -> str | None:
    return None if text is None else shorten(text)
