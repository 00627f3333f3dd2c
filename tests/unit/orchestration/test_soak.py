from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.agent import Stage
from interlock.api.shared_types import EnvironmentClass
from interlock.orchestration.orchestrated import PassedTime
from interlock.orchestration.soak import (
    PodEnds,
    StageFacts,
    StageObservation,
    position,
    soak,
)
from tests.requirements import requirement
from tests.support.builders import NOW, a_stage, seconds, stages
from tests.support.soaks import StageDecision, decide_stage

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("one-region", "production", scope={"region": ["eu-west"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)
LONG_AGO = NOW - timedelta(days=9)
READY = StageObservation("r1", is_running=True, ready_since=LONG_AGO)
NOT_READY = StageObservation("r1", is_running=True)
STOPPED = StageObservation("r1", is_running=False)


def at(offset: float) -> datetime:
    return NOW + seconds(offset)


def facts(
    index: int, *, entered: float = 0, ready: float | None = None, revision: str = "r1", soaked: float = 0, **more: Any
) -> StageFacts:
    since = None if ready is None else at(ready)
    return StageFacts(STAGES[index], revision, at(entered), since, seconds(soaked), **more)


def lost(offset: float) -> StageObservation:
    """A stage that is not Ready since then."""
    return replace(NOT_READY, broken_at=at(offset))


def decide(
    known: StageFacts | None, seen: StageObservation, offset: float, *, hold_before: int | None = None
) -> StageDecision:
    return decide_stage(STAGES, known, seen, at(offset), hold_before=hold_before)


# One decision


def test_a_new_agent_enters_the_first_stage() -> None:
    assert decide(None, NOT_READY, 7) == StageDecision(0, facts(0, entered=7))


def test_a_stage_that_is_not_ready_yet_does_not_soak() -> None:
    assert decide(facts(0), NOT_READY, 1_000_000) == StageDecision(0, facts(0))


def test_the_soak_begins_when_the_stage_is_first_ready() -> None:
    assert decide(facts(0), READY, 5) == StageDecision(0, facts(0, ready=5), next_at=at(105))


@requirement("rollout.requeue")
def test_during_the_soak_the_next_reconcile_is_at_its_end() -> None:
    assert decide(facts(0, ready=5), READY, 60).next_at == at(105)
    assert decide(facts(0, ready=5), READY, 104.999).index == 0


@requirement("rollout.in-turn")
@requirement("rollout.passed")
def test_at_the_end_of_the_soak_the_next_stage_is_entered_and_of_the_old_one_only_its_time_is_kept() -> None:
    entered = decide(facts(0, ready=5), READY, 105)

    assert entered == StageDecision(1, facts(1, entered=105, passed=PassedTime(staging=seconds(100))))
    late = decide(replace(entered.facts, ready_since=at(110)), READY, 200.5)
    assert late.facts.passed == PassedTime(staging=seconds(100), limited=seconds(90))


def test_one_decision_enters_one_stage_however_late_it_comes() -> None:
    assert decide(facts(0, ready=5), READY, 1_000_000).index == 1


def test_the_last_stage_stays_and_requests_no_requeue() -> None:
    assert decide(facts(2, ready=0), READY, 1_000_000) == StageDecision(2, facts(2, ready=0))


def test_a_soak_that_is_over_waits_for_a_stage_that_is_not_ready() -> None:
    waiting = decide(facts(0, ready=5), lost(200), 200)

    assert waiting == StageDecision(0, facts(0, soaked=195))
    back = decide(waiting.facts, READY, 201)
    assert back.index == 1


@requirement("rollout.pause")
def test_a_stage_that_loses_its_readiness_keeps_its_soak_and_the_time_until_it_is_back_does_not_count() -> None:
    paused = decide(facts(0, ready=5), lost(49), 50)
    assert paused == StageDecision(0, facts(0, soaked=44))
    assert decide(paused.facts, NOT_READY, 5_000) == paused

    back = decide(paused.facts, READY, 10_000)
    assert back == StageDecision(0, facts(0, ready=10_000, soaked=44), next_at=at(10_056))
    assert decide(back.facts, READY, 10_055.9).index == 0
    assert decide(back.facts, READY, 10_056).index == 1


@requirement("rollout.pause")
def test_a_break_that_is_over_already_does_not_count() -> None:
    seen = replace(READY, ready_since=at(60), broken_at=at(40))

    assert decide(facts(0, ready=5), seen, 70) == StageDecision(0, facts(0, ready=70, soaked=35), next_at=at(135))


def test_pods_that_take_over_without_a_break_lose_no_time() -> None:
    seen = replace(READY, ready_since=at(30), broken_at=at(40))  # the new pod was Ready before the old one was gone

    assert decide(facts(0, ready=5), seen, 40) == StageDecision(0, facts(0, ready=40, soaked=35), next_at=at(105))


def test_pods_that_take_over_long_before_the_others_go_count_no_time_twice() -> None:
    seen = replace(READY, ready_since=at(30), broken_at=at(7230))

    assert soak(facts(0, ready=5), seen, at(9999)).facts == facts(0, ready=7230, soaked=7225)


@requirement("rollout.node-clocks")
@pytest.mark.parametrize(
    ("claimed", "now", "since"),
    [
        pytest.param(60, 60, 60, id="seen as it begins"),
        pytest.param(-3540, 60, 60, id="by a clock that is an hour behind"),
        pytest.param(60, 1860, 1860, id="seen half an hour later"),
        pytest.param(60, 3700, 3660, id="seen more than an hour later"),
        pytest.param(3660, 60, 3660, id="by a clock that is an hour ahead"),
    ],
)
def test_a_readiness_that_began_again_counts_from_when_it_began_by_any_clock(
    claimed: float, now: float, since: float
) -> None:
    seen = replace(READY, ready_since=at(claimed), broken_at=at(5))

    assert decide(facts(0, ready=5), seen, now).facts == facts(0, ready=since)


@requirement("rollout.unproven")
def test_time_that_nothing_proves_does_not_count() -> None:
    away = decide(facts(0, ready=5, soaked=20), replace(READY, ready_since=at(80), broken_at=at(5)), 90)
    assert away == StageDecision(0, facts(0, ready=90, soaked=20), next_at=at(170))

    gone = decide(facts(0, ready=5, soaked=20), NOT_READY, 90)
    assert gone == StageDecision(0, facts(0, soaked=20))


def test_a_break_in_the_future_ends_now() -> None:
    assert decide(facts(0, ready=5), lost(5_000), 50) == StageDecision(0, facts(0, soaked=45))


def test_a_pod_whose_clock_is_ahead_begins_its_soak_later() -> None:
    ahead = replace(READY, ready_since=at(8))
    begun = decide(facts(0), ahead, 5)

    assert begun == StageDecision(0, facts(0, ready=8), next_at=at(108))
    assert decide(begun.facts, ahead, 6) == begun


# Ends of the agent's container

TOLERANT = replace(READY, max_restarts=2)


def pods(**ends: int) -> tuple[PodEnds, ...]:
    return tuple(PodEnds(uid, count) for uid, count in ends.items())


@requirement("rollout.restarts")
def test_an_end_of_the_container_starts_the_soak_again() -> None:
    crashed = replace(lost(50), pods=pods(a=1))

    again = decide(facts(0, ready=5), crashed, 50)
    assert again == StageDecision(0, facts(0, restarted_at=at(50)))

    ready = decide(again.facts, replace(READY, pods=pods(a=1)), 60)
    counted = facts(0, ready=60, restarted_at=at(50), counted=pods(a=1))
    assert ready == StageDecision(0, counted, next_at=at(160))
    assert decide(ready.facts, replace(READY, pods=pods(a=1)), 159.9) == ready
    assert decide(ready.facts, replace(READY, pods=pods(a=1)), 160).index == 1


@requirement("rollout.restarts")
def test_an_end_that_was_over_before_it_was_seen_starts_the_soak_again() -> None:
    again = decide(facts(0, ready=5), replace(READY, pods=pods(a=1)), 99)

    assert again.facts == facts(0, ready=99, restarted_at=at(99), counted=pods(a=1))
    assert again.next_at == at(199)


@requirement("rollout.restarts")
def test_as_many_ends_as_are_allowed_only_pause_and_one_more_starts_again() -> None:
    two = decide(facts(0, ready=5), replace(TOLERANT, pods=pods(a=1, b=1)), 50)
    assert two.facts == facts(0, ready=5, restarts=2, counted=pods(a=1, b=1))

    three = decide(two.facts, replace(TOLERANT, pods=pods(a=1, b=2)), 60)
    assert three.facts == facts(0, ready=60, restarted_at=at(60), counted=pods(a=1, b=2))


def test_the_ends_in_a_pod_that_is_gone_still_count_and_no_end_counts_twice() -> None:
    one = decide(facts(0, ready=5), replace(TOLERANT, pods=pods(a=1)), 50)
    gone = decide(one.facts, TOLERANT, 60)
    assert gone.facts == facts(0, ready=5, restarts=1)

    two = decide(gone.facts, replace(TOLERANT, pods=pods(b=1)), 70)
    assert decide(two.facts, replace(TOLERANT, pods=pods(b=1)), 80) == two
    assert two.facts.restarts == 2


@requirement("rollout.restarts")
def test_an_end_of_a_pod_that_guards_refuse_does_not_count_nor_the_one_that_is_seen_after() -> None:
    def refused(ends: int) -> tuple[PodEnds, ...]:
        return *pods(a=0), PodEnds("b", ends, is_refused=True)

    first = decide(facts(0, ready=5), replace(READY, pods=refused(0)), 10)
    assert first.facts == facts(0, ready=5, counted=pods(b=1))
    later = decide(first.facts, replace(READY, pods=refused(3)), 20)
    assert later.facts == facts(0, ready=5, counted=pods(b=4))
    known = decide(later.facts, replace(READY, pods=pods(b=4)), 30)
    assert known.facts == later.facts
    assert decide(known.facts, replace(READY, pods=pods(b=5)), 40).facts.restarted_at == at(40)


def test_what_ended_before_the_soak_does_not_count() -> None:
    assert decide(facts(0), replace(NOT_READY, pods=pods(a=7)), 40) == StageDecision(0, facts(0))

    begun = decide(facts(0), replace(READY, pods=pods(a=7)), 50)
    assert begun.facts == facts(0, ready=50, counted=pods(a=7))
    assert decide(begun.facts, replace(READY, pods=pods(a=7)), 60) == begun


def test_an_end_while_the_soak_is_paused_counts() -> None:
    assert decide(facts(0, soaked=40), replace(NOT_READY, pods=pods(a=1)), 60).facts == facts(0, restarted_at=at(60))


def test_a_container_that_ended_with_its_node_did_not_end_by_itself() -> None:
    with_node = replace(READY, pods=(PodEnds("a", 1, is_last_lost=True),))
    seen = decide(facts(0, ready=5), with_node, 50)
    assert seen.facts == facts(0, ready=5, counted=pods(a=1))
    assert decide(seen.facts, with_node, 60) == seen

    twice = replace(READY, pods=(PodEnds("a", 3, is_last_lost=True),))
    assert decide(seen.facts, twice, 70).facts.restarted_at == at(70), "one of the two ended otherwise"


def test_a_lower_limit_holds_at_once() -> None:
    known = facts(0, ready=5, restarts=2, counted=pods(a=2))

    assert decide(known, replace(READY, pods=pods(a=2), max_restarts=1), 60).facts.restarted_at == at(60)


def test_ends_in_the_last_stage_start_nothing_again() -> None:
    assert decide(facts(2, ready=5), replace(READY, pods=pods(a=9)), 60) == StageDecision(2, facts(2, ready=5))


def test_a_stage_without_a_minimum_is_left_as_soon_as_it_was_ready() -> None:
    quick = stages(a_stage("a"), a_stage("b", lasting="0s"), a_stage("c"))
    known: StageFacts | None = None
    entered = []
    for offset in range(5):
        decision = decide_stage(quick, known, READY, at(offset))
        known = decision.facts
        entered.append(decision.index)

    # entered while the stage before was ready; its own readiness is seen at the next reconcile
    assert entered == [0, 1, 2, 2, 2]


def test_a_stage_without_a_minimum_waits_for_no_clock_and_adds_no_time_that_is_still_to_come() -> None:
    quick = stages(a_stage("a", environment="staging"), a_stage("b"))
    ahead = replace(READY, ready_since=at(8))

    decision = decide_stage(quick, StageFacts(quick[0], "r1", NOW), ahead, at(5))

    assert decision == StageDecision(1, StageFacts(quick[1], "r1", at(5)))


def test_a_stage_without_a_minimum_is_still_not_left_before_it_was_ready() -> None:
    quick = stages(a_stage("a"), a_stage("b"))

    assert decide_stage(quick, StageFacts(quick[0], "r1", NOW), NOT_READY, at(99)).index == 0


# Restarts and clocks


@requirement("rollout.restart")
@pytest.mark.parametrize("restarts", [0, 1, 7, 99])
def test_a_restart_in_mid_soak_neither_skips_nor_resets_it(restarts: int) -> None:
    known = decide(facts(0), READY, 0).facts
    for number in range(restarts):  # all that a restart leaves is what was recorded
        known = decide(
            StageFacts(known.stage, known.revision, known.entered_at, known.ready_since), READY, number
        ).facts

    assert decide(known, READY, 99.9).index == 0
    assert decide(known, READY, 100).index == 1


def test_the_time_without_a_reconcile_counts_where_the_pods_show_it() -> None:
    assert decide(facts(0, ready=0), READY, 100).index == 1


@requirement("rollout.clock")
def test_a_clock_that_goes_back_makes_the_soak_longer() -> None:
    known = decide(facts(0), READY, 0).facts

    back = decide(known, READY, -3600)

    assert back == StageDecision(0, known, next_at=at(100))
    assert decide(back.facts, READY, 99).index == 0


# What starts again, what goes on


@requirement("rollout.starts-again")
def test_a_new_revision_starts_at_the_first_stage() -> None:
    seen = replace(READY, revision="r2")

    assert decide(facts(2, ready=0), seen, 500) == StageDecision(0, facts(0, entered=500, revision="r2"))


@pytest.mark.parametrize(
    "changed",
    [
        a_stage("canary", "production", scope={"region": ["eu-west"]}),
        a_stage("one-region", "staging", scope={"region": ["eu-west"]}),
        a_stage("one-region", "production", scope={"region": ["us-east"]}),
        a_stage("one-region", "production", scope={"region": ["eu-west", "us-east"]}),
        a_stage("one-region", "production", scope={"product": ["eu-west"]}),
        a_stage("one-region", "production"),
    ],
    ids=["name", "environment", "value", "more values", "dimension", "no scope"],
)
def test_a_stage_that_is_not_what_was_entered_starts_at_the_first(changed: dict[str, object]) -> None:
    written = (STAGES[0], Stage.model_validate(changed), STAGES[2])

    decision = decide_stage(written, facts(1, ready=0), READY, at(500))

    assert decision == StageDecision(0, StageFacts(written[0], "r1", at(500)))


def test_a_longer_minimum_of_the_present_stage_holds_at_once() -> None:
    longer = (replace_duration(STAGES[0], "300s"), *STAGES[1:])

    assert decide_stage(longer, facts(0, ready=0), READY, at(150)).next_at == at(300)


def test_stages_that_move_keep_the_agents_in_them() -> None:
    more = (*stages(a_stage("dev", "development", lasting="10s")), *STAGES)

    assert position(more, facts(1), "r1") == 2
    assert decide_stage(more, facts(1, ready=0), READY, at(10)).index == 2


def replace_duration(stage: Stage, text: str) -> Stage:
    return stage.model_copy(update={"min_duration": text})


@requirement("rollout.soak-stops")
def test_a_soak_stops_while_nothing_runs_and_starts_again_afterwards() -> None:
    known = facts(0, ready=0, soaked=3, restarts=1, counted=pods(a=1), restarted_at=at(0))
    stopped = decide(known, STOPPED, 90)
    assert stopped == StageDecision(0, facts(0))

    again = decide(stopped.facts, READY, 500)
    assert again == StageDecision(0, facts(0, ready=500), next_at=at(600))
    assert decide(again.facts, READY, 599).index == 0
    assert decide(again.facts, READY, 600).index == 1


def test_nothing_is_entered_while_nothing_runs_though_the_soak_was_over() -> None:
    odd = replace(READY, is_running=False)

    assert decide(facts(0, ready=0), odd, 500) == StageDecision(0, facts(0))


def test_an_agent_that_does_not_run_keeps_the_stage_and_when_it_was_entered() -> None:
    assert decide(facts(1, entered=100, ready=120), STOPPED, 500) == StageDecision(1, facts(1, entered=100))


# Holds


@requirement("rollout.tightened")
def test_a_stage_that_must_not_be_entered_is_not_entered() -> None:
    assert decide(facts(0, ready=0), READY, 100, hold_before=1) == StageDecision(0, facts(0, ready=0), is_held=True)


def test_a_hold_says_nothing_while_the_soak_goes_on() -> None:
    assert decide(facts(0, ready=0), READY, 99, hold_before=1) == StageDecision(0, facts(0, ready=0), next_at=at(100))


def test_a_hold_before_a_later_stage_lets_the_next_one_be_entered() -> None:
    entered = decide(facts(0, ready=0), READY, 100, hold_before=2)

    assert entered.index == 1
    held = decide(facts(1, entered=100, ready=101), READY, 151, hold_before=2)
    assert (held.index, held.is_held) == (1, True)


def test_a_hold_that_is_lifted_lets_the_stage_be_entered_at_once() -> None:
    held = decide(facts(0, ready=0), READY, 500, hold_before=1)

    assert decide(held.facts, READY, 501).index == 1


# Any history at all

SOAKS = (seconds(100), seconds(50), seconds(0))


@dataclass
class History:
    """What a rollout did under some course of events, checked at each step.

    The truth is kept next to it: since when the stage is Ready, until when it was, and for how long it was Ready in all
    since its soak began. The operator may be away at a step, and sees later only what pods prove.

    Attributes:
        known: What is recorded.
        now: The time.
        since: Since when the pods are Ready, None while they are not.
        lost_at: When a readiness that the operator has seen was lost first since its last step; None if it was not.
        was_seen: Whether the operator has seen every change since the recorded `ready_since`.
        truly: How long the stage was Ready since its soak began.
        passed: The stages that were left.
    """

    known: StageFacts | None = None
    now: datetime = NOW
    since: datetime | None = None
    lost_at: datetime | None = None
    was_seen: bool = True
    truly: timedelta = timedelta()
    passed: list[int] = field(default_factory=list)

    def pass_time(self, elapsed: timedelta, *, is_ready: bool) -> None:
        """Let time pass, at the end of which the pods become Ready, or are Ready no longer."""
        if self.since is not None:
            self.truly += elapsed
        self.now += elapsed
        if is_ready and self.since is None:
            self.since = self.now
        elif not is_ready and self.since is not None:
            self.since, self.lost_at = None, self.lost_at or self.now

    def restart(self) -> None:
        """Let the operator forget what pods said before."""
        self.was_seen = self.lost_at is None and self.since is not None
        self.lost_at = None

    def observe(self, revision: str, *, is_running: bool, ends: int) -> StageObservation:
        """Return what the operator can know now."""
        before = self.known.ready_since if self.known else None
        broken_at = None
        if before is not None and (self.since is None or self.since > before):
            broken_at = self.lost_at if self.was_seen and self.lost_at else before
        pods = (PodEnds("a", ends),) if ends else ()
        return StageObservation(revision, is_running, self.since, broken_at, pods)

    def step(self, seen: StageObservation, hold_before: int | None = None) -> StageDecision:
        """Reconcile, and check the decision."""
        before, index = self.known, position(STAGES, self.known, seen.revision)
        decision = decide_stage(STAGES, before, seen, self.now, hold_before=hold_before)
        after = decision.facts
        if index is None:
            assert (decision.index, after) == (0, StageFacts(STAGES[0], seen.revision, self.now))
        elif decision.index != index:
            assert decision.index == index + 1
            assert seen.is_running
            assert self.since is not None
            assert hold_before is None or decision.index < hold_before
            assert self.truly >= SOAKS[index], "it was not Ready for its minimum"
            assert after == StageFacts(STAGES[decision.index], seen.revision, self.now, passed=after.passed)
            gained = timedelta()
            if before is not None:
                gained = after.passed.staging - before.passed.staging + after.passed.limited - before.passed.limited
            assert SOAKS[index] <= gained <= self.truly
            self.passed.append(index)
        else:
            assert before is not None
            self._stayed(before, decision, seen)
        if (
            index is None
            or decision.index != index
            or (after.ready_since is None and not after.soaked)
            or (before and after.restarted_at != before.restarted_at)
        ):
            self.truly = timedelta()
        self.known, self.lost_at, self.was_seen = after, None, True
        return decision

    def _stayed(self, before: StageFacts, decision: StageDecision, seen: StageObservation) -> None:
        after = decision.facts
        assert after.entered_at == before.entered_at
        assert (after.ready_since is None) == (not seen.is_running or self.since is None)
        running = self.now - after.ready_since if after.ready_since else timedelta()
        if after.restarted_at == before.restarted_at and seen.is_running:
            assert after.soaked >= before.soaked, "time that was counted stays counted"
            assert after.soaked + running <= self.truly, "more than the truth was counted"
        else:
            assert after.soaked + running == timedelta()
        if decision.next_at is not None:
            assert after.ready_since is not None
            assert decision.next_at == after.ready_since + max(timedelta(), SOAKS[decision.index] - after.soaked)
            assert decision.next_at > self.now


COURSES = st.lists(
    st.tuples(
        st.integers(0, 60).map(seconds),  # how long it takes until
        st.booleans(),  # the pods are Ready or not; then
        st.sampled_from(["sees it", "sees it", "sees it", "is away", "was restarted"]),  # the operator
        st.sampled_from(["r1"] * 9 + ["r2"]),
        st.sampled_from([True] * 9 + [False]),
        st.sampled_from([0] * 9 + [1]),  # and the agent's container has ended once more
        st.sampled_from([None, None, None, 1, 2]),
    ),
    max_size=60,
)


@requirement("rollout.in-turn", "rollout.unproven")
@settings(max_examples=300)
@given(COURSES)
def test_no_history_counts_more_than_the_time_in_which_the_stage_was_ready(
    course: list[tuple[timedelta, bool, str, str, bool, int, int | None]],
) -> None:
    history = History()
    ends = 0
    for elapsed, is_ready, operator, revision, is_running, new, hold_before in course:
        history.pass_time(elapsed, is_ready=is_ready)
        ends += new
        if operator == "is away":
            continue
        if operator == "was restarted":
            history.restart()
        history.step(history.observe(revision, is_running=is_running, ends=ends), hold_before)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=40))
