"""What verifies the server of an MCPBinding: a Job that runs it as for an agent, beside the guard's own client.

The Job's identity may write one ConfigMap, its result, and nothing else. Each run has a Job of its own name, so that
what was begun for another spec, or for an earlier run, is never taken for this one.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from interlock.api.binding import MCPBinding
from interlock.api.shared_types import parse_duration
from interlock.deployment.children.config import build_grant, compile_source
from interlock.deployment.children.network import verification_egress
from interlock.deployment.children.pod import (
    PIPES_VOLUME,
    TOKEN_VOLUME,
    build_pipes_volume,
    build_server,
    build_token_volume,
    container_security,
    pod_security,
)
from interlock.deployment.children.upstreams import mount_secrets, project_secrets
from interlock.deployment.names import Manifest, binding_label, mcp_volume, verification_name
from interlock.deployment.placement import ApiServerAddress, BoundSource
from interlock_contract.bundle import BUNDLE_KEY, SCHEMA_VERSION, AgentIdentity, Bundle, dump_bundle
from interlock_contract.names import (
    API_VERSION,
    APP_COMPONENT_LABEL,
    APP_INSTANCE_LABEL,
    APP_MANAGED_BY_LABEL,
    APP_NAME_LABEL,
    APP_PART_OF_LABEL,
    BINDING_LABEL,
    MANAGED_BY,
    PART_OF,
)
from interlock_contract.pod import (
    CONFIG_PATH,
    FIRST_SERVER_UID,
    GUARD_GID,
    GUARD_UID,
    NAMESPACE_VARIABLE,
    PIPES_PATH,
    RESULT_VARIABLE,
    SOURCE_VARIABLE,
    TOKEN_PATH,
)
from interlock_contract.verification import PLAN_KEY, PlannedProbe, VerificationPlan, dump_plan

JOB = "Job"
COMPONENT = "verification"
PLAN_VOLUME = "plan"
KEEP_SECONDS = 600
"""How long an ended Job and its log are kept."""
LEAST_SECONDS = 300
"""How long a run may take, its probes aside: images are pulled, the server is greeted and lists its tools."""
NOBODY = "verification"
"""Name that the bundle has for agent, stage and environment: no agent is there."""


@dataclass(frozen=True)
class VerificationTarget:
    """One verification of one binding.

    Attributes:
        binding: The MCPBinding, as applied.
        number: Which one it is.
        guard_image: The image of the guards, which brings the verifier.
    """

    binding: MCPBinding
    number: int
    guard_image: str

    @property
    def id(self) -> str:
        """What names this one run: another spec, another number, another binding of the name is another run."""
        text = f"{self.binding.metadata.uid}/{plan_digest(self.binding, self.guard_image)}/{self.number}"
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def job(self) -> str:
        """Name of its Job."""
        return f"{verification_name(self.binding.metadata.name)}-{self.id}"

    @property
    def seconds(self) -> int:
        """How long it may take."""
        probes = self.binding.spec.verify.probes
        return LEAST_SECONDS + sum(int(parse_duration(probe.max_latency).total_seconds()) + 1 for probe in probes)


def plan_digest(binding: MCPBinding, guard_image: str) -> str:
    """Return the digest of everything in a binding that a verification depends on."""
    spec = binding.spec.model_dump(by_alias=True, mode="json", exclude={"environments"})
    spec["verify"].pop("interval")
    text = json.dumps([guard_image, spec], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def result_name(binding: MCPBinding) -> str:
    """Return the name of the ConfigMap that the verifier writes its result to."""
    return f"{verification_name(binding.metadata.name)}-result"


def pinned_name(binding: MCPBinding) -> str:
    """Return the name of the ConfigMap that keeps the tools as they were pinned, for a later diff."""
    return f"{verification_name(binding.metadata.name)}-pinned"


def build_support(run: VerificationTarget, api_server: ApiServerAddress) -> tuple[Manifest, ...]:
    """Return what stands as long as the binding does: identity, its one right, its network, the place of the result."""
    binding, name = run.binding, verification_name(run.binding.metadata.name)
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [result_name(binding)], "verbs": ["patch"]}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": binding.metadata.namespace}
    return (
        _child(binding, "v1", "ServiceAccount", name, automountServiceAccountToken=False),
        _child(binding, f"{rbac}/v1", "Role", name, rules=[rule]),
        _child(
            binding,
            f"{rbac}/v1",
            "RoleBinding",
            name,
            roleRef={"apiGroup": rbac, "kind": "Role", "name": name},
            subjects=[subject],
        ),
        _child(
            binding,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            name,
            spec={
                "podSelector": {"matchLabels": _selector(binding)},
                "policyTypes": ["Ingress", "Egress"],
                "egress": verification_egress(binding.spec.server, api_server),
            },
        ),
    )


def build_result(binding: MCPBinding) -> Manifest:
    """Return the ConfigMap of the result, empty: what is in it is the verifier's."""
    return _child(binding, "v1", "ConfigMap", result_name(binding))


