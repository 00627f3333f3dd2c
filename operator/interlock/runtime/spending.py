"""What the snapshot of an Agent holds of money: its ledgers and the prices of its models."""

import functools

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.cluster.ledger_store import LedgerStore
from interlock.deployment.children.upstreams import find_prices
from interlock.prices.book import PriceBook
from interlock.reconcile.snapshot import BudgetSnapshot


class SpendingReader:
    """Reads ledgers and prices.

    Args:
        store: The ledgers.
        book: The price book.
        day_seconds: Length of a day of a budget, None for calendar days.
    """

    def __init__(self, store: LedgerStore, book: PriceBook, day_seconds: int | None) -> None:
        self._store, self._book, self._day_seconds = store, book, day_seconds

    def read(self, agent: Agent, policy: AgentPolicy) -> BudgetSnapshot:
        """Return the ledgers that an Agent may spend from, and the prices of its models under its policy."""
        key = agent.metadata.namespace, agent.metadata.name
        return BudgetSnapshot(
            ledgers=self._store.read_for(key, policy.metadata.name),
            find_prices=functools.partial(find_prices, book=self._book),
            day_seconds=self._day_seconds,
        )
