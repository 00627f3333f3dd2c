"""Pod templates that the API server must admit, and those that it must refuse with their messages."""

from dataclasses import replace
from typing import Any

from interlock.api.agent import Agent
from interlock.api.pod_policy import DEFAULT_FEATURES, PodFeature
from interlock.api.pod_template import SAFE_TO_EVICT
from interlock.api.policy import AgentPolicy
from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.plan import desired_children
from interlock.governance.pod_features import digest_refusals, template_refusals
from tests.integration.config_map_objects import KEPT
from tests.integration.kubectl import AGENT, BINDING, POLICY, edited
from tests.support.builders import GUARD_IMAGE, a_binding, a_placement, a_separate_placement, an_agent
from tests.support.pod_templates import CASES, EVERY_FIELD, SERVER_CASES, switched_fields

KEY_WITHOUT_PREFIX = "keys of labels and annotations need a prefix, such as user.interlock.dev/team"
NO_LIMIT = "not a quantity above 0"
KEY_RESERVED = "keys of kubernetes.io, k8s.io and interlock.dev are reserved: write user.interlock.dev/ as the prefix"
MOUNT_RESERVED = "is a path of Interlock or of the kubelet, or above one: mount the volume elsewhere"
ID_RESERVED = "2000 and 10000 to 10099 are users and groups of Interlock's containers: write another number"
ONE_KIND = "a volume of an agent needs exactly one kind"
PORT_RESERVED = "ports 7410 to 7419 are reserved for Interlock"
NO_PROBE_PORT = "not a port of the container: write its number, which is none of 7410 to 7419"


def volume(path: str = "/data", **kind: Any) -> dict[str, Any]:
    mounts = [{"name": "v", "mountPath": path}]
    return {"volumes": [{"name": "v", **(kind or {"emptyDir": {}})}], "volumeMounts": mounts}


def labels(**values: str) -> dict[str, Any]:
    return {"metadata": {"labels": values}}


