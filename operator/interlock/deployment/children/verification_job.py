"""The verification of an MCPBinding's server: a Job with the server and a verifier, its identity and its ConfigMaps.

The Job's identity may write one ConfigMap, the result, and nothing else. Each run has a Job with a name of its own, so
that the result of another spec or an earlier run never counts for this one.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from interlock.api.binding import MCPBinding
from interlock.api.pod_policy import PodTemplatePolicy
from interlock.api.policy import ContainerDefaults, EgressProxy
from interlock.api.shared_types import Resources, parse_duration
from interlock.api.verification import parse_arguments
from interlock.deployment.children.config import build_grant, compile_source
from interlock.deployment.children.config_maps import Copies, with_source
from interlock.deployment.children.egress_rules import verification_egress
from interlock.deployment.children.identity import build_account
from interlock.deployment.children.pod_parts import (
    LAST_LINES,
    PIPES_VOLUME,
    TOKEN_VOLUME,
    build_launcher_volume,
    build_pipes_volume,
    build_token_volume,
    container_security,
    pod_security,
)
from interlock.deployment.children.resources import (
    LAUNCHER_NEEDS,
    VERIFIER_NEEDS,
    ContainerNeeds,
    bounded_defaults,
    build_own_resources,
)
from interlock.deployment.children.scheduling import build_node_choice, build_pull_secrets
from interlock.deployment.children.server_containers import build_launcher, build_server, build_server_volumes
from interlock.deployment.children.upstreams import mount_secrets, project_secrets, proxy_for
from interlock.deployment.config_maps import ConfigMaps, digest_of_kept
from interlock.deployment.names import (
    Manifest,
    build_child,
    pinned_name,
    plan_name,
    result_name,
    verification_job,
    verification_labels,
    verification_name,
    verification_selector,
)
from interlock.deployment.placement import ApiServerAddress, BoundSource
from interlock.deployment.pod_users import DEFAULT_USERS, PodUsers
from interlock_contract.bundle import BUNDLE_KEY, AgentIdentity, Bundle, dump_bundle
from interlock_contract.bundle_schema import SCHEMA_VERSION
from interlock_contract.names import GROUP
from interlock_contract.pod import (
    CONFIG_PATH,
    NAMESPACE_VARIABLE,
    PIPES_PATH,
    RESULT_VARIABLE,
    SOURCE_VARIABLE,
    TOKEN_PATH,
)
from interlock_contract.verification import PLAN_KEY, PlannedProbe, VerificationPlan, dump_plan

JOB = "Job"
PLAN_VOLUME = "plan"
POD_DIGEST = f"{GROUP}/pod"
"""The annotation of a Job with the digest of its pod. A Job without it is from an earlier version, and is kept."""
KEEP_SECONDS = 600
"""How long Kubernetes keeps an ended Job and its log."""
LEAST_SECONDS = 300
"""Time limit of a run without its probes: pull images, initialize the server, list its tools."""
_NO_COPIES: ConfigMaps = {}
NO_AGENT = "verification"
"""Value of the bundle's agent, stage and environment, since a verification has no agent."""


