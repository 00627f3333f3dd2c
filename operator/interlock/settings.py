"""The operator's settings, read from environment variables that begin with INTERLOCK_ and validated once."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from interlock.api.pod_template import ImagePullSecret
from interlock.api.quantities import parse_quantity
from interlock.api.shared_types import Quantity, ResourceAmounts, ResourceLimits, Resources
from interlock.deployment.placement import MetadataServer
from interlock_contract.addresses import parse_cidr
from interlock_contract.budget.windows import LEAST_DAY_SECONDS, MAX_DAY_SECONDS
from interlock_contract.names import OPERATOR_NAMESPACE
from interlock_contract.pod import OPERATOR_KEY_PATH


class OperatorSettings(BaseSettings):
    """The settings of an installation."""

    model_config = SettingsConfigDict(env_prefix="INTERLOCK_", frozen=True, use_attribute_docstrings=True)

    guard_image: str = "registry.invalid/interlock/guard:dev"
    """Image of the guards."""

    guard_cpu_request: Quantity | None = None
    """CPU request of each of Interlock's containers in pods of agents, verifications and notifiers; absent: 20m for
    guards and verifiers, 10m for others. AgentPolicies may state others in podTemplate.guardResources."""

    guard_cpu_limit: Quantity | None = None
    """CPU limit of each of them; absent: 1."""

    guard_memory_request: Quantity | None = None
    """Memory request of each of them; absent: 48Mi for guards, verifiers and notifiers, less for others."""

    guard_memory_limit: Quantity | None = None
    """Memory limit of each of them; absent, and where it is too low: what the container needs."""

    image_pull_secrets: tuple[ImagePullSecret, ...] = Field(default=(), max_length=8)
    """Secrets with which kubelets pull the images of all pods that the operator creates, as JSON:
    [{"name": "registry-login"}]. Each namespace with agents needs Secrets of these names: they are never copied."""

    guard_wave_percent: int = Field(default=10, ge=1, le=100)
    """How many agents get the guards of a new version of the operator at the same time, in percent of all agents, at
    least one. The next ones follow once these are ready again."""

    audit_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where guards send audit records, such as http://interlock-audit.interlock-system.svc:7420; empty: nowhere."""

    api_server_egress: Literal["Endpoints", "AnyOnPort"] = "Endpoints"
    """Egress to the API server that the NetworkPolicies of guards allow: to the addresses that Kubernetes reports, or
    to its ports at any address, for networks whose rules match no node (Cilium without policyCIDRMatchMode: nodes)."""

    metadata_server: MetadataServer = "None"
    """Whose metadata server gives pods identities at a cloud: GKE for Workload Identity Federation for GKE. With None,
    agents whose policy names a Google service account are refused: elsewhere the server gives the node's identity."""

    closed_ranges: tuple[str, ...] = ()
    """Ranges of addresses that no row of egress of any AgentPolicy opens, as JSON: ["10.64.0.0/14", "fd00:64::/32"].
    Name what the operator cannot see: pods with addresses of the cloud's network, load balancers of the API server."""

    namespace: str = OPERATOR_NAMESPACE
    """The namespace of the operator, in which the kill controller renews its Lease."""

    key_file: Path = Path(OPERATOR_KEY_PATH)
    """File with the key from which the operator derives the keys of agents. Where it is missing, the operator creates
    the Secret that is mounted there."""

    price_book: Path | None = None
    """The file with the prices of models; without one, prices.json next to the operator's packages, where the image has
    it and `make prices` writes it."""

    prometheus: dict[str, str] = Field(default_factory=dict)
    """The Prometheus that answers the metric gates of a namespace, as JSON: {"team-a": "http://prom.team-a.svc:9090"}.
    A query may read all that this Prometheus has, so each team needs one of its own. Other namespaces have none."""

    kubeconfig: Path | None = None
    """A kubeconfig file; without one, the ServiceAccount of the operator's pod."""

    telemetry_port: int = Field(default=8080, ge=0, le=65535)
    """Where /healthz and /metrics are served; 0 takes a free port."""

    watch_late_seconds: float = Field(default=60, gt=0)
    """How many seconds one of the two watches may lag behind the other before /healthz reports it as dead."""

    workers: int = Field(default=32, ge=1, le=64)
    """How many Agents are reconciled at the same time."""

    budget_day_seconds: int | None = Field(default=None, ge=LEAST_DAY_SECONDS, le=MAX_DAY_SECONDS)
    """Length of the days of budgets in seconds, for tests and examples alone; absent: calendar days. Months are always
    those of the calendar."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""

    @property
    def pull_secrets(self) -> tuple[str, ...]:
        """The names of `image_pull_secrets`."""
        return tuple(one.name for one in self.image_pull_secrets)

    @property
    def guard_resources(self) -> Resources:
        """What the installation states for Interlock's own containers."""
        return Resources(
            requests=ResourceAmounts(cpu=self.guard_cpu_request, memory=self.guard_memory_request),
            limits=ResourceLimits(cpu=self.guard_cpu_limit, memory=self.guard_memory_limit),
        )

    @field_validator("guard_cpu_request", "guard_cpu_limit", "guard_memory_request", "guard_memory_limit")
    @classmethod
    def _is_quantity(cls, amount: str | None, info: ValidationInfo) -> str | None:
        """Refuse what is no amount above 0: every pod of the cluster would be refused."""
        try:
            is_amount = amount is None or parse_quantity(amount) > 0
        except ValueError:
            is_amount = False
        if not is_amount:
            name = f"INTERLOCK_{(info.field_name or '').upper()}"
            raise ValueError(f"{name}: {amount!r} is no amount above 0: write one such as 500m, 1 or 256Mi")
        return amount

    @field_validator("prometheus")
    @classmethod
    def _are_base_urls(cls, urls: dict[str, str]) -> dict[str, str]:
        """Refuse a URL with a user, a query or a fragment."""
        for namespace, url in urls.items():
            if re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", url) is None:
                raise ValueError(
                    f"INTERLOCK_PROMETHEUS: {url!r} of namespace {namespace} is not the base URL of a Prometheus: "
                    "write http://prometheus.team-a.svc:9090, without user, query and fragment"
                )
        return urls

    @field_validator("closed_ranges")
    @classmethod
    def _are_ranges(cls, ranges: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what is no range: addresses that are to be closed would be open."""
        for one in ranges:
            if parse_cidr(one) is None:
                raise ValueError(f"INTERLOCK_CLOSED_RANGES: {one!r} is no range: write one such as 10.64.0.0/14")
        return ranges

    @field_validator("audit_url")
    @classmethod
    def _is_looked_up_nowhere_else(cls, url: str) -> str:
        """Refuse a short name without TLS: a guard looks it up in its own namespace first, where users can answer."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "http" or host.count(".") > 1 or host.endswith(".") or _is_local(host):
            return url
        raise ValueError(
            f"INTERLOCK_AUDIT_URL: guards look up the name {host} in their own namespace first, where users can "
            "answer. Write http://<service>.<namespace>.svc:<port>, an address, or https://"
        )


def _is_local(host: str) -> bool:
    """Return True for an address and for localhost, which no user of a namespace answers."""
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
