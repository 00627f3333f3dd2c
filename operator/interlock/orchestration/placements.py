"""The placements that must exist for the facts of a rollout, and the one that is public."""

from collections.abc import Iterator, Sequence

from interlock.orchestration.claims import hold_for_claims
from interlock.orchestration.rollout_context import Context
from interlock.orchestration.rollout_decision import DesiredPlacement, RolloutInvariantError
from interlock.orchestration.rollout_state import PlacementKey, RolloutFacts
from interlock.orchestration.scopes import EVERYTHING, partition_violations


def placements_of(facts: RolloutFacts, context: Context) -> tuple[DesiredPlacement, ...]:
    """Return the placements that must exist: the newest one, the good one, and those on their way out.

    Of those that use the same claim, one alone has pods.

    Raises:
        RolloutInvariantError: They do not share the work without overlaps and gaps.
    """
    placements = (*_newest(facts, context), *_good(facts, context), *_leaving(facts, context))
    class_of = context.rules.class_of
    violations = partition_violations(placements, class_of(context.last.environment), class_of)
    if violations:
        raise RolloutInvariantError("; ".join(violations))
    return hold_for_claims(placements, context)


def public_placement(placements: Sequence[DesiredPlacement], context: Context) -> PlacementKey | None:
    """Return the placement that has the agent's public address.

    It serves the rest of the served class: what names no value. Before there is one, it is the newest that serves a
    part of that class, then the newest that serves at all, then the newest.
    """
    shared = [one for one in placements if one.is_serving and context.is_shared(one.stage)]
    candidates = (
        *(one for one in shared if not one.stage.scope),
        *shared,
        *(one for one in placements if one.is_serving),
        *placements,
    )
    return candidates[0].key if candidates else None


def _newest(facts: RolloutFacts, context: Context) -> Iterator[DesiredPlacement]:
    if facts.newest is None or facts.stage is None or not context.runs(facts) or context.is_in_good(facts):
        return
    is_serving = facts.serving_since is not None
    yield DesiredPlacement(
        facts.newest,
        facts.stage.stage,
        is_serving,
        excluded=() if is_serving else EVERYTHING,
        replicas=_replicas(context),
    )


def _good(facts: RolloutFacts, context: Context) -> Iterator[DesiredPlacement]:
    good = facts.good
    if good is None or context.is_complete(facts) or not context.runs_good(facts):
        return
    is_serving = good.serving_since is not None
    excluded = context.exclusions(facts, good.key, good.stage) if is_serving else EVERYTHING
    yield DesiredPlacement(good.ref, good.stage, is_serving, excluded, replicas=_replicas(context))


def _leaving(facts: RolloutFacts, context: Context) -> Iterator[DesiredPlacement]:
    for one in facts.leaving:
        is_serving = one.draining_since is None
        excluded = context.exclusions(facts, one.key, one.stage) if is_serving else one.excluded
        yield DesiredPlacement(
            one.ref, one.stage, is_serving, excluded, is_draining=not is_serving, replicas=_replicas(context)
        )


def _replicas(context: Context) -> int | None:
    return None if context.seen.is_running else 0
