"""The soak of one stage: how far it is and when it is over, from recorded facts and the time."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from interlock.api.agent import Stage
from interlock.api.environments import ClassOf
from interlock.orchestration.orchestrated import PassedTime, soak_of
from interlock_contract.work_counts import WorkCounts


@dataclass(frozen=True)
class PodEnds:
    """How often the agent's container has ended in one pod.

    Attributes:
        uid: The pod's uid.
        ends: How often it has ended.
        is_last_lost: The last end came with the end of the pod's node, so the container did not end by itself.
        is_refused: Guards refuse the pod at the moment, since it runs another image, or its image is not known yet. An
            agent may end because its first call is refused, and that is seen later.
    """

    uid: str
    ends: int
    is_last_lost: bool = False
    is_refused: bool = False


@dataclass(frozen=True)
class StageFacts:
    """What is recorded about the stage that an agent is in.

    Attributes:
        stage: The stage as it was when it was entered.
        revision: The revision that entered it.
        entered_at: When it was entered.
        ready_since: Since when its placement is Ready without a break; None while it is not.
        soaked: How long it was Ready before that, since the soak began.
        restarts: How often the agent's container ended by itself since the soak began, in all pods together.
        counted: The ends that are counted already, came before the soak, or do not count since guards refused the pod,
            by pod. Pods without one are left out.
        restarted_at: When the soak last started again because of too many restarts; None if it did not.
        passed: How long it was Ready in the stages that the revision has passed.
        baseline: What its guards had counted when the soak began; None before. Gates judge what came since.
    """

    stage: Stage
    revision: str
    entered_at: datetime
    ready_since: datetime | None = None
    soaked: timedelta = timedelta()
    restarts: int = 0
    counted: tuple[PodEnds, ...] = ()
    restarted_at: datetime | None = None
    passed: PassedTime = field(default_factory=PassedTime)
    baseline: WorkCounts | None = None


@dataclass(frozen=True)
class StageObservation:
    """What is seen of the agent at this moment.

    Attributes:
        revision: The revision that the spec describes.
        is_running: Neither killed nor scaled to zero: only then a soak counts.
        ready_since: Since when the current stage's placement is certainly Ready; None while it is not.
        broken_at: Until when it was certainly Ready without a break since the recorded `ready_since`; None if it
            still is.
        pods: The ends of the agent's container in the pods of the current stage.
        max_restarts: How often the container may end by itself before the soak starts again.
    """

    revision: str
    is_running: bool
    ready_since: datetime | None = None
    broken_at: datetime | None = None
    pods: tuple[PodEnds, ...] = ()
    max_restarts: int = 0


@dataclass(frozen=True)
class Soak:
    """How far a stage's soak is.

    Attributes:
        facts: The facts to record.
        due_at: When the soak is over if the stage stays Ready; None while it is not Ready.
        is_over: The stage was Ready for its minimum duration, and is Ready still.
    """

    facts: StageFacts
    due_at: datetime | None = None
    is_over: bool = False


def soak(facts: StageFacts, seen: StageObservation, now: datetime) -> Soak:
    """Return how far the soak of a stage is.

    The time in which the stage was not Ready does not count. The soak starts again from zero when the agent does not
    run, or when its container ended by itself too often.

    Args:
        facts: What was recorded about the stage.
        seen: What is seen now.
        now: The time; a clock that went back only makes a soak longer. Times far ahead of it, which another clock has
            written, do not count.
    """
    if not seen.is_running:
        return Soak(_unsoaked(facts))
    facts, seen = _without_future(facts, seen, now)
    facts = _with_ends(facts, _with_time(facts, seen, now), seen, now)
    if facts.ready_since is None:
        return Soak(facts)
    minimum = soak_of(facts.stage)
    due = facts.ready_since + max(timedelta(), minimum - facts.soaked)
    # Pods count as Ready from the second after the one that they name: a stage without a minimum waits for no clock.
    return Soak(facts, due, is_over=not minimum or now >= due)


def without_soak(facts: StageFacts, seen: StageObservation, now: datetime) -> StageFacts:
    """Return the facts of a stage after which none follows: only since when it is Ready."""
    if not seen.is_running:
        return _unsoaked(facts)
    facts, seen = _without_future(facts, seen, now)
    return replace(_unsoaked(facts), ready_since=_with_time(facts, seen, now).ready_since)


def enter(following: Stage, facts: StageFacts, now: datetime, class_of: ClassOf) -> StageFacts:
    """Return the facts of a stage that is entered now.

    Args:
        following: The stage.
        facts: The facts of the stage before it, whose soak is over.
        now: The time.
        class_of: The classes of environments under the agent's policy.
    """
    running = max(timedelta(), now - facts.ready_since) if facts.ready_since else timedelta()
    span = facts.soaked + running // _UNIT * _UNIT
    passed = facts.passed.and_in(facts.stage, class_of(facts.stage.environment), span)
    return StageFacts(following, facts.revision, now, passed=passed)


def _unsoaked(facts: StageFacts) -> StageFacts:
    return StageFacts(facts.stage, facts.revision, facts.entered_at, passed=facts.passed)


def _without_future(facts: StageFacts, seen: StageObservation, now: datetime) -> tuple[StageFacts, StageObservation]:
    """Return both without times far ahead of the clock."""
    if facts.ready_since is not None and facts.ready_since - now > MOST_AHEAD:
        facts = replace(facts, ready_since=None)
    if seen.ready_since is not None:
        seen = replace(seen, ready_since=min(seen.ready_since, now + MOST_AHEAD))
    return facts, seen


def position(stages: tuple[Stage, ...], facts: StageFacts | None, revision: str) -> int | None:
    """Return where the recorded stage stands among the stages, None where it must start again."""
    if facts is None or facts.revision != revision:
        return None
    for index, stage in enumerate(stages):
        if identity(stage) == identity(facts.stage):
            return index
    return None


def identity(stage: Stage) -> tuple[object, ...]:
    """Return what makes a stage another one: its name, environment and scope."""
    return stage.name, stage.environment, stage.scope or ()


MOST_AHEAD = timedelta(days=1)
"""How far a time of readiness may be ahead of the clock, which went back then. A soak waits no longer than that for it.
A smaller bound would let a clock that goes back and forth by hours shorten a soak."""
MOST_BEHIND = timedelta(hours=1)
"""How far the clock of a pod's node may be behind. Of what no operator saw, a soak counts so much less."""
_UNIT = timedelta(seconds=1)
"""The status holds whole seconds of a soak. The rest of a second is lost where readiness ends."""


