"""Which placement of the agent serves a task, by the values that it names. No I/O.

A task inside of this placement goes to its own agent. Any other goes to the placement that serves it, and a task that
no placement serves as a whole is refused with the placements that serve its values.
"""

from collections.abc import Sequence
from typing import Any, Final

from interlock_contract.bundle import Bundle, BundlePeer, ScopeLimit
from interlock_guard.decision.scope import contains, describe_scope, describe_values
from interlock_guard.tasks.refusals import DRAINING, TaskReason, TaskRefusal, TaskRefused
from interlock_guard.tasks.scope_values import Values

FORWARDED_HEADER: Final = "Interlock-Forwarded"
"""Set by a guard on what it passes on. A request with it is served here or refused, and never passed on again."""
FORWARDED_BY_ID: Final = "task"
"""Value of the header: serve the request only if one of its ids was begun here."""
FORWARDED_BY_SCOPE: Final = "scope"
REFUSED_HEADER: Final = "Interlock-Refused"
"""The reason of a guard's refusal, for another guard. Agents cannot set it, since headers `Interlock-*` are removed."""


def is_draining(bundle: Bundle, pod: str) -> bool:
    """Return True if the guard of a pod is on its way out, with its placement or by a scale-down."""
    return bundle.is_draining or pod in bundle.draining_pods


def choose_placement(bundle: Bundle, values: Values) -> BundlePeer | None:
    """Return the peer that serves a task; None where this placement does.

    No Service leads to a pod that a scale-down has chosen. What still reaches its guard, from nodes that have not
    learned that yet, is served there: no other guard can be asked for it, as the placement serves it itself.

    Args:
        bundle: This placement's bundle.
        values: The values that the task names.

    Raises:
        TaskRefused: No placement takes it now.
    """
    is_inside = _serves(bundle, bundle.scope, bundle.excluded, values)
    if is_inside and not bundle.is_draining:
        return None
    serving = (peer for peer in bundle.peers if not peer.is_draining)
    found = next((peer for peer in serving if _serves(bundle, peer.scope, peer.excluded, values)), None)
    if found is not None:
        return found
    raise TaskRefused(DRAINING if is_inside else explain_refusal(bundle, values))


def explain_refusal(bundle: Bundle, values: Values) -> TaskRefusal:
    """Return what is said of a task that this placement does not serve, with the placements that serve its values.

    Args:
        bundle: This placement's bundle.
        values: The values that the task names.
    """
    placements = [(bundle.stage, bundle.revision, bundle.scope, bundle.excluded)]
    placements += [(one.stage, one.revision, one.scope, one.excluded) for one in bundle.peers if not one.is_draining]
    served: list[dict[str, Any]] = []
    for stage, revision, scope, excluded in placements:
        parts = {
            dimension: [value for value in named if contains_part(scope, excluded, dimension, value)]
            for dimension, named in values.items()
        }
        if any(parts.values()):
            served.append(
                {"stage": stage, "revision": revision, "values": {key: found for key, found in parts.items() if found}}
            )
    named = describe_values(values)
    where = f"Stage {bundle.stage!r} serves {describe_scope(bundle.scope)}"
    if not values:
        return _refuse(f"{where}, and this task names no value of it. Send it to the agent's Service.", served)
    if not served:
        return _refuse(f"No placement of the agent serves {named}.", served)
    whole = next((one for one in bundle.peers if _serves(bundle, one.scope, one.excluded, values)), None)
    if whole is not None:
        return _refuse(f"{where}. This task names {named}, which stage {whole.stage!r} serves. Send it there.", served)
    stages = ", ".join(dict.fromkeys(repr(one["stage"]) for one in served))
    message = (
        f"No placement of the agent serves {named} as a whole, and its values belong to {stages}. "
        "Send one task for the values of each."
    )
    return _refuse(message, served)


def contains_part(
    scope: Sequence[ScopeLimit], excluded: Sequence[Sequence[ScopeLimit]], dimension: str, value: str
) -> bool:
    """Return True if a placement serves work that names one value of a dimension, whatever the others are."""
    is_inside = all(limit.dimension != dimension or value in limit.values for limit in scope)
    is_excluded = any(all(limit.dimension == dimension and value in limit.values for limit in one) for one in excluded)
    return is_inside and not is_excluded


def _serves(
    bundle: Bundle, scope: Sequence[ScopeLimit], excluded: Sequence[Sequence[ScopeLimit]], values: Values
) -> bool:
    # Where the agent does not say how tasks name values, each placement takes the tasks that are sent to its Service.
    limits = scope if bundle.tasks is not None and bundle.tasks.scope else ()
    return contains(limits, excluded, values)


def _refuse(message: str, served_by: list[dict[str, Any]]) -> TaskRefusal:
    return TaskRefusal(421, TaskReason.OUT_OF_SCOPE, message, served_by=tuple(served_by))