_BAD: list[tuple[dict[str, Any], str]] = [
    (labels(app="web"), KEY_WITHOUT_PREFIX),
    (labels(**{"interlock.dev/agent": "another"}), KEY_RESERVED),
    (labels(**{"app.kubernetes.io/name": "another"}), KEY_RESERVED),
    (labels(**{"x.user.interlock.dev/team": "a"}), KEY_RESERVED),
    (labels(**{"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}), KEY_RESERVED),
    (labels(**{"example.com/team": "a b"}), "has a key or a value that is not valid in a label"),
    (labels(**{f"example.com/{number}": "x" for number in range(9)}), "must have at most 8 items"),
    ({"metadata": {"annotations": {"owner": "x"}}}, KEY_WITHOUT_PREFIX),
    ({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/agent": "x"}}}, KEY_RESERVED),
    (volume("/etc"), MOUNT_RESERVED),
    (volume("/var/run/secrets/interlock"), MOUNT_RESERVED),
    (volume("/data/../etc"), "is not an absolute path"),
    (volume(emptyDir={"medium": "HugePages"}), "Unsupported value"),
    (volume(emptyDir={}, projected={"sources": []}), ONE_KIND),
    (
        volume(projected={"sources": [{}]}),
        "a source of a projected volume needs exactly one of configMap and downwardAPI",
    ),
    (volume(secret={"secretName": "x"}), ONE_KIND),
    (volume(hostPath={"path": "/"}), ONE_KIND),
    ({"volumeMounts": [{"name": "gone", "mountPath": "/data"}]}, "a mount names no volume"),
    ({"securityContext": {"runAsUser": 0}}, "should be greater than or equal to 1"),
    ({"securityContext": {"runAsUser": 10001}}, ID_RESERVED),
    ({"securityContext": {"runAsGroup": 2000}}, ID_RESERVED),
    ({"ports": [{"containerPort": 7412}]}, PORT_RESERVED),
    ({"ports": [{"name": "tasks", "containerPort": 8080}]}, "are names of the guard's ports"),
    ({"ports": [{"name": "a--b", "containerPort": 8080}]}, '"a--b" is not the name of a port'),
    ({"ports": [{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]}, "two ports have the same name"),
    ({"livenessProbe": {"httpGet": {"port": 7411}}}, NO_PROBE_PORT),
    ({"readinessProbe": {"tcpSocket": {"port": "observe"}}}, NO_PROBE_PORT),
    ({"startupProbe": {"grpc": {"port": 7412}}}, PORT_RESERVED),
    ({"livenessProbe": {"httpGet": {"port": 80, "path": "x"}}}, '"x" is not the path of a request'),
    ({"livenessProbe": {"periodSeconds": 5}}, "a probe needs exactly one of exec, httpGet, tcpSocket and grpc"),
    ({"env": [{"name": "A=B"}]}, '"A=B" is not an environment variable'),
    ({"env": [{"name": "A", "valueFrom": {}}]}, "valueFrom needs exactly one of configMapKeyRef and fieldRef"),
    (
        {"env": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
        "environment variable A needs exactly one of value and valueFrom",
    ),
    (
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}]},
        '"status.hostIP" is not a field of a pod for a variable',
    ),
    ({"workingDir": "app"}, '"app" is not an absolute path of a folder'),
    ({"nodeSelector": {"a b": "c"}}, "has a key or a value that is not valid in a label"),
    ({"tolerations": [{"operator": "Equal"}]}, "a toleration without a key needs operator Exists"),
    ({"priorityClassName": "system-node-critical"}, "is reserved for Kubernetes or for the kill controller"),
    ({"priorityClassName": "A"}, '"A" is not the name of a class'),
    ({"runtimeClassName": "A"}, '"A" is not the name of a class'),
    ({"resources": {"limits": {"memory": 0}}}, NO_LIMIT),
    ({"resources": {"limits": {"cpu": "0m"}}}, NO_LIMIT),
    (volume("/v", emptyDir={"sizeLimit": "0"}), NO_LIMIT),
    ({"terminationGracePeriodSeconds": 0}, "should be greater than or equal to 1"),
    ({"terminationGracePeriodSeconds": 301}, "should be less than or equal to 300"),
]
"""Members of a template with a part of the message."""

_GOOD: list[dict[str, Any]] = [
    *(CASES[member].members for feature, member in switched_fields() if feature in DEFAULT_FEATURES),
    volume("/tmp/cache"),  # noqa: S108 - a path in the container
    {"metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}},
    {"metadata": {"labels": {"example.com/team": "a"}}},  # which the policy may list
    {"env": [{"name": "my-app.log level", "value": "info"}]},
    {"envFrom": [{"prefix": "my-app.", "configMapRef": {"name": "settings"}}]},
    {"resources": {"requests": {"cpu": 0, "memory": "0"}, "limits": {"cpu": "1m", "memory": 1}}},
    {"livenessProbe": {"httpGet": {"port": "http"}}, "ports": [{"name": "http", "containerPort": 8080}]},
]

_BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({"allow": ["Secrets"]}, "Unsupported value"),
    ({"metadataKeys": ["team"]}, '"team" is not a key or the keys of a prefix'),
    ({"max": {"memory": 0}}, NO_LIMIT),
    ({"max": {"emptyDir": "-1Gi"}}, NO_LIMIT),
    ({"maxTerminationGracePeriodSeconds": 0}, "should be greater than or equal to 1"),
    ({"imageReferences": "Tag"}, "Unsupported value"),
    ({"default": {"tolerations": [{}]}}, "a toleration without a key needs operator Exists"),
]

_METADATA: dict[str, Any] = {
    "metadata": {
        "labels": {"user.interlock.dev/team": "a", "example.com/b": "c"},
        "annotations": {
            SAFE_TO_EVICT: "false",
            "user.interlock.dev/team": "a",
            "example.org/c": "d",
            "example.net/b": "e",
        },
    }
}
_AMOUNTS: dict[str, Any] = {
    "resources": {"requests": {"cpu": "1500m", "memory": "2048Mi"}, "limits": {"cpu": "1.5", "memory": 2147483648}},
    "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": "2Gi"}}, {"name": "plain", "emptyDir": {}}],
}
DIGEST = f"registry.example.com/agent@sha256:{'0' * 64}"
_JUDGED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "every field of a template, none allowed": ({"allow": []}, EVERY_FIELD),
    "every field of a template by default": ({}, EVERY_FIELD),
    "every field of a template, all allowed": (
        {"allow": [one.value for one in PodFeature], "maxTerminationGracePeriodSeconds": 30},
        EVERY_FIELD,
    ),
    "keys of metadata that are not listed": ({"metadataKeys": ["example.com/a", "example.net/*"]}, _METADATA),
    "keys of metadata that are listed": (
        {"metadataKeys": ["example.com/*", "example.net/b", "example.org/c"]},
        _METADATA,
    ),
    "amounts above the largest ones": ({"max": {"cpu": 1, "memory": "1Gi", "emptyDir": "1Gi"}}, _AMOUNTS),
    "amounts that are the largest ones": ({"max": {"cpu": "1500m", "memory": "2Gi", "emptyDir": "2Gi"}}, _AMOUNTS),
    "amounts of which one kind alone has a maximum": ({"max": {"memory": "1Gi"}}, _AMOUNTS),
    **{
        f"one amount above the largest one, {group}.{kind}": (
            {"max": {"cpu": 1, "memory": "1Gi"}},
            {"resources": {group: {kind: "2Gi" if kind == "memory" else 2}}},
        )
        for group in ("requests", "limits")
        for kind in ("cpu", "memory")
    },
    "a tag where a digest is required": ({"imageReferences": "Digest"}, {}),
    "a digest": ({"imageReferences": "Digest"}, {"image": DIGEST}),
}
"""The policy's podTemplate, and the members of a template that admission and Python judge alike."""


