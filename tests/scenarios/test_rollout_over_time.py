"""Whole rollouts, reconcile by reconcile, with pods that come and go, restarts, clocks and changes of the spec."""

from datetime import timedelta

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.content import content_of
from interlock.reconcile.agent import SECRET_INTERVAL
from interlock_contract.bundle import BUNDLE_KEY, parse_bundle
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, a_binding, a_policy, a_snapshot, a_stage, an_agent, hours, seconds
from tests.support.simulation import Simulation, check_soak, written_by

REGION = {"region": ["eu-west"]}
STAGING = a_stage("staging", lasting="168h")
ONE_REGION = a_stage("one-region", "production", scope=REGION, lasting="48h")
EVERYWHERE = a_stage("everywhere", "production")
STAGED = an_agent().with_stages(STAGING, ONE_REGION, EVERYWHERE)
SANDBOX = a_binding("sandbox").serving("crm", "development", "staging")
REAL = a_binding("real").serving("crm", "production")
DEFAULTS = a_policy().requiring()


def a_rollout() -> Simulation:
    return Simulation(a_snapshot().of(STAGED).with_policy(DEFAULTS).with_bindings(SANDBOX, REAL))


def soaking(span: timedelta = timedelta()) -> Simulation:
    simulation = a_rollout()
    simulation.run()
    simulation.wait(span)
    return simulation


def in_one_region() -> Simulation:
    simulation = soaking(hours(168))
    simulation.run()
    assert simulation.stage == "one-region"
    return simulation


def everywhere() -> Simulation:
    simulation = in_one_region()
    simulation.wait(hours(48))
    simulation.run()
    assert simulation.stage == "everywhere"
    return simulation


@requirement("rollout.in-turn", "rollout.requeue", "status.events")
def test_an_agent_goes_from_staging_to_one_region_to_everywhere_in_its_own_time() -> None:
    simulation = a_rollout()

    assert simulation.settle().requeue_at == NOW + SECRET_INTERVAL, "no stage waits for a time"
    simulation.wait(hours(1))
    simulation.serve()
    assert simulation.settle().requeue_at == NOW + hours(1 + 168)

    simulation.wait(hours(168) - seconds(1))
    assert simulation.settle().status.stage == simulation.status.stage
    assert simulation.stage == "staging"
    simulation.wait(seconds(1))
    assert simulation.settle().requeue_at == simulation.now + SECRET_INTERVAL
    assert simulation.stage == "one-region"

    simulation.serve()
    assert simulation.settle().requeue_at == NOW + hours(1 + 168 + 48)
    simulation.wait(hours(48))
    simulation.run()
    assert simulation.stage == "everywhere"
    assert simulation.peek().requeue_at is None
    assert simulation.condition(ConditionType.PROMOTION_PENDING).reason == "LastStage"
    entered = [note.message for note in simulation.events if note.reason == "StageEntered"]
    assert [text.split(" with ")[0] for text in entered] == [
        "entered stage staging (staging, everywhere)",
        "entered stage one-region (production, region eu-west)",
        "entered stage everywhere (production, everywhere)",
    ]


def test_the_stage_is_reported_with_its_scope_and_when_the_next_one_comes() -> None:
    stage = in_one_region().status.stage

    assert stage is not None
    assert (stage.name, stage.environment, stage.scope_summary) == ("one-region", "production", "region=eu-west")
    assert stage.entered_at == stage.ready_since == NOW + hours(168)
    assert (stage.next_name, stage.next_at) == ("everywhere", NOW + hours(168 + 48))


@requirement("status.next-stage")
def test_the_message_and_the_stage_say_which_stage_follows_at_which_time_of_the_clock() -> None:
    simulation = in_one_region()
    message = simulation.condition(ConditionType.PROMOTION_PENDING).message
    assert message.startswith(f"everywhere follows at {NOW + hours(168 + 48):%Y-%m-%dT%H:%M:%SZ} if one-region stays")
    last = everywhere().status.stage
    assert last is not None
    assert (last.next_name, last.next_at) == ("", None)


