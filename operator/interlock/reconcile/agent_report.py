"""The report on one Agent from which its status is built, and sentences that several of its conditions share."""

from dataclasses import dataclass

from interlock.api.agent import Agent
from interlock.deployment.observed.enforcement import Enforcement
from interlock.deployment.observed.readiness import Readiness
from interlock.deployment.plan import WritePlan
from interlock.deployment.revision import Revision
from interlock.orchestration.soak import StageDecision
from interlock.reconcile.agent_budget import BudgetReport
from interlock.reconcile.conditions import printable
from interlock.reconcile.egress import Egress, egress_of
from interlock.reconcile.layers import Verdict
from interlock.reconcile.snapshot import Snapshot


@dataclass(frozen=True)
class Progress:
    """The progress of a rollout.

    Attributes:
        decision: The current stage.
        readiness: The readiness of the Deployments of the recorded stage.
        revision: The revision that the stage runs.
        held_because: Why no later stage is entered although it is due; empty otherwise.
    """

    decision: StageDecision
    readiness: Readiness
    revision: Revision
    held_because: str = ""

    @property
    def is_ready(self) -> bool:
        """Return True if the pods of the current stage are ready. Those of a stage that was just entered cannot be."""
        return self.readiness.is_ready and self.decision.facts.ready_since is not None


@dataclass(frozen=True)
class AgentReport:
    """The input of a status.

    Attributes:
        snapshot: The snapshot.
        verdict: The verdict of the layers.
        killed: The value of the kill switch while the agent is killed, else None.
        progress: The progress of its rollout, None where a layer refused.
        plan: The writes of this reconcile, None where a layer refused.
        enforcement: The self-tests of its guards, None where a layer refused.
        collisions: The collision count of its placement's names.
        budget: Its budget, None where a layer refused.
    """

    snapshot: Snapshot
    verdict: Verdict
    killed: str | None
    progress: Progress | None = None
    plan: WritePlan | None = None
    enforcement: Enforcement | None = None
    collisions: int = 0
    budget: BudgetReport | None = None

    @property
    def wanted(self) -> int:
        """How many pods the agent has: none while its budget has stopped it."""
        is_stopped = self.budget is not None and self.budget.is_stopped
        return 0 if is_stopped else self.snapshot.agent.spec.replicas


def killed_message(agent: Agent, reason: str) -> str:
    """Return the message of an agent that is killed, with the command that releases it."""
    return (
        f"killed: {printable(reason[:200])}; to release, run: kubectl -n {agent.metadata.namespace} "
        f"annotate agents.interlock.dev {agent.metadata.name} interlock.dev/kill-switch=off --overwrite"
    )


def current_egress(report: AgentReport) -> Egress | None:
    """Return the egress finding of the current stage, None where a layer refused."""
    if report.progress is None:
        return None
    facts = report.progress.decision.facts
    return egress_of(report.snapshot, facts, wanted=report.wanted, is_killed=report.killed is not None)


def open_network(report: AgentReport) -> Egress | None:
    """Return the egress finding if it keeps the agent from starting, else None."""
    found = current_egress(report)
    return found if found is not None and found.refuses else None
