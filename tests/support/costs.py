"""Audit records of calls that cost something, as guards write them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from interlock_audit.sql import SqlStore
from interlock_audit.stores import Accepted, Batch, Received
from interlock_contract.audit_chain import open_line
from tests.support.chains import ChainWriter

MARCH_2 = datetime(2026, 3, 2, tzinfo=UTC)


class PaidCalls:
    """Writes the chain of one guard, with what its calls cost."""

    def __init__(self, agent: str = "triage", namespace: str = "agents", number: int = 1) -> None:
        guard = f"{namespace}/{agent}-0123456789-abcde/{number:016x}"
        self.namespace, self.agent = namespace, agent
        self.chain = ChainWriter(guard, agent).begin()

    def call(
        self,
        cost: Any,
        *,
        time: str = "2026-03-02T09:00:00.000Z",
        ended: str = "",
        outcome: Mapping[str, Any] | None = None,
        **decision: Any,
    ) -> "PaidCalls":
        """Write a call of a model and its end.

        Args:
            cost: The member `cost`.
            time: When it was decided.
            ended: When it ended, the same time by default.
            outcome: Further members of the end, such as `usage`.
            decision: Other members of the decision than those of a call of `openai/gpt-4o` in production.
        """
        known = {
            "agent": self.agent,
            "namespace": self.namespace,
            "environment": "production",
            "owner": "ada@example.com",
            "task": "t-1",
            "source": "models",
            "method": "chat/completions",
            "tool": "openai/gpt-4o",
            "decision": "Allow",
        }
        seq = self.chain.write("decision", time=time, **known | decision)
        members = {"of": seq, "outcome": "Answered", "latencySeconds": 0.5, "cost": cost, "costBasis": "Usage"}
        self.chain.write("outcome", time=ended or time, **members | dict(outcome or {}))
        return self

    def store(self, store: SqlStore) -> None:
        """Store the chain."""
        lines = [Received(line.decode(), open_line(line)) for line in self.chain.lines]
        batch = Batch(self.namespace, self.agent, lines, "2026-03-02T09:00:00.000Z")
        assert isinstance(store.append(batch), Accepted)
