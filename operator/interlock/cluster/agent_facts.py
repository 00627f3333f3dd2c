"""What other objects depend on in an Agent: its policy, sources and claims. The cache keeps it for all Agents."""

from dataclasses import dataclass
from typing import Any

from interlock.api.policy import VIOLATIONS
from interlock.api.status import AgentReason, ConditionType
from interlock.orchestration.claim_checks import LONG_AGO, ClaimUse
from interlock.reconcile.snapshot import held_claims_in, named_claims_in, running_sources_in, sources_in
from interlock_contract.clock import read_time
from interlock_kube.client import Json
from interlock_kube.resource_types import Key


@dataclass(frozen=True, slots=True)
class AgentSummary:
    """What the status of an AgentPolicy depends on in an Agent.

    Attributes:
        policy: The policy that it names.
        generation: Of its spec.
        labels: Its labels, which rows may select it by.
        violation: The reason for which the policy refuses it; empty where it does not.
    """

    policy: Key
    generation: int
    labels: tuple[tuple[str, str], ...]
    violation: str = ""


@dataclass(frozen=True, slots=True)
class AgentUses:
    """What the status of MCPBindings depends on in an Agent.

    Attributes:
        sources: The sources that it uses.
        environments: The environments of its stages.
    """

    sources: frozenset[str] = frozenset()
    environments: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What the status of other objects depends on in an Agent."""

    summary: AgentSummary
    uses: AgentUses
    claims: ClaimUse


def facts_of(raw: Json) -> AgentFacts:
    """Return what other objects depend on in an Agent, as the API server gave it."""
    metadata, spec = raw["metadata"], raw.get("spec")
    policy = spec.get("policyRef") if isinstance(spec, dict) else None
    return AgentFacts(
        AgentSummary(
            policy=(metadata["namespace"], str(policy.get("name", "")) if isinstance(policy, dict) else ""),
            generation=int(metadata.get("generation", 0)),
            labels=tuple(sorted((metadata.get("labels") or {}).items())),
            violation=_violation_in(raw.get("status")),
        ),
        AgentUses(frozenset((*sources_in(raw), *running_sources_in(raw))), _environments_in(spec)),
        ClaimUse(
            metadata["name"],
            read_time(metadata.get("creationTimestamp"), LONG_AGO),
            named=frozenset(named_claims_in(raw)),
            held=frozenset(held_claims_in(raw)),
            is_refused=_is_refused(raw.get("status")),
        ),
    )


def _violation_in(status: Any) -> str:
    """Return the reason for which the policy refuses an Agent, by its stored status, which may have any content."""
    _, reason = _refusing_layer(status)
    return reason if reason in VIOLATIONS else ""


def _is_refused(status: Any) -> bool:
    """Return True if an Agent is refused for another reason than those that end by themselves.

    A refused Agent begins nothing, also without an owner or a policy, and may stay as it is for ever. One that waits
    for its servers, or for the claim of another Agent, keeps its turn. A claim that it has used stays its own in any
    case.
    """
    layer, reason = _refusing_layer(status)
    if layer == ConditionType.ACTIONS_BOUND:
        return reason in VIOLATIONS
    return layer != "" and reason != AgentReason.CLAIM_SHARED


def _refusing_layer(status: Any) -> tuple[str, str]:
    """Return the layer that refuses an Agent, and its reason; both empty where none does."""
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for one in conditions if isinstance(conditions, list) else ():
        if isinstance(one, dict) and one.get("type") in _LAYERS and one.get("status") == "False":
            return str(one.get("type")), str(one.get("reason"))
    return "", ""


_LAYERS = (ConditionType.GOVERNED, ConditionType.ORCHESTRATED, ConditionType.ACTIONS_BOUND)


def _environments_in(spec: Any) -> frozenset[str]:
    if not isinstance(spec, dict):
        return frozenset()
    rollout = spec.get("rollout")
    stages = rollout.get("stages") if isinstance(rollout, dict) else None
    named = [one.get("environment") for one in stages if isinstance(one, dict)] if isinstance(stages, list) else []
    return frozenset(one for one in (spec.get("environment"), *named) if isinstance(one, str))
