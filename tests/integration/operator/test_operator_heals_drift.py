"""Whatever is done to a child, it is as it was within ten seconds: changed, emptied, added to, deleted.

A few kinds of each stand for the others in `make test`: every drift is noticed in memory (`tests/unit/deployment`).
"""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.operator.api import CHILD_KINDS, Api, Json, eventually
from tests.integration.operator.sandbox import REFUSED_SECONDS, Sandbox
from tests.requirements import requirement
from tests.support.drifts import DRIFTS, EVERYTHING, Drift, add, remove
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api


def by_example(name: str, *examples: str) -> pytest.MarkDecorator:
    """Return a parameter that is one of a few kinds in `make test`, and any in `make test-all`."""
    kinds = [kind for kind in CHILD_KINDS if kind != "ConfigMap" or kind in examples]
    return pytest.mark.parametrize(
        name, [pytest.param(kind, marks=() if kind in examples else pytest.mark.nightly) for kind in kinds]
    )


@pytest.fixture
def agent(operator: OperatorProcess, shared_sandbox: Sandbox) -> Sandbox:
    """A namespace with one Agent, `triage`, that is Ready."""
    if not shared_sandbox.api.listed("agents", shared_sandbox.namespace):
        shared_sandbox.apply_policy_and_bindings("triage")
        shared_sandbox.create("triage")
    shared_sandbox.wait_ready("triage")
    return shared_sandbox


def essence(child: Json) -> Json:
    """Return what must not drift of a child."""
    left_out = ("apiVersion", "kind", "metadata", "status")
    wanted = copy.deepcopy({name: value for name, value in child.items() if name not in left_out})
    metadata = child["metadata"]
    return wanted | {"labels": metadata["labels"], "owners": metadata["ownerReferences"]}


def child_of(sandbox: Sandbox, kind: str, part: str = "") -> Json:
    """Return the agent's child of a kind; of its Services the public one, next to which each stage has another."""
    if kind == "Service":
        return sandbox.api.get("services", sandbox.namespace, "guard-triage")
    return sandbox.child("triage", kind, part)


def heal(sandbox: Sandbox, drift: Drift) -> None:
    """Tamper with a child and wait until it is as it was, and stays so."""
    plural = CHILD_KINDS[drift.kind]
    child = child_of(sandbox, drift.kind, drift.part)
    name, before = child["metadata"]["name"], essence(child)
    tampered = sandbox.api.patch(plural, sandbox.namespace, name, drift.change)
    assert essence(tampered) != before, "the change must have changed something"

    def is_healed() -> bool:
        found = sandbox.api.find(plural, sandbox.namespace, name)  # what cannot be changed is deleted and created
        return found is not None and essence(found) == before

    eventually(is_healed, f"{drift.kind} is healed: {drift.what}", REFUSED_SECONDS)
    sandbox.wait_ready("triage")
    assert is_healed()


@requirement("deployment.healed-on-a-cluster", "deployment.additions")
@pytest.mark.parametrize(
    "drift",
    [
        pytest.param(drift, id=drift.what.replace(" ", "-"), marks=() if drift.is_example else pytest.mark.nightly)
        for drift in DRIFTS
    ],
)
def test_a_child_is_healed_when(agent: Sandbox, drift: Drift) -> None:
    heal(agent, drift)


