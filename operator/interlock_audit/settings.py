"""The collector's settings, read once from the environment of its container."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_contract.pod import AUDIT_PORT, AUDIT_TELEMETRY_PORT

KEEP_DAYS: Final = 184
"""How long records are kept: six months, the longest of them."""


class CollectorSettingsInvalid(ValueError):  # noqa: N818 - says the state of the settings
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorSettings:
    """Where records are kept and for how long, where the collector listens, and whom it asks who somebody is.

    Attributes:
        postgres: A connection string of libpq; empty, records are in the file `sqlite`.
        keep_days: 0 is for ever.
    """

    sqlite: Path
    postgres: str
    keep_days: float
    port: int
    telemetry_port: int
    api_server: str
    credentials: Path


def read_settings(environment: Mapping[str, str]) -> CollectorSettings:
    """Read the settings; each has a default that is right in a pod.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    return CollectorSettings(
        sqlite=Path(environment.get("INTERLOCK_SQLITE", "/var/lib/interlock-audit/records.sqlite")),
        postgres=environment.get("INTERLOCK_POSTGRES", ""),
        keep_days=_number(environment, "INTERLOCK_KEEP_DAYS", KEEP_DAYS, most=36500),
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
        # The token must never travel in the clear; a test's server on the loopback interface is no journey.
        if not override.startswith(("https://", "http://127.0.0.1:")):
            raise CollectorSettingsInvalid("INTERLOCK_API_SERVER must start with https://")
        return override.rstrip("/")
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        raise CollectorSettingsInvalid("KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
