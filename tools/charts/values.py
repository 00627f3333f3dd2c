"""The values of the charts: each with its type, its meaning, and what it sets in which object.

This is the only table of values. values.yaml, values.schema.json, the templates and docs/reference/helm-values.md are
written from it. A field without a default has that of the manifest.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tools.charts.bindings import (
    Adds,
    AddsEntries,
    AddsRunbooks,
    AddsVariable,
    Appends,
    Chooses,
    Keeps,
    Of,
    ReadBy,
    ReplacesWhere,
    Sets,
    SetsImage,
    Switches,
)
from tools.charts.image_names import REGISTRY, REPOSITORY, TAG

_POD: Final = "spec.template.spec"
_CONTAINER: Final = f"{_POD}.containers.0"
_ENV: Final = f"{_CONTAINER}.env"
_ABOVE_0: Final = r"([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)"
_AMOUNT: Final = rf"^({_ABOVE_0}([EPTGMk]i?|m)?)?$"
_HOST: Final = r"(localhost|\[[0-9a-fA-F:.]+\]|[^\s/:@]+\.|[^\s/:@]+\.[^\s/:@]+\.[^\s/:@]*)"
_AUDIT_URL: Final = rf"^(https://\S+|http://{_HOST}(:[0-9]{{1,5}})?(/\S*)?)?$"
"""Without TLS, no name that guards look up in their own namespace first, which the operator refuses at its start."""
BaseUrl = Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$")]
_DIGEST: Final = r"^(sha256:[0-9a-f]{64})?$"
_LIST_OF_NAMES: Final = [{"name": "registry-login"}]


class Values(BaseModel):
    """A group of values."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=to_camel, populate_by_name=True, use_attribute_docstrings=True
    )


class SecretReference(Values):
    """A Secret in the namespace of the pod."""

    name: str = Field(min_length=1, max_length=253)
    """Its name."""


class Image(Values):
    """An image."""

    repository: str = Field(examples=["mirror/image"], pattern=f"^{REPOSITORY}$")
    """Its name after the registry."""
    digest: str = Field(default="", pattern=_DIGEST, examples=["sha256:" + 64 * "a"])
    """Its digest, such as `sha256:...`. If given, the tag is not used."""


class Images(Values):
    """The images. Each is `registry/repository@digest`, or `registry/repository:tag` without a digest."""

    registry: Annotated[str, ReadBy("_helpers.tpl", ".images.registry")] = Field(
        default="registry.invalid", examples=["registry.example.com/platform"], pattern=f"^{REGISTRY}$"
    )
    """Registry of all images, those that the operator creates too: host, port and path, without a scheme."""
    tag: Annotated[str, ReadBy("_helpers.tpl", ".images.tag")] = Field(
        default="", examples=["1.0.0"], pattern=f"^({TAG})?$"
    )
    """Tag of all images. If empty, the version of the chart. `make images` builds `dev` for a kind cluster."""
    pull_policy: Annotated[
        Literal["Always", "IfNotPresent", "Never"], Sets(f"{_CONTAINER}.imagePullPolicy", "Deployment/*")
    ] = Field(examples=["Always"])
    """When nodes pull the images of operator, kill controller and collector."""
    pull_secrets: Annotated[
        list[SecretReference],
        Adds(f"{_POD}.imagePullSecrets", "Deployment/*"),
        AddsVariable(_ENV, "Deployment/interlock", name="INTERLOCK_IMAGE_PULL_SECRETS", as_json=True),
    ] = Field(default=[], max_length=8, examples=[_LIST_OF_NAMES])
    """Secrets with which nodes pull images: those of the programs, and those of all pods that the operator creates. A
    Secret is named and never copied, so each namespace with agents needs one of this name too. AgentPolicies add
    [others](../how-to/private-registry.md). A change reaches running agents [in waves](../how-to/upgrade.md#waves)."""
    operator: Annotated[
        Image,
        SetsImage(f"{_CONTAINER}.image", "Deployment/interlock"),
        SetsImage(f"{_CONTAINER}.image", "Deployment/interlock-kill"),
    ]
    """The image of operator and kill controller."""
    guard: Annotated[Image, SetsImage(f"{_ENV}.[name=INTERLOCK_GUARD_IMAGE].value", "Deployment/interlock")]
    """The image of what the operator creates: guards, verifications, egress checks, launchers of stdio servers, and
    notifiers."""
    audit: Annotated[Image, SetsImage(f"{_CONTAINER}.image", "Deployment/interlock-audit")]
    """The image of the audit collector."""


