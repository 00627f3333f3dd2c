"""Who scales an Agent: `kubectl scale`, autoscalers, and who may create those, on a real API server."""

import json
from collections.abc import Iterator

import pytest

from interlock.cluster.kept_metadata import find_spec_manager
from interlock_contract.names import SPEC_AUTHOR
from tests.integration.callers import APPLY, MERGE, Caller, Json, Reply
from tests.integration.kubectl import AGENT, POLICY, Cluster, Kubectl, edited
from tests.integration.protected import account
from tests.integration.test_admission_release import KILL, Place, patch
from tests.requirements import requirement
from tests.support import bounds

pytestmark = pytest.mark.api

POLICIES = (
    *("agents-commands", "agents-kill-latch", "agents-kill-only", "agents-metadata", "agents-status", "agents-update"),
    *("autoscalers", "identity", "spec-author", "workloads-scale"),
)
ROLES = {"ada": ("edit",), "grace": ("view",), "killer": ("interlock-kill-switch",), "outsider": ()}
CONTROLLER = "system:serviceaccount:kube-system:horizontal-pod-autoscaler"
SELECTOR = "interlock.dev/agent=triage"
WAIT_SECONDS = 30.0
DRY = "?dryRun=All"
MEMORY = {"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Mi"}}  # in no member of v1
FAST = {"type": "Pods", "value": 50, "periodSeconds": 1}
RBAC = "/apis/rbac.authorization.k8s.io/v1"


@pytest.fixture(scope="module")
def place(kwok_cluster: Cluster) -> Iterator[Place]:
    with Place.installed(kwok_cluster, POLICIES, ROLES, POLICY) as made:
        _let_outsider_autoscale(made)
        _wait_until_in_force(made)
        yield made


@pytest.fixture
def path(place: Place) -> str:
    """The path of an Agent that ada wrote, with the status of one that runs."""
    name = "a-scaled"
    place.admin.send("DELETE", f"{place.agents}/{name}")
    manifest = edited(AGENT, metadata__name=name)
    applied = {key: manifest[key] for key in ("apiVersion", "kind", "spec")} | {"metadata": {"name": name}}
    place.users["ada"].must("PATCH", f"{place.agents}/{name}?fieldManager=flux", applied, APPLY)
    status = {"status": {"observedGeneration": 1, "replicas": 1, "selector": SELECTOR}}
    place.admin.must("PATCH", f"{place.agents}/{name}/status", status, MERGE)
    return f"{place.agents}/{name}"


def _let_outsider_autoscale(place: Place) -> None:
    rules = [{"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["*"]}]
    name = {"name": "autoscales"}
    roles = f"{RBAC}/namespaces/{place.namespace}"
    place.admin.must("POST", f"{roles}/roles", {"metadata": name, "rules": rules})
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", **name}
    place.admin.must(
        "POST",
        f"{roles}/rolebindings",
        {"metadata": name, "roleRef": ref, "subjects": [account(place.namespace, "outsider")]},
    )


def _wait_until_in_force(place: Place) -> None:
    agent, label = place.agent(), {"metadata": {"labels": {"a": "b"}}}
    bounds.eventually(lambda: patch(place.users["ada"], agent + DRY, label).status == 200, "roles", WAIT_SECONDS)
    for user, policy in (("outsider", "autoscalers"), ("killer", "agents-kill-only")):
        attempt = create_autoscaler if user == "outsider" else lambda caller, _: patch(caller, agent + DRY, label)
        bounds.eventually(
            lambda user=user, policy=policy, attempt=attempt: attempt(place.users[user], place).was_denied_by(policy),
            policy,
            WAIT_SECONDS,
        )


def create_autoscaler(caller: Caller, place: Place, *, target: Json | None = None, query: str = DRY) -> Reply:
    agent = {"apiVersion": "interlock.dev/v1alpha1", "kind": "Agent", "name": "a-scaled"}
    body = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "of-an-agent" if target is None else "of-another"},
        "spec": {"scaleTargetRef": target or agent, "maxReplicas": 5},
    }
    return caller.send("POST", autoscalers(place) + query, body)


def autoscalers(place: Place) -> str:
    return f"/apis/autoscaling/v2/namespaces/{place.namespace}/horizontalpodautoscalers"


