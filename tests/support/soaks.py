"""The way of one revision through its stages, as tests of the soak walk it: each stage replaces the one before it.

The product decides this for several revisions side by side, with gates and approvals (`decide_rollout`). The soak and
the entering of a stage are the same.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.api.environments import ClassOf, class_of_name
from interlock.orchestration.soak import StageFacts, StageObservation, enter, position, soak, without_soak


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
    class_of: ClassOf = class_of_name,
) -> StageDecision:
    """Return the current stage.

    A stage ends when its placement was Ready for its minimum duration, and is Ready still; one call enters one stage at
    most. The time in which it was not Ready does not count. A new revision, or a stage that is no longer what was
    entered, starts again at the first. The soak starts again from zero when the agent does not run, or when its
    container ended by itself too often.

    Args:
        stages: The stages in order, at least one.
        facts: What was recorded, None for a new agent.
        seen: What is seen now.
        now: The time by the API server's clock. If that goes back, a soak only becomes longer. Times far ahead of it,
            which another clock has written, do not count.
        hold_before: Index of a stage that must not be entered.
        class_of: The classes of environments under the agent's policy.
    """
    index = position(stages, facts, seen.revision)
    if facts is None or index is None:
        return StageDecision(0, StageFacts(stages[0], seen.revision, now))
    following = index + 1
    facts = replace(facts, stage=stages[index])
    if following == len(stages):  # nothing is left to soak for
        return StageDecision(index, without_soak(facts, seen, now))
    soaked = soak(facts, seen, now)
    if not soaked.is_over:
        return StageDecision(index, soaked.facts, next_at=soaked.due_at)
    if hold_before is not None and following >= hold_before:
        return StageDecision(index, soaked.facts, is_held=True)
    return StageDecision(following, enter(stages[following], soaked.facts, now, class_of))
