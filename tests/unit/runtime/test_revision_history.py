"""The history of an agent's revisions: those that are too old are deleted when a revision begins."""

import pytest

from interlock_contract.clock import write_time
from tests.support.builders import NOW, a_policy, hours
from tests.unit.runtime.test_agent_reconciler import PATH, STAGED, Operator, a_ready_agent

LAX = {"minStaging": "0s", "minLimitedScope": "0s", "requireLimitedScope": False}


async def roll_out(operator: Operator, image: str) -> None:
    operator.apply(STAGED.with_template(image=image))
    await operator.converge()
    operator.now += hours(1)
    await operator.converge()


def passed(operator: Operator) -> list[int]:
    return [one["number"] for one in operator.client.objects[PATH]["status"]["rollout"]["passed"]]


def stored(operator: Operator) -> list[int]:
    names = (one["metadata"]["name"] for one in operator.client.of_kind("ControllerRevision").values())
    return sorted(int(name.split("-")[1]) for name in names)


@pytest.mark.parametrize(("history", "kept"), [({}, [1, 2, 3]), ({"maxAge": "2h"}, [2, 3])], ids=["no bound", "2 h"])
async def test_a_revision_that_is_too_old_is_deleted_and_is_no_target_of_a_rollback(
    history: dict[str, str], kept: list[int]
) -> None:
    operator = await a_ready_agent()
    operator.resources.put_policy(a_policy().requiring(**LAX, history=history).at_version(2).to_kubernetes())
    operator.now += hours(1)
    await operator.converge()
    await roll_out(operator, "example/agent:2")
    for path in operator.client.of_kind("ControllerRevision"):
        age = 9 if "-1-" in path else 1
        operator.client.add_foreign(path, {"metadata": {"creationTimestamp": write_time(NOW - hours(age))}})

    await roll_out(operator, "example/agent:3")

    assert (stored(operator), passed(operator)) == (kept, kept)


async def test_a_rollout_in_the_status_that_cannot_be_read_lets_no_number_be_given_again() -> None:
    """A command that stands names the number, so it would count again."""
    operator = await a_ready_agent()
    operator.now += hours(1)
    await operator.converge()
    await roll_out(operator, "example/agent:2")
    operator.client.objects[PATH]["status"]["rollout"]["lastNumber"] = "two"
    operator = operator.restart()

    await roll_out(operator, "example/agent:3")

    assert operator.client.objects[PATH]["status"]["rollout"]["newest"]["number"] == 3


def bound(operator: Operator, **history: object) -> None:
    operator.resources.put_policy(a_policy().requiring(**LAX, history=history).at_version(2).to_kubernetes())


async def begin(operator: Operator, image: str) -> None:
    """Let a revision begin, and give it no time to become good."""
    operator.apply(STAGED.with_template(image=image).taking_tasks())
    await operator.converge()


async def test_a_rollback_target_outlives_revisions_that_were_never_good() -> None:
    operator = await a_ready_agent()
    bound(operator, count=2)
    operator.now += hours(1)
    await operator.converge()
    await roll_out(operator, "example/agent:2")
    assert passed(operator) == [1, 2]

    for number in (3, 4, 5):
        await begin(operator, f"example/agent:{number}")
        operator.now += hours(0.5)
        await operator.converge()

    assert stored(operator) == [1, 2, 4, 5]


async def test_a_revision_that_still_drains_is_not_too_old() -> None:
    operator = await a_ready_agent(STAGED.taking_tasks())
    bound(operator, maxAge="2h")
    operator.now += hours(1)
    await operator.converge()
    await begin(operator, "example/agent:2")
    for path in operator.client.of_kind("ControllerRevision"):
        operator.client.add_foreign(path, {"metadata": {"creationTimestamp": write_time(NOW - hours(9))}})

    await begin(operator, "example/agent:3")

    assert stored(operator) == [1, 2, 3]
