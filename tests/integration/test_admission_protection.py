"""The admission policies that protect an agent's objects, on a real API server.

Each way in which a user with Kubernetes' own roles could change what guards obey is refused, and each program and each
controller that must write does. All requests that change objects are dry runs, which admission judges alike, so the
tests share one namespace.
"""

import base64
import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from interlock.deployment.names import name_of
from tests.integration.attacks import (
    AGENT_LABEL,
    ALLOWED,
    ANNOTATED,
    AUDIT_TOKEN,
    CHANGED_PODS,
    CONNECTIONS,
    DRY,
    FIRST,
    FORGED_RECORDS,
    GUARDS,
    MANAGED,
    REFUSED,
    SELECTORS,
    SLOW_ENDS,
    WORKLOADS,
    Send,
    a_pod,
    a_replica_set,
    child,
    connect,
    create,
    delete,
    patch,
    pod,
    report,
    result,
    service_proxy,
    status,
    token,
    token_for_the_guards_pod,
    workload,
)
from tests.integration.callers import APPLY, MERGE, POD_NAME, Caller, Json, Reply, path_of
from tests.integration.installed_policies import files_of, install_policies
from tests.integration.kubectl import ROOT, Cluster, Kubectl, edited
from tests.integration.protected import GUARD_ACCOUNT, Protected, account, grant, grant_all, protect, protect_with_pods
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

PROTECTING = (
    "accounts-reserved",
    "audit-reserved",
    "evictions-grace",
    "managed-objects",
    "pods-debug",
    "pods-grace",
    "pods-reserved",
    "services-debug",
    "workloads-scale",
)
IN_FORCE_SECONDS = 30.0
REPORTS = ("selftest", "drift", "denials", "loops", "holder", "drain", "counts")
"""What guards write into a Lease, by the beginnings of the annotations."""


