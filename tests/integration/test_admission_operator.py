"""What a stolen token of the operator or of the kill controller may do: the admission policies for both, one by one.

Each refusal is tried with the real identity and with all rights in the namespace, so that no role is what refuses. All
requests are dry runs, which admission judges alike.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest

from interlock.api.gates import StageTest
from interlock.deployment.children.notifier import build_notifier, build_record
from interlock.deployment.children.revisions import build_revision
from interlock.deployment.children.stage_tests import StageService, build_test_job, build_test_support
from interlock.deployment.children.verification_job import (
    VerificationTarget,
    build_job,
    build_pinned,
    build_plan,
    build_result,
    build_support,
)
from interlock.deployment.peers import with_peers
from interlock.deployment.placement import Placement
from interlock.deployment.plan import desired_children
from interlock_contract.names import OPERATOR_KEY_SECRET
from interlock_contract.revisions import RevisionNotes
from tests.integration.attacks import KINDS, workload
from tests.integration.callers import APPLY, MERGE, STRATEGIC, Caller, Json, Reply, path_of
from tests.integration.config_map_objects import children_with_config_maps, verification_with_config_maps
from tests.integration.kubectl import AGENT, POLICY, ROOT, Cluster, Kubectl, edited
from tests.integration.operator_writes import AN_OWNER, COST, FOUND, MARKS, OBJECTS, OWNER, WORKLOADS, Change, pod_of
from tests.integration.protected import (
    AGENT_ACCOUNT,
    AGENT_NAME,
    BINDING_NAME,
    GUARD_ACCOUNT,
    TEST_ACCOUNT,
    UNSCHEDULED,
    Protected,
    account,
    grant,
    grant_all,
    protect,
)
from tests.integration.template_values import children_with_templates
from tests.integration.test_admission_protection import installed
from tests.requirements import requirement
from tests.support import bounds
from tests.support.builders import GUARD_IMAGE, a_binding, a_placement, a_policy, a_separate_placement, an_agent

pytestmark = pytest.mark.api

POLICIES = ("operator-objects", "operator-workloads", "kill-controller", "priority-reserved")
SYSTEM = "interlock-system"
DRY = "?dryRun=All"
APPLIED = f"{DRY}&fieldManager=interlock&force=true"
WAIT_SECONDS = 30.0
SWITCH = "interlock.dev/kill-switch"
THREE: Json = {"spec": {"replicas": 3}}


@dataclass(frozen=True)
class Place:
    """A namespace with an agent's objects, and the identities of operator and kill controller."""

    at: Protected
    operator: Caller
    killer: Caller

    def child(self, kind: str, ending: str = "") -> Json:
        """Return a copy of the first manifest of a kind, or of the one whose name ends so."""
        found = (one for one in self.at.children if one["kind"] == kind and one["metadata"]["name"].endswith(ending))
        return copy.deepcopy(next(found))

    def apply(self, manifest: Json, namespace: str = "") -> Reply:
        """Apply an object as the operator; it exists in the namespace of the place and in no other."""
        path = path_of(manifest, namespace or self.at.namespace)
        moved = edited(manifest, metadata__namespace=namespace or self.at.namespace)
        return self.operator.send("PATCH", path + APPLIED, moved, APPLY)


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with installed(kwok_cluster, POLICIES) as admin:
        at = protect(admin)
        for one in ("interlock", "interlock-kill"):
            grant_all(at, one, account(SYSTEM, one))
        operator, killer = (admin.with_token(admin.token_of(SYSTEM, one)) for one in ("interlock", "interlock-kill"))
        made = Place(at, operator, killer)
        _wait_until_in_force(made)
        yield made
    admin.send("DELETE", f"/api/v1/namespaces/{at.namespace}")


def _wait_until_in_force(place: Place) -> None:
    plain: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}}
    deployment = place.child("Deployment", "-agent")
    pod_of(deployment)["hostNetwork"] = True
    priority: Json = edited(A_POD, spec__priorityClassName="interlock-kill")
    attempts: dict[str, Callable[[], Reply]] = {
        "operator-objects": lambda: place.apply(plain),
        "operator-workloads": lambda: place.apply(deployment),
        "kill-controller": lambda: place.killer.send(
            "PATCH", scale_of(place, "-guard"), {"spec": {"replicas": 3}}, MERGE
        ),
        "priority-reserved": lambda: place.at.editor.send("POST", place.at.path("pods") + DRY, priority),
    }
    for policy, attempt in attempts.items():
        last: list[Reply] = []

        def is_denied(policy: str = policy, attempt: Callable[[], Reply] = attempt, last: list[Reply] = last) -> bool:
            last[:] = [attempt()]
            return last[0].was_denied_by(policy)

        bounds.eventually(is_denied, lambda policy=policy, last=last: f"{policy} is in force: {last}", WAIT_SECONDS)


