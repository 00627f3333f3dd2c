"""What a rollout believes of recorded facts. A status may have been edited, or written by another clock.

Whatever is not believed never gives a revision more scope or a shorter soak:

* Times ahead of the clock count as now. A soak is no longer than the time since its stage was entered.
* A number that was given is never given again, also if the recorded last number went back.
* A stage of another revision, or with no revision, is none. The revision then starts again in the first stage.
* A good revision that is not among those that passed, or that serves more than it did as the good one, is not good. The
  last one that passed with the work of today's last stage takes its place, and serves once it is Ready.
* A stop of another revision than the newest is none.
* A placement on its way out that serves must be in one of today's stages, or have passed. Otherwise it drains.
"""

from dataclasses import replace
from datetime import timedelta

from interlock.orchestration.rollout_context import Context
from interlock.orchestration.rollout_state import (
    GoodRevision,
    LeavingPlacement,
    PassedRevision,
    RolloutFacts,
)
from interlock.orchestration.scopes import has_served, has_served_once
from interlock.orchestration.soak import MOST_AHEAD, StageFacts

_UNIT = timedelta(seconds=1)


def believe(facts: RolloutFacts, context: Context) -> RolloutFacts:
    """Return the facts that can be true."""
    passed = _passed(facts, context)
    facts = replace(facts, passed=passed, last_number=_last_number(facts))
    good = _good(facts, context)
    facts = _newest(replace(facts, good=good), context)
    leaving = {one.key: _leaving(one, facts, context) for one in reversed(facts.leaving)}
    return replace(facts, leaving=tuple(reversed(leaving.values())))


def _last_number(facts: RolloutFacts) -> int:
    refs = [*facts.passed_refs, *(one.ref for one in facts.leaving)]
    refs += [facts.newest] if facts.newest else []
    refs += [one.ref for one in (facts.good, facts.stopped) if one is not None]
    return max(0, facts.last_number, *(ref.number for ref in refs))


def _passed(facts: RolloutFacts, context: Context) -> tuple[PassedRevision, ...]:
    """Each content once, as its last run."""
    by_digest: dict[str, PassedRevision] = {}
    for one in facts.passed:
        by_digest.pop(one.ref.digest, None)
        by_digest[one.ref.digest] = one
    return tuple(by_digest.values())[-max(1, context.rules.history) :]


def _good(facts: RolloutFacts, context: Context) -> GoodRevision | None:
    good = facts.good
    known = {one.ref: one for one in facts.passed}
    if good is not None and good.ref in known and has_served_once(known[good.ref], good.stage):
        return replace(good, since=min(good.since, context.now))
    fitting = [one.ref for one in facts.passed if has_served(one, context.last, context.rules.class_of)]
    return GoodRevision(fitting[-1], context.last, context.now) if fitting else None


def _newest(facts: RolloutFacts, context: Context) -> RolloutFacts:
    newest, good = facts.newest, facts.good
    if newest is not None and good is not None and newest.number == good.ref.number and newest != good.ref:
        newest = None  # two runs cannot have one number
    stopped = facts.stopped if facts.stopped is not None and facts.stopped.ref == newest else None
    stage = facts.stage
    if newest is None or stopped is not None or (stage is not None and stage.revision != newest.digest):
        stage = None
    return replace(
        facts,
        newest=newest,
        stopped=stopped,
        stage=None if stage is None else _stage(stage, context),
        serving_since=None if stage is None else facts.serving_since,
        approved=() if stage is None else facts.approved,
    )


def _stage(stage: StageFacts, context: Context) -> StageFacts:
    now = context.now
    entered_at = now if stage.entered_at - now > MOST_AHEAD else stage.entered_at
    ready_since = None if stage.ready_since is None else max(stage.ready_since, entered_at)
    soaked_until = now if ready_since is None else min(ready_since, now)
    most = max(timedelta(), soaked_until - entered_at) // _UNIT * _UNIT
    return replace(stage, entered_at=entered_at, soaked=min(stage.soaked, most), ready_since=ready_since)


def _leaving(one: LeavingPlacement, facts: RolloutFacts, context: Context) -> LeavingPlacement:
    if one.draining_since is not None:
        return replace(one, draining_since=min(one.draining_since, context.now))
    return one if context.is_entered_by_right(one, facts) else replace(one, draining_since=context.now)
