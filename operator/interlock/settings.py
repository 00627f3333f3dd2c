"""The operator's settings, read from environment variables that begin with INTERLOCK_ and validated once."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from interlock_contract.names import OPERATOR_NAMESPACE
from interlock_contract.pod import OPERATOR_KEY_PATH


class OperatorSettings(BaseSettings):
    """The settings of an installation."""

    model_config = SettingsConfigDict(env_prefix="INTERLOCK_", frozen=True, use_attribute_docstrings=True)

    guard_image: str = "registry.invalid/interlock/guard:dev"
    """Image of the guards."""

    audit_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where guards send their audit records, such as http://interlock-audit.interlock-system:7420; empty: nowhere."""

    api_server_egress: Literal["Endpoints", "AnyOnPort"] = "Endpoints"
    """Egress to the API server that the NetworkPolicies of guards allow: to the addresses that Kubernetes reports, or
    to its ports at any address, for networks whose rules match no node (Cilium without policyCIDRMatchMode: nodes)."""

    namespace: str = OPERATOR_NAMESPACE
    """The namespace of the operator, in which the kill controller renews its Lease."""

    key_file: Path = Path(OPERATOR_KEY_PATH)
    """File with the key from which the operator derives the keys of agents. Where it is missing, the operator creates
    the Secret that is mounted there."""

    kubeconfig: Path | None = None
    """A kubeconfig file; without one, the ServiceAccount of the operator's pod."""

    telemetry_port: int = Field(default=8080, ge=0, le=65535)
    """Where /healthz and /metrics are served; 0 takes a free port."""

    watch_late_seconds: float = Field(default=60, gt=0)
    """How many seconds one of the two watches may lag behind the other before /healthz reports it as dead."""

    workers: int = Field(default=32, ge=1, le=64)
    """How many Agents are reconciled at the same time."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The lowest level that is logged."""