@requirement("operator.scope")
@pytest.mark.parametrize(("before", "change", "is_allowed"), MARKS.values(), ids=list(MARKS))
def test_the_operator_changes_nothing_of_a_pod_but_when_it_goes_and_whether_services_lead_to_it(
    place: Place, before: Json, change: Json, *, is_allowed: bool
) -> None:
    at, name = place.at, f"marked-{uuid4().hex[:8]}"
    notes = {"example.com/of-others": "x", COST: "0"}
    pod = edited(A_POD, metadata__name=name, metadata__annotations=notes)
    own = {"interlock.dev/agent": AGENT_NAME, "interlock.dev/guard": AGENT_NAME}
    pod["metadata"]["labels"] = own | {"app.kubernetes.io/managed-by": "interlock"} | before
    at.admin.must("POST", at.path("pods"), pod)

    reply = place.operator.send("PATCH", f"{at.path('pods')}/{name}{DRY}", change, STRATEGIC)

    assert reply.status == 200 if is_allowed else reply.was_denied_by("operator-objects"), reply.text
    assert is_allowed or "but its annotation controller.kubernetes.io/pod-deletion-cost" in reply.text


def scale_of(place: Place, ending: str) -> str:
    return f"{place.at.child('Deployment', ending)}/scale{DRY}"


A_POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "own"},
    "spec": {"containers": [{"name": "a", "image": "registry.example.com/a:1"}]},
}


# What the operator does.


def everything() -> list[Json]:
    """Return manifests of all kinds that the operator writes, with long and short names."""
    found = [*children_with_config_maps(), *children_with_templates()]
    for name in ("triage", "a" * 52, "1"):
        for placement in (a_placement(an_agent(name)), a_separate_placement(an_agent(name))):
            found += [*desired_children(replace(placement, replicas=2)), a_test_job(placement)]
            found += build_test_support(placement)
        revisions = (1, 2**53 - 1)
        found += [build_revision(an_agent(name).build(), one, "0" * 64, {}, RevisionNotes()) for one in revisions]
    key = {"secretKeyRef": {"name": "s", "key": "k"}}
    served = a_binding().with_server(env=[{"name": "KEY", "valueFrom": key}])
    called = a_policy().allowing_models("openai/gpt-5")
    full = an_agent("full").taking_tasks().calling("openai/gpt-5")
    first = a_separate_placement(full, policy=called, bindings=(served,))
    found += desired_children(*with_peers((first, replace(first, revision="0" * 64))))
    elsewhere = a_binding().over_http(headers=[{"name": "Authorization", "valueFrom": key}])
    found += desired_children(a_separate_placement(an_agent("remote"), bindings=(elsewhere,)))
    for name in ("crm", "b" * 63, "c.d-" + "e" * 38):
        run = VerificationTarget(a_binding(name).build(), 1, GUARD_IMAGE)
        found += [
            *build_support(run, a_placement().api_server),
            build_result(run.binding),
            build_pinned(run.binding, {"x": "y"}),
            build_plan(run),
            build_job(run),
        ]
        found += verification_with_config_maps(name)
    for name in ("support", "p" * 63, "c.d-" + "e" * 38):
        policy = a_policy(name).notifying("chat").build()
        found += [*build_notifier(policy, GUARD_IMAGE, a_placement().api_server), build_record(policy)]
    return found


@requirement("operator.scope")
def test_the_operator_creates_every_child_of_agents_and_bindings(place: Place) -> None:
    existing = {path_of(one, place.at.namespace) for one in place.at.children}
    bind_all_roles(place)  # in dry runs no Role exists that its RoleBinding could be compared with
    for manifest in everything():
        path = path_of(manifest, place.at.namespace, is_new=True)
        moved = edited(manifest, metadata__namespace=place.at.namespace)
        if manifest["kind"] == "RoleBinding":
            moved["subjects"][0]["namespace"] = place.at.namespace
        reply = place.operator.send("POST", path + DRY, moved)
        is_there = path_of(moved, place.at.namespace) in existing
        assert reply.status == (409 if is_there else 201), f"{path} {manifest['metadata']['name']}: {reply.text}"


