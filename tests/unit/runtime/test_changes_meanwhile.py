"""A change that the operator learns from the answer to its own write wakes what the watch's event would have woken."""

from typing import Any

import pytest

from interlock.governance.budgets import LedgerIdentity
from interlock.runtime import agent_decision
from interlock_contract.names import BUDGET_OVERRIDE
from interlock_kube.reconcile_loop import WorkQueue
from interlock_kube.resource_types import AGENT, AGENT_POLICY, BUDGET_LEDGER, Key
from tests.support.builders import a_binding, a_policy, an_agent
from tests.support.small_operator import SmallOperator

KEY: Key = ("agents", "triage")
LEDGER: Key = ("agents", "triage.staging")


def waiting(queue: WorkQueue[Key]) -> set[Key]:
    return set(queue._waiting)  # noqa: SLF001 - a look at the queue must not take from it


@pytest.fixture
async def operator() -> SmallOperator:
    """An Agent with a ledger, neither of which is enqueued, and an override that comes with the next write."""
    operator = SmallOperator()
    for one in (a_policy(), a_binding(), an_agent()):
        operator.put(one.to_kubernetes())
    await operator.ledgers.create("agents", LedgerIdentity("support", "triage", "staging"))
    for queue in (operator.queues[AGENT], operator.queues[BUDGET_LEDGER]):
        while waiting(queue):
            queue.done(await queue.get())
    return operator


def override_meanwhile(operator: SmallOperator) -> None:
    """Let a user set an override between each read of an Agent and the write of its status."""
    patch = operator.client.patch

    async def onto_an_override(path: str, *arguments: Any, **keywords: Any) -> Any:
        answer = await patch(path, *arguments, **keywords)
        annotations = {BUDGET_OVERRIDE: "+25 USD until=2026-03-03T00:00:00Z reason=a test"}
        return {**answer, "metadata": {**answer["metadata"], "annotations": annotations}}

    operator.client.patch = onto_an_override  # type: ignore[method-assign]


async def test_an_override_that_comes_while_a_status_is_written_wakes_the_ledger(operator: SmallOperator) -> None:
    override_meanwhile(operator)

    assert await operator.turn(AGENT, KEY)

    assert waiting(operator.queues[BUDGET_LEDGER]) == {LEDGER}


async def test_an_override_that_comes_while_a_failure_is_shown_wakes_the_ledger(
    operator: SmallOperator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(agent_decision, "reconcile", fail)
    override_meanwhile(operator)

    assert not await operator.turn(AGENT, KEY)

    assert waiting(operator.queues[BUDGET_LEDGER]) == {LEDGER}


async def test_limits_that_come_while_the_status_of_the_policy_is_written_wake_the_ledger(
    operator: SmallOperator,
) -> None:
    patch = operator.client.patch

    async def onto_later_limits(path: str, *arguments: Any, **keywords: Any) -> Any:
        answer = await patch(path, *arguments, **keywords)
        spec = {**answer["spec"], "budget": {"onExhausted": "ScaleToZero"}}
        return {**answer, "metadata": {**answer["metadata"], "generation": 9}, "spec": spec}

    operator.client.patch = onto_later_limits  # type: ignore[method-assign]

    assert await operator.turn(AGENT_POLICY, ("agents", "support"))

    assert waiting(operator.queues[BUDGET_LEDGER]) == {LEDGER}


async def test_a_status_that_is_written_onto_what_was_known_wakes_no_ledger(operator: SmallOperator) -> None:
    assert await operator.turn(AGENT, KEY)

    assert waiting(operator.queues[BUDGET_LEDGER]) == set()
