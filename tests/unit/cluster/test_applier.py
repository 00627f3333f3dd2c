import asyncio
import copy
from dataclasses import replace
from typing import Any

import pytest

from interlock.cluster.applier import IN_FLIGHT, Applier, ApplyFailed
from interlock.cluster.child_cache import ChildCache
from interlock.deployment.names import ChildKey, Manifest, key_of
from interlock.deployment.ownership import AppliedObject
from interlock.deployment.plan import WritePlan, desired_children, plan_children, unrestored
from interlock_contract.names import AGENT_LABEL
from interlock_kube.client import ApiError
from interlock_kube.reconcile_loop import Cause, cause_of
from interlock_kube.resource_types import BY_KIND
from tests.requirements import requirement
from tests.support.builders import a_placement, an_agent
from tests.support.fake_client import FakeClient

DESIRED = desired_children(a_placement())
PLAN = plan_children(DESIRED, {}, {})
AGENT = ("agents", "triage")
UID = "uid-of-triage"


def path_of(manifest: Manifest) -> str:
    return BY_KIND[manifest["kind"]].path(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def paths(kind: str) -> list[str]:
    return [path_of(manifest) for manifest in DESIRED if manifest["kind"] == kind]


class Cluster:
    """An applier with its store and what the status would record."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.store = ChildCache()
        self.applier = Applier(self.client, self.store)  # type: ignore[arg-type]
        self.applied: dict[ChildKey, AppliedObject] = {}

    async def carry_out(self, plan: WritePlan = PLAN, **more: Any) -> None:
        try:
            self.applied |= await self.applier.carry_out(plan, *AGENT, self.applied, **more)
        except ApplyFailed as failure:
            self.applied |= failure.written
            raise

    def pending(self) -> WritePlan:
        return plan_children(DESIRED, self.store.of(AGENT, UID), self.applied)

    def tamper(self, path: str, addition: Any) -> None:
        """Change an object as another user, and update the store."""
        self.client.add_foreign(path, addition)
        self.store.put(self.client.objects[path]["kind"], self.client.objects[path])
        self.client.forget_requests()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


async def test_an_applied_plan_has_nothing_pending(cluster: Cluster) -> None:
    await cluster.carry_out()

    assert cluster.pending().is_empty
    assert len(cluster.client.objects) == len(DESIRED)


@requirement("operator.late-events")
async def test_a_child_that_is_deleted_before_the_response_to_its_write_is_pending(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = cluster.client.create

    async def create_and_lose(path: str, manifest: Manifest, **options: Any) -> Any:
        live = await create(path, manifest, **options)
        key = live["metadata"]["namespace"], live["metadata"]["name"]
        cluster.store.drop(live["kind"], key, int(live["metadata"]["resourceVersion"]) + 1)
        return live

    monkeypatch.setattr(cluster.client, "create", create_and_lose)
    await cluster.carry_out()

    pending = cluster.pending()
    assert len([*pending.prepare, *pending.grants, *pending.workloads]) == len(READ), "a Secret is never seen"


@requirement("deployment.workloads-last")
async def test_the_workload_is_written_after_all_the_others(cluster: Cluster) -> None:
    await cluster.carry_out()

    written = [path for _, path in cluster.client.writes()]
    assert written[-1:] == paths("Deployment")
    assert written[-2:-1] == paths("RoleBinding")


@requirement("operator.converges")
@pytest.mark.parametrize("manifest", DESIRED, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}")
async def test_a_child_that_is_refused_is_named_and_the_next_try_writes_only_what_is_pending(
    cluster: Cluster, manifest: Manifest
) -> None:
    cluster.client.refuse("POST", path_of(manifest), status=403)

    with pytest.raises(ApplyFailed, match=f"^{manifest['kind']} {manifest['metadata']['name']}: no POST today$"):
        await cluster.carry_out()

    if manifest["kind"] != "Deployment":
        assert cluster.client.of_kind("Deployment") == {}
    kept = len(cluster.client.objects)
    cluster.client.forget_requests()
    await cluster.carry_out(cluster.pending())
    assert len(cluster.client.writes()) == len(DESIRED) - kept
    assert cluster.pending().is_empty


async def test_a_lost_connection_names_the_child_and_the_next_try_converges(cluster: Cluster) -> None:
    cluster.client.break_with(TimeoutError(), "POST", paths("Role")[0])

    with pytest.raises(
        ApplyFailed, match=r"^Role triage-.*: the API server gave no answer \(TimeoutError\)$"
    ) as caught:
        await cluster.carry_out()
    assert cause_of(caught.value) is Cause.UNREACHABLE

    await cluster.carry_out(cluster.pending())
    assert cluster.pending().is_empty


# Changes of others


BUNDLE = next(path_of(manifest) for manifest in DESIRED if "bundle.json" in manifest.get("data", {}))
FILES = next(path_of(manifest) for manifest in DESIRED if manifest["metadata"]["name"].endswith("-files"))


@requirement("deployment.additions")
async def test_what_others_added_is_removed_and_nothing_is_pending_afterwards(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.tamper(BUNDLE, {"data": {"x": "smuggled"}, "binaryData": {"y": "eA=="}})
    assert [key_of(manifest).kind for manifest in cluster.pending().prepare] == ["ConfigMap"]

    await cluster.carry_out(cluster.pending())

    assert "x" not in cluster.client.objects[BUNDLE]["data"]
    assert "binaryData" not in cluster.client.objects[BUNDLE]
    assert cluster.client.writes() == [("PATCH", BUNDLE)]
    assert cluster.pending().is_empty


@requirement("deployment.additions")
async def test_labels_annotations_and_owners_of_others_stay(cluster: Cluster) -> None:
    await cluster.carry_out()
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "another"}
    owners = [*cluster.client.objects[BUNDLE]["metadata"]["ownerReferences"], other]
    metadata = {"labels": {"team": "a"}, "annotations": {"example.com/x": "y"}, "ownerReferences": owners}
    cluster.tamper(BUNDLE, {"data": {"x": "smuggled"}, "metadata": metadata})

    await cluster.carry_out(cluster.pending())

    live = cluster.client.objects[BUNDLE]
    assert live["metadata"]["labels"]["team"] == "a"
    assert live["metadata"]["annotations"]["example.com/x"] == "y"
    assert live["metadata"]["ownerReferences"] == owners
    assert "x" not in live["data"]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
async def test_a_repair_that_is_refused_half_way_is_reported_and_done_at_the_next_try(
    cluster: Cluster, method: str
) -> None:
    await cluster.carry_out()
    cluster.tamper(BUNDLE, {"data": {"x": "smuggled"}})
    cluster.client.refuse(method, BUNDLE)

    with pytest.raises(ApplyFailed, match=r"^ConfigMap "):
        await cluster.carry_out(cluster.pending())

    assert not cluster.pending().is_empty
    await cluster.carry_out(cluster.pending())
    assert "x" not in cluster.client.objects[BUNDLE]["data"]
    assert cluster.pending().is_empty


async def test_an_object_that_changes_during_its_repair_is_read_and_repaired_again(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.tamper(BUNDLE, {"data": {"x": "smuggled"}})
    cluster.client.refuse("PATCH", BUNDLE, status=409)

    await cluster.carry_out(cluster.pending())

    assert cluster.pending().is_empty
    assert "x" not in cluster.client.objects[BUNDLE]["data"]


async def test_an_object_that_always_changes_during_its_repair_is_left_for_the_next_reconcile(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.tamper(BUNDLE, {"data": {"x": "smuggled"}})
    cluster.client.refuse("PATCH", BUNDLE, status=409, times=99)

    with pytest.raises(ApplyFailed, match="changed by others during 6 attempts"):
        await cluster.carry_out(cluster.pending())

    assert not cluster.pending().is_empty


@requirement("deployment.immutable")
async def test_an_object_that_cannot_be_changed_is_recreated(cluster: Cluster) -> None:
    await cluster.carry_out()
    before = copy.deepcopy(cluster.client.objects[BUNDLE])
    cluster.tamper(BUNDLE, {"data": {"bundle.json": "widened"}, "immutable": True})

    await cluster.carry_out(cluster.pending())

    after = cluster.client.objects[BUNDLE]
    assert (after["data"], after.get("immutable")) == (before["data"], None)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert [method for method, _ in cluster.client.writes()] == ["PATCH", "DELETE", "POST"]
    assert cluster.pending().is_empty


@requirement("deployment.immutable")
async def test_pods_that_mount_a_recreated_object_are_replaced(cluster: Cluster) -> None:
    await cluster.carry_out()
    pods = "/api/v1/namespaces/agents/pods"
    await cluster.client.create(pods, {"kind": "Pod", "metadata": {"name": "own", "labels": {AGENT_LABEL: "triage"}}})
    await cluster.client.create(pods, {"kind": "Pod", "metadata": {"name": "other", "labels": {AGENT_LABEL: "x"}}})
    cluster.tamper(FILES, {"data": {"file-0": "{}"}, "immutable": True})

    await cluster.carry_out(cluster.pending())

    assert list(cluster.client.of_kind("Pod")) == [f"{pods}/other"]
    assert cluster.pending().is_empty


@requirement("deployment.immutable")
async def test_an_object_stays_while_the_api_server_refuses_what_would_replace_it(cluster: Cluster) -> None:
    await cluster.carry_out()
    [workload] = paths("Deployment")
    cluster.tamper(workload, {"spec": {"paused": True}})
    cluster.client.refuse("PATCH", workload, status=422)
    cluster.client.refuse("DRY-RUN", "deployments", status=422)

    with pytest.raises(ApplyFailed, match="no PATCH today"):
        await cluster.carry_out(cluster.pending())

    assert workload in cluster.client.objects


# Objects of others


def foreign(path: str, owners: tuple[Any, ...] = ()) -> Any:
    manifest = next(one for one in DESIRED if path_of(one) == path)
    metadata = {"name": manifest["metadata"]["name"], "namespace": "agents", "uid": "theirs", "labels": {"team": "a"}}
    if owners:
        metadata["ownerReferences"] = list(owners)
    kept = {name: manifest[name] for name in ("apiVersion", "kind")}
    return {**kept, "metadata": metadata, "spec": {"selector": {"app": "payments-api"}}}


READ = [manifest for manifest in DESIRED if manifest["kind"] != "Secret"]
OWNER = DESIRED[0]["metadata"]["ownerReferences"][0]


@requirement("deployment.names-of-others")
@pytest.mark.parametrize("manifest", READ, ids=lambda manifest: f"{manifest['kind']}-{manifest['metadata']['name']}")
@pytest.mark.parametrize(
    "owners",
    [
        (),
        ({**OWNER, "uid": "another", "name": "another"},),
        ({**OWNER, "uid": "another", "kind": "MCPBinding"},),
        ({**OWNER, "uid": "another"}, {**OWNER, "uid": "third", "name": "third"}),
    ],
    ids=["none", "another-agent", "another-kind", "an-earlier-agent-and-another"],
)
async def test_an_object_of_others_is_never_taken_over(
    cluster: Cluster, manifest: Manifest, owners: tuple[Any, ...]
) -> None:
    path = path_of(manifest)
    before = cluster.client.put(path, foreign(path, owners))

    with pytest.raises(ApplyFailed, match=f"^{manifest['kind']} {manifest['metadata']['name']} exists and") as failure:
        await cluster.carry_out()

    assert failure.value.reason == "NameTaken"
    assert cluster.client.objects[path] == before
    assert [method for method, written in cluster.client.writes() if written == path] == ["POST"]


@requirement("deployment.names-of-others")
async def test_what_an_earlier_agent_of_this_name_has_left_is_deleted_and_created(cluster: Cluster) -> None:
    [path] = paths("Role")
    cluster.client.put(path, foreign(path, ({**OWNER, "uid": "of-an-earlier-agent"},)))

    await cluster.carry_out()

    assert cluster.client.objects[path]["metadata"]["ownerReferences"] == [OWNER]
    assert "spec" not in cluster.client.objects[path]
    assert cluster.pending().is_empty


@requirement("deployment.names-of-others")
async def test_an_object_of_ours_whose_owner_was_removed_is_known_by_its_uid(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.client.add_foreign(BUNDLE, {"metadata": {"ownerReferences": None, "labels": None}})
    cluster.store.drop("ConfigMap", ("agents", BUNDLE.rpartition("/")[2]), cluster.client.version)

    await cluster.carry_out(cluster.pending())

    assert cluster.client.objects[BUNDLE]["metadata"]["ownerReferences"] == [OWNER]
    assert cluster.pending().is_empty


async def test_an_object_that_is_being_deleted_is_not_written(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.tamper(
        BUNDLE, {"data": {"x": "y"}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"]}}
    )

    with pytest.raises(ApplyFailed, match=r"is being deleted and waits for a/b$"):
        await cluster.carry_out(cluster.pending())

    assert cluster.client.writes() == []


# Secrets

SECRET_KEY = ChildKey("Secret", paths("Secret")[0].rsplit("/", 1)[1])


@requirement("agent-key.secret")
async def test_a_secret_is_created_with_its_content_and_what_is_kept_of_it_is_its_uid(cluster: Cluster) -> None:
    await cluster.carry_out()

    [path] = paths("Secret")
    assert cluster.applied[SECRET_KEY] == AppliedObject(cluster.client.objects[path]["metadata"]["uid"], "")
    assert SECRET_KEY not in cluster.store.of(AGENT, UID)
    assert [method for method, asked in cluster.client.requests if asked == path] == ["POST"]
    assert cluster.pending().is_empty


@requirement("agent-key.secret")
async def test_a_secret_that_exists_stays_and_one_that_was_deleted_comes_back(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Secret")
    before, applied = copy.deepcopy(cluster.client.objects[path]), dict(cluster.applied)
    again = plan_children(DESIRED, cluster.store.of(AGENT, UID), cluster.applied, creates_secrets=True)

    await cluster.carry_out(again)
    assert (cluster.client.objects[path], cluster.applied) == (before, applied)

    del cluster.client.objects[path]
    await cluster.carry_out(again)
    assert cluster.client.objects[path]["data"] == before["data"]
    assert cluster.applied != applied, "it has another uid"


@requirement("agent-key.secret")
async def test_a_secret_whose_creation_was_not_recorded_counts_as_created(cluster: Cluster) -> None:
    await cluster.carry_out()
    del cluster.applied[SECRET_KEY]

    await cluster.carry_out(cluster.pending())
    assert cluster.applied[SECRET_KEY] == AppliedObject("", "")
    assert cluster.pending().is_empty

    await cluster.carry_out(WritePlan(prune=(SECRET_KEY,)))
    assert cluster.client.of_kind("Secret") == {}


@requirement("agent-key.secret")
@pytest.mark.parametrize(
    "message",
    [
        'Operation cannot be fulfilled on resourcequotas "a": the object has been modified',
        'object is being deleted: secrets "a" already exists',
    ],
)
async def test_another_conflict_is_no_secret_that_exists(cluster: Cluster, message: str) -> None:
    cluster.client.break_with(ApiError(409, message), "POST", paths("Secret")[0])

    with pytest.raises(ApplyFailed, match=r"^Secret triage-"):
        await cluster.carry_out()

    assert SECRET_KEY not in cluster.applied
    assert cluster.client.of_kind("Deployment") == {}, "no pod that could not start"


@requirement("agent-key.secret")
async def test_a_secret_of_another_object_with_that_name_is_not_pruned(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Secret")
    cluster.client.objects[path]["metadata"]["uid"] = "another"
    cluster.client.forget_requests()

    await cluster.carry_out(WritePlan(prune=(SECRET_KEY,)))

    assert list(cluster.client.of_kind("Secret")) == [path]
    assert cluster.client.requests == [("DELETE", path)], "without a look at it"


# Pruning


@requirement("deployment.prune")
async def test_what_is_pruned_goes_with_all_that_it_owns(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.client.forget_requests()

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), cluster.applied))

    assert cluster.client.objects == {}
    bodies = [body for body in cluster.client.bodies if body is not None]
    assert all("propagationPolicy" in body or "gracePeriodSeconds" in body for body in bodies)
    assert cluster.store.of(AGENT, UID) == {}


@pytest.mark.parametrize(
    "key",
    [
        ChildKey("", "a"),
        ChildKey("Gateway", "a"),
        ChildKey("Secret", ""),
        ChildKey("Role", "a/b"),
        ChildKey("Role", "."),
    ],
)
async def test_what_no_object_can_be_called_is_not_pruned(cluster: Cluster, key: ChildKey) -> None:
    cluster.applied[key] = AppliedObject("u", "d")

    await cluster.carry_out(WritePlan(prune=(key,)))

    assert cluster.client.requests == []


@requirement("deployment.prune")
async def test_a_pruned_workload_deletes_its_pods_without_kubernetes_gc(cluster: Cluster) -> None:
    await cluster.carry_out()
    [workload] = [manifest for manifest in DESIRED if manifest["kind"] == "Deployment"]
    pods = "/api/v1/namespaces/agents/pods"
    labels = workload["spec"]["template"]["metadata"]["labels"]
    for name, worn in (("own", labels), ("other", labels | {"interlock.dev/stage": "another"})):
        await cluster.client.create(pods, {"kind": "Pod", "metadata": {"name": name, "labels": worn}})
    cluster.client.forget_requests()

    await cluster.carry_out(WritePlan(prune=(key_of(workload),)))

    assert list(cluster.client.of_kind("Pod")) == [f"{pods}/other"]
    assert "replicasets" in [path.partition("?")[0].rpartition("/")[2] for _, path in cluster.client.writes()]
    assert cluster.client.bodies[-1] == {"gracePeriodSeconds": 1}


@requirement("deployment.prune")
@pytest.mark.parametrize("lost", ["labels", "ownerReferences"])
async def test_a_workload_that_lost_its_labels_or_owner_is_pruned_with_its_pods(cluster: Cluster, lost: str) -> None:
    await cluster.carry_out()
    [path] = paths("Deployment")
    pods = "/api/v1/namespaces/agents/pods"
    labels = cluster.client.objects[path]["spec"]["template"]["metadata"]["labels"]
    await cluster.client.create(pods, {"kind": "Pod", "metadata": {"name": "own", "labels": labels}})
    cluster.client.add_foreign(path, {"metadata": {lost: None}})
    cluster.store.drop("Deployment", ("agents", path.rpartition("/")[2]), cluster.client.version)

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), cluster.applied))

    assert cluster.client.objects == {}


async def test_an_object_that_took_the_name_of_a_child_since_then_is_not_pruned(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Role")
    del cluster.client.objects[path]
    cluster.store.drop("Role", ("agents", path.rpartition("/")[2]), cluster.client.version + 1)
    cluster.client.put(path, foreign(path))

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), cluster.applied))

    assert list(cluster.client.objects) == [path]


async def test_a_pruning_that_is_refused_is_named_and_tried_again(cluster: Cluster) -> None:
    await cluster.carry_out()
    cluster.client.refuse("DELETE", paths("Role")[0], status=403)

    with pytest.raises(ApplyFailed, match=r"^Role triage-.* cannot be deleted: no DELETE today$"):
        await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), {}))

    left = plan_children((), cluster.store.of(AGENT, UID), {}).prune
    assert [key.kind for key in left] == ["Role"], "with all that is deleted after the pods, the others are gone"
    await cluster.carry_out(WritePlan(prune=left))
    assert list(cluster.client.objects) == paths("Secret"), "which the status names, and this plan did not"


@pytest.mark.parametrize("kind", ["Role", "Deployment"])
async def test_an_object_that_took_the_name_of_a_child_before_the_watch_saw_it_is_not_pruned(
    cluster: Cluster, kind: str
) -> None:
    await cluster.carry_out()
    path = paths(kind)[0]
    cluster.client.put(path, foreign(path))

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), cluster.applied))

    assert list(cluster.client.objects) == [path]


async def test_an_object_that_is_not_known_as_a_child_is_not_pruned_by_its_name(cluster: Cluster) -> None:
    path = paths("Deployment")[0]
    cluster.client.put(path, foreign(path))

    await cluster.applier.prune([ChildKey("Deployment", path.rpartition("/")[2])], *AGENT, {})

    assert cluster.client.writes() == []


async def test_what_is_gone_already_is_pruned_without_complaint(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Role")
    del cluster.client.objects[path]

    await cluster.carry_out(plan_children((), cluster.store.of(AGENT, UID), cluster.applied))

    assert cluster.client.objects == {}


async def test_many_writes_for_one_namespace_leave_connections_for_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that is slow there, and not elsewhere."""
    create, answers = cluster.client.create, asyncio.Event()
    waiting: list[str] = []

    async def create_slowly(path: str, manifest: Manifest, **options: Any) -> Any:
        if manifest["metadata"]["namespace"] == AGENT[0]:
            waiting.append(path)
            await answers.wait()
        return await create(path, manifest, **options)

    monkeypatch.setattr(cluster.client, "create", create_slowly)
    maps = [a_config_map(AGENT[0], f"m{number}") for number in range(50)]
    plan = WritePlan(prepare=tuple(maps), missing=frozenset(map(key_of, maps)))
    elsewhere = a_config_map("elsewhere")
    slow = asyncio.create_task(cluster.carry_out(plan))
    for _ in range(60):  # every write begins, or waits for its turn
        await asyncio.sleep(0)
    await cluster.carry_out(WritePlan(prepare=(elsewhere,), missing=frozenset([key_of(elsewhere)])))

    assert len(waiting) == IN_FLIGHT
    answers.set()
    await slow
    assert len(cluster.client.objects) == 51


def a_config_map(namespace: str, name: str = "m") -> Manifest:
    owner = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "name": AGENT[1], "uid": UID, "controller": True}
    metadata = {"name": name, "namespace": namespace, "labels": {}, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}


