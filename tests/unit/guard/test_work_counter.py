"""What gates judge by: which ends, failures and denials count."""

from typing import Any

import pytest

from interlock_contract.bundle import BundleTool
from interlock_contract.work_counts import WorkCounts
from interlock_guard.budget.settlement import Charge
from interlock_guard.budget.spend_metrics import SpendMetrics
from interlock_guard.decision.decide import Allow, DecisionInput, Deny, DenyReason
from interlock_guard.downstream.authorizer import OpenRecord
from interlock_guard.work_counter import NOT_BY_RULE, WorkCounter

CALL, MODEL = DecisionInput("crm", "tools/call"), DecisionInput("openai", "", model="openai/gpt")
ALLOWED = Allow("", BundleTool("search", "read", "contacts"))


class Records:
    """A recorder that stores nothing."""

    def __init__(self) -> None:
        self.work = WorkCounter()

    def complete(self, *_: object) -> None:
        """Store nothing."""


@pytest.mark.parametrize("request_", [CALL, MODEL])
@pytest.mark.parametrize("reason", DenyReason)
def test_a_denial_by_a_rule_counts_and_one_by_the_state_of_the_guard_does_not(
    request_: DecisionInput, reason: DenyReason
) -> None:
    work = WorkCounter()
    assert work.decide(request_, Deny(reason, "", ""))
    assert work.counts == WorkCounts(calls_denied=reason not in NOT_BY_RULE)


def test_only_the_own_scope_of_a_stage_counts_as_a_rule_and_not_what_others_serve() -> None:
    """A placement that is being started leaves every call to others: no gate may breach by that."""
    work = WorkCounter()
    work.decide(CALL, Deny(DenyReason.SERVED_ELSEWHERE, "", ""))
    assert work.counts == WorkCounts()
    work.decide(CALL, Deny(DenyReason.OUT_OF_SCOPE, "", ""))
    assert work.counts == WorkCounts(calls_denied=1)


def test_lists_and_reads_are_no_calls_and_an_allowed_call_is_not_denied() -> None:
    work = WorkCounter()
    assert not work.decide(DecisionInput("crm", "tools/list"), Deny(DenyReason.METHOD_NOT_ALLOWED, "", ""))
    assert work.decide(CALL, ALLOWED)
    assert work.counts == WorkCounts()


@pytest.mark.parametrize(
    ("outcome", "calls", "failed"),
    [
        ("Answered", 1, 0),
        ("Abandoned", 1, 0),
        ("Error", 1, 1),
        ("ToolError", 1, 1),
        ("ServerUnavailable", 1, 1),
        ("InputRequired", 0, 0),  # the call goes on
        ("Killed", 0, 0),  # the guard cut it off
    ],
)
def test_a_call_counts_once_it_has_ended_by_itself(outcome: str, calls: int, failed: int) -> None:
    records: Any = Records()
    moments = iter((1.0, 1.02))
    record = OpenRecord(records, 1, lambda: next(moments), is_call=True)
    record.complete(outcome)
    record.complete("Error")  # the first outcome stands
    counts = records.work.counts
    assert (counts.calls, counts.calls_failed) == (calls, failed)
    assert counts.call_buckets in ((), (0, 0, 1))


def test_the_end_of_any_other_request_is_no_ended_call() -> None:
    records: Any = Records()
    OpenRecord(records, 1, lambda: 0.0).complete("Error")
    assert records.work.counts == WorkCounts()


def test_what_tools_and_models_cost_adds_up_in_nano_dollars() -> None:
    unused: Any = None
    work = WorkCounter()
    metrics = SpendMetrics(unused, unused, work)
    metrics.count_tool("crm", 3)
    metrics.count("openai", "gpt", Charge(10**9 + 1, "Reservation"))
    assert work.counts == WorkCounts(cost=10**9 + 4)
