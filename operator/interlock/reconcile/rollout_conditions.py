"""The conditions Serving, Progressing, RolloutPaused and Degraded: how far a rollout is, and who does the work."""

from collections.abc import Iterable

from interlock.api.status import AgentReason, ConditionType
from interlock.orchestration.rollout_decision import RolloutState
from interlock.orchestration.rollout_state import Scope
from interlock.reconcile.agent_report import AgentReport
from interlock.reconcile.conditions import Finding
from interlock.reconcile.placements import RunningPlacement
from interlock.reconcile.rollout_commands import STOP_REASONS, annotate, retry_command
from interlock_contract.clock import write_time
from interlock_contract.names import PAUSE

_PROGRESSING = ConditionType.PROGRESSING
_SERVING = ConditionType.SERVING
_UNDER_WAY = {
    RolloutState.STARTING: AgentReason.NEW_REVISION_STARTING,
    RolloutState.WAITING_FOR_READY: AgentReason.WAITING_FOR_READY,
    RolloutState.ENTERED: AgentReason.WAITING_FOR_READY,
    RolloutState.AUDIT: AgentReason.AUDIT,
    RolloutState.SOAKING: AgentReason.SOAKING,
    RolloutState.GATE_PENDING: AgentReason.GATE_PENDING,
    RolloutState.NO_VERDICT: AgentReason.GATE_WITHOUT_VERDICT,
    RolloutState.BREACHED: AgentReason.GATE_BREACHED,
    RolloutState.MINIMUM: AgentReason.MINIMUM_NOT_REACHED,
    RolloutState.BLOCKED: AgentReason.KILL_CONTROLLER_AWAY,
    RolloutState.APPROVAL: AgentReason.APPROVAL_REQUIRED,
    RolloutState.PAUSED: AgentReason.ROLLOUT_PAUSED,
    RolloutState.NOT_RUNNING: AgentReason.NOT_RUNNING,
}


def rollout_findings(report: AgentReport) -> tuple[Finding, ...]:
    """Return the conditions Serving, Progressing, RolloutPaused and Degraded."""
    return serving_finding(report), progressing_finding(report), _paused(report), _degraded(report)


def describe_scope(scope: Scope) -> str:
    """Return a scope in one line, such as region=eu-west; `all` for all of the work."""
    return " ".join(f"{limit.dimension}={','.join(limit.values)}" for limit in scope) or "all"


def describe_work(one: RunningPlacement) -> str:
    """Return what a placement serves, for people."""
    desired = one.desired
    if desired.is_draining:
        return "nothing new while it drains"
    if not desired.is_serving:
        return "nothing yet"
    own = describe_scope(desired.stage.scope or ())
    others = " and ".join(describe_scope(scope) for scope in desired.excluded)
    return f"{own} but {others}" if others else own


def serving_finding(report: AgentReport) -> Finding:
    """Return the condition Serving: whether all work of the last stage's class of environment is served."""
    if report.killed is not None:
        return Finding(_SERVING, "False", AgentReason.KILL_SWITCH, "killed: no revision serves")
    stages, policy = report.agent.spec.stages, report.snapshot.policy
    if policy is None or not stages:
        return Finding(_SERVING, "False", AgentReason.NOT_SERVED, "no revision runs")
    served = policy.spec.class_of(stages[-1].environment)
    own = [one for one in report.placements if policy.spec.class_of(one.desired.stage.environment) is served]
    serving = [one for one in own if one.desired.is_serving and _serves(report, one)]
    whole = any(not one.desired.stage.scope for one in serving)
    told = "; ".join(_describe(one) for one in serving)
    if not serving:
        waits = next((one.why_no_pods for one in own if one.wanted == 0), "") or _claim_wait(own)
        why = waits if own else f"no revision has reached an environment of class {served} yet"
        return Finding(_SERVING, "False", AgentReason.NOT_SERVED, f"{served} is not served: {why}")
    missing = [one for one in own if one.desired.is_serving and one not in serving]
    if missing:
        lost = ", ".join(describe_work(one) for one in missing)
        message = f"a part of {served} is not served, since pods are not ready: {lost}; served is {told}"
        return Finding(_SERVING, "False", AgentReason.SERVED_IN_PART, message)
    if not whole:
        message = f"{told}; the rest of {served} is served by no revision until one was good in its last stage"
        return Finding(_SERVING, "False", AgentReason.SERVED_IN_PART, message)
    return Finding(_SERVING, "True", AgentReason.SERVED, told)


def _serves(report: AgentReport, one: RunningPlacement) -> bool:
    return report.ready_pods(one) > 0


def _claim_wait(own: Iterable[RunningPlacement]) -> str:
    waits = (f"revision {one.desired.ref.name}: {one.claim_wait}" for one in own if one.claim_wait)
    return next(waits, "its pods are not ready")


def _describe(one: RunningPlacement) -> str:
    return f"revision {one.desired.ref.name} in stage {one.key.stage} serves {describe_work(one)}"


