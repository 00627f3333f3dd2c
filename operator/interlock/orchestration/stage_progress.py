"""How the newest revision goes through its stages: soak, gates, approval and pause, one stage in one decision."""

from dataclasses import replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.orchestration.command_effects import is_approved, is_paused, relevant_approvals, stop
from interlock.orchestration.gates import find_baseline
from interlock.orchestration.rollout_context import Context, become_good, leave
from interlock.orchestration.rollout_decision import RolloutProgress, RolloutState
from interlock.orchestration.rollout_state import (
    GateVerdict,
    GoodRevision,
    LeavingPlacement,
    OnBreach,
    RolloutFacts,
    StopReason,
)
from interlock.orchestration.soak import (
    Soak,
    StageFacts,
    StageObservation,
    enter,
    soak,
    without_soak,
)

Hold = tuple[RolloutState, str]
"""What holds the rollout in its stage, and the reason from outside."""

Gates = tuple[GateVerdict, str]
"""The verdict about the current placement, and which gate it comes from."""


def advance(facts: RolloutFacts, context: Context) -> tuple[RolloutFacts, RolloutProgress]:
    """Return the facts after the current stage's soak, and in the next stage if nothing holds them in this one."""
    index = context.index_of(facts)
    if index is None or facts.stage is None:
        return facts, progress_of(facts, context)
    stage = replace(facts.stage, stage=context.stages[index])
    seen = _observation(facts, context)
    if context.is_complete(facts):
        facts = replace(facts, stage=without_soak(stage, seen, context.now))
        return facts, progress_of(facts, context)
    soaked = soak(stage, seen, context.now)
    baseline = find_baseline(stage, soaked.facts, context.of(facts.key).counts)
    was_ready = facts.was_ready or soaked.facts.ready_since is not None
    facts = replace(facts, stage=replace(soaked.facts, baseline=baseline), was_ready=was_ready)
    held = _held(facts, soaked, _gates(facts, context), context)
    if held is None:
        return _go_on(facts, context)
    state, message = held
    if state is RolloutState.BREACHED and context.rules.on_breach is OnBreach.ROLLBACK:
        facts = stop(facts, StopReason.BREACHED, context, message=message)
        return facts, progress_of(facts, context)
    is_timed = not soaked.is_over and state is not RolloutState.AUDIT
    return facts, _holding(facts, context, state, message, soaked.due_at if is_timed else None)


def progress_of(facts: RolloutFacts, context: Context) -> RolloutProgress:
    """Return how far a rollout is in which no stage is judged: it was begun now, waits to begin, or has ended."""
    return _holding(facts, context, _state_of(facts, context), facts.stopped.message if facts.stopped else "", None)


def _state_of(facts: RolloutFacts, context: Context) -> RolloutState:
    good = facts.good
    if facts.stopped is not None:
        is_returning = good is not None and good.serving_since is None and context.runs_good(facts)
        return RolloutState.RETURNING if is_returning else RolloutState.STOPPED
    if facts.newest is None or (context.seen.wanted is None and not context.is_complete(facts)):
        return RolloutState.REFUSED
    if facts.stage is None:
        return RolloutState.PAUSED if is_approved(facts, context, context.stages[0]) else RolloutState.APPROVAL
    if not context.runs(facts):
        return RolloutState.REFUSED
    if not context.seen.is_running:
        return RolloutState.NOT_RUNNING
    return RolloutState.COMPLETE if context.is_complete(facts) else RolloutState.STARTING


def _holding(
    facts: RolloutFacts, context: Context, state: RolloutState, message: str, due_at: datetime | None
) -> RolloutProgress:
    following = context.following(facts)
    return RolloutProgress(
        state,
        context.index_of(facts),
        following,
        due_at,
        message,
        is_paused=is_paused(facts, context, following),
    )


def _observation(facts: RolloutFacts, context: Context) -> StageObservation:
    """A revision that a layer refuses has no pods, so its soak is that of an agent that does not run."""
    placement = context.of(facts.key)
    return StageObservation(
        facts.newest.digest if facts.newest else "",
        is_running=context.seen.is_running and context.runs(facts),
        ready_since=placement.ready_since if placement.is_ready else None,
        broken_at=placement.broken_at,
        pods=placement.pods,
        max_restarts=context.seen.max_restarts,
    )


def _gates(facts: RolloutFacts, context: Context) -> Gates:
    """Return the verdict about the current placement. A missing one is no verdict, unless the stage has no gates."""
    report = context.seen.gates
    if report is not None and report.key == facts.key:
        return report.verdict, report.message
    is_gated = facts.stage is not None and facts.stage.stage.name in context.rules.gated
    return (GateVerdict.NO_VERDICT if is_gated else GateVerdict.PASSED), ""


