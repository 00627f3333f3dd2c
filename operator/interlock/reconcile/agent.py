"""The pure part of one Agent's reconcile: check the layers, decide the rollout, plan the children, build the status."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from interlock.api.agent import Agent, Stage
from interlock.api.environments import class_of_name
from interlock.api.rollout_status import MAX_PASSED
from interlock.api.status import AgentStatus
from interlock.deployment.children.revisions import build_revision, notes_of
from interlock.deployment.kept_members import keep_members
from interlock.deployment.names import ChildKey, Manifest, bundle_text, key_of
from interlock.deployment.plan import WritePlan, plan_children
from interlock.deployment.pod_replacement import with_template_digest
from interlock.deployment.pod_templates import TemplateRecord
from interlock.governance.budgets import LedgerIdentity
from interlock.orchestration.gate_limits import gated_stages
from interlock.orchestration.orchestrated import drain_timeout_of, hold_before, stages_to_approve
from interlock.orchestration.rollout import decide_rollout
from interlock.orchestration.rollout_decision import RolloutDecision
from interlock.orchestration.rollout_state import RevisionRef, RolloutRules
from interlock.reconcile import rollout_history
from interlock.reconcile.agent_events import EventNote
from interlock.reconcile.agent_report import AgentReport
from interlock.reconcile.agent_status import build_status, grace_ends_at
from interlock.reconcile.ended_pods import EndedPod
from interlock.reconcile.guard_updates import decide_update, update_due_at, write_records
from interlock.reconcile.image_digests import compare_images, kept_images
from interlock.reconcile.layers import killed_by
from interlock.reconcile.managed_objects import record_applied
from interlock.reconcile.observation import observe
from interlock.reconcile.placements import build_placements, children_of, with_enforcement
from interlock.reconcile.revision_author import author_of_run
from interlock.reconcile.revisions import MissingRevision, Revisions, find_revisions, missing_revisions
from interlock.reconcile.rollout_status import RolloutRecord, read_record, refs_of
from interlock.reconcile.scale_downs import PodMark
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.stage_gates import on_breach
from interlock.reconcile.stage_tests import objects_of_tests, see_tests
from interlock.reconcile.withdrawn_pods import WithdrawnPod, withdrawn_pods
from interlock_contract.bundle import MAX_BUNDLE_DIGESTS, digest
from interlock_contract.drain_report import LEAST_DRAIN_SECONDS

SECRET_INTERVAL = timedelta(seconds=30)
"""How long pods that do not start wait until their agent's Secret is created again."""


@dataclass(frozen=True)
class ReconcileResult:
    """What has to be done, in this order: new revisions, the announcement, the plan, the status, the Events.

    Attributes:
        plan: Writes to children.
        status: The status to write once the plan has been carried out. What its writes leave is to be added.
        announced: The digests of the bundles that guards obey while the plan is carried out: the new one and the live
            one. The status names the new one before its ConfigMap is written, so that no guard closes in between.
        managed: The keys of all objects that must exist.
        requeue_at: When the passing of time alone may change the result, None where it cannot.
        missing_ledgers: The ledgers that must be created before a pod may start. Until then the plan has no new pod.
        missing_revisions: The revisions that must be read first. Then the result has nothing else.
        new_revisions: The ControllerRevisions that must exist before the status names their revisions.
        events: What has happened to the rollout, which the status alone does not tell.
        ended_tests: The Jobs of tests whose pods must be read first. Then the result has nothing else.
        marks: The pods that must be marked as ones that go before a Deployment asks for fewer, or as ones that stay.
        withdrawn: The pods to delete before workloads change, since they were started with more than is open now.
        overdue: The same of pods that a scale-down ends, since they had something under way until their time was over.
        replaced: The Deployments that only another version of the operator changes. While they cannot be written, they
            protect what they protected before.
        templates: What to record about the pod template of each Deployment, if the plan is carried out.
    """

    plan: WritePlan
    status: AgentStatus
    announced: tuple[str, ...] = ()
    managed: frozenset[ChildKey] = frozenset()
    requeue_at: datetime | None = None
    missing_ledgers: tuple[LedgerIdentity, ...] = ()
    missing_revisions: tuple[MissingRevision, ...] = ()
    new_revisions: tuple[Manifest, ...] = ()
    events: tuple[EventNote, ...] = ()
    ended_tests: tuple[str, ...] = ()
    marks: tuple[PodMark, ...] = ()
    withdrawn: tuple[WithdrawnPod, ...] = ()
    overdue: tuple[EndedPod, ...] = ()
    replaced: frozenset[ChildKey] = frozenset()
    templates: Mapping[str, TemplateRecord] = field(default_factory=dict)