async def test_nothing_is_pruned_while_what_replaces_it_does_not_stand(cluster: Cluster) -> None:
    cluster.client.refuse("POST", paths("Deployment")[0])

    with pytest.raises(ApplyFailed):
        await cluster.carry_out(replace(PLAN, prune=(ChildKey("Deployment", "old"),)))

    assert [path for method, path in cluster.client.writes() if method == "DELETE"] == []


async def test_applying_again_what_stands_makes_no_new_version(cluster: Cluster) -> None:
    await cluster.carry_out()
    before = cluster.client.version

    await cluster.carry_out(replace(PLAN, missing=frozenset()))

    assert cluster.client.version == before


async def test_two_agents_are_kept_apart(cluster: Cluster) -> None:
    other = desired_children(a_placement(an_agent("other")))
    await cluster.carry_out()
    await cluster.applier.carry_out(plan_children(other, {}, {}), "agents", "other", {})

    assert cluster.pending().is_empty
    assert len(cluster.store.of(("agents", "other"), "uid-of-other")) == len(other) - 1, "all but its Secret"


@requirement("kill.order")
async def test_no_workload_is_written_for_an_agent_that_was_killed_since_its_plan_and_nothing_is_pruned(
    cluster: Cluster,
) -> None:
    [path] = paths("Deployment")
    plan = replace(PLAN, prune=(ChildKey("Deployment", "another"),))

    await cluster.carry_out(plan, may_start_pods=lambda: False)

    assert path not in [written for _, written in cluster.client.requests]
    assert [method for method, _ in cluster.client.writes() if method == "DELETE"] == []


