"""The facts, observations, rules and commands of a rollout, in which several revisions run next to each other.

`interlock.orchestration.rollout` decides on them. A *revision* is what an agent was reviewed as. A *placement* is one
(agent, stage, revision) that has pods. The *served class* is the environment class of the rollout's last stage. Only
placements of that class share work: a newer one with a scope serves its scope, the last good revision serves the rest.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from interlock.api.agent import Stage
from interlock.api.environments import ClassOf, class_of_name
from interlock.api.shared_types import ScopeDimension
from interlock.orchestration.orchestrated import PassedTime
from interlock.orchestration.soak import PodEnds, StageFacts
from interlock_contract.work_counts import NO_COUNTS, WorkCounts

Scope = tuple[ScopeDimension, ...]
"""A part of the work: the values of each dimension. The empty scope is all of the work."""

MAX_PLACEMENTS = 4
"""Most placements at once: the newest revision, the last good one, and two on their way out."""


@dataclass(frozen=True, order=True)
class RevisionRef:
    """One run of a revision through the stages.

    Attributes:
        number: Its number, from 1. An Agent never uses one twice. A retry and a rollback are runs of their own.
        digest: SHA-256 of the revision's content, in hex.
    """

    number: int
    digest: str

    @property
    def name(self) -> str:
        """The name that commands use, such as `7-3f2a91c04b`."""
        return f"{self.number}-{self.digest[:10]}"


@dataclass(frozen=True, order=True)
class PlacementKey:
    """What the names and labels of a placement are made from.

    Attributes:
        stage: Name of the stage.
        revision: Digest of the revision.
    """

    stage: str
    revision: str


class PlacedRevision(Protocol):
    """A revision in a stage."""

    @property
    def ref(self) -> RevisionRef:
        """The revision."""

    @property
    def stage(self) -> Stage:
        """The stage."""

    @property
    def key(self) -> PlacementKey:
        """The key of the placement."""


# Facts


@dataclass(frozen=True)
class GoodRevision:
    """The last good revision: the last one that was Ready in its last stage and passed that stage's gates.

    Attributes:
        ref: The revision.
        stage: Its last stage as it was then. It stays in this stage, whatever the stages are today.
        since: When it became good.
        serving_since: Since when its placement serves. None while it has no pods, or while they start.
    """

    ref: RevisionRef
    stage: Stage
    since: datetime
    serving_since: datetime | None = None

    @property
    def key(self) -> PlacementKey:
        """The key of its placement."""
        return PlacementKey(self.stage.name, self.ref.digest)


@dataclass(frozen=True)
class PassedRevision:
    """A revision that was good, and that can be rolled back to.

    Attributes:
        ref: The revision.
        served: What it served as the good one, see `interlock.orchestration.scopes.work_of`. Empty if it is not known.
    """

    ref: RevisionRef
    served: str = ""


@dataclass(frozen=True)
class LeavingPlacement:
    """A placement that is on its way out.

    Attributes:
        ref: Its revision.
        stage: Its stage as it was entered.
        draining_since: Since when it takes no new work. None while it serves until its successor is Ready.
        excluded: What it did not serve when it began to drain, so that draining never widens its scope.
    """

    ref: RevisionRef
    stage: Stage
    draining_since: datetime | None = None
    excluded: tuple[Scope, ...] = ()

    @property
    def key(self) -> PlacementKey:
        """The key of the placement."""
        return PlacementKey(self.stage.name, self.ref.digest)


class StopReason(StrEnum):
    """Why a revision was stopped before it was good, or taken back afterwards."""

    ABORTED = "Aborted"
    """A command aborted it."""
    ROLLED_BACK = "RolledBack"
    """A command went back to an earlier revision."""
    BREACHED = "Breached"
    """It breached a gate whose policy is to roll back."""


@dataclass(frozen=True)
class StoppedRevision:
    """The newest revision, stopped. It stays so until the digest changes, or a retry names it.

    Attributes:
        ref: The revision.
        at: When it was stopped.
        why: Why.
        by: Who commanded it, empty for a breach.
        message: More about it, such as which gate was breached.
    """

    ref: RevisionRef
    at: datetime
    why: StopReason
    by: str = ""
    message: str = ""


@dataclass(frozen=True)
class Approval:
    """A promotion that a command named, kept until its stage is entered.

    Attributes:
        stage: The stage to enter. Empty: the last stage's own gates, so that the revision becomes good.
        by: Who.
        is_vouched: The API server wrote or checked the name.
        may_override_gates: It goes past a gate that was breached, too.
        work: What the stage served when it was approved, see `interlock.orchestration.scopes.work_of`; empty without a
            stage. A stage that serves something else by now needs another approval.
    """

    stage: str
    by: str = ""
    is_vouched: bool = False
    may_override_gates: bool = False
    work: str = ""


@dataclass(frozen=True)
class RolloutFacts:
    """All that is remembered about an agent's rollout. It comes from the status, which others may have edited.

    Attributes:
        newest: The revision that spec, policy and bindings describe; None before the first.
        stage: Its current stage. None once it was stopped.
        serving_since: Since when its placement in that stage serves. None while it starts.
        was_ready: It was Ready once since it began.
        good: The last good revision; None before the first. It is the newest one once that is good.
        passed: The revisions that can be rolled back to, the newest last. The good one is the last of them.
        leaving: The placements on their way out, the newest first.
        stopped: Why the newest revision does not run, if it was stopped.
        approved: What promotions have named of the newest revision and what was not entered yet.
        last_number: The highest number that was ever given. The caller gives the highest that it knows.
        handled_commands: The commands that stand and were handled, as `rollback 3-84c7482aa0`. They were carried out or
            void then, and are not handled again while they stand. A pause counts nevertheless.
    """

    newest: RevisionRef | None = None
    stage: StageFacts | None = None
    serving_since: datetime | None = None
    was_ready: bool = False
    good: GoodRevision | None = None
    passed: tuple[PassedRevision, ...] = ()
    leaving: tuple[LeavingPlacement, ...] = ()
    stopped: StoppedRevision | None = None
    approved: tuple[Approval, ...] = ()
    last_number: int = 0
    handled_commands: tuple[str, ...] = ()

    @property
    def passed_refs(self) -> tuple[RevisionRef, ...]:
        """The revisions that can be rolled back to, the newest last."""
        return tuple(one.ref for one in self.passed)

    @property
    def key(self) -> PlacementKey | None:
        """The key of the newest revision's placement, None while it has none."""
        if self.newest is None or self.stage is None:
            return None
        return PlacementKey(self.stage.stage.name, self.newest.digest)