def _held(facts: RolloutFacts, soaked: Soak, gates: Gates, context: Context) -> Hold | None:
    """Return what holds the rollout in its current stage, the first of all; None if nothing does."""
    return (
        _not_running(facts, context)
        or _breached(facts, gates, context)
        or _not_ready(facts, soaked)
        or _audited(facts, context)
        or _not_soaked(soaked)
        or _not_judged(facts, gates, context)
        or _not_to_enter(facts, context)
    )


def _not_running(facts: RolloutFacts, context: Context) -> Hold | None:
    if not context.runs(facts):
        return RolloutState.REFUSED, ""
    return None if context.seen.is_running else (RolloutState.NOT_RUNNING, "")


def _breached(facts: RolloutFacts, gates: Gates, context: Context) -> Hold | None:
    verdict, message = gates
    if verdict is not GateVerdict.BREACHED:
        return None
    is_overridden = any(one.may_override_gates for one in relevant_approvals(facts, context, context.following(facts)))
    return None if is_overridden else (RolloutState.BREACHED, message)


def _not_ready(facts: RolloutFacts, soaked: Soak) -> Hold | None:
    if soaked.facts.ready_since is not None:
        return None
    return (RolloutState.WAITING_FOR_READY if facts.was_ready else RolloutState.STARTING), ""


def _audited(facts: RolloutFacts, context: Context) -> Hold | None:
    """In mode Audit nothing shows whether the policy permits what the agent does, so no promote goes past it."""
    if facts.stage is None or context.following(facts) is None:
        return None
    environment = facts.stage.stage.environment
    return (RolloutState.AUDIT, environment) if environment in context.rules.audited else None


def _not_soaked(soaked: Soak) -> Hold | None:
    return None if soaked.is_over else (RolloutState.SOAKING, "")


def _not_judged(facts: RolloutFacts, gates: Gates, context: Context) -> Hold | None:
    """A promote goes past a gate that cannot be judged, and never past a minimum that is not reached."""
    verdict, message = gates
    if verdict is GateVerdict.PENDING:
        return RolloutState.GATE_PENDING, message
    if verdict is GateVerdict.NO_VERDICT and not relevant_approvals(facts, context, context.following(facts)):
        return RolloutState.NO_VERDICT, message
    return None


def _not_to_enter(facts: RolloutFacts, context: Context) -> Hold | None:
    """Return what keeps the following stage from being entered, or the last one from being passed."""
    index, following = context.index_of(facts), context.following(facts)
    if following is not None and index is not None and facts.stage is not None:
        forbidden = context.rules.hold_before(index, facts.stage.passed)
        if forbidden is not None and index + 1 >= forbidden[0]:
            return RolloutState.MINIMUM, forbidden[1]
        if context.seen.may_enter:
            return RolloutState.BLOCKED, context.seen.may_enter
        if not is_approved(facts, context, following):
            return RolloutState.APPROVAL, ""
    return (RolloutState.PAUSED, "") if is_paused(facts, context, following) else None


def _go_on(facts: RolloutFacts, context: Context) -> tuple[RolloutFacts, RolloutProgress]:
    following = context.following(facts)
    if following is None:
        facts = _become_good(facts, context)
        return facts, progress_of(facts, context)
    facts = _enter(facts, following, context)
    return facts, _holding(facts, context, RolloutState.ENTERED, "", None)


def _enter(facts: RolloutFacts, following: Stage, context: Context) -> RolloutFacts:
    """Enter the next stage. The placement of this one serves until that of the next one is Ready."""
    if facts.stage is None:
        return facts
    entered = enter(following, facts.stage, context.now, context.rules.class_of)
    names = [stage.name for stage in context.stages]
    to_come = names[names.index(following.name) + 1 :]
    approved = tuple(one for one in facts.approved if one.stage in to_come)
    return replace(leave(facts), stage=entered, approved=approved)


def _become_good(facts: RolloutFacts, context: Context) -> RolloutFacts:
    """Make the newest revision the good one. The one before it drains, for nothing is left for it to serve."""
    if facts.newest is None or facts.stage is None:
        return facts
    old, stage = facts.good, facts.stage
    good = GoodRevision(facts.newest, stage.stage, context.now, facts.serving_since)
    if old is not None and old.serving_since is not None and old.key != good.key:
        facts = replace(facts, leaving=(LeavingPlacement(old.ref, old.stage), *facts.leaving))
    settled = StageFacts(
        stage.stage, stage.revision, stage.entered_at, ready_since=stage.ready_since, passed=stage.passed
    )
    return become_good(replace(facts, stage=settled, approved=()), good, context)
