"""Who serves: the hand-over of work between the placements of a rollout, and how those that no longer serve end."""

from collections.abc import Collection, Iterator
from dataclasses import replace

from interlock.orchestration.rollout_context import Context, scope_of
from interlock.orchestration.rollout_state import MAX_PLACEMENTS, LeavingPlacement, PlacementKey, RolloutFacts
from interlock.orchestration.scopes import covers, intersection

MAX_LEAVING = MAX_PLACEMENTS - 2
"""Most placements on their way out, next to the newest and the good one."""


def hand_over(facts: RolloutFacts, context: Context) -> RolloutFacts:
    """Return the facts after every hand-over that is due.

    Work goes to another placement once that one is Ready, or immediately if no placement serves it. The one that had it
    drains from then on. An example, in which revision 2 enters its last stage, and revision 1 is good:

        2/region serving    2/everywhere starting    1 serving the rest
        2/region draining   2/everywhere serving     1 draining            2/everywhere is Ready
                            2/everywhere serving                           both are drained

    Before a revision is good, what serves production goes on when another revision follows. It leaves to that one what
    it serves, once it is Ready in a stage of production, and drains when nothing is left.

    Of two that use the same claim, the old one goes first: it drains immediately, and its successor has no pod before
    (`interlock.orchestration.claims`).
    """
    handed = _serve_good(_serve_newest(facts, context), context)
    servers = _servers_of(handed, context)
    leaving = (left for one in handed.leaving if (left := _left(one, handed, facts, servers, context)) is not None)
    # The one that serves is kept before those that drain, of which the newest are kept.
    bounded = sorted(leaving, key=lambda one: one.draining_since is not None)[:MAX_LEAVING]
    return replace(handed, leaving=tuple(bounded))


def _serve_newest(facts: RolloutFacts, context: Context) -> RolloutFacts:
    if not context.runs(facts):
        return replace(facts, serving_since=None)
    if facts.serving_since is not None:
        return facts
    is_same = any(one.key == facts.key for one in _keepers(facts, context))
    if is_same or context.is_ready(facts.key) or not any(_servers_before(facts, context)):
        return replace(facts, serving_since=context.now)
    return facts


def _servers_before(facts: RolloutFacts, context: Context) -> Iterator[bool]:
    """Yield for each placement whether it serves what the newest one is to serve."""
    good = facts.good
    is_shared = facts.stage is not None and context.is_shared(facts.stage.stage)
    if is_shared and good is not None and not context.is_complete(facts):
        yield context.runs_good(facts) and context.is_shared(good.stage)
    yield is_shared and bool(_keepers(facts, context))
    # Where nothing serves production until its pod is Ready, the public address must not lead to one of staging.
    is_gap = is_shared and _displaces(facts, context)
    for one in facts.leaving:
        if not is_gap or context.is_shared(one.stage):
            yield _is_predecessor(one, facts, context) or (is_shared and _holds_rest(one, facts, context))


def _displaces(facts: RolloutFacts, context: Context) -> bool:
    """Return True if others go first, since the newest one uses their claim."""
    others = (*facts.leaving, *((facts.good,) if facts.good is not None else ()))
    return any(context.is_displaced(one, facts) for one in others)


def _serve_good(facts: RolloutFacts, context: Context) -> RolloutFacts:
    good = facts.good
    if good is None:
        return facts
    if context.is_complete(facts):
        return replace(facts, good=replace(good, serving_since=facts.serving_since))
    if not context.runs_good(facts):
        left = LeavingPlacement(good.ref, good.stage)
        leaving = (left, *facts.leaving) if good.serving_since is not None else facts.leaving
        return replace(facts, good=replace(good, serving_since=None), leaving=leaving)
    if good.serving_since is None and (
        context.is_ready(good.key) or not any(_holds_rest(one, facts, context) for one in facts.leaving)
    ):
        return replace(facts, good=replace(good, serving_since=context.now))
    return facts


