"""The pure part of one MCPBinding's reconcile: end a verification run, pin tools, start the next run, plan children."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property

from interlock.action.pins import (
    accept_drift,
    all_definitions,
    build_diff_request,
    compare_seen,
    describe_drift,
    find_drift,
    forget_unmapped,
    has_other_image,
    observed_digest,
    pinned_digest,
)
from interlock.api.binding import MCPBinding
from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.policy import EgressProxy
from interlock.api.refusals import Refusal
from interlock.api.shared_types import Resources, parse_duration
from interlock.api.verification import MAX_REPORTED, MAX_USERS, MCPBindingStatus, VerificationRun, VerificationStatus
from interlock.deployment.children.verification_job import (
    JOB,
    VerificationTarget,
    build_job,
    build_pinned,
    build_plan,
    build_result,
    build_support,
    build_verification_copies,
    plan_digest,
)
from interlock.deployment.config_maps import (
    ConfigMaps,
    LiveConfigMaps,
    check_config_maps,
    digest_of_kept,
    keep,
    server_uses,
    unread_names,
)
from interlock.deployment.names import ChildKey, Manifest, key_of, pinned_name, result_name
from interlock.deployment.ownership import AppliedObjects
from interlock.deployment.placement import ApiServerAddress
from interlock.deployment.plan import LiveChild, WritePlan, plan_children
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock.reconcile.binding_status import EndedRun, build_conditions
from interlock.reconcile.managed_objects import read_applied
from interlock_contract.canonical_json import digest_of
from interlock_contract.names import ACCEPT_DRIFT
from interlock_contract.verification import (
    RESULT_KEY,
    SeenDefinition,
    VerificationFailure,
    VerificationInvalid,
    VerificationResult,
    parse_result,
)

FIRST_RETRY = timedelta(seconds=5)
LONGEST_RETRY = timedelta(minutes=5)
LEAST_PAUSE = timedelta(seconds=1)
"""How long after a run the next one starts at the earliest if a guard reports a change.

