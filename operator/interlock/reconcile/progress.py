"""Between the recorded status and the rollout's facts: which stage holds now."""

from dataclasses import dataclass
from datetime import datetime

from interlock.api.agent import Agent, Stage
from interlock.api.status import StageStatus
from interlock.deployment.child import ChildKey
from interlock.deployment.names import placement_name, workload_names
from interlock.deployment.plan import WORKLOAD
from interlock.deployment.readiness import Readiness, readiness_of_all
from interlock.orchestration.gates import hold_before
from interlock.orchestration.rollout import Observation, StageDecision, StageFacts, decide_stage
from interlock.reconcile.world import World


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


def progress_of(world: World, revision: str, now: datetime, *, current: int | None, is_killed: bool) -> Progress:
    """Return where the agent is now. To be asked only once all layers hold."""
    agent = world.agent
    facts = recorded_facts(agent)
    readiness = _recorded_readiness(world, facts)
    held = None
    if current is not None and world.policy is not None:
        held = hold_before(agent, world.policy, current)
    decision = decide_stage(
        agent.spec.stages,
        facts,
        Observation(revision, is_running=not is_killed and agent.spec.replicas > 0, is_ready=readiness.is_ready),
        now,
        hold_before=held[0] if held else None,
    )
    return Progress(decision, readiness, held[1] if held and decision.is_held else "")


def _recorded_readiness(world: World, facts: StageFacts | None) -> Readiness:
    if facts is None or world.policy is None:
        return Readiness()
    name = placement_name(world.agent.metadata.name, facts.stage.name, facts.revision)
    isolation = world.policy.spec.environments.isolation_in(facts.stage.environment)
    found = (world.children.get(ChildKey(WORKLOAD, one)) for one in workload_names(name, isolation))
    return readiness_of_all(child.manifest if child else None for child in found)
