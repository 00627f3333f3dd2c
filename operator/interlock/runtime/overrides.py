"""The override of an Agent, in one of its ledgers alone: given or refused once, as the API server vouches for it.

The annotation is one that anyone with the right to patch Agents could write. An admission policy checks who may set
it, and that its author is named. Only administrators of the cluster can add or remove that policy, so the operator asks
for it before an override becomes money.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.cluster.event_poster import EventPoster
from interlock.cluster.ledger_store import LedgerStore
from interlock.governance.budget_override import OVERRIDE_POLICY, OverrideDecision, decide_override, identify_override
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock_contract.budget.ledger import Credit, LedgerInvalid
from interlock_kube.installed_policies import InstalledPolicies
from interlock_kube.resource_types import Key

RETRY_SECONDS: Final = 10.0
"""When an override is decided on again for which the admission policy, or another ledger, could not be read."""


@dataclass(frozen=True)
class CreditDecision:
    """What becomes of the credit of one ledger.

    Attributes:
        credit: The credit that it must have.
        may_withdraw: Whether one that is not this is taken back.
        retry_seconds: When to decide again, None where only an event is a reason.
    """

    credit: Credit | None = None
    may_withdraw: bool = True
    retry_seconds: float | None = None


_LATER: Final = CreditDecision(may_withdraw=False, retry_seconds=RETRY_SECONDS)


class Overrides:
    """Decides on overrides.

    Args:
        store: The ledgers.
        policies: Tells whether admission policies are installed.
        events: Posts Events.
    """

    def __init__(self, store: LedgerStore, policies: InstalledPolicies, events: EventPoster) -> None:
        self._store, self._policies, self._events = store, policies, events
        self._refused: dict[Key, str] = {}
        """The override whose refusal was posted last, by Agent."""

    async def decide(
        self, key: Key, environment: str, agent: Agent | None, policy: AgentPolicy | None, now: datetime
    ) -> CreditDecision:
        """Return what becomes of the credit of a ledger.

        Args:
            key: The ledger.
            environment: The environment that it counts.
            agent: Its Agent, None for a total or where the Agent is not known.
            policy: The policy of the Agent.
            now: The time.
        """
        if agent is None or policy is None:
            return CreditDecision(may_withdraw=False)
        identity = identify_override(agent)
        known, is_certain = ({}, True) if identity is None else self._find_credits(agent, identity)
        if not known and not is_certain:
            return _LATER
        is_here = key in known if known else environment == _current_environment(agent)
        if identity is None or not is_here:
            return CreditDecision()
        recorded = known.get(key)
        if recorded is not None and not recorded.amount:  # refused for ever
            return CreditDecision(recorded)
        is_vouched = recorded is not None or await self._policies.find_validating(OVERRIDE_POLICY)
        if is_vouched is None:
            return _LATER
        return self._report(agent, identity, decide_override(agent, policy, now, is_vouched=is_vouched))

    def forget(self, agent: Key) -> None:
        """Forget an Agent that exists no longer."""
        self._refused.pop(agent, None)

    def _report(self, agent: Agent, identity: str, decision: OverrideDecision | None) -> CreditDecision:
        """Post a refusal, once."""
        if decision is None:
            return CreditDecision()
        key = agent.metadata.namespace, agent.metadata.name
        if decision.refusal and self._refused.get(key) != identity:
            self._refused[key] = identity
            note = EventNote("Warning", EventReason.BUDGET_OVERRIDE_REFUSED, decision.refusal, key=identity)
            self._events.post(agent, note)
        return CreditDecision(decision.credit)

    def _find_credits(self, agent: Agent, identity: str) -> tuple[dict[Key, Credit], bool]:
        """Return the credits of an Agent's ledgers that are those of an override: one, or none yet.

        The second value is False where a ledger cannot be read, which may have the override already.
        """
        found: dict[Key, Credit] = {}
        is_certain = True
        for key in self._store.of_agent((agent.metadata.namespace, agent.metadata.name)):
            stored = self._store.get(key)
            try:
                credit = stored.read().credit if stored is not None else None
            except LedgerInvalid:
                is_certain = False
                continue
            if credit is not None and credit.id == identity:
                found[key] = credit
        return found, is_certain


def _current_environment(agent: Agent) -> str:
    """Return the environment of the stage that an Agent is in."""
    stage = agent.status.stage if agent.status else None
    return stage.environment if stage is not None else agent.spec.stages[0].environment