@requirement("status.next-stage")
def test_the_history_names_what_has_happened_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = 8
    monkeypatch.setattr("interlock.reconcile.rollout_history.MAX_EVENTS", kept)
    simulation = everywhere()
    assert [(str(one.event), one.stage, one.at) for one in simulation.status.history] == [
        ("StageEntered", "staging", simulation.status.history[0].at),
        ("StageEntered", "one-region", NOW + hours(168)),
        ("StageEntered", "everywhere", NOW + hours(168 + 48)),
        ("Good", "everywhere", NOW + hours(168 + 48)),
    ]
    simulation.kill()
    simulation.run()
    assert len(simulation.status.history) == 4, "the history of a killed agent stays"
    simulation.release()
    for number in range(kept + 4):
        simulation.wait(seconds(1))
        simulation.apply(
            simulation.snapshot.agent.for_purpose(f"purpose {number}").with_template(image=f"example/agent:{number}")
        )
        simulation.run()
    assert [one.stage for one in simulation.status.history] == ["staging"] * kept
    assert len({one.revision for one in simulation.status.history}) == kept


@pytest.mark.parametrize("at", ["staging", "one-region", "everywhere"])
def test_an_agent_in_its_soak_is_ready_and_not_stalled(at: str) -> None:
    simulation = {"staging": soaking, "one-region": in_one_region, "everywhere": everywhere}[at]()

    assert simulation.condition(ConditionType.READY).status == "True"
    assert simulation.condition(ConditionType.STALLED).status == "False"
    pending = simulation.condition(ConditionType.PROMOTION_PENDING)
    assert (pending.status, pending.reason) == (("False", "LastStage") if at == "everywhere" else ("True", "Soaking"))


@requirement("rollout.own-objects")
def test_each_stage_has_a_deployment_of_its_own_and_the_one_before_is_pruned() -> None:
    staging, one_region, last = (step().child("Deployment") for step in (soaking, in_one_region, everywhere))
    names = [found["metadata"]["name"] for found in (staging, one_region, last)]

    assert len(set(names)) == 3
    assert '"INTERLOCK_SCOPE", "value": "[]"' not in str(one_region)


def test_a_stages_bundle_holds_its_scope_and_the_binding_of_its_environment() -> None:
    def bundle(simulation: Simulation) -> str:
        found = [child.manifest.get("data", {}) for child in simulation.snapshot.children.values()]
        return next(data["bundle.json"] for data in found if "bundle.json" in data)

    assert '"binding":"sandbox"' in bundle(soaking()).replace(" ", "")
    limited = bundle(in_one_region()).replace(" ", "")
    assert '"binding":"real"' in limited
    assert '"scope":[{"dimension":"region","values":["eu-west"]}]' in limited
    assert '"scope":[]' in bundle(everywhere()).replace(" ", "").split('"sources"')[0]


@requirement("operator.idle")
@pytest.mark.parametrize("at", [soaking, in_one_region, everywhere])
def test_reconciling_again_while_nothing_changes_writes_nothing_at_all(at: object) -> None:
    simulation = at()  # type: ignore[operator]
    simulation.wait(seconds(30))

    outcome = simulation.peek()

    assert outcome.plan.is_empty
    before = simulation.status
    assert outcome.status == before.model_copy(update={"kill": None})


# Restarts, clocks, failing pods


@requirement("rollout.restart")
def test_an_operator_that_was_away_during_the_soak_enters_one_stage_and_soaks_the_next_in_full() -> None:
    simulation = soaking(hours(10_000))

    simulation.run()

    assert simulation.stage == "one-region"
    check_soak(simulation, hours(48), "one-region", "everywhere")