def reconcile(snapshot: Snapshot, now: datetime) -> ReconcileResult:
    """Return what has to be done so that the agent runs as its spec says, or does not run at all.

    Args:
        snapshot: The snapshot.
        now: The time.
    """
    record = read_record(snapshot.agent, last_number=snapshot.last_number)
    images = compare_images(record.images, record.facts, snapshot.pods)
    snapshot = replace(snapshot, pods=images.pods)
    missing = missing_revisions(snapshot, record)
    killed = killed_by(snapshot)
    tests = see_tests(snapshot, record, is_killed=killed is not None)
    if missing or tests.ended:
        unchanged = snapshot.agent.status or AgentStatus()
        return ReconcileResult(WritePlan(), unchanged, missing_revisions=missing, ended_tests=tests.ended)
    revisions = find_revisions(snapshot, record)
    stages = _stages(snapshot.agent, record)
    if not stages:  # neither spec nor status names any, so that nothing runs
        report = AgentReport(snapshot, revisions, killed, RolloutDecision(record.facts), images=record.images)
        return _result(report, (), now)
    rules = _rules(snapshot, record, revisions)
    observation, seen = observe(snapshot, record, revisions, now, is_killed=killed is not None, tests=tests.results)
    decision = decide_rollout(stages, record.facts, observation, now, commands=snapshot.commands, rules=rules)
    placements = build_placements(
        snapshot, record, revisions, decision, seen, now, rules=rules, is_killed=killed is not None
    )
    report = AgentReport(
        snapshot,
        revisions,
        killed,
        decision,
        placements,
        collisions=record.collisions,
        tests=tests,
        images=kept_images(images, refs_of(decision.facts), record.facts, decision.facts),
    )
    events = rollout_history.notes_of(decision, record.facts.newest, revisions)
    return replace(_result(report, _new_revisions(snapshot, record, revisions, decision), now), events=events)


def _stages(agent: Agent, record: RolloutRecord) -> tuple[Stage, ...]:
    """Return today's stages. Without any, what runs keeps the stages that it has."""
    facts = record.facts
    known = [facts.stage.stage] if facts.stage is not None else []
    known += [facts.good.stage] if facts.good is not None else []
    return agent.spec.stages or tuple(known[:1])


LEAST_DRAIN: Final = timedelta(seconds=LEAST_DRAIN_SECONDS)
"""How long a placement that took tasks drains at least, and a pod that a scale-down has chosen. The guard of a draining
placement passes on the tasks that reach it meanwhile, and that of a chosen pod serves them."""


def _rules(snapshot: Snapshot, record: RolloutRecord, revisions: Revisions) -> RolloutRules:
    policy = snapshot.policy
    if policy is None:  # it may come back, so that nothing is forgotten meanwhile
        return RolloutRules(class_of=class_of_name, knows_classes=False, history=MAX_PASSED)

    def took_tasks(ref: RevisionRef) -> bool:
        return revisions.takes_tasks(snapshot, ref.digest)

    return RolloutRules(
        least_drain=LEAST_DRAIN if any(map(took_tasks, refs_of(record.facts))) else timedelta(0),
        approvals=stages_to_approve(snapshot.agent, policy),
        gated=gated_stages(snapshot.agent, policy),
        on_breach=on_breach(snapshot.agent, policy, record.facts),
        drain_timeout=drain_timeout_of(snapshot.agent, policy),
        history=policy.spec.rollout.history.count,
        class_of=policy.spec.class_of,
        hold_before=functools.partial(hold_before, snapshot.agent, policy),
        audited=_audited_environments(snapshot, record, revisions),
        claims_of=revisions.claims_of,
    )


def _audited_environments(snapshot: Snapshot, record: RolloutRecord, revisions: Revisions) -> frozenset[str]:
    """Return the environments in mode Audit: today, or when the newest revision began."""
    policy, newest = snapshot.policy, record.facts.newest
    known = None if newest is None else revisions.known.get(newest.digest)
    began = () if known is None else known.content.audited or ()
    named = (stage.environment for stage in snapshot.agent.spec.stages)
    today = () if policy is None else (name for name in named if policy.spec.mode_in(name) == "Audit")
    return frozenset((*began, *today))


