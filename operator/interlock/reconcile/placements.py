"""The placements of an agent, each built from what holds for its revision."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from interlock.deployment.children.services import addresses_of
from interlock.deployment.names import (
    ChildKey,
    Manifest,
    agent_workload,
    bundle_text,
    guard_service,
    guard_workload,
    name_of,
    placement_digest,
)
from interlock.deployment.observed.enforcement import Enforcement, enforcement_of
from interlock.deployment.observed.readiness import Readiness
from interlock.deployment.peers import id_of, named, with_peers
from interlock.deployment.placement import Placement, bound_sources
from interlock.deployment.plan import WORKLOAD, desired_children
from interlock.orchestration.rollout_decision import DesiredPlacement, RolloutDecision
from interlock.orchestration.rollout_state import PlacementKey, RolloutRules
from interlock.orchestration.scale_down import Replacing, ScalablePod, ScaleDown
from interlock.reconcile.agent_budget import BudgetReport, report_budget
from interlock.reconcile.claims import describe_wait
from interlock.reconcile.ended_pods import EndedPod
from interlock.reconcile.observation import SeenPlacement
from interlock.reconcile.revisions import Revisions
from interlock.reconcile.rollout_status import RolloutRecord, refs_of
from interlock.reconcile.scale_downs import PodMark, going, marks_of, overdue_pods, scale_down_of
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.stage_gates import counted_placement
from interlock_contract.agent_key import derive_agent_key
from interlock_contract.bundle import digest
from interlock_contract.bundle_schema import SCHEMA_VERSION


@dataclass(frozen=True)
class RunningPlacement:
    """A placement that must exist, with what is seen of it.

    Attributes:
        desired: What the rollout decided.
        placement: What its objects are built from.
        budget: The budget of its environment.
        readiness: The readiness of its Deployments.
        enforcement: The self-tests of its guards for its present bundle.
        scale_down: How many pods it has now, and which of them go.
        marks: The pods that are not marked as what they are: as one that goes, or as one that stays.
        is_stopped: It has no pods because of a kill or an exhausted budget.
        overdue: The pods that a scale-down ends now, since they had something under way until their time was over.
        claims: The claims that it uses.
        claim_wait: Which pods it waits for before it has any, since they use one of its claims; empty for none.
        is_bundle_unread: Guards that run read no schema of the bundle that this operator writes.
        takes_tasks: Whether something may be under way in its pods: it takes tasks, and is not just starting.
    """

    desired: DesiredPlacement
    placement: Placement
    budget: BudgetReport
    readiness: Readiness
    enforcement: Enforcement | None = None
    scale_down: ScaleDown = field(default_factory=lambda: ScaleDown(0))
    marks: tuple[PodMark, ...] = ()
    is_stopped: bool = False
    overdue: tuple[EndedPod, ...] = ()
    claims: frozenset[str] = frozenset()
    claim_wait: str = ""
    is_bundle_unread: bool = False
    takes_tasks: bool = False

    @property
    def key(self) -> PlacementKey:
        """Its key."""
        return self.desired.key

    @property
    def collisions(self) -> int:
        """The collision count of its names."""
        return self.placement.collisions

    @property
    def stopped_workloads(self) -> tuple[ChildKey, ...]:
        """Its Deployments, if it is stopped."""
        names = (agent_workload(self.placement), guard_workload(self.placement)) if self.is_stopped else ()
        return tuple(ChildKey(WORKLOAD, name) for name in names)

    def replacing(self, workload: str) -> Replacing:
        """How far one of its Deployments is with the replacement of pods."""
        found = self.scale_down.replacing or (Replacing.DONE,)
        return found[0] if workload == guard_workload(self.placement) else found[-1]

    @property
    def replicas(self) -> int:
        """How many pods the spec asks for, whatever kill and budget say."""
        return self.placement.agent.spec.replicas_in(self.key.stage)

    @property
    def wanted(self) -> int:
        """How many pods it must have while the agent is not killed."""
        return 0 if self.budget.is_stopped else self.replicas

    @property
    def why_no_pods(self) -> str:
        """Why it has no pods, if none are wanted."""
        if self.placement.agent.spec.replicas == 0:
            return "spec.replicas is 0"
        return f"replicas of stage {self.key.stage} is 0" if self.replicas == 0 else "the budget is exhausted"


def build_placements(
    snapshot: Snapshot,
    record: RolloutRecord,
    revisions: Revisions,
    decision: RolloutDecision,
    seen: Mapping[PlacementKey, SeenPlacement],
    now: datetime,
    *,
    rules: RolloutRules,
    is_killed: bool,
) -> tuple[RunningPlacement, ...]:
    """Return the placements that must exist, the most important first.

    Args:
        snapshot: The snapshot.
        record: What the status records.
        revisions: The revisions of the agent.
        decision: The decision on the rollout.
        seen: What is seen of the recorded placements.
        now: The time.
        rules: What spec and policy say about the rollout.
        is_killed: Whether the agent is killed.
    """
    counted = counted_placement(snapshot, decision.facts)
    built: list[tuple[DesiredPlacement, BudgetReport, Placement]] = []
    scaled: list[ScaleDown] = []
    for desired in decision.placements:
        found = revisions.effective(snapshot, desired.ref.digest, desired.stage)
        if found is None:  # nothing runs by a guess
            continue
        environment = desired.stage.environment
        budget = report_budget(snapshot, found.agent, found.policy, found.bindings, environment, now)
        is_stopped = is_killed or budget.is_stopped or desired.is_without_pods
        takes_tasks = found.agent.spec.tasks is not None
        scale_down = scale_down_of(
            record,
            desired,
            seen,
            now,
            wanted=found.agent.spec.replicas_in(desired.stage.name),
            rules=rules,
            takes_tasks=takes_tasks,
            is_stopped=is_stopped,
        )
        known = seen.get(desired.key)
        guards, agents = (known.guards, known.agents) if known is not None else ((), ())
        refused = known.changed | known.unread if known is not None else frozenset()
        agent_key = placement_digest(found.agent.metadata, desired.stage.name, desired.ref.digest)
        placement = Placement(
            agent=found.agent,
            policy=found.policy,
            stage=desired.stage,
            revision=desired.ref.digest,
            sources=bound_sources(found.agent, found.bindings, environment),
            replicas=scale_down.replicas,
            guard_image=snapshot.guard_image,
            guard_resources=snapshot.guard_resources,
            pull_secrets=snapshot.pull_secrets,
            users=snapshot.users,
            audit_url=snapshot.audit_url,
            api_server=snapshot.api_server,
            nodes=snapshot.nodes,
            metadata_server=snapshot.metadata_server,
            budget=budget.budget,
            prices=snapshot.spending.find_prices(found.agent, found.policy),
            agent_key=derive_agent_key(snapshot.operator_key, agent_key),
            config_maps=revisions.known[desired.ref.digest].content.config_maps,
            is_serving=desired.is_serving or desired.is_draining,
            excluded=desired.excluded,
            is_draining=desired.is_draining,
            drain_seconds=max(1, rules.drain_timeout // timedelta(seconds=1)),
            draining_pods=tuple(sorted(one.name for one in going(scale_down, guards))),
            changed_pods=(
                *sorted(one.name for one in guards if one.name in refused),
                *sorted(known.cut_off if known is not None else ()),
            ),
            changed_addresses=(
                *sorted(one for pod in agents if pod.name in refused for one in pod.addresses),
                *sorted(known.cut_off_addresses if known is not None else ()),
            ),
            leaves_guards=_leaves_guards(scale_down, guards),
            draining_addresses=tuple(sorted(one for pod in going(scale_down, agents) for one in pod.addresses)),
            is_counted=desired.key == counted or bool(found.audited.get(environment)),
            audited=found.audited.get(environment, frozenset()),
            is_killed=is_killed,
            bundle_schema=known.schemas.written if known is not None else SCHEMA_VERSION,
        )
        built.append((desired, budget, placement))
        scaled.append(scale_down)
    collisions = {(key.stage, key.revision): count for key, count in record.collisions.items()}
    placements = with_peers(
        tuple(
            _with_addresses(one, snapshot)
            for one in named(tuple(one for _, _, one in built), collisions, snapshot.children)
        )
    )
    return tuple(
        _with_claims(_running(snapshot, desired, placement, budget, seen, scale_down), decision, rules)
        for (desired, budget, _), placement, scale_down in zip(built, placements, scaled, strict=True)
    )


def _leaves_guards(scale_down: ScaleDown, guards: tuple[ScalablePod, ...]) -> bool:
    """Return True if guards go, and others that are Ready stay."""
    gone = going(scale_down, guards)
    return bool(gone) and any(one.ready_since is not None and one not in gone for one in guards)


def _with_addresses(placement: Placement, snapshot: Snapshot) -> Placement:
    service = snapshot.children.get(ChildKey("Service", guard_service(placement)))
    return replace(placement, guard_addresses=addresses_of(service.manifest if service else None))


def _running(
    snapshot: Snapshot,
    desired: DesiredPlacement,
    placement: Placement,
    budget: BudgetReport,
    seen: Mapping[PlacementKey, SeenPlacement],
    scale_down: ScaleDown,
) -> RunningPlacement:
    known = seen.get(desired.key)
    return RunningPlacement(
        desired,
        placement,
        budget,
        known.readiness if known else Readiness(),
        scale_down=scale_down,
        marks=marks_of(scale_down, known) if known and scale_down.replicas > 0 else (),
        is_stopped=placement.is_killed or budget.is_stopped,
        overdue=overdue_pods(scale_down, known, snapshot.pods) if known else (),
        is_bundle_unread=known is not None and known.schemas.is_unread,
        takes_tasks=placement.agent.spec.tasks is not None and (desired.is_serving or desired.is_draining),
    )


def _with_claims(one: RunningPlacement, decision: RolloutDecision, rules: RolloutRules) -> RunningPlacement:
    claims = rules.claims_of(one.key.revision, one.desired.stage.environment)
    return replace(one, claims=claims, claim_wait=describe_wait(one.desired, claims, refs_of(decision.facts)))


def children_of(placements: Iterable[RunningPlacement], public: PlacementKey | None) -> tuple[Manifest, ...]:
    """Return every object that the placements need.

    Args:
        placements: The placements.
        public: The one that the agent's public Service selects.
    """
    found = tuple(one.placement for one in placements)
    chosen = next((one for one in found if public is not None and id_of(one) == (public.stage, public.revision)), None)
    return desired_children(*found, public=chosen)


def with_enforcement(
    placements: Iterable[RunningPlacement], desired: Iterable[Manifest], snapshot: Snapshot
) -> tuple[RunningPlacement, ...]:
    """Return the placements with the self-tests of the guards for exactly the bundles that are desired now."""
    bundles = {one["metadata"]["name"]: text for one in desired if (text := bundle_text(one)) is not None}
    found = []
    for one in placements:
        name = name_of(one.placement)
        lease = snapshot.children.get(ChildKey("Lease", name))
        enforcement = enforcement_of(lease.manifest if lease else None, digest(bundles[name]))
        found.append(replace(one, enforcement=enforcement))
    return tuple(found)