def test_a_crash_after_the_children_and_before_the_status_neither_shortens_nor_restarts_the_soak() -> None:
    simulation = soaking(hours(168))
    simulation.carry_out(simulation.peek())  # the new placement exists, nothing is recorded

    simulation.run()  # the old placement comes back, since the record says so
    assert simulation.stage == "one-region"
    assert simulation.status.stage is not None
    assert simulation.status.stage.ready_since == simulation.now


def test_a_crash_at_any_single_write_ends_where_an_undisturbed_operator_ends() -> None:
    undisturbed = in_one_region()
    for survived in range(len(written_by(soaking(hours(168)).peek().plan))):
        simulation = soaking(hours(168))
        outcome = simulation.peek()
        kept = set(map(str, written_by(outcome.plan)[:survived]))
        partial = type(outcome.plan)(
            prepare=tuple(one for one in outcome.plan.prepare if str(one) in kept),
            grants=tuple(one for one in outcome.plan.grants if str(one) in kept),
            workloads=tuple(one for one in outcome.plan.workloads if str(one) in kept),
        )
        simulation.carry_out(type(outcome)(partial, outcome.status))
        simulation.run()
        assert simulation.status == undisturbed.status
        assert set(simulation.snapshot.children) == set(undisturbed.snapshot.children)


@requirement("rollout.clock")
def test_a_clock_that_goes_back_makes_the_soak_longer() -> None:
    simulation = soaking(-hours(5))

    simulation.run()
    simulation.wait(hours(168))
    simulation.run()
    assert simulation.stage == "staging"
    simulation.wait(hours(5))
    simulation.run()
    assert simulation.stage == "one-region"


def test_a_stage_whose_pods_fail_is_not_left_and_goes_on_when_they_are_back() -> None:
    simulation = soaking(hours(200))
    simulation.fail()

    simulation.settle()
    assert simulation.stage == "staging"
    assert simulation.condition(ConditionType.READY).reason == "PodsNotReady"
    pending = simulation.condition(ConditionType.PROMOTION_PENDING)
    assert (pending.reason, pending.message) == (
        "WaitingForReady",
        "the soak is over: one-region follows once staging is Ready again",
    )

    simulation.run()
    assert simulation.stage == "one-region"


# Changes in between


@requirement("rollout.starts-again")
def test_a_new_revision_starts_at_the_first_stage_next_to_the_one_that_serves() -> None:
    simulation = everywhere()
    [before] = workloads(simulation)

    simulation.apply(STAGED.with_template(image="example/agent:2"))
    simulation.run()

    assert simulation.stage == "staging"
    assert before in workloads(simulation)
    assert len(workloads(simulation)) == 2
    assert simulation.status.stage is not None
    assert simulation.status.stage.ready_since == simulation.now


@requirement("revision.labels", "rollout.starts-again")
def test_a_label_that_grants_data_starts_at_the_first_stage() -> None:
    policy = DEFAULTS.giving_labelled({"team": "support"}, "crm", delete=["contacts"])
    simulation = everywhere()
    simulation.find_policy(policy)
    simulation.run()
    assert simulation.stage == "everywhere"

    simulation.apply(STAGED.labelled(team="support"))
    simulation.run()

    assert simulation.stage == "staging"
    assert granted(simulation) == ["contacts"]


@requirement("revision.labels")
def test_a_label_that_changed_in_mid_revision_counts_only_when_a_row_selects_by_it() -> None:
    simulation = everywhere()
    simulation.apply(STAGED.labelled(team="support", chart="support-1.3"))
    simulation.run()
    assert simulation.stage == "everywhere"

    simulation.find_policy(DEFAULTS.giving_labelled({"team": "support"}, "crm", delete=["contacts"]))
    simulation.run()

    assert simulation.stage == "staging"
    assert granted(simulation) == ["contacts"]


