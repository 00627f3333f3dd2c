"""The budget in a bundle: which ledgers the guard of one placement spends from, and within which limits."""

from dataclasses import replace
from typing import Annotated, Final

from msgspec import Meta

from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.money import Limit
from interlock_contract.budget.rates import RateLimits
from interlock_contract.budget.windows import LEAST_DAY_SECONDS, MAX_DAY_SECONDS, ZONE_PATTERN, find_zone
from interlock_contract.strict_fields import StrictStruct, like

DEFAULT_MAX_OUTPUT_TOKENS: Final = 4096
MAX_OUTPUT_TOKENS: Final = 1_000_000
"""Largest limit of the output that a policy can set for requests without one."""
DEFAULT_HANG_UP_SECONDS: Final = 60
MAX_HANG_UP_SECONDS: Final = 3600

ObjectName = Annotated[
    str, like(r"(?=.{1,253}$)[a-z0-9]([-.a-z0-9]*[a-z0-9])?", "the name of an object (at most 253 characters)")
]
Percent = Annotated[int, Meta(ge=1, le=99)]


class BundleBudget(StrictStruct, frozen=True):
    """The limits of an agent in its environment, in nano-dollars; None is no limit.

    `ledger` and `total_ledger` name BudgetLedgers in the agent's namespace. A policy without a total has no second one.
    `max_output_tokens` is the cap of calls that set none. `hang_up_seconds` is how long the guard reads on after
    a client hung up, to see the usage. `day_seconds` is the length of days in tests and examples. `per_task` limits
    what one task spends. `rate_limits` bounds calls and tokens of each minute.
    """

    ledger: ObjectName
    day: Limit | None = None
    month: Limit | None = None
    total_ledger: ObjectName | None = None
    total_day: Limit | None = None
    total_month: Limit | None = None
    time_zone: Annotated[str, like(ZONE_PATTERN, "the name of a time zone")] = "UTC"
    alert_percents: tuple[Percent, ...] = (50, 80)
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_OUTPUT_TOKENS)] = DEFAULT_MAX_OUTPUT_TOKENS
    hang_up_seconds: Annotated[int, Meta(ge=0, le=MAX_HANG_UP_SECONDS)] = DEFAULT_HANG_UP_SECONDS
    day_seconds: Annotated[int, Meta(ge=LEAST_DAY_SECONDS, le=MAX_DAY_SECONDS)] | None = None
    per_task: Limit | None = None
    rate_limits: RateLimits | None = None

    def check(self) -> None:
        """Refuse what breaks a rule over several fields."""
        if self.total_ledger is None and (self.total_day is not None or self.total_month is not None):
            raise ValueError(".totalLedger: is missing")
        if self.total_ledger == self.ledger:
            raise ValueError(".totalLedger: must be another one than ledger")
        try:
            find_zone(self.time_zone)
        except ValueError as error:
            raise ValueError(f".timeZone: {error}") from None

    @property
    def terms(self) -> LedgerTerms:
        """The terms of the agent's ledger."""
        return LedgerTerms(self.day, self.month, self.time_zone, self.alert_percents, self.day_seconds)

    @property
    def ledgers(self) -> tuple[tuple[str, LedgerTerms, bool], ...]:
        """The names and terms of the ledgers, and whether each is the total's; the total's first, as it is leased."""
        own = (self.ledger, self.terms, False)
        return (own,) if self.total_ledger is None else ((self.total_ledger, self.total_terms, True), own)

    @property
    def total_terms(self) -> LedgerTerms:
        """The terms of the ledger of the policy's total."""
        terms = LedgerTerms(self.total_day, self.total_month, self.time_zone, self.alert_percents, self.day_seconds)
        return replace(terms, is_total=True)
