"""The report on one Agent from which its status is built, and sentences that several of its conditions share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from interlock.api.agent import Agent
from interlock.deployment.names import key_of, name_of, workload_names
from interlock.deployment.plan import WORKLOAD, WritePlan
from interlock.orchestration.rollout_decision import RolloutDecision
from interlock.orchestration.rollout_state import PlacementKey, RolloutFacts
from interlock.reconcile.conditions import printable
from interlock.reconcile.guard_updates import GuardUpdate
from interlock.reconcile.layers import Verdict
from interlock.reconcile.placements import RunningPlacement
from interlock.reconcile.revisions import Revisions
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.stage_tests import SeenTests


@dataclass(frozen=True)
class AgentReport:
    """The input of a status.

    Attributes:
        snapshot: The snapshot.
        revisions: The revisions of the agent, with the verdict of the layers on what is described today.
        killed: The value of the kill switch while the agent is killed, else None.
        decision: The decision on its rollout.
        placements: The placements that must exist, the most important first.
        plan: The writes of this reconcile.
        collisions: The recorded collision counts of placements' names.
        tests: What is seen of the tests of the current stage.
        images: What tags have led to, by revision and image, as the status must record it.
        update: What was decided about the pod templates.
    """

    snapshot: Snapshot
    revisions: Revisions
    killed: str | None
    decision: RolloutDecision
    placements: tuple[RunningPlacement, ...] = ()
    plan: WritePlan = field(default_factory=WritePlan)
    collisions: Mapping[PlacementKey, int] = field(default_factory=dict)
    tests: SeenTests = field(default_factory=SeenTests)
    images: Mapping[tuple[str, str], str] = field(default_factory=dict)
    update: GuardUpdate = field(default_factory=GuardUpdate)

    @property
    def verdict(self) -> Verdict:
        """The verdict of the layers on what is described today."""
        return self.revisions.verdict

    @property
    def facts(self) -> RolloutFacts:
        """The facts of the rollout after the decision."""
        return self.decision.facts

    @property
    def agent(self) -> Agent:
        """The Agent."""
        return self.snapshot.agent

    @property
    def current(self) -> RunningPlacement | None:
        """The newest revision's placement, or the public one if that has none."""
        return self.find(self.facts.key) or self.find(self.decision.public)

    @property
    def lasting(self) -> tuple[RunningPlacement, ...]:
        """The placements that are not on their way out."""
        return tuple(one for one in self.placements if not one.desired.is_draining)

    @property
    def serving(self) -> tuple[RunningPlacement, ...]:
        """The placements that serve, or the current one if none does."""
        found = tuple(one for one in self.placements if one.desired.is_serving)
        return found or ((self.current,) if self.current is not None else ())

    def find(self, key: PlacementKey | None) -> RunningPlacement | None:
        """Return the placement with this key."""
        return next((one for one in self.placements if one.key == key), None)

    def rolls(self, one: RunningPlacement) -> bool:
        """Return True if the plan writes Deployments of a placement."""
        names = _workloads(one)
        return any(key_of(manifest).name in names for manifest in self.plan.workloads)

    def is_held(self, one: RunningPlacement) -> bool:
        """Return True if Deployments of a placement are held back, since no new pod may start."""
        names = _workloads(one)
        return any(key.kind == WORKLOAD and key.name in names for key in self.plan.held)

    def has_other_images(self, one: RunningPlacement) -> bool:
        """Return True if a pod of a placement runs another image than its revision was Ready with."""
        return bool(self.snapshot.pods.with_other_images(one.key.stage, one.key.revision))

    def is_ready(self, one: RunningPlacement) -> bool:
        """Return True if all pods of a placement are ready. Those of a stage that was just entered cannot be."""
        if not one.readiness.is_ready or self.rolls(one) or self.is_held(one):
            return False
        stage = self.facts.stage
        return one.key != self.facts.key or (stage is not None and stage.ready_since is not None)

    def ready_pods(self, one: RunningPlacement) -> int:
        """Return how many pods of a placement are ready. Their own word may be newer than that of Deployments."""
        # The counts of a Deployment that has just been written are those of its earlier spec.
        if not one.readiness.is_current or self.rolls(one) or self.killed is not None:
            return 0
        if self.is_ready(one):
            return one.replicas
        pods = self.snapshot.pods.ready_count(one.key.stage, one.key.revision, one.placement.isolation)
        return min(one.readiness.available, one.replicas, pods)


def _workloads(one: RunningPlacement) -> tuple[str, ...]:
    return workload_names(name_of(one.placement), one.placement.isolation)


def killed_message(agent: Agent, reason: str) -> str:
    """Return the message of an agent that is killed, with the command that releases it."""
    return (
        f"killed: {printable(reason[:200])}; to release, run: kubectl -n {agent.metadata.namespace} "
        f"annotate agents.interlock.dev {agent.metadata.name} interlock.dev/kill-switch=off --overwrite"
    )