@requirement("operator.scope")
def test_the_operator_updates_and_deletes_its_objects_and_pods(place: Place) -> None:
    for manifest in place.at.children:
        assert place.apply(manifest).status == 200
        assert place.operator.send("DELETE", path_of(manifest, place.at.namespace) + DRY).status == 200
    for component in ("agent", "guard", "verification"):
        assert place.operator.send("DELETE", place.at.pod(component) + DRY).status == 200
    query = "&labelSelector=interlock.dev/agent=triage"
    assert place.operator.send("DELETE", place.at.path("pods") + DRY + query).status == 200
    assert place.operator.send("DELETE", place.at.path("replicasets", "apps") + DRY + query).status == 200


@requirement("operator.scope")
def test_the_operator_tries_whether_an_object_could_be_created_under_another_name(place: Place) -> None:
    manifest = place.child("ConfigMap")
    manifest["metadata"] = {**manifest["metadata"], "generateName": "interlock-"}
    del manifest["metadata"]["name"]
    path = path_of({**manifest, "metadata": {"name": ""}}, place.at.namespace, is_new=True)
    assert place.operator.send("POST", path + DRY, manifest).status == 201
    assert place.operator.send("POST", path, manifest).was_denied_by("operator-objects")


# What the operator may not do.


@requirement("operator.scope")
@pytest.mark.parametrize("namespace", ["kube-system", "kube-public", SYSTEM])
def test_the_operator_writes_nothing_in_namespaces_of_the_system(place: Place, namespace: str) -> None:
    for kind in ("ConfigMap", "Deployment", "ServiceAccount", "NetworkPolicy", "Lease", "Service"):
        reply = place.apply(place.child(kind), namespace)
        assert reply.was_denied_by("operator-objects"), reply.text
        assert f"no agent runs in namespace {namespace}" in reply.text


OTHERS: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "others"}, "data": {"a": "b"}}


@requirement("operator.scope")
def test_the_operator_neither_takes_over_nor_deletes_objects_of_others(place: Place) -> None:
    at = place.at
    at.admin.must("PATCH", f"{path_of(OTHERS, at.namespace)}?fieldManager=other", OTHERS, APPLY)
    at.admin.must("PATCH", f"{path_of(A_POD, at.namespace)}?fieldManager=other", A_POD, APPLY)
    stolen = place.child("ConfigMap")
    stolen["metadata"]["name"] = "others"
    replies = (
        place.apply(stolen),
        place.operator.send("DELETE", path_of(OTHERS, at.namespace) + DRY),
        place.operator.send("DELETE", at.path("configmaps") + DRY),
        place.operator.send("DELETE", path_of(A_POD, at.namespace) + DRY),
        place.operator.send("DELETE", at.path("pods") + DRY),
    )
    for reply in replies:
        assert reply.was_denied_by("operator-objects"), reply.text
        assert "which does not belong to an Agent, AgentPolicy or MCPBinding" in reply.text


@pytest.mark.parametrize(("kind", "ending", "change", "sentence"), OBJECTS.values(), ids=list(OBJECTS))
@requirement("operator.scope")
def test_the_operator_may_not_write(place: Place, kind: str, ending: str, change: Change, sentence: str) -> None:
    """In a namespace where the object is new, so that nothing but its own content decides."""
    manifest = place.child(kind, ending)
    change(manifest)
    if manifest["kind"] in ("Role", "RoleBinding"):
        bind_all_roles(place)
    reply = place.operator.send("POST", path_of(manifest, place.at.namespace, is_new=True) + DRY, manifest)
    assert reply.was_denied_by("operator-objects"), f"{reply.status} {reply.text}"
    assert sentence in reply.text


def spending(*ledgers: str) -> list[Json]:
    """The rules of a guard for its ledgers."""
    read, update = ["get", "list", "watch"], ["get", "update"]
    named: Json = {"apiGroups": ["interlock.dev"], "resourceNames": list(ledgers)}
    return [
        {**named, "resources": ["budgetledgers"], "verbs": read},
        {**named, "resources": ["budgetledgers/status"], "verbs": update},
    ]


LEDGERS = ("triage.development", "support.total")
LONG_TOTAL = f"{'0' * 40}.policy.total-ledger"


