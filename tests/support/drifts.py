"""What can be done to a child of an Agent, and must not last."""

import copy
from dataclasses import dataclass
from typing import Any

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
OTHER_SUBJECT = {"kind": "ServiceAccount", "name": "another", "namespace": "default"}


@dataclass(frozen=True)
class Drift:
    """One way in which a child can be tampered with.

    Attributes:
        what: In words.
        kind: The child's.
        change: JSON patch operations, or a merge patch.
        part: The child's component, where there are two of a kind.
        is_example: True if it represents its kind where each one costs time.
        adds_a_key: Nothing of ours is other than desired: the digest of what our write left gives it away.
    """

    what: str
    kind: str
    change: Any
    part: str = ""
    is_example: bool = False
    adds_a_key: bool = False


def add(path: str, value: Any) -> list[dict[str, Any]]:
    return [{"op": "add", "path": path, "value": value}]


def remove(path: str) -> list[dict[str, Any]]:
    return [{"op": "remove", "path": path}]


DRIFTS = [
    Drift(
        "an image is changed",
        "Deployment",
        add(f"{POD}/containers/0/image", "registry.example.com/evil:1.0"),
        is_example=True,
    ),
    Drift("the token is mounted", "Deployment", add(f"{POD}/automountServiceAccountToken", value=True)),
    Drift("a probe is removed", "Deployment", remove(f"{POD}/initContainers/0/startupProbe")),
    Drift("the guard is removed", "Deployment", remove(f"{POD}/initContainers/0"), is_example=True),
    Drift("a container is added", "Deployment", add(f"{POD}/containers/-", INTRUDER), is_example=True),
    Drift("an init container is added", "Deployment", add(f"{POD}/initContainers/-", INTRUDER)),
    Drift("a variable is added", "Deployment", add(f"{POD}/containers/0/env/-", {"name": "X", "value": "1"})),
    Drift("a variable is changed", "Deployment", add(f"{POD}/containers/0/env/0/value", "other")),
    Drift("a volume is added", "Deployment", add(f"{POD}/volumes/-", {"name": "x", "emptyDir": {}})),
    Drift("the pod gets a label", "Deployment", add("/spec/template/metadata/labels/x", "y"), adds_a_key=True),
    Drift("the pod uses the node's network", "Deployment", add(f"{POD}/hostNetwork", value=True), adds_a_key=True),
    Drift("containers see each other", "Deployment", add(f"{POD}/shareProcessNamespace", value=True), adds_a_key=True),
    Drift(
        "the agent's environment comes from a Secret",
        "Deployment",
        add(f"{POD}/containers/0/envFrom", [{"secretRef": {"name": "crm"}}]),
        is_example=True,
        adds_a_key=True,
    ),
    Drift(
        "a command runs at the agent's start",
        "Deployment",
        add(f"{POD}/containers/0/lifecycle", {"postStart": {"exec": {"command": ["sh"]}}}),
        adds_a_key=True,
    ),
    Drift("volumes have a group", "Deployment", add(f"{POD}/securityContext/fsGroup", 2000), adds_a_key=True),
    Drift("the pod has another account", "Deployment", add(f"{POD}/serviceAccountName", "default")),
    Drift(
        "the NetworkPolicy selects no pod",
        "NetworkPolicy",
        add("/spec/podSelector/matchExpressions", [{"key": "no-such-label", "operator": "Exists"}]),
        is_example=True,
        adds_a_key=True,
    ),
    Drift("the bundle is changed", "ConfigMap", {"data": {"bundle.json": "{}"}}, "bundle", is_example=True),
    Drift("the bundle gets a key", "ConfigMap", {"data": {"more": "x"}}, "bundle", is_example=True, adds_a_key=True),
    Drift(
        "the bundle is changed and made immutable",
        "ConfigMap",
        {"data": {"bundle.json": "{}"}, "immutable": True},
        "bundle",
        is_example=True,
    ),
    Drift("the bundle is emptied", "ConfigMap", remove("/data"), "bundle", is_example=True),
    Drift("a rule is added to the Role", "Role", add("/rules/-", EVERYTHING)),
    Drift("the Role is emptied", "Role", add("/rules", [])),
    Drift("a verb is added to the Role", "Role", add("/rules/0/verbs/-", "delete"), is_example=True),
    Drift("a subject is added", "RoleBinding", add("/subjects/-", OTHER_SUBJECT), is_example=True),
    Drift("a way in is added", "NetworkPolicy", add("/spec/ingress/-", {})),
    Drift("a way out is added", "NetworkPolicy", add("/spec/egress/-", {}), is_example=True),
    Drift("egress is no longer limited", "NetworkPolicy", {"spec": {"policyTypes": ["Ingress"]}}, is_example=True),
    Drift(
        "the Service points elsewhere",
        "Service",
        {"spec": {"selector": {"app": "other"}}},
        is_example=True,
    ),
    Drift("the Service selects more narrowly", "Service", {"spec": {"selector": {"more": "x"}}}),
    Drift("the Service gets a port", "Service", add("/spec/ports/-", {"name": "agent", "port": 80})),
    Drift(
        "the ServiceAccount mounts tokens", "ServiceAccount", {"automountServiceAccountToken": True}, is_example=True
    ),
]


def tampered(child: dict[str, Any], drift: Drift) -> dict[str, Any]:
    """Return what the API server makes of the change: a copy of the child."""
    result = copy.deepcopy(child)
    if isinstance(drift.change, dict):
        _merge(result, drift.change)
        return result
    for operation in drift.change:
        *parents, last = operation["path"].removeprefix("/").split("/")
        node: Any = result
        for parent in parents:
            node = node[int(parent) if isinstance(node, list) else parent]
        if isinstance(node, list):
            place = len(node) if last == "-" else int(last)
            is_removal = operation["op"] == "remove"
            node[place : place + is_removal] = [] if is_removal else [operation["value"]]
        elif operation["op"] == "remove":
            del node[last]
        else:
            node[last] = operation["value"]
    return result


def _merge(node: dict[str, Any], change: dict[str, Any]) -> None:
    for name, value in change.items():
        if isinstance(value, dict) and isinstance(node.get(name), dict):
            _merge(node[name], value)
        else:
            node[name] = value
