"""What is seen of an agent's placements: their Deployments say whether they are Ready, their pods since when."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.api.environments import Isolation
from interlock.deployment.names import (
    ChildKey,
    Manifest,
    placement_digest,
    placement_name,
    revision_label,
    workload_names,
)
from interlock.deployment.observed.guard_schemas import SeenSchemas, see_schemas
from interlock.deployment.observed.readiness import Readiness, readiness_of, readiness_of_all
from interlock.deployment.observed.work_counts import counts_of
from interlock.deployment.plan import WORKLOAD
from interlock.deployment.pod_replacement import holds_pods, template_digest
from interlock.orchestration.gates import TestResult
from interlock.orchestration.rollout_state import PlacementKey, PlacementSeen, RolloutObservation
from interlock.orchestration.scale_down import ScalablePod
from interlock.orchestration.soak import PodEnds, StageFacts
from interlock.reconcile.claims import claim_holders
from interlock.reconcile.layers import announced_claims
from interlock.reconcile.revisions import Revisions
from interlock.reconcile.rollout_status import RolloutRecord
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.stage_gates import judge
from interlock_contract.bundle import BUNDLE_KEY, digest
from interlock_contract.drain_report import has_none_leaving, is_drained, read_drains
from interlock_contract.names import PLACEMENT_DIGEST


@dataclass(frozen=True)
class SeenPlacement:
    """A recorded placement that has objects.

    Attributes:
        seen: What the rollout is decided by.
        readiness: The readiness of its Deployments.
        guards: Its pods with a guard.
        agents: The pods of a separate agent; empty where agent and guard share a pod.
        changed: Names of those that run another image than the revision was Ready with.
        unread: Names of those whose images are not known, once a tag of the placement is known to have moved.
        cut_off: Names of pods that its guards refuse for their image by now, and that are not reported any more.
        cut_off_addresses: The same of addresses of a separate agent's pods.
        schemas: The schema of the bundle that its guards read.
    """

    seen: PlacementSeen
    readiness: Readiness
    guards: tuple[ScalablePod, ...] = ()
    agents: tuple[ScalablePod, ...] = ()
    changed: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    cut_off: frozenset[str] = frozenset()
    cut_off_addresses: frozenset[str] = frozenset()
    schemas: SeenSchemas = field(default_factory=SeenSchemas)


def observe(
    snapshot: Snapshot,
    record: RolloutRecord,
    revisions: Revisions,
    now: datetime,
    *,
    is_killed: bool,
    tests: Mapping[str, TestResult],
) -> tuple[RolloutObservation, Mapping[PlacementKey, SeenPlacement]]:
    """Return what is seen of the agent, and of each of its placements.

    Args:
        snapshot: The snapshot.
        record: What the status records.
        revisions: The revisions of the agent.
        now: The time.
        is_killed: Whether the agent is killed.
        tests: The results of the current stage's tests.
    """
    spec = snapshot.agent.spec
    is_running = not is_killed and spec.replicas > 0
    found = {
        key: _see(snapshot, record, revisions, key, stage, now, is_running=is_running)
        for key, stage in _recorded_stages(record).items()
        if _has_objects(snapshot, key)
    }
    current = found.get(record.facts.key) if record.facts.key is not None else None
    observation = RolloutObservation(
        wanted=revisions.wanted,
        is_running=is_running,
        placements={key: one.seen for key, one in found.items()},
        gates=judge(snapshot, record.facts, current.seen.counts, tests) if current is not None else None,
        max_restarts=spec.rollout.max_restarts if spec.rollout else 0,
        may_start=revisions.waiting,
        may_number=snapshot.may_number,
        may_enter="" if snapshot.starts_pods else "no new pod starts while the kill controller is away",
        allowed=revisions.allowed,
        refused=revisions.refused,
        holders=claim_holders(snapshot, _recorded_stages(record)),
        announced=announced_claims(snapshot.agent),
    )
    return observation, found


def _recorded_stages(record: RolloutRecord) -> dict[PlacementKey, Stage]:
    facts = record.facts
    found = {one.key: one.stage for one in facts.leaving}
    if facts.good is not None:
        found[facts.good.key] = facts.good.stage
    if facts.key is not None and facts.stage is not None:
        found[facts.key] = facts.stage.stage
    return found


def _has_objects(snapshot: Snapshot, key: PlacementKey) -> bool:
    wanted = placement_digest(snapshot.agent.metadata, key.stage, key.revision)
    annotations = (child.manifest["metadata"].get("annotations") or {} for child in snapshot.children.values())
    return any(one.get(PLACEMENT_DIGEST) == wanted for one in annotations)


def _see(
    snapshot: Snapshot,
    record: RolloutRecord,
    revisions: Revisions,
    key: PlacementKey,
    stage: Stage,
    now: datetime,
    *,
    is_running: bool,
) -> SeenPlacement:
    name = placement_name(snapshot.agent.metadata, key.stage, key.revision, record.collisions.get(key, 0))
    isolation = _isolation(snapshot, revisions, key, stage)
    found = [snapshot.children.get(ChildKey(WORKLOAD, one)) for one in workload_names(name, isolation)]
    workloads = [child.manifest if child is not None else None for child in found]
    bundle = _bundle_of(snapshot, name)
    guards, agents = _pods(snapshot, key, name, isolation, bundle, workloads)
    changed = frozenset(one.name for one in snapshot.pods.with_other_images(key.stage, key.revision))
    pods_of = (agents, guards) if isolation == "Separate" else (guards,)
    readiness = readiness_of_all([_readiness(*one, changed) for one in zip(workloads, pods_of, strict=True)])
    cut_off, cut_off_addresses = _cut_off(bundle, guards, agents, snapshot.pods.leaving)
    placement = SeenPlacement(
        PlacementSeen(is_drained=True),
        readiness,
        guards,
        agents,
        changed=changed,
        unread=_unread(snapshot, key, bundle),
        cut_off=cut_off,
        cut_off_addresses=cut_off_addresses,
        schemas=see_schemas(snapshot.pods, key.stage, key.revision, found[-1]),
    )
    if not is_running:
        return placement
    pods, wanted = snapshot.pods, _least_pods(snapshot, key.stage, readiness)
    can_be_ready = readiness.is_ready and snapshot.agent.spec.replicas_in(key.stage) > 0
    since = pods.ready_since(key.stage, key.revision, isolation, wanted) if can_be_ready else None
    refused = placement.changed | placement.unread
    seen = PlacementSeen(
        is_ready=since is not None,
        ready_since=since,
        pods=tuple(
            PodEnds(one.uid, one.ends, one.is_last_lost, is_refused=one.name in refused)
            for one in pods.of(key.stage, key.revision)
        ),
        is_drained=not revisions.takes_tasks(snapshot, key.revision)
        or all(one.is_drained for one in guards if one.ready_since),
    )
    facts = record.facts
    if key == facts.key and facts.stage is not None:
        lease = snapshot.children.get(ChildKey("Lease", name))
        counts = counts_of(lease.manifest if lease is not None else None)
        seen = replace(seen, broken_at=_broken_at(snapshot, facts.stage, readiness, since, now), counts=counts)
    return replace(placement, seen=seen)


def _readiness(workload: Manifest | None, pods: tuple[ScalablePod, ...], changed: frozenset[str]) -> Readiness:
    """Return the readiness of a Deployment. Pods that run another image, or that it only holds, do not count."""
    if holds_pods(workload):
        return readiness_of(workload, sum(pod.ready_since is not None and not pod.is_earlier for pod in pods))
    found = readiness_of(workload)
    # Deployments count pods as available that run another image.
    return replace(found, available=max(0, found.available - sum(pod.name in changed for pod in pods)))


def _least_pods(snapshot: Snapshot, stage: str, readiness: Readiness) -> int:
    """Return how many pods prove that a stage was Ready: what spec and Deployments both ask for, and at least one."""
    replicas = snapshot.agent.spec.replicas_in(stage)
    return max(1, min(readiness.wanted, replicas) or replicas)


def _isolation(snapshot: Snapshot, revisions: Revisions, key: PlacementKey, stage: Stage) -> Isolation:
    found = revisions.effective(snapshot, key.revision, stage)
    policy = found.policy if found is not None else snapshot.policy
    return "Separate" if policy is None else policy.spec.isolation_in(stage.environment)


def _broken_at(
    snapshot: Snapshot, facts: StageFacts, readiness: Readiness, since: datetime | None, now: datetime
) -> datetime | None:
    """Return until when the current stage was Ready since the recorded moment, None if it still is."""
    if facts.ready_since is None:
        return None
    wanted = _least_pods(snapshot, facts.stage.name, readiness)
    until = snapshot.pods.ready_until(facts.stage.name, facts.revision, facts.ready_since, wanted, now)
    # Once more pods are wanted, fewer of them go back so far: the time until now is added first.
    is_scaled = readiness.wanted != snapshot.agent.spec.replicas_in(facts.stage.name)
    return until if since is None or until < now or is_scaled else None


def _bundle_of(snapshot: Snapshot, name: str) -> str:
    """Return the bundle that a placement's guards obey now, empty where there is none."""
    found = snapshot.children.get(ChildKey("ConfigMap", name))
    data: Mapping[str, str] = (found.manifest.get("data") or {}) if found is not None else {}
    return data.get(BUNDLE_KEY, "")


