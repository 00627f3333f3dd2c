"""The pure part of one Agent's reconcile: check the layers, decide the stage, plan the children, build the status."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from interlock.api.agent import Agent, Stage
from interlock.api.environments import class_of_name
from interlock.api.policy import AgentPolicy
from interlock.api.status import AgentStatus
from interlock.deployment.children.services import addresses_of
from interlock.deployment.name_collisions import without_collisions
from interlock.deployment.names import (
    ChildKey,
    Manifest,
    guard_service,
    key_of,
    placement_digest,
    placement_name,
    workload_names,
)
from interlock.deployment.observed.enforcement import Enforcement, enforcement_of
from interlock.deployment.observed.readiness import Readiness, readiness_of_all
from interlock.deployment.placement import Placement, bound_sources
from interlock.deployment.plan import WORKLOAD, WritePlan, desired_children, plan_children
from interlock.deployment.revision import Revision, revision_of
from interlock.governance.budgets import LedgerIdentity
from interlock.orchestration.orchestrated import PassedTime, hold_before
from interlock.orchestration.soak import PodEnds, StageFacts, StageObservation, decide_stage, position
from interlock.reconcile.agent_budget import BudgetReport, report_budget
from interlock.reconcile.agent_report import AgentReport, Progress
from interlock.reconcile.agent_status import build_status, grace_ends_at
from interlock.reconcile.layers import check_layers, killed_by
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.agent_key import derive_agent_key
from interlock_contract.bundle import BUNDLE_KEY, MAX_BUNDLE_DIGESTS, digest

SECRET_INTERVAL = timedelta(seconds=30)
"""How long pods that do not start wait until their agent's Secret is created again."""


@dataclass(frozen=True)
class ReconcileResult:
    """What has to be done, in this order: the announcement, the plan, the status, the Events.

    Attributes:
        plan: Writes to children.
        status: The status to write once the plan has been carried out. What its writes leave is to be added.
        announced: The digests of the bundles that guards obey while the plan is carried out: the new one and the live
            one. The status names the new one before its ConfigMap is written, so that no guard closes in between.
        managed: The keys of all objects that must exist.
        requeue_at: When the passing of time alone may change the result, None where it cannot.
        missing_ledgers: The ledgers that must be created before a pod may start. Until then the plan has no new pod.
    """

    plan: WritePlan
    status: AgentStatus
    announced: tuple[str, ...] = ()
    managed: frozenset[ChildKey] = frozenset()
    requeue_at: datetime | None = None
    missing_ledgers: tuple[LedgerIdentity, ...] = ()


def reconcile(snapshot: Snapshot, now: datetime) -> ReconcileResult:
    """Return what has to be done so that the agent runs as its spec says, or does not run at all.

    Args:
        snapshot: The snapshot.
        now: The time.
    """
    agent = snapshot.agent
    killed = killed_by(snapshot)
    revision = revision_of(agent, snapshot.policy)
    current = position(agent.spec.stages, _recorded_facts(agent), revision.digest)
    verdict = check_layers(snapshot, current)
    if verdict.layer is not None or snapshot.policy is None:
        plan = plan_children((), snapshot.children, snapshot.applied)
        grace_end = None if verdict.refusal is None else grace_ends_at(agent, verdict.refusal, now)
        return ReconcileResult(plan, build_status(AgentReport(snapshot, verdict, killed), now), requeue_at=grace_end)
    progress = _progress_of(snapshot, revision, now, current=current, is_killed=killed is not None)
    environment = progress.decision.facts.stage.environment
    budget = report_budget(snapshot, snapshot.policy, environment, now)
    placement = _placement_of(snapshot, snapshot.policy, progress, budget, is_killed=killed is not None)
    desired = desired_children(placement)
    is_secret_due, secret_due_at = _secret_due(snapshot, placement, progress, now)
    plan = plan_children(
        desired,
        snapshot.children,
        snapshot.applied,
        starts_pods=snapshot.starts_pods and not budget.missing,
        creates_secrets=is_secret_due,
    )
    report = AgentReport(
        snapshot, verdict, killed, progress, plan, _enforcement(snapshot, desired), placement.collisions, budget
    )
    status = build_status(report, now)
    managed = frozenset(key_of(manifest) for manifest in desired)
    digests = tuple(digest(text) for text in _bundles(desired))
    recorded = record_applied(managed, snapshot.applied, {})
    status = status.model_copy(update={"bundle_digests": digests, "managed_objects": recorded})
    announced = _announced(snapshot, digests) if any(_bundles(plan.prepare)) else digests
    times = [time for time in (progress.decision.next_at, secret_due_at, budget.requeue_at) if time is not None]
    return ReconcileResult(
        plan, status, announced, managed, requeue_at=min(times, default=None), missing_ledgers=budget.missing
    )


