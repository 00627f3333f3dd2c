"""The facts about a rollout, read from the status of an Agent and written to it.

The status is no trusted memory: an older version may have written it, or a user edited it. What cannot be read of it
counts as absent, so that the rollout of that part begins again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta

from pydantic import ValidationError

from interlock.api.agent import Agent, Stage
from interlock.api.environments import class_of_name
from interlock.api.rollout_status import (
    MAX_APPROVED,
    MAX_COMMANDS,
    MAX_EXCLUDED,
    MAX_IMAGES,
    MAX_LEAVING,
    MAX_PASSED,
    MAX_SCALE_DOWNS,
    MAX_SOURCES,
    MAX_TEST_LOG,
    MAX_TEST_RESULTS,
    ApprovalStatus,
    DrainingPodStatus,
    GoodStatus,
    ImageStatus,
    LeavingStatus,
    PassedStatus,
    RevisionStatus,
    RolloutStatus,
    ScaleDownStatus,
    StoppedStatus,
    StoredPlacement,
    StoredScope,
    TestStatus,
)
from interlock.api.shared_types import ScopeDimension
from interlock.api.status import MAX_SOAKED_SECONDS, AgentStatus, RestartedPod, StageStatus
from interlock.orchestration.gates import TestOutcome, TestResult
from interlock.orchestration.orchestrated import PassedTime
from interlock.orchestration.rollout_state import (
    Approval,
    GoodRevision,
    LeavingPlacement,
    PassedRevision,
    PlacementKey,
    RevisionRef,
    RolloutFacts,
    StoppedRevision,
    StopReason,
)
from interlock.orchestration.scale_down import DrainingPod
from interlock.orchestration.scopes import work_of
from interlock.orchestration.soak import PodEnds, StageFacts, position
from interlock_contract.work_counts import dump_ended, parse_ended

_SECOND = timedelta(seconds=1)
_MOST_TEXT = 1024
_MOST_CODE = 2**31
"""Exit codes are smaller, since Kubernetes has them in 32 bits."""


@dataclass(frozen=True)
class RecordedTest:
    """The test of a stage, from when its Job exists.

    Attributes:
        number: Number of the revision that was tested.
        stage: Name of the stage that was tested.
        name: Name of the test.
        result: Its result.
    """

    number: int
    stage: str
    name: str
    result: TestResult


@dataclass(frozen=True)
class RolloutRecord:
    """What the status records of a rollout.

    Attributes:
        facts: The facts.
        collisions: The collision counts of placements' names.
        content_digests: Digests of stored contents that are not the digests of their revisions, by the latter.
        is_earlier: A version wrote it that stored no contents.
        tests: The tests of the newest revision, the last ones of them.
        scale_downs: The pods that go, of placements with fewer pods from now on.
        images: Digests of the images that tags have led to, by revision and image.
    """

    facts: RolloutFacts = field(default_factory=RolloutFacts)
    collisions: Mapping[PlacementKey, int] = field(default_factory=dict)
    content_digests: Mapping[str, str] = field(default_factory=dict)
    is_earlier: bool = False
    tests: tuple[RecordedTest, ...] = ()
    scale_downs: Mapping[PlacementKey, tuple[DrainingPod, ...]] = field(default_factory=dict)
    images: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def refs(self) -> tuple[RevisionRef, ...]:
        """The revisions that the record names, each once."""
        return refs_of(self.facts)


def refs_of(facts: RolloutFacts) -> tuple[RevisionRef, ...]:
    """Return the revisions that facts name, each once, the newest first."""
    good = facts.good.ref if facts.good is not None else None
    named = (facts.newest, good, *(one.ref for one in facts.leaving), *facts.passed_refs[::-1])
    return tuple(dict.fromkeys(ref for ref in named if ref is not None))


def read_record(agent: Agent, *, last_number: int = 0) -> RolloutRecord:
    """Return what an Agent's status records.

    Args:
        agent: The Agent.
        last_number: The highest number that is known from elsewhere.
    """
    record = _read_record(agent)
    highest = max(last_number, record.facts.last_number)
    return replace(record, facts=replace(record.facts, last_number=highest))


def _read_record(agent: Agent) -> RolloutRecord:
    status = agent.status
    if status is None:
        return RolloutRecord()
    if status.rollout is None:
        return _read_earlier(agent, status)
    return _read(status, status.rollout)


def _read(status: AgentStatus, rollout: RolloutStatus) -> RolloutRecord:
    newest = _ref(rollout.newest)
    stopped = _read_stopped(rollout.stopped, newest)
    stage = None if stopped is not None or newest is None else read_stage(status.stage, newest.digest)
    good = _read_good(rollout.good)
    leaving = tuple(one for stored in rollout.leaving if (one := _read_leaving(stored)) is not None)
    passed = tuple(PassedRevision(RevisionRef(one.number, one.digest), one.served) for one in rollout.passed)
    approved = tuple(
        Approval(one.stage, one.by, one.is_vouched, one.may_override_gates, one.work) for one in rollout.approved
    )
    facts = RolloutFacts(
        newest=newest,
        stage=stage,
        serving_since=rollout.serving_since if stage is not None else None,
        was_ready=rollout.was_ready,
        good=good,
        passed=passed,
        leaving=leaving,
        stopped=stopped,
        approved=approved,
        last_number=rollout.last_number,
        handled_commands=rollout.handled_commands,
    )
    stored = (rollout.newest, *rollout.passed)
    digests = {one.digest: one.content_digest for one in stored if one is not None and one.content_digest}
    tests = tuple(map(_read_test, rollout.tests))
    scale_downs = {
        PlacementKey(one.stage, one.digest): tuple(DrainingPod(pod.name, pod.since) for pod in one.pods)
        for one in rollout.scale_downs
    }
    collisions = _read_collisions(status, rollout, facts)
    images = {(one.revision, one.image): one.digest for one in rollout.images}
    return RolloutRecord(facts, collisions, digests, tests=tests, scale_downs=scale_downs, images=images)


def _read_collisions(status: AgentStatus, rollout: RolloutStatus, facts: RolloutFacts) -> dict[PlacementKey, int]:
    stored = (*rollout.leaving, *((rollout.good,) if rollout.good is not None else ()))
    found = {PlacementKey(one.stage, one.digest): one.collision_count for one in stored}
    if facts.key is not None and status.stage is not None:
        found[facts.key] = status.stage.collision_count
    return found


def _read_earlier(agent: Agent, status: AgentStatus) -> RolloutRecord:
    """Read a status of a version that knew one revision at a time: it is the first one, and it served.

    It is good if it was Ready in its last stage. Its digest stays, so that its pods stay.
    """
    stage = read_stage(status.stage, status.stage.revision) if status.stage is not None else None
    if status.stage is None or stage is None or not stage.revision:
        return RolloutRecord()
    ref = RevisionRef(1, stage.revision)
    stages = agent.spec.stages
    is_last = bool(stages) and position(stages, stage, stage.revision) == len(stages) - 1
    good = None
    if is_last and stage.ready_since is not None:
        good = GoodRevision(ref, stage.stage, stage.ready_since, stage.ready_since)
    facts = RolloutFacts(
        newest=ref,
        stage=stage,
        serving_since=stage.ready_since or stage.entered_at,
        was_ready=stage.ready_since is not None or stage.soaked > timedelta() or stage.passed != PassedTime(),
        good=good,
        passed=(PassedRevision(ref, work_of(good.stage, class_of_name)),) if good is not None else (),
        last_number=1,
    )
    key = PlacementKey(stage.stage.name, stage.revision)
    return RolloutRecord(facts, {key: status.stage.collision_count}, is_earlier=True)


def read_stage(stored: StageStatus | None, revision: str) -> StageFacts | None:
    """Return the facts about a recorded stage; None where another revision is in it, or it cannot be read."""
    if stored is None or stored.revision != revision:
        return None
    stage = _stage(stored.name, stored.environment, stored.scope)
    if stage is None:
        return None
    return StageFacts(
        stage=stage,
        revision=stored.revision,
        entered_at=stored.entered_at,
        ready_since=stored.ready_since,
        soaked=timedelta(seconds=stored.soaked_seconds),
        restarts=stored.restarts,
        counted=tuple(PodEnds(one.uid, one.restarts) for one in stored.restarted_pods),
        restarted_at=stored.soak_restarted_at,
        passed=PassedTime(
            staging=timedelta(seconds=stored.passed_staging_seconds),
            limited=timedelta(seconds=stored.passed_limited_seconds),
        ),
        baseline=parse_ended(stored.baseline),
    )


def _stage(name: str, environment: str, scope: tuple[ScopeDimension, ...]) -> Stage | None:
    try:
        return Stage(name=name, environment=environment, scope=scope or None)
    except ValidationError:
        return None  # no stage of a spec may have this name


def _ref(stored: RevisionStatus | StoredPlacement | None) -> RevisionRef | None:
    return None if stored is None else RevisionRef(stored.number, stored.digest)


def _read_stopped(stored: StoppedStatus | None, newest: RevisionRef | None) -> StoppedRevision | None:
    """A stop that cannot be read is a stop nevertheless: what was stopped does not start again by itself."""
    if stored is None or newest is None:
        return None
    known = {reason.value: reason for reason in StopReason}
    return StoppedRevision(newest, stored.at, known.get(stored.reason, StopReason.ABORTED), stored.by, stored.message)


def _read_good(stored: GoodStatus | None) -> GoodRevision | None:
    if stored is None or (stage := _stage(stored.stage, stored.environment, stored.scope)) is None:
        return None
    return GoodRevision(RevisionRef(stored.number, stored.digest), stage, stored.since, stored.serving_since)


def _read_leaving(stored: LeavingStatus) -> LeavingPlacement | None:
    stage = _stage(stored.stage, stored.environment, stored.scope)
    if stage is None:
        return None
    excluded = tuple(one.scope for one in stored.excluded)
    return LeavingPlacement(RevisionRef(stored.number, stored.digest), stage, stored.draining_since, excluded)


def _read_test(stored: TestStatus) -> RecordedTest:
    """A result that cannot be read is lost: the test is not repeated."""
    known = {outcome.value: outcome for outcome in TestOutcome}
    result = TestResult(known.get(stored.outcome, TestOutcome.LOST), stored.exit_code, stored.log)
    return RecordedTest(stored.number, stored.stage, stored.name, result)


def write_rollout(record: RolloutRecord, sources: tuple[str, ...] = (), claims: tuple[str, ...] = ()) -> RolloutStatus:
    """Return what the status must record, besides the current stage.

    Args:
        record: The facts, and what belongs to them.
        sources: The sources of the revisions that have placements.
        claims: The claims that no other agent gets, `MAX_CLAIMS` at most.
    """
    facts, collisions, digests = record.facts, record.collisions, record.content_digests
    return RolloutStatus(
        newest=_write_ref(facts.newest, digests) if facts.newest is not None else None,
        serving_since=facts.serving_since,
        was_ready=facts.was_ready,
        good=_write_good(facts.good, collisions) if facts.good is not None else None,
        passed=tuple(_write_passed(one, digests) for one in facts.passed[-MAX_PASSED:]),
        leaving=tuple(_write_leaving(one, collisions) for one in facts.leaving[:MAX_LEAVING]),
        stopped=_write_stopped(facts.stopped) if facts.stopped is not None else None,
        approved=tuple(
            ApprovalStatus(
                stage=one.stage,
                by=one.by[:_MOST_TEXT],
                is_vouched=one.is_vouched,
                may_override_gates=one.may_override_gates,
                work=one.work,
            )
            for one in facts.approved[-MAX_APPROVED:]
        ),
        tests=tuple(map(_write_test, record.tests[-MAX_TEST_RESULTS:])),
        scale_downs=tuple(
            ScaleDownStatus(
                stage=key.stage,
                digest=key.revision,
                pods=tuple(DrainingPodStatus(name=one.name, since=one.since) for one in pods),
            )
            for key, pods in list(record.scale_downs.items())[:MAX_SCALE_DOWNS]
        ),
        images=tuple(
            ImageStatus(revision=revision, image=image, digest=digest)
            for (revision, image), digest in list(record.images.items())[:MAX_IMAGES]
        ),
        last_number=facts.last_number,
        sources=sources[:MAX_SOURCES],
        claims=claims,
        handled_commands=tuple(one[:256] for one in facts.handled_commands[:MAX_COMMANDS]),
    )


def write_stage(facts: StageFacts, ref: RevisionRef, collisions: int) -> StageStatus:
    """Return the status of a stage, without what follows it.

    Args:
        facts: The facts about it.
        ref: The revision that is in it.
        collisions: The collision count of the placement's names.
    """
    return StageStatus(
        name=facts.stage.name,
        environment=facts.stage.environment,
        scope=facts.stage.scope or (),
        number=ref.number,
        revision=facts.revision,
        revision_name=ref.name,
        collision_count=collisions,
        entered_at=facts.entered_at,
        ready_since=facts.ready_since,
        soaked_seconds=min(facts.soaked // _SECOND, MAX_SOAKED_SECONDS),
        restarts=facts.restarts,
        restarted_pods=tuple(RestartedPod(uid=one.uid, restarts=one.ends) for one in facts.counted),
        soak_restarted_at=facts.restarted_at,
        passed_staging_seconds=min(facts.passed.staging // _SECOND, MAX_SOAKED_SECONDS),
        passed_limited_seconds=min(facts.passed.limited // _SECOND, MAX_SOAKED_SECONDS),
        baseline=dump_ended(facts.baseline) if facts.baseline is not None else "",
    )


def _write_test(one: RecordedTest) -> TestStatus:
    code = one.result.exit_code
    return TestStatus(
        number=one.number,
        stage=one.stage,
        name=one.name,
        outcome=one.result.outcome.value,
        exit_code=code if code is not None and 0 <= code < _MOST_CODE else None,
        log=one.result.log[-MAX_TEST_LOG:],
    )


def _write_ref(ref: RevisionRef, digests: Mapping[str, str]) -> RevisionStatus:
    return RevisionStatus(number=ref.number, digest=ref.digest, content_digest=digests.get(ref.digest, ""))


def _write_passed(one: PassedRevision, digests: Mapping[str, str]) -> PassedStatus:
    return PassedStatus(
        number=one.ref.number,
        digest=one.ref.digest,
        content_digest=digests.get(one.ref.digest, ""),
        served=one.served,
    )


def _write_good(good: GoodRevision, collisions: Mapping[PlacementKey, int]) -> GoodStatus:
    return GoodStatus(
        number=good.ref.number,
        digest=good.ref.digest,
        stage=good.stage.name,
        environment=good.stage.environment,
        scope=good.stage.scope or (),
        collision_count=collisions.get(good.key, 0),
        since=good.since,
        serving_since=good.serving_since,
    )


def _write_leaving(one: LeavingPlacement, collisions: Mapping[PlacementKey, int]) -> LeavingStatus:
    return LeavingStatus(
        number=one.ref.number,
        digest=one.ref.digest,
        stage=one.stage.name,
        environment=one.stage.environment,
        scope=one.stage.scope or (),
        collision_count=collisions.get(one.key, 0),
        draining_since=one.draining_since,
        excluded=tuple(StoredScope(scope=scope) for scope in one.excluded[:MAX_EXCLUDED]),
    )


def _write_stopped(stopped: StoppedRevision) -> StoppedStatus:
    return StoppedStatus(
        at=stopped.at,
        reason=stopped.why.value,
        by=stopped.by[:_MOST_TEXT],
        message=stopped.message[:_MOST_TEXT],
    )