@requirement("revision.whole-digest", "rollout.starts-again")
def test_a_spec_whose_revision_begins_like_the_reviewed_one_starts_at_the_first_stage() -> None:
    """An author who chooses one variable finds two specs with equal first digits in seconds."""
    reviewed, other = alike(digits=4)
    simulation = Simulation(a_snapshot().of(reviewed).with_policy(DEFAULTS).with_bindings(SANDBOX, REAL))
    simulation.run()
    for span in (hours(168), hours(48)):
        simulation.wait(span)
        simulation.run()
    assert simulation.stage == "everywhere"

    simulation.apply(other)
    simulation.run()

    assert simulation.stage == "staging"


def alike(digits: int) -> tuple[AgentBuilder, AgentBuilder]:
    """Return an agent and one with another image whose revisions begin with the same digits."""
    policy, found = DEFAULTS.build(), dict[str, AgentBuilder]()
    bindings = SANDBOX.build(), REAL.build()
    for count in range(1 << (2 * digits + 3)):
        builds = [
            STAGED.with_template(image=f"example/agent:{name}", env=[{"name": "BUILD", "value": str(count)}])
            for name in ("reviewed", "evil")
        ]
        first, second = (content_of(one.build(), policy, bindings).digest[:digits] for one in builds)
        found[first] = builds[0]
        if second in found:
            return found[second], builds[1]
    raise AssertionError("no collision was found")


def workloads(simulation: Simulation) -> list[str]:
    """Return the names of all Deployments."""
    return [key.name for key in simulation.snapshot.children if key.kind == "Deployment"]


def granted(simulation: Simulation) -> list[str]:
    """Return what the matrix lets the newest revision delete."""
    assert simulation.status.stage is not None
    [text] = [
        child.manifest["data"][BUNDLE_KEY]
        for child in simulation.snapshot.children.values()
        if BUNDLE_KEY in child.manifest.get("data", {})
        and parse_bundle(child.manifest["data"][BUNDLE_KEY]).revision == simulation.status.stage.revision
    ]
    matrix = next(grant for grant in parse_bundle(text).sources[0].grants if grant.layer == "Matrix")
    return list(matrix.delete)


def test_a_changed_owner_or_purpose_restarts_nothing() -> None:
    simulation = soaking(hours(100))
    since = simulation.status.stage

    simulation.apply(STAGED.owned_by("Grace", "grace@example.com").for_purpose("Another"))
    simulation.run()

    assert simulation.status.stage == since
    assert simulation.status.observed_generation == 2


def test_a_changed_scope_of_the_present_stage_starts_at_the_first() -> None:
    simulation = in_one_region()

    wider = a_stage("one-region", "production", scope={"region": ["eu-west", "us-east"]}, lasting="48h")
    simulation.apply(STAGED.with_stages(STAGING, wider, EVERYWHERE))
    simulation.run()

    assert simulation.stage == "staging"


@requirement("rollout.tightened")
def test_a_minimum_tightened_in_mid_rollout_holds_the_stages_to_come_and_takes_nothing_away() -> None:
    simulation = in_one_region()
    simulation.find_policy(a_policy().requiring(minStaging="500h", minLimitedScope="96h"))
    simulation.wait(hours(48))

    simulation.run()

    assert simulation.stage == "one-region"
    assert simulation.condition(ConditionType.READY).status == "True"
    assert simulation.condition(ConditionType.ORCHESTRATED).status == "True"
    pending = simulation.condition(ConditionType.PROMOTION_PENDING)
    assert (pending.status, pending.reason) == ("True", "MinimumNotReached")
    assert "48h in limited scope, but AgentPolicy support requires 96h" in pending.message

    longer = a_stage("one-region", "production", scope=REGION, lasting="96h")
    simulation.apply(STAGED.with_stages(STAGING, longer, EVERYWHERE))
    simulation.run()
    assert simulation.stage == "one-region"
    assert simulation.peek().requeue_at == NOW + hours(168 + 96)
    simulation.wait(hours(48))
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_minimum_tightened_at_the_end_changes_nothing() -> None:
    simulation = everywhere()
    simulation.find_policy(a_policy().requiring(minStaging="9999h", minLimitedScope="9999h"))

    simulation.run()

    assert simulation.stage == "everywhere"
    assert simulation.condition(ConditionType.READY).status == "True"


