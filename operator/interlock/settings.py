"""The operator's settings, from environment variables that begin with INTERLOCK_, validated once."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OperatorSettings(BaseSettings):
    """What an installation may set."""

    model_config = SettingsConfigDict(env_prefix="INTERLOCK_", frozen=True, use_attribute_docstrings=True)

    guard_image: str = "interlock/guard:dev"
    """Image of the guards."""

    audit_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where guards bring their records, such as http://interlock-audit.interlock-system:7420; empty: nowhere."""

    api_server_egress: Literal["Endpoints", "AnyOnPort"] = "Endpoints"
    """Where the NetworkPolicies of guards let them out to for the API server: the addresses that Kubernetes names, or
    its ports at any address, for networks whose rules match no node (Cilium without policyCIDRMatchMode: nodes)."""

    kubeconfig: Path | None = None
    """A kubeconfig file; without one, the ServiceAccount of the pod that we run in."""

    telemetry_port: int = Field(default=8080, ge=0, le=65535)
    """Where /healthz and /metrics are served; 0 takes a free port."""

    watch_late_seconds: float = Field(default=60, gt=0)
    """How much later than our second watch kopf's may see a change, or the reverse, before /healthz says it is dead."""

    workers: int = Field(default=32, ge=1, le=64)
    """How many agents are looked at at the same time."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""