@pytest.mark.parametrize(
    ("rules", "is_allowed"),
    [
        (spending(*LEDGERS), True),
        (spending(LEDGERS[0]), True),
        (spending(LEDGERS[0], LONG_TOTAL), True),
        (spending(), False),
        (spending("other.development"), False),
        (spending("sponge.development"), False),  # a name as long as the agent's
        (spending("triage-2.development"), False),
        (spending("triage.total"), False),  # a policy of the agent's name
        (spending(LEDGERS[1], LEDGERS[0]), False),
        (spending(LEDGERS[0], "other.development"), False),
        (spending(*LEDGERS, "other.total"), False),
        (spending(LEDGERS[0])[:1], False),
        ([*spending(LEDGERS[0])[:1], *spending("triage.staging")[1:]], False),
        ([spending(LEDGERS[0])[0] | {"verbs": ["get", "list", "watch", "delete"]}, spending(LEDGERS[0])[1]], False),
        ([spending(LEDGERS[0])[0], spending(LEDGERS[0])[1] | {"verbs": ["get", "update", "patch"]}], False),
    ],
)
@requirement("operator.scope")
def test_the_operator_gives_guards_the_ledgers_of_their_agent_and_a_total(
    place: Place, rules: list[Json], *, is_allowed: bool
) -> None:
    bind_all_roles(place)
    manifest = place.child("Role")
    manifest["rules"] = [one for one in manifest["rules"] if not one["resources"][0].startswith("budget")] + rules
    reply = place.operator.send("PUT", path_of(manifest, place.at.namespace) + DRY, manifest)
    if is_allowed:
        assert reply.status == 200, reply.text
    else:
        assert reply.was_denied_by("operator-objects"), reply.text
        assert "only the rights of a guard" in reply.text


