from typing import Any

import pytest

from interlock_contract.kill import KillLatch, observe
from tests.requirements import requirement

KILL = {"reason": "leak", "requestedAt": "T1"}
LATER = {"reason": "again", "requestedAt": "T2"}


def agent(switch: str | None = None, kill: dict[str, str] | None = None) -> dict[str, Any]:
    annotations = {} if switch is None else {"interlock.dev/kill-switch": switch}
    return {"metadata": {"annotations": annotations}, "status": {} if kill is None else {"kill": kill}}


def after(*objects: dict[str, Any]) -> str | None:
    latch = KillLatch()
    for found in objects:
        latch = observe(latch, (found.get("metadata") or {}).get("annotations"), found.get("status"))
    return latch.message


@pytest.mark.parametrize("value", ["on", "true", "", " ", "Off", "OFF", "off ", "0ff", "false", "no"])
@requirement("kill.any-value")
def test_any_value_but_off_kills(value: str) -> None:
    assert after(agent(value)) == value


@pytest.mark.parametrize("found", [agent(), agent("off"), {}, {"metadata": None, "status": None}, {"metadata": {}}])
def test_an_agent_without_the_switch_lives(found: dict[str, Any]) -> None:
    assert after(found) is None


@requirement("kill.latched")
def test_removing_the_switch_releases_nothing() -> None:
    assert after(agent("leak"), agent(), agent()) == "leak"


def test_off_releases_and_its_removal_changes_nothing() -> None:
    assert after(agent("leak"), agent("off")) is None
    assert after(agent("leak"), agent("off"), agent()) is None


def test_a_release_is_not_taken_back_by_a_status_that_lags_behind() -> None:
    assert after(agent("leak", KILL), agent("off", KILL), agent(None, KILL)) is None


def test_a_kill_after_a_release_counts_again() -> None:
    assert after(agent("leak"), agent("off"), agent("again")) == "again"
    assert after(agent("leak", KILL), agent("off", KILL), agent(None, LATER)) == "again"


def test_a_guard_that_starts_goes_by_the_status_where_the_switch_is_gone() -> None:
    assert after(agent(None, KILL)) == "leak"
    assert after(agent(None, {**KILL, "releasedAt": "T2"})) is None
    assert after(agent("off", KILL)) is None


def test_a_killed_guard_is_not_released_by_the_status() -> None:
    assert after(agent("leak"), agent(None, {**KILL, "releasedAt": "T2"})) == "leak"