def test_a_rollout_cut_short_in_staging_cannot_reach_production_early() -> None:
    simulation = soaking(hours(1))

    simulation.apply(STAGED.with_stages({**STAGING, "minDuration": "1s"}, ONE_REGION, EVERYWHERE))
    simulation.run()

    assert simulation.stage == "staging"
    assert simulation.condition(ConditionType.PROMOTION_PENDING).reason == "MinimumNotReached"


@pytest.mark.parametrize(
    "written",
    [
        [ONE_REGION, EVERYWHERE],
        [EVERYWHERE],
        [a_stage("renamed", lasting="1s"), ONE_REGION, EVERYWHERE],
    ],
)
def test_a_rollout_whose_present_stage_is_gone_is_judged_as_a_new_one(written: list[dict[str, object]]) -> None:
    simulation = soaking(hours(1))

    simulation.apply(STAGED.with_stages(*written))
    simulation.run()

    assert simulation.condition(ConditionType.ORCHESTRATED).reason == "MinimumNotReached"
    assert simulation.snapshot.children == {}


@requirement("rollout.passed")
@pytest.mark.parametrize(
    "edited",
    [
        pytest.param(
            [a_stage("first", lasting="168h"), a_stage("second", lasting="1s")], id="the passed one is longer"
        ),
        pytest.param([STAGING, a_stage("first", lasting="1s"), a_stage("second", lasting="1s")], id="one is added"),
        pytest.param([a_stage("second", lasting="1s"), a_stage("first", lasting="168h")], id="swapped"),
    ],
)
def test_an_author_who_edits_stages_that_were_passed_skips_no_soak(edited: list[dict[str, object]]) -> None:
    """The attack: the sum of all stages stays what the policy requires, and the agent was in none of them for long."""
    first, second = a_stage("first", lasting="1s"), a_stage("second", lasting="168h")
    agent = an_agent().with_stages(first, second, ONE_REGION, EVERYWHERE)
    simulation = Simulation(a_snapshot().of(agent).with_policy(DEFAULTS).with_bindings(SANDBOX, REAL))
    simulation.run()
    simulation.wait(seconds(1))
    simulation.run()
    assert simulation.stage == "second"

    simulation.apply(an_agent().with_stages(*edited, ONE_REGION, EVERYWHERE))
    for _ in range(20):
        simulation.wait(hours(8))
        simulation.run()

    assert simulation.stage in ("first", "second")


@requirement("rollout.passed")
def test_an_author_who_adds_a_limited_stage_before_the_current_one_skips_no_soak() -> None:
    simulation = in_one_region()
    never = a_stage("never", "production", scope=REGION, lasting="48h")

    simulation.apply(STAGED.with_stages(STAGING, never, {**ONE_REGION, "minDuration": "1s"}, EVERYWHERE))
    simulation.wait(hours(40))
    simulation.run()

    assert simulation.stage == "one-region"
    pending = simulation.condition(ConditionType.PROMOTION_PENDING)
    assert (pending.status, pending.reason) == ("True", "MinimumNotReached")
    assert "1s in limited scope, but AgentPolicy support requires 48h" in pending.message


@requirement("rollout.passed")
def test_the_status_has_the_time_in_passed_stages_until_a_new_revision() -> None:
    simulation = in_one_region()
    simulation.wait(hours(50))
    simulation.kill()
    simulation.run()
    simulation.release()
    simulation.run()
    simulation.wait(hours(48))
    simulation.run()

    assert (simulation.stage, passed(simulation)) == ("everywhere", (hours(168), hours(48)))
    simulation.apply(STAGED.with_template(image="example/agent:2"))
    simulation.run()
    assert (simulation.stage, passed(simulation)) == ("staging", (hours(0), hours(0)))


