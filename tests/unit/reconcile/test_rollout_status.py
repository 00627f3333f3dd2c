"""What is remembered about a rollout survives its status, also that of an earlier version and one that was edited."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from interlock.api.agent import Agent, Stage
from interlock.api.environments import class_of_name
from interlock.api.status import AgentStatus
from interlock.api.stored_status import read_agent_status
from interlock.orchestration.orchestrated import PassedTime
from interlock.orchestration.rollout_state import (
    Approval,
    GoodRevision,
    LeavingPlacement,
    PassedRevision,
    PlacementKey,
    RevisionRef,
    RolloutFacts,
    StoppedRevision,
    StopReason,
)
from interlock.orchestration.scopes import work_of
from interlock.orchestration.soak import PodEnds, StageFacts
from interlock.reconcile.rollout_status import RolloutRecord, read_record, write_rollout, write_stage
from tests.support.builders import NOW, a_stage, an_agent, hours, stages

AGENT = an_agent().with_stages(
    a_stage("staging", lasting="168h"),
    a_stage("region", "production", scope={"region": ["eu-west"]}, lasting="48h"),
    a_stage("everywhere", "production"),
)
STAGING, REGION, EVERYWHERE = stages(
    a_stage("staging"),
    a_stage("region", "production", scope={"region": ["eu-west"]}),
    a_stage("everywhere", "production"),
)
GOOD, NEWEST, OLDER = RevisionRef(2, "b" * 64), RevisionRef(3, "c" * 64), RevisionRef(1, "a" * 64)
SOAKING = StageFacts(
    REGION,
    NEWEST.digest,
    NOW - hours(5),
    ready_since=NOW - hours(2),
    soaked=hours(1),
    restarts=2,
    counted=(PodEnds("uid-1", 3),),
    restarted_at=NOW - hours(4),
    passed=PassedTime(hours(168), hours(3)),
)
MIDWAY = RolloutFacts(
    newest=NEWEST,
    stage=SOAKING,
    serving_since=NOW - hours(2),
    was_ready=True,
    good=GoodRevision(GOOD, EVERYWHERE, NOW - hours(99), NOW - hours(98)),
    passed=(PassedRevision(OLDER), PassedRevision(GOOD, work_of(EVERYWHERE, class_of_name))),
    leaving=(LeavingPlacement(NEWEST, STAGING, NOW, ((), REGION.scope or ())),),
    approved=(
        Approval("everywhere", "ada@example.com", is_vouched=True, may_override_gates=True, work="0123456789abcdef"),
    ),
    last_number=7,
    handled_commands=("abort 1-aaaaaaaaaa",),
)
STOPPED = replace(
    MIDWAY,
    stage=None,
    serving_since=None,
    approved=(),
    stopped=StoppedRevision(NEWEST, NOW, StopReason.ROLLED_BACK, "ada@example.com", "to revision 2-bbbbbbbbbb"),
)
COLLISIONS = {PlacementKey("region", NEWEST.digest): 1, PlacementKey("everywhere", GOOD.digest): 2}


def stored(facts: RolloutFacts) -> Agent:
    """Return an Agent whose status has these facts, as the API server would give it."""
    record = RolloutRecord(facts, COLLISIONS, {OLDER.digest: "d" * 64})
    status = AgentStatus(
        rollout=write_rollout(record),
        stage=write_stage(facts.stage, NEWEST, 1) if facts.stage is not None else None,
    )
    return with_status(status.to_kubernetes())


def with_status(raw: dict[str, Any]) -> Agent:
    return AGENT.build().model_copy(update={"status": read_agent_status(raw)})


@pytest.mark.parametrize("facts", [MIDWAY, STOPPED, RolloutFacts()], ids=["midway", "stopped", "nothing"])
def test_facts_are_the_same_after_they_were_stored(facts: RolloutFacts) -> None:
    assert read_record(stored(facts)).facts == facts


def test_collisions_and_digests_of_contents_are_the_same_after_they_were_stored() -> None:
    record = read_record(stored(MIDWAY))
    assert {key: count for key, count in record.collisions.items() if count} == COLLISIONS
    assert record.content_digests == {OLDER.digest: "d" * 64}


def test_an_agent_without_a_status_has_no_rollout() -> None:
    assert read_record(AGENT.build()) == RolloutRecord()


def test_a_stage_without_a_revision_is_none() -> None:
    """The operator could not write back what it had read."""
    stage = {"name": "everywhere", "environment": "production", "revision": "", "enteredAt": "2026-03-01T00:00:00Z"}
    assert read_record(with_status({"stage": stage})) == RolloutRecord()


@pytest.mark.parametrize(
    ("stage", "is_ready", "is_good"),
    [("everywhere", True, True), ("everywhere", False, False), ("region", True, False)],
    ids=["ready in its last stage", "not ready in its last stage", "on its way"],
)
def test_a_status_of_an_earlier_version_has_one_revision_whose_pods_stay(
    stage: str,
    is_ready: bool,  # noqa: FBT001
    is_good: bool,  # noqa: FBT001
) -> None:
    raw: dict[str, Any] = {
        "stage": {
            "name": stage,
            "environment": "production",
            "scope": [{"dimension": "region", "values": ["eu-west"]}] if stage == "region" else [],
            "revision": "e" * 64,
            "revisionSummary": "e" * 12,
            "specDigest": "f" * 64,
            "collisionCount": 3,
            "enteredAt": "2026-03-01T00:00:00Z",
            **({"readySince": "2026-03-01T00:01:00Z"} if is_ready else {}),
        },
        "history": [
            {"name": stage, "environment": "production", "revision": "e" * 64, "enteredAt": "2026-03-01T00:00:00Z"}
        ],
    }
    agent = with_status(raw)
    record = read_record(agent)
    ref = RevisionRef(1, "e" * 64)
    assert (record.is_earlier, record.facts.newest, record.facts.last_number) == (True, ref, 1)
    assert record.collisions == {PlacementKey(stage, "e" * 64): 3}
    assert (record.facts.good.ref if record.facts.good else None) == (ref if is_good else None)
    assert record.facts.passed_refs == ((ref,) if is_good else ())
    assert agent.status is not None
    assert [(one.stage, one.revision) for one in agent.status.history] == [(stage, "e" * 64)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("good", "stage"), "no name!"),
        (("newest", "digest"), 7),
        (("leaving",), "none"),
        (("good", "scope"), [{"dimension": "region"}]),
    ],
    ids=["a stage without a name", "a digest that is no text", "no list", "a scope without values"],
)
def test_an_edited_status_costs_what_was_edited_and_no_reconcile(path: tuple[str, ...], value: Any) -> None:
    raw = stored(MIDWAY).status
    assert raw is not None
    written = raw.to_kubernetes()
    part = written["rollout"]
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    assert read_record(with_status(written)).facts != MIDWAY


def test_a_stop_with_an_unknown_reason_is_a_stop() -> None:
    status = stored(STOPPED).status
    assert status is not None
    raw = status.to_kubernetes()
    raw["rollout"]["stopped"]["reason"] = "SomethingNew"
    facts = read_record(with_status(raw)).facts
    assert facts.stopped is not None
    assert facts.stage is None


def test_a_stage_of_another_revision_is_not_that_of_the_newest() -> None:
    status = stored(MIDWAY).status
    assert status is not None
    raw = status.to_kubernetes()
    raw["stage"]["revision"] = "f" * 64
    facts = read_record(with_status(raw)).facts
    assert (facts.stage, facts.serving_since) == (None, None)


def test_a_number_that_is_known_from_elsewhere_is_not_given_again() -> None:
    assert read_record(stored(MIDWAY), last_number=12).facts.last_number == 12
    assert read_record(stored(MIDWAY), last_number=2).facts.last_number == 7


def test_a_soak_of_a_part_of_a_second_is_stored_in_whole_seconds() -> None:
    facts = replace(MIDWAY, stage=replace(SOAKING, soaked=timedelta(seconds=3, milliseconds=900)))
    found = read_record(stored(facts)).facts
    assert found.stage is not None
    assert found.stage.soaked == timedelta(seconds=3)


def test_the_stage_of_the_status_names_its_revision() -> None:
    status = write_stage(SOAKING, NEWEST, 0)
    assert (status.number, status.revision_name) == (3, f"3-{'c' * 10}")
    assert Stage(name="region", environment="production", scope=status.scope) == REGION
