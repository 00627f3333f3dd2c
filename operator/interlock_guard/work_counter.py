"""The counter of what the agent did since this process began, by which the gates of its stages judge. Pure memory.

Tasks that the guard itself cut off are not counted, since they say nothing about the agent. Nor are calls that were
refused because of the state of guard or rollout, such as a kill or a server that is away, and not because of a rule.
"""

from typing import Final

from interlock_contract.budget.money import add_money
from interlock_contract.work_counts import BOUNDS, WorkCounts, bucket_of, strip_buckets
from interlock_guard.decision.decide import TOOLS_CALL, Allow, Decision, DecisionInput, Deny, DenyReason

NOT_BY_RULE: Final = frozenset(
    {
        DenyReason.KILLED,
        DenyReason.NO_BUNDLE,
        DenyReason.BUNDLE_NOT_CONFIRMED,
        DenyReason.POLICY_NOT_TESTED,
        DenyReason.STALE_STATE,
        DenyReason.AGENT_MISMATCH,
        DenyReason.BAD_REQUEST,
        DenyReason.BUDGET_UNAVAILABLE,
        DenyReason.SERVER_UNAVAILABLE,
        DenyReason.AUDIT_UNAVAILABLE,
        DenyReason.SERVED_ELSEWHERE,
    }
)
"""Denials that no rule made, so that they do not count as denied.

A call that another placement serves says how far the rollout is, and nothing about the revision: a placement that is
being started is denied all calls in this way, often for seconds after its soak has begun.
"""


class WorkCounter:
    """Counts tasks, calls and cost. Only a restart of the process sets it to zero."""

    def __init__(self) -> None:
        self._task_buckets, self._call_buckets = [0] * (len(BOUNDS) + 1), [0] * (len(BOUNDS) + 1)
        self._tasks_failed = self._calls_failed = self._calls_denied = self._cost = 0
        self._unmapped_passed = self._ungranted_passed = 0

    def end_task(self, seconds: float, *, is_failure: bool) -> None:
        """Count a task that has ended.

        Args:
            seconds: From its first byte to the last of its answer.
            is_failure: Whether it counts as a failure of the agent.
        """
        self._task_buckets[bucket_of(seconds)] += 1
        self._tasks_failed += is_failure

    def fail_task(self) -> None:
        """Count a task as failed that is counted already: it went on after the answer to its request."""
        self._tasks_failed += 1

    def end_call(self, seconds: float, *, is_failure: bool) -> None:
        """Count a call of a tool or model that has ended.

        Args:
            seconds: From the decision to the end of its answer.
            is_failure: Whether it failed.
        """
        self._call_buckets[bucket_of(seconds)] += 1
        self._calls_failed += is_failure

    def decide(self, request: DecisionInput, decision: Decision) -> bool:
        """Count the call if a rule denied it; return whether the request is a call, whose end is to be counted.

        A request that passes in mode `Audit` alone is counted too, as what it is: one that would have been denied.
        """
        is_call = request.method == TOOLS_CALL or request.model is not None
        if isinstance(decision, Allow) and decision.would_deny is not None:
            is_unmapped = decision.would_deny.reason is DenyReason.TOOL_NOT_MAPPED
            self._unmapped_passed += is_unmapped
            self._ungranted_passed += not is_unmapped
        if is_call and isinstance(decision, Deny) and decision.reason not in NOT_BY_RULE:
            self._calls_denied += 1
        return is_call

    def spend(self, nanos: int) -> None:
        """Count what a call has cost, in nano-dollars."""
        self._cost = add_money(self._cost, nanos)

    @property
    def counts(self) -> WorkCounts:
        """What was counted so far."""
        return WorkCounts(
            task_buckets=strip_buckets(self._task_buckets),
            tasks_failed=self._tasks_failed,
            call_buckets=strip_buckets(self._call_buckets),
            calls_failed=self._calls_failed,
            calls_denied=self._calls_denied,
            cost=self._cost,
            unmapped_passed=self._unmapped_passed,
            ungranted_passed=self._ungranted_passed,
        )