@dataclass(frozen=True)
class VerificationTarget:
    """One verification run of one binding.

    Attributes:
        binding: The MCPBinding, as applied.
        number: Number of the run.
        guard_image: Image of the guards, which contains the verifier.
        proxy: The egress proxy of the policies that use the binding's source, None where they have none.
        pods: What a policy that uses the source says about pods.
        guard_resources: What the installation states for Interlock's own containers where that policy states nothing.
        pull_secrets: Names of the Secrets with which kubelets pull images, as the installation states them.
        users: The users and groups of the pods of its namespace.
        config_maps: What the run keeps of the ConfigMaps that the server refers to.
    """

    binding: MCPBinding
    number: int
    guard_image: str
    proxy: EgressProxy | None = None
    pods: PodTemplatePolicy = field(default_factory=PodTemplatePolicy)
    guard_resources: Resources | None = None
    pull_secrets: tuple[str, ...] = ()
    users: PodUsers = DEFAULT_USERS
    config_maps: ConfigMaps = field(default_factory=dict, repr=False)

    @property
    def copies(self) -> Copies:
        """The copies of ConfigMaps that the run's pod refers to."""
        return Copies(self.job, self.config_maps)

    @property
    def id(self) -> str:
        """The run's identifier. It changes with the spec, the number, the guard's image and the binding's uid."""
        plan = plan_digest(self.binding, self.guard_image, self.proxy, self.config_maps)
        text = f"{self.binding.metadata.uid}/{plan}/{self.number}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def job(self) -> str:
        """Name of its Job."""
        return verification_job(self.binding.metadata.name, self.id)

    @property
    def pod_digest(self) -> str:
        """The digest of the run's pod, with what policies and installation say about it."""
        text = json.dumps(_pod(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def has_other_pod(self, job: Manifest) -> bool:
        """Return True if the run's Job is not as it is built now, such as without the password of a registry."""
        stated = job["metadata"].get("annotations", {}).get(POD_DIGEST)
        return stated is not None and stated != self.pod_digest

    @property
    def seconds(self) -> int:
        """Time limit in seconds."""
        probes = self.binding.spec.verify.probes
        return LEAST_SECONDS + sum(int(parse_duration(probe.max_latency).total_seconds()) + 1 for probe in probes)


def plan_digest(
    binding: MCPBinding, guard_image: str, proxy: EgressProxy | None = None, config_maps: ConfigMaps = _NO_COPIES
) -> str:
    """Return the digest of all inputs of a verification. A proxy counts only if the server is reached through it."""
    spec = binding.spec.model_dump(by_alias=True, mode="json", exclude={"environments"})
    spec["verify"].pop("interval")
    http = binding.spec.server.http
    used = None if http is None else proxy_for(http, proxy)
    way = [] if used is None else [used.model_dump(by_alias=True, mode="json", exclude={"no_proxy"})]
    kept = [digest_of_kept(config_maps)] if config_maps else []
    text = json.dumps([guard_image, spec, *way, *kept], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def build_support(run: VerificationTarget, api_server: ApiServerAddress) -> tuple[Manifest, ...]:
    """Return the objects that live as long as the binding: ServiceAccount, Role, RoleBinding and NetworkPolicy."""
    binding, name, labels = run.binding, verification_name(run.binding.metadata.name), verification_labels(run.binding)
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [result_name(binding.metadata.name)],
        "verbs": ["patch"],
    }
    return (
        *build_account(binding, name, labels, [rule]),
        build_child(
            binding,
            "networking.k8s.io/v1",
            "NetworkPolicy",
            name,
            labels,
            spec={
                "podSelector": {"matchLabels": verification_selector(binding)},
                "policyTypes": ["Ingress", "Egress"],
                "egress": verification_egress(binding.spec.server, api_server, run.proxy),
            },
        ),
    )


def build_result(binding: MCPBinding) -> Manifest:
    """Return the empty ConfigMap that the verifier writes its result to."""
    return build_child(binding, "v1", "ConfigMap", result_name(binding.metadata.name), verification_labels(binding))


def build_pinned(binding: MCPBinding, definitions: dict[str, str]) -> Manifest:
    """Return the ConfigMap with the definitions of the pinned tools, by their digests."""
    return build_child(
        binding, "v1", "ConfigMap", pinned_name(binding.metadata.name), verification_labels(binding), data=definitions
    )


def build_plan(run: VerificationTarget) -> Manifest:
    """Return the ConfigMap with the plan and the bundle of a run."""
    spec = run.binding.spec
    plan = VerificationPlan(
        run=run.id,
        source=spec.source,
        instructions=spec.instructions == "Pinned",
        probes=tuple(
            PlannedProbe(
                name=probe.name,
                tool=probe.tool,
                arguments=parse_arguments(probe.arguments),
                expect=probe.expect,
                milliseconds=round(parse_duration(probe.max_latency).total_seconds() * 1000),
            )
            for probe in spec.verify.probes
        ),
    )
    data = {PLAN_KEY: dump_plan(plan), BUNDLE_KEY: dump_bundle(_bundle(run))}
    name = plan_name(run.binding.metadata.name, run.id)
    return build_child(run.binding, "v1", "ConfigMap", name, verification_labels(run.binding), data=data)


def build_verification_copies(run: VerificationTarget) -> tuple[Manifest, ...]:
    """Return the copies of ConfigMaps of a run, which cannot be changed while it lasts."""
    labels = verification_labels(run.binding)
    return tuple(
        with_source(build_child(run.binding, "v1", "ConfigMap", name, labels, **body), source)
        for source, name, body in run.copies.manifests()
    )


def build_job(run: VerificationTarget) -> Manifest:
    """Return the Job of a run: it runs once, within a time limit, and Kubernetes deletes it afterwards."""
    manifest = build_child(
        run.binding,
        "batch/v1",
        JOB,
        run.job,
        verification_labels(run.binding),
        spec={
            "backoffLimit": 0,
            "activeDeadlineSeconds": run.seconds,
            "ttlSecondsAfterFinished": KEEP_SECONDS,
            "template": {
                "metadata": {
                    "labels": verification_labels(run.binding),
                    "annotations": {"kubectl.kubernetes.io/default-container": "verifier"},
                },
                "spec": _pod(run),
            },
        },
    )
    manifest["metadata"]["annotations"] = {POD_DIGEST: run.pod_digest}
    return manifest


def _bundle(run: VerificationTarget) -> Bundle:
    """Return the verifier's bundle: the binding's own permissions, as if the matrix gave all of them."""
    binding = run.binding
    permissions, rule = binding.spec.permissions, f"mcpbinding/{binding.metadata.name}"
    grants = (build_grant("Binding", rule, permissions), build_grant("Matrix", rule, permissions))
    return Bundle(
        schema_version=SCHEMA_VERSION,
        agent=AgentIdentity(NO_AGENT, NO_AGENT, NO_AGENT),
        revision=NO_AGENT,
        stage=NO_AGENT,
        environment=NO_AGENT,
        scope=(),
        sources=(compile_source(_bound(binding), grants, run.proxy),),
    )


def _bound(binding: MCPBinding) -> BoundSource:
    return BoundSource(binding.spec.source, binding)


def _pod(run: VerificationTarget) -> dict[str, Any]:
    binding, source = run.binding, run.binding.spec.source
    secrets = project_secrets((_bound(binding),), run.proxy)
    before, volumes = [], []
    stdio = binding.spec.server.stdio
    if stdio is not None:
        # The sidecar starts before the verifier and opens its pipes at once, so an init container makes them.
        # A verification belongs to a binding, which has no defaults of a policy.
        defaults = bounded_defaults(ContainerDefaults(), run.pods.maximum)
        server = build_server(source, stdio, 0, defaults, run.copies, run.users)
        launcher = build_launcher(run.guard_image, _own_resources(run, LAUNCHER_NEEDS), run.users.launcher)
        before = [launcher, _make_pipes(run), server]
        volumes = [build_launcher_volume(), *build_server_volumes(source, stdio, 0, defaults, run.copies)]
    templates = () if stdio is None else (stdio,)
    return {
        "serviceAccountName": verification_name(binding.metadata.name),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        **build_node_choice(run.pods.default, *templates),
        **build_pull_secrets(run.pull_secrets, run.pods.default, *templates),
        "securityContext": pod_security(),
        "initContainers": before,
        "containers": [_verifier(run, secrets)],
        "volumes": [
            build_pipes_volume(),
            build_token_volume(),
            {"name": PLAN_VOLUME, "configMap": {"name": plan_name(run.binding.metadata.name, run.id)}},
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
        "resources": _own_resources(run, VERIFIER_NEEDS),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(run.users.guard),
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
            {"name": RESULT_VARIABLE, "value": result_name(run.binding.metadata.name)},
        ],
        "resources": _own_resources(run, VERIFIER_NEEDS),
        "terminationMessagePolicy": LAST_LINES,
        "securityContext": container_security(run.users.guard),
        "volumeMounts": [
            {"name": PIPES_VOLUME, "mountPath": PIPES_PATH},
            {"name": TOKEN_VOLUME, "mountPath": TOKEN_PATH, "readOnly": True},
            {"name": PLAN_VOLUME, "mountPath": CONFIG_PATH, "readOnly": True},
            *mount_secrets(secrets),
        ],
    }


def _own_resources(run: VerificationTarget, needs: ContainerNeeds) -> dict[str, Any]:
    return build_own_resources(needs, run.pods.guard_resources, run.guard_resources)