def build_pinned(binding: MCPBinding, definitions: dict[str, str]) -> Manifest:
    """Return the ConfigMap with the tools as they were pinned: names of keys are digests, which ConfigMaps allow."""
    return _child(binding, "v1", "ConfigMap", pinned_name(binding), data=definitions)


def build_plan(run: VerificationTarget) -> Manifest:
    """Return the ConfigMap with what the verifier has to do."""
    spec = run.binding.spec
    plan = VerificationPlan(
        run=run.id,
        source=spec.source,
        probes=tuple(
            PlannedProbe(
                name=probe.name,
                tool=probe.tool,
                arguments=probe.arguments,
                expect=probe.expect,
                seconds=parse_duration(probe.max_latency).total_seconds(),
            )
            for probe in spec.verify.probes
        ),
    )
    data = {PLAN_KEY: dump_plan(plan), BUNDLE_KEY: dump_bundle(_bundle(run.binding))}
    return _child(run.binding, "v1", "ConfigMap", f"{run.job}-plan", data=data)


def build_job(run: VerificationTarget) -> Manifest:
    """Return the Job: it runs once, for a bounded time, and goes by itself."""
    return _child(
        run.binding,
        "batch/v1",
        JOB,
        run.job,
        spec={
            "backoffLimit": 0,
            "activeDeadlineSeconds": run.seconds,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                "metadata": {
                    "labels": _labels(run.binding),
                    "annotations": {"kubectl.kubernetes.io/default-container": "verifier"},
                },
                "spec": _pod(run),
            },
        },
    )


def _bundle(binding: MCPBinding) -> Bundle:
    """Return what the verifier decides by: the binding's own grants, as if the matrix gave all of them."""
    permissions, rule = binding.spec.permissions, f"mcpbinding/{binding.metadata.name}"
    grants = (build_grant("Binding", rule, permissions), build_grant("Matrix", rule, permissions))
    return Bundle(
        schema_version=SCHEMA_VERSION,
        agent=AgentIdentity(NOBODY, NOBODY, NOBODY),
        revision=NOBODY,
        stage=NOBODY,
        environment=NOBODY,
        scope=(),
        sources=(compile_source(_bound(binding), grants, ()),),
    )


def _bound(binding: MCPBinding) -> BoundSource:
    return BoundSource(binding.spec.source, binding)


def _pod(run: VerificationTarget) -> dict[str, Any]:
    binding, source = run.binding, run.binding.spec.source
    secrets = project_secrets((_bound(binding),))
    before, volumes = [], []
    stdio = binding.spec.server.stdio
    if stdio is not None:
        # A server that is a sidecar is started before the verifier, so its pipes must be there before both.
        before = [_make_pipes(run), build_server(source, stdio, FIRST_SERVER_UID)]
        volumes = [{"name": mcp_volume(source), "emptyDir": {}}]
    return {
        "serviceAccountName": verification_name(binding.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": pod_security(),
        "initContainers": before,
        "containers": [_verifier(run, secrets)],
        "volumes": [
            build_pipes_volume(),
            build_token_volume(),
            {"name": PLAN_VOLUME, "configMap": {"name": f"{run.job}-plan"}},
            *secrets,
            *volumes,
        ],
    }


def _make_pipes(run: VerificationTarget) -> dict[str, Any]:
    return {
        "name": "pipes",
        "image": run.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["pipes"],
        "env": [{"name": SOURCE_VARIABLE, "value": run.binding.spec.source}],
        "resources": _RESOURCES,
        "securityContext": container_security(GUARD_UID, GUARD_GID),
        "volumeMounts": [{"name": PIPES_VOLUME, "mountPath": PIPES_PATH}],
    }


def _verifier(run: VerificationTarget, secrets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "verifier",
        "image": run.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["verify"],
        "env": [
            {"name": NAMESPACE_VARIABLE, "value": run.binding.metadata.namespace},
            {"name": RESULT_VARIABLE, "value": result_name(run.binding)},
        ],
        "resources": _RESOURCES,
        "securityContext": container_security(GUARD_UID, GUARD_GID),
        "volumeMounts": [
            {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
            {"name": PLAN_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True},
            *mount_secrets(secrets),
        ],
    }


_RESOURCES = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"memory": "128Mi"}}


def _child(binding: MCPBinding, api_version: str, kind: str, name: str, **body: Any) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": binding.metadata.namespace,
            "labels": _labels(binding),
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "MCPBinding",
                    "name": binding.metadata.name,
                    "uid": binding.metadata.uid,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        **body,
    }


def _labels(binding: MCPBinding) -> dict[str, str]:
    return {
        APP_NAME_LABEL: "interlock-verification",
        APP_INSTANCE_LABEL: binding_label(binding.metadata.name),
        APP_COMPONENT_LABEL: COMPONENT,
        APP_PART_OF_LABEL: PART_OF,
        APP_MANAGED_BY_LABEL: MANAGED_BY,
    } | _selector(binding)


def _selector(binding: MCPBinding) -> dict[str, str]:
    return {BINDING_LABEL: binding_label(binding.metadata.name)}
