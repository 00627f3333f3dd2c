"""The assessment of an Agent: the checks of its layers in order, and the progress of its rollout."""

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
    """Which layer refused, and why; neither where all layers are satisfied."""

    layer: ConditionType | None = None
    refusal: Refusal | None = None


def check_layers(snapshot: Snapshot, current: int | None) -> Verdict:
    """Check governance, orchestration and action, in that order; the first refusal is the verdict.

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
            return Refusal(AgentReason.SPEC_INVALID, f"this Agent cannot be read: {problem.message}; fix it")
    return None


def _unreadable_policy(snapshot: Snapshot) -> Refusal | None:
    named = snapshot.agent.spec.policy_ref.name if snapshot.agent.spec.policy_ref else None
    for problem in snapshot.unreadable:
        if problem.kind == "AgentPolicy" and problem.name == named:
            return Refusal(AgentReason.POLICY_INVALID, _unreadable_message(problem))
    return None


def _unreadable_binding(snapshot: Snapshot) -> Refusal | None:
    """A binding that cannot be read might be the second one of a source: it must be fixed or deleted first."""
    for problem in snapshot.unreadable:
        if problem.kind == "MCPBinding" and snapshot.agent.spec.bindings:
            return Refusal(AgentReason.BINDING_INVALID, _unreadable_message(problem))
    return None


def _unreadable_message(problem: Unreadable) -> str:
    return f"{problem.kind} {problem.name} cannot be read: {problem.message}; fix it or delete it"


@dataclass(frozen=True)
class Progress:
    """The progress of a rollout.

    Attributes:
        decision: The current stage.
        readiness: The readiness of the Deployments of the recorded stage.
        held_because: Why no later stage is entered although it is due; empty otherwise.
    """

    decision: StageDecision
    readiness: Readiness
    held_because: str = ""

    @property
    def is_ready(self) -> bool:
        """Return True if the pods of the current stage are ready. Those of a stage that was just entered cannot be."""
        return self.readiness.is_ready and self.decision.facts.ready_since is not None


def recorded_facts(agent: Agent) -> StageFacts | None:
    """Return the facts about the stage that the status records."""
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
    """Return what the status records of a decision."""
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
    """Return the progress of the rollout now. All layers must be satisfied."""
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