def progressing_finding(report: AgentReport) -> Finding:
    """Return the condition Progressing: whether a revision is on its way, and what it waits for."""
    facts, progress = report.facts, report.decision.progress
    refusal = report.verdict.refusal
    if progress.waiting:
        return Finding(_PROGRESSING, "True", AgentReason.WAITING_TO_START, f"a new revision waits: {progress.waiting}")
    if facts.stopped is not None:
        stopped = facts.stopped
        by = f" by {stopped.by}" if stopped.by else ""
        why = f": {stopped.message}" if stopped.message else ""
        at = write_time(stopped.at, "seconds")
        message = f"revision {stopped.ref.name} was stopped at {at}{by}{why}; to try it again, {retry_command(report)}"
        return Finding(_PROGRESSING, "False", STOP_REASONS[facts.stopped.why], message)
    if progress.state is RolloutState.COMPLETE and facts.good is not None:
        message = f"revision {facts.good.ref.name} is good since {write_time(facts.good.since, 'seconds')}"
        return Finding(_PROGRESSING, "False", AgentReason.ROLLOUT_COMPLETE, message)
    if refusal is not None or facts.newest is None:
        reason = refusal.reason if refusal is not None else AgentReason.WAITING_TO_START
        return Finding(_PROGRESSING, "False", reason, refusal.message if refusal is not None else "nothing runs")
    where = f"in stage {facts.stage.stage.name}" if facts.stage is not None else "before its first stage"
    follows = f"; {progress.following.name} is next" if progress.following is not None else ""
    current = report.find(facts.key)
    why = progress.message
    if progress.state is RolloutState.AUDIT:
        why = f"environment {progress.message} is in mode Audit, see PromotionPending"
    if current is not None and current.wanted == 0 and report.killed is None:
        why = f"it has no pods because {current.why_no_pods}"
    elif current is not None and current.claim_wait and report.killed is None:
        why = current.claim_wait
    reason = _UNDER_WAY.get(progress.state, AgentReason.NEW_REVISION_STARTING)
    if current is not None and report.has_other_images(current):
        reason, why = AgentReason.IMAGE_CHANGED, report.snapshot.pods.cause(current.key.stage, current.key.revision)
    held = f": {why}" if why else ""
    message = f"revision {facts.newest.name} is {where}{follows}{held}"
    return Finding(_PROGRESSING, "True", reason, message)


def _paused(report: AgentReport) -> Finding:
    kind, newest = ConditionType.ROLLOUT_PAUSED, report.facts.newest
    if not report.decision.progress.is_paused or newest is None:
        return Finding(kind, "False", AgentReason.NOT_PAUSED, "no pause names the newest revision")
    message = f"revision {newest.name} enters no stage while the pause stands; to go on, {annotate(report, PAUSE, '')}"
    return Finding(kind, "True", AgentReason.ROLLOUT_PAUSED, message)


def _degraded(report: AgentReport) -> Finding:
    kind, facts = ConditionType.DEGRADED, report.facts
    lost = _lost_good(report)
    if lost:
        return Finding(kind, "True", AgentReason.GOOD_REVISION_LOST, lost)
    if facts.stopped is not None:
        others = (one.desired.ref for one in report.placements if not one.desired.is_draining)
        running = facts.good.ref if facts.good is not None else next(others, None)
        runs = "; no revision runs" if running is None else f"; revision {running.name} runs"
        why = f": {facts.stopped.message}" if facts.stopped.message else ""
        message = f"revision {facts.stopped.ref.name} was stopped{runs}{why}"
        return Finding(kind, "True", STOP_REASONS[facts.stopped.why], message)
    progress = report.decision.progress
    if progress.state is RolloutState.BREACHED and facts.newest is not None and facts.stage is not None:
        message = f"revision {facts.newest.name} breached a gate of stage {facts.stage.stage.name}: {progress.message}"
        return Finding(kind, "True", AgentReason.GATE_BREACHED, message)
    return Finding(kind, "False", AgentReason.NOT_DEGRADED, "no revision was stopped")


def _lost_good(report: AgentReport) -> str:
    """Return why the last good revision does not run although it should, empty if it does or need not."""
    good = report.facts.good
    if good is None or good.ref == report.facts.newest:
        return ""
    why = report.snapshot.lost_revisions.get(good.ref.digest, "")
    if why:
        return f"the last good revision {good.ref.name} does not run: {why}"
    if good.key in report.revisions.refused:
        where = f"revision {good.ref.name} does not run in stage {good.stage.name}"
        return f"the last good {where}: today's policy and bindings do not allow it there"
    if report.snapshot.policy is None or good.ref.digest in _running(report.placements):
        return ""
    if good.ref.digest in report.revisions.allowed or good.ref.digest == report.revisions.wanted:
        return ""
    return f"the last good revision {good.ref.name} does not run: today's policy and bindings do not allow it"


def _running(placements: Iterable[RunningPlacement]) -> set[str]:
    return {one.key.revision for one in placements}
