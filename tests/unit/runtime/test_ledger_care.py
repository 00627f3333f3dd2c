"""The care of the operator for ledgers: the length of their days, broken ones, and those of deleted agents."""

from interlock_kube.resource_types import BUDGET_LEDGER
from tests.requirements import requirement
from tests.unit.runtime.test_ledgers import OWN, TOTAL, Ledgers

DAY_SECONDS = "interlock.dev/day-seconds"


def day_seconds(ledgers: Ledgers, key: tuple[str, str] = OWN) -> str | None:
    found: str | None = ledgers.client.objects[BUDGET_LEDGER.path(*key)]["metadata"]["annotations"].get(DAY_SECONDS)
    return found


@requirement("budget.ledger-writers")
async def test_a_ledger_says_how_long_its_days_are_where_they_are_short() -> None:
    ledgers = Ledgers(day_seconds=60)
    for key in (OWN, TOTAL):
        await ledgers.create(key)
        assert day_seconds(ledgers, key) == "60"
    ledgers.day_seconds = None
    ledgers.restart()
    for key in (OWN, TOTAL):
        await ledgers.reconcile(key)
        assert day_seconds(ledgers, key) is None
    ledgers.day_seconds = 90
    ledgers.restart()
    await ledgers.reconcile(TOTAL)
    assert day_seconds(ledgers, TOTAL) == "90"
    before = len(ledgers.client.requests)
    await ledgers.reconcile(TOTAL)
    assert "PATCH" not in [method for method, _ in ledgers.client.requests[before:]]
