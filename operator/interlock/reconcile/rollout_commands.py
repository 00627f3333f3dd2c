"""The commands about a rollout, as messages write them for people to run, and what they did to the newest revision."""

from interlock.api.status import AgentReason
from interlock.orchestration.command_effects import command_text
from interlock.orchestration.rollout_state import Command, StopReason
from interlock.orchestration.scopes import work_of
from interlock.reconcile.agent_report import AgentReport
from interlock_contract.names import ABORT, PROMOTE, RETRY


def annotate(report: AgentReport, annotation: str, value: str) -> str:
    """Return the sentence with the command that sets an annotation, or removes it if the value is empty."""
    metadata = report.agent.metadata
    change = f"{annotation}={value} --overwrite" if value else f"{annotation}-"
    return f"run: kubectl -n {metadata.namespace} annotate agents.interlock.dev {metadata.name} {change}"


def approval_command(report: AgentReport) -> str:
    """Return the sentence with the command that promotes the newest revision to its next stage."""
    newest, following = report.facts.newest, report.decision.progress.following
    name = newest.name if newest is not None else ""
    command = Command(name, following.name if following is not None else "")
    promote = annotate(report, PROMOTE, f"{name}/{command.stage}".removesuffix("/"))
    if command_text("promote", command) not in report.facts.handled_commands:
        return promote
    policy = report.snapshot.policy
    is_changed = (
        following is not None
        and policy is not None
        and any(
            one.stage == following.name and one.work != work_of(following, policy.spec.class_of)
            for one in report.facts.approved
        )
    )
    changed = "it was approved with another environment, class or scope"
    why = changed if is_changed else "the promotion that stands is void"
    return f"{why}: remove the annotation {PROMOTE}, wait until this message is another one, then {promote}"


def abort_command(report: AgentReport) -> str:
    """Return the sentence with the command that aborts the newest revision."""
    newest = report.facts.newest
    return annotate(report, ABORT, newest.name if newest is not None else "")


def retry_command(report: AgentReport) -> str:
    """Return the sentence with the command that starts the newest revision again."""
    newest = report.facts.newest
    return annotate(report, RETRY, newest.name if newest is not None else "")


STOP_REASONS = {
    StopReason.ABORTED: AgentReason.ABORTED,
    StopReason.ROLLED_BACK: AgentReason.ROLLED_BACK,
    StopReason.BREACHED: AgentReason.GATE_BREACHED,
}
"""The reasons of conditions about a revision that was stopped."""
