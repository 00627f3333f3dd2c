"""A rollout carries a running service: entering stages, hand-over, draining, and the good revision behind it."""

from dataclasses import replace

import pytest

from interlock.orchestration import placements
from interlock.orchestration.rollout import decide_rollout
from interlock.orchestration.rollout_decision import RolloutEventType, RolloutInvariantError, RolloutState
from interlock.orchestration.rollout_state import GateVerdict, OnBreach, StopReason
from interlock.orchestration.scopes import EVERYTHING
from tests.support.builders import a_stage, seconds, stages
from tests.support.rollouts import StagedAgent, digest, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)


@pytest.fixture
def agent() -> StagedAgent:
    return StagedAgent(STAGES, rules())


@pytest.fixture
def served(agent: StagedAgent) -> StagedAgent:
    """Revision 1 serves production."""
    agent.roll_out("a")
    assert (agent.good, agent.placements, agent.state) == (
        name(1, "a"),
        {"1/everywhere": "serving"},
        RolloutState.COMPLETE,
    )
    return agent


# The first revision


def test_the_first_revision_goes_through_the_stages_and_nobody_serves_the_rest_before_it_is_everywhere(
    agent: StagedAgent,
) -> None:
    agent.describe("a")
    assert (agent.placements, agent.public, agent.state) == (
        {"1/staging": "serving"},
        "1/staging",
        RolloutState.STARTING,
    )
    agent.start_pods()
    assert (agent.state, agent.decision.next_at) == (RolloutState.SOAKING, agent.now + seconds(100))
    agent.wait(100)
    assert agent.placements == {"1/region": "starting", "1/staging": "serving"}
    agent.start_pods().wait(1)
    assert (agent.placements, agent.public) == ({"1/region": "serving"}, "1/region")
    assert (agent.who_serves(region="eu"), agent.who_serves(region="us"), agent.who_serves()) == (["1/region"], [], [])
    agent.wait(50).start_pods().wait(1)
    assert (agent.placements, agent.good) == ({"1/everywhere": "serving"}, name(1, "a"))
    assert agent.who_serves() == agent.who_serves(region="us") == ["1/everywhere"]


# The second


def test_a_new_revision_goes_through_the_stages_while_the_good_one_serves(served: StagedAgent) -> None:
    served.describe("b").start_pods()
    assert served.placements == {"2/staging": "serving", "1/everywhere": "serving"}
    assert served.who_serves() == ["1/everywhere"]

    served.wait(100)
    assert served.placements == {"2/region": "starting", "1/everywhere": "serving", "2/staging": "serving"}
    assert served.who_serves(region="eu") == ["1/everywhere"]

    served.start_pods()
    assert served.who_serves(region="eu") == ["2/region"]
    assert served.who_serves(region="us") == served.who_serves() == ["1/everywhere"]
    assert served.public == "1/everywhere"

    served.wait(50)
    assert served.placements == {"2/everywhere": "starting", "1/everywhere": "serving", "2/region": "serving"}

    served.step()
    served.work_on("1/everywhere").start_pods()
    assert served.placements == {"2/everywhere": "serving", "1/everywhere": "draining"}
    assert served.who_serves() == served.who_serves(region="eu") == ["2/everywhere"]
    assert (served.good, served.facts.passed_refs[-1].name) == (name(2, "b"), name(2, "b"))
    served.wait(31)
    assert served.placements == {"2/everywhere": "serving"}


def test_events_of_a_rollout_come_once_each(served: StagedAgent) -> None:
    served.events.clear()
    served.roll_out("b").settle()
    kinds = [kind for kind, ref in served.events if ref == name(2, "b")]
    assert kinds.count(RolloutEventType.REVISION_STARTED) == 1
    assert kinds.count(RolloutEventType.STAGE_ENTERED) == 2
    assert kinds.count(RolloutEventType.REVISION_GOOD) == 1


# Aborts, breaches and refusals