def identities() -> Json:
    """Return namespace, identities, priority and rights of operator and kill controller, without their programs."""
    files = [ROOT / "manifests" / "base" / f"{name}.yaml" for name in ("namespace", "rbac", "operator", "kill")]
    found = [one for file in files for one in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    kept = ("Namespace", "PriorityClass", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    return {"apiVersion": "v1", "kind": "List", "items": [one for one in found if one["kind"] in kept]}


@contextlib.contextmanager
def installed(cluster: Cluster, policies: Iterable[str]) -> Iterator[Caller]:
    """Install CRDs, identities and admission policies for this context, and yield the administrator."""
    client = Kubectl(cluster)
    client.install_crds()
    client.must("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(identities()))
    files = files_of(tuple(policies))
    install_policies(cluster, *files)
    yield Caller.administrator(Path(cluster.kubeconfig))
    client.must("delete", "--ignore-not-found", "--wait=false", *files)


@pytest.fixture(scope="module")
def administrator(kwok_cluster: Cluster) -> Iterator[Caller]:
    with installed(kwok_cluster, PROTECTING) as caller:
        yield caller


@pytest.fixture(scope="module")
def protected(administrator: Caller) -> Iterator[Protected]:
    made = protect_with_pods(administrator)
    for policy, send in FIRST.items():
        bounds.eventually(
            lambda policy=policy, send=send: send(made, made.editor).was_denied_by(policy),
            f"policy {policy} is in force",
            IN_FORCE_SECONDS,
        )
    yield made
    administrator.send("DELETE", f"/api/v1/namespaces/{made.namespace}")


@pytest.mark.parametrize(("policy", "send"), REFUSED.values(), ids=list(REFUSED))
@requirement("protection.refused")
def test_an_administrator_of_the_namespace_may_not_change(protected: Protected, policy: str, send: Send) -> None:
    for caller in (protected.owner, protected.editor):
        reply = send(protected, caller)
        assert reply.was_denied_by(policy), f"{reply.status} {reply.text}"


@pytest.mark.parametrize(("policy", "send"), SLOW_ENDS.values(), ids=list(SLOW_ENDS))
@requirement("protection.refused")
def test_no_user_gives_an_agents_pod_more_time_than_a_kill_does(protected: Protected, policy: str, send: Send) -> None:
    for caller in (protected.owner, protected.editor):
        reply = send(protected, caller)
        assert reply.was_denied_by(policy), f"{reply.status} {reply.text}"
        assert "write --grace-period=1" in reply.text


@pytest.mark.parametrize("kind", ["Role", "RoleBinding"])
@requirement("protection.refused")
def test_rights_of_guards_are_changed_by_the_operator_alone(protected: Protected, kind: str) -> None:
    at = protected.child(kind)
    for method, body in (("PATCH", {"metadata": {"labels": {"a": "b"}}}), ("DELETE", None)):
        reply = protected.owner.send(method, at + DRY, body, MERGE)
        assert reply.was_denied_by("managed-objects"), reply.text


def test_an_owner_of_the_namespace_cannot_give_himself_the_verbs(protected: Protected) -> None:
    """RBAC refuses a role with more rights than its author has, and the binding of one."""
    rules = [{"apiGroups": ["interlock.dev"], "resources": ["agents"], "verbs": ["reconcile", "debug"]}]
    roles = protected.path("roles", "rbac.authorization.k8s.io")
    reply = protected.owner.send("POST", roles + DRY, {"metadata": {"name": "own"}, "rules": rules})
    assert reply.status == 403, reply.text
    assert "attempting to grant RBAC permissions not currently held" in reply.text
    for role in ("interlock-operator", "interlock-debug"):
        binding = {
            "metadata": {"name": "own"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [account(protected.namespace, "owner")],
        }
        reply = protected.owner.send("POST", protected.path("rolebindings", "rbac.authorization.k8s.io") + DRY, binding)
        assert reply.status == 403, reply.text


@requirement("protection.identity")
def test_a_pods_name_cannot_be_impersonated_by_an_editor(protected: Protected) -> None:
    user = f"system:serviceaccount:{protected.namespace}:{protected.filled(GUARD_ACCOUNT)}"
    for caller in (protected.owner, protected.editor):
        reply = report(protected, caller.impersonating(user, pod="p"))
        assert reply.status == 403
        assert f'cannot impersonate resource "userextras/{POD_NAME}"' in reply.text


# Guards and verifiers.


def guard(at: Protected, name: str = "p") -> Caller:
    return at.identity(at.filled(GUARD_ACCOUNT), pod=name)


@requirement("protection.identity", "loops.forged")
def test_a_guard_writes_its_own_report_and_nothing_else(protected: Protected) -> None:
    at, own = protected, guard(protected)
    # The Role names the Lease. With more rights, the guard's identity could still not do more.
    at.admin.send(
        "POST",
        at.path("rolebindings", "rbac.authorization.k8s.io"),
        {
            "metadata": {"name": "guard-may-edit"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [account(at.namespace, at.filled(GUARD_ACCOUNT))],
        },
    )
    bounds.eventually(lambda: own.send("GET", at.path("configmaps")).status == 200, "RBAC lets it", IN_FORCE_SECONDS)
    for key in (f"{kind}.interlock.dev/p" for kind in REPORTS):
        bounds.eventually(lambda key=key: report(at, own, key).status == 200, f"{key} is written", IN_FORCE_SECONDS)
    others = [f"{kind}.interlock.dev/another" for kind in REPORTS]
    for key in (*others, "example.com/x"):
        assert report(at, own, key).was_denied_by("managed-objects"), key
    refused = (
        {"metadata": {"annotations": {"example.com/x": ""}}},
        {"metadata": {"labels": {"interlock.dev/agent": "other"}}},
        {"metadata": {"labels": {"interlock.dev/on-loop": "Kill"}}},
        {"metadata": {"ownerReferences": None}},
        {"metadata": {"finalizers": ["example.com/stay"]}},
        {"spec": {"holderIdentity": "x"}},
    )
    for body in refused:
        assert own.send("PATCH", at.lease + DRY, body, MERGE).was_denied_by("managed-objects"), body
    assert own.send("PATCH", at.bundle + DRY, {"data": {"x": "y"}}, MERGE).was_denied_by("managed-objects")
    assert own.send("DELETE", at.lease + DRY).was_denied_by("managed-objects")
    assert report(at, at.identity(at.filled(GUARD_ACCOUNT))).was_denied_by("managed-objects")  # without a pod's name
    assert result(at, own).was_denied_by("managed-objects")


@requirement("protection.identity")
def test_a_guard_removes_the_reports_of_pods_that_are_gone(protected: Protected) -> None:
    at = protected
    at.admin.must("PATCH", at.lease, {"metadata": {"annotations": {"example.com/kept": "x"}}}, MERGE)

    def remove(key: str) -> Reply:
        return guard(at).send("PATCH", at.lease + DRY, {"metadata": {"annotations": {key: None}}}, MERGE)

    for kind in REPORTS[:-1]:
        key = f"{kind}.interlock.dev/gone"
        at.admin.must("PATCH", at.lease, {"metadata": {"annotations": {key: "{}"}}}, MERGE)
        bounds.eventually(lambda key=key: remove(key).status == 200, f"{key} is removed", IN_FORCE_SECONDS)
    assert remove("example.com/kept").was_denied_by("managed-objects")


@requirement("protection.identity")
def test_a_guard_removes_no_counts_and_writes_none_for_pods_that_are_gone(protected: Protected) -> None:
    at, own = protected, guard(protected)
    keys = ("counts.interlock.dev/gone", "counts.interlock.dev/p", "interlock.dev/counts-ended")
    at.admin.must("PATCH", at.lease, {"metadata": {"annotations": dict.fromkeys(keys, "{}")}}, MERGE)
    for key in keys:
        for value in (None,) if key == "counts.interlock.dev/p" else (None, "{ }"):
            body = {"metadata": {"annotations": {key: value}}}
            assert own.send("PATCH", at.lease + DRY, body, MERGE).was_denied_by("managed-objects"), body
    assert report(at, own, "counts.interlock.dev/p").status == 200


@requirement("protection.identity", "loops.forged")
@pytest.mark.parametrize("name", ["other-0123456789-guard", "triage-0123456789-guard", "triage-guard"])
def test_a_guard_of_another_placement_or_agent_writes_no_report(protected: Protected, name: str) -> None:
    at, other = protected, protected.identity(name, pod="p")
    grant(at.admin, at.namespace, name, account(at.namespace, name), "edit")
    bounds.eventually(lambda: report(at, other).was_denied_by("managed-objects"), "RBAC lets it", IN_FORCE_SECONDS)
    assert report(at, other, "loops.interlock.dev/p").was_denied_by("managed-objects")


@requirement("protection.identity")
def test_a_verifier_writes_its_own_result_and_nothing_else(protected: Protected) -> None:
    at = protected
    own = at.identity("crm-verify", pod="crm-verify-0-abcde")
    grant(at.admin, at.namespace, "verifier-may-edit", account(at.namespace, "crm-verify"), "edit")
    bounds.eventually(lambda: result(at, own).status == 200, "the result is written", IN_FORCE_SECONDS)
    bounds.eventually(lambda: own.send("GET", at.path("secrets")).status == 200, "RBAC lets it", IN_FORCE_SECONDS)
    assert result(at, at.identity("crm-verify")).was_denied_by("managed-objects")  # without a pod's name
    for body in (
        {"immutable": True},
        {"metadata": {"labels": {"interlock.dev/binding": "other"}}},
        {"metadata": {"annotations": {"a": "b"}}},
    ):
        assert own.send("PATCH", at.result + DRY, body, MERGE).was_denied_by("managed-objects"), body
    secret = {"metadata": {"name": "crm-verify-result", "labels": MANAGED}}
    at.admin.must("POST", at.path("secrets"), secret)
    of_that_name = f"{at.path('secrets')}/crm-verify-result"
    assert own.send("PATCH", of_that_name + DRY, {"data": {"x": "eA=="}}, MERGE).was_denied_by("managed-objects")
    for path in (at.bundle, at.child("ConfigMap", "-plan")):
        assert own.send("PATCH", path + DRY, {"data": {"x": "y"}}, MERGE).was_denied_by("managed-objects")


# Operator and kill controller.


def test_the_operator_writes_every_child_with_its_own_rights(protected: Protected) -> None:
    operator = protected.admin.with_token(protected.admin.token_of("interlock-system", "interlock"))
    for made in protected.children:
        path = path_of(made, protected.namespace)
        if made["kind"] not in ("Secret", "ControllerRevision"):  # neither of which the operator may change
            bounds.eventually(
                lambda path=path, made=made: (
                    operator.send("PATCH", f"{path}{DRY}&fieldManager=interlock&force=true", made, APPLY).status == 200
                ),
                f"the operator applies {path}",
                IN_FORCE_SECONDS,
            )
        assert operator.send("DELETE", path + DRY).status == 200
    assert (
        patch(child("Service"), {"spec": {"selector": {"interlock.dev/stage": "x"}}})(protected, operator).status == 200
    )


def test_the_kill_controller_ends_pods_and_scales_with_its_own_rights(protected: Protected) -> None:
    at, killer = protected, protected.admin.with_token(protected.admin.token_of("interlock-system", "interlock-kill"))
    scale = patch(lambda at: f"{GUARDS(at)}/scale", {"spec": {"replicas": 0}})
    bounds.eventually(lambda: scale(at, killer).status == 200, "it scales", IN_FORCE_SECONDS)
    assert killer.send("DELETE", at.pod("agent") + DRY).status == 200


# Those who are exempt, and what users may do.


CONTROLLERS = "system:serviceaccount:kube-system:"
KUBE_SYSTEM = ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated")
FINALIZED = patch(pod("agent"), {"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking"]}})
EXEMPT: dict[str, tuple[str, Send]] = {
    "the ReplicaSet controller makes an agent's pod": (
        "replicaset-controller",
        create(a_pod({**MANAGED, **AGENT_LABEL}, serviceAccountName=GUARD_ACCOUNT)),
    ),
    "the ReplicaSet controller releases a pod": (
        "replicaset-controller",
        patch(pod("agent"), {"metadata": {"ownerReferences": None}}),
    ),
    "the ReplicaSet controller makes a pod that sends audit records": (
        "replicaset-controller",
        create(a_pod({**MANAGED, **AGENT_LABEL}, serviceAccountName=GUARD_ACCOUNT, volumes=[AUDIT_TOKEN])),
    ),
    "the Job controller makes a verifier's pod": (
        "job-controller",
        create(a_pod({**MANAGED, "interlock.dev/binding": "crm"}, serviceAccountName="crm-verify")),
    ),
    "the Job controller tracks a pod": ("job-controller", FINALIZED),
    "the Deployment controller counts revisions": (
        "deployment-controller",
        patch(GUARDS, {"metadata": {"annotations": {"deployment.kubernetes.io/revision": "2"}}}),
    ),
    "the Deployment controller makes a ReplicaSet": (
        "deployment-controller",
        create(workload("ReplicaSet", {**MANAGED, **AGENT_LABEL}, serviceAccountName=GUARD_ACCOUNT)),
    ),
    "the Deployment controller deletes ReplicaSets": (
        "deployment-controller",
        delete(a_replica_set),
    ),
    "the Deployment controller reports": (
        "deployment-controller",
        status(GUARDS, {"status": {"observedGeneration": 1}}),
    ),
    "the ReplicaSet controller reports": (
        "replicaset-controller",
        status(a_replica_set, {"status": {"observedGeneration": 1}}),
    ),
    "the Job controller reports": ("job-controller", status(child("Job"), {"status": {"ready": 0}})),
    "the garbage collector deletes a ConfigMap": ("generic-garbage-collector", delete(lambda at: at.bundle)),
    "the garbage collector deletes a Deployment": ("generic-garbage-collector", delete(GUARDS)),
    "the garbage collector orphans a ReplicaSet": (
        "generic-garbage-collector",
        patch(a_replica_set, {"metadata": {"ownerReferences": None}}),
    ),
    "the namespace controller deletes all ConfigMaps": (
        "namespace-controller",
        delete(lambda at: at.path("configmaps")),
    ),
    "the namespace controller deletes all Leases": (
        "namespace-controller",
        delete(lambda at: at.path("leases", "coordination.k8s.io")),
    ),
    "a Job is deleted after its time": ("ttl-after-finished-controller", delete(child("Job"))),
}


@pytest.mark.parametrize(("controller", "send"), EXEMPT.values(), ids=list(EXEMPT))
@requirement("protection.exempt")
def test_controllers_of_kubernetes_are_exempt_by_their_exact_names(
    protected: Protected, controller: str, send: Send
) -> None:
    at = protected
    itself = at.admin.impersonating(CONTROLLERS + controller, *KUBE_SYSTEM)
    grant_all(at, f"real-{controller}", account("kube-system", controller))  # RBAC is no matter here
    bounds.eventually(lambda: send(at, itself).passed_admission, "the controller may", IN_FORCE_SECONDS)

    one_user = at.admin.impersonating("system:kube-controller-manager", "system:authenticated")
    grant_all(at, "kube-controller-manager", {"kind": "User", "name": "system:kube-controller-manager"})
    bounds.eventually(lambda: send(at, one_user).passed_admission, "one user for all controllers", IN_FORCE_SECONDS)

    lookalike = at.identity(controller)
    grant_all(at, controller, account(at.namespace, controller))
    bounds.eventually(
        lambda: "ValidatingAdmissionPolicy" in send(at, lookalike).text,
        f"{controller} of another namespace is refused by a policy",
        IN_FORCE_SECONDS,
    )


@requirement("protection.exempt")
def test_other_controllers_make_no_pod_of_an_agent_and_do_not_scale_it(protected: Protected) -> None:
    at = protected
    for name in ("statefulset-controller", "daemon-set-controller", "replication-controller", "cronjob-controller"):
        caller = at.admin.impersonating(CONTROLLERS + name, *KUBE_SYSTEM)
        grant_all(at, name, account("kube-system", name))
        bounds.eventually(
            lambda caller=caller: create(a_pod({**MANAGED, **AGENT_LABEL}))(at, caller).was_denied_by("pods-reserved"),
            f"{name} is refused",
            IN_FORCE_SECONDS,
        )
    scaler = at.admin.impersonating(f"{CONTROLLERS}horizontal-pod-autoscaler", *KUBE_SYSTEM)
    scale = patch(lambda at: f"{GUARDS(at)}/scale", {"spec": {"replicas": 3}})
    grant_all(at, "scaler", account("kube-system", "horizontal-pod-autoscaler"))
    bounds.eventually(lambda: scale(at, scaler).was_denied_by("workloads-scale"), "it is refused", IN_FORCE_SECONDS)
    one_user = at.admin.impersonating("system:kube-controller-manager", "system:authenticated")
    grant_all(at, "kube-controller-manager", {"kind": "User", "name": "system:kube-controller-manager"})
    bounds.eventually(
        lambda: scale(at, one_user).was_denied_by("workloads-scale"), "no controller scales", IN_FORCE_SECONDS
    )


@requirement("protection.exempt")
def test_nodes_get_tokens_write_status_and_make_mirror_pods(protected: Protected) -> None:
    at = protected
    node = at.admin.impersonating("system:node:node-000000", "system:nodes", "system:authenticated")
    grant_all(at, "nodes", {"kind": "Group", "name": "system:nodes"})
    status = patch(pod("guard", "status"), {"status": {"message": "x"}})
    mirror = a_pod({**MANAGED, **AGENT_LABEL}, nodeName="node-000000")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x", "interlock.dev/config-digest": "x"}
    for_the_collector = token(GUARD_ACCOUNT, audiences=["interlock-audit"])
    for send in (token_for_the_guards_pod, for_the_collector, status, create(mirror)):
        bounds.eventually(lambda send=send: send(at, node).status < 300, "a node may", IN_FORCE_SECONDS)


@requirement("protection.refused")
def test_the_status_of_a_pod_is_no_way_to_relabel_it(protected: Protected) -> None:
    at = protected
    writer = at.identity("status-writer")
    grant_all(at, "status-writer", account(at.namespace, "status-writer"))
    reported = patch(pod("agent", "status"), {"status": {"message": "x"}})
    bounds.eventually(lambda: reported(at, writer).status == 200, "a status is written", IN_FORCE_SECONDS)
    relabelled = patch(pod("agent", "status"), {"metadata": {"labels": {"interlock.dev/agent": "x"}}})
    assert relabelled(at, writer).was_denied_by("pods-reserved")


OWN_SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "own"}, "spec": {"ports": [{"port": 80}]}}


@pytest.fixture(scope="module")
def own(protected: Protected) -> Protected:
    """A namespace in which the users have objects of their own too."""
    at = protected
    at.admin.must("POST", at.path("serviceaccounts"), {"metadata": {"name": "own-guard"}})
    team = {"interlock.dev/team": "x"}
    of_a_team = edited(workload("Deployment", team), spec__selector__matchLabels=team)
    own = ((workload("Deployment"), "own-deployment"), (of_a_team, "own-team"), (a_pod(), "own-pod"))
    for manifest, name in own:
        manifest["metadata"]["name"] = name
        at.admin.must("POST", path_of(manifest, at.namespace, is_new=True), manifest)
    restarted = workload("Deployment", MANAGED)
    restarted["metadata"]["name"] = "restarted"
    restarted["spec"]["replicas"] = 0
    restarted["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "before"}
    at.admin.must("POST", at.path("deployments", "apps"), restarted)
    service = {**OWN_SERVICE, "metadata": {"name": "own-service"}}
    service["spec"] = {"ports": [{"port": 80}], "selector": {"app": "own", "app.kubernetes.io/component": "agent"}}
    at.admin.must("POST", at.path("services"), service)
    return at


@pytest.mark.parametrize("send", ALLOWED.values(), ids=list(ALLOWED))
@requirement("protection.exempt")
def test_a_user_with_the_right_to_may_still(own: Protected, send: Send) -> None:
    for caller in (own.editor, own.owner):
        bounds.eventually(lambda caller=caller: send(own, caller).passed_admission, "it may", IN_FORCE_SECONDS)


@requirement("protection.identity")
@pytest.mark.parametrize("send", FORGED_RECORDS.values(), ids=list(FORGED_RECORDS))
def test_a_user_sends_no_audit_records_as_a_guard(protected: Protected, send: Send) -> None:
    for caller in (protected.editor, protected.owner):
        assert send(protected, caller).was_denied_by("audit-reserved")


@requirement("protection.exempt")
def test_readers_of_audit_records_and_accounts_like_a_guards_get_their_tokens(protected: Protected) -> None:
    allowed = (
        token("editor", audiences=["interlock-audit"]),
        token("late-0123456789-guard"),
        create(a_pod(serviceAccountName="editor", volumes=[AUDIT_TOKEN])),
    )
    for send in allowed:
        assert send(protected, protected.editor).status == 201


def test_a_pod_that_controllers_make_for_another_workload_gets_no_account_of_ours(protected: Protected) -> None:
    """As from a Deployment that was there before the ServiceAccount, and so before the policy had a parameter."""
    pod_without_labels = create(a_pod(serviceAccountName=GUARD_ACCOUNT))
    controller = protected.admin.impersonating(f"{CONTROLLERS}replicaset-controller", *KUBE_SYSTEM)
    assert pod_without_labels(protected, controller).was_denied_by("accounts-reserved")
    assert pod_without_labels(protected, protected.admin).was_denied_by("accounts-reserved")


@requirement("protection.refused")
def test_a_refused_annotation_names_the_verb_and_a_refused_label_the_labels(protected: Protected) -> None:
    refused = ANNOTATED(protected, protected.editor)
    assert "annotations require the verb debug on agents.interlock.dev" in refused.text
    relabelled = patch(pod("agent"), {"metadata": {"labels": {"interlock.dev/agent": "x"}}})(
        protected, protected.editor
    )
    assert "remove the labels interlock.dev/*" in relabelled.text


@requirement("protection.exempt")
def test_who_may_change_the_pods_of_all_namespaces_may_annotate_them(protected: Protected) -> None:
    """As the plugins of networks do, which have no verb of ours."""
    at, name = protected, f"plugin-{uuid4().hex[:8]}"
    plugin = at.identity(name)
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "patch"]}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    bound = {"metadata": {"name": name}, "roleRef": reference, "subjects": [account(at.namespace, name)]}
    paths = [f"/apis/rbac.authorization.k8s.io/v1/{kind}" for kind in ("clusterroles", "clusterrolebindings")]
    for path, body in zip(paths, ({"metadata": {"name": name}, "rules": [rule]}, bound), strict=True):
        at.admin.must("POST", path, body)
    try:
        bounds.eventually(lambda: ANNOTATED(at, plugin).status == 200, "RBAC knows the role", IN_FORCE_SECONDS)
        relabel = patch(pod("agent"), {"metadata": {"labels": {"team": "x"}}})
        assert relabel(at, plugin).was_denied_by("pods-reserved")
    finally:
        for path in paths:
            at.admin.must("DELETE", f"{path}/{name}")