def scaled(caller: Caller, path: str, replicas: int) -> Reply:
    """Write the scale as Kubernetes' controller does."""
    found = caller.send("GET", f"{path}/scale")
    if found.status != 200:
        return found
    return caller.send("PUT", f"{path}/scale", found.json() | {"spec": {"replicas": replicas}})


@requirement("scale.subresource")
def test_an_autoscaler_scales_an_agent_and_is_no_author_of_its_spec(place: Place, path: str) -> None:
    controller = place.admin.impersonating(CONTROLLER, "system:serviceaccounts", "system:authenticated")
    before = place.admin.must("GET", path)
    read = controller.must("GET", f"{path}/scale")
    assert (read["spec"], read["status"]) == ({"replicas": 1}, {"replicas": 1, "selector": SELECTOR})

    assert scaled(controller, path, 5).status == 200

    after = place.admin.must("GET", path)
    assert after["spec"] == before["spec"] | {"replicas": 5}
    assert after["metadata"]["annotations"][SPEC_AUTHOR] == f"system:serviceaccount:{place.namespace}:ada"
    assert find_spec_manager(after["metadata"]["managedFields"]) == "flux"


@requirement("scale.subresource")
def test_kubectl_scales_an_agent_that_today_s_policy_or_a_kill_refuses(
    place: Place, path: str, kwok_cluster: Cluster
) -> None:
    client, name = Kubectl(kwok_cluster), path.rpartition("/")[2]
    patch(place.admin, path, {"metadata": {"annotations": {KILL: "INC-1"}}})
    policies = path.partition("/agents/")[0] + "/agentpolicies"
    place.admin.must("PATCH", f"{policies}/{POLICY['metadata']['name']}", {"spec": {"dataAccess": []}}, MERGE)
    try:
        client.must("-n", place.namespace, "scale", f"agents.interlock.dev/{name}", "--replicas=3")
    finally:
        place.admin.must("PATCH", f"{policies}/{POLICY['metadata']['name']}", {"spec": POLICY["spec"]}, MERGE)

    found = place.admin.must("GET", path)
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["annotations"][KILL] == "INC-1"


@requirement("scale.subresource")
def test_a_number_beyond_the_schema_is_refused(place: Place, path: str) -> None:
    reply = scaled(place.users["ada"], path, 101)

    assert reply.status == 422
    assert "should be less than or equal to 100" in reply.text


@requirement("scale.subresource")
def test_who_may_edit_agents_may_scale_them_and_who_may_view_or_kill_them_may_not(place: Place, path: str) -> None:
    users = place.users
    assert scaled(users["ada"], path, 2).status == 200
    assert users["grace"].send("GET", f"{path}/scale").status == 200
    for name in ("grace", "killer", "outsider"):
        assert patch(users[name], f"{path}/scale", {"spec": {"replicas": 4}}).status == 403, name


@requirement("scale.subresource")
def test_only_who_may_scale_an_agent_may_let_an_autoscaler_do_it(place: Place, path: str) -> None:
    ada, outsider = place.users["ada"], place.users["outsider"]
    refused = create_autoscaler(outsider, place)
    assert refused.was_denied_by("autoscalers")
    assert "may not let an autoscaler scale agent a-scaled: this requires the verb update on" in refused.text
    workload = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "a-scaled"}
    assert create_autoscaler(outsider, place, target=workload).status == 201

    assert create_autoscaler(ada, place, query="").status == 201
    own = f"{autoscalers(place)}/of-an-agent"
    try:
        assert patch(outsider, own + DRY, {"spec": {"maxReplicas": 50}}).was_denied_by("autoscalers")
        assert patch(outsider, own + DRY, {"metadata": {"labels": {"a": "b"}}}).status == 200
        assert patch(ada, own + DRY, {"spec": {"maxReplicas": 50}}).status == 200
        first = own.replace("/autoscaling/v2/", "/autoscaling/v1/") + DRY
        assert patch(outsider, first, {"metadata": {"labels": {"a": "b"}}}).status == 200
        for name, value in (("metrics", [MEMORY]), ("behavior", {"scaleUp": {"policies": [FAST]}})):
            annotations = {f"autoscaling.alpha.kubernetes.io/{name}": json.dumps(value)}
            assert patch(outsider, first, {"metadata": {"annotations": annotations}}).was_denied_by("autoscalers"), name
    finally:
        place.admin.send("DELETE", own)
