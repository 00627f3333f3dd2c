"""The checks of an agent's claims: one agent, one environment, one volume and one pod for each.

A claim that two pods use would carry what one of them writes to the other, past both guards.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from interlock.api.agent import Agent, AgentSpec
from interlock.api.agent_reasons import AgentReason
from interlock.api.claims import ClaimVolume
from interlock.api.policy import AgentPolicy
from interlock.api.refusals import Refusal

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ClaimUse:
    """What an Agent has to do with claims of its namespace.

    Attributes:
        agent: Its name.
        created_at: When it was created.
        named: The claims that its spec names.
        held: The claims that its status announces: those that it uses, and has used and still names.
        used: The claims that its pods have, or that its Deployments start pods with.
        is_refused: No policy lets it run as it is, so what it names keeps no claim from others.
    """

    agent: str
    created_at: datetime = LONG_AGO
    named: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    is_refused: bool = False

    @property
    def age(self) -> tuple[datetime, str]:
        """What orders Agents from the oldest one."""
        return self.created_at, self.agent


@dataclass(frozen=True)
class Claims:
    """The claims of a namespace, as far as they concern one Agent.

    Attributes:
        own: Its own use.
        others: That of the other Agents which name or hold one of its claims.
        running: The claims of its revisions that run, by environment.
    """

    own: ClaimUse = ClaimUse("")
    others: Sequence[ClaimUse] = ()
    running: Mapping[str, frozenset[str]] = field(default_factory=dict)


def claim_volumes(spec: AgentSpec) -> dict[str, ClaimVolume]:
    """Return the volumes of an Agent that are claims, by name."""
    found = ((one.name, one.persistent_volume_claim) for one in spec.template.volumes)
    return {name: volume for name, volume in found if volume is not None}


def claim_names(spec: AgentSpec) -> frozenset[str]:
    """Return the names of the claims of an Agent in all environments."""
    return frozenset(one.claim_name for volume in claim_volumes(spec).values() for one in volume.claims)


def claims_in(spec: AgentSpec, environment: str) -> frozenset[str]:
    """Return the names of the claims that an Agent uses in an environment."""
    found = (volume.name_in(environment) for volume in claim_volumes(spec).values())
    return frozenset(name for name in found if name is not None)


def check_claims(agent: Agent, policy: AgentPolicy, claims: Claims) -> Refusal | None:
    """Return why the agent may not use its claims, or None.

    Args:
        agent: The Agent.
        policy: Its policy.
        claims: The claims of its namespace.
    """
    volumes = claim_volumes(agent.spec)
    if not volumes:
        return None
    for reason, sentences in (
        (AgentReason.CLAIM_MISSING, _missing(agent, volumes)),
        (AgentReason.CLAIM_NOT_SEPARATE, _not_separate(agent, policy, volumes)),
        (AgentReason.CLAIM_SHARED, (*_used_twice(agent, volumes), *_used_by_others(volumes, claims))),
    ):
        found = list(dict.fromkeys(sentences))
        if found:
            return Refusal(reason, "; ".join(found))
    return None


def _missing(agent: Agent, volumes: Mapping[str, ClaimVolume]) -> Iterator[str]:
    for stage in agent.spec.stages:
        for name, volume in volumes.items():
            if volume.name_in(stage.environment) is None:
                yield (
                    f"volume {name} has no claim for environment {stage.environment} of stage {stage.name}: "
                    "add one to spec.template.volumes[].persistentVolumeClaim.claims"
                )


def _not_separate(agent: Agent, policy: AgentPolicy, volumes: Mapping[str, ClaimVolume]) -> Iterator[str]:
    for stage in agent.spec.stages:
        if policy.spec.isolation_in(stage.environment) != "Separate":
            yield (
                f"volumes {', '.join(volumes)} are claims, and agent and guard share a pod in environment "
                f"{stage.environment}: a claim needs isolation Separate, see spec.environments of AgentPolicy "
                f"{policy.metadata.name}"
            )


def _used_twice(agent: Agent, volumes: Mapping[str, ClaimVolume]) -> Iterator[str]:
    environments = Counter(stage.environment for stage in agent.spec.stages)
    for environment, count in environments.items():
        if count > 1:
            named = " and ".join(stage.name for stage in agent.spec.stages if stage.environment == environment)
            yield (
                f"stages {named} have one environment, {environment}, and would share its claims: "
                "an agent with claims has one stage for each environment"
            )
    uses = [(one.claim_name, name, one.environment) for name, volume in volumes.items() for one in volume.claims]
    for claim, count in Counter(claim for claim, _, _ in uses).items():
        if count > 1:
            places = (f"volume {name} in environment {where}" for found, name, where in uses if found == claim)
            yield f"claim {claim} is named more than once: {' and '.join(places)}"


def _used_by_others(volumes: Mapping[str, ClaimVolume], claims: Claims) -> Iterator[str]:
    for name, volume in volumes.items():
        for one in volume.claims:
            yield from _used_elsewhere(one.claim_name, one.environment, name, claims.running)
            yield from _had_by_others(one.claim_name, name, claims)


def _used_elsewhere(claim: str, environment: str, volume: str, running: Mapping[str, Iterable[str]]) -> Iterator[str]:
    for other, used in running.items():
        if other != environment and claim in used:
            yield (
                f"claim {claim} of volume {volume} is that of environment {environment} now, and a revision that runs "
                f"uses it in environment {other}: name another claim, or wait until that revision is gone"
            )


def _had_by_others(claim: str, volume: str, claims: Claims) -> Iterator[str]:
    for other in claims.others:
        why = _why_other_first(claim, claims.own, other)
        if why:
            yield (
                f"claim {claim} of volume {volume} belongs to Agent {other.agent}, which {why}, and Agent "
                f"{claims.own.agent} names it too: no two agents share a claim"
            )


def _why_other_first(claim: str, own: ClaimUse, other: ClaimUse) -> str:
    """Return why another Agent has a claim and this one does not; empty if this one may have it.

    An Agent announces its claims in its status, and starts pods with them once it sees that no other one has done so.
    Of two that announce a claim at the same time, at least one sees the announcement of the other, since both are in
    one cache. So pods of one of them at most have the claim. An example, in which the older one comes too late:

        older announces             younger announces
        older sees both, withdraws  younger sees only its own, starts pods
        older is refused            younger uses the claim, and keeps it
    """
    is_older = other.age < own.age
    if claim in own.used:  # both use it: there was no announcement, such as before an upgrade
        return "uses it" if claim in other.used and is_older else ""
    if claim in other.held | other.used:
        return "uses it" if claim in other.used else "has used it, or is about to"
    is_named = claim in other.named and not other.is_refused
    return "is older" if is_named and is_older and claim not in own.held else ""