# Debugging.


@pytest.fixture(scope="module")
def debugger(protected: Protected) -> Caller:
    """An editor who also has the verb debug, by the role for it."""
    at = protected
    at.admin.must("POST", at.path("serviceaccounts"), {"metadata": {"name": "debugger"}})
    grant_all(at, "debugger", account(at.namespace, "debugger"))
    grant(at.admin, at.namespace, "debugger", account(at.namespace, "debugger"), "interlock-debug")
    return at.admin.with_token(at.admin.token_of(at.namespace, "debugger"))


EPHEMERAL = {what: case for what, case in WORKLOADS.items() if what.startswith("an ephemeral container")}
DEBUGGING = {**CONNECTIONS, **EPHEMERAL, "annotate a pod": ("pods-reserved", ANNOTATED)}


@pytest.mark.parametrize("send", [send for _, send in DEBUGGING.values()], ids=list(DEBUGGING))
@requirement("protection.debug")
def test_the_verb_debug_opens(protected: Protected, debugger: Caller, send: Send) -> None:
    bounds.eventually(lambda: send(protected, debugger).passed_admission, "RBAC knows the role", IN_FORCE_SECONDS)
    assert send(protected, protected.admin).passed_admission  # who has every verb, has this one


@pytest.mark.parametrize("send", CHANGED_PODS.values(), ids=list(CHANGED_PODS))
@requirement("protection.debug")
def test_the_verb_debug_changes_no_more_of_a_pod_than_annotations(
    protected: Protected, debugger: Caller, send: Send
) -> None:
    bounds.eventually(lambda: ANNOTATED(protected, debugger).status == 200, "RBAC knows the role", IN_FORCE_SECONDS)
    assert send(protected, debugger).was_denied_by("pods-reserved")