def _with_time(facts: StageFacts, seen: StageObservation, now: datetime) -> StageFacts:
    """Return the facts with the time that was Ready until now: it is added where readiness begins and ends.

    An example of a stage that is Ready, not Ready from 9:00 to 9:10, then Ready again:

        at    8:00   ready_since 8:00   soaked 0
        at    9:00   ready_since -      soaked 1h
        at    9:10   ready_since 9:10   soaked 1h

    Since when a pod is Ready it says by its node's clock. That may be behind, so of a readiness that began unseen the
    first hour counts only from when it is seen. A pod whose clock is ahead begins later, so that it never seems to have
    lost its readiness since.
    """
    since, soaked = facts.ready_since, facts.soaked
    earliest = now
    if since is not None:
        if seen.ready_since is not None and seen.broken_at is None:
            return facts
        broken_at = min(seen.broken_at or since, now)
        soaked += max(timedelta(), broken_at - since) // _UNIT * _UNIT
        earliest = max(since, broken_at)
    claimed = seen.ready_since
    return replace(
        facts, soaked=soaked, ready_since=claimed and max(earliest, claimed, min(now, claimed + MOST_BEHIND))
    )


def _with_ends(before: StageFacts, after: StageFacts, seen: StageObservation, now: datetime) -> StageFacts:
    """Return the facts with the ends of the agent's container that came since the soak began.

    Args:
        before: The facts as recorded.
        after: The same with the time until now.
        seen: What is seen now.
        now: The time.
    """
    known = {pod.uid: pod.ends for pod in before.counted}
    ends = {pod.uid: max(pod.ends + pod.is_refused, known.get(pod.uid, 0)) for pod in seen.pods}
    counted = tuple(PodEnds(uid, count) for uid, count in ends.items() if count)
    if before.ready_since is None and not before.soaked:  # no soak has begun before now: what ended, ended earlier
        return replace(after, restarts=0, counted=counted if after.ready_since else ())
    restarts = before.restarts
    for pod in seen.pods:
        if pod.is_refused:
            continue
        new = max(0, pod.ends - known.get(pod.uid, 0))
        restarts += new - 1 if new and pod.is_last_lost else new
    if restarts <= seen.max_restarts:
        return replace(after, restarts=restarts, counted=counted)
    return replace(
        after,
        ready_since=seen.ready_since and max(now, seen.ready_since),
        soaked=timedelta(),
        restarts=0,
        counted=counted if seen.ready_since else (),
        restarted_at=now,
    )
