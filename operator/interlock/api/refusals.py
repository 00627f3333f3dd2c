"""The reconciler's checks of objects, with the same messages as the API server.

The API server checks the same by the CEL rules next to the fields and by manifests/admission. An admission policy can
be missing, and an object can be older than a rule, so the reconciler checks again.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import islice, pairwise

from interlock.api.agent import AgentSpec, Owner, PolicyRef, Stage
from interlock.api.budget import AgentBudget
from interlock.api.environments import ClassOf, class_of_name
from interlock.api.messages import (
    AGENT_NAME_INVALID,
    BUDGET_RAISED,
    DRAIN_TIMEOUT_RAISED,
    DURATION_INVALID,
    EMAIL,
    ENVIRONMENT_MISSING,
    ENVIRONMENT_TWICE,
    ENVIRONMENT_UNKNOWN,
    LABELS_TOO_MANY,
    LIMITED_SCOPE_REQUIRED,
    MINIMUM_LIMITED_SCOPE,
    MINIMUM_STAGING,
    MODEL_KEY_NOT_ALLOWED,
    MODEL_NOT_ALLOWED,
    MODEL_VARIABLE_TAKEN,
    MODEL_VARIABLES,
    MODEL_WITHOUT_PROVIDER,
    NAME,
    OWNER_EMAIL_INVALID,
    OWNER_EMAIL_MISSING,
    OWNER_MISSING,
    OWNER_NAME_MISSING,
    OWNER_ROLE_ADDRESS,
    POLICY_REF_MISSING,
    PURPOSE_MISSING,
    ROLE_ADDRESS,
    ROW_MISSING,
    SCOPE_NARROWER,
    STAGE_RETURNS,
    STAGES_BACKWARDS,
    STAGING_MISSING,
    TASK_DIMENSION_MISSING,
    format_message,
    quoted,
)
from interlock.api.policy import AgentPolicySpec
from interlock.api.shared_types import EnvironmentClass, ObjectMeta, parse_duration
from interlock.api.status import MAX_LABELS, AgentReason

DEFAULT_PROVIDERS = ("openai", "anthropic")
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)
_LONGEST_NAME = 52


def name_refusal(name: str) -> str | None:
    """Return why `name` cannot name an Agent, or None."""
    fits = len(name) <= _LONGEST_NAME and "--" not in name and re.fullmatch(NAME[1:-1], name)
    return None if fits else AGENT_NAME_INVALID.format(name=quoted(name))


def labels_refusal(labels: Mapping[str, str]) -> str | None:
    """Return a message if an Agent has more labels than its status can record, or None."""
    return None if len(labels) <= MAX_LABELS else LABELS_TOO_MANY.format(count=len(labels), most=MAX_LABELS)


def owner_refusal(owner: Owner | None) -> str | None:
    """Return why `owner` is not a person who answers for the agent, or None."""
    if owner is None:
        return OWNER_MISSING
    if not owner.name.strip():
        return OWNER_NAME_MISSING
    if not owner.email:
        return OWNER_EMAIL_MISSING
    if not _matches(EMAIL, owner.email):
        return format_message(OWNER_EMAIL_INVALID, email=quoted(owner.email))
    if re.match(ROLE_ADDRESS, owner.email.lower()):
        return format_message(OWNER_ROLE_ADDRESS, email=quoted(owner.email))
    return None


def purpose_refusal(purpose: str | None) -> str | None:
    """Return a message if the purpose is missing, or None; a blank one says nothing."""
    return None if purpose and purpose.strip() else PURPOSE_MISSING


def policy_ref_refusal(policy_ref: PolicyRef | None) -> str | None:
    """Return a message if the reference to an AgentPolicy is missing, or None."""
    return POLICY_REF_MISSING if policy_ref is None else None


def environment_refusal(spec: AgentSpec) -> str | None:
    """Return a message if not exactly one of `environment` and `rollout` is set, or None."""
    if spec.environment is None and spec.rollout is None:
        return ENVIRONMENT_MISSING
    if spec.environment is not None and spec.rollout is not None:
        return ENVIRONMENT_TWICE
    return None


def duration_refusal(text: str) -> str | None:
    """Return why `text` is not a duration, or None."""
    try:
        parse_duration(text)
    except ValueError:
        return format_message(DURATION_INVALID, text=quoted(text))
    return None


def unknown_environment_refusals(spec: AgentSpec, policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Say which environments of stages and of budgets AgentPolicy `policy` does not have."""
    field = "spec.environment" if spec.rollout is None else "spec.rollout.stages"
    named = [(field, stage.environment) for stage in spec.stages]
    named += [("spec.budget", budget.environment) for budget in spec.budget]
    return [
        format_message(ENVIRONMENT_UNKNOWN, field=field, policy=policy, environment=environment)
        for field, environment in dict.fromkeys(named)
        if requirements.environment(environment) is None
    ]