def _pods(
    snapshot: Snapshot,
    key: PlacementKey,
    name: str,
    isolation: Isolation,
    bundle: str,
    workloads: Sequence[Manifest | None],
) -> tuple[tuple[ScalablePod, ...], tuple[ScalablePod, ...]]:
    """Return a placement's pods with a guard, and those of its separate agent.

    A guard is drained if it says so about the bundle that it obeys now. A pod of the agent is drained if this bundle
    names it, and each guard that is Ready says that it has no task in such a pod.
    """
    lease = snapshot.children.get(ChildKey("Lease", name))
    reports = read_drains(lease.manifest["metadata"].get("annotations") or {}) if lease is not None else {}
    obeyed = digest(bundle)
    guards = snapshot.pods.guards(key.stage, key.revision, isolation)
    agents = snapshot.pods.separate_agents(key.stage, key.revision, isolation)
    named = _texts_in(bundle, "drainingAddresses") if agents else frozenset()
    is_left = all(has_none_leaving(reports, one.name, obeyed) for one in guards if one.ready_since)
    agent_template, guard_template = (template_digest(one) for one in (workloads[0], workloads[-1]))
    return (
        tuple(
            ScalablePod(
                one.name,
                one.ready_since,
                is_drained(reports, one.name, obeyed),
                one.is_marked,
                is_earlier=guard_template not in ("", one.template),
            )
            for one in guards
        ),
        tuple(
            ScalablePod(
                one.name,
                one.ready_since,
                is_left and named.issuperset(one.addresses),
                one.is_marked,
                one.addresses,
                is_earlier=agent_template not in ("", one.template),
            )
            for one in agents
        ),
    )


