"""The message of PromotionPending: how far the soak of the current stage is, and what it waits for."""

from interlock.api.agent import Agent
from interlock.api.shared_types import format_duration
from interlock.api.status import AgentReason
from interlock.orchestration.orchestrated import soak_of
from interlock.orchestration.soak import StageDecision, StageFacts
from interlock_contract.clock import write_time


def pending_promotion(agent: Agent, decision: StageDecision, following: str) -> tuple[AgentReason, str]:
    """Return why the following stage is not entered yet, where no minimum forbids it."""
    facts = decision.facts
    current, needed = facts.stage.name, soak_of(facts.stage)
    if facts.ready_since is not None:
        at = f" at {write_time(decision.next_at, 'seconds')}" if decision.next_at is not None else ""
        message = f"{following} follows{at} if {current} stays Ready, once it was Ready for {format_duration(needed)}"
        found = AgentReason.SOAKING, message
    elif facts.soaked and facts.soaked >= needed:
        found = (
            AgentReason.WAITING_FOR_READY,
            f"the soak is over: {following} follows once {current} is Ready again",
        )
    elif facts.soaked:
        so_far = f"{format_duration(facts.soaked)} of {format_duration(needed)}"
        found = (
            AgentReason.WAITING_FOR_READY,
            f"the soak before {following} is paused at {so_far} until {current} is Ready again",
        )
    else:
        found = AgentReason.WAITING_FOR_READY, f"the soak before {following} starts once Ready"
    reason, message = found
    return reason, f"{message}{_restart_message(agent, facts)}"


def _restart_message(agent: Agent, facts: StageFacts) -> str:
    """Return why the soak started again, empty where it did not."""
    if facts.restarted_at is None:
        return ""
    metadata, rollout = agent.metadata, agent.spec.rollout
    return (
        f"; the soak started again at {write_time(facts.restarted_at, 'seconds')} because the agent's container ended "
        f"by itself more often than spec.rollout.maxRestarts ({rollout.max_restarts if rollout else 0}); "
        f"run: kubectl -n {metadata.namespace} logs -l interlock.dev/agent={metadata.name} -c agent --previous"
    )
