"""The rollout: the current stage and the time of the next change, from stages, recorded facts and the time."""

from dataclasses import dataclass, replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.orchestration.orchestrated import soak_of


@dataclass(frozen=True)
class StageFacts:
    """What is recorded about the stage that an agent is in.

    Attributes:
        stage: The stage as it was when it was entered.
        revision: The revision that entered it.
        entered_at: When it was entered.
        ready_since: When its placement was first Ready, from where the soak counts; None before that.
    """

    stage: Stage
    revision: str
    entered_at: datetime
    ready_since: datetime | None = None


@dataclass(frozen=True)
class StageObservation:
    """What is seen of the agent at this moment.

    Attributes:
        revision: The revision that the spec describes.
        is_running: Neither killed nor scaled to zero: only then a soak counts.
        is_ready: The current stage's placement is Ready.
    """

    revision: str
    is_running: bool
    is_ready: bool


@dataclass(frozen=True)
class StageDecision:
    """The current stage and its consequences.

    Attributes:
        index: Index of the current stage.
        facts: The facts to record.
        next_at: When to reconcile again, None if time alone changes nothing.
        is_held: The soak is over, but a minimum forbids the next stage (see `MinimumViolation`).
    """

    index: int
    facts: StageFacts
    next_at: datetime | None = None
    is_held: bool = False


def decide_stage(
    stages: tuple[Stage, ...],
    facts: StageFacts | None,
    seen: StageObservation,
    now: datetime,
    *,
    hold_before: int | None = None,
) -> StageDecision:
    """Return the current stage.

    A stage ends when its minimum duration has passed since its placement was first Ready, and it is Ready
    still; one call enters one stage at most. A new revision, or a stage that is no longer what was entered,
    starts again at the first. While the agent does not run, the soak stops, and it starts again from zero afterwards.

    Args:
        stages: The stages in order, at least one.
        facts: What was recorded, None for a new agent.
        seen: What is seen now.
        now: The time; a clock that went back only makes a soak longer.
        hold_before: Index of a stage that must not be entered.
    """
    index = position(stages, facts, seen.revision)
    if facts is None or index is None:
        return StageDecision(0, StageFacts(stages[0], seen.revision, now))
    facts = _soaked(replace(facts, stage=stages[index]), seen, now)
    following = index + 1
    if facts.ready_since is None or following == len(stages):
        return StageDecision(index, facts)
    due = facts.ready_since + soak_of(stages[index])
    if now < due:
        return StageDecision(index, facts, next_at=due)
    if hold_before is not None and following >= hold_before:
        return StageDecision(index, facts, is_held=True)
    if not seen.is_ready:
        return StageDecision(index, facts)
    return StageDecision(following, StageFacts(stages[following], seen.revision, now))


def position(stages: tuple[Stage, ...], facts: StageFacts | None, revision: str) -> int | None:
    """Return where the recorded stage stands among the stages, None where it must start again."""
    if facts is None or facts.revision != revision:
        return None
    for index, stage in enumerate(stages):
        if _identity(stage) == _identity(facts.stage):
            return index
    return None


def _identity(stage: Stage) -> tuple[object, ...]:
    return stage.name, stage.environment, stage.scope or ()


def _soaked(facts: StageFacts, seen: StageObservation, now: datetime) -> StageFacts:
    if not seen.is_running:
        return replace(facts, ready_since=None)
    if seen.is_ready and facts.ready_since is None:
        return replace(facts, ready_since=now)
    return facts
