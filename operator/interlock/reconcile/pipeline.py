"""One look at one agent: ask the layers, decide the stage, plan the children, tell the truth."""

from dataclasses import replace
from datetime import datetime

from interlock.deployment.child import ChildKey, Manifest
from interlock.deployment.enforcement import Enforcement, enforcement_of
from interlock.deployment.guard_service import addresses_of
from interlock.deployment.names import guard_service
from interlock.deployment.placement import Placement, bound_sources
from interlock.deployment.plan import desired_children, plan_children
from interlock.deployment.revision import revision_of
from interlock.governance.killswitch import kill_reason
from interlock.orchestration.rollout import position
from interlock.reconcile.outcome import Outcome
from interlock.reconcile.progress import Progress, progress_of, recorded_facts
from interlock.reconcile.status import Report, build_status
from interlock.reconcile.verdict import judge
from interlock.reconcile.world import World
from interlock_guard.bundle.document import BUNDLE_KEY, digest


def reconcile(world: World, now: datetime) -> Outcome:
    """Return what has to be done so that the agent is as its spec wants it, or is not at all.

    Args:
        world: The snapshot.
        now: The time.
    """
    agent = world.agent
    killed = world.kill_seen
    if killed is None:
        killed = kill_reason(agent.metadata.annotations, agent.status.kill if agent.status else None)
    revision = revision_of(agent.spec)
    current = position(agent.spec.stages, recorded_facts(agent), revision)
    verdict = judge(world, current)
    if verdict.layer is not None:
        plan = plan_children((), world.children)
        return Outcome(plan, build_status(Report(world, verdict, killed), now))
    progress = progress_of(world, revision, now, current=current, is_killed=killed is not None)
    desired = _desired(world, progress, is_killed=killed is not None)
    plan = plan_children(desired, world.children)
    report = Report(world, verdict, killed, progress, plan, _enforcement(world, desired))
    status = build_status(report, now)
    return Outcome(plan, status, look_again_at=progress.decision.next_at)


def _desired(world: World, progress: Progress, *, is_killed: bool) -> tuple[Manifest, ...]:
    agent, policy = world.agent, world.policy
    if policy is None:  # judged before: an agent without a policy wants nothing
        return ()
    facts = progress.decision.facts
    placement = Placement(
        agent=agent,
        policy=policy,
        stage=facts.stage,
        revision=facts.revision,
        sources=bound_sources(agent, world.bindings, facts.stage.environment),
        replicas=0 if is_killed else agent.spec.replicas,
        guard_image=world.guard_image,
        records_url=world.records_url,
        api_server=world.api_server,
    )
    service = world.children.get(ChildKey("Service", guard_service(placement)))
    addresses = addresses_of(service.manifest if service else None)
    return desired_children(replace(placement, guard_addresses=addresses))


def _enforcement(world: World, desired: tuple[Manifest, ...]) -> Enforcement | None:
    """Return what the guards say of the very bundle that is wanted now."""
    bundle = next((manifest for manifest in desired if BUNDLE_KEY in manifest.get("data", {})), None)
    if bundle is None:
        return None
    lease = world.children.get(ChildKey("Lease", bundle["metadata"]["name"]))
    return enforcement_of(lease.manifest if lease else None, digest(bundle["data"][BUNDLE_KEY]))
