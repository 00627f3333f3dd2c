"""The policy's minimum times: what a rollout may not undercut, and which stage it may not enter until it does not."""

from dataclasses import dataclass
from datetime import timedelta

from interlock.api.agent import Stage
from interlock.api.agentpolicy import AgentPolicy
from interlock.api.duration import parse_duration
from interlock.api.refusals import limited_duration_refusal, limited_scope_refusal, staging_refusal
from interlock.api.scope import Environment


@dataclass(frozen=True)
class Undercut:
    """A minimum that the stages do not reach.

    Attributes:
        before: Index of the first stage that must not be entered because of it.
        message: The sentence that says so, and what to raise.
    """

    before: int
    message: str


def undercuts(stages: tuple[Stage, ...], policy: AgentPolicy) -> tuple[Undercut, ...]:
    """Return every minimum of the policy that these stages undercut, in the API server's order.

    A stage of production is what the minimums guard, so without one there is nothing to undercut. Too little
    staging, or no limited scope, forbids all of production; too little limited scope forbids the first stage
    without one.
    """
    production = [index for index, stage in enumerate(stages) if stage.environment is Environment.PRODUCTION]
    if not production:
        return ()
    first = production[0]
    unlimited = next((index for index in production if not stages[index].scope), first)
    name, minimums = policy.metadata.name, policy.spec.rollout
    found = (
        (first, staging_refusal(stages, name, minimums)),
        (first, limited_scope_refusal(stages, name, minimums)),
        (unlimited, limited_duration_refusal(stages, name, minimums)),
    )
    return tuple(Undercut(before, message) for before, message in found if message is not None)


def soak_of(stage: Stage) -> timedelta:
    """Return the stage's minimum duration; none is zero."""
    return parse_duration(stage.min_duration) if stage.min_duration else timedelta()
