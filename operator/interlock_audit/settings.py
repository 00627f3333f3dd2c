"""The collector's settings, read once from the environment of its container."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_audit.quotas import Quotas
from interlock_contract.pod import AUDIT_PORT, AUDIT_TELEMETRY_PORT

SQLITE_FILE: Final = "/var/lib/interlock-audit/records.sqlite"
"""The file of the records in the collector's container."""
KEEP_DAYS: Final = 184
"""Days for which records are stored: six months of at most 31 days."""
MOST_DAYS: Final = 36500
"""The largest number of days for which records may be stored."""

AGENT_QUOTA: Final = 1024 * 1024 * 1024
"""Bytes that the records of one agent may take."""
NAMESPACE_QUOTA: Final = 3 * AGENT_QUOTA
"""Bytes that the records of one namespace may take: with the volume of 10 GiB, no namespace fills it alone."""


class CollectorSettingsInvalid(ValueError):  # noqa: N818 - says the state of the settings
    """A variable is missing or wrong. The message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings:
    """The collector's store, retention, ports and API server.

    Attributes:
        postgres: A connection string of libpq. If empty, records are in the file `sqlite`.
        keep_days: Days for which records are stored, 0 for ever.
        quotas: What agents and namespaces may store.
    """

    sqlite: Path
    postgres: str
    keep_days: float
    quotas: Quotas
    port: int
    telemetry_port: int
    api_server: str
    credentials: Path


def read_settings(environment: Mapping[str, str]) -> CollectorSettings:
    """Return the settings. Each has a default that is right in a pod.

    Raises:
        CollectorSettingsInvalid: A variable is missing or wrong.
    """
    return CollectorSettings(
        sqlite=Path(environment.get("INTERLOCK_SQLITE", SQLITE_FILE)),
        postgres=environment.get("INTERLOCK_POSTGRES", ""),
        keep_days=_number(environment, "INTERLOCK_KEEP_DAYS", KEEP_DAYS, most=MOST_DAYS),
        quotas=Quotas(
            int(_number(environment, "INTERLOCK_AGENT_QUOTA_BYTES", AGENT_QUOTA, most=1e15)),
            int(_number(environment, "INTERLOCK_NAMESPACE_QUOTA_BYTES", NAMESPACE_QUOTA, most=1e15)),
        ),
        port=int(_number(environment, "INTERLOCK_PORT", AUDIT_PORT, most=65535)),
        telemetry_port=int(_number(environment, "INTERLOCK_TELEMETRY_PORT", AUDIT_TELEMETRY_PORT, most=65535)),
        api_server=_api_server(environment),
        credentials=Path(environment.get("INTERLOCK_CREDENTIALS", "/var/run/secrets/kubernetes.io/serviceaccount")),
    )


def _number(environment: Mapping[str, str], name: str, default: float, *, most: float) -> float:
    try:
        value = float(environment.get(name, default))
    except ValueError:
        raise CollectorSettingsInvalid(f"{name} is not a number") from None
    if not 0 <= value <= most:  # also refuses nan
        raise CollectorSettingsInvalid(f"{name} is out of range")
    return value


def _api_server(environment: Mapping[str, str]) -> str:
    override = environment.get("INTERLOCK_API_SERVER")
    if override:
        # The token must never be sent unencrypted. Tests use a server on the loopback interface.
        if not override.startswith(("https://", "http://127.0.0.1:")):
            raise CollectorSettingsInvalid("INTERLOCK_API_SERVER must start with https://")
        return override.rstrip("/")
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise CollectorSettingsInvalid("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
