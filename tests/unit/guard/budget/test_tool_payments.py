"""Tools that cost money and count against a limit of calls: both are there when the call is paid."""

import asyncio
from pathlib import Path
from typing import Any

from msgspec.structs import replace
from typing_extensions import override

from interlock_contract.budget.rates import RateLimits
from interlock_contract.bundle import BundleTool
from interlock_contract.clock import monotonic
from interlock_guard.budget.minute_limiter import MinuteLimiter
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.budget.tool_payments import Payment, Payments
from interlock_guard.decision.decide import Allow, DecisionInput
from tests.requirements import requirement
from tests.support.budget_bench import BudgetBench
from tests.support.ledger_store import LedgerStore

CALL = DecisionInput("crm", "tools/call")
ALLOWED = Allow("agentpolicy/support/dataAccess[0]", BundleTool("search", "read", "contacts", cost_per_call=60))


class SlowStore(LedgerStore):
    """Writes take some time, so that calls begin while others wait."""

    @override
    async def update(self, path: str, body: dict[str, Any], manager: str) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        return await super().update(path, body, manager)


@requirement("budget.rates")
async def test_a_call_that_waits_for_its_minute_keeps_its_money(tmp_path: Path, virtual_clock: None) -> None:
    bench = BudgetBench(tmp_path)
    bench.store = SlowStore()
    bench.limit(day=10**6)
    bench.terms = replace(bench.terms, rate_limits=RateLimits(600))
    budget = await bench.start()
    rates = MinuteLimiter(bench.lives[budget], budget, "pod-a", monotonic)
    rates.follow()
    counting = asyncio.create_task(rates.run())
    payments = Payments(budget, rates, SpendMetrics(budget, rates))

    async def call(after: float) -> Payment | None:
        await asyncio.sleep(after)
        await payments.prepare(CALL, ALLOWED)
        _, payment = payments.pay(CALL, ALLOWED)
        return payment

    paid = await asyncio.gather(*(call(after) for after in (0, 0.021, 0.025, 0.03)))
    counting.cancel()
    await bench.close()
    assert None not in paid
