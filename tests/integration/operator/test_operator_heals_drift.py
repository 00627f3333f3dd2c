"""Whatever is done to a child, it is as it was within ten seconds: changed, emptied, added to, deleted."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.operator.api import CHILD_KINDS, Json, eventually
from tests.integration.operator.world import REFUSED_SECONDS, Room
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = pytest.mark.api

POD = "/spec/template/spec"
INTRUDER = {
    "name": "intruder",
    "image": "registry.example.com/intruder:1.0",
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}
EVERYTHING = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
SOMEBODY = {"kind": "ServiceAccount", "name": "somebody", "namespace": "default"}


@dataclass(frozen=True)
class Drift:
    """One way in which a child can be tampered with, as JSON patch operations or a merge patch."""

    what: str
    kind: str
    change: Any
    part: str = ""


def _add(path: str, value: Any) -> list[Json]:
    return [{"op": "add", "path": path, "value": value}]


def _remove(path: str) -> list[Json]:
    return [{"op": "remove", "path": path}]


DRIFTS = [
    Drift("an image is changed", "Deployment", _add(f"{POD}/containers/0/image", "registry.example.com/evil:1.0")),
    Drift("the token is mounted", "Deployment", _add(f"{POD}/automountServiceAccountToken", value=True)),
    Drift("a probe is removed", "Deployment", _remove(f"{POD}/initContainers/0/startupProbe")),
    Drift("the guard is removed", "Deployment", _remove(f"{POD}/initContainers/0")),
    Drift("a container is added", "Deployment", _add(f"{POD}/containers/-", INTRUDER)),
    Drift("an init container is added", "Deployment", _add(f"{POD}/initContainers/-", INTRUDER)),
    Drift("a variable is added", "Deployment", _add(f"{POD}/containers/0/env/-", {"name": "X", "value": "1"})),
    Drift("a variable is changed", "Deployment", _add(f"{POD}/containers/0/env/0/value", "other")),
    Drift("a volume is added", "Deployment", _add(f"{POD}/volumes/-", {"name": "x", "emptyDir": {}})),
    Drift("the pod gets a label", "Deployment", _add("/spec/template/metadata/labels/x", "y")),
    Drift("the bundle is changed", "ConfigMap", {"data": {"bundle.json": "{}"}}, "bundle"),
    Drift("the bundle gets a key", "ConfigMap", {"data": {"more": "x"}}, "bundle"),
    Drift("the bundle is emptied", "ConfigMap", _remove("/data"), "bundle"),
    Drift("a rule is added to the Role", "Role", _add("/rules/-", EVERYTHING)),
    Drift("the Role is emptied", "Role", _add("/rules", [])),
    Drift("a verb is added to the Role", "Role", _add("/rules/0/verbs/-", "delete")),
    Drift("a subject is added", "RoleBinding", _add("/subjects/-", SOMEBODY)),
    Drift("a way in is added", "NetworkPolicy", _add("/spec/ingress/-", {})),
    Drift("a way out is added", "NetworkPolicy", _add("/spec/egress/-", {})),
    Drift("egress is no longer limited", "NetworkPolicy", {"spec": {"policyTypes": ["Ingress"]}}),
    Drift("the Service points elsewhere", "Service", {"spec": {"selector": {"interlock.dev/agent": "other"}}}),
    Drift("the Service selects more narrowly", "Service", {"spec": {"selector": {"more": "x"}}}),
    Drift("the Service gets a port", "Service", _add("/spec/ports/-", {"name": "agent", "port": 80})),
    Drift("the ServiceAccount mounts tokens", "ServiceAccount", {"automountServiceAccountToken": True}),
]


@pytest.fixture
def agent(operator: OperatorProcess, shared_room: Room) -> Room:
    """A room with one Agent, `triage`, that is Ready."""
    if not shared_room.api.listed("agents", shared_room.namespace):
        shared_room.furnish("triage")
        shared_room.create("triage")
    shared_room.wait_ready("triage")
    return shared_room


def essence(child: Json) -> Json:
    """Return what must not drift of a child."""
    left_out = ("apiVersion", "kind", "metadata", "status")
    wanted = copy.deepcopy({name: value for name, value in child.items() if name not in left_out})
    metadata = child["metadata"]
    return wanted | {"labels": metadata["labels"], "owners": metadata["ownerReferences"]}


def heal(room: Room, drift: Drift) -> None:
    """Tamper with a child and wait until it is as it was, and stays so."""
    plural = CHILD_KINDS[drift.kind]
    child = room.child("triage", drift.kind, drift.part)
    name, before = child["metadata"]["name"], essence(child)
    tampered = room.api.patch(plural, room.namespace, name, drift.change)
    assert essence(tampered) != before, "the change must have changed something"

    def is_healed() -> bool:
        return essence(room.api.get(plural, room.namespace, name)) == before

    eventually(is_healed, f"{drift.kind} is healed: {drift.what}", REFUSED_SECONDS)
    room.wait_ready("triage")
    assert is_healed()


@requirement("deployment.healed-on-a-cluster", "deployment.additions")
@pytest.mark.parametrize("drift", DRIFTS, ids=lambda drift: drift.what.replace(" ", "-"))
@requirement("deployment.healed-on-a-cluster")
def test_a_child_is_healed_when(agent: Room, drift: Drift) -> None:
    heal(agent, drift)


@pytest.mark.parametrize("kind", [kind for kind in CHILD_KINDS if kind != "ConfigMap"])
def test_a_child_whose_owner_is_taken_away_gets_it_back(agent: Room, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = agent.child("triage", kind)
    name, before = child["metadata"]["name"], child["metadata"]["ownerReferences"]
    agent.api.patch(plural, agent.namespace, name, _remove("/metadata/ownerReferences"))

    def owners() -> Any:
        return agent.api.get(plural, agent.namespace, name)["metadata"].get("ownerReferences")

    eventually(lambda: owners() == before, f"the {kind} has its owner again", REFUSED_SECONDS)


@pytest.mark.parametrize("kind", [kind for kind in CHILD_KINDS if kind != "ConfigMap"])
def test_a_child_whose_labels_are_taken_away_gets_them_back(agent: Room, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = agent.child("triage", kind)
    name, before = child["metadata"]["name"], child["metadata"]["labels"]
    agent.api.patch(plural, agent.namespace, name, _remove("/metadata/labels"))

    def labels() -> Any:
        return agent.api.get(plural, agent.namespace, name)["metadata"].get("labels")

    eventually(lambda: labels() == before, f"the {kind} has its labels again", REFUSED_SECONDS)


@pytest.mark.parametrize("kind", CHILD_KINDS)
def test_a_deleted_child_is_made_anew(agent: Room, kind: str) -> None:
    plural = CHILD_KINDS[kind]
    child = agent.child("triage", kind, "bundle" if kind == "ConfigMap" else "")
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


def test_kubectl_scale_is_undone(agent: Room) -> None:
    name = agent.child("triage", "Deployment")["metadata"]["name"]
    agent.api.scale(agent.namespace, name, 3)
    eventually(lambda: agent.replicas("triage") == 1 and len(agent.pods("triage")) == 1, "one replica", REFUSED_SECONDS)


@requirement("deployment.restart-welcome")
def test_a_rollout_restart_is_welcome(agent: Room) -> None:
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


def test_what_looks_like_a_child_but_is_not_wanted_is_pruned(agent: Room) -> None:
    child = agent.child("triage", "Role")
    twin = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": child["rules"]}
    kept = {name: child["metadata"][name] for name in ("labels", "ownerReferences")}
    agent.api.create(twin | {"metadata": kept | {"name": "triage-twin"}}, agent.namespace)
    gone = lambda: agent.api.find("roles", agent.namespace, "triage-twin") is None  # noqa: E731
    eventually(gone, "the twin is gone", REFUSED_SECONDS)


def test_drift_while_no_operator_runs_is_healed_by_the_next(agent: Room, operator: OperatorProcess) -> None:
    operator.stop()
    child = agent.child("triage", "Role")
    name = child["metadata"]["name"]
    agent.api.patch("roles", agent.namespace, name, _add("/rules/-", EVERYTHING))
    operator.start()
    is_healed = lambda: agent.api.get("roles", agent.namespace, name)["rules"] == child["rules"]  # noqa: E731
    eventually(is_healed, "the Role is healed", REFUSED_SECONDS)
