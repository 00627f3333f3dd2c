"""The checks of layer 2, orchestration: readable stages in order, and the policy's minimum times."""

from dataclasses import dataclass, replace
from datetime import timedelta

from interlock.api.agent import Agent, Stage
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import (
    Refusal,
    duration_refusal,
    environment_refusal,
    first_without_scope,
    limited_duration_refusal,
    limited_scope_refusal,
    stage_order_refusals,
    staging_refusal,
    task_scope_refusals,
    unknown_environment_refusals,
)
from interlock.api.shared_types import EnvironmentClass, parse_duration
from interlock.api.status import AgentReason
from interlock.orchestration.gate_limits import gate_refusals


@dataclass(frozen=True)
class PassedTime:
    """How long an agent was Ready in the stages that its revision has passed. Minimums count this time.

    Attributes:
        staging: In stages of staging.
        limited: In stages of production with a scope.
    """

    staging: timedelta = timedelta()
    limited: timedelta = timedelta()

    def and_in(self, stage: Stage, environment_class: EnvironmentClass, span: timedelta) -> "PassedTime":
        """Return the time with that in a stage which has just been passed."""
        if environment_class is EnvironmentClass.STAGING:
            return replace(self, staging=self.staging + span)
        is_limited = environment_class is EnvironmentClass.PRODUCTION and stage.scope
        return replace(self, limited=self.limited + span) if is_limited else self


@dataclass(frozen=True)
class MinimumViolation:
    """A minimum that the stages do not reach.

    Attributes:
        before: Index of the first stage that must not be entered because of it.
        message: The sentence that says so, and what to raise.
    """

    before: int
    message: str


def minimum_violations(
    stages: tuple[Stage, ...], policy: AgentPolicy, *, current: int = 0, passed: PassedTime | None = None
) -> tuple[MinimumViolation, ...]:
    """Return every minimum of the policy that these stages do not reach, in the API server's order.

    The minimums protect production, so they apply only to rollouts with a production stage. Too little staging, or no
    limited scope, forbids all of production. Too little limited scope forbids the first stage without a scope.

    Args:
        stages: The stages in order.
        policy: The policy.
        current: Index of the current stage. Of the stages before it only `passed` counts.
        passed: The time in the stages that were passed.
    """
    class_of = policy.spec.class_of
    production = [
        index for index, stage in enumerate(stages) if class_of(stage.environment) is EnvironmentClass.PRODUCTION
    ]
    if not production:
        return ()
    first = production[0]
    name, spec, passed = policy.metadata.name, policy.spec, passed or PassedTime()
    unlimited = first_without_scope(stages, spec, current=current)
    found = (
        (first, staging_refusal(stages, name, spec, current=current, passed=passed.staging)),
        (first, limited_scope_refusal(stages, name, spec)),
        (
            unlimited if unlimited < len(stages) else first,
            limited_duration_refusal(stages, name, spec, current=current, passed=passed.limited),
        ),
    )
    return tuple(MinimumViolation(before, message) for before, message in found if message is not None)


def stages_to_approve(agent: Agent, policy: AgentPolicy) -> frozenset[str]:
    """Return the names of the stages that are entered only if a promote names them: by the Agent or by its policy."""
    required = policy.spec.rollout.require_approval
    return frozenset(
        stage.name
        for stage in agent.spec.stages
        if stage.approval == "Required" or policy.spec.class_of(stage.environment) in required
    )


DEFAULT_DRAIN_TIMEOUT = timedelta(seconds=30)


def drain_timeout_of(agent: Agent, policy: AgentPolicy) -> timedelta:
    """Return how long pods drain at most: the agent's timeout, or the policy's maximum if that is less."""
    rollout, most = agent.spec.rollout, parse_duration(policy.spec.rollout.max_drain_timeout)
    own = rollout.drain_timeout if rollout is not None else None
    return min(parse_duration(own) if own else DEFAULT_DRAIN_TIMEOUT, most)


def soak_of(stage: Stage) -> timedelta:
    """Return the stage's minimum duration; none is zero."""
    return parse_duration(stage.min_duration) if stage.min_duration else timedelta()


def check_orchestration(agent: Agent, policy: AgentPolicy, current: int | None) -> Refusal | None:
    """Return why the rollout may not start or continue, or None.

    Args:
        agent: The Agent as applied.
        policy: Its policy.
        current: Index of the stage that this revision is in, None before its first. A minimum that was
            raised later applies only to the stages still to come.
    """
    return (
        _check_environments(agent, policy)  # environments that the policy has
        or _check_stages(agent, policy)  # stages that can be read, go one way, and can serve tasks
        or _check_gates(agent, policy)  # gates that the agent can pass, and that are no weaker than the policy's
        or _check_policy(policy)  # minimums that can be read
        or (_check_minimums(agent, policy) if current is None else None)  # and are kept
    )


def hold_before(agent: Agent, policy: AgentPolicy, current: int, passed: PassedTime) -> tuple[int, str] | None:
    """Return the first stage still to come that a minimum forbids to enter, and the sentence that says so."""
    violations = minimum_violations(agent.spec.stages, policy, current=current, passed=passed)
    to_come = [violation for violation in violations if violation.before > current]
    if not to_come:
        return None
    first = min(to_come, key=lambda violation: violation.before)
    return first.before, first.message


def _check_environments(agent: Agent, policy: AgentPolicy) -> Refusal | None:
    sentence = environment_refusal(agent.spec)
    if sentence is not None:
        return Refusal(AgentReason.ENVIRONMENT_INVALID, sentence)
    unknown = unknown_environment_refusals(agent.spec, policy.metadata.name, policy.spec)
    return Refusal(AgentReason.ENVIRONMENT_UNKNOWN, "; ".join(unknown)) if unknown else None


def _check_stages(agent: Agent, policy: AgentPolicy) -> Refusal | None:
    wrong = [*_durations(agent), *stage_order_refusals(agent.spec.stages, policy.spec.class_of)]
    wrong += task_scope_refusals(agent.spec)
    return Refusal(AgentReason.STAGES_INVALID, "; ".join(wrong)) if wrong else None


def _check_gates(agent: Agent, policy: AgentPolicy) -> Refusal | None:
    """Weaker gates never hold, see `find_gates`. The author is told nevertheless."""
    refusals = [
        sentence
        for stage in agent.spec.stages
        for sentence in gate_refusals(
            stage.name,
            stage.gates,
            policy.spec.rollout.gates,
            policy.metadata.name,
            has_tasks=agent.spec.tasks is not None,
        )
    ]
    return Refusal(AgentReason.STAGES_INVALID, "; ".join(refusals)) if refusals else None


def _durations(agent: Agent) -> list[str]:
    given = (stage.min_duration for stage in agent.spec.stages if stage.min_duration is not None)
    return [sentence for text in given if (sentence := duration_refusal(text)) is not None]


def _check_policy(policy: AgentPolicy) -> Refusal | None:
    """The admission of an older schema may have let durations in that cannot be read."""
    minimums = policy.spec.rollout
    for text in (minimums.min_staging, minimums.min_limited_scope):
        sentence = duration_refusal(text)
        if sentence is not None:
            return Refusal(AgentReason.POLICY_INVALID, f"AgentPolicy {policy.metadata.name}: spec.rollout: {sentence}")
    return None


def _check_minimums(agent: Agent, policy: AgentPolicy) -> Refusal | None:
    found = minimum_violations(agent.spec.stages, policy)
    if not found:
        return None
    return Refusal(AgentReason.MINIMUM_NOT_REACHED, "; ".join(violation.message for violation in found))
