from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.agent import Stage
from interlock.orchestration.rollout import StageDecision, StageFacts, StageObservation, decide_stage, position
from tests.requirements import requirement
from tests.support.builders import NOW, a_stage, seconds, stages

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("one-region", "production", scope={"region": ["eu-west"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)
READY = StageObservation("r1", is_running=True, is_ready=True)
NOT_READY = StageObservation("r1", is_running=True, is_ready=False)
STOPPED = StageObservation("r1", is_running=False, is_ready=False)


def at(offset: float) -> datetime:
    return NOW + seconds(offset)


def facts(index: int, *, entered: float = 0, ready: float | None = None, revision: str = "r1") -> StageFacts:
    return StageFacts(STAGES[index], revision, at(entered), None if ready is None else at(ready))


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
def test_at_the_end_of_the_soak_the_next_stage_is_entered_and_nothing_of_the_old_one_is_kept() -> None:
    assert decide(facts(0, ready=5), READY, 105) == StageDecision(1, facts(1, entered=105))


def test_one_decision_enters_one_stage_however_late_it_comes() -> None:
    assert decide(facts(0, ready=5), READY, 1_000_000).index == 1


def test_the_last_stage_stays_and_requests_no_requeue() -> None:
    assert decide(facts(2, ready=0), READY, 1_000_000) == StageDecision(2, facts(2, ready=0))


def test_a_soak_that_is_over_waits_for_a_stage_that_is_not_ready() -> None:
    waiting = decide(facts(0, ready=5), NOT_READY, 200)

    assert waiting == StageDecision(0, facts(0, ready=5))
    assert decide(waiting.facts, READY, 201).index == 1


def test_a_stage_that_loses_its_readiness_for_a_while_keeps_its_soak() -> None:
    assert decide(facts(0, ready=5), NOT_READY, 50) == StageDecision(0, facts(0, ready=5), next_at=at(105))


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


def test_the_time_without_a_reconcile_counts() -> None:
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
    seen = StageObservation("r2", is_running=True, is_ready=True)

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
    stopped = decide(facts(0, ready=0), STOPPED, 90)
    assert stopped == StageDecision(0, facts(0))

    again = decide(stopped.facts, READY, 500)
    assert again == StageDecision(0, facts(0, ready=500), next_at=at(600))
    assert decide(again.facts, READY, 599).index == 0
    assert decide(again.facts, READY, 600).index == 1


def test_nothing_is_entered_while_nothing_runs_though_the_soak_was_over() -> None:
    odd = StageObservation("r1", is_running=False, is_ready=True)

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


@dataclass
class History:
    """What a rollout did under some course of events, checked at each step."""

    known: StageFacts | None = None
    now: datetime = NOW
    passed: list[int] = field(default_factory=list)

    def step(self, seen: StageObservation, elapsed: timedelta, hold_before: int | None) -> None:
        self.now += elapsed
        before = self.known
        index = position(STAGES, before, seen.revision)
        decision = decide_stage(STAGES, before, seen, self.now, hold_before=hold_before)
        if index is None:
            assert decision.index == 0
            assert decision.facts.ready_since is None
        elif decision.index != index:
            self._entered(index, decision, seen, hold_before)
        else:
            self._stayed(index, decision, seen)
        self.known = decision.facts

    def _entered(self, index: int, decision: StageDecision, seen: StageObservation, hold_before: int | None) -> None:
        before = self.known
        assert before is not None
        assert decision.index == index + 1
        assert seen.is_running
        assert seen.is_ready
        assert hold_before is None or decision.index < hold_before
        since = before.ready_since or self.now
        assert self.now - since >= SOAKS[index]
        assert decision.facts == StageFacts(STAGES[decision.index], seen.revision, self.now)
        self.passed.append(index)

    def _stayed(self, index: int, decision: StageDecision, seen: StageObservation) -> None:
        before, after = self.known, decision.facts
        assert before is not None
        assert after.entered_at == before.entered_at
        assert (after.ready_since is None) == (
            not seen.is_running or (before.ready_since is None and not seen.is_ready)
        )
        if before.ready_since is not None and seen.is_running:
            assert after.ready_since == before.ready_since
        if decision.next_at is not None:
            assert after.ready_since is not None
            assert decision.next_at == after.ready_since + SOAKS[index]
            assert decision.next_at > self.now


SOAKS = (seconds(100), seconds(50), seconds(0))
OBSERVATIONS = st.builds(StageObservation, st.sampled_from(["r1", "r1", "r1", "r2"]), st.booleans(), st.booleans())
STEPS = st.tuples(
    OBSERVATIONS,
    st.integers(-30, 120).map(seconds),
    st.sampled_from([None, None, None, 1, 2]),
)


@requirement("rollout.in-turn")
@settings(max_examples=150)
@given(st.lists(STEPS, max_size=60))
def test_no_history_enters_a_stage_before_the_one_before_it_was_ready_for_its_minimum(
    steps: list[tuple[StageObservation, timedelta, int | None]],
) -> None:
    history = History()
    for step in steps:
        history.step(*step)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=40))
def test_reconciling_more_often_does_not_change_when_stages_are_entered(gaps: list[int]) -> None:
    """Restarts and extra reconciles change nothing: a reconcile at every second decides alike at those moments."""
    rare, often = History(), History()
    for gap in gaps:
        rare.step(READY, seconds(gap), None)
        for _ in range(gap):
            often.step(READY, seconds(1), None)
        if gap == 0:
            often.step(READY, seconds(0), None)
        assert rare.known is not None
        assert often.known is not None
        assert STAGES.index(rare.known.stage) <= STAGES.index(often.known.stage)


@settings(max_examples=60)
@given(
    st.integers(0, 2),
    st.integers(0, 1000),
    st.none() | st.integers(0, 1000),
    OBSERVATIONS,
    st.integers(0, 2000),
    st.sampled_from([None, 1, 2]),
)
def test_a_decision_taken_twice_at_the_same_moment_is_the_same(
    index: int, entered: int, ready: int | None, seen: StageObservation, moment: int, hold_before: int | None
) -> None:
    known = facts(index, entered=entered, ready=ready)
    first = decide(known, seen, moment, hold_before=hold_before)

    assert decide(known, seen, moment, hold_before=hold_before) == first
    if first.index == index and first.facts.revision == known.revision:
        assert decide(first.facts, replace(seen), moment, hold_before=hold_before) == first