def test_the_verb_debug_can_be_given_for_one_agent(protected: Protected) -> None:
    at = protected
    name = "debugger-of-one"
    at.admin.must("POST", at.path("serviceaccounts"), {"metadata": {"name": name}})
    grant_all(at, name, account(at.namespace, name))
    caller = at.admin.with_token(at.admin.token_of(at.namespace, name))

    def may(agent: str) -> None:
        rule = {
            "apiGroups": ["interlock.dev"],
            "resources": ["agents"],
            "resourceNames": [agent],
            "verbs": ["debug"],
        }
        rbac = "rbac.authorization.k8s.io"
        at.admin.must("POST", at.path("roles", rbac), {"metadata": {"name": f"debug-{agent}"}, "rules": [rule]})
        binding = {
            "metadata": {"name": f"debug-{agent}"},
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": f"debug-{agent}"},
            "subjects": [account(at.namespace, name)],
        }
        at.admin.must("POST", at.path("rolebindings", rbac), binding)

    may("another")
    send = connect("POST", pod("agent", "exec"), "?command=id&stdout=true")
    bounds.eventually(lambda: send(at, caller).was_denied_by("pods-debug"), "another agent is no matter", 30)
    may("triage")
    bounds.eventually(lambda: send(at, caller).passed_admission, "its own agent is", IN_FORCE_SECONDS)
    of_a_verifier = connect("POST", pod("verification", "exec"), "?command=id&stdout=true")
    assert of_a_verifier(at, caller).was_denied_by("pods-debug")
    assert EPHEMERAL["an ephemeral container of the verification"][1](at, caller).was_denied_by("pods-reserved")
    assert EPHEMERAL["an ephemeral container of the guard"][1](at, caller).status == 200


