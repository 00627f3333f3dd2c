"""One look at one agent: ask the layers, decide the stage, plan the children, tell the truth."""

from datetime import datetime

from interlock.deployment.placement import Placement, bound_sources
from interlock.deployment.plan import Plan, desired_children, plan_children
from interlock.deployment.revision import revision_of
from interlock.governance.killswitch import kill_reason
from interlock.orchestration.rollout import position
from interlock.reconcile.outcome import Outcome
from interlock.reconcile.progress import Progress, progress_of, recorded_facts
from interlock.reconcile.status import Report, build_status
from interlock.reconcile.verdict import judge
from interlock.reconcile.world import World


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
    plan = _plan(world, progress, is_killed=killed is not None)
    status = build_status(Report(world, verdict, killed, progress, plan), now)
    return Outcome(plan, status, look_again_at=progress.decision.next_at)


def _plan(world: World, progress: Progress, *, is_killed: bool) -> Plan:
    agent, policy = world.agent, world.policy
    if policy is None:  # judged before: an agent without a policy wants nothing
        return plan_children((), world.children)
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
    )
    return plan_children(desired_children(placement), world.children)
