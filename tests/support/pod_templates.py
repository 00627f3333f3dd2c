"""A value of each field of a pod template that has a switch, and where it arrives in the agent's pod."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from interlock.api.pod_policy import PodFeature
from interlock.governance.pod_features import FEATURES

ALL_FEATURES = [feature.value for feature in PodFeature]


@dataclass(frozen=True)
class FieldCase:
    """One field.

    Attributes:
        members: Members of the template that use the field.
        found: Returns what arrives of it.
        wanted: What must arrive.
    """

    members: dict[str, Any]
    found: Callable[[dict[str, Any]], Any]
    wanted: Any


def _in_pod(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda template: template["spec"].get(name)


def agent_of(template: dict[str, Any]) -> dict[str, Any]:
    """Return the agent's container of a pod template."""
    found: dict[str, Any] = next(one for one in template["spec"]["containers"] if one["name"] == "agent")
    return found


def _in_container(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda template: agent_of(template).get(name)


def _volume(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda template: next((one for one in template["spec"]["volumes"] if one["name"] == name), None)


def _copied(part: Any) -> Any:
    """Return a part of a pod in which the names of copies of ConfigMaps are `copy`."""
    return json.loads(re.sub(r"(triage-[0-9a-f]{10}|crm-verify-[0-9a-f]{14})-map[a-p]?", "copy", json.dumps(part)))


def _whole(name: str, value: Any, *, of_container: bool = False, wanted: Any = None) -> FieldCase:
    found = _in_container(name) if of_container else _in_pod(name)
    return FieldCase({name: value}, found, value if wanted is None else wanted)


_HTTP = {"httpGet": {"path": "/healthz", "port": 9000, "httpHeaders": [{"name": "X-A", "value": "b"}]}}
_TERM = {"labelSelector": {"matchLabels": {"user.interlock.dev/team": "a"}}, "topologyKey": "kubernetes.io/hostname"}
_AFFINITY = {
    "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 5, "podAffinityTerm": _TERM}]},
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["agents"]}]}]
        }
    },
}
_INFO = {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}

_CLAIMS = {
    "readOnly": True,
    "claims": [
        {"environment": "development", "claimName": "files"},
        {"environment": "staging", "claimName": "files"},
        {"environment": "production", "claimName": "other"},
    ],
}