def passed(simulation: Simulation) -> tuple[timedelta, timedelta]:
    stage = simulation.status.stage
    assert stage is not None
    return seconds(stage.passed_staging_seconds), seconds(stage.passed_limited_seconds)


# What a soak does not count


@requirement("rollout.soak-stops")
def test_a_kill_stops_the_soak_and_a_release_starts_it_again() -> None:
    simulation = soaking(hours(167))

    simulation.kill()
    simulation.run()
    assert simulation.peek().requeue_at is None
    simulation.wait(hours(500))
    simulation.run()
    assert simulation.stage == "staging"

    simulation.release()
    assert simulation.run().requeue_at == simulation.now + hours(168)
    check_soak(simulation, hours(168), "staging", "one-region")


def test_scaling_to_zero_stops_the_soak_and_scaling_up_starts_it_again() -> None:
    simulation = soaking(hours(167))

    simulation.apply(STAGED.with_replicas(0))
    simulation.run()
    assert simulation.condition(ConditionType.READY).reason == "ScaledToZero"
    simulation.wait(hours(500))
    simulation.run()
    assert simulation.stage == "staging"

    simulation.apply(STAGED.with_replicas(2))
    assert simulation.run().requeue_at == simulation.now + hours(168)


def test_a_refusal_stops_the_soak_keeps_the_stage_and_fixing_it_starts_the_soak_again() -> None:
    simulation = in_one_region()
    simulation.wait(hours(47))

    simulation.find_policy(None)
    simulation.run()
    assert simulation.snapshot.children == {}
    stage = simulation.status.stage
    assert stage is not None
    assert (stage.name, stage.ready_since, stage.next_at) == ("one-region", None, None)

    simulation.find_policy(DEFAULTS)
    assert simulation.run().requeue_at == simulation.now + hours(48)
    assert simulation.stage == "one-region"


# Readiness that is lost, and ends of the agent's container


def pending_message(simulation: Simulation) -> str:
    return simulation.condition(ConditionType.PROMOTION_PENDING).message


@requirement("rollout.pause")
def test_a_stage_that_is_not_ready_pauses_its_soak() -> None:
    simulation = soaking(hours(100))
    simulation.fail()
    simulation.settle()
    assert simulation.peek().requeue_at == simulation.now + SECRET_INTERVAL, "no stage waits for a time"
    assert (
        pending_message(simulation)
        == "the soak before one-region is paused at 100h of 168h until staging is Ready again"
    )

    simulation.wait(hours(1_000))
    assert simulation.run().requeue_at == simulation.now + hours(68)
    assert simulation.stage == "staging"
    simulation.wait(hours(68))
    simulation.run()
    assert simulation.stage == "one-region"


@requirement("rollout.restarts")
def test_an_agent_that_ends_again_and_again_is_never_promoted() -> None:
    """The attack: ready for 20 s, then it ends, with a soak of 30 s."""
    agent = an_agent().with_stages(a_stage("staging", lasting="30s"), EVERYWHERE)
    simulation = Simulation(a_snapshot().of(agent).with_bindings(SANDBOX, REAL))
    for _ in range(12):
        simulation.run()
        simulation.wait(seconds(20))
        simulation.crash()
        simulation.settle()
        simulation.wait(seconds(1))

    assert simulation.stage == "staging"
    restarted = [note for note in simulation.events if note.reason == "SoakRestarted"]
    assert len(restarted) == 12
    assert "the agent's container ended by itself more often than spec.rollout.maxRestarts (0)" in restarted[0].message
    assert pending_message(simulation).startswith(
        "the soak before everywhere starts once Ready; the soak started again at"
    )


