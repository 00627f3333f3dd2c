"""The tests of the stage that the newest revision is in: which Jobs must exist, and what has become of them.

The Job of a test is created once for each number of a revision in a stage. The status records the test from when its
Job was seen, and `managedObjects` from when it was created. A Job that is gone before its result was seen is lost, and
no other one takes its place. A kill ends it likewise.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from interlock.api.agent import Agent, Stage
from interlock.deployment.children.services import addresses_of
from interlock.deployment.children.stage_tests import StageService, build_test_job, build_test_support
from interlock.deployment.names import STAGE_TEST, ChildKey, Manifest, placement_digest, stage_service, stage_test_job
from interlock.deployment.observed.stage_tests import read_test
from interlock.deployment.plan import JOB
from interlock.orchestration.gates import TestOutcome, TestResult
from interlock.orchestration.rollout_state import RolloutFacts
from interlock.reconcile.placements import RunningPlacement
from interlock.reconcile.rollout_status import RecordedTest, RolloutRecord
from interlock.reconcile.snapshot import Snapshot
from interlock.reconcile.stage_gates import judged_stage
from interlock_contract.names import APP_COMPONENT_LABEL, PLACEMENT_DIGEST

_DELETED = TestResult(TestOutcome.LOST, log="its Job was deleted before its end was seen")
_KILLED = TestResult(TestOutcome.LOST, log="it was ended by a kill")
_NOT_BEGUN = TestResult(TestOutcome.RUNNING)


@dataclass(frozen=True)
class SeenTests:
    """What is seen of the tests of the current stage.

    Attributes:
        results: The result of each, by name. One that has not begun counts as running.
        recorded: What must be recorded of them, and of those of earlier stages.
        ended: The names of Jobs that have ended and whose pods must be read first.
    """

    results: Mapping[str, TestResult] = field(default_factory=dict)
    recorded: tuple[RecordedTest, ...] = ()
    ended: tuple[str, ...] = ()


def see_tests(snapshot: Snapshot, record: RolloutRecord, *, is_killed: bool) -> SeenTests:
    """Return what is seen of the current stage's tests.

    Args:
        snapshot: The snapshot.
        record: What the status records.
        is_killed: Whether the agent is killed.
    """
    facts, stage = record.facts, judged_stage(snapshot.agent, record.facts)
    if stage is None or facts.newest is None or not stage.tests:
        return SeenTests(recorded=record.tests)
    number = facts.newest.number
    known = {one.name: one.result for one in record.tests if (one.number, one.stage) == (number, stage.name)}
    results, ended, begun = {}, [], set[str]()
    for test in stage.tests:
        job = ChildKey(JOB, _job_name(snapshot.agent, stage, facts, test.name))
        live, result = snapshot.children.get(job), known.get(test.name, _NOT_BEGUN)
        has_begun = live is not None or job in snapshot.applied or test.name in known
        if result.outcome is TestOutcome.RUNNING and has_begun:
            result = _KILLED if is_killed else _DELETED
            if live is not None and not is_killed:
                result = read_test(live.manifest, snapshot.test_pods.get(job.name, ()))
                if result.outcome is not TestOutcome.RUNNING and job.name not in snapshot.test_pods:
                    ended.append(job.name)
        results[test.name] = result
        if has_begun:
            begun.add(test.name)
    others = [one for one in record.tests if (one.number, one.stage) != (number, stage.name)]
    own = [RecordedTest(number, stage.name, name, result) for name, result in results.items() if name in begun]
    return SeenTests(results, (*others, *own), tuple(ended))


def recorded_tests(tests: Iterable[RecordedTest], facts: RolloutFacts) -> tuple[RecordedTest, ...]:
    """Return what the status must record of tests: those of the newest revision after the decision."""
    return tuple(one for one in tests if facts.newest is not None and one.number == facts.newest.number)


def objects_of_tests(
    snapshot: Snapshot, facts: RolloutFacts, placements: Iterable[RunningPlacement], tests: SeenTests
) -> tuple[Manifest, ...]:
    """Return the Jobs of tests that must exist, with what they share.

    A Job starts once its placement is Ready. Then it serves, and the stage's Service selects it. The Job stays until
    its placement is on its way out.

    Args:
        snapshot: The snapshot of an agent that is not killed.
        facts: The facts after the decision.
        placements: The placements that must exist.
        tests: What is seen of the tests.
    """
    found: list[Manifest] = []
    for one in placements:
        if not one.desired.is_draining:
            jobs = [*_live_jobs(snapshot, one), *_new_jobs(snapshot, facts, one, tests)]
            found += [*build_test_support(one.placement), *jobs] if jobs else []
    return tuple(found)


def _live_jobs(snapshot: Snapshot, one: RunningPlacement) -> list[Manifest]:
    digest = placement_digest(snapshot.agent.metadata, one.key.stage, one.key.revision)
    return [
        child.manifest
        for key, child in sorted(snapshot.children.items())
        if key.kind == JOB
        and child.manifest["metadata"].get("labels", {}).get(APP_COMPONENT_LABEL) == STAGE_TEST
        and child.manifest["metadata"].get("annotations", {}).get(PLACEMENT_DIGEST) == digest
    ]


def _new_jobs(snapshot: Snapshot, facts: RolloutFacts, one: RunningPlacement, tests: SeenTests) -> list[Manifest]:
    stage, newest = judged_stage(snapshot.agent, facts), facts.newest
    if stage is None or newest is None or facts.stage is None or one.key != facts.key:
        return []
    name = stage_service(snapshot.agent, stage.name)
    service = snapshot.children.get(ChildKey("Service", name))
    addresses = addresses_of(service.manifest if service is not None else None)
    if facts.stage.ready_since is None or not addresses:
        return []
    begun = {(test.number, test.stage, test.name) for test in tests.recorded}
    return [
        build_test_job(one.placement, test, newest.number, StageService(name, addresses))
        for test in stage.tests
        if (newest.number, stage.name, test.name) not in begun
    ]


def _job_name(agent: Agent, stage: Stage, facts: RolloutFacts, test: str) -> str:
    number, digest = (facts.newest.number, facts.newest.digest) if facts.newest is not None else (0, "")
    return stage_test_job(agent.metadata, stage.name, digest, number, test)