def test_reconciling_more_often_or_after_restarts_does_not_change_what_is_counted(
    course: list[tuple[int, bool]],
) -> None:
    rare, often = History(), History()
    for history in (rare, often):
        history.step(history.observe("r1", is_running=True, ends=0))
    for gap, is_ready in course:
        rare.pass_time(seconds(gap), is_ready=is_ready)
        rare.step(rare.observe("r1", is_running=True, ends=0), hold_before=1)
        for _ in range(gap):
            often.pass_time(seconds(1), is_ready=often.since is not None)
            often.restart()
            often.step(often.observe("r1", is_running=True, ends=0), hold_before=1)
        often.pass_time(timedelta(), is_ready=is_ready)
        often.step(often.observe("r1", is_running=True, ends=0), hold_before=1)
        assert often.known == rare.known


@settings(max_examples=60)
@given(
    st.integers(0, 2),
    st.integers(0, 1000),
    st.none() | st.integers(0, 1000),
    st.integers(0, 99),
    st.builds(
        StageObservation,
        st.sampled_from(["r1", "r1", "r1", "r2"]),
        st.booleans(),
        st.none() | st.integers(0, 2000).map(at),
        st.none() | st.integers(0, 2000).map(at),
        st.sampled_from([(), (PodEnds("a", 1),), (PodEnds("a", 3), PodEnds("b", 1))]),
        st.integers(0, 3),
    ),
    st.integers(0, 2000),
    st.sampled_from([None, 1, 2]),
)
def test_a_decision_taken_twice_at_the_same_moment_is_the_same(
    index: int,
    entered: int,
    ready: int | None,
    soaked: int,
    seen: StageObservation,
    moment: int,
    hold_before: int | None,
) -> None:
    known = facts(index, entered=entered, ready=ready, soaked=soaked if index < 2 else 0)
    first = decide(known, seen, moment, hold_before=hold_before)

    assert decide(known, seen, moment, hold_before=hold_before) == first
    if first.index == index and first.facts.revision == known.revision:
        again = replace(seen, broken_at=None)  # what is broken was recorded
        assert decide(first.facts, again, moment, hold_before=hold_before) == first


@requirement("budget.environments")
def test_time_in_a_stage_counts_by_the_class_of_its_environment() -> None:
    written = stages(
        a_stage("q", "qa", lasting="10s"),
        a_stage("e", "eu", scope={"region": ["eu"]}, lasting="10s"),
        a_stage("all", "eu"),
    )
    classes = {"qa": EnvironmentClass.STAGING, "eu": EnvironmentClass.PRODUCTION}
    known = StageFacts(written[0], "r1", NOW, ready_since=NOW)
    entered = decide_stage(written, known, READY, at(10), class_of=classes.__getitem__).facts
    assert (entered.stage.name, entered.passed) == ("e", PassedTime(staging=seconds(10)))
    known = StageFacts(written[1], "r1", NOW, ready_since=NOW, passed=entered.passed)
    entered = decide_stage(written, known, READY, at(12), class_of=classes.__getitem__).facts
    assert entered.passed == PassedTime(staging=seconds(10), limited=seconds(12))
