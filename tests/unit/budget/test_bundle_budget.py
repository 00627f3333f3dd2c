import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from interlock_contract.budget.bundle_budget import MAX_OUTPUT_TOKENS, BundleBudget
from interlock_contract.budget.leases import LedgerTerms
from interlock_contract.budget.money import MAX_LIMIT
from interlock_contract.bundle import AgentIdentity, Bundle, BundleTool, dump_bundle, parse_bundle
from interlock_contract.strict_fields import BundleInvalid
from tests.requirements import requirement

BUNDLE = Bundle(4, AgentIdentity("triage", "support", "uid"), "r1", "staging", "staging", (), ())
LIMITS = st.none() | st.integers(0, MAX_LIMIT)
BUDGETS = st.builds(
    BundleBudget,
    st.just("triage.staging"),
    *(LIMITS, LIMITS, st.just("support.total"), LIMITS, LIMITS),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"]),
    st.lists(st.integers(1, 99), max_size=3).map(tuple),
    st.integers(1, MAX_OUTPUT_TOKENS),
    st.integers(0, 3600),
    st.none() | st.integers(10, 86_400),
)


@given(BUDGETS)
def test_a_budget_is_read_back_as_it_was_written(budget: BundleBudget) -> None:
    bundle = replace(BUNDLE, budget=budget)
    assert parse_bundle(dump_bundle(bundle)) == bundle


def test_a_bundle_without_a_budget_is_written_as_before() -> None:
    assert "budget" not in json.loads(dump_bundle(BUNDLE))
    assert "costPerCall" not in json.loads(dump_bundle(replace(BUNDLE, sources=())))
    assert BundleTool("get", "read", "tickets").cost_per_call == 0


def test_a_budget_has_the_terms_of_two_ledgers() -> None:
    budget = BundleBudget("a.b", 1, 2, "c.total", 3, 4, "Europe/Berlin", (70,), day_seconds=60)
    assert budget.terms == LedgerTerms(1, 2, "Europe/Berlin", (70,), 60)
    assert budget.total_terms == LedgerTerms(3, 4, "Europe/Berlin", (70,), 60, is_total=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("ledger", ""), ("ledger", "a/b"), ("ledger", "-a"), ("ledger", "a" * 254), ("ledger", "support.total")),
        *(("day", -1), ("day", MAX_LIMIT + 1), ("day", 1.5), ("month", "1"), ("totalDay", True)),
        *(("timeZone", "Europe"), ("timeZone", "../x"), ("timeZone", "Nowhere/Land"), ("timeZone", "localtime")),
        *(("alertPercents", [0]), ("alertPercents", [100]), ("alertPercents", [2.5])),
        *(("maxOutputTokens", 0), ("hangUpSeconds", -1), ("hangUpSeconds", 3601)),
        *(("daySeconds", 9), ("daySeconds", 86_401), ("mood", 1)),
    ],
)
def test_a_budget_that_breaks_a_bound_is_refused(key: str, value: Any) -> None:
    document = json.loads(dump_bundle(replace(BUNDLE, budget=BundleBudget("a.b", 5, total_ledger="support.total"))))
    parse_bundle(json.dumps(document))
    document["budget"][key] = value
    with pytest.raises(BundleInvalid):
        parse_bundle(json.dumps(document))


NO_LIMITS = ("NaN", "Infinity", "-Infinity", "-1", "-0.0", "0.5", "50.0", "1e3", "1e308", f"1{'0' * 30}", "true", "[]")
"""Numbers and others, as JSON has them, that are no limit in whole nano-dollars; texts are none either."""


@requirement("budget.b7")
@pytest.mark.parametrize("field", ["day", "month", "totalDay", "totalMonth", "perTask"])
def test_b7_a_guard_takes_no_limit_but_whole_nano_dollars(field: str) -> None:
    text = dump_bundle(replace(BUNDLE, budget=BundleBudget("a.b", 5, total_ledger="support.total")))
    budget = json.loads(text)["budget"]
    whole = json.dumps({**json.loads(text), "budget": {**budget, field: 7}})
    parse_bundle(whole)
    for value in (*NO_LIMITS, '""', '"50"', '"NaN"', str(MAX_LIMIT + 1)):
        with pytest.raises(BundleInvalid):
            parse_bundle(whole.replace(f'"{field}": 7', f'"{field}": {value}'))


def test_limits_of_a_total_without_its_ledger_are_refused() -> None:
    with pytest.raises(BundleInvalid, match=r"^budget\.totalLedger: is missing"):
        parse_bundle(dump_bundle(replace(BUNDLE, budget=BundleBudget("a.b", total_day=5))))
