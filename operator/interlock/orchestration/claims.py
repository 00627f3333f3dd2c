"""Which placements may have pods, where several use one claim: the old pod goes first.

A claim is storage that one pod uses at a time. Two revisions in one environment name the same claim, so the pods of the
later one start only once those of the earlier one are gone. An example, in which revision 2 takes over from 1:

    1 serves, has its pod       2 is not there yet
    1 drains, has its pod       2 serves, waits for 1 and has no pod
    its pod ends                2 serves, waits for 1 and has no pod
    -                           2 serves, has its pod

From when 1 drains until 2 is Ready nothing takes new work: that is the gap. What is seen of pods and Deployments alone
decides who waits, so that neither a crash nor an edited status lets two pods use one claim.
"""

from collections.abc import Sequence
from dataclasses import replace

from interlock.orchestration.rollout_context import Context
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import PlacementKey


def hold_for_claims(placements: Sequence[DesiredPlacement], context: Context) -> tuple[DesiredPlacement, ...]:
    """Return the placements. Those have no pods that must wait for the pods of others.

    Of one environment, two that do not drain never use the same claim (`Context.shares_claim`). If placements of two
    environments use it, the one that has pods keeps it. If none has any, the one of the served class gets it.

    Args:
        placements: The placements that must exist.
        context: The input of the decision.
    """
    taken: dict[str, PlacementKey] = {}
    changed: dict[PlacementKey, DesiredPlacement] = {}
    for one in sorted(placements, key=lambda one: (not one.is_draining, not context.is_shared(one.stage))):
        claims = context.claims_of(one)
        if not claims:
            continue
        waits_for = () if one.is_draining else _waits_for(one, claims, taken, context)
        if not one.is_draining and not _is_announced(claims, context):
            changed[one.key] = replace(one, replicas=0, is_without_pods=True, is_announcing=True, waits_for=waits_for)
        elif waits_for or (one.is_draining and not _asks_for_pods(one, context)):
            changed[one.key] = replace(one, replicas=0, is_without_pods=True, waits_for=waits_for)
        else:
            taken |= dict.fromkeys(claims, one.key)
    return tuple(changed.get(one.key, one) for one in placements)


def _waits_for(
    one: DesiredPlacement, claims: frozenset[str], taken: dict[str, PlacementKey], context: Context
) -> tuple[PlacementKey, ...]:
    """Return the placements whose pods must end before one may have any. It may be itself, after a kill."""
    holders = {key for key, held in context.seen.holders.items() if key != one.key and held.claims & claims}
    holders |= {key for claim, key in taken.items() if claim in claims}
    own = context.seen.holders.get(one.key)
    if own is not None and own.claims & claims and not own.is_asking:
        holders.add(one.key)
    return tuple(sorted(holders))


def _is_announced(claims: frozenset[str], context: Context) -> bool:
    """Return True once other agents see that this one has the claims. Before, one of them might start pods with them.

    Claims that pods use already are announced, too: those pods would end otherwise.
    """
    if context.seen.announced is None:
        return True
    used = (held.claims for held in context.seen.holders.values() if held.is_asking)
    return claims <= context.seen.announced.union(*used)


def _asks_for_pods(one: DesiredPlacement, context: Context) -> bool:
    """Return True if the Deployment of a placement asks for pods. One that drains without any needs none."""
    own = context.seen.holders.get(one.key)
    return own is not None and own.is_asking
