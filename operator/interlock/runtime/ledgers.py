"""The reconcile of one BudgetLedger with the API server: find dead holders, write what is due, and raise alerts."""

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.cluster.event_poster import EventPoster, Regarded
from interlock.cluster.ledger_store import LedgerStore, StoredLedger
from interlock.cluster.object_parser import read_agent
from interlock.cluster.resource_cache import ResourceCache
from interlock.deployment.names import policy_label
from interlock.governance.budgets import (
    LedgerIdentity,
    addressee_of,
    budget_of,
    token_terms_of,
    total_terms_of,
    velocity_of,
)
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.ledger import (
    describe_alert,
    describe_tokens,
    describe_velocity,
    reconcile_ledger,
)
from interlock.reconcile.ledger_repair import repair_ledger
from interlock.reconcile.snapshot import readable
from interlock.runtime.dead_holders import DeadHolders
from interlock.runtime.overrides import Overrides
from interlock.telemetry import (
    BUDGET_EXHAUSTED,
    BUDGET_FORECAST,
    BUDGET_LIMIT,
    BUDGET_SPENT,
    HOLDERS_CLOSED,
    TOKENS_ALERT_TIMESTAMP,
    VELOCITY_ALERT_TIMESTAMP,
)
from interlock_contract.budget.forecast import forecast_day, next_forecast
from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.ledger import Ledger, LedgerInvalid, dump_ledger
from interlock_contract.budget.money import NANOS
from interlock_contract.budget.tokens_per_byte import TokenTerms
from interlock_contract.budget.velocity import VelocityTerms
from interlock_kube.resource_types import Key

_log = logging.getLogger(__name__)

CONFLICT_SECONDS: Final = 0.5
"""How soon a ledger is reconciled again that a guard wrote meanwhile."""
SPEND_SECONDS: Final = 10.0
"""How long the status of an Agent may lag behind its spend."""
LATE_EVENTS: Final = timedelta(minutes=10)
"""How old an alert may be that an earlier operator recorded, and perhaps did not post. An Event is posted once."""
_LONGEST_PROBLEM: Final = 400
"""Characters of what is wrong with a ledger in an Event, so that the command at its end has room."""


@dataclass(frozen=True)
class _Governing:
    """What governs a ledger now."""

    terms: LedgerTerms | None = None
    about: Regarded | None = None
    subject: str = ""
    agent: Agent | None = None
    policy: AgentPolicy | None = None

    @property
    def velocity(self) -> VelocityTerms | None:
        return None if self.policy is None else velocity_of(self.policy)

    @property
    def tokens(self) -> TokenTerms | None:
        return None if self.policy is None else token_terms_of(self.policy)