@by_example("kind", "Deployment", "Role")
def test_a_child_whose_owner_is_taken_away_gets_it_back(agent: Sandbox, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = child_of(agent, kind)
    name, before = child["metadata"]["name"], child["metadata"]["ownerReferences"]
    agent.api.patch(plural, agent.namespace, name, remove("/metadata/ownerReferences"))

    def owners() -> Any:
        return agent.api.get(plural, agent.namespace, name)["metadata"].get("ownerReferences")

    eventually(lambda: owners() == before, f"the {kind} has its owner again", REFUSED_SECONDS)


@by_example("kind", "Deployment", "Role")
def test_a_child_whose_labels_are_taken_away_gets_them_back(agent: Sandbox, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = child_of(agent, kind)
    name, before = child["metadata"]["name"], child["metadata"]["labels"]
    agent.api.patch(plural, agent.namespace, name, remove("/metadata/labels"))

    def labels() -> Any:
        return agent.api.get(plural, agent.namespace, name)["metadata"].get("labels")

    eventually(lambda: labels() == before, f"the {kind} has its labels again", REFUSED_SECONDS)


@by_example("kind", "Deployment", "NetworkPolicy", "ConfigMap")
def test_a_deleted_child_is_recreated(agent: Sandbox, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = child_of(agent, kind, "bundle" if kind == "ConfigMap" else "")
    name, before = child["metadata"]["name"], essence(child)
    before.get("spec", {}).pop("clusterIP", None)  # the API server gives a new one
    before.get("spec", {}).pop("clusterIPs", None)
    agent.api.delete(plural, agent.namespace, name)

    def is_back() -> bool:
        found = agent.api.find(plural, agent.namespace, name)
        if found is None or found["metadata"]["uid"] == child["metadata"]["uid"]:
            return False
        now = essence(found)
        now.get("spec", {}).pop("clusterIP", None)
        now.get("spec", {}).pop("clusterIPs", None)
        return now == before

    eventually(is_back, f"the {kind} is back", REFUSED_SECONDS)
    agent.wait_ready("triage")


def test_kubectl_scale_is_undone(agent: Sandbox) -> None:
    name = agent.child("triage", "Deployment")["metadata"]["name"]
    agent.api.scale(agent.namespace, name, 3)
    eventually(lambda: agent.replicas("triage") == 1 and len(agent.pods("triage")) == 1, "one replica", REFUSED_SECONDS)


@requirement("deployment.restart-welcome")
def test_a_rollout_restart_is_welcome(agent: Sandbox) -> None:
    name = agent.child("triage", "Deployment")["metadata"]["name"]
    before = {pod["metadata"]["uid"] for pod in agent.pods("triage")}
    stamp = {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
    change = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    agent.api.patch("deployments", agent.namespace, name, change)

    def is_restarted() -> bool:
        now = {pod["metadata"]["uid"] for pod in agent.pods("triage")}
        return len(now) == 1 and now.isdisjoint(before)

    eventually(is_restarted, "another pod serves", REFUSED_SECONDS)
    annotations = agent.child("triage", "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["kubectl.kubernetes.io/restartedAt"] == stamp["kubectl.kubernetes.io/restartedAt"]


def test_what_resembles_a_child_but_is_not_wanted_is_pruned(agent: Sandbox) -> None:
    child = agent.child("triage", "Role")
    twin = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": child["rules"]}
    kept = {name: child["metadata"][name] for name in ("labels", "ownerReferences")}
    agent.api.create(twin | {"metadata": kept | {"name": "triage-twin"}}, agent.namespace)
    gone = lambda: agent.api.find("roles", agent.namespace, "triage-twin") is None  # noqa: E731
    eventually(gone, "the twin is gone", REFUSED_SECONDS)


def test_drift_while_no_operator_runs_is_healed_by_the_next(agent: Sandbox, operator: OperatorProcess) -> None:
    operator.stop()
    child = agent.child("triage", "Role")
    name = child["metadata"]["name"]
    agent.api.patch("roles", agent.namespace, name, add("/rules/-", EVERYTHING))
    operator.start()
    is_healed = lambda: agent.api.get("roles", agent.namespace, name)["rules"] == child["rules"]  # noqa: E731
    eventually(is_healed, "the Role is healed", REFUSED_SECONDS)


SELECTS_NOTHING = [{"key": "no-such-label", "operator": "Exists"}]


@requirement("deployment.additions", "deployment.healed-on-a-cluster")
def test_an_addition_under_the_operators_own_field_manager_is_healed(agent: Sandbox) -> None:
    child = agent.child("triage", "NetworkPolicy")
    name, before = child["metadata"]["name"], essence(child)
    forged = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": copy.deepcopy(child["spec"])}
    forged["metadata"] = {part: child["metadata"][part] for part in ("name", "labels", "ownerReferences")}
    forged["spec"]["podSelector"]["matchExpressions"] = SELECTS_NOTHING
    assert essence(agent.api.apply(forged, agent.namespace, manager="interlock")) != before

    is_healed = lambda: essence(agent.api.get("networkpolicies", agent.namespace, name)) == before  # noqa: E731
    eventually(is_healed, "the NetworkPolicy selects its pods again", REFUSED_SECONDS)


@requirement("deployment.additions", "deployment.healed-on-a-cluster")
def test_an_addition_that_no_field_manager_owns_is_healed(agent: Sandbox) -> None:
    child = agent.child("triage", "NetworkPolicy")
    name, before = child["metadata"]["name"], essence(child)
    change = [*add("/spec/podSelector/matchExpressions", SELECTS_NOTHING), *add("/metadata/managedFields", [{}])]
    assert "managedFields" not in agent.api.patch("networkpolicies", agent.namespace, name, change)["metadata"]

    is_healed = lambda: essence(agent.api.get("networkpolicies", agent.namespace, name)) == before  # noqa: E731
    eventually(is_healed, "the NetworkPolicy selects its pods again", REFUSED_SECONDS)


@requirement("deployment.names-of-others")
def test_an_object_of_others_stays_as_it_is_and_the_agent_is_stalled_with_its_name(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    spec = {"selector": {"app": "payments-api"}, "ports": [{"port": 80, "targetPort": 8443}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "guard-triage"}, "spec": spec}
    before = sandbox.api.create(service, sandbox.namespace)
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")

    is_stalled = lambda: sandbox.condition("triage", "Stalled").get("reason") == "NameTaken"  # noqa: E731
    eventually(is_stalled, "the Agent is Stalled", REFUSED_SECONDS)

    said = "Service guard-triage exists and does not belong to this Agent; rename the Agent, or run: kubectl"
    for kind in ("Deployed", "Ready", "Stalled"):
        assert sandbox.condition("triage", kind)["message"].startswith(said)
    assert sandbox.api.get("services", sandbox.namespace, "guard-triage") == before
    assert sandbox.pods("triage") == []

    sandbox.api.delete("services", sandbox.namespace, "guard-triage")
    sandbox.wait_ready("triage")


LOST_SECONDS = 40.0
"""The 10 s of the promise, the deletion of the pods, and a slow machine."""
QUOTA = "full"


@requirement("deployment.enforcement-lost-on-a-cluster")
def test_an_agent_whose_network_policy_cannot_be_restored_has_no_pods_until_it_can(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    """A tenant needs no right on NetworkPolicies for this, only a quota, and a policy that was lost."""
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    forbid_new(sandbox, "networkpolicies.networking.k8s.io")

    name = sandbox.child("triage", "NetworkPolicy")["metadata"]["name"]
    sandbox.api.delete("networkpolicies", sandbox.namespace, name)

    def is_lost() -> bool:
        return sandbox.condition("triage", "Ready").get("reason") == "EnforcementLost"

    eventually(is_lost, "enforcement is lost", LOST_SECONDS)
    eventually(lambda: not sandbox.pods("triage") and sandbox.replicas("triage") is None, "no pods", LOST_SECONDS)
    message = sandbox.condition("triage", "Ready")["message"]
    assert name in message
    assert "exceeded quota" in message
    eventually(lambda: operator.metric("interlock_agents_enforcement_lost") == 1, "the metric says so")

    sandbox.api.delete("resourcequotas", sandbox.namespace, QUOTA)

    sandbox.wait_ready("triage", LOST_SECONDS)
    assert sandbox.child("triage", "NetworkPolicy")["metadata"]["name"] == name
    eventually(lambda: operator.metric("interlock_agents_enforcement_lost") == 0, "the metric says so")


def forbid_new(sandbox: Sandbox, resource: str) -> None:
    """Let the API server refuse each new object of a resource in the namespace."""
    quota = {"metadata": {"name": QUOTA}, "spec": {"hard": {f"count/{resource}": "0"}}}
    sandbox.api.request("POST", f"/api/v1/namespaces/{sandbox.namespace}/resourcequotas", quota)

    def is_in_force() -> bool:
        return "hard" in sandbox.api.get("resourcequotas", sandbox.namespace, QUOTA).get("status", {})

    eventually(is_in_force, "the quota is in force", LOST_SECONDS)


ADMISSION = "/apis/admissionregistration.k8s.io/v1"
MIRROR = "registry-mirror.test"


@contextlib.contextmanager
def mirror(api: Api, namespace: str) -> Iterator[None]:
    """Let the API server replace the image of each Deployment's first container, as webhooks for mirrors do."""
    image = (
        "[JSONPatch{op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'mirror.example.com/a:1'}]"
    )
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["*"],
        "resources": ["deployments"],
        "operations": ["CREATE", "UPDATE"],
    }
    selected = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {
        "metadata": {"name": MIRROR},
        "spec": {
            "matchConstraints": {"resourceRules": [rule], **selected},
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": image}}],
        },
    }
    paths = [f"{ADMISSION}/{plural}" for plural in ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")]
    api.request("POST", paths[0], policy)
    api.request("POST", paths[1], {"metadata": {"name": MIRROR}, "spec": {"policyName": MIRROR}})
    try:
        yield
    finally:
        for path in reversed(paths):
            api.request("DELETE", f"{path}/{MIRROR}")


@requirement("operator.idle")
def test_a_webhook_that_changes_a_deployment_is_named_and_its_end_is_noticed(
    operator: OperatorProcess, sandbox: Sandbox
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    own = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "probe"},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "probe"}},
            "template": {
                "metadata": {"labels": {"app": "probe"}},
                "spec": {"containers": [{"name": "a", "image": "example.com/a:1"}]},
            },
        },
    }
    path = f"/apis/apps/v1/namespaces/{sandbox.namespace}/deployments?dryRun=All"

    def image() -> str:
        made = sandbox.api.request("POST", path, own)
        return str(made["spec"]["template"]["spec"]["containers"][0]["image"])

    with mirror(sandbox.api, sandbox.namespace):
        eventually(lambda: image() == "mirror.example.com/a:1", "the policy is in force")
        sandbox.create("triage")
        eventually(
            lambda: (
                "an admission webhook or policy of the cluster changed spec.template.spec.containers[0].image"
                in sandbox.condition("triage", "Deployed").get("message", "")
            ),
            "the status names it",
        )
        assert sandbox.condition("triage", "Deployed")["status"] == "False"
    sandbox.wait_ready("triage", 30.0)