def bind_all_roles(place: Place) -> None:
    """Let the operator bind every Role of the namespace, so that RBAC's own check is not what refuses."""
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [rbac], "resources": ["roles", "clusterroles"], "verbs": ["bind", "escalate"]}]
    made = place.at.admin.send("POST", place.at.path("roles", rbac), {"metadata": {"name": "bind-all"}, "rules": rules})
    if made.status == 201:
        reference = {"apiGroup": rbac, "kind": "Role", "name": "bind-all"}
        body = {"metadata": {"name": "bind-all"}, "roleRef": reference, "subjects": [account(SYSTEM, "interlock")]}
        place.at.admin.must("POST", place.at.path("rolebindings", rbac), body)
    asked = {"namespace": place.at.namespace, "group": rbac, "resource": "roles", "verb": "bind"}

    def is_known() -> bool:
        review = {"spec": {"resourceAttributes": asked}}
        answer = place.operator.must("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
        return bool(answer["status"]["allowed"])

    bounds.eventually(is_known, "RBAC knows the role", WAIT_SECONDS)


@requirement("operator.scope")
def test_the_operator_writes_only_opaque_secrets_of_placements(place: Place) -> None:
    base = place.child("Lease")
    secret: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": base["metadata"], "stringData": {"key": "x"}}
    path = place.at.path("secrets") + DRY
    assert place.operator.send("POST", path, secret).status == 201
    token = {"kubernetes.io/service-account.name": "default"}
    minted = edited(secret, type="kubernetes.io/service-account-token", metadata__annotations=token)
    for refused in (minted, edited(secret, metadata__name="registry-credentials")):
        assert place.operator.send("POST", path, refused).was_denied_by("operator-objects")


@requirement("operator.scope")
@pytest.mark.parametrize("kind", ["Service", "Lease", "Secret", "Deployment"])
def test_a_binding_has_no_objects_but_those_of_its_verification(place: Place, kind: str) -> None:
    manifest = place.child("Deployment", "-agent") if kind == "Deployment" else place.child("ServiceAccount", "-verify")
    manifest["metadata"] = place.child("ServiceAccount", "-verify")["metadata"]
    version = {"Service": "v1", "Lease": "coordination.k8s.io/v1", "Secret": "v1", "Deployment": "apps/v1"}[kind]
    manifest |= {"apiVersion": version, "kind": kind}
    manifest.pop("automountServiceAccountToken", None)
    if kind == "Service":
        manifest["spec"] = {"ports": [{"port": 80}], "selector": {"app": "payments"}}
    reply = place.operator.send("POST", path_of(manifest, place.at.namespace, is_new=True) + DRY, manifest)
    assert reply.was_denied_by("operator-objects") or kind == "Deployment", reply.text
    assert reply.status == 403, reply.text


@requirement("operator.scope")
def test_an_agent_has_no_jobs_but_the_tests_of_its_stages(place: Place) -> None:
    manifest = place.child("Job")
    manifest["metadata"] = place.child("ConfigMap")["metadata"]
    reply = place.operator.send("POST", path_of(manifest, place.at.namespace, is_new=True) + DRY, manifest)
    assert reply.status == 403, reply.text
    made = a_test_job(place.at.placement)
    assert created(place, made).status == 201
    for name in (GUARD_ACCOUNT, AGENT_ACCOUNT, "default", "other-0123456789-test"):
        other = copy.deepcopy(made)
        pod_of(other)["serviceAccountName"] = place.at.filled(name)
        assert created(place, other).was_denied_by("operator-workloads"), name
    unlabelled = copy.deepcopy(made)
    del unlabelled["spec"]["template"]["metadata"]["labels"]["interlock.dev/agent"]
    assert created(place, unlabelled).was_denied_by("operator-workloads")
    with_secret = copy.deepcopy(made)
    key = {"name": f"{AGENT_NAME}-0123456789-key", "key": "x"}
    pod_of(with_secret)["containers"][0]["env"] = [{"name": "KEY", "valueFrom": {"secretKeyRef": key}}]
    assert created(place, with_secret).was_denied_by("operator-workloads")
    agent = place.child("Deployment", "-agent")
    pod_of(agent)["serviceAccountName"] = place.at.filled(TEST_ACCOUNT)
    assert created(place, agent).was_denied_by("operator-workloads")


@pytest.mark.parametrize(("change", "sentence"), WORKLOADS.values(), ids=list(WORKLOADS))
@requirement("operator.scope")
def test_the_operator_may_not_start_pods_with(place: Place, change: Change, sentence: str) -> None:
    manifest = place.child("Deployment", "-agent")
    change(manifest)
    path = path_of(manifest, place.at.namespace)
    update = place.operator.send("PUT", path + DRY, manifest)
    create = place.operator.send("POST", path.rsplit("/", 1)[0] + DRY, manifest)
    for reply in (update, create):
        assert reply.was_denied_by("operator-workloads"), f"{reply.status} {reply.text}"
        assert sentence in reply.text


@requirement("operator.scope")
def test_a_notifier_runs_under_its_own_account_alone(place: Place) -> None:
    for name in ("default", "other-notify", "triage-guard", "crm-verify", "support-verify"):
        manifest = place.child("Deployment", "-notify")
        pod_of(manifest)["serviceAccountName"] = name
        assert created(place, manifest).was_denied_by("operator-workloads")
    policy = a_policy("p" * 63).notifying("chat").build()
    long = next(
        one for one in build_notifier(policy, GUARD_IMAGE, a_placement().api_server) if one["kind"] == "Deployment"
    )
    for name in (
        "default",
        f"{'p' * 8}-{'0' * 31}-notify",
        f"{'x' * 8}-{'0' * 32}-notify",
        f"{'p' * 8}-{'0' * 32}-verify",
    ):
        pod_of(long)["serviceAccountName"] = name
        assert created(place, long).was_denied_by("operator-workloads")


@requirement("operator.scope")
def test_a_notifier_has_its_labels_and_its_secrets_in_its_own_container_alone(place: Place) -> None:
    unlabelled = place.child("Deployment", "-notify")
    for labels in (unlabelled["spec"]["template"]["metadata"]["labels"], unlabelled["spec"]["selector"]["matchLabels"]):
        del labels["interlock.dev/policy"]
    assert created(place, unlabelled).was_denied_by("operator-workloads")
    renamed = place.child("Deployment", "-notify")
    pod_of(renamed)["containers"][0]["name"] = "agent"
    assert created(place, renamed).was_denied_by("operator-workloads")
    elsewhere = place.child("Deployment", "-notify")
    pod_of(elsewhere)["volumes"].append({"name": "more", "projected": {"sources": [{"secret": {"name": "s"}}]}})
    assert created(place, elsewhere).was_denied_by("operator-workloads")


@requirement("operator.scope")
def test_a_verification_runs_under_its_own_account_alone(place: Place) -> None:
    for name in ("default", "other-verify", "triage-guard"):
        manifest = place.child("Job")
        pod_of(manifest)["serviceAccountName"] = name
        assert created(place, manifest).was_denied_by("operator-workloads")
    long = build_job(VerificationTarget(a_binding("b" * 63).build(), 1, GUARD_IMAGE))
    for name in ("default", f"b{'x' * 8}-{'0' * 31}-verify", f"{'x' * 8}-{'0' * 32}-verify", "bbbbbbbb-verify"):
        pod_of(long)["serviceAccountName"] = name
        assert created(place, long).was_denied_by("operator-workloads")
    short = build_job(VerificationTarget(a_binding("billing-api").build(), 1, GUARD_IMAGE))
    pod_of(short)["serviceAccountName"] = f"billing--{'0' * 32}-verify"
    assert created(place, short).was_denied_by("operator-workloads")
    unlabelled = place.child("Job")
    del unlabelled["spec"]["template"]["metadata"]["labels"]["interlock.dev/binding"]
    assert created(place, unlabelled).was_denied_by("operator-workloads")


@requirement("operator.scope")
def test_the_pods_of_an_agent_have_its_label(place: Place) -> None:
    manifest = place.child("Deployment", "-agent")
    for labels in (manifest["spec"]["selector"]["matchLabels"], manifest["spec"]["template"]["metadata"]["labels"]):
        labels["interlock.dev/agent"] = "other"
    assert created(place, manifest).was_denied_by("operator-workloads")


@requirement("operator.scope")
@pytest.mark.parametrize("name", [f"bbbbbbbb-{'x' * 32}-verify-result", f"{'z' * 8}-{'0' * 32}-verify-result"])
def test_a_long_name_of_a_binding_is_replaced_with_its_digest_alone(place: Place, name: str) -> None:
    manifest = build_result(a_binding("b" * 63).build())
    manifest["metadata"]["name"] = name
    assert created(place, manifest).was_denied_by("operator-objects")


@requirement("operator.scope")
@pytest.mark.parametrize("name", ["b" * 63, "billing." + "b" * 55, "a.b.c.d." + "e" * 40])
def test_a_binding_with_a_long_name_gets_the_objects_of_its_verification(place: Place, name: str) -> None:
    binding = a_binding(name).build()
    for manifest in (build_job(VerificationTarget(binding, 1, GUARD_IMAGE)), build_result(binding)):
        reply = created(place, manifest)
        assert reply.status == 201, reply.text


def created(place: Place, manifest: Json) -> Reply:
    moved = edited(manifest, metadata__namespace=place.at.namespace)
    return place.operator.send("POST", path_of(manifest, place.at.namespace, is_new=True) + DRY, moved)


def a_test_job(placement: Placement) -> Json:
    """Return the Job of a test of a placement."""
    test = StageTest.model_validate({"name": "smoke", "image": "registry.example.com/smoke:1"})
    return build_test_job(placement, test, 1, StageService("guard-triage--staging", ("10.96.0.7",)))


@requirement("operator.scope")
@pytest.mark.parametrize(("kind", "metadata", "of_pod", "is_deleted"), FOUND.values(), ids=list(FOUND))
def test_the_operator_deletes_what_was_its_own(
    place: Place, kind: str, metadata: Json, of_pod: Json, *, is_deleted: bool
) -> None:
    manifest = OTHERS if kind == "ConfigMap" else workload(kind, **of_pod)
    manifest = edited(
        manifest, metadata__name=f"own-{uuid4().hex[:8]}", **{f"metadata__{k}": v for k, v in metadata.items()}
    )
    if kind == "ReplicaSet":  # one that adopts no pod of the next cases
        labels = {"app": manifest["metadata"]["name"]}
        manifest["spec"] |= {"replicas": 0, "selector": {"matchLabels": labels}}
        manifest["spec"]["template"]["metadata"]["labels"] = labels
    at = place.at
    for owner in manifest["metadata"].get("ownerReferences", ()):
        # One that exists, or the garbage collector would be faster.
        name = {"Agent": AGENT_NAME, "MCPBinding": BINDING_NAME, "AgentPolicy": POLICY["metadata"]["name"]}[
            owner["kind"]
        ]
        found = at.admin.must(
            "GET",
            path_of(
                {**AN_OWNER, **owner, "apiVersion": AN_OWNER["apiVersion"], "metadata": {"name": name}}, at.namespace
            ),
        )
        owner |= {"name": name, "uid": found["metadata"]["uid"]}
    at.admin.must("POST", path_of(manifest, at.namespace, is_new=True) + "?fieldManager=test", manifest)
    reply = place.operator.send("DELETE", path_of(manifest, at.namespace) + DRY)
    assert reply.status == 200 if is_deleted else reply.was_denied_by("operator-objects"), reply.text


@requirement("operator.scope")
def test_the_operator_creates_its_own_key_and_changes_no_other_secret_of_its_namespace(place: Place) -> None:
    name = f"all-{uuid4().hex[:8]}"
    grant(place.at.admin, SYSTEM, name, account(SYSTEM, "interlock"), "admin")
    key: Json = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": OPERATOR_KEY_SECRET}}
    path = path_of(key, SYSTEM, is_new=True)
    assert place.operator.send("POST", path + DRY, key).status == 201
    assert created(place, key).was_denied_by("operator-objects")  # in another namespace
    refused = (edited(key, metadata__name="other"), edited(key, type="example.com/other"))
    file = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": key["metadata"]}
    reply = place.operator.send("POST", path_of(file, SYSTEM, is_new=True) + DRY, file)
    assert reply.was_denied_by("operator-objects"), reply.text
    for one in refused:
        assert place.operator.send("POST", path + DRY, one).was_denied_by("operator-objects")
    place.at.admin.must("POST", path, key)
    try:
        bounds.eventually(
            lambda: place.operator.send("DELETE", path_of(key, SYSTEM) + DRY).was_denied_by("operator-objects"),
            "the role is known",
            WAIT_SECONDS,
        )
        reply = place.operator.send("PATCH", path_of(key, SYSTEM) + DRY, {"data": {"key": "eA=="}}, MERGE)
        assert reply.was_denied_by("operator-objects"), reply.text
    finally:
        place.at.admin.must("DELETE", path_of(key, SYSTEM))
        place.at.admin.must("DELETE", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SYSTEM}/rolebindings/{name}")


# The kill controller.


@requirement("operator.scope")
def test_the_kill_controller_ends_pods_of_agents_and_scales_to_zero(place: Place) -> None:
    at, killer = place.at, place.killer
    for component in ("agent", "guard"):
        assert killer.send("DELETE", at.pod(component) + DRY).status == 200
    assert killer.send("PATCH", scale_of(place, "-guard"), {"spec": {"replicas": 0}}, MERGE).status == 200
    status = f"/apis/interlock.dev/v1alpha1/namespaces/{at.namespace}/agents/triage/status{DRY}"
    kill = {"status": {"kill": {"reason": "x", "requestedAt": "2026-01-01T00:00:00Z"}}}
    assert killer.send("PATCH", status, kill, MERGE).status == 200

    refused = (
        killer.send("DELETE", at.pod("verification") + DRY),
        killer.send("PATCH", scale_of(place, "-guard"), {"spec": {"replicas": 1}}, MERGE),
        killer.send("PATCH", status, {"status": {"observedGeneration": 7}}, MERGE),
        killer.send("PATCH", status, {"status": {"conditions": []}}, MERGE),
    )
    for reply in refused:
        assert reply.was_denied_by("kill-controller"), reply.text


@requirement("operator.scope")
def test_the_kill_controller_sets_the_switch_for_a_loop_alone_and_changes_nothing_else(place: Place) -> None:
    path = f"/apis/interlock.dev/v1alpha1/namespaces/{place.at.namespace}/agents/triage"
    stay = {f"interlock.dev/{name}": "x" for name in ("pause", "pause-by", "spec-author")}
    kept = {"metadata": {"annotations": {"example.com/kept": "x", **stay}, "labels": {"kept": "x"}}}
    place.at.admin.must("PATCH", path, kept, MERGE)
    kill = {SWITCH: "loop: 20 identical calls", f"{SWITCH}-by": f"system:serviceaccount:{SYSTEM}:interlock-kill"}

    def send(annotations: Json, **more: Json) -> Reply:
        metadata = {"annotations": annotations, **more.pop("metadata", {})}
        return place.killer.send("PATCH", path + DRY, {"metadata": metadata, **more}, MERGE)

    assert send(kill).status == 200
    assert send({**kill, "example.com/kept": None}).status == 200  # as agents-kill-room removes what is not short
    refused = (
        send({**kill, SWITCH: "runaway"}),
        send({**kill, SWITCH: "off"}),
        send({"example.com/x": "x"}),
        send({**kill, "example.com/kept": "y"}),
        send({**kill, "example.com/x": "x"}),
        send({**kill, "example.com/x": "x", "example.com/kept": None}),
        send(kill, metadata={"labels": {"kept": "y"}}),
        send(kill, metadata={"finalizers": ["example.com/stay"]}),
        send(kill, metadata={"generateName": "x"}),
        send(kill, metadata={"ownerReferences": [OWNER]}),
        send(kill, spec={"purpose": "Something else"}),
    )
    for reply in refused:
        assert reply.was_denied_by("kill-controller"), reply.text
    place.at.admin.must("PATCH", path, {"metadata": {"annotations": {"example.com/also": "x", SWITCH: "off"}}}, MERGE)
    assert send(kill).status == 200
    assert send({**kill, "example.com/kept": None}).was_denied_by("kill-controller")
    place.at.admin.must("PATCH", path, {"metadata": {"annotations": {SWITCH: "runaway"}}}, MERGE)
    try:
        assert send(kill).was_denied_by("kill-controller")
    finally:
        place.at.admin.must("PATCH", path, {"metadata": {"annotations": {SWITCH: "off"}}}, MERGE)


@requirement("operator.scope")
def test_the_kill_controller_knows_pods_by_label_or_account_and_ends_none_of_the_system(place: Place) -> None:
    at, killer = place.at, place.killer
    relabelled = edited(A_POD, metadata__name="relabelled", spec__serviceAccountName="late-0123456789-guard")
    at.admin.must("POST", at.path("pods"), relabelled)
    assert killer.send("DELETE", f"{at.path('pods')}/relabelled{DRY}").status == 200
    assert killer.send("DELETE", f"{at.path('pods')}/{UNSCHEDULED}{DRY}").status == 200
    hardened = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    hardened["seccompProfile"] = {"type": "RuntimeDefault"}
    for namespace in (SYSTEM, "kube-public"):
        grant(at.admin, namespace, f"all-{uuid4().hex[:8]}", account(SYSTEM, "interlock-kill"), "admin")
        name = f"labelled-{uuid4().hex[:8]}"
        labelled = edited(A_POD, metadata__name=name, metadata__labels={"interlock.dev/agent": "x"})
        labelled["spec"]["schedulerName"] = "none"
        labelled["spec"]["containers"][0]["securityContext"] = hardened
        path = f"/api/v1/namespaces/{namespace}/pods"
        bounds.eventually(
            lambda path=path, labelled=labelled: at.admin.send("POST", path, labelled).status in (201, 409),
            "the namespace has its account",
            WAIT_SECONDS,
        )
        try:
            reply = killer.send("DELETE", f"{path}/{name}{DRY}")
            assert reply.was_denied_by("kill-controller"), reply.text
        finally:
            at.admin.must("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})


@requirement("operator.scope")
def test_the_kill_controller_scales_no_deployment_of_others(place: Place) -> None:
    template = {"metadata": {"labels": {"app": "own"}}, "spec": A_POD["spec"]}
    body = {
        "metadata": {"name": "own"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "own"}}, "template": template},
    }
    path = place.at.path("deployments", "apps")
    assert place.at.admin.send("POST", path, body).status in (201, 409)
    reply = place.killer.send("PATCH", f"{path}/own/scale{DRY}", {"spec": {"replicas": 0}}, MERGE)
    assert reply.was_denied_by("kill-controller"), reply.text