def budget_refusals(spec: AgentSpec, policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Say which budgets of the agent are above those of AgentPolicy `policy`."""
    limits = [(budget, requirements.environment(budget.environment)) for budget in spec.budget]
    known = [(budget, limit) for budget, limit in limits if limit is not None]
    amounts: list[tuple[str, AgentBudget, str | None, str | None]] = [
        ("dailyBudget", budget, budget.daily_budget, limit.daily_budget) for budget, limit in known
    ]
    amounts += [("monthlyBudget", budget, budget.monthly_budget, limit.monthly_budget) for budget, limit in known]
    return [
        BUDGET_RAISED.format(field=field, amount=amount, environment=own.environment, limit=limit, policy=policy)
        for field, own, amount, limit in amounts
        if amount is not None and limit is not None and Decimal(amount) > Decimal(limit)
    ]


def drain_refusals(spec: AgentSpec, policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Say that the agent's drainTimeout is above that of AgentPolicy `policy`. The operator takes the lower one."""
    timeout, limit = spec.rollout.drain_timeout if spec.rollout else None, requirements.rollout.max_drain_timeout
    if timeout is None or parse_duration(timeout) <= parse_duration(limit):
        return []
    return [DRAIN_TIMEOUT_RAISED.format(timeout=timeout, limit=limit, policy=policy)]


def stage_order_refusals(stages: Sequence[Stage], class_of: ClassOf = class_of_name) -> list[str]:
    """Say which stage goes back, which returns, and which narrows the scope of the one before it: the first of each.

    Args:
        stages: The stages in order.
        class_of: The classes of environments under the agent's policy.
    """
    backwards = (
        STAGES_BACKWARDS.format(stage=later.name, environment=later.environment, earlier=earlier.environment)
        for earlier, later in pairwise(stages)
        if class_of(later.environment).rank < class_of(earlier.environment).rank
    )
    returning = (
        STAGE_RETURNS.format(stage=stage.name, environment=stage.environment)
        for index, stage in enumerate(stages)
        if index > 1
        and stage.environment not in list(EnvironmentClass)
        and stages[index - 1].environment != stage.environment
        and any(earlier.environment == stage.environment for earlier in stages[:index])
    )
    narrower = (
        SCOPE_NARROWER.format(stage=later.name, environment=later.environment)
        for earlier, later in pairwise(stages)
        if later.environment == earlier.environment and _narrows(earlier, later)
    )
    return [sentence for found in (backwards, returning, narrower) if (sentence := next(found, None)) is not None]


def task_scope_refusals(spec: AgentSpec) -> list[str]:
    """Say which dimension of a stage's scope tasks cannot name, the first of all.

    Without `tasks.scope`, a stage serves all tasks that its Service gets.
    """
    if spec.tasks is None or not spec.tasks.scope:
        return []
    named = {entry.dimension for entry in spec.tasks.scope}
    missing = (
        TASK_DIMENSION_MISSING.format(dimension=limit.dimension, stage=stage.name)
        for stage in spec.stages
        for limit in stage.scope or ()
        if limit.dimension not in named
    )
    return list(islice(missing, 1))


def staging_refusal(
    stages: Sequence[Stage],
    policy: str,
    requirements: AgentPolicySpec,
    *,
    current: int = 0,
    passed: timedelta = timedelta(),
) -> str | None:
    """Return a message if stages reach production after less staging than AgentPolicy `policy` requires, or None.

    Args:
        stages: The stages in order.
        policy: The policy's name.
        requirements: Its spec.
        current: Index of the current stage. Durations of the stages before it say nothing: anyone who may edit the
            Agent can change them, or add a stage there.
        passed: How long the agent was Ready in the staging stages that it has passed.
    """
    minimums = requirements.rollout
    required = parse_duration(minimums.min_staging)
    if not required or not _in(stages, EnvironmentClass.PRODUCTION, requirements):
        return None
    if not _in(stages, EnvironmentClass.STAGING, requirements):
        return STAGING_MISSING.format(policy=policy, required=minimums.min_staging)
    actual = passed + _total(_in(stages[current:], EnvironmentClass.STAGING, requirements))
    if actual < required:
        return MINIMUM_STAGING.format(actual=short_duration(actual), policy=policy, required=minimums.min_staging)
    return None


def limited_scope_refusal(stages: Sequence[Stage], policy: str, requirements: AgentPolicySpec) -> str | None:
    """Return a message if production starts without a scope although AgentPolicy `policy` requires one, or None."""
    minimums = requirements.rollout
    production = _in(stages, EnvironmentClass.PRODUCTION, requirements)
    if not minimums.require_limited_scope or not production or production[0].scope is not None:
        return None
    return LIMITED_SCOPE_REQUIRED.format(policy=policy, required=minimums.min_limited_scope)


def limited_duration_refusal(
    stages: Sequence[Stage],
    policy: str,
    requirements: AgentPolicySpec,
    *,
    current: int = 0,
    passed: timedelta = timedelta(),
) -> str | None:
    """Return a message if the scoped production stages are shorter than AgentPolicy `policy` requires, or None.

    Only those before the first one without a scope count: those after it protect nothing.

    The arguments are those of `staging_refusal`, with `passed` of the scoped production stages.
    """
    minimums = requirements.rollout
    end = first_without_scope(stages, requirements, current=current)
    actual = passed + _total(_limited(stages[current:end], requirements))
    if not _limited(stages[:end], requirements) or actual >= parse_duration(minimums.min_limited_scope):
        return None
    return MINIMUM_LIMITED_SCOPE.format(
        actual=short_duration(actual),
        policy=policy,
        required=minimums.min_limited_scope,
    )


def first_without_scope(stages: Sequence[Stage], requirements: AgentPolicySpec, *, current: int = 0) -> int:
    """Return the index of the first production stage without a scope, from the current one on.

    Without one it is the number of stages.
    Environments have scopes of their own, so one with a scope may follow in another environment.
    """
    found = (
        index
        for index, stage in enumerate(stages)
        if index >= current and stage.scope is None and _in([stage], EnvironmentClass.PRODUCTION, requirements)
    )
    return next(found, len(stages))


def minimum_refusals(stages: Sequence[Stage], policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Return a message for each minimum of the policy that the stages do not reach, in the API server's order."""
    checks = (staging_refusal, limited_scope_refusal, limited_duration_refusal)
    return [sentence for check in checks if (sentence := check(stages, policy, requirements)) is not None]


def row_refusals(agent: ObjectMeta, spec: AgentSpec, policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Say for which sources of the agent AgentPolicy `policy` has no row in its matrix."""
    missing = sources_without_row(agent, spec, requirements)
    return [ROW_MISSING.format(policy=policy, agent=agent.name, source=source) for source in missing]


def sources_without_row(agent: ObjectMeta, spec: AgentSpec, requirements: AgentPolicySpec) -> tuple[str, ...]:
    """Return the sources of the agent for which the access matrix has no row."""
    granted = {row.source for row in requirements.data_access if row.applies_to(agent)}
    return tuple(binding.source for binding in spec.bindings if binding.source not in granted)


def short_duration(duration: timedelta) -> str:
    """Return `duration` in the largest unit that leaves no fraction of hours or minutes, such as 48h or 90m."""
    if not duration:
        return "0s"
    for unit, letter in ((_HOUR, "h"), (_MINUTE, "m")):
        if not duration % unit:
            return f"{duration // unit}{letter}"
    return f"{duration.total_seconds():.3f}".rstrip("0").rstrip(".") + "s"


def _matches(pattern: str, text: str) -> bool:
    """Match as RE2 does: `$` is the end of the text, not also a line break before it."""
    return re.fullmatch(pattern.removeprefix("^").removesuffix("$"), text) is not None


def _in(stages: Sequence[Stage], wanted: EnvironmentClass, requirements: AgentPolicySpec) -> list[Stage]:
    return [stage for stage in stages if requirements.class_of(stage.environment) is wanted]


def _limited(stages: Sequence[Stage], requirements: AgentPolicySpec) -> list[Stage]:
    return [stage for stage in _in(stages, EnvironmentClass.PRODUCTION, requirements) if stage.scope is not None]


def _total(stages: Sequence[Stage]) -> timedelta:
    return sum((parse_duration(stage.min_duration or "0s") for stage in stages), timedelta())


def _narrows(earlier: Stage, later: Stage) -> bool:
    if later.scope is None:
        return False
    before = {limit.dimension: set(limit.values) for limit in earlier.scope or ()}
    return not all(limit.dimension in before and before[limit.dimension] <= set(limit.values) for limit in later.scope)


def model_refusals(spec: AgentSpec, policy: str, requirements: AgentPolicySpec) -> list[str]:
    """Return what is wrong with the agent's models under a policy.

    Args:
        spec: The agent's.
        policy: The policy's name.
        requirements: Its spec.
    """
    known = {*DEFAULT_PROVIDERS, *(upstream.name for upstream in requirements.models.urls)}
    found = []
    for use in spec.models:
        if not any(model_matches(use.name, glob) for glob in requirements.models.allow):
            found.append(format_message(MODEL_NOT_ALLOWED, policy=policy, model=use.name))
        elif use.name.partition("/")[0] not in known:
            found.append(format_message(MODEL_WITHOUT_PROVIDER, policy=policy, model=use.name))
    secrets = [(use.name, use.api_key_from.secret_key_ref.name) for use in spec.models]
    found += [
        format_message(MODEL_KEY_NOT_ALLOWED, policy=policy, model=model, secret=secret)
        for model, secret in secrets
        if secret not in requirements.models.secret_names
    ]
    is_taken = spec.models and any(variable.name in MODEL_VARIABLES for variable in spec.template.env)
    return [*found, MODEL_VARIABLE_TAKEN] if is_taken else found


def model_matches(name: str, glob: str) -> bool:
    """Return True if a model matches a glob, in which only a final `*` is special."""
    return name.startswith(glob[:-1]) if glob.endswith("*") else name == glob


@dataclass(frozen=True)
class Refusal:
    """One missing or wrong value, with the way to fix it.

    Attributes:
        reason: The stable word for conditions, Events and metrics.
        message: One sentence: the field, the value and the way out.
        is_pending: Interlock is at work on it, so no user has to change anything yet.
        grace: How long it counts as pending, because a user may be applying the missing object at this moment.
    """

    reason: AgentReason
    message: str
    is_pending: bool = False
    grace: timedelta = timedelta()


APPLY_GRACE = timedelta(seconds=5)
"""The grace of a missing object. Tools apply an Agent, its policy and its bindings one after another, in any order."""