def _unread(snapshot: Snapshot, key: PlacementKey, bundle: str) -> frozenset[str]:
    """Return the pods whose images are not known, if a tag of the revision is known to have moved.

    Such a pod may run another image before the kubelet says so. Without a moved tag, its guard is open from the start:
    otherwise each pod would wait for the operator before its first call.
    """
    label = revision_label(key.revision)
    has_moved = any(one.has_other_image and one.group.revision == label for one in snapshot.pods.reports)
    if not has_moved and not _texts_in(bundle, "changedPods") and not _texts_in(bundle, "changedAddresses"):
        return frozenset()
    return frozenset(one.name for one in snapshot.pods.of(key.stage, key.revision) if one.is_image_unknown)


def _cut_off(
    bundle: str, guards: tuple[ScalablePod, ...], agents: tuple[ScalablePod, ...], leaving: frozenset[str] | None
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the pods, and the addresses, that a bundle refuses for another image, of those that are not reported.

    A pod that is being deleted is not reported, and may run for as long as its policy lets pods take to end. So it
    stays refused until it is gone. An address that a reported pod has by now is judged by that pod. Of others it is not
    known which pod had them, so they stay while any pod may still run: later another pod may get them.

    Args:
        bundle: What guards obey now.
        guards: The reported pods with a guard.
        agents: Those of a separate agent.
        leaving: The pods that were deleted and may still run, None where that is not known.
    """
    pods = _texts_in(bundle, "changedPods") - {one.name for one in guards}
    addresses = _texts_in(bundle, "changedAddresses").difference(*(one.addresses for one in agents))
    if leaving is None:
        return pods, addresses
    return pods & leaving, addresses if leaving else frozenset()


def _texts_in(bundle: str, member: str) -> frozenset[str]:
    """Return the texts of a list in a bundle; none where it has no such list."""
    try:
        found = json.loads(bundle) if member in bundle else None
    except ValueError:
        found = None
    listed = found.get(member) if isinstance(found, dict) else None
    return frozenset(one for one in listed if isinstance(one, str)) if isinstance(listed, list) else frozenset()
