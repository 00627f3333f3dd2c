"""What sums of costs promise on every database. A test class that inherits this has a fixture `store`."""

from typing import Any

import pytest

from interlock_audit.cost_sql import GROUPS, TOKENS, Cost, CostQuery, all_costs
from interlock_audit.sql import SqlStore
from tests.support.costs import PaidCalls

DOLLAR = 10**9
USAGE = {"inputTokens": 100, "cachedInputTokens": 10, "outputTokens": 7}


def sums(store: SqlStore, *groups: str, **query: str) -> dict[tuple[str, ...], Cost]:
    known = {"since": "2026-01-01T00:00:00.000Z", "until": "2027", "latest": "2027"}
    found: dict[tuple[str, ...], Cost] = {}
    for step in all_costs(store, CostQuery(groups=groups, **known | query)):
        for group, cost in step:
            found[group] = found.get(group, Cost()) + cost
    return found


def total(store: SqlStore, **query: str) -> Cost:
    return sums(store, **query)[()]


class CostPromises:
    """What holds on every database."""

    def test_costs_add_up_exactly(self, store: SqlStore) -> None:
        PaidCalls().call("12.40").call("0.000000001").call("0.1").call("7").store(store)
        assert total(store).nanos == 19 * DOLLAR + 500_000_001

    def test_all_kinds_of_tokens_add_up_and_absent_ones_count_as_none(self, store: SqlStore) -> None:
        all_kinds = {name: number for number, name in enumerate(TOKENS, start=1)}
        PaidCalls().call("1", outcome={"usage": all_kinds}).call("1", outcome={"usage": USAGE}).call("1").store(store)
        assert total(store).tokens == (101, 12, 3, 4, 12, 6, 7, 8)

    def test_a_cost_belongs_to_what_its_decision_names(self, store: SqlStore) -> None:
        PaidCalls().call("1", outcome={"answeredModel": "gpt-4o-2024-08-06"}).call("2", task="t-2").store(store)
        PaidCalls("refund", "other").call("4", source="crm", tool="send_sms", environment="staging").store(store)
        found = sums(store, *(name for name in GROUPS if name != "quarter"))
        assert {group: cost.nanos // DOLLAR for group, cost in found.items()} == {
            (
                "agents/triage",
                "ada@example.com",
                "production",
                "openai/gpt-4o",
                "gpt-4o-2024-08-06",
                "models",
                "t-1",
            ): 1,
            ("agents/triage", "ada@example.com", "production", "openai/gpt-4o", "", "models", "t-2"): 2,
            ("other/refund", "ada@example.com", "staging", "", "", "crm", "t-1"): 4,
        }

    def test_a_call_counts_when_it_was_decided(self, store: SqlStore) -> None:
        calls = PaidCalls().call("1", time="2026-03-02T23:59:59.999Z", ended="2026-03-03T00:04:00.000Z")
        calls.call("2", time="2026-03-03T00:00:00.000Z").store(store)
        day = {"since": "2026-03-02T00:00:00.000Z", "until": "2026-03-03T00:00:00.000Z", "latest": "2026-03-04"}
        assert total(store, **day).nanos == DOLLAR
        assert set(sums(store, "quarter", **day)) == {("2026-03-02T23:3",)}

    def test_only_the_asked_namespace_and_agent_count(self, store: SqlStore) -> None:
        for number, (agent, namespace) in enumerate([("triage", "agents"), ("refund", "agents"), ("triage", "other")]):
            PaidCalls(agent, namespace).call(str(10**number)).store(store)
        assert total(store, namespace="agents").nanos == 11 * DOLLAR
        assert total(store, namespace="agents", agent="refund").nanos == 10 * DOLLAR

    def test_records_without_a_cost_and_denials_do_not_count(self, store: SqlStore) -> None:
        calls = PaidCalls()
        calls.chain.call(3).deny(2)
        calls.call("1").store(store)
        assert total(store) == Cost(calls=1, nanos=DOLLAR)

    @pytest.mark.parametrize(
        "cost",
        [
            "",
            "-1",
            "1e9",
            "NaN",
            "1.",
            ".5",
            "1.2.3",
            "99999999",
            "0.0000000001",
            "1,5",
            " 1",
            "1\n",
            5,
            None,
            True,
            {},
        ],
    )
    def test_a_cost_that_is_no_amount_is_counted_apart(self, store: SqlStore, cost: Any) -> None:
        PaidCalls().call(cost).call("2").store(store)
        assert total(store) == Cost(calls=1, nanos=2 * DOLLAR, unreadable=1)

    @pytest.mark.parametrize("tokens", [-1, 10**9 + 1, 2**60, 10**30, 1.5, "7", None, [7], {"a": 1}])
    def test_tokens_that_are_no_number_of_tokens_do_not_count(self, store: SqlStore, tokens: Any) -> None:
        usage = USAGE | {"outputTokens": tokens}
        PaidCalls().call("1", outcome={"usage": usage}).store(store)
        assert total(store).tokens == (100, 10, 0, 0, 0, 0, 0, 0)

    @pytest.mark.parametrize("usage", [None, 5, "", [], {"inputTokens": {"outputTokens": 5}}])
    def test_a_usage_that_is_none_does_not_count(self, store: SqlStore, usage: Any) -> None:
        PaidCalls().call("1", outcome={"usage": usage}).store(store)
        assert sum(total(store).tokens) == 0

    def test_no_record_overflows_the_sum(self, store: SqlStore) -> None:
        calls = PaidCalls()
        for _ in range(2000):  # in nano-dollars, their sum is above 2**63
            calls.call("9999999.999999999")
        calls.store(store)
        assert total(store).nanos == 2000 * 9_999_999_999_999_999

    def test_costs_that_are_upper_bounds_are_summed_apart(self, store: SqlStore) -> None:
        calls = PaidCalls().call("1").call("0.00", outcome={"costBasis": "Free"})
        calls.call("2", outcome={"costBasis": "Reservation"}).call("4", outcome={"costBasis": "Flat"}).store(store)
        assert total(store) == Cost(calls=4, nanos=7 * DOLLAR, bound_calls=1, bound_nanos=2 * DOLLAR)

    def test_a_call_whose_decision_was_deleted_keeps_its_agent(self, store: SqlStore) -> None:
        calls = PaidCalls()
        calls.chain.write("outcome", of=900, outcome="Answered", cost="1", time="2026-03-02T09:00:00.000Z")
        calls.chain.write("outcome", of="x", outcome="Answered", cost="2", time="2026-03-02T09:00:00.000Z")
        calls.store(store)
        assert {group: cost.calls for group, cost in sums(store, "agent", "model").items()} == {
            ("agents/triage", ""): 2
        }

    def test_what_agents_and_providers_write_ends_no_report(self, store: SqlStore) -> None:
        odd = '\0 \\u0000 \' "cost":"9" % ? {} \N{PILE OF POO}'
        calls = PaidCalls().call("1", task=odd, arguments={"a": odd}, outcome={"answeredModel": odd})
        calls.call("2", outcome={"costBasis": odd, "note": 10**300}).store(store)
        assert total(store).nanos == 3 * DOLLAR
        assert len(sums(store, "task", "answered")) == 2

    @pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
    def test_the_sums_of_all_steps_are_the_sums_of_all_records(
        self, store: SqlStore, step: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SqlStore.costs, "__defaults__", (step,))
        for number in range(3):  # many records of one moment, too
            calls = PaidCalls(number=number)
            for second in range(5):
                calls.call("1", time=f"2026-03-02T09:00:{second // 2:02d}.000Z")
            calls.store(store)
        assert total(store).nanos == 15 * DOLLAR
