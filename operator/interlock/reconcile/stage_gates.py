"""The gates of the stage that the newest revision is in: their verdict by what was counted, measured and tested."""

from collections.abc import Mapping

from interlock.api.agent import Agent, Stage
from interlock.api.gates import StageGates
from interlock.api.policy import AgentPolicy
from interlock.orchestration.gate_limits import gates_of_stages, has_gates
from interlock.orchestration.gates import TestResult, judge_gates
from interlock.orchestration.rollout_state import GateReport, OnBreach, PlacementKey, RolloutFacts
from interlock.orchestration.soak import identity
from interlock.reconcile.snapshot import Snapshot
from interlock_contract.work_counts import WorkCounts


def judged_stage(agent: Agent, facts: RolloutFacts) -> Stage | None:
    """Return the stage that the newest revision is in and has not passed, as the spec has it today; None without one.

    A revision that is good in the last stage is judged no longer.
    """
    if facts.stage is None:
        return None
    current, good, stages = identity(facts.stage.stage), facts.good, agent.spec.stages
    is_passed = good is not None and good.ref == facts.newest and identity(good.stage) == current
    if is_passed and stages and identity(stages[-1]) == current:
        return None
    return next((stage for stage in stages if identity(stage) == current), None)


def current_gates(agent: Agent, policy: AgentPolicy | None, facts: RolloutFacts) -> StageGates:
    """Return the gates by which the newest revision is judged now; none where there is nothing to judge."""
    stage = judged_stage(agent, facts)
    if stage is None or policy is None:
        return StageGates()
    return gates_of_stages(agent, policy)[stage.name]


def on_breach(agent: Agent, policy: AgentPolicy | None, facts: RolloutFacts) -> OnBreach:
    """Return what a breached gate of the current stage does."""
    return OnBreach(current_gates(agent, policy, facts).on_breach or OnBreach.HOLD)


def counted_placement(snapshot: Snapshot, facts: RolloutFacts) -> PlacementKey | None:
    """Return the placement whose guards must count what they do: the one that gates judge. None without gates."""
    return facts.key if has_gates(current_gates(snapshot.agent, snapshot.policy, facts)) else None


def judge(
    snapshot: Snapshot, facts: RolloutFacts, counts: WorkCounts, tests: Mapping[str, TestResult]
) -> GateReport | None:
    """Return the verdict about the newest revision in its current stage; None before its soak has begun.

    Args:
        snapshot: The snapshot.
        facts: What the status records.
        counts: What the guards of its placement have counted until now.
        tests: The results of the stage's tests by name, one for each.
    """
    gates = current_gates(snapshot.agent, snapshot.policy, facts)
    if facts.key is None or facts.stage is None or facts.stage.baseline is None or not (has_gates(gates) or tests):
        return None
    return judge_gates(
        facts.key,
        gates,
        counts.since(facts.stage.baseline),
        has_tasks=snapshot.agent.spec.tasks is not None,
        metrics=snapshot.metrics,
        tests=tests,
    )