class Toleration(Values):
    """A toleration of Kubernetes."""

    key: str = ""
    """The key of the taint."""
    operator: Literal["Exists", "Equal", "Lt", "Gt"] = "Equal"
    """How values are compared."""
    value: str = ""
    """The value of the taint."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """The effect of the taint."""
    toleration_seconds: int = 0
    """Seconds for which a taint `NoExecute` is tolerated."""


class EnvVar(Values):
    """An environment variable of Kubernetes."""

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Its name."""
    value: str = ""
    """Its value."""
    value_from: dict[str, Any] = {}
    """Where its value is, such as `{secretKeyRef: {name: database, key: url}}`."""


class Resources(Values):
    """Requests and limits of a container."""

    requests: dict[str, str | float]
    """Requests, by the name of the resource."""
    limits: dict[str, str | float]
    """Limits, by the name of the resource."""


class Program(Values):
    """What every program of the installation has."""

    resources: Annotated[Resources, Sets(f"{_CONTAINER}.resources")] = Field(
        examples=[{"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}]
    )
    """Requests and limits."""
    node_selector: Annotated[dict[str, str], Adds(f"{_POD}.nodeSelector")] = Field(
        default={}, examples=[{"kubernetes.io/arch": "amd64"}]
    )
    """Labels that nodes of the pod must have."""
    tolerations: Annotated[list[Toleration], Adds(f"{_POD}.tolerations")] = Field(
        default=[], examples=[[{"key": "example.com/pool", "operator": "Exists"}]]
    )
    """Taints of nodes that the pod tolerates."""
    affinity: Annotated[dict[str, Any], Adds(f"{_POD}.affinity")] = Field(default={}, examples=[{"nodeAffinity": {}}])
    """Affinity of the pod."""
    pod_labels: Annotated[dict[str, str], AddsEntries("spec.template.metadata.labels")] = Field(
        default={}, examples=[{"example.com/team": "platform"}]
    )
    """Further labels of the pod."""
    pod_annotations: Annotated[dict[str, str], Adds("spec.template.metadata.annotations")] = Field(
        default={}, examples=[{"example.com/owner": "platform"}]
    )
    """Annotations of the pod."""


_ENV_EXAMPLE: Final = [{"name": "INTERLOCK_LOG_LEVEL", "value": "DEBUG"}]


class GuardRequests(Values):
    """Requests of Interlock's own containers in pods of agents."""

    cpu: Annotated[str, AddsVariable(_ENV, name="INTERLOCK_GUARD_CPU_REQUEST")] = Field(
        default="", examples=["30m"], pattern=_AMOUNT
    )
    """CPU request."""
    memory: Annotated[str, AddsVariable(_ENV, name="INTERLOCK_GUARD_MEMORY_REQUEST")] = Field(
        default="", examples=["80Mi"], pattern=_AMOUNT
    )
    """Memory request."""


class GuardLimits(Values):
    """Limits of Interlock's own containers in pods of agents."""

    cpu: Annotated[str, AddsVariable(_ENV, name="INTERLOCK_GUARD_CPU_LIMIT")] = Field(
        default="", examples=["2"], pattern=_AMOUNT
    )
    """CPU limit."""
    memory: Annotated[str, AddsVariable(_ENV, name="INTERLOCK_GUARD_MEMORY_LIMIT")] = Field(
        default="", examples=["300Mi"], pattern=_AMOUNT
    )
    """Memory limit."""


class GuardResources(Values):
    """Resources of Interlock's own containers in pods of agents."""

    requests: GuardRequests
    """Requests. If empty, [the operator's defaults](settings.md#operator)."""
    limits: GuardLimits
    """Limits. If empty, [the operator's defaults](settings.md#operator)."""


class Operator(Program):
    """The operator."""

    priority_class_name: Annotated[str, Sets(f"{_POD}.priorityClassName")] = Field(
        min_length=1, examples=["example-high"]
    )
    """PriorityClass of the pod. On GKE, the default needs a [ResourceQuota](../how-to/platforms.md)."""
    audit_url: Annotated[str, Sets(f"{_ENV}.[name=INTERLOCK_AUDIT_URL].value")] = Field(
        pattern=_AUDIT_URL, examples=["https://audit.example.com"]
    )
    """Where guards send audit records. If empty, nowhere."""
    api_server_egress: Annotated[
        Literal["", "Endpoints", "AnyOnPort"], AddsVariable(_ENV, name="INTERLOCK_API_SERVER_EGRESS")
    ] = Field(default="", examples=["AnyOnPort"])
    """Egress to the API server that the NetworkPolicies of guards allow. `AnyOnPort` is for Cilium."""
    prometheus: Annotated[dict[str, BaseUrl], AddsVariable(_ENV, name="INTERLOCK_PROMETHEUS", as_json=True)] = Field(
        default={}, examples=[{"team-a": "http://prometheus.team-a.svc:9090"}]
    )
    """The Prometheus that answers the metric gates of a namespace, by namespace."""
    log_level: Annotated[
        Literal["", "DEBUG", "INFO", "WARNING", "ERROR"], AddsVariable(_ENV, name="INTERLOCK_LOG_LEVEL")
    ] = Field(default="", examples=["DEBUG"])
    """The lowest level that is logged. If empty, `INFO`."""
    guard_wave_percent: Annotated[int, AddsVariable(_ENV, name="INTERLOCK_GUARD_WAVE_PERCENT")] = Field(
        default=0, ge=0, le=100, examples=[25]
    )
    """How many agents get the guards of a new version [at the same time](../how-to/upgrade.md#waves), in percent of all
    agents. If 0, 10."""
    guard_resources: GuardResources
    """Resources of Interlock's own containers in pods of agents, verifications and notifiers. An AgentPolicy may state
    others."""
    env: Annotated[list[EnvVar], Appends(_ENV)] = Field(
        default=[], examples=[[{"name": "INTERLOCK_WORKERS", "value": "16"}]]
    )
    """Further [settings](settings.md#operator)."""


class KillController(Program):
    """The kill controller."""

    replicas: Annotated[int, Sets("spec.replicas")] = Field(ge=1, examples=[2])
    """Number of pods. One is enough, and more do no harm: they run on different nodes if there are some, and a drain
    evicts one at a time."""
    env: Annotated[list[EnvVar], Adds(_ENV)] = Field(default=[], examples=[_ENV_EXAMPLE])
    """Its [settings](settings.md#kill-controller)."""


_CLAIM: Final = "PersistentVolumeClaim/interlock-audit"


class Persistence(Values):
    """The volume of the audit records."""

    enabled: Annotated[
        bool, Switches(_CLAIM), Chooses(f"{_POD}.volumes.0", otherwise='{"name": "audit", "emptyDir": {}}')
    ] = Field(default=True, examples=[False])
    """Whether the records have a volume. Otherwise they end with the collector's pod, unless PostgreSQL has them."""
    size: Annotated[str, Sets("spec.resources.requests.storage", _CLAIM)] = Field(examples=["20Gi"])
    """Its size."""
    storage_class_name: Annotated[str, Adds("spec.storageClassName", _CLAIM)] = Field(default="", examples=["fast"])
    """Its StorageClass. If empty, the cluster's default."""
    keep: Annotated[bool, Keeps(_CLAIM)] = Field(default=True, examples=[False])
    """Whether the volume and the records stay when the chart is uninstalled."""


class Audit(Program):
    """The audit collector."""

    replicas: Annotated[int, Sets("spec.replicas"), ReadBy("checks.yaml", ".Values.audit.replicas")] = Field(
        ge=1, examples=[2]
    )
    """Number of pods. More than one need PostgreSQL, and `persistence.enabled: false`."""
    keep_days: Annotated[int, Sets(f"{_ENV}.[name=INTERLOCK_KEEP_DAYS].value", as_text=True)] = Field(
        ge=0, le=36500, examples=[0]
    )
    """Days for which a record is stored after its receipt, 0 for ever."""
    persistence: Persistence
    """The volume of the audit records."""
    fs_group: Annotated[int, Sets(f"{_POD}.securityContext.fsGroup", is_optional=True)] = Field(ge=0, examples=[0])
    """Group of the volume. 0 names none: [OpenShift](../how-to/platforms.md#openshift) chooses one."""
    volumes: Annotated[list[dict[str, Any]], Appends(f"{_POD}.volumes")] = Field(
        default=[], examples=[[{"name": "database-ca", "configMap": {"name": "database-ca"}}]]
    )
    """Further volumes of the pod, such as the certificates that `sslrootcert` of `INTERLOCK_POSTGRES` names."""
    volume_mounts: Annotated[list[dict[str, Any]], Appends(f"{_CONTAINER}.volumeMounts", key="mountPath")] = Field(
        default=[], examples=[[{"name": "database-ca", "mountPath": "/etc/database-ca", "readOnly": True}]]
    )
    """Where the container has them."""
    env: Annotated[
        list[EnvVar],
        Appends(_ENV),
        ReplacesWhere("spec.strategy", helper="interlock.auditRolls", otherwise='{"type": "RollingUpdate"}'),
    ] = Field(
        default=[],
        examples=[[{"name": "INTERLOCK_POSTGRES", "valueFrom": {"secretKeyRef": {"name": "database", "key": "url"}}}]],
    )
    """Further [settings](settings.md#collector), such as `INTERLOCK_POSTGRES` from a Secret. With PostgreSQL and
    without a volume, a new pod starts before the old one ends (`RollingUpdate`)."""


class Admission(Values):
    """The admission policies."""

    mutating_policies: Annotated[
        Literal["Auto", "Always", "Never"], Switches("MutatingAdmissionPolicy*/*", helper="interlock.mutatingPolicies")
    ] = Field(default="Auto", examples=["Never"])
    """Whether the API server writes who killed an agent. It can from Kubernetes 1.36 on, which `Auto` looks up when
    Helm runs. After an upgrade of the cluster to 1.36, run `helm upgrade` again."""
    only_selected_namespaces: Annotated[bool, Switches("*/operator-namespaces.interlock.dev")] = Field(
        default=False, examples=[True]
    )
    """Whether agents run only in namespaces with the label `interlock.dev/agents: allowed`."""


class Monitoring(Values):
    """Objects for Prometheus and Grafana."""

    grafana_dashboard: Annotated[bool, Switches("ConfigMap/interlock-spend-dashboard")] = Field(
        default=False, examples=[True]
    )
    """Whether a ConfigMap has the dashboard of spend, for Grafana's sidecar."""
    pod_monitor: Annotated[bool, Switches("PodMonitor/*")] = Field(default=False, examples=[True])
    """Whether PodMonitors have the Prometheus operator scrape all programs and guards. Prometheus'
    [namespace](metrics.md#scrape) needs a label."""
    prometheus_rules: Annotated[bool, Switches("PrometheusRule/interlock")] = Field(default=False, examples=[True])
    """Whether a PrometheusRule has the [alerts](metrics.md#what-to-alert-on)."""
    docs_url: Annotated[str, AddsRunbooks("spec.groups", "PrometheusRule/interlock")] = Field(
        default="", examples=["https://git.example.com/interlock/blob/v1.0.0"], pattern=r"^(https?://\S*[^\s/])?$"
    )
    """Where this version's repository can be read, without a slash at the end. If given, each alert has the address of
    its page there as `runbook_url`. If empty, it has only the path, as `runbook`."""
    labels: Annotated[
        dict[str, str],
        AddsEntries("metadata.labels", "PodMonitor/*"),
        AddsEntries("metadata.labels", "PrometheusRule/interlock"),
    ] = Field(default={}, examples=[{"release": "kube-prometheus-stack"}])
    """Further labels of PodMonitors and PrometheusRule. By default, kube-prometheus-stack takes only those with the
    label `release` of its own release."""


class InterlockValues(Values):
    """The values of the chart `interlock`."""

    images: Images
    """The images. Each is `registry/repository@digest`, or `registry/repository:tag` without a digest."""
    operator: Annotated[Operator, Of("Deployment/interlock")]
    """The operator."""
    kill_controller: Annotated[KillController, Of("Deployment/interlock-kill")]
    """The kill controller."""
    audit: Annotated[Audit, Of("Deployment/interlock-audit")]
    """The audit collector."""
    admission: Admission
    """The admission policies."""
    monitoring: Monitoring
    """Objects for Prometheus and Grafana."""


class CrdValues(Values):
    """The values of the chart `interlock-crds`."""

    keep: Annotated[bool, Keeps("CustomResourceDefinition/*")] = Field(default=True, examples=[False])
    """Whether the CRDs stay when the chart is uninstalled, and with them every Agent, AgentPolicy, MCPBinding and
    BudgetLedger. To remove them all, upgrade with `false` first."""