def _agent(members: dict[str, Any]) -> dict[str, Any]:
    return edited(AGENT, **{f"spec__template__{name}": value for name, value in members.items()})


def _policy(rules: dict[str, Any]) -> dict[str, Any]:
    return edited(POLICY, spec__rollout={}, spec__podTemplate=rules)


def refusals_of_template(agent: Agent, policy: AgentPolicy) -> list[str]:
    """Return what the reconciler refuses of an agent's template."""
    template, name, rules = agent.spec.template, policy.metadata.name, policy.spec.pod_template
    images = {"spec.template.image": template.image}
    return [*template_refusals(template, name, rules), *digest_refusals(images, name, rules)]


def _binding(members: dict[str, Any]) -> dict[str, Any]:
    return edited(BINDING, **{f"spec__server__stdio__{name}": value for name, value in members.items()})


_BAD_SERVERS: list[tuple[dict[str, Any], str]] = [
    (volume("/run/interlock/pipes"), MOUNT_RESERVED),
    (volume(secret={"secretName": "x"}), "a volume needs exactly one of configMap, emptyDir and projected"),
    ({"volumeMounts": [{"name": "gone", "mountPath": "/data"}]}, "a mount names no volume"),
    ({"securityContext": {"runAsUser": 10001}}, ID_RESERVED),
    ({"resources": {"limits": {"memory": "0"}}}, NO_LIMIT),
    (volume("/v", emptyDir={"sizeLimit": 0}), NO_LIMIT),
    ({"securityContext": {}}, "runAsUser: Required value"),
    ({"readinessProbe": {"httpGet": {"port": 80}}}, "exec: Required value"),
    ({"workingDir": "app"}, '"app" is not an absolute path of a folder'),
]


def children_with_templates() -> list[dict[str, Any]]:
    """Return the objects of an agent whose template, and whose server's, use every field, and of one with a claim."""
    agent, binding = an_agent("template"), a_binding()
    for case in SERVER_CASES.values():
        binding = binding.with_server(**case.members)
    found: list[dict[str, Any]] = []
    for placement in (a_placement, a_separate_placement):
        made = placement(agent.with_template(**EVERY_FIELD), bindings=(binding,))
        found += desired_children(replace(made, config_maps=KEPT))
    keeping = an_agent("keeping").with_claims(files={"development": "files"})
    found += desired_children(a_separate_placement(keeping))
    run = VerificationTarget(binding.named("template").build(), 1, GUARD_IMAGE, config_maps=KEPT)
    return [*found, build_job(run)]


REFUSED = [
    *((_binding(members), message) for members, message in _BAD_SERVERS),
    *((_agent(members), message) for members, message in _BAD),
    *((_policy(rules), message) for rules, message in _BAD_RULES),
]
"""What the API server must refuse, with a part of the message."""
GOOD = [*(_agent(members) for members in _GOOD), *(_binding(case.members) for case in SERVER_CASES.values())]
"""What it must admit."""
JUDGED = {name: (_policy(rules), _agent(members)) for name, (rules, members) in _JUDGED.items()}
"""Policies and Agents that admission and Python judge alike."""
