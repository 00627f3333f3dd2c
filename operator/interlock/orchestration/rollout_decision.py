"""The decision on a rollout: which placements must exist, how far the rollout is, and what has happened."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto

from interlock.api.agent import Stage
from interlock.orchestration.rollout_state import Command, PlacementKey, RevisionRef, RolloutFacts, Scope


@dataclass(frozen=True)
class DesiredPlacement:
    """A placement that must exist.

    Attributes:
        ref: Its revision.
        stage: Its stage.
        is_serving: It takes new work: all of its scope but what is excluded.
        excluded: The parts of the work that others serve. One empty scope excludes everything.
        is_draining: It takes no new work, and ends what is under way.
        replicas: The number of pods if it is not that of stage and spec: 0 while the agent does not run, or for a
            claim.
        is_without_pods: It has no pods for a claim: it waits for those of others that use it, or drains and has none.
        is_announcing: It has no pods yet because the status does not announce its claims.
        waits_for: The placements that it waits for. One of them is itself while its own earlier pods end.
    """

    ref: RevisionRef
    stage: Stage
    is_serving: bool
    excluded: tuple[Scope, ...] = ()
    is_draining: bool = False
    replicas: int | None = None
    is_without_pods: bool = False
    is_announcing: bool = False
    waits_for: tuple[PlacementKey, ...] = ()

    @property
    def key(self) -> PlacementKey:
        """The key of the placement."""
        return PlacementKey(self.stage.name, self.ref.digest)


class RolloutState(StrEnum):
    """How far the rollout is: the first that applies."""

    REFUSED = auto()
    """A layer refuses what is described today, or there is nothing yet."""
    STOPPED = auto()
    """The newest revision was stopped."""
    RETURNING = auto()
    """The newest revision was stopped, and the last good one is not Ready yet to serve."""
    NOT_RUNNING = auto()
    """Killed or scaled to zero."""
    STARTING = auto()
    """The newest revision was never Ready."""
    WAITING_FOR_READY = auto()
    """The current stage is not Ready."""
    BREACHED = auto()
    """A gate is breached, and holds the rollout."""
    AUDIT = auto()
    """The environment of the current stage is in mode Audit, so no stage follows."""
    SOAKING = auto()
    """The minimum duration of the current stage is running."""
    GATE_PENDING = auto()
    """A gate has not enough samples."""
    MINIMUM = auto()
    """A minimum of the policy holds."""
    BLOCKED = auto()
    """No stage may be entered now, see `RolloutObservation.may_enter`."""
    NO_VERDICT = auto()
    """A gate cannot be judged."""
    APPROVAL = auto()
    """The next stage needs an approval."""
    PAUSED = auto()
    """A pause holds, and nothing else does."""
    ENTERED = auto()
    """The next stage was entered just now."""
    COMPLETE = auto()
    """The newest revision is good."""


@dataclass(frozen=True)
class RolloutProgress:
    """The state of the rollout, and what a message about it needs.

    Attributes:
        state: The state.
        index: Index of the current stage, None while there is none.
        following: The stage that follows, None in the last one.
        due_at: When the soak is over if the stage stays Ready.
        message: The reason from outside: of the gate, the minimum, the block, or the stop.
        waiting: Why a revision that is described today does not start, see `RolloutObservation.may_start`.
        is_paused: A pause names the newest revision, whatever else holds.
    """

    state: RolloutState
    index: int | None = None
    following: Stage | None = None
    due_at: datetime | None = None
    message: str = ""
    waiting: str = ""
    is_paused: bool = False


class RolloutEventType(StrEnum):
    """What has happened in a decision. Each happens once, for it changes the facts."""

    REVISION_STARTED = "RevisionStarted"
    STAGE_ENTERED = "StageEntered"
    SERVING = "Serving"
    DRAINING = "Draining"
    REVISION_GOOD = "RevisionGood"
    REVISION_STOPPED = "RevisionStopped"
    ROLLED_BACK = "RolledBack"
    APPROVED = "Approved"
    COMMAND_VOID = "CommandVoid"
    FACT_REFUSED = "FactRefused"


@dataclass(frozen=True)
class RolloutEvent:
    """Something that has happened in a decision.

    Attributes:
        type: What.
        ref: The revision.
        stage: Name of the stage, empty if it is about none.
        by: Who commanded it.
        message: More about it.
    """

    type: RolloutEventType
    ref: RevisionRef | None = None
    stage: str = ""
    by: str = ""
    message: str = ""


@dataclass(frozen=True)
class VoidCommand:
    """A command that has no effect, and why."""

    verb: str
    command: Command
    why: str


@dataclass(frozen=True)
class RolloutDecision:
    """What must run, and what to remember.

    Attributes:
        facts: The facts to record. They must be written before the placements, or together with them.
        placements: The placements that must exist, most important first. All others are deleted.
        public: The placement that `guard-<agent>` selects; None if there is none.
        progress: How far the rollout is.
        next_at: When time alone changes the result; None if it does not.
        events: What has happened in this decision.
        void: The commands that this decision has found to have no effect. Each is named once.
    """

    facts: RolloutFacts
    placements: tuple[DesiredPlacement, ...] = ()
    public: PlacementKey | None = None
    progress: RolloutProgress = field(default_factory=lambda: RolloutProgress(RolloutState.REFUSED))
    next_at: datetime | None = None
    events: tuple[RolloutEvent, ...] = ()
    void: tuple[VoidCommand, ...] = ()


class RolloutInvariantError(Exception):
    """Placements that must never be: they overlap, leave a gap, or are too many. Nothing may be applied."""