# Selected namespaces.


@requirement("operator.scope")
def test_with_selected_namespaces_the_operator_writes_in_these_alone(place: Place, kwok_cluster: Cluster) -> None:
    client, at = Kubectl(kwok_cluster), place.at
    file = ("-f", str(ROOT / "manifests/components/selected-namespaces/operator-namespaces.yaml"))
    manifest, namespace = place.child("ConfigMap"), f"/api/v1/namespaces/{at.namespace}"
    agent = edited(AGENT, metadata__name="another")
    agents = path_of(agent, at.namespace, is_new=True)
    client.must("apply", "--server-side", *file)
    try:
        bounds.eventually(
            lambda: place.apply(manifest).was_denied_by("operator-namespaces"), "it is in force", WAIT_SECONDS
        )
        bounds.eventually(
            lambda: at.owner.send("POST", agents + DRY, agent).was_denied_by("operator-namespaces"),
            "it is in force for Agents",
            WAIT_SECONDS,
        )
        reply = at.owner.send("POST", agents + DRY, agent)
        assert f"kubectl label namespace {at.namespace} interlock.dev/agents=allowed" in reply.text
        assert place.operator.send("DELETE", path_of(manifest, at.namespace) + DRY).status == 200
        others = edited(OTHERS, metadata__name="of-a-user")
        assert at.owner.send("POST", path_of(others, at.namespace, is_new=True) + DRY, others).status == 201

        at.admin.must("PATCH", namespace, {"metadata": {"labels": {"interlock.dev/agents": "allowed"}}}, MERGE)
        bounds.eventually(lambda: place.apply(manifest).status == 200, "the namespace is selected", WAIT_SECONDS)
        assert at.owner.send("POST", agents + DRY, agent).status == 201
    finally:
        client.must("delete", *file)


# The priority of the kill controller.


@pytest.mark.parametrize("kind", KINDS)
@requirement("protection.priority")
def test_the_kill_controllers_priority_is_no_tenants(place: Place, kind: str) -> None:
    at = place.at
    manifest = workload(kind, priorityClassName="interlock-kill")
    for caller in (at.editor, at.owner, at.admin):
        reply = caller.send("POST", path_of(manifest, at.namespace, is_new=True) + DRY, manifest)
        assert reply.was_denied_by("priority-reserved"), reply.text
    own = at.admin.send("POST", path_of(manifest, SYSTEM, is_new=True) + DRY, manifest)
    assert own.status == 201 or "violates PodSecurity" in own.text, own.text  # which comes after the policies
    plain = workload(kind)
    assert at.editor.send("POST", path_of(plain, at.namespace, is_new=True) + DRY, plain).status == 201
