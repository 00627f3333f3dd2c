"""The pure part of one Agent's reconcile: check the layers, decide the stage, plan the children, build the status."""

from dataclasses import dataclass, replace
from datetime import datetime

from interlock.api.status import AgentStatus
from interlock.deployment.children.services import addresses_of
from interlock.deployment.names import ChildKey, Manifest, guard_service
from interlock.deployment.observed.enforcement import Enforcement, enforcement_of
from interlock.deployment.placement import Placement, bound_sources, revision_of
from interlock.deployment.plan import WritePlan, desired_children, plan_children
from interlock.orchestration.rollout import position
from interlock.reconcile.agent_status import AgentReport, build_status
from interlock.reconcile.assessment import Progress, check_layers, progress_of, recorded_facts
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.bundle import BUNDLE_KEY, digest
from interlock_contract.kill import KillLatch, observe


@dataclass(frozen=True)
class ReconcileResult:
    """What has to be done, in this order: the plan, then the status, then the Events.

    Attributes:
        plan: Writes to children.
        status: The status to write once the plan has been carried out.
        requeue_at: When the passing of time alone may change the result, None where it cannot.
    """

    plan: WritePlan
    status: AgentStatus
    requeue_at: datetime | None = None


def reconcile(snapshot: Snapshot, now: datetime) -> ReconcileResult:
    """Return what has to be done so that the agent runs as its spec says, or does not run at all.

    Args:
        snapshot: The snapshot.
        now: The time.
    """
    agent = snapshot.agent
    killed = snapshot.kill_seen
    if killed is None:
        recorded = {"kill": agent.status.kill.to_kubernetes()} if agent.status and agent.status.kill else {}
        killed = observe(KillLatch(), agent.metadata.annotations, recorded).message
    revision = revision_of(agent.spec)
    current = position(agent.spec.stages, recorded_facts(agent), revision)
    verdict = check_layers(snapshot, current)
    if verdict.layer is not None:
        plan = plan_children((), snapshot.children)
        return ReconcileResult(plan, build_status(AgentReport(snapshot, verdict, killed), now))
    progress = progress_of(snapshot, revision, now, current=current, is_killed=killed is not None)
    desired = _desired(snapshot, progress, is_killed=killed is not None)
    plan = plan_children(desired, snapshot.children)
    report = AgentReport(snapshot, verdict, killed, progress, plan, _enforcement(snapshot, desired))
    status = build_status(report, now)
    return ReconcileResult(plan, status, requeue_at=progress.decision.next_at)


def _desired(snapshot: Snapshot, progress: Progress, *, is_killed: bool) -> tuple[Manifest, ...]:
    agent, policy = snapshot.agent, snapshot.policy
    if policy is None:  # refused before: an agent without a policy has no children
        return ()
    facts = progress.decision.facts
    placement = Placement(
        agent=agent,
        policy=policy,
        stage=facts.stage,
        revision=facts.revision,
        sources=bound_sources(agent, snapshot.bindings, facts.stage.environment),
        replicas=0 if is_killed else agent.spec.replicas,
        guard_image=snapshot.guard_image,
        audit_url=snapshot.audit_url,
        api_server=snapshot.api_server,
    )
    service = snapshot.children.get(ChildKey("Service", guard_service(placement)))
    addresses = addresses_of(service.manifest if service else None)
    return desired_children(replace(placement, guard_addresses=addresses))


def _enforcement(snapshot: Snapshot, desired: tuple[Manifest, ...]) -> Enforcement | None:
    """Return the self-tests of the guards for exactly the bundle that is desired now."""
    bundle = next((manifest for manifest in desired if BUNDLE_KEY in manifest.get("data", {})), None)
    if bundle is None:
        return None
    lease = snapshot.children.get(ChildKey("Lease", bundle["metadata"]["name"]))
    return enforcement_of(lease.manifest if lease else None, digest(bundle["data"][BUNDLE_KEY]))