class LedgerReconciler:
    """Reconciles BudgetLedgers.

    Args:
        cache: The objects that users apply.
        store: The ledgers.
        holders: Finds holders that spend no longer.
        overrides: Decides on overrides.
        events: Posts Events.
        clock: Returns the time.
        wake_agent: Enqueues an Agent within some seconds.
        day_seconds: Length of a day, None for calendar days.
    """

    def __init__(
        self,
        *,
        cache: ResourceCache,
        store: LedgerStore,
        holders: DeadHolders,
        overrides: Overrides,
        events: EventPoster,
        clock: Callable[[], datetime],
        wake_agent: Callable[[Key, float], None],
        day_seconds: int | None = None,
    ) -> None:
        self._cache, self._store, self._holders, self._overrides = cache, store, holders, overrides
        self._events = events
        self._clock, self._wake_agent, self._day_seconds = clock, wake_agent, day_seconds
        self._known: dict[Key, tuple[LedgerIdentity, object]] = {}
        """Whose each ledger is, and what of it matters to Agents immediately."""
        self._posted: dict[Key, set[str]] = {}
        """The alerts that were posted, by kind or period, start of the window and percentage."""

    async def reconcile(self, key: Key) -> float | None:
        """Write what is due in one ledger, and wake the Agents that spend from it.

        Returns:
            Seconds until the next reconcile; None where only an event is a reason for one.

        Raises:
            ApiError: The API server refused.
        """
        stored = self._store.get(key)
        if stored is None:
            self._forget(key)
            return None
        await self._store.keep_day_length(key)
        await self._store.keep_tracked(key)
        governing = self._governing(key, stored.identity)
        try:
            ledger = stored.read()
        except LedgerInvalid as error:
            return await self._repair(key, stored, governing, str(error))
        await self._address(key, stored, governing)
        dead, due = await self._holders.find(key, stored.identity, ledger)
        now = self._clock()
        decided = await self._overrides.decide(key, stored.identity.environment, governing.agent, governing.policy, now)
        wanted = reconcile_ledger(
            ledger,
            governing.terms,
            now,
            dead_holders=dead,
            credit=decided.credit,
            may_withdraw=decided.may_withdraw,
            velocity=governing.velocity,
            tokens=governing.tokens,
        )
        if wanted is not ledger and not await self._store.write(key, dump_ledger(wanted)):
            return CONFLICT_SECONDS
        for holder in dead:
            HOLDERS_CLOSED.inc()
            _log.warning("a holder is closed", extra={"ledger": "/".join(key), "holder": holder})
        self._post_alerts(key, stored.identity, governing, wanted, now)
        at = int(now.timestamp())
        self._measure(key, stored.identity, wanted, governing.terms, at)
        self._tell_agents(key, stored.identity, _urgent(wanted))
        forecast_at = next_forecast(wanted, at)
        times = (due, decided.retry_seconds, None if forecast_at is None else float(forecast_at - at))
        return min((one for one in times if one is not None), default=None)

    async def _repair(self, key: Key, stored: StoredLedger, governing: _Governing, problem: str) -> float | None:
        """Repair a ledger that cannot be read. What is lost of it counts as spent."""
        _log.error("a ledger cannot be read", extra={"ledger": "/".join(key), "error": problem})
        self._tell_agents(key, stored.identity, "unreadable")
        terms = governing.terms or LedgerTerms(None, None, day_seconds=self._day_seconds)
        repaired = repair_ledger(stored.status, terms, int(self._clock().timestamp()))
        if not await self._store.write(key, dump_ledger(repaired)):
            return CONFLICT_SECONDS
        if governing.about is not None:
            message = (
                f"BudgetLedger {key[1]} could not be read ({problem[:_LONGEST_PROBLEM]}); it is repaired, and what was "
                "lost counts as spent; to lower spent, run as an administrator of the cluster: "
                f"kubectl -n {key[0]} edit budgetledgers.interlock.dev {key[1]} --subresource=status"
            )
            note = EventNote("Warning", EventReason.LEDGER_REPAIRED, message, key=f"repair/{key[1]}/{stored.version}")
            self._events.post(governing.about, note)
        return None

    def _governing(self, key: Key, identity: LedgerIdentity) -> _Governing:
        """Return what governs a ledger now: an Agent and the policy that it names, or the policy alone."""
        namespace = key[0]
        if not identity.agent:
            policy = readable(self._cache.policy((namespace, identity.policy)), AgentPolicy)
            if policy is None:
                return _Governing()
            subject = f"all agents of AgentPolicy {identity.policy} together"
            return _Governing(
                total_terms_of(policy, self._day_seconds), policy, f"The total of {subject}", None, policy
            )
        raw = self._cache.agent((namespace, identity.agent))
        agent = read_agent(raw) if raw is not None else None
        if agent is None or agent.spec.policy_ref is None:
            return _Governing()
        policy = readable(self._cache.policy((namespace, agent.spec.policy_ref.name)), AgentPolicy)
        subject = f"agent {identity.agent} in {identity.environment}"
        if policy is None or policy.spec.environment(identity.environment) is None:
            return _Governing(None, agent, subject, agent)
        terms = budget_of(agent, policy, identity.environment, self._day_seconds).terms
        return _Governing(terms, agent, subject, agent, policy)

    async def _address(self, key: Key, stored: StoredLedger, governing: _Governing) -> None:
        """Let a ledger name the policy that its Agent names now, and the owner of the Agent."""
        if governing.agent is None or governing.policy is None:
            return
        policy, addressee = governing.policy.metadata.name, addressee_of(governing.agent)
        if (stored.policy_label, stored.addressee) != (policy_label(policy), addressee):
            await self._store.address(key, policy, addressee, self._clock())

    def _post_alerts(
        self, key: Key, identity: LedgerIdentity, governing: _Governing, ledger: Ledger, now: datetime
    ) -> None:
        """Post the alerts of a ledger as Events, those that a guard recorded included.

        An Event is posted once, also where an earlier operator recorded its alert and may not have posted it.
        """
        notes = dict(_alert_notes(ledger, governing.subject))
        posted, self._posted[key] = self._posted.get(key), set(notes)
        if governing.about is None:
            return
        for part, (at, reason, message) in notes.items():
            is_recent = timedelta() <= now - datetime.fromtimestamp(at, UTC) <= LATE_EVENTS
            if is_recent if posted is None else part not in posted:
                note = EventNote("Warning", reason, message, key=f"budget/{identity.name}/{part}")
                self._events.post(governing.about, note)
                _log.warning("an alert of a budget", extra={"ledger": "/".join(key), "alert": message})

    # What others see

    def _tell_agents(self, key: Key, identity: LedgerIdentity, urgent: object) -> None:
        """Wake the Agents that spend from a ledger: immediately if their budget is exhausted, or has room again."""
        _, before = self._known.get(key, (identity, None))
        self._known[key] = identity, urgent
        if before != urgent or identity.agent:
            for agent in self._agents_of(key, identity):
                self._wake_agent(agent, 0.0 if before != urgent else SPEND_SECONDS)

    def _agents_of(self, key: Key, identity: LedgerIdentity) -> Collection[Key]:
        """Return the Agents that spend from a ledger: its own one, or all of the policy whose total it is."""
        namespace = key[0]
        if identity.agent:
            return ((namespace, identity.agent),)
        return self._cache.agents_under((namespace, identity.policy))

    def _measure(self, key: Key, identity: LedgerIdentity, ledger: Ledger, terms: LedgerTerms | None, at: int) -> None:
        labels = key[0], identity.policy, identity.agent, identity.environment
        BUDGET_EXHAUSTED.labels(*labels).set(ledger.exhausted is not None)
        last = ledger.velocity_alerts[-1].window_start if ledger.velocity_alerts else 0
        VELOCITY_ALERT_TIMESTAMP.labels(*labels).set(last)
        TOKENS_ALERT_TIMESTAMP.labels(*labels).set(ledger.token_alerts[-1].at if ledger.token_alerts else 0)
        forecast = forecast_day(ledger, at)
        if forecast is None:
            BUDGET_FORECAST.remove(*labels)
        else:
            BUDGET_FORECAST.labels(*labels).set(forecast / NANOS)
        limits = (None, None) if terms is None else (terms.day, terms.month)
        for period, window, limit in (("day", ledger.day, limits[0]), ("month", ledger.month, limits[1])):
            BUDGET_SPENT.labels(*labels, period).set(window.spent / NANOS if window is not None else 0)
            if limit is not None:
                BUDGET_LIMIT.labels(*labels, period).set(limit / NANOS)

    def _forget(self, key: Key) -> None:
        self._holders.forget(key)
        self._posted.pop(key, None)
        identity, _ = self._known.pop(key, (None, None))
        if identity is None:
            return
        self._overrides.forget((key[0], identity.agent))
        labels = key[0], identity.policy, identity.agent, identity.environment
        for gauge in (BUDGET_EXHAUSTED, VELOCITY_ALERT_TIMESTAMP, TOKENS_ALERT_TIMESTAMP, BUDGET_FORECAST):
            gauge.remove(*labels)
        for gauge in (BUDGET_SPENT, BUDGET_LIMIT):
            for period in ("day", "month"):
                gauge.remove(*labels, period)
        for agent in self._agents_of(key, identity):
            self._wake_agent(agent, 0.0)


def _alert_notes(ledger: Ledger, subject: str) -> Iterator[tuple[str, tuple[int, EventReason, str]]]:
    """Yield the alerts of a ledger: the part of the Event's key, the time, the reason and the sentence."""
    for alert in ledger.alerts:
        part = f"{alert.period}/{alert.window_start}/{alert.percent}"
        yield part, (alert.at, EventReason.BUDGET_ALERT, describe_alert(alert, subject))
    for fast in ledger.velocity_alerts:
        part = f"velocity/{fast.window_start}"
        yield part, (fast.at, EventReason.VELOCITY_ALERT, describe_velocity(fast, subject))
    for counted in ledger.token_alerts:
        part = f"tokens/{counted.window_start}/{counted.model}"
        yield part, (counted.at, EventReason.TOKENS_PER_BYTE_ALERT, describe_tokens(counted, subject))


def _urgent(ledger: Ledger) -> object:
    """Return what of a ledger Agents must know immediately."""
    starts = tuple(window and window.start for window in (ledger.day, ledger.month))
    return starts, ledger.exhausted, ledger.credit and (ledger.credit.amount, ledger.credit.until)
