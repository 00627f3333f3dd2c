"""Who holds which claim: what pods and Deployments say, and the sentence about a placement that waits for others."""

from collections.abc import Iterable, Iterator, Mapping

from interlock.api.agent import AgentSpec
from interlock.api.claims import MAX_CLAIMS
from interlock.deployment.names import AGENT_POD, ChildKey, Manifest, revision_label
from interlock.deployment.observed.pod_reports import AgentPods, mounted_claims
from interlock.deployment.plan import WORKLOAD, LiveChild
from interlock.orchestration.claim_checks import claim_names
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import HeldClaims, PlacementKey, RevisionRef
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.names import APP_COMPONENT_LABEL, REVISION_LABEL, STAGE_LABEL

_MOST_NAMED = 3
"""Most placements, and most claims, that a sentence names."""
_NO_PODS = AgentPods()


def claim_holders(snapshot: Snapshot, recorded: Iterable[PlacementKey]) -> Mapping[PlacementKey, HeldClaims]:
    """Return the placements that hold claims.

    A pod holds its claims until it is gone. A Deployment holds them while it asks for pods, and until its controller
    has seen that it asks for none and has none left: it might still create one.

    Args:
        snapshot: The snapshot.
        recorded: The recorded placements. Any other one has a key with its revision as in labels, which is shorter.
    """
    known = {(key.stage, revision_label(key.revision)): key for key in recorded}
    found: dict[PlacementKey, HeldClaims] = {}
    for stage, revision, claims, is_asking in (*_of_deployments(snapshot.children), *_of_pods(snapshot)):
        key = known.get((stage, revision), PlacementKey(stage, revision))
        before = found.get(key, HeldClaims(frozenset(), is_asking=False))
        found[key] = HeldClaims(before.claims | claims, before.is_asking or is_asking)
    return found


def used_claims(children: Mapping[ChildKey, LiveChild], pods: AgentPods = _NO_PODS) -> frozenset[str]:
    """Return the claims that pods of an Agent have, or that its Deployments start pods with.

    A Deployment that asks for no pods is none of them, so that one which only waits uses nothing.

    Args:
        children: The objects of the Agent.
        pods: Its pods.
    """
    asking = (claims for _, _, claims, is_asking in _of_deployments(children) if is_asking)
    return frozenset[str]().union(*asking, *(one.claims for one in (*pods.reports, *pods.ending)))


_Held = tuple[str, str, frozenset[str], bool]
"""Stage, revision as in labels, claims, and whether a Deployment asks for pods."""


def _of_deployments(children: Mapping[ChildKey, LiveChild]) -> Iterator[_Held]:
    for key, child in children.items():
        manifest = child.manifest
        labels = manifest["metadata"].get("labels") or {}
        if key.kind != WORKLOAD or labels.get(APP_COMPONENT_LABEL) != AGENT_POD:
            continue
        claims = mounted_claims(manifest["spec"].get("template", {}).get("spec", {}))
        if claims and _may_have_pods(manifest):
            is_asking = manifest["spec"].get("replicas", 1) > 0
            yield labels.get(STAGE_LABEL, ""), labels.get(REVISION_LABEL, ""), claims, is_asking


def _may_have_pods(deployment: Manifest) -> bool:
    status = deployment.get("status") or {}
    is_seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return deployment["spec"].get("replicas", 1) > 0 or not is_seen or status.get("replicas", 0) > 0


def _of_pods(snapshot: Snapshot) -> Iterator[_Held]:
    for one in (*snapshot.pods.reports, *snapshot.pods.ending):
        if one.claims:
            yield one.group.stage, one.group.revision, one.claims, False


def claims_to_keep(
    placements: Iterable[frozenset[str]], earlier: frozenset[str], holders: Iterable[frozenset[str]]
) -> tuple[str, ...]:
    """Return the claims to record, so that no other agent gets them: at most `MAX_CLAIMS`.

    Those of placements always have room, and those of earlier ones go before others. A claim beyond them is only that
    of a pod which is ending. For its end the next pod waits in any case, whosever it is, since the operator asks the
    API server before it starts one.

    Args:
        placements: The claims of each placement.
        earlier: The claims that the agent keeps besides, see `earlier_claims`.
        holders: The claims of each placement, also earlier ones, that pods and Deployments hold.
    """
    used = frozenset[str]().union(*placements)
    ending = frozenset[str]().union(*holders) - used - earlier
    ordered = [*sorted(used), *sorted(earlier - used), *sorted(ending)]
    return tuple(sorted(ordered[:MAX_CLAIMS]))


def earlier_claims(snapshot: Snapshot, recorded: Iterable[str], revisions: Iterable[AgentSpec]) -> frozenset[str]:
    """Return the claims that an agent has announced and does not lose while it has no placement that uses them.

    Its files would be those of the next agent that names the claim. So it keeps a claim that its spec, or a revision to
    which it may return, still names: while it is refused or aborted, or between two rollouts through an environment. An
    Agent that is being deleted keeps none, and neither does one that another agent was faster than.

    Args:
        snapshot: The snapshot.
        recorded: The claims that its status announces.
        revisions: The Agent as of its newest and of its last good revision.
    """
    agent = snapshot.agent
    if agent.metadata.deletion_timestamp is not None:
        return frozenset()
    announced = frozenset(recorded).difference(*((one.held | one.used) for one in snapshot.claims_of_others))
    if any(one.kind == "Agent" for one in snapshot.unreadable):  # what it names is not known
        return announced
    return announced & frozenset(name for spec in (agent.spec, *revisions) for name in claim_names(spec))


def describe_wait(one: DesiredPlacement, claims: Iterable[str], refs: Iterable[RevisionRef]) -> str:
    """Return what a placement waits for, for one of its claims; empty if it waits for nothing.

    An example: `it waits for the pods of revision 3-84c7482aa0 to end, because both use claim files`.

    Args:
        one: The placement.
        claims: The claims that it uses.
        refs: The revisions that are recorded.
    """
    if one.is_announcing:
        return f"{_list_claims(claims)} is announced in the status before a pod uses it"
    if not one.waits_for:
        return ""
    names = {revision_label(ref.digest): ref.name for ref in sorted(refs)}
    listed = _list_claims(claims)
    others = [key for key in one.waits_for if key != one.key]
    if not others:
        return f"it waits for its own earlier pods to end, because they use {listed}"
    found = dict.fromkeys(names.get(revision_label(key.revision), key.revision[:10]) for key in others)
    named = " and ".join(list(found)[:_MOST_NAMED])
    return f"it waits for the pods of revision {named} to end, because both use {listed}"


def _list_claims(claims: Iterable[str]) -> str:
    return " and ".join(f"claim {claim}" for claim in sorted(claims)[:_MOST_NAMED])
