"""Gates of stages: what guards count, a Prometheus measures and test Jobs prove decides who goes on."""

import copy
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from interlock.api.status import Condition, ConditionType
from interlock.deployment.names import Manifest
from interlock.deployment.plan import LiveChild
from interlock.orchestration.gates import MetricResult
from interlock.orchestration.rollout_state import Command, RolloutCommands
from interlock.reconcile.agent import reconcile
from interlock_contract.bundle import BUNDLE_KEY, Bundle, parse_bundle
from interlock_contract.work_counts import SettledCounts, WorkCounts, dump_counts
from tests.support.builders import AgentBuilder, a_binding, a_policy, a_snapshot, a_stage, an_agent, hours, seconds
from tests.support.simulation import Simulation

GATES = {"minTasks": 50, "maxErrorPercent": 5}
BREACH = "error rate 6 % of tasks, at most 5 %"
TEST = {"name": "smoke", "image": "example/smoke:1"}
JOB_FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}
JOB_COMPLETE = {"type": "Complete", "status": "True"}


def an_agent_with(stage: dict[str, Any], image: str = "example/agent:1") -> AgentBuilder:
    """Return an agent with gates or tests in staging."""
    staging = a_stage("staging", lasting="168h") | stage
    built = an_agent().taking_tasks().with_template(image=image)
    return built.with_stages(staging, a_stage("everywhere", "production"))


def begin(agent: AgentBuilder, stage: str = "staging") -> Simulation:
    """Return an agent without a good revision that is Ready in this stage, after no soak."""
    policy = a_policy().requiring(minStaging="0s", requireLimitedScope=False)
    simulation = Simulation(a_snapshot().of(agent).with_policy(policy).with_bindings(a_binding()))
    simulation.run()
    assert simulation.stage == stage
    return simulation


def a_second_rollout(stage: dict[str, Any]) -> Simulation:
    """Return an agent whose second revision is Ready in staging, next to a good one."""
    simulation = begin(an_agent_with({}))
    simulation.wait(hours(168))
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    simulation.apply(an_agent_with(stage, image="example/agent:2"))
    simulation.run()
    assert simulation.stage == "staging"
    return simulation


def count(simulation: Simulation, tasks: int, failed: int, *, stage: str = "staging") -> None:
    """Let the guard in a stage have counted so much in all."""
    counts = WorkCounts(task_buckets=(tasks,), tasks_failed=failed)
    lease = lease_of(simulation, stage)
    annotations = {"counts.interlock.dev/pod-1": dump_counts(SettledCounts("a" * 16, counts))}
    changed = copy.deepcopy(lease)
    changed["metadata"]["annotations"] = {**lease["metadata"].get("annotations", {}), **annotations}
    simulation.edit(LiveChild(changed))


def lease_of(simulation: Simulation, stage: str) -> Manifest:
    [found] = [
        child.manifest
        for key, child in simulation.snapshot.children.items()
        if key.kind == "Lease" and child.manifest["metadata"]["labels"]["interlock.dev/stage"] == stage
    ]
    return found


def images(simulation: Simulation) -> set[str]:
    """Return the images that run."""
    found = set()
    for key, child in simulation.snapshot.children.items():
        if key.kind == "Deployment":
            containers = child.manifest["spec"]["template"]["spec"]["containers"]
            found |= {one["image"] for one in containers if one["name"] == "agent"}
    return found


