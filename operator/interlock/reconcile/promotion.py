"""The condition PromotionPending: what the rollout waits for before it enters its next stage."""

from datetime import datetime

from interlock.api.agent import Agent
from interlock.api.shared_types import format_duration
from interlock.api.status import AgentReason, ConditionType
from interlock.orchestration.orchestrated import soak_of
from interlock.orchestration.rollout_decision import RolloutProgress, RolloutState
from interlock.orchestration.soak import StageFacts
from interlock.reconcile.agent_report import AgentReport
from interlock.reconcile.conditions import Finding
from interlock.reconcile.rollout_commands import STOP_REASONS, abort_command, annotate, approval_command
from interlock_contract.clock import write_time
from interlock_contract.names import PAUSE

_PENDING = ConditionType.PROMOTION_PENDING


def promotion_finding(report: AgentReport) -> Finding:
    """Return the condition PromotionPending. The layers must be satisfied."""
    facts, progress = report.facts, report.decision.progress
    if facts.stopped is not None:
        message = f"revision {facts.stopped.ref.name} was stopped, so it enters no stage"
        return Finding(_PENDING, "False", STOP_REASONS[facts.stopped.why], message)
    held = _held(report, progress)
    if held is not None:
        return Finding(_PENDING, "True", *held)
    if progress.following is None or facts.stage is None:
        return Finding(_PENDING, "False", AgentReason.LAST_STAGE, "this is the last stage")
    reason, message = _of_soak(facts.stage, progress.following.name, progress.due_at)
    return Finding(_PENDING, "True", reason, f"{message}{_restart_message(report.agent, facts.stage)}")


def _held(report: AgentReport, progress: RolloutProgress) -> tuple[AgentReason, str] | None:
    """Return what holds the rollout besides its soak, with the command that goes on; None if nothing does."""
    goal = f"stage {progress.following.name}" if progress.following is not None else "the end of the last stage"
    message = progress.message
    held: dict[RolloutState, tuple[AgentReason, str]] = {
        RolloutState.MINIMUM: (AgentReason.MINIMUM_NOT_REACHED, message),
        RolloutState.BLOCKED: (AgentReason.KILL_CONTROLLER_AWAY, f"{goal} waits: {message}"),
        RolloutState.AUDIT: (AgentReason.AUDIT, _audit_message(report, goal, message)),
        RolloutState.APPROVAL: (
            AgentReason.APPROVAL_REQUIRED,
            f"{goal} waits for an approval; {approval_command(report)}",
        ),
        RolloutState.PAUSED: (
            AgentReason.ROLLOUT_PAUSED,
            f"{goal} waits for the end of the pause; {annotate(report, PAUSE, '')}",
        ),
        RolloutState.GATE_PENDING: (AgentReason.GATE_PENDING, f"{goal} waits for a gate: {message}"),
        RolloutState.NO_VERDICT: (
            AgentReason.GATE_WITHOUT_VERDICT,
            f"{goal} waits for a gate without a verdict: {message or 'not judged yet'}; {approval_command(report)}",
        ),
        RolloutState.BREACHED: (
            AgentReason.GATE_BREACHED,
            f"{goal} is held by a breached gate: {message}; to go back, {abort_command(report)}",
        ),
    }
    return held.get(progress.state)


def _audit_message(report: AgentReport, goal: str, environment: str) -> str:
    policy = report.snapshot.policy
    if policy is not None and policy.spec.mode_in(environment) != "Audit":
        return f"{goal} waits for a new revision, since this one began in mode Audit of environment {environment}"
    name = "" if policy is None else policy.metadata.name
    return (
        f"{goal} is not entered, also not by a promote, while environment {environment} is in mode Audit; set its mode "
        f"to Enforce in spec.environments of AgentPolicy {name}"
    )


def _of_soak(facts: StageFacts, following: str, due_at: datetime | None) -> tuple[AgentReason, str]:
    current, needed = facts.stage.name, soak_of(facts.stage)
    if facts.ready_since is not None:
        at = f" at {write_time(due_at, 'seconds')}" if due_at is not None else ""
        message = f"{following} follows{at} if {current} stays Ready, once it was Ready for {format_duration(needed)}"
        return AgentReason.SOAKING, message
    if facts.soaked and facts.soaked >= needed:
        return (
            AgentReason.WAITING_FOR_READY,
            f"the soak is over: {following} follows once {current} is Ready again",
        )
    if facts.soaked:
        so_far = f"{format_duration(facts.soaked)} of {format_duration(needed)}"
        return (
            AgentReason.WAITING_FOR_READY,
            f"the soak before {following} is paused at {so_far} until {current} is Ready again",
        )
    return AgentReason.WAITING_FOR_READY, f"the soak before {following} starts once Ready"


def _restart_message(agent: Agent, facts: StageFacts) -> str:
    """Return why the soak started again, empty where it did not."""
    if facts.restarted_at is None:
        return ""
    metadata, rollout = agent.metadata, agent.spec.rollout
    return (
        f"; the soak started again at {write_time(facts.restarted_at, 'seconds')} because the agent's container ended "
        f"by itself more often than spec.rollout.maxRestarts ({rollout.max_restarts if rollout else 0}); "
        f"run: kubectl -n {metadata.namespace} logs -l interlock.dev/agent={metadata.name} -c agent --previous"
    )