@pytest.mark.parametrize("selector", SELECTORS, ids=" ".join)
@requirement("protection.debug")
def test_a_service_of_ones_own_is_no_way_to_the_pods(protected: Protected, selector: Json) -> None:
    at, name = protected, f"own-{uuid4().hex[:8]}"
    spec = {"ports": [{"port": 7412}], "selector": selector}
    at.editor.must("POST", at.path("services"), {"metadata": {"name": name}, "spec": spec})
    send = connect("GET", service_proxy("{}:7412", name))
    bounds.eventually(lambda: send(at, at.editor).was_denied_by("services-debug"), "it is refused", IN_FORCE_SECONDS)
    # While its endpoints are still those of before, another selector would open the way.
    for body in ({"app": "own", **dict.fromkeys(selector)}, None):
        changed = at.editor.send("PATCH", f"{at.path('services')}/{name}{DRY}", {"spec": {"selector": body}}, MERGE)
        assert changed.was_denied_by("services-debug"), changed.text
    at.editor.must("DELETE", f"{at.path('services')}/{name}")


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"team": "interlock"},
        {"team": "interlock-agent"},
        {"team": "agent"},
        {"app.kubernetes.io/managed-by": "helm"},
        {"app.kubernetes.io/name": "shop"},
        {"app.kubernetes.io/component": "database"},
        {"apps.kubernetes.io/pod-index": "0"},
        {f"interlock.dev/{number}": "x" for number in range(33)},
    ],
    ids=lambda selector: str(selector)[:60],
)
@requirement("protection.exempt")
def test_a_service_that_selects_no_pod_of_interlock_is_proxied(protected: Protected, selector: Json) -> None:
    at, name = protected, f"own-{uuid4().hex[:8]}"
    spec = {"ports": [{"port": 80}], **({"selector": selector} if selector else {})}
    at.editor.must("POST", at.path("services"), {"metadata": {"name": name}, "spec": spec})
    send = connect("GET", service_proxy("{}:80", name))
    bounds.eventually(lambda: send(at, at.editor).passed_admission, "it is proxied", IN_FORCE_SECONDS)
    at.editor.must("DELETE", f"{at.path('services')}/{name}")


