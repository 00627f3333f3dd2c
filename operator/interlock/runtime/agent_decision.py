"""The decision on one Agent with all that it needs: revisions that are read, ledgers and revisions that are created."""

from dataclasses import dataclass, replace
from datetime import datetime

from interlock.api.agent import Agent
from interlock.api.shared_types import parse_duration
from interlock.cluster.applier import Applier, ApplyFailed
from interlock.cluster.ended_counts import add_up_counts
from interlock.cluster.pods_of_tests import read_test_pods
from interlock.cluster.revision_store import RevisionStore
from interlock.governance.authors import AUTHOR_POLICY
from interlock.governance.budgets import addressee_of
from interlock.orchestration.commands import COMMANDS_POLICY
from interlock.reconcile.agent import ReconcileResult, reconcile
from interlock.reconcile.snapshot import Snapshot
from interlock.runtime.guard_updates import GuardUpdates
from interlock.runtime.rollout_limiter import RolloutLimiter
from interlock.runtime.snapshot_reader import SnapshotReader, Turn
from interlock_contract.names import ROLLOUT_COMMANDS
from interlock_kube.client import KubeClient
from interlock_kube.installed_policies import InstalledPolicies
from interlock_kube.resource_types import Key


@dataclass(frozen=True)
class Decided:
    """What a reconcile has decided.

    Attributes:
        snapshot: The snapshot.
        result: What has to be done.
        failure: What could not be created that it rests on; None if nothing. The result does without: new pods wait
            for their ledgers, and a revision that is not stored does not begin. What runs becomes narrower, or ends,
            nevertheless.
    """

    snapshot: Snapshot
    result: ReconcileResult
    failure: ApplyFailed | None = None


class AgentDecider:
    """Decides on Agents.

    Args:
        reader: Builds the snapshot of an Agent.
        limiter: Bounds the rollouts under way.
        updates: Bounds the updates of guards under way.
        applier: Creates ledgers.
        revisions: Reads and creates revisions.
        policies: Tells whether admission policies are installed.
        client: Reads the pods of tests, and adds up counts.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        applier: Applier,
        revisions: RevisionStore,
        policies: InstalledPolicies,
        client: KubeClient,
        limiter: RolloutLimiter,
        updates: GuardUpdates,
    ) -> None:
        self._reader = reader
        self._limiter = limiter
        reader.may_start = limiter.may_start
        self._updates = updates
        reader.may_update = updates.may_update
        self._applier = applier
        self._revisions = revisions
        self._policies = policies
        self._client = client

    def may_start_pods(self, key: Key, uid: str) -> bool:
        """Return True unless the Agent was killed, or deleted, or the kill controller was lost since its snapshot."""
        return self._reader.may_start_pods(key, uid)

    async def decide(self, key: Key, now: datetime, secret_created_at: datetime | None) -> Decided | None:
        """Return what has to be done for an Agent; None where there is none.

        Raises:
            ApiError: The API server gives no answer about a revision.
        """
        try:
            return await self._decide(key, now, secret_created_at)
        finally:
            self._limiter.took_turn(key)
            self._updates.took_turn(key)

    async def _decide(self, key: Key, now: datetime, secret_created_at: datetime | None) -> Decided | None:
        agent = self._reader.agent(key)
        if agent is None:
            self._reader.forget(key)
            self._limiter.gone(key)
            self._updates.gone(key)
            return None
        turn = Turn(
            secret_created_at,
            are_commands_checked=await self._are_commands_checked(agent),
            last_number=await self._last_number(agent),
        )
        snapshot = self._reader.read(key, turn)
        if snapshot is None:
            return None
        result = self._reconcile(key, snapshot, now)
        if result.missing_revisions or result.ended_tests:
            turn = replace(
                turn,
                lost_revisions=await self._revisions.read(snapshot.agent, result.missing_revisions),
                test_pods={job: await read_test_pods(self._client, key[0], job) for job in result.ended_tests},
            )
            snapshot = self._reader.read(key, turn) or snapshot
            result = self._reconcile(key, snapshot, now)
        if result.new_revisions and await self._policies.is_validating(AUTHOR_POLICY):
            turn = replace(turn, are_authors_checked=True)
            snapshot = self._reader.read(key, turn) or snapshot
            result = self._reconcile(key, snapshot, now)
        await add_up_counts(self._client, key[0], snapshot.children, {pod.name for pod in snapshot.pods.reports})
        return await self._prepare(key, snapshot, result, turn, now)

    def _reconcile(self, key: Key, snapshot: Snapshot, now: datetime) -> ReconcileResult:
        """Reconcile, and count a rollout that begins before another Agent's turn."""
        result = reconcile(snapshot, now)
        if not result.missing_revisions and not result.ended_tests:
            self._updates.saw(key, result.status)
        if snapshot.policy is not None and not result.missing_revisions:
            self._limiter.saw(key, snapshot.policy.metadata.name, result.status)
        return result

    async def _prepare(
        self, key: Key, snapshot: Snapshot, result: ReconcileResult, turn: Turn, now: datetime
    ) -> Decided:
        """Create what must exist before anything else is done."""
        if result.missing_ledgers:
            try:
                await self._applier.create_ledgers(key[0], result.missing_ledgers, addressee_of(snapshot.agent))
            except ApplyFailed as failure:
                return self._without_new_revisions(key, Decided(snapshot, result, failure), turn, now)
            snapshot = self._reader.read(key, turn) or snapshot
            result = self._reconcile(key, snapshot, now)
        if result.new_revisions:
            try:
                await self._revisions.create(snapshot.agent, result.new_revisions)
            except ApplyFailed as failure:
                return self._without_new_revisions(key, Decided(snapshot, result, failure), turn, now)
            result = await self._without_old(snapshot, result, now)
        return Decided(snapshot, result)

    async def _without_old(self, snapshot: Snapshot, result: ReconcileResult, now: datetime) -> ReconcileResult:
        """Delete the revisions that the history no longer keeps; return the result without those that were passed."""
        rollout = result.status.rollout
        if snapshot.policy is None or rollout is None:
            return result
        history = snapshot.policy.spec.rollout.history
        running = {one.number for one in (rollout.newest, rollout.good, *rollout.leaving) if one is not None}
        deleted = await self._revisions.prune(
            snapshot.agent,
            running,
            now,
            count=history.count,
            max_age=parse_duration(history.max_age) if history.max_age is not None else None,
            passed={one.number for one in rollout.passed},
        )
        kept = tuple(one for one in rollout.passed if one.number not in deleted)
        status = result.status.model_copy(update={"rollout": rollout.model_copy(update={"passed": kept})})
        return replace(result, status=status)

    def _without_new_revisions(self, key: Key, decided: Decided, turn: Turn, now: datetime) -> Decided:
        """Return what has to be done while no new revision can be stored. The status names none that is not stored."""
        if not decided.result.new_revisions:
            return decided
        snapshot = self._reader.read(key, replace(turn, may_number=str(decided.failure))) or decided.snapshot
        return Decided(snapshot, self._reconcile(key, snapshot, now), decided.failure)

    async def _are_commands_checked(self, agent: Agent) -> bool:
        stands = any(name in agent.metadata.annotations for name in ROLLOUT_COMMANDS)
        return stands and await self._policies.is_validating(COMMANDS_POLICY)

    async def _last_number(self, agent: Agent) -> int:
        """Return the highest number of stored revisions where no status says it: a number is never given twice.

        A rollout in the status that cannot be read says none, either.
        """
        is_known = agent.status is not None and agent.status.rollout is not None
        return 0 if is_known else await self._revisions.highest_number(agent)
