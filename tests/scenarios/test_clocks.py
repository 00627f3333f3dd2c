"""Times in a status that another clock has written: neither a soak nor a verification waits for them."""

from datetime import UTC, datetime, timedelta

import pytest

from interlock.orchestration.soak import StageFacts, StageObservation
from tests.requirements import requirement
from tests.scenarios.test_verification import Bench
from tests.support.builders import NOW, a_snapshot, a_stage, an_agent, hours, seconds, stages
from tests.support.simulation import Simulation, check_soak
from tests.support.soaks import decide_stage

STAGED = an_agent().with_stages(a_stage("staging", lasting="1h"), a_stage("everywhere", "production"))
A_DAY_AND_MORE, EVERYWHERE = a_stage("staging", lasting="30h"), a_stage("everywhere", "production")
FAR = [NOW + timedelta(days=3650), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]


@requirement("rollout.clocks")
@pytest.mark.parametrize("recorded", FAR)
def test_a_stage_that_is_ready_since_the_future_soaks_from_now_on(recorded: datetime) -> None:
    simulation = Simulation(a_snapshot().of(STAGED))
    simulation.run()
    status = simulation.status
    assert status.stage is not None
    simulation.report(status.model_copy(update={"stage": status.stage.model_copy(update={"ready_since": recorded})}))

    outcome = simulation.settle()

    assert outcome.requeue_at == NOW + hours(1)
    check_soak(simulation, hours(1), "staging", "everywhere")


@requirement("rollout.clocks")
@pytest.mark.parametrize("claimed", FAR)
def test_a_pod_that_says_it_is_ready_since_the_future_ends_no_soak_and_no_reconcile(claimed: datetime) -> None:
    written = stages(a_stage("staging", lasting="1h"), a_stage("everywhere", "production"))
    facts = StageFacts(written[0], "r1", NOW)
    seen = StageObservation("r1", is_running=True, ready_since=claimed)

    decision = decide_stage(written, facts, seen, NOW)

    assert decision.index == 0
    assert decision.facts.ready_since == NOW + timedelta(days=1)
    assert decision.next_at == NOW + timedelta(hours=25)


@requirement("rollout.clocks")
def test_a_pod_whose_clock_is_an_hour_ahead_changes_nothing() -> None:
    written = stages(a_stage("staging", lasting="1h"), a_stage("everywhere", "production"))
    facts = StageFacts(written[0], "r1", NOW, ready_since=NOW + hours(1))
    seen = StageObservation("r1", is_running=True, ready_since=NOW + hours(1))

    assert decide_stage(written, facts, seen, NOW).facts == facts


@requirement("rollout.node-clocks")
@pytest.mark.parametrize("skew", [-hours(1), hours(1)])
def test_a_node_whose_clock_is_wrong_by_an_hour_shortens_no_soak(skew: timedelta) -> None:
    """The pods are Ready, fail after 10 hours, and are Ready again, with a soak of 30 hours."""
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(A_DAY_AND_MORE, EVERYWHERE)))
    simulation.node_skew = skew
    simulation.run()
    simulation.wait(hours(10))
    simulation.fail()
    simulation.settle()
    simulation.wait(hours(5))
    simulation.run()
    simulation.forget()

    simulation.wait(hours(20) - seconds(1))
    simulation.run()

    assert simulation.stage == "staging"
    simulation.wait(hours(2) + seconds(1))
    simulation.run()
    assert simulation.stage == "everywhere", "it is no more than two hours longer"


@requirement("rollout.node-clocks", "rollout.restart")
@pytest.mark.parametrize("skew", [-hours(1), timedelta(), hours(1)])
def test_pods_that_were_replaced_unseen_count_an_hour_less_and_no_sooner_by_a_wrong_clock(skew: timedelta) -> None:
    simulation = Simulation(a_snapshot().of(an_agent().with_stages(A_DAY_AND_MORE, EVERYWHERE)))
    simulation.run()
    simulation.wait(hours(5))
    simulation.evict()
    simulation.node_skew = skew
    simulation.serve()
    simulation.wait(hours(10))
    simulation.forget()

    assert hours(30) <= simulation.run().requeue_at - simulation.now + hours(10) <= hours(32)


@requirement("verify.clocks")
@pytest.mark.parametrize("recorded", FAR)
def test_a_run_that_ended_in_the_future_is_followed_by_the_next_one_in_its_interval(recorded: datetime) -> None:
    bench = Bench().verified()
    run = bench.known.run.model_copy(update={"started_at": recorded, "ended_at": recorded})
    known = bench.known.model_copy(update={"run": run})
    bench.builder = bench.builder.with_status(bench.status.model_copy(update={"verification": known}))

    outcome = bench.verify()

    assert outcome.requeue_at <= NOW + hours(1)
    bench.now = outcome.requeue_at
    assert bench.verify().plan.workloads


@requirement("verify.clocks")
@pytest.mark.parametrize("recorded", FAR)
def test_a_run_that_began_in_the_future_ends_by_its_time(recorded: datetime) -> None:
    bench = Bench()
    bench.verify()
    run = bench.known.run.model_copy(update={"started_at": recorded})
    known = bench.known.model_copy(update={"run": run})
    bench.builder = bench.builder.with_status(bench.status.model_copy(update={"verification": known}))

    while not bench.known.run.failures and bench.now < NOW + hours(1):
        bench.now = bench.verify().requeue_at

    assert bench.known.run.failures == 1


@requirement("rollout.clocks")
def test_the_secret_of_an_agent_that_does_not_start_is_created_again_after_the_clock_went_back() -> None:
    simulation = Simulation(a_snapshot().of(STAGED))
    simulation.settle()
    simulation.wait(-hours(1))

    assert any(manifest["kind"] == "Secret" for manifest in simulation.peek().plan.prepare)