@requirement("kill.order")
async def test_a_workload_is_not_written_for_an_agent_that_was_killed_while_it_was_read(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Deployment")
    cluster.tamper(path, {"spec": {"x": 1}})
    answers = iter((True, False, False, False, False, False, False))

    await cluster.carry_out(cluster.pending(), may_start_pods=lambda: next(answers))

    assert cluster.client.writes() == []


@requirement("kill.order")
async def test_a_workload_that_was_scaled_to_zero_while_it_was_read_is_not_written(cluster: Cluster) -> None:
    await cluster.carry_out()
    [path] = paths("Deployment")
    cluster.tamper(path, {"spec": {"x": 1}})
    is_killed = False
    get = cluster.client.get

    async def get_and_kill(*arguments: Any, **keywords: Any) -> Any:
        nonlocal is_killed
        found = await get(*arguments, **keywords)
        cluster.client.add_foreign(path, {"spec": {"replicas": 0}})
        is_killed = True
        return found

    asked: list[bool] = []

    def may_start_pods() -> bool:
        asked.append(is_killed)
        return len(asked) < 3  # the kill controller is faster than the operator's own watch

    cluster.client.get = get_and_kill  # type: ignore[method-assign]
    await cluster.carry_out(cluster.pending(), may_start_pods=may_start_pods)

    assert cluster.client.objects[path]["spec"]["replicas"] == 0


@requirement("operator.idle")
@pytest.mark.parametrize(
    ("kind", "change", "member"),
    [
        (
            "Deployment",
            lambda live: live["spec"]["template"]["spec"]["containers"][0].update(image="mirror.example.com/a:1"),
            "spec.template.spec.containers[0].image",
        ),
        ("NetworkPolicy", lambda live: live["spec"].update(podSelector={}), "spec.podSelector.matchLabels"),
    ],
)
async def test_a_webhook_that_changes_what_is_written_is_named_with_the_member(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, kind: str, change: Any, member: str
) -> None:
    """Otherwise every agent would be written once a second, and none would ever be Ready."""
    create = cluster.client.create

    async def create_otherwise(path: str, manifest: Manifest, **options: Any) -> Any:
        live = await create(path, manifest, **options)
        if live["kind"] == kind:
            change(live)
        return live

    monkeypatch.setattr(cluster.client, "create", create_otherwise)

    with pytest.raises(ApplyFailed) as failure:
        await cluster.carry_out()

    assert str(failure.value).startswith(f"{kind} triage-")
    assert f": an admission webhook or policy of the cluster changed {member} while it was written" in str(
        failure.value
    )
    has_pods = bool(cluster.client.of_kind("Deployment"))
    assert has_pods == (kind == "Deployment"), "no pod starts next to a NetworkPolicy that others decide on"
    lost = {key.kind for key in unrestored(PLAN, {key_of(one): NEVER for one in DESIRED}, failure.value.written)}
    assert (kind in lost) != has_pods


NEVER = AppliedObject("an earlier uid", "")