CASES: dict[str, FieldCase] = {
    "imagePullSecrets": _whole("imagePullSecrets", [{"name": "registry"}]),
    "imagePullPolicy": _whole("imagePullPolicy", "Always", of_container=True),
    "metadata.labels": FieldCase(
        {"metadata": {"labels": {"user.interlock.dev/team": "a"}}},
        lambda template: template["metadata"]["labels"].get("user.interlock.dev/team"),
        "a",
    ),
    "metadata.annotations": FieldCase(
        {"metadata": {"annotations": {"user.interlock.dev/ticket": "42 and more"}}},
        lambda template: template["metadata"]["annotations"].get("user.interlock.dev/ticket"),
        "42 and more",
    ),
    "nodeSelector": _whole("nodeSelector", {"pool": "agents"}),
    "tolerations": _whole("tolerations", [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]),
    "affinity": _whole("affinity", _AFFINITY),
    "topologySpreadConstraints": _whole(
        "topologySpreadConstraints",
        [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"user.interlock.dev/team": "a"}},
            }
        ],
    ),
    "startupProbe": _whole("startupProbe", {**_HTTP, "failureThreshold": 30}, of_container=True),
    "livenessProbe": _whole("livenessProbe", {"exec": {"command": ["alive"]}, "periodSeconds": 5}, of_container=True),
    "readinessProbe": _whole(
        "readinessProbe", {"grpc": {"port": 9000, "service": "x"}, "successThreshold": 2}, of_container=True
    ),
    "env[].valueFrom.configMapKeyRef": FieldCase(
        {"env": [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}}]},
        lambda template: next((_copied(one) for one in agent_of(template)["env"] if one["name"] == "LEVEL"), None),
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "copy", "key": "level"}}},
    ),
    "envFrom": FieldCase(
        {"envFrom": [{"prefix": "APP_", "configMapRef": {"name": "settings"}}]},
        lambda template: _copied(agent_of(template).get("envFrom")),
        [{"prefix": "APP_", "configMapRef": {"name": "copy"}}],
    ),
    "volumes[].configMap": FieldCase(
        {"volumes": [{"name": "files", "configMap": {"name": "settings", "items": [{"key": "a", "path": "b/a"}]}}]},
        lambda template: _copied(_volume("user-files")(template)),
        {"name": "user-files", "configMap": {"name": "copy", "items": [{"key": "a", "path": "b/a"}]}},
    ),
    "volumes[].projected.sources[].configMap": FieldCase(
        {"volumes": [{"name": "files", "projected": {"sources": [{"configMap": {"name": "settings"}}]}}]},
        lambda template: _copied(_volume("user-files")(template)),
        {"name": "user-files", "projected": {"sources": [{"configMap": {"name": "copy"}}]}},
    ),
    "env[].valueFrom.fieldRef": FieldCase(
        {"env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]},
        lambda template: next((one for one in agent_of(template)["env"] if one["name"] == "NODE"), None),
        {"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}},
    ),
    "volumes[].projected.sources[].downwardAPI": FieldCase(
        {"volumes": [{"name": "info", "projected": {"sources": [_INFO]}}]},
        _volume("user-info"),
        {
            "name": "user-info",
            "projected": {
                "sources": [
                    {
                        "downwardAPI": {
                            "items": [
                                {
                                    "path": "labels",
                                    "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"},
                                }
                            ]
                        }
                    }
                ]
            },
        },
    ),
    "volumes[].emptyDir": FieldCase(
        {"volumes": [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}]},
        _volume("user-data"),
        {"name": "user-data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
    ),
    "volumes[].persistentVolumeClaim": FieldCase(
        {"volumes": [{"name": "state", "persistentVolumeClaim": _CLAIMS}]},
        _volume("user-state"),
        {"name": "user-state", "persistentVolumeClaim": {"claimName": "files", "readOnly": True}},
    ),
    "workingDir": _whole("workingDir", "/app", of_container=True),
    "ports": FieldCase(
        {"ports": [{"name": "http", "containerPort": 8080}]},
        _in_container("ports"),
        [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
    ),
    "runtimeClassName": _whole("runtimeClassName", "gvisor"),
    "priorityClassName": _whole("priorityClassName", "agents"),
    "securityContext": FieldCase(
        {"securityContext": {"runAsUser": 20000, "runAsGroup": 20001}},
        lambda template: [agent_of(template)["securityContext"][name] for name in ("runAsUser", "runAsGroup")],
        [20000, 20001],
    ),
}
"""The cases by the paths of `FEATURES`."""


EVERY_FIELD: dict[str, Any] = {
    **{name: value for case in CASES.values() for name, value in case.members.items()},
    "metadata": {"labels": {"user.interlock.dev/team": "a"}, "annotations": {"user.interlock.dev/ticket": "42"}},
    "volumes": [
        *CASES["volumes[].projected.sources[].downwardAPI"].members["volumes"],
        *CASES["volumes[].emptyDir"].members["volumes"],
    ],
    "terminationGracePeriodSeconds": 30,
}
"""Members of a template that use every field with a switch."""


def switched_fields() -> list[tuple[PodFeature, str]]:
    """Return each field that a policy can withhold, with its feature."""
    return [(feature, member) for feature, members in FEATURES.items() for member in members]


def server_of(template: dict[str, Any]) -> dict[str, Any]:
    """Return the container of the source `crm`."""
    containers = (*template["spec"].get("initContainers", ()), *template["spec"]["containers"])
    found: dict[str, Any] = next(one for one in containers if one["name"] == "mcp-crm")
    return found


def _in_server(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda template: server_of(template).get(name)


_VARIABLE = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
_READY = {"exec": {"command": ["ready"]}, "periodSeconds": 5}

SERVER_CASES: dict[str, FieldCase] = {
    **{member: CASES[member] for member in ("imagePullSecrets", "nodeSelector", "tolerations")},
    **{
        member: FieldCase(CASES[member].members, _in_server(member), CASES[member].wanted)
        for member in ("imagePullPolicy", "workingDir")
    },
    "readinessProbe": FieldCase({"readinessProbe": _READY}, _in_server("readinessProbe"), _READY),
    "env[].valueFrom.configMapKeyRef": FieldCase(
        CASES["env[].valueFrom.configMapKeyRef"].members,
        lambda template: _copied(server_of(template).get("env")),
        [CASES["env[].valueFrom.configMapKeyRef"].wanted],
    ),
    "envFrom": FieldCase(
        CASES["envFrom"].members,
        lambda template: _copied(server_of(template).get("envFrom")),
        CASES["envFrom"].wanted,
    ),
    **{
        member: FieldCase(
            CASES[member].members,
            lambda template: _copied(_volume("srv0-files")(template)),
            {**CASES[member].wanted, "name": "srv0-files"},
        )
        for member in ("volumes[].configMap", "volumes[].projected.sources[].configMap")
    },
    "env[].valueFrom.fieldRef": FieldCase(
        {"env": [_VARIABLE]},
        _in_server("env"),
        [{"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
    ),
    "volumes[].projected.sources[].downwardAPI": FieldCase(
        CASES["volumes[].projected.sources[].downwardAPI"].members,
        _volume("srv0-info"),
        {**CASES["volumes[].projected.sources[].downwardAPI"].wanted, "name": "srv0-info"},
    ),
    "volumes[].emptyDir": FieldCase(
        CASES["volumes[].emptyDir"].members,
        _volume("srv0-data"),
        {**CASES["volumes[].emptyDir"].wanted, "name": "srv0-data"},
    ),
    "securityContext": FieldCase(
        {"securityContext": {"runAsUser": 20000}},
        lambda template: server_of(template)["securityContext"]["runAsUser"],
        20000,
    ),
}
"""The cases of a stdio server, by the same paths, and where they arrive in the pod that it runs in."""