# Observations


@dataclass(frozen=True)
class PlacementSeen:
    """What is seen of one placement.

    Attributes:
        is_ready: All pods that it must have are Ready, and its guards enforce its bundle.
        ready_since: Since when it is certainly Ready; None while it is not.
        broken_at: Until when it was certainly Ready since the recorded `ready_since`; None if it still is.
        pods: The ends of the agent's container in its pods.
        is_drained: Every guard of it says that nothing is under way, or none of them is Ready.
        counts: What its guards have counted of tasks and calls.
    """

    is_ready: bool = False
    ready_since: datetime | None = None
    broken_at: datetime | None = None
    pods: tuple[PodEnds, ...] = ()
    is_drained: bool = False
    counts: WorkCounts = NO_COUNTS


@dataclass(frozen=True)
class HeldClaims:
    """The claims that a placement holds: that its pods use, or will use.

    Attributes:
        claims: The names of the claims.
        is_asking: Its Deployment asks for pods. If it does not, its pods are ending.
    """

    claims: frozenset[str]
    is_asking: bool


class GateVerdict(StrEnum):
    """What the gates of a stage say."""

    PASSED = "Passed"
    """All gates have enough samples and are within their limits."""
    PENDING = "Pending"
    """A minimum, such as the number of tasks, is not reached. No command goes past it."""
    NO_VERDICT = "NoVerdict"
    """A gate cannot be judged, such as a metric source that is away. A promote goes past it."""
    BREACHED = "Breached"
    """A gate is beyond its limit."""


@dataclass(frozen=True)
class GateReport:
    """The verdict about one placement.

    Attributes:
        key: The placement that was judged. A report about another one than the current is no verdict.
        verdict: The verdict.
        message: Which gate, with its figure and limit.
    """

    key: PlacementKey
    verdict: GateVerdict
    message: str = ""