def _result(report: AgentReport, new_revisions: tuple[Manifest, ...], now: datetime) -> ReconcileResult:
    snapshot = report.snapshot
    children = children_of(report.placements, report.decision.public)
    children = keep_members(
        children, snapshot.children, snapshot.kept_pod_members, own_resources=snapshot.keeps_own_resources
    )
    children = tuple(map(with_template_digest, children))
    update = decide_update(children, report.placements, snapshot, now)
    desired = update.desired
    if report.killed is None:
        desired += objects_of_tests(snapshot, report.facts, report.placements, report.tests)
    missing = tuple(dict.fromkeys(ledger for one in report.placements for ledger in one.budget.missing))
    is_secret_due, secret_due_at = _secret_due(report, now)
    plan = plan_children(
        desired,
        snapshot.children,
        snapshot.applied,
        starts_pods=snapshot.starts_pods and not missing,
        creates_secrets=is_secret_due,
        stopped=frozenset(key for one in report.placements for key in one.stopped_workloads),
        kept=update.kept,
    )
    report = replace(
        report, plan=plan, update=update, placements=with_enforcement(report.placements, desired, snapshot)
    )
    status = build_status(report, now)
    known = snapshot.children.keys() | snapshot.applied.keys()
    managed = frozenset((*map(key_of, desired), *(update.kept & known)))
    digests = tuple(digest(text) for text in _bundles(desired))
    templates = write_records(update.records, snapshot.agent.status, WritePlan(held=plan.held), {})
    recorded = record_applied(managed, snapshot.applied, {})
    status = status.model_copy(
        update={"bundle_digests": digests, "managed_objects": recorded, "pod_templates": templates}
    )
    announced = _announced(snapshot, digests) if any(_bundles(plan.pending)) else digests
    refusal = report.verdict.refusal
    times = (
        report.decision.next_at,
        secret_due_at,
        None if refusal is None else grace_ends_at(snapshot.agent, refusal, now),
        update_due_at(status, now),
        *(one.budget.requeue_at for one in report.placements),
        *(one.scale_down.next_at for one in report.placements),
    )
    return ReconcileResult(
        plan,
        status,
        announced,
        managed,
        requeue_at=min((time for time in times if time is not None), default=None),
        missing_ledgers=missing,
        new_revisions=new_revisions,
        marks=tuple(mark for one in report.placements for mark in one.marks),
        withdrawn=tuple(pod for one in report.placements for pod in withdrawn_pods(one.placement, snapshot.pods)),
        overdue=tuple(pod for one in report.placements for pod in one.overdue) if snapshot.starts_pods else (),
        replaced=update.replaced,
        templates=update.records,
    )


def _new_revisions(
    snapshot: Snapshot, record: RolloutRecord, revisions: Revisions, decision: RolloutDecision
) -> tuple[Manifest, ...]:
    """Return the ControllerRevisions of the revisions that the decision names first, or whose stored ones are lost."""
    if revisions.is_unstored:
        return ()
    known = set() if record.is_earlier else {ref for ref in record.refs if ref.digest not in snapshot.lost_revisions}
    fresh = [ref for ref in refs_of(decision.facts) if ref not in known and ref.digest in revisions.known]
    return tuple(_revision(snapshot, revisions, record, ref, decision) for ref in fresh)


def _revision(
    snapshot: Snapshot, revisions: Revisions, record: RolloutRecord, ref: RevisionRef, decision: RolloutDecision
) -> Manifest:
    found, newest = revisions.known[ref.digest], record.facts.newest
    before = revisions.known.get(newest.digest) if newest is not None else None
    author = author_of_run(
        snapshot,
        ref,
        decision,
        newest=newest,
        before=None if before is None else before.content,
        after=found.content,
    )
    notes = notes_of(snapshot.agent, author.name, is_vouched=author.is_vouched)
    stored = revisions.content_digests.get(ref.digest, ref.digest)
    return build_revision(snapshot.agent, ref.number, stored, found.data, notes)


def _secret_due(report: AgentReport, now: datetime) -> tuple[bool, datetime | None]:
    """Return whether the agent's Secrets must be created once more, and when the next time is.

    The operator does not read Secrets, so it cannot see that others have deleted one. Then no pod starts. So while a
    placement is not Ready, the Secrets are created again and again. The API server refuses that where they exist.
    """
    if all(one.placement.replicas == 0 or one.readiness.is_ready for one in report.placements):
        return False, None
    created = report.snapshot.secret_created_at
    is_due = created is None or not timedelta() <= now - created < SECRET_INTERVAL
    return is_due, (now if created is None or is_due else created) + SECRET_INTERVAL


def _bundles(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Return the text of each bundle among some manifests."""
    return tuple(text for manifest in manifests if (text := bundle_text(manifest)) is not None)


def _announced(snapshot: Snapshot, digests: tuple[str, ...]) -> tuple[str, ...]:
    """Return the digests of the new bundle and of the live ones, as far as the status has named these before."""
    named = snapshot.agent.status.bundle_digests if snapshot.agent.status else ()
    live = (digest(text) for text in _bundles(child.manifest for child in snapshot.children.values()))
    kept = sorted({one for one in live if one in named and one not in digests})
    return (*digests, *kept)[:MAX_BUNDLE_DIGESTS]
