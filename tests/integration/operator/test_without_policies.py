"""Attacks with every admission policy deleted: what RBAC and the programs hold, what heals, and what nothing prevents.

The attacker has Kubernetes' own role `edit` in the namespace. `docs/explanation/threat-model.md` has the same table.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from interlock_contract.bundle import digest
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.clock import utc_now
from interlock_contract.names import SELFTEST_PREFIX
from interlock_contract.selftest_report import SelfTestReport, dump_report
from interlock_contract.verification import (
    PLAN_KEY,
    RESULT_KEY,
    SeenDefinition,
    VerificationResult,
    dump_result,
    parse_plan,
)
from tests.integration.attacks import AGENT_LABEL, DRY, workload
from tests.integration.callers import APPLY, MERGE, Caller, Json, Reply
from tests.integration.operator import objects
from tests.integration.operator.api import eventually
from tests.integration.operator.conftest import Operators, a_cluster, a_sandbox, operators_of
from tests.integration.operator.sandbox import REFUSED_SECONDS, Sandbox, condition_of
from tests.integration.protected import grant
from tests.requirements import requirement
from tests.support.verification_jobs import a_tool

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

CREATED, FORBIDDEN, OK = 201, 403, 200
MOST_RESOURCES = 64
TOOL = "get_contact"
AGENTS = ("triage", "reported", "kept", "crowded", "later", "named")
SLOW_SECONDS = 60.0


@dataclass(frozen=True)
class Tenant:
    """A namespace without admission policies, and its users.

    Attributes:
        sandbox: The namespace, as the cluster's administrator sees it.
        editor: A user with the role `edit` there.
        operators: The operator and what plays the verifiers.
    """

    sandbox: Sandbox
    editor: Caller
    operators: Operators

    def path(self, plural: str, name: str = "", *, group: str = "v1") -> str:
        base = f"/{'apis' if '/' in group else 'api'}/{group}/namespaces/{self.sandbox.namespace}/{plural}"
        return f"{base}/{name}" if name else base

    def agent(self, name: str, subresource: str = "") -> str:
        path = self.path("agents", name, group=objects.API_VERSION)
        return f"{path}/{subresource}" if subresource else path

    def merge(self, path: str, body: Json) -> Reply:
        """Change an object as the editor."""
        return self.editor.send("PATCH", path, body, MERGE)

    def bundle(self, agent: str) -> Json:
        return self.sandbox.child(agent, "ConfigMap", "bundle")

    def account(self) -> str:
        """Return the name of the ServiceAccount of triage's guard."""
        name: str = self.sandbox.child("triage", "ServiceAccount")["metadata"]["name"]
        return name

    def start(self, agent: str) -> None:
        """Create an Agent and wait until it is Ready."""
        self.sandbox.create(agent)
        self.sandbox.wait_ready(agent)