@dataclass(frozen=True)
class RolloutObservation:
    """What is seen of an agent at this moment.

    Attributes:
        wanted: Digest of what spec, policy and bindings describe; None while a layer refuses it.
        is_running: Neither killed nor scaled to zero.
        placements: The placements that have objects, by key.
        max_restarts: How often the agent's container may end by itself before a soak starts again.
        gates: The verdict about the newest revision's current stage.
        may_start: Why a new revision must wait, such as a policy's `maxConcurrent`. Empty if it need not.
        may_number: Why no run of a revision may begin, since it cannot be stored. Empty if one may. A stage is entered,
            and a revision stopped, nevertheless.
        may_enter: Why no stage may be entered now, such as a kill controller that is away. Empty if one may.
        allowed: Digests of the revisions that today's policy and bindings allow to run, besides the wanted one. A
            revision that is not among them does not run, and cannot be rolled back to.
        refused: Placements of the wanted revision that they refuse nevertheless, in a stage that it is not in today.
        holders: The placements that hold claims, also those that no facts name any more.
        announced: The claims that the status announces, so that no other agent takes them; None for all.
    """

    wanted: str | None
    is_running: bool = True
    placements: Mapping[PlacementKey, PlacementSeen] = field(default_factory=lambda: MappingProxyType({}))
    max_restarts: int = 0
    gates: GateReport | None = None
    may_start: str = ""
    may_number: str = ""
    may_enter: str = ""
    allowed: frozenset[str] = frozenset()
    refused: frozenset[PlacementKey] = frozenset()
    holders: Mapping[PlacementKey, HeldClaims] = field(default_factory=lambda: MappingProxyType({}))
    announced: frozenset[str] | None = None


# Rules that hold for the rollout today


class OnBreach(StrEnum):
    """What a breached gate does."""

    HOLD = "Hold"
    """No stage is entered."""
    ROLLBACK = "Rollback"
    """The revision is stopped, and the last good one serves what it served."""


HoldBefore = Callable[[int, PassedTime], tuple[int, str] | None]
"""Returns the first stage after the current one that a minimum forbids to enter, and why. It is given the current
stage's index and the time in the stages that were passed."""


ClaimsOf = Callable[[str, str], frozenset[str]]
"""Returns the names of the claims that a revision, given by its digest, uses in an environment."""


def _no_claims(_digest: str, _environment: str) -> frozenset[str]:
    return frozenset()


def _hold_nothing(_current: int, _passed: PassedTime) -> tuple[int, str] | None:
    return None


@dataclass(frozen=True)
class RolloutRules:
    """What spec and policy say about the rollout itself. It holds at once, also for a revision under way.

    Attributes:
        approvals: Names of the stages that are entered only if a promote names them.
        gated: Names of the stages that have gates, so that a verdict that is missing is none.
        on_breach: What a breached gate does.
        drain_timeout: How long a placement drains at most.
        least_drain: How long it drains at least, until no node sends new tasks to it any more.
        history: How many revisions can be rolled back to, at least one.
        class_of: The classes of environments under the agent's policy.
        knows_classes: Whether the policy says so. While it is away, no approval is recorded: it holds for one class.
        hold_before: The policy's minimums, see `interlock.orchestration.orchestrated.hold_before`.
        claims_of: The claims of revisions, see `interlock.orchestration.claims`.
        audited: The environments in mode Audit, by policy or for the newest revision. Their stages are never left.
    """

    approvals: frozenset[str] = frozenset()
    gated: frozenset[str] = frozenset()
    on_breach: OnBreach = OnBreach.HOLD
    drain_timeout: timedelta = timedelta(seconds=30)
    least_drain: timedelta = timedelta(0)
    history: int = 10
    class_of: ClassOf = class_of_name
    knows_classes: bool = True
    hold_before: HoldBefore = _hold_nothing
    claims_of: ClaimsOf = _no_claims
    audited: frozenset[str] = frozenset()


# Commands


@dataclass(frozen=True)
class Command:
    """One command about the rollout, as an annotation states it.

    Attributes:
        revision: Name of the revision that it is about, such as `7-3f2a91c04b`.
        stage: Name of the stage that it is about, empty for none.
        by: Who.
        is_vouched: The API server wrote or checked the name.
        may_override_gates: The same user may go past breached gates. Only for a promote.
    """

    revision: str
    stage: str = ""
    by: str = ""
    is_vouched: bool = False
    may_override_gates: bool = False


@dataclass(frozen=True)
class RolloutCommands:
    """The commands that stand on the Agent now."""

    pause: Command | None = None
    promote: Command | None = None
    abort: Command | None = None
    retry: Command | None = None
    rollback: Command | None = None