@requirement("rollout.restarts")
def test_as_many_restarts_as_allowed_only_pause_the_soak() -> None:
    simulation = soaking()
    simulation.apply(STAGED.with_stages(STAGING, ONE_REGION, EVERYWHERE, maxRestarts=2))
    for number in (1, 2):
        simulation.wait(hours(50))
        simulation.crash()
        simulation.run()
        assert simulation.status.stage is not None
        assert (simulation.status.stage.restarts, simulation.status.stage.soaked_seconds) == (number, number * 180_000)
        assert simulation.peek().requeue_at == simulation.now + hours(168 - 50 * number)

    simulation.wait(hours(50))
    simulation.crash()
    simulation.run()
    assert simulation.status.stage is not None
    assert (simulation.status.stage.restarts, simulation.status.stage.soaked_seconds) == (0, 0)
    assert simulation.peek().requeue_at == simulation.now + hours(168)


def test_ends_before_the_first_readiness_restart_nothing() -> None:
    simulation = a_rollout()
    simulation.settle()
    simulation.crash(5)
    simulation.settle()
    simulation.wait(hours(1))

    assert simulation.run().requeue_at == simulation.now + hours(168)
    assert not [note for note in simulation.events if note.reason == "SoakRestarted"]


@requirement("rollout.pause")
def test_an_eviction_only_pauses_the_soak() -> None:
    simulation = soaking(hours(100))
    simulation.evict()
    simulation.settle()
    simulation.wait(hours(3))

    assert simulation.run().requeue_at == simulation.now + hours(68)


@requirement("rollout.pause")
def test_a_node_that_restarts_only_pauses_the_soak() -> None:
    simulation = soaking(hours(100))
    simulation.crash(with_node=True)
    simulation.settle()
    simulation.wait(hours(3))

    assert simulation.run().requeue_at == simulation.now + hours(68)


def test_more_or_fewer_replicas_lose_no_time() -> None:
    for before, after in ((1, 3), (3, 1)):
        simulation = a_rollout()
        simulation.apply(STAGED.with_replicas(before))
        simulation.run()
        simulation.wait(hours(100))
        simulation.apply(STAGED.with_replicas(after))
        simulation.settle()
        assert simulation.run().requeue_at == simulation.now + hours(68), (before, after)


def test_another_isolation_loses_no_time() -> None:
    simulation = soaking(hours(100))
    simulation.find_policy(a_policy().requiring().isolating(staging="Separate"))
    simulation.settle()
    simulation.wait(hours(1))

    assert simulation.run().requeue_at == simulation.now + hours(68)


@requirement("rollout.unproven")
def test_what_no_operator_saw_counts_only_where_the_pods_show_it() -> None:
    """The operator is away for 50 hours: the pods stay, are not Ready for an hour, or are replaced."""
    stayed = soaking(hours(150))
    stayed.forget()
    assert stayed.run().requeue_at == stayed.now + hours(18)

    lost = soaking(hours(120))
    lost.fail()
    lost.wait(hours(1))
    lost.serve()
    lost.wait(hours(29))
    lost.forget()
    assert lost.run().requeue_at == lost.now + hours(168 - 28), "the first hour that was unseen does not count"

    replaced = soaking(hours(120))
    replaced.evict()
    replaced.serve()
    replaced.wait(hours(29))
    replaced.forget()
    assert replaced.run().requeue_at == replaced.now + hours(168 - 28)


@requirement("rollout.restarts")
def test_an_end_that_no_operator_saw_starts_the_soak_again() -> None:
    simulation = soaking(hours(120))
    simulation.crash()
    simulation.serve()
    simulation.forget()

    assert simulation.run().requeue_at == simulation.now + hours(168)
    assert [note.reason for note in simulation.events].count("SoakRestarted") == 1


def test_a_release_and_a_new_stage_begin_without_what_was_counted() -> None:
    simulation = soaking(hours(100))
    simulation.crash()
    simulation.run()
    simulation.kill()
    simulation.run()
    stage = simulation.status.stage
    assert stage is not None
    assert (stage.soaked_seconds, stage.restarts, stage.restarted_pods, stage.soak_restarted_at) == (0, 0, (), None)
    assert pending_message(simulation) == "the soak before one-region starts once Ready"