@pytest.fixture(scope="module")
def tenant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    with (
        a_cluster(f"interlock-bare-{os.getpid()}", policies=()) as cluster,
        operators_of(cluster, tmp_path_factory.mktemp("bare")) as operators,
        a_sandbox(operators) as sandbox,
    ):
        operators.use()
        admin = Caller.administrator(cluster.kubeconfig)
        assert admin.must("GET", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies")["items"] == []
        user = {"kind": "User", "name": "eddie", "apiGroup": "rbac.authorization.k8s.io"}
        grant(admin, sandbox.namespace, "editor", user, "edit")
        sandbox.apply_policy_and_bindings(*AGENTS)
        made = Tenant(sandbox, admin.impersonating("eddie", "system:authenticated"), operators)
        made.start("triage")
        yield made


# Held by RBAC and by the programs themselves


@requirement("policies.absent")
def test_rows_that_add_up_beyond_a_bound_cost_no_other_agent_its_turn(tenant: Tenant) -> None:
    rows = [
        {"agents": ["crowded"], "source": "crm", "read": [f"r{start + number}" for number in range(MOST_RESOURCES)]}
        for start in (0, MOST_RESOURCES)
    ]
    before = tenant.sandbox.policy()["spec"]["dataAccess"]
    tenant.sandbox.api.patch(
        "agentpolicies", tenant.sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": [*before, *rows]}}
    )

    tenant.start("crowded")


@requirement("policies.absent")
def test_a_drift_whose_difference_is_costly_keeps_no_agent_waiting(tenant: Tenant) -> None:
    """The difference of these two texts took the operator 23 s, in which no Agent was reconciled."""
    numbers = range(17_000)
    verifiers = tenant.operators.verifiers
    verifiers.schemas = {TOOL: {"enum": [number % 101 for number in numbers]}}
    try:
        create_binding(tenant, "mail")
        tenant.sandbox.wait_verified("mail", SLOW_SECONDS)
        verifiers.schemas = {TOOL: {"enum": [2 * number % 101 for number in numbers]}}
        change = {"spec": {"limits": {"inFlight": 7}}}
        tenant.sandbox.api.patch("mcpbindings", tenant.sandbox.namespace, "mail", change)
        drifted = lambda: condition_of(tenant.sandbox.binding("mail"), "Drifted").get("status") == "True"  # noqa: E731
        eventually(drifted, "the drift is reported", SLOW_SECONDS)
    finally:
        verifiers.reset()

    tenant.start("later")


@requirement("policies.absent")
@pytest.mark.parametrize("kind", ["Agent", "MCPBinding"])
def test_an_editor_may_not_write_the_status(tenant: Tenant, kind: str) -> None:
    path = (
        tenant.agent("triage")
        if kind == "Agent"
        else tenant.path("mcpbindings", "crm-sandbox", group=objects.API_VERSION)
    )

    assert tenant.merge(f"{path}/status{DRY}", {"status": {"observedGeneration": 1}}).status == FORBIDDEN


@requirement("policies.absent")
def test_a_deleted_agent_that_a_finalizer_keeps_has_no_pods(tenant: Tenant) -> None:
    tenant.start("kept")
    finalizers = {"metadata": {"finalizers": ["example.com/keep"]}}
    assert tenant.merge(tenant.agent("kept"), finalizers).status == OK
    assert tenant.editor.send("DELETE", tenant.agent("kept")).status == OK

    tenant.sandbox.wait_refused("kept", "BeingDeleted")

    tenant.merge(tenant.agent("kept"), {"metadata": {"finalizers": None}})


@requirement("policies.absent")
def test_a_deep_annotation_of_a_guards_lease_keeps_no_revocation_waiting(tenant: Tenant) -> None:
    tenant.start("reported")
    lease = tenant.sandbox.child("reported", "Lease")["metadata"]["name"]
    path = tenant.path("leases", lease, group="coordination.k8s.io/v1")
    deep = {"metadata": {"annotations": {"drift.interlock.dev/pod": "[" * 60_000}}}
    # A user without rights on Leases takes the guard's token, which `edit` may create.
    assert tenant.merge(path, deep).status == OK

    rows = tenant.sandbox.policy()["spec"]["dataAccess"]
    kept = [row | {"agents": [name for name in row["agents"] if name != "reported"]} for row in rows]
    tenant.sandbox.api.patch("agentpolicies", tenant.sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": kept}})

    tenant.sandbox.wait_refused("reported", "DataAccessMissing")


@requirement("policies.absent")
def test_an_object_of_an_editor_with_the_name_of_a_child_is_not_taken_over(tenant: Tenant) -> None:
    service = {"metadata": {"name": "guard-named"}, "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}}
    made = tenant.editor.must("POST", tenant.path("services"), service)

    tenant.sandbox.create("named")

    def is_stalled() -> bool:
        return tenant.sandbox.condition("named", "Stalled").get("reason") == "NameTaken"

    eventually(is_stalled, "the Agent says that the name is taken", REFUSED_SECONDS)
    found = tenant.sandbox.api.get("services", tenant.sandbox.namespace, "guard-named")["metadata"]
    assert (found["uid"], "ownerReferences" in found) == (made["metadata"]["uid"], False)
    assert not tenant.sandbox.pods("named")


# Healed

Change = Callable[[Tenant, Json], Reply]


def _path(tenant: Tenant, child: Json) -> str:
    groups = {"ConfigMap": "v1", "NetworkPolicy": "networking.k8s.io/v1", "Deployment": "apps/v1"}
    plurals = {"ConfigMap": "configmaps", "NetworkPolicy": "networkpolicies", "Deployment": "deployments"}
    kind = child["kind"]
    return tenant.path(plurals[kind], child["metadata"]["name"], group=groups[kind])


def merged(body: Json) -> Change:
    return lambda tenant, child: tenant.merge(_path(tenant, child), body)


def applied(spec: Json) -> Change:
    """Apply with the operator's own field manager, which any user may name."""

    def send(tenant: Tenant, child: Json) -> Reply:
        metadata = {"name": child["metadata"]["name"]}
        body = {"apiVersion": child["apiVersion"], "kind": child["kind"], "metadata": metadata, "spec": spec}
        query = "?fieldManager=interlock&force=true"
        return tenant.editor.send("PATCH", _path(tenant, child) + query, body, APPLY)

    return send


FORGED = {"data": {"bundle.json": "{}"}}
NOTHING = {"podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}


@requirement("policies.absent")
@pytest.mark.parametrize(
    ("kind", "part", "change"),
    [
        pytest.param("ConfigMap", "bundle", merged(FORGED), id="a forged bundle"),
        pytest.param("ConfigMap", "bundle", merged(FORGED | {"immutable": True}), id="an immutable forged bundle"),
        pytest.param("NetworkPolicy", "", applied(NOTHING), id="a NetworkPolicy that selects nothing"),
        pytest.param(
            "Deployment", "", merged({"spec": {"template": {"spec": {"hostNetwork": True}}}}), id="the host's network"
        ),
    ],
)
def test_a_change_of_a_managed_object_is_healed(tenant: Tenant, kind: str, part: str, change: Change) -> None:
    def essence() -> Any:
        found = tenant.sandbox.children("triage").get(kind, [])
        return [(one.get("data"), one.get("spec"), one.get("immutable")) for one in found]

    tenant.sandbox.wait_ready("triage")
    before, version = essence(), child_version(tenant, kind, part)
    versions = {"apiVersion": {"NetworkPolicy": "networking.k8s.io/v1"}.get(kind, "v1"), "kind": kind}

    reply = change(tenant, tenant.sandbox.child("triage", kind, part) | versions)

    assert reply.status == OK, reply.text
    eventually(
        lambda: essence() == before and child_version(tenant, kind, part) != version, "it is healed", REFUSED_SECONDS
    )
    tenant.sandbox.wait_ready("triage", SLOW_SECONDS)


def child_version(tenant: Tenant, kind: str, part: str) -> str:
    found = tenant.sandbox.children("triage").get(kind, [])
    label = "app.kubernetes.io/component"
    return next(
        (one["metadata"]["resourceVersion"] for one in found if part in ("", one["metadata"]["labels"].get(label))),
        "",
    )


@requirement("policies.absent")
def test_a_relabelled_pod_is_ended(tenant: Tenant) -> None:
    tenant.sandbox.wait_ready("triage", SLOW_SECONDS)
    pod = tenant.sandbox.pods("triage")[0]["metadata"]
    labels = {"metadata": {"labels": {"interlock.dev/agent": None}}}
    assert tenant.merge(tenant.path("pods", pod["name"]), labels).status == OK

    def uids() -> set[str]:
        return {one["metadata"]["uid"] for one in tenant.sandbox.api.listed("pods", tenant.sandbox.namespace)}

    eventually(lambda: pod["uid"] not in uids(), "the pod is gone", REFUSED_SECONDS)


# Not prevented: docs/explanation/limits.md says so. A test that fails here means that the page promises too little.


@requirement("policies.absent")
def test_a_forged_result_of_a_verification_counts(tenant: Tenant) -> None:
    tenant.operators.verifiers.silent = True
    try:
        create_binding(tenant, "forged")
        run = parse_plan(eventually(lambda: find_plan(tenant, "forged"), "the plan is written", SLOW_SECONDS)).run
        text = canonicalize(a_tool(TOOL, "as the attacker wants it"))
        result = dump_result(
            VerificationResult(run, tools=(SeenDefinition(TOOL, digest_of(text), text),), protocol="2025-11-25")
        )
        path = tenant.path("configmaps", "forged-verify-result")
        is_there = lambda: tenant.editor.send("GET", path).status == OK  # noqa: E731
        eventually(is_there, "the place of the result, which is written next to the plan", SLOW_SECONDS)
        assert tenant.merge(path, {"data": {RESULT_KEY: result}}).status == OK

        tenant.sandbox.wait_verified("forged", SLOW_SECONDS)

        tools = tenant.sandbox.binding("forged")["status"]["verification"]["tools"]
        assert [tool["digest"] for tool in tools] == [digest_of(text)]
    finally:
        tenant.operators.verifiers.reset()


@requirement("policies.absent")
def test_a_forged_report_of_a_guard_counts(tenant: Tenant) -> None:
    """No guard runs on these nodes, so none has reported anything."""
    tenant.sandbox.wait_ready("triage", SLOW_SECONDS)
    assert tenant.sandbox.condition("triage", "PolicyEnforced").get("status") != "True"
    bundle = tenant.bundle("triage")["data"]["bundle.json"]
    lease = tenant.sandbox.child("triage", "Lease")["metadata"]["name"]
    report = dump_report(SelfTestReport(digest(bundle), 3), utc_now())
    annotations = {"metadata": {"annotations": {f"{SELFTEST_PREFIX}pod": report}}}

    assert tenant.merge(tenant.path("leases", lease, group="coordination.k8s.io/v1"), annotations).status == OK

    def counts() -> bool:
        return tenant.sandbox.condition("triage", "PolicyEnforced").get("status") == "True"

    eventually(counts, "the operator believes it", REFUSED_SECONDS)


@requirement("policies.absent")
def test_an_editor_gets_a_guards_token_and_acts_in_its_name(tenant: Tenant) -> None:
    account = tenant.account()
    path = tenant.path("serviceaccounts", account)
    assert tenant.editor.send("POST", f"{path}/token", {"spec": {}}).status == CREATED
    user = f"system:serviceaccount:{tenant.sandbox.namespace}:{account}"
    assert tenant.editor.impersonating(user).send("GET", tenant.agent("triage")).status == OK


@requirement("policies.absent")
def test_an_editor_starts_pods_with_an_agents_labels_and_account(tenant: Tenant) -> None:
    manifest = workload("Deployment", AGENT_LABEL, serviceAccountName=tenant.account())

    made = tenant.editor.send("POST", tenant.path("deployments", group="apps/v1") + DRY, manifest)

    assert made.status == CREATED, made.text


@requirement("policies.absent")
@pytest.mark.parametrize("way", ["exec?command=id&stdout=true", "portforward?ports=7410", "proxy/metrics"])
def test_an_editor_enters_an_agents_pod(tenant: Tenant, way: str) -> None:
    tenant.sandbox.wait_ready("triage", SLOW_SECONDS)
    pod = tenant.sandbox.pods("triage")[0]["metadata"]["name"]

    assert tenant.editor.send("GET", f"{tenant.path('pods', pod)}/{way}").passed_admission


@requirement("policies.absent")
def test_an_editor_gives_an_agents_pod_a_day_to_end(tenant: Tenant) -> None:
    tenant.sandbox.wait_ready("triage", SLOW_SECONDS)
    pod = tenant.path("pods", tenant.sandbox.pods("triage")[0]["metadata"]["name"])

    assert tenant.editor.send("DELETE", pod + DRY, {"gracePeriodSeconds": 86400}).status == OK


@requirement("policies.absent")
def test_the_operators_token_creates_any_workload_in_any_namespace(tenant: Tenant) -> None:
    admin = Caller.administrator(tenant.operators.cluster.kubeconfig)
    operator = admin.with_token(admin.token_of("interlock-system", "interlock"))
    manifest = workload("Deployment", hostNetwork=True, hostPID=True)

    made = operator.send("POST", f"/apis/apps/v1/namespaces/kube-system/deployments{DRY}", manifest)

    assert made.status == CREATED, made.text


def create_binding(tenant: Tenant, name: str) -> None:
    """Create an MCPBinding with a source of its own, which no agent uses."""
    manifest = objects.binding(name)
    manifest["spec"]["source"] = name
    tenant.sandbox.api.create(manifest, tenant.sandbox.namespace)


def find_plan(tenant: Tenant, binding: str) -> str | None:
    """Return the plan of a verification as the editor reads it, None while there is none."""
    found = tenant.editor.must("GET", f"{tenant.path('configmaps')}?labelSelector=interlock.dev/binding={binding}")
    return next((one["data"][PLAN_KEY] for one in found["items"] if PLAN_KEY in (one.get("data") or {})), None)
