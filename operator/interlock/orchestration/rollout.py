"""The rollout of an agent: which revisions run in which stages, and which of them serves what.

A pure function of the stages, the recorded facts, what is seen now and the time. All that it remembers is in the facts
that it returns.
"""

from dataclasses import replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.orchestration.command_effects import apply_commands, begin, start, stop
from interlock.orchestration.hand_over import hand_over
from interlock.orchestration.placements import placements_of, public_placement
from interlock.orchestration.rollout_belief import believe
from interlock.orchestration.rollout_context import Context
from interlock.orchestration.rollout_decision import RolloutDecision, RolloutProgress
from interlock.orchestration.rollout_events import rollout_events
from interlock.orchestration.rollout_state import (
    RolloutCommands,
    RolloutFacts,
    RolloutObservation,
    RolloutRules,
)
from interlock.orchestration.stage_progress import advance, progress_of


def decide_rollout(
    stages: tuple[Stage, ...],
    facts: RolloutFacts,
    seen: RolloutObservation,
    now: datetime,
    *,
    commands: RolloutCommands,
    rules: RolloutRules,
) -> RolloutDecision:
    """Return what must run, and what to remember.

    One call enters one stage at most. The same call with the facts that it returned changes nothing more, unless
    something else is due.

    Args:
        stages: The stages of today's spec in order, at least one.
        facts: What was recorded.
        seen: What is seen now.
        now: The time.
        commands: The commands that stand on the Agent.
        rules: What spec and policy say about the rollout.

    Raises:
        RolloutInvariantError: The placements would not share the work without overlaps and gaps.
    """
    context = Context(stages, seen, now, commands, rules)
    believed = believe(facts, context)
    commanded, void = apply_commands(believed, context)
    described, waiting = _describe(commanded, context)
    handed = hand_over(described, context)
    if described.newest == believed.newest and believed.stage is not None:
        after, progress = advance(handed, context)
        stopped = after.stopped
        if stopped is not None and described.stopped is None:  # a revision that is breached takes nothing over
            after = stop(described, stopped.why, context, message=stopped.message)
    else:  # its first stage was entered in this call, if any
        after, progress = handed, progress_of(handed, context)
    after = hand_over(after, context)
    if after.stopped is not None:
        progress = progress_of(after, context)
    placements = placements_of(after, context)
    return RolloutDecision(
        after,
        placements,
        public_placement(placements, context),
        replace(progress, waiting=waiting),
        _next_at(after, progress, context),
        rollout_events(facts, believed, commanded, after, void, context),
        void,
    )


def _describe(facts: RolloutFacts, context: Context) -> tuple[RolloutFacts, str]:
    """Return the facts with the revision that is described today, and why that one waits, empty if it does not."""
    wanted, newest = context.seen.wanted, facts.newest
    if wanted is None:
        return facts, ""
    if newest is None or newest.digest != wanted:
        waiting = context.seen.may_number or context.seen.may_start
        return (facts, waiting) if waiting else (begin(facts, wanted, context), "")
    if facts.stopped is not None:
        return facts, ""
    if facts.stage is None:
        return start(facts, context), ""
    if context.index_of(facts) is not None:
        return facts, ""
    waiting = context.seen.may_number
    return (facts, waiting) if waiting else (begin(facts, wanted, context), "")


def _next_at(facts: RolloutFacts, progress: RolloutProgress, context: Context) -> datetime | None:
    spans = (context.rules.least_drain, context.rules.drain_timeout)
    drains = (one.draining_since + span for one in facts.leaving if one.draining_since for span in spans)
    times = [*drains, *([progress.due_at] if progress.due_at is not None else [])]
    return min((time for time in times if time > context.now), default=None)
