"""The four layers, asked in order: the first refusal ends the asking."""

from dataclasses import dataclass
from datetime import datetime

from interlock.action.actions_bound import check_action
from interlock.api.agent import Agent, Stage
from interlock.api.refusals import Refusal
from interlock.api.status import AgentReason, ConditionType, StageStatus
from interlock.deployment.names import ChildKey, placement_name, workload_names
from interlock.deployment.observed.readiness import Readiness, readiness_of_all
from interlock.deployment.plan import WORKLOAD
from interlock.governance.governed import check_governance
from interlock.orchestration.orchestrated import check_orchestration, hold_before
from interlock.orchestration.rollout import StageDecision, StageFacts, StageObservation, decide_stage
from interlock.reconcile.snapshot import Snapshot, Unreadable


@dataclass(frozen=True)
class Verdict:
    """Which layer refused, and why; neither where all of them hold."""

    layer: ConditionType | None = None
    refusal: Refusal | None = None


def judge(snapshot: Snapshot, current: int | None) -> Verdict:
    """Ask governance, orchestration and action, in that order.

    Args:
        snapshot: The snapshot.
        current: Index of the stage that this revision has entered, None before its first.
    """
    refusal = (
        _unreadable_agent(snapshot) or _unreadable_policy(snapshot) or check_governance(snapshot.agent, snapshot.policy)
    )
    if refusal is not None or snapshot.policy is None:
        return Verdict(ConditionType.GOVERNED, refusal)
    refusal = check_orchestration(snapshot.agent, snapshot.policy, current)
    if refusal is not None:
        return Verdict(ConditionType.ORCHESTRATED, refusal)
    refusal = _unreadable_binding(snapshot) or check_action(snapshot.agent, snapshot.policy, snapshot.bindings)
    if refusal is not None:
        return Verdict(ConditionType.ACTIONS_BOUND, refusal)
    return Verdict()


def _unreadable_agent(snapshot: Snapshot) -> Refusal | None:
    for problem in snapshot.unreadable:
        if problem.kind == "Agent":
            return Refusal(AgentReason.SPEC_INVALID, f"this Agent cannot be read: {problem.message}; mend it")
    return None


def _unreadable_policy(snapshot: Snapshot) -> Refusal | None:
    named = snapshot.agent.spec.policy_ref.name if snapshot.agent.spec.policy_ref else None
    for problem in snapshot.unreadable:
        if problem.kind == "AgentPolicy" and problem.name == named:
            return Refusal(AgentReason.POLICY_INVALID, _sentence(problem))
    return None


def _unreadable_binding(snapshot: Snapshot) -> Refusal | None:
    """A binding that cannot be read might be the second one of a source: it must be mended or removed first."""
    for problem in snapshot.unreadable:
        if problem.kind == "MCPBinding" and snapshot.agent.spec.bindings:
            return Refusal(AgentReason.BINDING_INVALID, _sentence(problem))
    return None


def _sentence(problem: Unreadable) -> str:
    return f"{problem.kind} {problem.name} cannot be read: {problem.message}; mend it or delete it"


@dataclass(frozen=True)
class Progress:
    """Where an agent is in its rollout.

    Attributes:
        decision: The stage that holds.
        readiness: How far the Deployments of the recorded stage are.
        held_because: The sentence that says why no later stage is entered, empty where none is held.
    """

    decision: StageDecision
    readiness: Readiness
    held_because: str = ""

    @property
    def is_ready(self) -> bool:
        """The stage that holds serves: one that was entered just now cannot."""
        return self.readiness.is_ready and self.decision.facts.ready_since is not None


def recorded_facts(agent: Agent) -> StageFacts | None:
    """Return the facts that the status keeps."""
    stage = agent.status.stage if agent.status else None
    if stage is None:
        return None
    return StageFacts(
        stage=Stage(name=stage.name, environment=stage.environment, scope=stage.scope or None),
        revision=stage.revision,
        entered_at=stage.entered_at,
        ready_since=stage.ready_since,
    )


def to_status(decision: StageDecision) -> StageStatus:
    """Return what the status keeps of a decision."""
    facts = decision.facts
    return StageStatus(
        name=facts.stage.name,
        environment=facts.stage.environment,
        scope=facts.stage.scope or (),
        revision=facts.revision,
        entered_at=facts.entered_at,
        ready_since=facts.ready_since,
        next_at=decision.next_at,
    )


def progress_of(snapshot: Snapshot, revision: str, now: datetime, *, current: int | None, is_killed: bool) -> Progress:
    """Return where the agent is now. To be asked only once all layers hold."""
    agent = snapshot.agent
    facts = recorded_facts(agent)
    readiness = _recorded_readiness(snapshot, facts)
    held = None
    if current is not None and snapshot.policy is not None:
        held = hold_before(agent, snapshot.policy, current)
    decision = decide_stage(
        agent.spec.stages,
        facts,
        StageObservation(revision, is_running=not is_killed and agent.spec.replicas > 0, is_ready=readiness.is_ready),
        now,
        hold_before=held[0] if held else None,
    )
    return Progress(decision, readiness, held[1] if held and decision.is_held else "")


def _recorded_readiness(snapshot: Snapshot, facts: StageFacts | None) -> Readiness:
    if facts is None or snapshot.policy is None:
        return Readiness()
    name = placement_name(snapshot.agent.metadata.name, facts.stage.name, facts.revision)
    isolation = snapshot.policy.spec.environments.isolation_in(facts.stage.environment)
    found = (snapshot.children.get(ChildKey(WORKLOAD, one)) for one in workload_names(name, isolation))
    return readiness_of_all(child.manifest if child else None for child in found)
