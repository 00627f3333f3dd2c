"""An operator that ends at any write of a rollout, or of a rollback, is followed by one that goes on."""

import contextlib
import functools
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from interlock.runtime.snapshot_reader import Turn
from interlock_contract.names import ROLLBACK
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, hours
from tests.support.fake_client import READS, FakeClient, copy_json
from tests.unit.runtime.test_agent_reconciler import PATH, STAGED, Operator, a_ready_agent

SECOND = STAGED.with_template(image="example/agent:2")
ROLLOUT_WRITES, ROLLBACK_WRITES = 40, 24


def every_other(writes: int, first: int = 0) -> list[Any]:
    """Return the numbers of writes as parameters: each second one for `make test`, the others for the nightly run."""
    return [pytest.param(nth, marks=() if nth % 2 == first else pytest.mark.nightly) for nth in range(writes)]


class _Ended(BaseException):
    """The operator's process ends here."""


def end_at(client: FakeClient, nth: int) -> list[str]:
    """Let the operator end at its nth write from now on; return the list of the writes."""
    written: list[str] = []
    ask = client._asked  # noqa: SLF001 - whichever request it is

    def asked(method: str, path: str, body: Any) -> None:
        if method not in READS and "/events/" not in path:
            written.append(f"{method} {path}")
            if len(written) == nth + 1:
                raise _Ended
        ask(method, path, body)

    client._asked = asked  # type: ignore[method-assign]  # noqa: SLF001 - as above
    return written


async def a_served_agent() -> Operator:
    """Return an agent whose first revision has passed all stages. It is made once, and copied."""
    return _copy(await _served())


@functools.cache
def _once(make: Callable[[], Awaitable[Operator]]) -> "list[Operator]":
    return []


async def _served() -> Operator:
    kept = _once(_served)
    if not kept:
        operator = await a_ready_agent()
        operator.now += hours(1)
        await operator.converge()
        assert operator.condition("Progressing").reason == "RolloutComplete"
        kept.append(operator)
    return kept[0]


async def _rolled_out() -> Operator:
    kept = _once(_rolled_out)
    if not kept:
        kept.append(await roll_out(await a_served_agent()))
    return kept[0]


def _copy(operator: Operator) -> Operator:
    client = FakeClient(objects=copy_json(operator.client.objects), version=operator.client.version)
    return Operator(client, operator.now)


async def converge(operator: Operator) -> Operator:
    """Let operators follow each other until nothing is left to write."""
    while True:
        try:
            await operator.converge()
        except _Ended:
            operator = operator.restart()
        else:
            return operator


async def roll_out(operator: Operator) -> Operator:
    operator.apply(SECOND)
    operator = await converge(operator)
    operator.now += hours(1)
    return await converge(operator)


def commanding(agent: AgentBuilder, value: str) -> AgentBuilder:
    raw = agent.to_kubernetes()
    raw["metadata"]["annotations"] = {ROLLBACK: value, f"{ROLLBACK}-by": "ada@example.com"}
    return AgentBuilder(raw)


async def roll_back(operator: Operator) -> Operator:
    first = operator.client.objects[PATH]["status"]["rollout"]["passed"][0]
    operator.apply(commanding(SECOND, f"{first['number']}-{first['digest'][:10]}"))
    return await converge(operator)


@pytest.fixture(autouse=True)
def _commands_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the admission policy of commands be in force."""
    read = "interlock.runtime.agent_decision.Turn"
    monkeypatch.setattr(read, lambda *args, **more: replace(Turn(*args, **more), are_commands_checked=True))


@requirement("operator.converges")
@pytest.mark.parametrize("nth", every_other(ROLLOUT_WRITES))
async def test_an_operator_that_ends_at_any_write_of_a_rollout_is_followed_by_one_that_comes_to_the_same_end(
    nth: int,
) -> None:
    undisturbed = await _rolled_out()
    operator = await a_served_agent()
    written = end_at(operator.client, nth)

    operator = await roll_out(operator)

    assert len(written) > nth, "it ended at no write"
    assert operator.end_state() == undisturbed.end_state()


@requirement("operator.converges")
@pytest.mark.parametrize("nth", every_other(ROLLBACK_WRITES))
async def test_an_operator_that_ends_at_any_write_of_a_rollback_is_followed_by_one_that_comes_to_the_same_end(
    nth: int,
) -> None:
    kept = _once(roll_back)
    if not kept:
        kept.append(await roll_back(_copy(await _rolled_out())))
    undisturbed, operator = kept[0], _copy(await _rolled_out())
    written = end_at(operator.client, nth)

    operator = await roll_back(operator)

    assert len(written) > nth, "it ended at no write"
    assert operator.condition("Degraded").reason == "RolledBack"
    assert operator.end_state() == undisturbed.end_state()


@requirement("operator.converges")
@pytest.mark.parametrize("nth", range(1, 5))
async def test_no_status_has_the_number_of_a_revision_and_ready_of_the_pods_before_it(nth: int) -> None:
    operator = Operator()
    operator.apply(STAGED)
    await operator.converge()
    assert operator.condition("Ready").status == "True"
    operator.apply(SECOND)
    end_at(operator.client, nth)

    with contextlib.suppress(_Ended):
        await operator.reconcile_agent()

    number = operator.client.objects[PATH]["status"]["rollout"]["newest"]["number"]
    assert (number, operator.condition("Ready").status) in ((1, "True"), (2, "False"))
