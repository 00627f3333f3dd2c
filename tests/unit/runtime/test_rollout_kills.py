"""A user who kills or deletes an Agent at any write of a rollout ends all of it, and a release goes on with it."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.requirements import requirement
from tests.support.builders import hours
from tests.support.fake_client import READS
from tests.unit.runtime.test_agent_reconciler import PATH, Operator
from tests.unit.runtime.test_rollout_crashes import ROLLOUT_WRITES, SECOND, a_served_agent, every_other, roll_out

KEPT = ("Agent", "Event", "ControllerRevision")
"""What the API server's garbage collector takes away with the Agent, at the latest."""


def at_write(operator: Operator, nth: int, change: Callable[[], None]) -> list[str]:
    """Let a user change something just before the operator's nth write from now on; return the list of the writes."""
    written: list[str] = []
    ask = operator.client._asked  # noqa: SLF001 - whichever request it is

    def asked(method: str, path: str, body: Any) -> None:
        if method not in READS and "/events/" not in path:
            written.append(f"{method} {path}")
            if len(written) == nth + 1:
                change()
        ask(method, path, body)

    operator.client._asked = asked  # type: ignore[method-assign]  # noqa: SLF001 - as above
    return written


def replicas(operator: Operator) -> list[int]:
    return [found["spec"]["replicas"] for found in operator.client.of_kind("Deployment").values()]


@requirement("rollout.kills")
@pytest.mark.parametrize("nth", every_other(ROLLOUT_WRITES))
async def test_a_kill_at_any_write_of_a_rollout_ends_all_pods_and_a_release_goes_on_with_it(nth: int) -> None:
    operator = await a_served_agent()
    written = at_write(operator, nth, lambda: operator.apply(SECOND.killed()))

    await roll_out(operator)

    assert len(written) > nth, "it was killed at no write"
    assert set(replicas(operator)) == {0}
    assert operator.condition("Ready").reason == "KillSwitch"

    operator.apply(SECOND.killed("off"))
    await operator.converge()
    assert max(replicas(operator)) > 0
    for _ in range(2):
        operator.now += hours(1)
        await operator.converge()
    assert operator.condition("Progressing").reason == "RolloutComplete"
    assert operator.client.objects[PATH]["status"]["rollout"]["good"]["number"] == 2


@requirement("governance.deleted")
@pytest.mark.parametrize("nth", every_other(ROLLOUT_WRITES, first=1))
async def test_a_deletion_at_any_write_of_a_rollout_takes_every_child_away(nth: int) -> None:
    operator = await a_served_agent()
    written = at_write(operator, nth, lambda: operator.apply(SECOND.being_deleted("example.com/keep")))

    await roll_out(operator)

    assert len(written) > nth, "it was deleted at no write"
    assert [one["kind"] for one in operator.client.objects.values() if one["kind"] not in KEPT] == []
    assert operator.condition("Ready").reason == "BeingDeleted"