def jobs(simulation: Simulation) -> list[Manifest]:
    return [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Job"]


def end_job(simulation: Simulation, condition: dict[str, str], *pods: Manifest) -> None:
    [job] = jobs(simulation)
    simulation.test_pods = {job["metadata"]["name"]: pods}
    simulation.edit(LiveChild({**job, "status": {"conditions": [condition]}}))


def a_test_pod(code: int, log: str) -> Manifest:
    ended = {"exitCode": code, "message": log}
    return {
        "metadata": {"name": "p"},
        "status": {"containerStatuses": [{"name": "test", "state": {"terminated": ended}}]},
    }


def bundles(simulation: Simulation) -> dict[str, Bundle]:
    """Return the bundles by stage."""
    texts = (child.manifest.get("data") or {} for child in simulation.snapshot.children.values())
    found = [parse_bundle(data[BUNDLE_KEY]) for data in texts if BUNDLE_KEY in data]
    return {one.stage: one for one in found}


def pending(simulation: Simulation) -> Condition:
    return simulation.condition(ConditionType.PROMOTION_PENDING)


def promote(simulation: Simulation, *, may_override_gates: bool = False) -> None:
    stage = simulation.status.stage
    assert stage is not None
    given = Command(stage.revision_name, "everywhere", "ada", is_vouched=True, may_override_gates=may_override_gates)
    simulation.snapshot = replace(simulation.snapshot, commands=RolloutCommands(promote=given))


def reasons(simulation: Simulation) -> list[str]:
    return [note.reason for note in simulation.events]


# Counts


def test_only_guards_of_a_stage_with_gates_count_and_a_good_revision_counts_no_longer() -> None:
    simulation = a_second_rollout({"gates": GATES})
    assert {stage: one.is_counted for stage, one in bundles(simulation).items()} == {
        "staging": True,
        "everywhere": False,
    }
    count(simulation, 50, 0)
    simulation.wait(hours(168))
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    assert {stage: one.is_counted for stage, one in bundles(simulation).items()} == {"everywhere": False}


def test_a_stage_is_left_once_its_soak_is_over_and_its_gates_pass_and_not_below_the_sample() -> None:
    simulation = a_second_rollout({"gates": GATES})
    simulation.wait(hours(168))
    count(simulation, 49, 49)  # every one failed, and nothing is judged yet
    simulation.run()
    found = pending(simulation)
    assert (simulation.stage, found.reason) == ("staging", "GatePending")
    assert "at least 45 of 50 tasks" in found.message
    promote(simulation)  # never past a minimum
    simulation.run()
    assert (simulation.stage, pending(simulation).reason) == ("staging", "GatePending")

    count(simulation, 1000, 49)
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_breach_that_holds_says_its_figures_and_goes_on_once_the_rate_is_within_the_limit() -> None:
    simulation = a_second_rollout({"gates": GATES})
    count(simulation, 50, 3)
    simulation.run()
    degraded = simulation.condition(ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason) == ("True", "GateBreached")
    assert BREACH in degraded.message
    assert (pending(simulation).reason, BREACH in pending(simulation).message) == ("GateBreached", True)
    assert reasons(simulation).count("GateBreached") == 1
    assert images(simulation) == {"example/agent:1", "example/agent:2"}

    simulation.wait(hours(168))
    count(simulation, 50, 3)
    simulation.run()
    promote(simulation)  # not past a breach without the right to override
    simulation.run()
    assert simulation.stage == "staging"
    count(simulation, 100, 3)
    simulation.run()
    assert simulation.stage == "everywhere"
    assert reasons(simulation).count("GateBreached") == 1


def test_a_promote_with_the_right_to_override_goes_past_a_breach() -> None:
    simulation = a_second_rollout({"gates": GATES})
    count(simulation, 50, 3)
    simulation.wait(hours(168))
    simulation.run()
    assert simulation.stage == "staging"

    promote(simulation, may_override_gates=True)
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_breach_rolls_back_to_the_good_revision_by_itself_which_was_never_touched() -> None:
    simulation = a_second_rollout({"gates": GATES | {"onBreach": "Rollback"}})
    before = [child for key, child in simulation.snapshot.children.items() if _is_of(key.kind, child, "everywhere")]

    count(simulation, 50, 3)
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()

    assert images(simulation) == {"example/agent:1"}
    after = [child for key, child in simulation.snapshot.children.items() if _is_of(key.kind, child, "everywhere")]
    assert [one.manifest["spec"] for one in before] == [one.manifest["spec"] for one in after]
    degraded = simulation.condition(ConditionType.DEGRADED)
    assert (degraded.status, degraded.reason, BREACH in degraded.message) == ("True", "GateBreached", True)
    assert simulation.condition(ConditionType.SERVING).status == "True"
    assert [one.event for one in simulation.status.history].count("Breached") == 1
    assert reasons(simulation).count("GateBreached") == 1
    simulation.forget()  # nothing retries by itself, whatever the counts say then
    simulation.run()
    assert images(simulation) == {"example/agent:1"}


def _is_of(kind: str, child: LiveChild, stage: str) -> bool:
    return kind == "Deployment" and child.manifest["metadata"]["labels"]["interlock.dev/stage"] == stage


def test_a_breach_without_a_good_revision_takes_the_placement_of_the_stage_away() -> None:
    simulation = begin(an_agent_with({"gates": GATES | {"onBreach": "Rollback"}}))
    count(simulation, 50, 3)
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    assert images(simulation) == set()
    assert simulation.condition(ConditionType.DEGRADED).reason == "GateBreached"


def test_a_breach_without_a_good_revision_that_only_holds_takes_nothing_away() -> None:
    simulation = begin(an_agent_with({"gates": GATES}))
    count(simulation, 50, 3)
    simulation.run()
    assert images(simulation) == {"example/agent:1"}
    assert simulation.condition(ConditionType.DEGRADED).reason == "GateBreached"


def test_the_policys_gates_hold_where_a_stage_has_none() -> None:
    simulation = a_second_rollout({})
    simulation.find_policy(
        a_policy().requiring(minStaging="0s", requireLimitedScope=False, gates=GATES | {"onBreach": "Rollback"})
    )
    simulation.run()
    count(simulation, 50, 3)
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    assert images(simulation) == {"example/agent:1"}


def test_a_soak_that_starts_again_is_judged_by_what_comes_after_also_by_a_restarted_operator() -> None:
    simulation = begin(an_agent_with({"gates": GATES}))
    count(simulation, 1000, 1000)
    simulation.run()
    simulation.crash()  # the soak begins again, after all of them
    simulation.run()
    baseline = simulation.status.stage and simulation.status.stage.baseline
    assert baseline
    simulation.forget()
    count(simulation, 1049, 1000)
    simulation.run()
    assert simulation.status.stage is not None
    assert simulation.status.stage.baseline == baseline
    simulation.wait(hours(168))
    simulation.run()
    assert pending(simulation).reason == "GatePending"
    count(simulation, 1050, 1000)
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_status_that_lost_its_baseline_lets_no_stage_be_entered_unjudged() -> None:
    simulation = a_second_rollout({"gates": GATES})
    count(simulation, 1000, 0)
    simulation.wait(hours(168))
    stage = simulation.status.stage
    assert stage is not None
    edited = simulation.status.model_copy(update={"stage": stage.model_copy(update={"baseline": ""})})
    simulation.report(edited)
    simulation.run()
    assert (simulation.stage, pending(simulation).reason) == ("staging", "GatePending")


def test_gates_of_the_last_stage_hold_what_becomes_good_and_not_what_is_good() -> None:
    agent = an_agent_with({})
    agent = agent.with_stages(a_stage("staging"), a_stage("everywhere", "production") | {"gates": GATES})
    simulation = begin(agent, stage="everywhere")
    assert simulation.status.rollout is not None
    assert simulation.status.rollout.good is None
    assert pending(simulation).reason == "GatePending"
    count(simulation, 50, 0, stage="everywhere")
    simulation.run()
    assert simulation.condition(ConditionType.PROGRESSING).reason == "RolloutComplete"
    assert not bundles(simulation)["everywhere"].is_counted
    count(simulation, 100, 100, stage="everywhere")
    simulation.run()
    assert simulation.condition(ConditionType.DEGRADED).status == "False"


# Metrics

METRIC = {"name": "quality", "query": "avg(quality)", "min": "0.9"}


def measure(simulation: Simulation, result: MetricResult) -> None:
    simulation.snapshot = replace(simulation.snapshot, metrics={"quality": result})


def test_a_metric_source_that_is_away_holds_and_a_promote_goes_past_it() -> None:
    simulation = a_second_rollout({"gates": {"metrics": [METRIC]}})
    measure(simulation, MetricResult(trouble="Prometheus did not answer within 5 s"))
    simulation.wait(hours(168))
    simulation.run()
    found = pending(simulation)
    assert (simulation.stage, found.reason) == ("staging", "GateWithoutVerdict")
    assert "Prometheus did not answer within 5 s" in found.message
    assert "interlock.dev/promote=" in found.message

    promote(simulation)
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_metric_without_an_answer_yet_holds_and_a_good_one_lets_the_rollout_go_on() -> None:
    simulation = a_second_rollout({"gates": {"metrics": [METRIC]}})
    simulation.wait(hours(168))
    simulation.run()
    assert (simulation.stage, pending(simulation).reason) == ("staging", "GateWithoutVerdict")
    measure(simulation, MetricResult(Decimal("0.9")))
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_metric_beyond_its_bound_rolls_back() -> None:
    simulation = a_second_rollout({"gates": {"metrics": [METRIC], "onBreach": "Rollback"}})
    measure(simulation, MetricResult(Decimal("0.89")))
    simulation.run()
    assert "metric quality is 0.89, at least 0.9" in simulation.condition(ConditionType.DEGRADED).message
    assert simulation.condition(ConditionType.DEGRADED).reason == "GateBreached"


def test_no_metric_is_judged_before_the_stage_was_ready() -> None:
    simulation = begin(an_agent_with({}))
    simulation.apply(an_agent_with({"gates": {"metrics": [METRIC], "onBreach": "Rollback"}}, image="example/agent:2"))
    measure(simulation, MetricResult(Decimal("0.1")))
    simulation.settle()
    assert simulation.condition(ConditionType.DEGRADED).status == "False"


# Tests


def test_a_test_runs_once_and_its_success_lets_the_rollout_go_on() -> None:
    simulation = a_second_rollout({"tests": [TEST]})
    [job] = jobs(simulation)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "example/smoke:1"
    assert job["spec"]["template"]["spec"]["hostAliases"][0]["ip"] == "10.96.0.41"
    simulation.wait(hours(168))
    simulation.run()
    assert (simulation.stage, pending(simulation).reason) == ("staging", "GatePending")
    promote(simulation)
    simulation.run()
    assert simulation.stage == "staging"

    end_job(simulation, JOB_COMPLETE, a_test_pod(0, ""))
    simulation.run()
    assert simulation.stage == "everywhere"
    assert reasons(simulation).count("TestEnded") == 1


def test_a_test_starts_only_once_its_placement_is_ready() -> None:
    simulation = begin(an_agent_with({}))
    simulation.apply(an_agent_with({"tests": [TEST]}, image="example/agent:2"))
    simulation.settle()
    assert jobs(simulation) == []
    simulation.run()
    assert len(jobs(simulation)) == 1


def test_no_test_starts_while_no_pod_may_start() -> None:
    simulation = begin(an_agent_with({}))
    simulation.apply(an_agent_with({"tests": [TEST]}))
    snapshot = simulation.snapshot.build()

    def started(*, starts_pods: bool) -> list[str]:
        plan = reconcile(replace(snapshot, starts_pods=starts_pods), simulation.now).plan
        return [one["kind"] for one in plan.workloads]

    assert started(starts_pods=False) == []
    assert started(starts_pods=True) == ["Job"]


def test_a_failed_test_rolls_back_and_its_exit_code_and_log_are_kept_though_its_pod_is_gone() -> None:
    simulation = a_second_rollout({"tests": [TEST], "gates": {"minTasks": 1, "onBreach": "Rollback"}})
    end_job(simulation, JOB_FAILED, a_test_pod(3, "answer 42 expected\n"))
    simulation.run()
    assert images(simulation) == {"example/agent:1", "example/agent:2"}  # what it tested drains
    assert jobs(simulation) == []
    simulation.test_pods = {}
    simulation.wait(seconds(30))
    simulation.run()

    assert images(simulation) == {"example/agent:1"}
    message = simulation.condition(ConditionType.DEGRADED).message
    assert "test smoke failed with exit code 3: answer 42 expected" in message
    assert simulation.status.rollout is not None
    [kept] = simulation.status.rollout.tests
    assert (kept.stage, kept.name, kept.outcome, kept.exit_code) == ("staging", "smoke", "Failed", 3)
    assert kept.log == "answer 42 expected\n"
    assert jobs(simulation) == []


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_test_whose_job_was_deleted_is_never_repeated_and_a_promote_goes_past_it(is_ended: bool) -> None:  # noqa: FBT001
    simulation = a_second_rollout({"tests": [TEST]})
    if is_ended:
        end_job(simulation, JOB_FAILED)
        simulation.run()
    simulation.remove("Job")
    simulation.wait(hours(168))
    simulation.run()
    assert jobs(simulation) == []
    assert (simulation.stage, pending(simulation).reason) == ("staging", "GateWithoutVerdict")
    promote(simulation)
    simulation.run()
    assert simulation.stage == "everywhere"


def test_a_kill_ends_a_test_for_good() -> None:
    simulation = a_second_rollout({"tests": [TEST]})
    simulation.kill()
    simulation.run()
    assert jobs(simulation) == []
    assert not [key for key in simulation.snapshot.children if key.name.endswith("-test")]
    simulation.release()
    simulation.run()
    assert jobs(simulation) == []
    assert simulation.status.rollout is not None
    [kept] = simulation.status.rollout.tests
    assert (kept.outcome, kept.log) == ("Lost", "it was ended by a kill")


def test_a_retry_tests_again() -> None:
    simulation = a_second_rollout({"tests": [TEST], "gates": {"minTasks": 1, "onBreach": "Rollback"}})
    end_job(simulation, JOB_FAILED, a_test_pod(3, "no"))
    simulation.run()
    simulation.wait(seconds(30))
    simulation.run()
    rollout = simulation.status.rollout
    assert rollout is not None
    assert rollout.newest is not None
    name = f"{rollout.newest.number}-{rollout.newest.digest[:10]}"
    given = RolloutCommands(retry=Command(name, by="ada", is_vouched=True))
    simulation.snapshot = replace(simulation.snapshot, commands=given)
    simulation.run()
    assert len(jobs(simulation)) == 1
    assert simulation.status.rollout is not None
    assert [one.outcome for one in simulation.status.rollout.tests] == ["Running"]


def test_a_reconcile_in_which_nothing_happens_writes_nothing() -> None:
    simulation = a_second_rollout({"gates": GATES, "tests": [TEST]})
    count(simulation, 46, 0)
    simulation.run()
    before = simulation.status
    count(simulation, 47, 1)
    simulation.wait(timedelta(minutes=1))
    assert simulation.settle().plan.is_empty
    assert simulation.status == before