@pytest.fixture
def mid_way(served: StagedAgent) -> StagedAgent:
    """Revision 2 serves one region, and revision 1 the rest."""
    served.describe("b").start_pods().wait(100).start_pods().wait(10)
    assert served.placements == {"2/region": "serving", "1/everywhere": "serving"}
    return served


@pytest.fixture
def everywhere(served: StagedAgent) -> StagedAgent:
    """Revision 2 serves everything, and is not good before 500 s are over."""
    served.stages = (*STAGES[:-1], STAGES[-1].model_copy(update={"min_duration": "500s"}))
    served.describe("b").start_pods().wait(100).start_pods().wait(50).start_pods().wait(40)
    assert (served.placements, served.good) == ({"2/everywhere": "serving"}, name(1, "a"))
    return served


def test_the_last_stage_has_a_minimum_duration_of_its_own(everywhere: StagedAgent) -> None:
    assert everywhere.state is RolloutState.SOAKING
    assert everywhere.wait(459).good == name(1, "a")
    assert everywhere.wait(1).good == name(2, "b")


def test_an_abort_gives_everything_back_to_the_good_one_in_the_same_decision(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region")
    mid_way.command(abort=name(2, "b"))

    assert mid_way.placements == {"2/region": "draining", "1/everywhere": "serving"}
    assert mid_way.who_serves(region="eu") == ["1/everywhere"]
    stopped = mid_way.facts.stopped
    assert stopped is not None
    assert (stopped.why, stopped.by) == (StopReason.ABORTED, "ada")
    mid_way.wait(29.9)
    assert mid_way.placements == {"2/region": "draining", "1/everywhere": "serving"}
    mid_way.wait(0.1)
    assert mid_way.placements == {"1/everywhere": "serving"}


def test_what_was_aborted_while_it_served_all_serves_until_the_good_one_is_ready(everywhere: StagedAgent) -> None:
    everywhere.command(abort=name(2, "b"))
    assert everywhere.placements == {"1/everywhere": "starting", "2/everywhere": "serving"}
    assert (everywhere.state, everywhere.public) == (RolloutState.RETURNING, "2/everywhere")

    everywhere.start_pods()

    assert (everywhere.state, everywhere.placements) == (RolloutState.STOPPED, {"1/everywhere": "serving"})


def test_without_a_good_revision_an_abort_takes_the_placement_away(agent: StagedAgent) -> None:
    agent.describe("a").start_pods().wait(100).start_pods()
    assert agent.placements == {"1/region": "serving"}

    agent.command(abort=name(1, "a"))

    assert (agent.placements, agent.who_serves(region="eu"), agent.public) == ({}, [], "")


def test_a_breach_rolls_back_as_an_abort_does(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(on_breach=OnBreach.ROLLBACK, gated=frozenset({"region"}))
    mid_way.judge(GateVerdict.BREACHED)

    stopped = mid_way.facts.stopped
    assert stopped is not None
    assert (stopped.why, stopped.message) == (StopReason.BREACHED, "of a test")
    assert mid_way.placements == {"1/everywhere": "serving"}


def test_a_breach_of_pods_that_are_not_ready_rolls_back_too(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(on_breach=OnBreach.ROLLBACK, gated=frozenset({"region"}))
    mid_way.end_pods("2/region").judge(GateVerdict.BREACHED)

    assert mid_way.placements == {"1/everywhere": "serving"}


def test_a_third_revision_replaces_the_second_and_the_rollback_target_stays(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region").describe("c")

    assert mid_way.placements == {"3/staging": "serving", "1/everywhere": "serving", "2/region": "draining"}
    assert (mid_way.good, mid_way.who_serves(region="eu")) == (name(1, "a"), ["1/everywhere"])


def test_a_third_revision_while_the_second_serves_all_brings_the_good_one_back(everywhere: StagedAgent) -> None:
    everywhere.describe("c")
    assert everywhere.placements == {
        "3/staging": "serving",
        "1/everywhere": "starting",
        "2/everywhere": "serving",
    }
    assert everywhere.start_pods().placements == {"3/staging": "serving", "1/everywhere": "serving"}


def test_however_often_a_revision_is_replaced_there_are_four_placements_at_most(everywhere: StagedAgent) -> None:
    everywhere.broken.add(digest("a"))
    for content in "cdefg":
        everywhere.describe(content).start_pods()
        everywhere.work_on(f"{everywhere.facts.last_number}/staging")

    assert len(everywhere.placements) == 4
    assert everywhere.placements["2/everywhere"] == "serving"


def test_a_refused_newest_revision_leaves_the_good_one_running(mid_way: StagedAgent) -> None:
    mid_way.refuse()
    assert (mid_way.placements, mid_way.who_serves(region="eu")) == ({"1/everywhere": "serving"}, ["1/everywhere"])
    assert mid_way.state is RolloutState.REFUSED
    assert mid_way.facts.stage is not None
    assert mid_way.facts.stage.soaked == seconds(0)

    mid_way.describe("b")
    assert mid_way.placements == {"2/region": "starting", "1/everywhere": "serving"}
    mid_way.start_pods()
    assert mid_way.who_serves(region="eu") == ["2/region"]
    assert mid_way.decision.next_at == mid_way.now + seconds(50), "it soaks from zero"


def test_a_good_revision_that_is_no_longer_allowed_ends(mid_way: StagedAgent) -> None:
    mid_way.forbidden.add(digest("a"))
    mid_way.settle()
    assert (mid_way.placements, mid_way.who_serves()) == ({"2/region": "serving"}, [])

    mid_way.forbidden.clear()
    mid_way.settle()
    assert mid_way.placements == {"2/region": "serving", "1/everywhere": "serving"}


def test_a_good_revision_that_is_described_again_ends_where_its_own_stage_is_refused(served: StagedAgent) -> None:
    """What is described was checked in its current stage alone."""
    served.stages = (*served.stages[:-1], *stages(a_stage("world", "production")))
    assert served.settle().placements == {"2/staging": "serving", "1/everywhere": "serving"}
    served.refused.add(served.key("1/everywhere"))
    assert served.settle().placements == {"2/staging": "serving"}
    served.refused.clear()
    assert "1/everywhere" in served.settle().placements


def test_a_complete_revision_runs_on_while_what_is_described_is_refused_and_it_is_allowed(served: StagedAgent) -> None:
    assert served.refuse().placements == {"1/everywhere": "serving"}
    served.forbidden.add(digest("a"))
    assert served.settle().placements == {}
    assert served.state is RolloutState.REFUSED


def test_a_revision_that_must_wait_starts_nothing(served: StagedAgent) -> None:
    served.waits = "others are under way"
    served.describe("b")
    assert (served.newest, served.decision.progress.waiting) == (name(1, "a"), "others are under way")
    served.waits = ""
    assert served.settle().newest == name(2, "b")


def test_a_spec_that_goes_back_to_the_good_revision_is_good_at_once(mid_way: StagedAgent) -> None:
    mid_way.wanted = digest("a")
    facts = mid_way.step().facts
    assert [ref.name for ref in facts.passed_refs] == [name(3, "a")]

    mid_way.settle()
    assert (mid_way.newest, mid_way.good, mid_way.state) == (name(3, "a"), name(3, "a"), RolloutState.COMPLETE)
    assert mid_way.placements == {"3/everywhere": "serving"}


def test_a_spec_that_goes_back_while_the_newest_serves_all_waits_for_the_good_one(everywhere: StagedAgent) -> None:
    everywhere.describe("a")
    assert everywhere.placements == {"3/everywhere": "starting", "2/everywhere": "serving"}
    assert everywhere.start_pods().placements == {"3/everywhere": "serving"}


# Kill, restarts, drain


def test_a_kill_ends_everything_and_drains_nothing(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region").command(abort=name(2, "b"))
    assert mid_way.placements == {"2/region": "draining", "1/everywhere": "serving"}
    mid_way.is_running = False  # its pods are there still
    mid_way.settle()

    assert mid_way.placements == {"1/everywhere": "serving"}
    assert [one.replicas for one in mid_way.decision.placements] == [0]


def test_a_soak_starts_again_after_a_kill_and_the_scope_stays(mid_way: StagedAgent) -> None:
    mid_way.kill().wait(1000).kill(is_killed=False).start_pods()

    assert mid_way.placements == {"2/region": "serving", "1/everywhere": "serving"}
    assert mid_way.decision.next_at == mid_way.now + seconds(50)


def test_nothing_is_entered_while_the_agent_does_not_run(mid_way: StagedAgent) -> None:
    mid_way.wait(39.9)
    mid_way.is_running = False
    assert mid_way.wait(100).state is RolloutState.NOT_RUNNING


def test_no_stage_is_entered_while_the_kill_controller_is_away(mid_way: StagedAgent) -> None:
    mid_way.blocked = "no new pod starts"
    assert mid_way.wait(100).state is RolloutState.BLOCKED
    mid_way.blocked = ""
    assert mid_way.settle().facts.key == mid_way.key("2/everywhere")


def test_a_placement_that_is_wanted_again_no_longer_drains(mid_way: StagedAgent) -> None:
    mid_way.start_pods().work_on("2/region").command(abort=name(2, "b"))
    assert mid_way.placements["2/region"] == "draining"
    mid_way.rules = rules(drain_timeout=seconds(10_000))
    mid_way.command(retry=name(2, "b")).start_pods().wait(100)

    assert mid_way.placements == {"3/region": "serving", "1/everywhere": "serving"}


def test_a_placement_with_nothing_under_way_drains_until_no_node_sends_it_tasks(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(least_drain=seconds(10))
    mid_way.command(abort=name(2, "b"))

    assert mid_way.wait(9.9).placements == {"2/region": "draining", "1/everywhere": "serving"}
    assert mid_way.decision.next_at == mid_way.now + seconds(0.1)
    assert mid_way.wait(0.1).placements == {"1/everywhere": "serving"}


def test_a_kill_waits_for_no_drain(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(least_drain=seconds(10))
    mid_way.command(abort=name(2, "b")).kill()
    assert mid_way.placements == {"1/everywhere": "serving"}


def test_a_placement_drains_no_longer_than_its_timeout_and_the_operator_wakes_then(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region").command(abort=name(2, "b"))

    assert mid_way.decision.next_at == mid_way.now + seconds(30)
    assert mid_way.wait(30).placements == {"1/everywhere": "serving"}
    assert mid_way.decision.next_at is None


def test_what_drains_keeps_what_it_does_not_serve(mid_way: StagedAgent) -> None:
    mid_way.wait(40).work_on("1/everywhere").start_pods()

    draining = next(one for one in mid_way.decision.placements if one.is_draining)
    assert (draining.ref.number, draining.excluded) == (1, (STAGES[1].scope,))


# Stages that change


def test_a_stage_that_is_gone_starts_a_run_of_its_own_in_the_first_stage(mid_way: StagedAgent) -> None:
    mid_way.stages = (STAGES[0], *stages(a_stage("city", "production", scope={"region": ["eu"]})), STAGES[2])
    mid_way.settle()

    assert (mid_way.newest, mid_way.placements) == (
        name(3, "b"),
        {"3/staging": "serving", "1/everywhere": "serving"},
    )


def test_a_stage_that_is_added_after_the_last_one_is_entered_next(agent: StagedAgent) -> None:
    agent.stages = STAGES[:2]
    agent.roll_out("a")
    assert (agent.placements, agent.good) == ({"1/region": "serving"}, name(1, "a"))

    agent.stages = STAGES
    agent.wait(50)
    assert agent.placements == {"1/everywhere": "starting", "1/region": "serving"}
    agent.start_pods()
    assert agent.placements == {"1/everywhere": "serving"}
    assert agent.facts.good is not None
    assert agent.facts.good.stage == STAGES[2]


def test_a_good_revision_that_goes_through_changed_stages_serves_all_the_while(served: StagedAgent) -> None:
    last = stages(a_stage("everywhere", "production", scope={"region": ["eu", "us"]}, lasting="10s"))
    served.stages = (STAGES[0], *last, *stages(a_stage("all", "production")))
    served.settle().start_pods().wait(100)
    assert (served.newest, served.who_serves(region="eu"), served.who_serves()) == (
        name(2, "a"),
        ["1/everywhere"],
        ["1/everywhere"],
    )
    served.start_pods().wait(10)
    assert served.placements == {"2/all": "starting", "1/everywhere": "serving"}
    served.start_pods()
    assert served.placements == {"2/all": "serving"}


def test_a_longer_minimum_of_the_current_stage_holds_at_once(mid_way: StagedAgent) -> None:
    mid_way.stages = (STAGES[0], STAGES[1].model_copy(update={"min_duration": "500s"}), STAGES[2])
    assert mid_way.settle().decision.next_at == mid_way.now + seconds(490)


def test_what_starts_serves_nothing(mid_way: StagedAgent) -> None:
    mid_way.wait(40)
    starting = next(one for one in mid_way.decision.placements if one.key == mid_way.key("2/everywhere"))
    assert (starting.is_serving, starting.excluded) == (False, EVERYTHING)


def test_a_good_revision_that_starts_again_serves_nothing(everywhere: StagedAgent) -> None:
    everywhere.command(abort=name(2, "b"))
    starting = next(one for one in everywhere.decision.placements if one.key == everywhere.key("1/everywhere"))
    assert (starting.is_serving, starting.excluded) == (False, EVERYTHING)


def test_what_serves_for_a_good_one_that_starts_leaves_its_scope_to_the_newest(everywhere: StagedAgent) -> None:
    everywhere.broken.add(digest("a"))
    everywhere.describe("c").start_pods().wait(100).start_pods()
    assert everywhere.placements == {
        "3/region": "serving",
        "1/everywhere": "starting",
        "2/everywhere": "serving",
    }
    assert (everywhere.who_serves(region="eu"), everywhere.who_serves()) == (["3/region"], ["2/everywhere"])


def test_placements_that_would_overlap_are_refused(mid_way: StagedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "partition_violations", lambda *_: ["region=eu has two placements"])
    with pytest.raises(RolloutInvariantError, match="region=eu has two placements"):
        mid_way.step()


def test_a_minimum_of_the_policy_holds_with_its_sentence(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(hold_before=lambda current, _passed: (current + 1, "too little") if current == 1 else None)
    assert mid_way.wait(100).state is RolloutState.MINIMUM
    assert mid_way.decision.progress.message == "too little"


def test_pods_of_a_killed_agent_take_nothing_over_though_they_are_still_ready(mid_way: StagedAgent) -> None:
    mid_way.wait(40)
    mid_way.is_running = False
    mid_way.pods[mid_way.key("2/everywhere")].ready_since = mid_way.now
    mid_way.settle()

    assert mid_way.placements == {"2/everywhere": "starting", "1/everywhere": "serving"}


def test_the_good_one_does_not_wait_behind_a_revision_that_is_no_longer_allowed(everywhere: StagedAgent) -> None:
    everywhere.describe("c")
    assert everywhere.placements["1/everywhere"] == "starting"
    everywhere.forbidden.add(digest("b"))
    everywhere.step()

    assert everywhere.placements == {"3/staging": "serving", "1/everywhere": "serving"}


def test_the_newest_does_not_wait_behind_a_good_revision_that_is_no_longer_allowed() -> None:
    agent = StagedAgent(STAGES[1:], rules()).roll_out("a")
    agent.forbidden.add(digest("a"))

    assert agent.describe("b").placements == {"2/region": "serving"}


def test_a_stage_without_a_soak_serves_until_the_next_one_is_ready() -> None:
    region = stages(a_stage("region", "production", scope={"region": ["eu"]}))
    agent = StagedAgent((STAGES[0], *region, STAGES[2]), rules()).roll_out("a")
    agent.describe("b").start_pods().wait(100).start_pods()
    assert agent.placements == {"2/everywhere": "starting", "1/everywhere": "serving", "2/region": "serving"}
    assert agent.who_serves(region="eu") == ["2/region"]


def test_what_drains_ends_once_it_is_no_longer_allowed(mid_way: StagedAgent) -> None:
    mid_way.work_on("2/region").describe("c")
    assert mid_way.placements["2/region"] == "draining"
    mid_way.forbidden.add(digest("b"))

    assert mid_way.settle().placements == {"3/staging": "serving", "1/everywhere": "serving"}


def test_a_good_revision_that_drains_still_is_back_at_once(mid_way: StagedAgent) -> None:
    mid_way.wait(40).work_on("1/everywhere").start_pods()
    assert mid_way.placements == {"2/everywhere": "serving", "1/everywhere": "draining"}

    mid_way.command(rollback=name(1, "a"))

    assert mid_way.placements == {"3/everywhere": "serving"}


def test_a_stage_with_the_name_of_the_good_ones_starts_while_the_stage_before_it_serves(served: StagedAgent) -> None:
    served.stages = stages(
        a_stage("all", "production", lasting="50s"),
        a_stage("everywhere", "production", scope={"region": ["eu"]}, lasting="9s"),
    )
    served.settle().start_pods().wait(31)
    assert served.placements == {"2/all": "serving"}
    served.wait(19)
    assert served.placements == {"2/everywhere": "starting", "2/all": "serving"}


def test_a_good_revision_of_another_class_runs_until_the_newest_is_good(agent: StagedAgent) -> None:
    agent.stages = stages(a_stage("staging"))
    agent.roll_out("a")
    agent.stages = stages(a_stage("staging"), a_stage("everywhere", "production", lasting="50s"))
    agent.settle().start_pods()
    assert agent.placements == {"1/everywhere": "serving", "1/staging": "serving"}
    agent.work_on("1/staging").wait(50)
    assert agent.placements == {"1/everywhere": "serving", "1/staging": "draining"}
    assert agent.wait(31).placements == {"1/everywhere": "serving"}


def test_a_scope_in_staging_takes_nothing_from_production(served: StagedAgent) -> None:
    served.stages = stages(
        a_stage("staging", scope={"region": ["eu"]}, lasting="100s"), a_stage("everywhere", "production")
    )
    served.describe("b").start_pods()
    assert served.who_serves(region="eu") == ["1/everywhere"]


def test_what_has_never_served_does_not_serve_on_its_way_out() -> None:
    agent = StagedAgent(stages(a_stage("staging"), a_stage("everywhere", "production"))).roll_out("a").roll_out("b")
    agent.broken |= {digest("a"), digest("c")}
    agent.command(rollback=name(1, "a")).describe("c")
    agent.pods[agent.key("4/staging")].ready_since = agent.now
    assert agent.settle().placements["4/everywhere"] == "starting"

    agent.describe("d")

    assert agent.placements["2/everywhere"] == "serving"
    assert "4/everywhere" not in agent.placements


def test_pods_that_are_not_ready_together_do_not_soak(mid_way: StagedAgent) -> None:
    seen = mid_way.observe(mid_way.facts)
    key = mid_way.key("2/region")
    later = mid_way.now + seconds(40)
    partly = replace(seen, placements={**seen.placements, key: replace(seen.placements[key], is_ready=False)})

    decision = decide_rollout(STAGES, mid_way.facts, partly, later, commands=mid_way.commands, rules=mid_way.rules)

    assert decision.progress.state is RolloutState.WAITING_FOR_READY
