"""The checks of layer 1, governance, in order; the first refusal counts."""

from interlock.api.agent import Agent
from interlock.api.messages import OWNER_EMAIL_MISSING, OWNER_MISSING, OWNER_NAME_MISSING
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import (
    APPLY_GRACE,
    Refusal,
    labels_refusal,
    model_refusals,
    name_refusal,
    owner_refusal,
    policy_ref_refusal,
    purpose_refusal,
    row_refusals,
)
from interlock.api.status import AgentReason
from interlock.governance.budgets import ModelPrices, price_violation
from interlock.governance.pod_features import digest_refusals, template_refusals

_OWNER_MISSING = (OWNER_MISSING, OWNER_NAME_MISSING, OWNER_EMAIL_MISSING)


def check_governance(
    agent: Agent, policy: AgentPolicy | None, prices: ModelPrices | None = None, current: int | None = None
) -> Refusal | None:
    """Return why governance refuses the agent, or None.

    Args:
        agent: The Agent as applied.
        policy: The AgentPolicy that its `policyRef` names, None where there is none.
        prices: The prices of its models, as far as they are known.
        current: Index of the stage that its revision has entered, None before its first.
    """
    return (
        _check_metadata(agent)  # every child's name fits, and its status has room for the labels
        or _check_owner(agent)  # a person answers for it
        or _check_purpose(agent)  # and says what it is for
        or _check_policy(agent, policy)  # under a policy that exists and stays
        or _check_matrix(agent, policy, current or 0)  # which gives it data, source by source
        or _check_models(agent, policy)  # and allows its models, one by one
        or _check_prices(agent, policy, prices or ModelPrices())  # each of which has a price
        or _check_template(agent, policy)  # and what its pods ask for
        or _check_images(agent, policy)  # and its images
    )


def _check_metadata(agent: Agent) -> Refusal | None:
    sentence = name_refusal(agent.metadata.name) or labels_refusal(agent.metadata.labels)
    return None if sentence is None else Refusal(AgentReason.SPEC_INVALID, sentence)


def _check_owner(agent: Agent) -> Refusal | None:
    sentence = owner_refusal(agent.spec.owner)
    if sentence is None:
        return None
    return Refusal(
        AgentReason.OWNER_MISSING if sentence in _OWNER_MISSING else AgentReason.OWNER_NOT_A_PERSON, sentence
    )


def _check_purpose(agent: Agent) -> Refusal | None:
    sentence = purpose_refusal(agent.spec.purpose)
    return None if sentence is None else Refusal(AgentReason.PURPOSE_MISSING, sentence)


def _check_policy(agent: Agent, policy: AgentPolicy | None) -> Refusal | None:
    sentence = policy_ref_refusal(agent.spec.policy_ref)
    if sentence is not None:
        return Refusal(AgentReason.POLICY_REF_MISSING, sentence)
    if policy is None and agent.spec.policy_ref is not None:
        return Refusal(
            AgentReason.POLICY_NOT_FOUND,
            _policy_missing(agent.spec.policy_ref.name, agent.metadata.namespace),
            grace=APPLY_GRACE,
        )
    if policy is not None and policy.metadata.deletion_timestamp is not None:
        name = policy.metadata.name
        message = f"AgentPolicy {name} is being deleted, so it governs no Agent: name another one in spec.policyRef"
        return Refusal(AgentReason.BEING_DELETED, message)
    return None


def _policy_missing(policy: str, namespace: str) -> str:
    return (
        f"spec.policyRef.name {policy!r}: there is no AgentPolicy of this name in namespace {namespace}: "
        "apply it, or name one that kubectl get agentpolicies.interlock.dev shows"
    )


def _check_matrix(agent: Agent, policy: AgentPolicy | None, current: int) -> Refusal | None:
    if policy is None or is_audited(agent, policy, current):
        return None
    missing = row_refusals(agent.metadata, agent.spec, policy.metadata.name, policy.spec)
    return Refusal(AgentReason.DATA_ACCESS_MISSING, "; ".join(missing)) if missing else None


def is_audited(agent: Agent, policy: AgentPolicy, current: int) -> bool:
    """Return True if a stage of the agent is in an environment in mode Audit, which it does not leave by promotion.

    A missing row keeps no pods away there. Guards let calls without a grant pass, or deny each of them.
    """
    stages = agent.spec.stages
    return current < len(stages) and policy.spec.mode_in(stages[current].environment) == "Audit"


def _check_models(agent: Agent, policy: AgentPolicy | None) -> Refusal | None:
    if policy is None:
        return None
    wrong = model_refusals(agent.spec, policy.metadata.name, policy.spec)
    return Refusal(AgentReason.MODEL_NOT_ALLOWED, "; ".join(wrong)) if wrong else None


def _check_prices(agent: Agent, policy: AgentPolicy | None, prices: ModelPrices) -> Refusal | None:
    sentence = None if policy is None else price_violation(agent, policy, prices)
    return None if sentence is None else Refusal(AgentReason.PRICE_MISSING, sentence)


def _check_template(agent: Agent, policy: AgentPolicy | None) -> Refusal | None:
    if policy is None:
        return None
    wrong = template_refusals(agent.spec.template, policy.metadata.name, policy.spec.pod_template)
    return Refusal(AgentReason.TEMPLATE_NOT_ALLOWED, "; ".join(wrong)) if wrong else None


def _check_images(agent: Agent, policy: AgentPolicy | None) -> Refusal | None:
    if policy is None:
        return None
    images = {"spec.template.image": agent.spec.template.image}
    images |= {
        f"spec.rollout.stages: stage {stage.name}: image of test {test.name}": test.image
        for stage in agent.spec.stages
        for test in stage.tests
    }
    wrong = digest_refusals(images, policy.metadata.name, policy.spec.pod_template)
    return Refusal(AgentReason.DIGEST_REQUIRED, "; ".join(wrong)) if wrong else None
