"""A stored status that another version wrote costs the part that cannot be read, and never a kill."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.status import AgentStatus
from interlock.api.stored_status import read_agent_status
from interlock.cluster.object_parser import parse_agent
from interlock.reconcile.layers import killed_by
from tests.requirements import requirement
from tests.support.builders import a_snapshot, an_agent

AT = "2026-03-02T08:00:00Z"
READY: dict[str, Any] = {
    "type": "Ready",
    "status": "False",
    "reason": "PodsNotReady",
    "message": "0 of 1 pods ready",
    "lastTransitionTime": AT,
}
STAGE: dict[str, Any] = {"name": "staging", "environment": "staging", "revision": "0123456789", "enteredAt": AT}
SOUND: dict[str, Any] = {"observedGeneration": 3, "conditions": [READY], "stage": STAGE}

OTHER_VERSIONS: dict[str, dict[str, Any]] = {
    "a reason of a newer version": {"conditions": [READY | {"reason": "SomeNewReason"}]},
    "a condition type of a newer version": {"conditions": [READY | {"type": "NewCondition"}]},
    "a condition status of a newer version": {"conditions": [READY | {"status": "Perhaps"}]},
    "a condition without its time": {"conditions": [{"type": "Ready", "status": "False"}]},
    "an environment of a newer version": {"stage": STAGE | {"environment": "Q A"}},
    "a stage without its time": {"stage": {"name": "staging"}},
    "a time outside of the years in UTC": {"stage": STAGE | {"enteredAt": "0001-01-01T00:00:00+10:00"}},
    "an unknown member": {"somethingNew": 1},
    "conditions that are no list": {"conditions": {"Ready": "True"}},
    "too many conditions": {"conditions": [READY | {"type": f"Type{index}"} for index in range(40)]},
    "a generation of another type": {"observedGeneration": "three"},
    "a negative generation": {"observedGeneration": -7},
    "deep members": {"enforcement": {"guards": [[[[[[]]]]]]}},
}


def agent_with(status: Any) -> Agent:
    parsed = parse_agent({**an_agent().to_kubernetes(), "status": status})
    assert isinstance(parsed, Agent), parsed
    return parsed


@requirement("operator.stored-status")
@pytest.mark.parametrize("status", OTHER_VERSIONS.values(), ids=OTHER_VERSIONS.keys())
def test_an_agent_is_read_whatever_version_wrote_its_status(status: dict[str, Any]) -> None:
    assert agent_with(status).spec == an_agent().build().spec


def test_what_can_be_read_is_kept() -> None:
    read = agent_with(SOUND | {"enforcement": {"guards": "many"}}).status
    assert read == AgentStatus.model_validate(SOUND)

    kept = agent_with({"conditions": [READY, {"type": "Broken"}], "stage": STAGE | {"environment": "Q A"}}).status
    assert kept is not None
    assert [one.type for one in kept.conditions] == ["Ready"]
    assert kept.stage is None, "a stage that is not known starts its rollout from the beginning"


@pytest.mark.parametrize("status", [None, {}, [], "text", 1], ids=repr)
def test_no_status_is_none(status: Any) -> None:
    assert read_agent_status(status) is None


@requirement("operator.stored-status")
@pytest.mark.parametrize(
    ("kill", "is_killed"),
    [
        ({"reason": "stop", "requestedAt": AT}, True),
        ({"reason": "x" * 2000, "requestedAt": AT}, True),
        ({"reason": {"text": "stop"}, "requestedAt": AT}, True),
        ({"reason": "stop"}, True),
        ({"reason": "stop", "requestedAt": "yesterday"}, True),
        ({"reason": "stop", "requestedAt": "0001-01-01T00:00:00+10:00"}, True),
        ({"somethingNew": 1}, True),
        ({"reason": "stop", "requestedAt": AT, "releasedAt": AT}, False),
        ({"reason": 1, "requestedAt": AT, "releasedAt": "later"}, False),
        ({}, False),
    ],
    ids=str,
)
def test_a_recorded_kill_counts_however_it_is_written(kill: dict[str, Any], *, is_killed: bool) -> None:
    for rest in ({}, {"conditions": "none"}):
        agent = agent_with({"kill": kill, **rest})
        snapshot = replace(a_snapshot().build(), agent=agent)
        assert (killed_by(snapshot) is not None) == is_killed
