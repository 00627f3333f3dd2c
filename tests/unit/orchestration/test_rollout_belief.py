"""Facts that were edited, or written by another clock: never more scope, never a shorter soak."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from interlock.api.environments import ClassOf, class_of_name
from interlock.api.shared_types import EnvironmentClass
from interlock.orchestration.rollout_decision import RolloutEventType, RolloutState
from interlock.orchestration.rollout_state import (
    GoodRevision,
    LeavingPlacement,
    PassedRevision,
    RevisionRef,
    StoppedRevision,
    StopReason,
)
from interlock.orchestration.scopes import work_of
from tests.support.builders import NOW, a_stage, hours, seconds, stages
from tests.support.rollouts import Pods, StagedAgent, digest, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)
WORK = work_of(STAGES[2], class_of_name)
EVIL = RevisionRef(7, digest("e"))


@pytest.fixture
def mid_way() -> StagedAgent:
    """Revision 2 serves one region since 10 s, and revision 1 the rest."""
    agent = StagedAgent(STAGES, rules()).roll_out("a").describe("b").start_pods().wait(100).start_pods().wait(10)
    assert agent.placements == {"2/region": "serving", "1/everywhere": "serving"}
    return agent


def lab_is(name: str) -> ClassOf:
    """Return the classes under a policy that gives the environment `lab` this one."""
    return lambda environment: EnvironmentClass(name) if environment == "lab" else class_of_name(environment)


def edit(agent: StagedAgent, **members: Any) -> StagedAgent:
    """Edit the status, and reconcile."""
    agent.facts = replace(agent.facts, **members)
    return agent.settle()


def edit_stage(agent: StagedAgent, **members: Any) -> StagedAgent:
    assert agent.facts.stage is not None
    return edit(agent, stage=replace(agent.facts.stage, **members))


def test_a_good_revision_that_never_passed_does_not_serve(mid_way: StagedAgent) -> None:
    edit(mid_way, good=GoodRevision(EVIL, STAGES[2], mid_way.now, mid_way.now))

    assert (mid_way.good, mid_way.who_serves()) == (name(1, "a"), ["1/everywhere"])
    assert (RolloutEventType.FACT_REFUSED, EVIL.name) in mid_way.events


def test_a_good_revision_serves_no_more_than_it_did_as_the_good_one() -> None:
    agent = StagedAgent(STAGES[:2], rules()).roll_out("a")
    assert agent.facts.good is not None
    edit(agent, good=replace(agent.facts.good, stage=STAGES[2]))
    assert (agent.who_serves(), agent.who_serves(region="eu")) == ([], ["1/region"])


def test_a_good_revision_serves_on_though_its_environment_has_another_class_by_now() -> None:
    agent = StagedAgent((*STAGES[:2], *stages(a_stage("everywhere", "lab"))), rules(class_of=lab_is("production")))
    agent.roll_out("a").describe("b").start_pods().rules = rules(class_of=lab_is("development"))
    assert (agent.settle().good, agent.placements) == (
        name(1, "a"),
        {"2/staging": "serving", "1/everywhere": "serving"},
    )


def test_a_good_revision_without_any_that_passed_does_not_serve(mid_way: StagedAgent) -> None:
    edit(mid_way, passed=())
    assert (mid_way.good, mid_way.placements) == ("", {"2/region": "serving"})


def test_a_revision_that_is_recorded_twice_as_passed_is_its_last_run(mid_way: StagedAgent) -> None:
    one, nine = (PassedRevision(RevisionRef(*ref), WORK) for ref in ((1, digest("a")), (9, digest("c"))))
    edit(mid_way, passed=(one, nine, one))
    assert [ref.number for ref in mid_way.facts.passed_refs] == [9, 1]


def test_a_number_is_never_given_again(mid_way: StagedAgent) -> None:
    edit(mid_way, last_number=0).describe("c")
    assert mid_way.newest == name(3, "c")


@pytest.mark.parametrize(
    "members",
    [
        {"leaving": (LeavingPlacement(EVIL, STAGES[0]),)},
        {"stopped": StoppedRevision(EVIL, NOW, StopReason.ABORTED)},
        {"passed": (PassedRevision(EVIL), PassedRevision(RevisionRef(1, digest("a"))))},
    ],
    ids=["leaving", "stopped", "passed"],
)
def test_every_recorded_number_counts(mid_way: StagedAgent, members: dict[str, Any]) -> None:
    mid_way.facts = replace(mid_way.facts, **members)
    assert mid_way.describe("c").newest == name(8, "c")


def test_the_newest_revision_cannot_have_the_number_of_the_good_one(mid_way: StagedAgent) -> None:
    edit(mid_way, newest=RevisionRef(1, digest("b")))
    assert mid_way.placements == {"3/staging": "serving", "1/everywhere": "serving"}


def test_a_stage_of_another_revision_is_none(mid_way: StagedAgent) -> None:
    edit_stage(mid_way, revision=digest("e"))
    assert mid_way.placements == {"2/staging": "serving", "1/everywhere": "serving"}


def test_a_stage_that_no_spec_has_starts_again_in_the_first_one(mid_way: StagedAgent) -> None:
    edit_stage(mid_way, stage=STAGES[1].model_copy(update={"scope": None}))
    assert mid_way.placements == {"3/staging": "serving", "1/everywhere": "serving"}


def test_a_stage_that_is_gone_starts_again_in_the_first_one(mid_way: StagedAgent) -> None:
    edit(mid_way, stage=None)
    assert mid_way.placements == {"2/staging": "serving", "1/everywhere": "serving"}


def test_a_stop_of_another_revision_is_none(mid_way: StagedAgent) -> None:
    edit(mid_way, stopped=StoppedRevision(EVIL, mid_way.now, StopReason.ABORTED))
    assert mid_way.state is RolloutState.SOAKING


def test_a_stopped_revision_has_no_stage(mid_way: StagedAgent) -> None:
    stage = mid_way.facts.stage
    mid_way.command(abort=name(2, "b"))
    edit(mid_way, stage=stage, serving_since=mid_way.now)
    assert mid_way.placements == {"1/everywhere": "serving"}


@pytest.mark.parametrize("span", [50, 500_000])
def test_a_soak_is_no_longer_than_the_stage(mid_way: StagedAgent, span: float) -> None:
    edit_stage(mid_way, soaked=seconds(span), ready_since=None)
    assert (mid_way.state, mid_way.decision.next_at) == (RolloutState.SOAKING, mid_way.now + seconds(40))


def test_no_stage_was_ready_before_it_was_entered_though_its_pods_were(mid_way: StagedAgent) -> None:
    mid_way.pods[mid_way.key("2/region")].ready_since = mid_way.now - hours(100)
    edit_stage(mid_way, ready_since=mid_way.now - hours(100))
    assert mid_way.decision.next_at == mid_way.now + seconds(40)


@pytest.mark.parametrize("ahead", [hours(1), timedelta(days=3650)])
def test_a_stage_that_was_entered_in_the_future_soaks_longer(mid_way: StagedAgent, ahead: timedelta) -> None:
    edit_stage(mid_way, entered_at=mid_way.now + ahead)
    assert mid_way.wait(39).state is RolloutState.SOAKING
    assert mid_way.wait(2 * 3600).placements["2/everywhere"] == "starting", "and not for ever"


def test_a_placement_that_drains_in_the_future_drains_from_now_on(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region").command(abort=name(2, "b"))
    (leaving,) = mid_way.facts.leaving
    edit(mid_way, leaving=(replace(leaving, draining_since=mid_way.now + hours(9)),))
    assert mid_way.wait(30).placements == {"1/everywhere": "serving"}


def test_a_placement_that_serves_for_none_drains(mid_way: StagedAgent) -> None:
    edit(mid_way, leaving=(LeavingPlacement(RevisionRef(1, digest("a")), STAGES[0]),))
    assert mid_way.placements == {"2/region": "serving", "1/everywhere": "serving"}


@pytest.mark.parametrize(("ref", "is_kept"), [(RevisionRef(2, digest("b")), True), (EVIL, False)])
def test_a_placement_in_a_stage_that_no_spec_has_serves_only_if_it_has_passed(
    mid_way: StagedAgent, *, ref: RevisionRef, is_kept: bool
) -> None:
    (world,) = stages(a_stage("world", "production"))
    passed = (*mid_way.facts.passed, PassedRevision(RevisionRef(2, digest("b")), work_of(world, class_of_name)))
    good = mid_way.facts.good
    assert good is not None
    mid_way.command(abort=name(2, "b"))
    mid_way.broken.add(digest("a"))
    mid_way.pods = {LeavingPlacement(ref, world).key: Pods(is_busy=True)}
    edit(
        mid_way,
        leaving=(LeavingPlacement(ref, world),),
        passed=passed,
        good=replace(good, serving_since=None),
    )
    assert (mid_way.placements.get(f"{ref.number}/world") == "serving") is is_kept


def test_a_stage_that_no_spec_has_gives_no_scope_while_nothing_may_begin(mid_way: StagedAgent) -> None:
    mid_way.waits = "others are under way"
    mid_way.wanted = digest("c")
    edit_stage(mid_way, stage=STAGES[1].model_copy(update={"scope": None}))
    assert mid_way.placements == {"1/everywhere": "serving"}


def test_of_two_placements_that_serve_for_the_good_one_until_it_is_ready_the_second_drains() -> None:
    agent = StagedAgent(STAGES, rules()).roll_out("a").roll_out("b")
    edit_stage(agent, stage=stages(a_stage("moon", "production"))[0])
    agent.command(rollback=name(1, "a"))
    assert agent.who_serves() in (["2/everywhere"], ["3/everywhere"], ["4/everywhere"])
