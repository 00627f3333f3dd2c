"""Scopes of placements, and the check that the placements of a rollout share the work without overlaps and gaps.

A call names values in some dimensions of the work. A scope has it if the call names, in each dimension of the scope,
values of the scope alone. The empty scope has every call.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

from interlock.api.agent import Stage
from interlock.api.environments import ClassOf, class_of_name
from interlock.api.shared_types import EnvironmentClass, ScopeDimension
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import MAX_PLACEMENTS, PassedRevision, Scope
from interlock_contract.canonical_json import canonicalize, digest_of

EVERYTHING: tuple[Scope, ...] = ((),)
"""What a placement excludes that serves nothing yet."""
_WORK_DIGITS = 16


def covers(wide: Scope, narrow: Scope) -> bool:
    """Return True if the first scope has all work of the second one."""
    values = {limit.dimension: set(limit.values) for limit in narrow}
    return all(limit.dimension in values and values[limit.dimension] <= set(limit.values) for limit in wide)


def work_of(stage: Stage, class_of: ClassOf) -> str:
    """Return a digest of what a stage serves: its environment, the class of that, and its scope.

    A policy can give an environment another class, which is other work then. The class is left out where it is that
    of environments of this name, of which nothing else is known.
    """
    scope = {limit.dimension: sorted(limit.values) for limit in stage.scope or ()}
    environment = stage.environment
    classes = [class_of(environment)] if class_of(environment) is not class_of_name(environment) else []
    return digest_of(canonicalize([environment, scope, *classes]))[:_WORK_DIGITS]


def has_served(passed: PassedRevision, stage: Stage, class_of: ClassOf) -> bool:
    """Return True if a revision was good with just the work of a stage, or with all work of its environment."""
    return passed.served in (work_of(stage, class_of), work_of(stage.model_copy(update={"scope": None}), class_of))


def has_served_once(passed: PassedRevision, stage: Stage) -> bool:
    """Return True if a revision was good with that work while the environment had whichever class."""
    return any(has_served(passed, stage, {stage.environment: one}.__getitem__) for one in EnvironmentClass)


def intersection(one: Scope, other: Scope) -> Scope | None:
    """Return the work that both scopes have, None if there is none."""
    limits = {limit.dimension: limit.values for limit in one}
    for limit in other:
        both = tuple(value for value in limits.get(limit.dimension, limit.values) if value in limit.values)
        if not both:
            return None
        limits[limit.dimension] = both
    return tuple(ScopeDimension(dimension=name, values=values) for name, values in limits.items())


def partition_violations(
    placements: Sequence[DesiredPlacement], served: EnvironmentClass, class_of: ClassOf
) -> tuple[str, ...]:
    """Return what is wrong with the placements of a rollout, empty if nothing is.

    Args:
        placements: The placements that must exist.
        served: The served class. Only its placements share work.
        class_of: The classes of environments under the agent's policy.
    """
    shared = [one for one in placements if class_of(one.stage.environment) is served]
    return (
        *_too_many(placements),
        *(f"{one.key} is not serving and excludes less than everything" for one in placements if _is_open(one)),
        *(
            f"{one.key} and {other.key} serve the same work"
            for one, other in combinations((one for one in shared if one.is_serving), 2)
            if _overlaps(one, other)
        ),
        *(
            f"{one.key} excludes what no other placement serves"
            for one in shared
            if one.is_serving and not all(_is_served(scope, one, shared) for scope in one.excluded)
        ),
    )


def _too_many(placements: Sequence[DesiredPlacement]) -> Iterable[str]:
    if len(placements) > MAX_PLACEMENTS:
        yield f"{len(placements)} placements, more than {MAX_PLACEMENTS}"
    if len({one.key for one in placements}) != len(placements):
        yield "two placements have the same stage and revision"


def _is_open(placement: DesiredPlacement) -> bool:
    """A placement that drains takes no new work, and its calls keep the scope that they had."""
    return not placement.is_serving and not placement.is_draining and placement.excluded != EVERYTHING


def _overlaps(one: DesiredPlacement, other: DesiredPlacement) -> bool:
    both = intersection(one.stage.scope or (), other.stage.scope or ())
    return both is not None and not any(covers(scope, both) for scope in (*one.excluded, *other.excluded))


def _is_served(scope: Scope, excluding: DesiredPlacement, placements: Sequence[DesiredPlacement]) -> bool:
    return any(
        other.is_serving and other.key != excluding.key and not other.excluded and (other.stage.scope or ()) == scope
        for other in placements
    )