def _secret_due(
    snapshot: Snapshot, placement: Placement, progress: Progress, now: datetime
) -> tuple[bool, datetime | None]:
    """Return whether the agent's Secret must be created once more, and when the next time is.

    The operator does not read Secrets, so it cannot see that others have deleted one. Then no pod starts. So while the
    agent is not Ready, the Secret is created again and again. The API server refuses that where the Secret exists.
    """
    if placement.replicas == 0 or progress.readiness.is_ready:
        return False, None
    created = snapshot.secret_created_at
    is_due = created is None or not timedelta() <= now - created < SECRET_INTERVAL
    return is_due, (now if created is None or is_due else created) + SECRET_INTERVAL


def _bundles(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Return the text of each bundle among some manifests."""
    return tuple(manifest["data"][BUNDLE_KEY] for manifest in manifests if BUNDLE_KEY in (manifest.get("data") or {}))


def _announced(snapshot: Snapshot, digests: tuple[str, ...]) -> tuple[str, ...]:
    """Return the digests of the new bundle and of the live ones, as far as the status has named these before."""
    named = snapshot.agent.status.bundle_digests if snapshot.agent.status else ()
    live = (digest(text) for text in _bundles(child.manifest for child in snapshot.children.values()))
    kept = sorted({one for one in live if one in named and one not in digests})
    return (*digests, *kept)[:MAX_BUNDLE_DIGESTS]


def _recorded_facts(agent: Agent) -> StageFacts | None:
    """Return the facts about the stage that the status records."""
    stage = agent.status.stage if agent.status else None
    if stage is None:
        return None
    try:
        recorded = Stage(name=stage.name, environment=stage.environment, scope=stage.scope or None)
    except ValidationError:
        return None  # no stage of a spec may have this name: the rollout starts from the beginning
    return StageFacts(
        stage=recorded,
        revision=stage.revision,
        entered_at=stage.entered_at,
        ready_since=stage.ready_since,
        soaked=timedelta(seconds=stage.soaked_seconds),
        restarts=stage.restarts,
        counted=tuple(PodEnds(one.uid, one.restarts) for one in stage.restarted_pods),
        restarted_at=stage.soak_restarted_at,
        passed=PassedTime(
            staging=timedelta(seconds=stage.passed_staging_seconds),
            limited=timedelta(seconds=stage.passed_limited_seconds),
        ),
    )


def _progress_of(
    snapshot: Snapshot, revision: Revision, now: datetime, *, current: int | None, is_killed: bool
) -> Progress:
    """Return the progress of the rollout now. All layers must be satisfied."""
    agent = snapshot.agent
    facts = _recorded_facts(agent)
    readiness = _recorded_readiness(snapshot, facts)
    held = None
    if current is not None and facts is not None and snapshot.policy is not None:
        held = hold_before(agent, snapshot.policy, current, facts.passed)
        if not snapshot.starts_pods:  # the next stage has pods of its own, and those of this one go
            held = current + 1, "no new pod starts while the kill controller is away"
    decision = decide_stage(
        agent.spec.stages,
        facts,
        _observe(snapshot, facts, readiness, now, revision=revision.digest, is_killed=is_killed),
        now,
        hold_before=held[0] if held else None,
        class_of=class_of_name if snapshot.policy is None else snapshot.policy.spec.class_of,
    )
    return Progress(decision, readiness, revision, held[1] if held and decision.is_held else "")


def _observe(
    snapshot: Snapshot, facts: StageFacts | None, readiness: Readiness, now: datetime, *, revision: str, is_killed: bool
) -> StageObservation:
    """Return what is seen of the recorded stage: its Deployments say whether it is Ready, and its pods since when."""
    spec = snapshot.agent.spec
    seen = StageObservation(revision, is_running=not is_killed and spec.replicas > 0)
    if facts is None or snapshot.policy is None or not seen.is_running:
        return seen
    stage, pods = facts.stage, snapshot.pods
    isolation = snapshot.policy.spec.isolation_in(stage.environment)
    wanted = min(readiness.wanted, spec.replicas) or spec.replicas
    since = pods.ready_since(stage.name, facts.revision, isolation, wanted) if readiness.is_ready else None
    broken_at = None
    if facts.ready_since is not None:
        until = pods.ready_until(stage.name, facts.revision, facts.ready_since, wanted, now)
        # Once more pods are wanted, fewer of them go back so far: the time until now is added first.
        is_scaled = readiness.wanted != spec.replicas
        broken_at = until if since is None or until < now or is_scaled else None
    return replace(
        seen,
        ready_since=since,
        broken_at=broken_at,
        pods=tuple(PodEnds(one.uid, one.ends, one.is_last_lost) for one in pods.of(stage.name, facts.revision)),
        max_restarts=spec.rollout.max_restarts if spec.rollout else 0,
    )


def _recorded_readiness(snapshot: Snapshot, facts: StageFacts | None) -> Readiness:
    if facts is None or snapshot.policy is None:
        return Readiness()
    collisions = _recorded_collisions(snapshot.agent, facts) or 0
    name = placement_name(snapshot.agent.metadata, facts.stage.name, facts.revision, collisions)
    isolation = snapshot.policy.spec.isolation_in(facts.stage.environment)
    found = (snapshot.children.get(ChildKey(WORKLOAD, one)) for one in workload_names(name, isolation))
    return readiness_of_all(child.manifest if child else None for child in found)


def _recorded_collisions(agent: Agent, facts: StageFacts) -> int | None:
    """Return the collision count of the stage's placement, None where the status records another placement."""
    stage = agent.status.stage if agent.status else None
    if stage is None or (stage.name, stage.revision) != (facts.stage.name, facts.revision):
        return None
    return stage.collision_count


def _placement_of(
    snapshot: Snapshot, policy: AgentPolicy, progress: Progress, budget: BudgetReport, *, is_killed: bool
) -> Placement:
    """Return the placement that must run. Only a new one gets names: those of a recorded one stay."""
    agent = snapshot.agent
    facts = progress.decision.facts
    placement = Placement(
        agent=agent,
        policy=policy,
        stage=facts.stage,
        revision=facts.revision,
        sources=bound_sources(agent, snapshot.bindings, facts.stage.environment),
        replicas=0 if is_killed or budget.is_stopped else agent.spec.replicas,
        guard_image=snapshot.guard_image,
        audit_url=snapshot.audit_url,
        api_server=snapshot.api_server,
        budget=budget.budget,
        prices=snapshot.spending.prices,
        agent_key=derive_agent_key(
            snapshot.operator_key, placement_digest(agent.metadata, facts.stage.name, facts.revision)
        ),
    )
    collisions = _recorded_collisions(agent, facts)
    if collisions is None:
        placement = without_collisions(placement, snapshot.children)
    else:
        placement = replace(placement, collisions=collisions)
    service = snapshot.children.get(ChildKey("Service", guard_service(placement)))
    return replace(placement, guard_addresses=addresses_of(service.manifest if service else None))


def _enforcement(snapshot: Snapshot, desired: tuple[Manifest, ...]) -> Enforcement | None:
    """Return the self-tests of the guards for exactly the bundle that is desired now."""
    bundle = next((manifest for manifest in desired if BUNDLE_KEY in manifest.get("data", {})), None)
    if bundle is None:
        return None
    lease = snapshot.children.get(ChildKey("Lease", bundle["metadata"]["name"]))
    return enforcement_of(lease.manifest if lease else None, digest(bundle["data"][BUNDLE_KEY]))