The pause doubles with each such run in a row, because a server may change its tools all the time.
"""
SLOW = timedelta(seconds=5)
"""How long a run takes before it is asked why its pod does not start, and how often after that."""
GRACE = timedelta(seconds=60)
"""How long after its own time a run still counts: its Job has ended by then, or its result is lost."""


@dataclass(frozen=True)
class BindingSnapshot:
    """The snapshot of one MCPBinding: everything in the cluster that its reconcile depends on.

    Attributes:
        binding: The MCPBinding, its status included.
        children: The children of its verification.
        guard_image: The image of the guards.
        api_server: The addresses of the API server, to which the verifier writes its result.
        image_digest: The digest of the server's image in the pod of the current run; empty where it is not known.
        drift_seen_at: When the operator last learned of a guard's report that a tool had changed, by its own clock.
        dropped_at: When a guard last reported that it dropped many messages of the server, by the guard's clock.
        trouble: Why the pod of the current run has not started, or what of it fails; empty where nothing is known.
        agents: The names of the Agents that the binding serves, in order.
        tool_diff: The result of the `diff_request` that an earlier call returned; None before that call.
        proxy: The egress proxy of the AgentPolicies that use the source, None where they have none.
        pods: What an AgentPolicy that uses the source says about pods.
        guard_resources: What the installation states for Interlock's own containers.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of its namespace.
        refusal: Why no AgentPolicy lets the server run; empty where one does, or there is none.
        config_maps: The ConfigMaps of its namespace that its server refers to.
    """

    binding: MCPBinding
    children: Mapping[ChildKey, LiveChild]
    guard_image: str
    api_server: ApiServerAddress
    image_digest: str = ""
    drift_seen_at: datetime | None = None
    dropped_at: datetime | None = None
    trouble: str = ""
    agents: tuple[str, ...] = ()
    tool_diff: str | None = None
    proxy: EgressProxy | None = None
    pods: PodTemplatePolicy = field(default_factory=PodTemplatePolicy)
    guard_resources: Resources | None = None
    pull_secrets: tuple[str, ...] = ()
    users: PodUsers = DEFAULT_USERS
    refusal: str = ""
    config_maps: LiveConfigMaps = field(default_factory=dict)

    @cached_property
    def kept(self) -> ConfigMaps:
        """What a run that starts now keeps of the ConfigMaps."""
        return keep(server_uses(self.binding), self.config_maps)

    @cached_property
    def blocked(self) -> Refusal | None:
        """Why no run can start with the ConfigMaps as they are."""
        return check_config_maps(server_uses(self.binding), self.config_maps)

    @property
    def may_start(self) -> bool:
        """Whether the pod of a run may be created: a policy allows it, and all ConfigMaps are known and may be used."""
        is_read = not unread_names(server_uses(self.binding), self.config_maps)
        return not self.refusal and self.blocked is None and is_read

    @cached_property
    def plan(self) -> str:
        """The digest of all inputs of a run that starts now."""
        found = plan_digest(self.binding, self.guard_image, self.proxy, self.kept)
        return found if self.blocked is None else digest_of(f"{found} {self.blocked.message}")

    @property
    def applied(self) -> AppliedObjects:
        """The children as our last writes left them, from the status."""
        return read_applied(self.binding.status.managed_objects if self.binding.status else ())

    @cached_property
    def run(self) -> VerificationTarget | None:
        """The run that the status records."""
        known = self.binding.verification.run
        if known is None:
            return None
        return VerificationTarget(
            self.binding,
            known.number,
            self.guard_image,
            self.proxy,
            self.pods,
            guard_resources=self.guard_resources,
            pull_secrets=self.pull_secrets,
            users=self.users,
            config_maps=self.kept,
        )


def is_slow(status: MCPBindingStatus | None, now: datetime) -> bool:
    """Return True while a run has lasted long enough to ask why."""
    run = status.verification.run if status and status.verification else None
    return run is not None and run.ended_at is None and now - run.started_at >= SLOW


@dataclass(frozen=True)
class BindingOutcome:
    """What has to be done, in this order: the status, then the plan, then `managed_objects` of the status.

    Attributes:
        plan: Writes to children.
        status: The status.
        managed: The keys of all objects that must exist and that no other program writes.
        requeue_at: When the passing of time alone may change the result.
        diff_request: The input of `diff_changes`, whose result the status needs; empty where it needs none.
    """

    plan: WritePlan
    status: MCPBindingStatus
    managed: frozenset[ChildKey]
    requeue_at: datetime
    diff_request: bytes = b""


def verify_binding(snapshot: BindingSnapshot, now: datetime) -> BindingOutcome:
    """Return what has to be done so that the MCP server is verified when that is due.

    Args:
        snapshot: The snapshot.
        now: The time.
    """
    snapshot = _without_future(snapshot, now)
    ended = _find_end(snapshot, now)
    known = snapshot.binding.verification
    if ended is not None:
        known = _record_end(snapshot, ended, now)
    known = _accept(snapshot.binding, forget_unmapped(snapshot.binding, known))
    known = _schedule(snapshot, known, snapshot.plan, now)
    if snapshot.dropped_at is not None:
        reported = snapshot.dropped_at.replace(microsecond=0)
        known = known.model_copy(update={"dropped_at": max(reported, known.dropped_at or reported)})
    known = known.model_copy(update={"observed_digest": observed_digest(known), "pinned_digest": pinned_digest(known)})
    definitions, trouble = _definitions(snapshot), snapshot.refusal or snapshot.trouble
    request = b""
    if snapshot.tool_diff is None:
        request = build_diff_request(_with(snapshot.binding, known), definitions, definitions_place(snapshot.binding))
    known = known.model_copy(update={"diff": describe_drift(_with(snapshot.binding, known), snapshot.tool_diff or "")})
    binding = _with(snapshot.binding, known)
    status = MCPBindingStatus(
        observed_generation=binding.metadata.generation,
        conditions=build_conditions(snapshot.binding, binding, ended, now, trouble=trouble, blocked=snapshot.blocked),
        agents=len(snapshot.agents),
        used_by=snapshot.agents[:MAX_USERS],
        tools_mapped=sum(bool(tool.digest) for tool in known.tools),
        tools_unmapped=len(known.unmapped) + known.unmapped_omitted,
        tools_drifted=sum(drift.kind == "tool" for drift in find_drift(binding)),
        verification=known,
        managed_objects=snapshot.binding.status.managed_objects if snapshot.binding.status else (),
    )
    plan, managed = _plan(replace(snapshot, binding=binding), definitions)
    return BindingOutcome(plan, status, managed, _requeue_at(snapshot, known, now), request)


def _without_future(snapshot: BindingSnapshot, now: datetime) -> BindingSnapshot:
    """Return the snapshot without times of the run after now. A clock that went back would start no further run."""
    known = snapshot.binding.verification
    if known.run is None:
        return snapshot
    run = known.run.model_copy(
        update={
            "started_at": min(known.run.started_at, now),
            "ended_at": known.run.ended_at and min(known.run.ended_at, now),
        }
    )
    return replace(snapshot, binding=_with(snapshot.binding, known.model_copy(update={"run": run})))


def _find_end(snapshot: BindingSnapshot, now: datetime) -> EndedRun | None:
    """Return the end of the current run; None while it runs, or where there is none."""
    run, known = snapshot.run, snapshot.binding.verification.run
    if run is None or known is None or known.ended_at is not None:
        return None
    if known.plan != snapshot.plan:
        return None  # another spec: the result of this run no longer matters
    result = _read_result(snapshot)
    if result is not None and result.run == run.id:
        return EndedRun(result)
    job = snapshot.children.get(ChildKey(JOB, run.job))
    why = _job_failure(job.manifest) if job else ""
    if why:
        return EndedRun(None, f"the verification had no result: {why}")
    if now - known.started_at > timedelta(seconds=run.seconds) + GRACE:
        return EndedRun(None, f"the verification had no result within {run.seconds} s")
    return None


def _read_result(snapshot: BindingSnapshot) -> VerificationResult | None:
    child = snapshot.children.get(ChildKey("ConfigMap", result_name(snapshot.binding.metadata.name)))
    text = (child.manifest.get("data") or {}).get(RESULT_KEY) if child else None
    try:
        return parse_result(text) if text else None
    except VerificationInvalid:
        return None  # a result that cannot be read counts as none: the run ends by its time


def _job_failure(job: Manifest) -> str:
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] == "Failed" and condition["status"] == "True":
            return f"{condition.get('reason', 'Failed')}: {condition.get('message', '')}"[:300]
    return ""


def _record_end(snapshot: BindingSnapshot, ended: EndedRun, now: datetime) -> VerificationStatus:
    """Return the verification status after the end of a run."""
    binding, known, result = snapshot.binding, snapshot.binding.verification, ended.result
    succeeded = result is not None and result.failure is None
    run = known.run
    if run is None:
        raise AssertionError("a run that has ended was recorded")
    update: dict[str, object] = {
        "run": run.model_copy(update={"ended_at": now, "failures": 0 if succeeded else run.failures + 1}),
    }
    if result is not None:
        update |= {"unmapped": result.unmapped, "unmapped_omitted": result.omitted, "dropped_messages": result.dropped}
        update |= {"protocol": result.protocol[:32]} if result.protocol else {}
    if result is not None and result.failure not in _UNRELIABLE:
        update |= compare_seen(binding, known, result, may_pin=succeeded)
    if succeeded:
        update |= {"verified_at": now, **_image(snapshot)}
    return known.model_copy(update=update)


_UNRELIABLE = (
    VerificationFailure.TOOLS_AMBIGUOUS,
    VerificationFailure.TOO_MANY_TOOLS,
    VerificationFailure.PROMPTS_AMBIGUOUS,
    VerificationFailure.TOO_MANY_PROMPTS,
)
"""Failures after which the lists cannot be compared."""


def _image(snapshot: BindingSnapshot) -> dict[str, str]:
    """Return the fields about the image; another name in the spec was written by its author, so it is no drift."""
    stdio, known = snapshot.binding.spec.server.stdio, snapshot.binding.verification
    if stdio is None:
        return {"image": "", "image_digest": "", "observed_image_digest": ""}
    observed = {"observed_image_digest": snapshot.image_digest} if snapshot.image_digest else {}
    if known.image == stdio.image and known.image_digest:
        return observed
    return {"image": stdio.image, "image_digest": snapshot.image_digest, "observed_image_digest": snapshot.image_digest}


def _accept(binding: MCPBinding, known: VerificationStatus) -> VerificationStatus:
    """Return the status after an accept of exactly the observed digest; any other digest accepts nothing."""
    requested = binding.metadata.annotations.get(ACCEPT_DRIFT, "")
    if known.verified_at is None or not _is_drifted(_with(binding, known)):
        return known.model_copy(update={"refused_accept": ""})
    if requested == observed_digest(known):
        accepted = accept_drift(known)
        return accepted.model_copy(update={"run": known.run and known.run.model_copy(update={"reported": 0})})
    refused = requested[:256] if requested != pinned_digest(known) else ""  # the annotation of an earlier accept
    return known.model_copy(update={"refused_accept": refused})


def _is_drifted(binding: MCPBinding) -> bool:
    return bool(find_drift(binding)) or has_other_image(binding.verification)


def _schedule(snapshot: BindingSnapshot, known: VerificationStatus, digest: str, now: datetime) -> VerificationStatus:
    """Return the status with the next run started, where it is due."""
    run = known.run
    due_at = None if run is None else _due_at(snapshot.binding, run)
    reported_at = None if run is None else _report_due_at(snapshot, run)
    if due_at is not None and reported_at is not None:
        due_at = min(due_at, reported_at)
    target = snapshot.run if run is not None and run.ended_at is None else None
    job = None if target is None else snapshot.children.get(ChildKey(JOB, target.job))
    is_outdated = target is not None and job is not None and target.has_other_pod(job.manifest)
    if run is None or run.plan != digest or is_outdated or (due_at is not None and due_at <= now):
        same = run is not None and run.plan == digest
        started = VerificationRun(
            number=run.number + 1 if run else 1,
            plan=digest,
            config_maps=digest_of_kept(snapshot.kept),
            started_at=now,
            failures=run.failures if run and same else 0,
            reported=min(run.reported + 1, MAX_REPORTED) if run and same and reported_at is not None else 0,
        )
        return known.model_copy(update={"run": started, "next_at": None})
    return known.model_copy(update={"next_at": due_at})


def _report_due_at(snapshot: BindingSnapshot, run: VerificationRun) -> datetime | None:
    """Return when the run is due that follows a guard's report; None where no report came since the last one began.

    A run for a server that is known to have changed may find one more change.
    """
    seen = snapshot.drift_seen_at
    if run.ended_at is None or seen is None or seen <= run.started_at:
        return None
    pause: timedelta = LEAST_PAUSE * 2**run.reported
    return run.ended_at + min(LONGEST_RETRY, pause)


def _due_at(binding: MCPBinding, run: VerificationRun) -> datetime | None:
    """Return when the run after this one is due; None while this one has not ended."""
    if run.ended_at is None:
        return None
    interval = parse_duration(binding.spec.verify.interval)
    if run.failures:
        pause: timedelta = FIRST_RETRY * 2 ** min(run.failures - 1, 10)
        return run.ended_at + min(interval, LONGEST_RETRY, pause)
    # Bindings that were verified together, as after the operator's start, spread over a tenth of their interval.
    spread = int(hashlib.sha256(binding.metadata.uid.encode()).hexdigest()[:4], 16) / 0xFFFF
    return run.ended_at + interval * (1 - spread / 10)


def _definitions(snapshot: BindingSnapshot) -> dict[str, str]:
    """Return the known definitions by digest; a text that does not have its digest is left out."""
    pinned = snapshot.children.get(ChildKey("ConfigMap", pinned_name(snapshot.binding.metadata.name)))
    kept = (pinned.manifest.get("data") or {}) if pinned else {}
    result = _read_result(snapshot)
    listed: tuple[SeenDefinition, ...] = ()
    if result is not None:
        instructions = () if result.instructions is None else (result.instructions,)
        listed = (*(result.tools or ()), *(result.prompts or ()), *instructions)
    seen = {one.digest: one.definition for one in listed if one.definition}
    return {digest: text for digest, text in {**kept, **seen}.items() if digest_of(text) == digest}


def definitions_place(binding: MCPBinding) -> str:
    """Return where the definitions of tools are, for differences that are too large to be shown."""
    name = binding.metadata.name
    return (
        f"ConfigMap {pinned_name(name)} (as verified) with ConfigMap {result_name(name)} (as listed now) "
        f"in namespace {binding.metadata.namespace}"
    )


def _plan(snapshot: BindingSnapshot, definitions: Mapping[str, str]) -> tuple[WritePlan, frozenset[ChildKey]]:
    """Return the writes and the managed objects. The result belongs to the verifier, and a Job is never changed."""
    binding, run, known = snapshot.binding, snapshot.run, snapshot.binding.verification
    if run is None or known.run is None:
        raise AssertionError("a reconciled binding has a run")
    pinned = {one.pinned_digest for one in all_definitions(known)} & definitions.keys()
    desired = [*build_support(run, snapshot.api_server)]
    if pinned:
        desired.append(build_pinned(binding, {digest: definitions[digest] for digest in sorted(pinned)}))
    is_running = known.run.ended_at is None
    if is_running:
        desired += [build_plan(run), *build_verification_copies(run)]
    result = ChildKey("ConfigMap", result_name(binding.metadata.name))
    unplanned = {result, ChildKey(JOB, run.job)}
    jobs = {key for key in snapshot.children if key.kind == JOB} - unplanned
    rest = {key: child for key, child in snapshot.children.items() if key not in unplanned | jobs}
    plan = plan_children(tuple(desired), rest, snapshot.applied)
    missing = () if result in snapshot.children else (build_result(binding),)
    is_due = is_running and snapshot.may_start and ChildKey(JOB, run.job) not in snapshot.children
    wanted = (build_job(run),) if is_due else ()
    plan = replace(
        plan,
        prepare=(*plan.prepare, *missing),
        workloads=(*plan.workloads, *wanted),
        missing=plan.missing | {key_of(manifest) for manifest in (*missing, *wanted)},
        prune=(*sorted(jobs), *plan.prune),
    )
    return plan, frozenset(key_of(manifest) for manifest in desired)


def _requeue_at(snapshot: BindingSnapshot, known: VerificationStatus, now: datetime) -> datetime:
    run = known.run
    if run is None:
        raise AssertionError("a reconciled binding has a run")
    if known.next_at is not None:
        return known.next_at
    seconds = VerificationTarget(snapshot.binding, run.number, snapshot.guard_image).seconds
    return min(run.started_at + timedelta(seconds=seconds + 1) + GRACE, now + SLOW)


def _with(binding: MCPBinding, known: VerificationStatus) -> MCPBinding:
    status = binding.status or MCPBindingStatus()
    return binding.model_copy(update={"status": status.model_copy(update={"verification": known})})