def _is_predecessor(one: LeavingPlacement, facts: RolloutFacts, context: Context) -> bool:
    """Return True if a placement serves for the newest revision until that is Ready in its current stage."""
    return (
        one.draining_since is None
        and one.ref == facts.newest
        and facts.serving_since is None
        and context.runs(facts)
        and not context.is_displaced(one, facts)
        and context.seen.is_running
    )


def _holds_rest(one: LeavingPlacement, facts: RolloutFacts, context: Context) -> bool:
    """Return True if a placement serves for the good revision until that is Ready."""
    good = facts.good
    return (
        one.draining_since is None
        and good is not None
        and good.serving_since is None
        and context.is_shared(good.stage)
        and context.runs_good(facts)
        and context.may_run(one)
        and context.is_shared(one.stage)
        and covers(scope_of(one.stage), scope_of(good.stage))
        and not context.shares_claim(one, good)
        and context.seen.is_running
    )


def _keepers(facts: RolloutFacts, context: Context) -> tuple[LeavingPlacement, ...]:
    """Return the placements of earlier revisions that serve production as long as no good one can.

    None is good yet, or the good one must go first, since the newest one uses its claim. Of two that have the same
    work, the older one has it: the newer one took it over and goes, as it would if the older one were good. They stay
    while the agent does not run, so that they serve again afterwards.
    """
    good = facts.good
    if good is not None and context.has_successor(facts) and not context.is_displaced(good, facts):
        return ()
    found: list[LeavingPlacement] = []
    for one in reversed(facts.leaving):
        scope = scope_of(one.stage)
        if (
            one.draining_since is None
            and one.ref != facts.newest
            and context.is_shared(one.stage)
            and context.may_run(one)
            and context.is_entered_by_right(one, facts)
            and not context.is_displaced(one, facts)
            and not any(
                context.is_shared(stage) and key != one.key and covers(scope_of(stage), scope)
                for key, stage in context.newest_placements(facts)
            )
            and not any(intersection(scope, scope_of(other.stage)) is not None for other in found)
        ):
            found.append(one)
    return tuple(found)


def _servers_of(facts: RolloutFacts, context: Context) -> tuple[PlacementKey, ...]:
    """Return which placements on their way out serve: one at most for the newest revision, and one for the good one.

    An edited status may name more of them. Before a revision is good, those serve that are kept.
    """
    predecessors = (one.key for one in facts.leaving if _is_predecessor(one, facts, context))
    holders = (one.key for one in facts.leaving if _holds_rest(one, facts, context))
    found = (next(predecessors, None), next(holders, None))
    return (*(key for key in found if key is not None), *(one.key for one in _keepers(facts, context)))


def _left(
    one: LeavingPlacement,
    facts: RolloutFacts,
    before: RolloutFacts,
    servers: Collection[PlacementKey],
    context: Context,
) -> LeavingPlacement | None:
    """Return a placement on its way out as it is now, None once nothing of it is wanted.

    Args:
        one: The placement.
        facts: The facts after the hand-over.
        before: The facts before it.
        servers: The placements on their way out that serve.
        context: All else.
    """
    if not context.may_run(one) or not (context.seen.is_running or one.key in servers):
        return None  # its pods end now
    if (context.runs(facts) and one.key == facts.key) or (
        facts.good is not None and one.key == facts.good.key and context.runs_good(facts)
    ):
        return None  # it is wanted again
    if one.draining_since is None:
        if one.key in servers:
            return one
        one = replace(one, draining_since=context.now, excluded=context.exclusions(before, one.key, one.stage))
    return None if _is_drained(one, context) else one


def _is_drained(one: LeavingPlacement, context: Context) -> bool:
    if one.key not in context.seen.placements or one.draining_since is None:
        return True
    drained_for = context.now - one.draining_since
    if drained_for >= context.rules.drain_timeout:
        return True
    return drained_for >= context.rules.least_drain and context.of(one.key).is_drained
