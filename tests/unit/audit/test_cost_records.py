"""What a guard records of the cost of a call is what a report reads."""

from pathlib import Path

import pytest

from interlock_audit.cost_sql import BOUND, TOKENS, Cost, CostQuery
from interlock_audit.sqlite import open_sqlite
from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.cost_record import describe_cost, describe_flat_cost, describe_usage
from interlock_guard.budget.settlement import Charge
from tests.support.costs import PaidCalls

USAGE = ModelUsage(input=1, cached_input=2, cache_write_5m=4, output=8, reasoning=16, output_audio=32)


def test_a_report_reads_every_kind_of_tokens_of_a_record() -> None:
    assert set(describe_usage(USAGE)) == set(TOKENS)


@pytest.mark.parametrize(
    ("charge", "cost"),
    [
        (Charge(12_400_000_001, "Usage", USAGE), Cost(1, 12_400_000_001, tokens=(1, 2, 4, 0, 8, 16, 0, 32))),
        (Charge(2 * 10**9, "Reservation"), Cost(1, 2 * 10**9, bound_calls=1, bound_nanos=2 * 10**9)),
        (Charge(0, "Free"), Cost(1)),
    ],
)
def test_a_report_reads_what_a_guard_records_of_a_call_of_a_model(charge: Charge, cost: Cost, tmp_path: Path) -> None:
    members = describe_cost(charge, reserved=2 * 10**9, answered_model="gpt-4o", price_book="0" * 64)
    assert members["costBasis"] == charge.basis
    assert (charge.basis == BOUND) is bool(cost.bound_calls)
    assert total(tmp_path, members) == cost


def test_a_report_reads_what_a_guard_records_of_a_call_of_a_tool(tmp_path: Path) -> None:
    assert total(tmp_path, describe_flat_cost(5)) == Cost(1, 5)


def total(folder: Path, members: dict[str, object]) -> Cost:
    store = open_sqlite(folder / "records.sqlite")
    PaidCalls().call(members["cost"], outcome=members).store(store)
    ((_, found),) = store.costs(CostQuery("2026", "2027", "2027", ())).sums
    store.close()
    return found