# What is large, and what ends.


@requirement("protection.size")
def test_no_size_of_an_object_escapes_the_policies_or_blocks_a_kill(protected: Protected, debugger: Caller) -> None:
    """A user with the verb debug may add annotations to a pod, up to the limits of the API server."""
    at, path = protected, protected.pod("agent")
    annotations = {f"example.com/{number:05}": "" for number in range(12_000)}
    labels = {f"l{number:05}": "" for number in range(20_000)}
    bounds.eventually(lambda: ANNOTATED(at, debugger).status == 200, "RBAC knows the role", IN_FORCE_SECONDS)
    debugger.must("PATCH", path, {"metadata": {"annotations": annotations}}, MERGE)
    labelled = patch(pod("agent"), {"metadata": {"labels": labels}})
    assert labelled(at, debugger).was_denied_by("pods-reserved")
    at.admin.must("PATCH", path, {"metadata": {"labels": labels}}, MERGE)
    relabelled = patch(pod("agent"), {"metadata": {"labels": {"interlock.dev/agent": "x"}}})
    reply = relabelled(at, debugger)
    assert reply.was_denied_by("pods-reserved"), reply.text
    node = at.admin.impersonating("system:node:node-000000", "system:nodes", "system:authenticated")
    grant_all(at, "nodes", {"kind": "Group", "name": "system:nodes"})
    status = patch(pod("agent", "status"), {"status": {"message": "x"}})
    bounds.eventually(lambda: status(at, node).status == 200, "the kubelet reports", IN_FORCE_SECONDS)
    killer = at.admin.with_token(at.admin.token_of("interlock-system", "interlock-kill"))
    assert killer.send("DELETE", path + DRY).status == 200
    send = connect("POST", pod("agent", "exec"), "?command=id&stdout=true")
    assert send(at, at.editor).was_denied_by("pods-debug")


