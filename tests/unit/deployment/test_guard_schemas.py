"""The schema of the bundle that all guards of a placement read."""

from dataclasses import replace

from interlock.deployment.names import revision_label
from interlock.deployment.observed.guard_schemas import SeenSchemas, see_schemas
from interlock.deployment.observed.pod_reports import AgentPods, PodGroup, PodReport
from interlock.deployment.plan import LiveChild
from interlock_contract.bundle_schema import SCHEMA_VERSION, read_schemas, write_schemas
from interlock_contract.names import BUNDLE_SCHEMAS, GUARD_LABEL

REVISION = "a" * 64
GROUP = PodGroup("everywhere", revision_label(REVISION), "Separate", "guard")
TODAY, BEFORE, NEWER = read_schemas(write_schemas()), read_schemas(None), frozenset({SCHEMA_VERSION + 1})


def pod(schemas: frozenset[int] | None, group: PodGroup = GROUP) -> PodReport:
    return PodReport("uid", group, schemas=schemas)


def workload(annotations: dict[str, str], replicas: int = 1) -> LiveChild:
    metadata = {"labels": {GUARD_LABEL: "triage"}, "annotations": annotations}
    return LiveChild({"spec": {"replicas": replicas, "template": {"metadata": metadata}}})


def see(*running: PodReport, ending: tuple[PodReport, ...] = (), live: LiveChild | None = None) -> SeenSchemas:
    return see_schemas(AgentPods(running, ending=ending), "everywhere", REVISION, live)


def test_guards_of_both_versions_get_the_one_that_both_read() -> None:
    assert see(pod(TODAY)) == SeenSchemas(SCHEMA_VERSION)
    assert see(pod(TODAY), pod(BEFORE)) == SeenSchemas(SCHEMA_VERSION - 1)


def test_a_guard_that_is_ending_gets_no_schema_that_it_does_not_read() -> None:
    assert see(pod(TODAY), ending=(pod(BEFORE),)).written == SCHEMA_VERSION - 1
    assert see(pod(TODAY), ending=(pod(NEWER),)) == SeenSchemas(SCHEMA_VERSION)


def test_a_deployment_may_start_a_guard_at_any_time() -> None:
    assert see(live=workload({})).written == SCHEMA_VERSION - 1
    assert see(live=workload({BUNDLE_SCHEMAS: write_schemas()})).written == SCHEMA_VERSION
    assert see(live=workload({}, replicas=0)).written == SCHEMA_VERSION


def test_guards_that_read_nothing_that_is_written_are_found() -> None:
    assert see(pod(NEWER)) == SeenSchemas(SCHEMA_VERSION, is_unread=True)


def test_pods_without_a_guard_of_other_placements_or_that_have_ended_do_not_count() -> None:
    other = replace(GROUP, stage="elsewhere")
    assert see(pod(None), pod(BEFORE, other), replace(pod(BEFORE), has_ended=True)).written == SCHEMA_VERSION
