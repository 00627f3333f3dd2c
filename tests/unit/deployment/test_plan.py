from dataclasses import replace

from interlock.deployment.names import ChildKey, key_of
from interlock.deployment.ownership import AppliedObject, applied_object
from interlock.deployment.plan import LiveChild, WritePlan, desired_children, plan_children
from tests.requirements import requirement
from tests.support.builders import a_placement, a_stage, an_agent
from tests.support.simulation import written_by

DESIRED = desired_children(a_placement())
LIVE = {key_of(manifest): LiveChild(manifest) for manifest in DESIRED}
APPLIED = {key_of(manifest): applied_object(manifest) for manifest in DESIRED}
SECRET_KEY = next(key for key in LIVE if key.kind == "Secret")
DEPLOYMENT = next(key for key in LIVE if key.kind == "Deployment")


def test_nothing_is_pending_where_everything_exists() -> None:
    assert plan_children(DESIRED, LIVE, APPLIED) == WritePlan()
    assert plan_children(DESIRED, LIVE, APPLIED).is_empty


@requirement("deployment.workloads-last")
def test_everything_is_pending_where_nothing_exists_and_workloads_come_last() -> None:
    plan = plan_children(DESIRED, {}, {})

    assert sorted(map(key_of, written_by(plan))) == sorted(LIVE)
    assert [manifest["kind"] for manifest in plan.workloads] == ["Deployment"]
    assert [manifest["kind"] for manifest in plan.grants] == ["RoleBinding"]
    assert plan.missing == LIVE.keys()
    assert plan.prune == ()


@requirement("deployment.additions")
def test_only_the_child_that_is_missing_or_changed_or_unknown_is_pending() -> None:
    for key in LIVE.keys() - {SECRET_KEY}:
        missing = {known: found for known, found in LIVE.items() if known != key}
        unknown = {known: found for known, found in APPLIED.items() if known != key}
        changed = {**APPLIED, key: AppliedObject("", "of another content")}
        for live, applied in ((missing, APPLIED), (LIVE, unknown), (LIVE, changed)):
            plan = plan_children(DESIRED, live, applied)
            assert [key_of(manifest) for manifest in written_by(plan)] == [key]
            assert plan.missing == ({key} if live is missing else set())


@requirement("agent-key.secret")
def test_a_secret_is_created_once_and_again_only_where_it_may_be_missing() -> None:
    unknown = {known: found for known, found in APPLIED.items() if known != SECRET_KEY}
    seen = {known: found for known, found in LIVE.items() if known != SECRET_KEY}  # the operator sees none

    assert plan_children(DESIRED, seen, APPLIED).is_empty
    for plan in (plan_children(DESIRED, seen, unknown), plan_children(DESIRED, seen, APPLIED, creates_secrets=True)):
        assert [key_of(manifest) for manifest in written_by(plan)] == [SECRET_KEY]
        assert plan.workloads == ()
    assert plan_children((), seen, APPLIED).prune[1:].count(SECRET_KEY) == 1


@requirement("deployment.prune")
def test_what_is_not_desired_is_pruned_workloads_first() -> None:
    plan = plan_children((), LIVE, APPLIED)

    assert written_by(plan) == ()
    assert plan.prune[0] == DEPLOYMENT
    assert set(plan.prune) == set(LIVE)
    assert not plan.is_empty


@requirement("rollout.own-objects")
def test_entering_a_stage_writes_the_new_placement_and_prunes_the_old_one() -> None:
    agent = an_agent().with_stages(a_stage("staging"), a_stage("everywhere", "production"))
    old, new = (desired_children(a_placement(agent, stage=stage)) for stage in (0, 1))
    live = {key_of(manifest): LiveChild(manifest) for manifest in old}

    plan = plan_children(new, live, {key_of(manifest): applied_object(manifest) for manifest in old})

    public = {ChildKey("Service", "guard-triage")}
    assert set(map(key_of, written_by(plan))) == set(map(key_of, new)), "the public Service selects other pods"
    assert set(plan.prune) == set(map(key_of, old)) - public


@requirement("kill.lease")
def test_while_no_pod_may_start_a_new_workload_is_held_and_the_rest_is_written() -> None:
    new = desired_children(replace(a_placement(), revision="0" * 10))

    plan = plan_children(new, LIVE, APPLIED, starts_pods=False)

    assert plan.workloads == ()
    assert [key.kind for key in plan.held] == ["Deployment"]
    assert plan.prepare != ()


def replicas_written(
    wanted: int, live: int, *, is_touched: bool = False, is_known: bool = True, image: str = ""
) -> list[int] | None:
    """Return the replicas that are written for one Deployment while no pod may start; None where it is held."""
    standing = desired_children(replace(a_placement(), replicas=live))
    children = {key_of(one): LiveChild(one) for one in standing}
    applied = {key_of(one): applied_object(one) for one in standing if is_known or one["kind"] != "Deployment"}
    if is_touched:
        applied |= {key: AppliedObject("", "of another content") for key in applied if key.kind == "Deployment"}
    placement = replace(a_placement(), replicas=wanted)
    plan = plan_children(
        desired_children(replace(placement, guard_image=image or placement.guard_image)),
        children,
        applied,
        starts_pods=False,
    )
    return None if plan.held else [one["spec"]["replicas"] for one in plan.workloads]


@requirement("kill.lease")
def test_while_no_pod_may_start_workloads_only_lose_pods() -> None:
    assert replicas_written(0, 2) == [0], "killed"
    assert replicas_written(1, 2) == [1], "scaled down"
    assert replicas_written(2, 2) == [], "as it stands"
    assert replicas_written(2, 1) is None, "scaled up"
    assert replicas_written(2, 2, image="another") is None, "rolled"
    assert replicas_written(1, 2, image="another") is None, "rolled, with fewer pods"
    assert replicas_written(2, 2, is_touched=True) == [0], "changed by others: its pods may be theirs"
    assert replicas_written(2, 2, is_known=False) == [], "as it stands, of an operator that ended before its status"
    assert replicas_written(2, 2, is_known=False, image="another") is None, "rolled"


def test_a_job_is_created_after_everything_else_once_and_never_repaired() -> None:
    job = {**LIVE[DEPLOYMENT].manifest, "kind": "Job", "spec": {"backoffLimit": 0}}
    desired, key = (job, *DESIRED), ChildKey("Job", DEPLOYMENT.name)
    edited = LiveChild({**job, "spec": {"backoffLimit": 3}})

    assert [one["kind"] for one in plan_children(desired, {}, {}).workloads] == ["Deployment", "Job"]
    created = plan_children(desired, LIVE, APPLIED)
    assert (created.workloads, created.others_content) == ((job,), {key})
    assert plan_children(desired, LIVE, APPLIED, starts_pods=False).is_empty
    assert plan_children(desired, {**LIVE, key: edited}, APPLIED).is_empty
    assert plan_children(desired, LIVE, {**APPLIED, key: applied_object(job)}).is_empty  # it is gone