@requirement("protection.exempt")
def test_a_namespace_with_an_agent_can_be_deleted(administrator: Caller, protected: Protected) -> None:
    ending = protect(administrator)
    ending.pod("agent")
    path = f"/api/v1/namespaces/{ending.namespace}"
    administrator.must("DELETE", path)
    bounds.eventually(
        lambda: administrator.send("GET", path).status == 404,
        lambda: json.dumps(administrator.send("GET", path).json()["status"]),
        60,
    )


@requirement("protection.exempt")
def test_the_objects_of_a_deleted_agent_are_collected(administrator: Caller, protected: Protected) -> None:
    ending = protect(administrator)
    ending.pod("agent")
    agents = f"/apis/interlock.dev/v1alpha1/namespaces/{ending.namespace}/agents/triage"
    ending.editor.must("DELETE", agents)
    for path in (ending.bundle, ending.lease, ending.child("Deployment", "-guard"), ending.child("Role")):
        bounds.eventually(lambda path=path: administrator.send("GET", path).status == 404, f"{path} is gone", 60)
    administrator.send("DELETE", f"/api/v1/namespaces/{ending.namespace}")


def test_a_pods_token_names_its_pod(protected: Protected) -> None:
    """A token that a node asks for, for the guard's pod, carries the name by which the guard is known."""
    at = protected
    node = at.admin.impersonating("system:node:node-000000", "system:nodes", "system:authenticated")
    grant_all(at, "nodes", {"kind": "Group", "name": "system:nodes"})
    found = at.admin.must("GET", at.pod("guard"))["metadata"]
    reference = {"kind": "Pod", "apiVersion": "v1", "name": found["name"], "uid": found["uid"]}
    body = {"spec": {"boundObjectRef": reference, "expirationSeconds": 600}}
    path = f"{at.path('serviceaccounts')}/{at.filled(GUARD_ACCOUNT)}/token"
    bounds.eventually(lambda: node.send("POST", path + DRY, body).status == 201, "a node may", IN_FORCE_SECONDS)
    issued = node.must("POST", path, body)["status"]["token"]
    claims = json.loads(base64.urlsafe_b64decode(issued.split(".")[1] + "=="))
    assert claims["kubernetes.io"]["pod"]["name"] == found["name"]
    guard_itself = at.admin.with_token(issued)
    bounds.eventually(
        lambda: report(at, guard_itself, f"selftest.interlock.dev/{found['name']}").status == 200,
        "the guard reports with its own token",
        IN_FORCE_SECONDS,
    )
    assert report(at, guard_itself, "selftest.interlock.dev/another").was_denied_by("managed-objects")


def test_every_object_of_the_placement_is_in_the_table_of_attacks(protected: Protected) -> None:
    kinds = {one["kind"] for one in protected.children}
    named = " ".join([*REFUSED, "a Role", "a RoleBinding", "a ConfigMap"])
    assert {kind for kind in kinds if kind not in named} == set()
    assert name_of(protected.placement) in protected.bundle
