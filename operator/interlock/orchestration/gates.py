"""The gates of orchestration, in the order in which they are asked; the first refusal wins."""

from interlock.api.agent import Agent
from interlock.api.agentpolicy import AgentPolicy
from interlock.api.refusal import Refusal
from interlock.api.refusals import duration_refusal, environment_refusal, stage_order_refusals
from interlock.api.status import Reason
from interlock.orchestration.minimums import undercuts


def check_orchestration(agent: Agent, policy: AgentPolicy, current: int | None) -> Refusal | None:
    """Return why the rollout may not begin or go on as it is, or None.

    Args:
        agent: The Agent as applied.
        policy: Its policy.
        current: Index of the stage that this revision is in, None before its first. A minimum that was
            tightened takes nothing away from who has begun: then it only holds the stages still to come.
    """
    return (
        _check_stages(agent)  # stages that can be read, and go one way
        or _check_policy(policy)  # minimums that can be read
        or (_check_minimums(agent, policy) if current is None else None)  # and are kept
    )


def hold_before(agent: Agent, policy: AgentPolicy, current: int) -> tuple[int, str] | None:
    """Return the first stage still to come that a minimum forbids to enter, and the sentence that says so."""
    to_come = [undercut for undercut in undercuts(agent.spec.stages, policy) if undercut.before > current]
    if not to_come:
        return None
    first = min(to_come, key=lambda undercut: undercut.before)
    return first.before, first.message


def _check_stages(agent: Agent) -> Refusal | None:
    sentence = environment_refusal(agent.spec)
    if sentence is not None:
        return Refusal(Reason.ENVIRONMENT_INVALID, sentence)
    wrong = [*_durations(agent), *stage_order_refusals(agent.spec.stages)]
    return Refusal(Reason.STAGES_INVALID, "; ".join(wrong)) if wrong else None


def _durations(agent: Agent) -> list[str]:
    given = (stage.min_duration for stage in agent.spec.stages if stage.min_duration is not None)
    return [sentence for text in given if (sentence := duration_refusal(text)) is not None]


def _check_policy(policy: AgentPolicy) -> Refusal | None:
    """The admission of an older schema may have let durations in that cannot be read."""
    minimums = policy.spec.rollout
    for text in (minimums.min_staging, minimums.min_limited_scope):
        sentence = duration_refusal(text)
        if sentence is not None:
            return Refusal(Reason.POLICY_INVALID, f"AgentPolicy {policy.metadata.name}: spec.rollout: {sentence}")
    return None


def _check_minimums(agent: Agent, policy: AgentPolicy) -> Refusal | None:
    found = undercuts(agent.spec.stages, policy)
    if not found:
        return None
    return Refusal(Reason.MINIMUM_UNDERCUT, "; ".join(undercut.message for undercut in found))
