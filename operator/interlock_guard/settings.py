"""The guard's settings, read once from the environment of its container."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from interlock_guard.state import LEASE_SECONDS

MCP_PORT: Final = 7410
"""Port on the loopback interface, for the agent in the same pod."""
OBSERVE_PORT: Final = 7411
"""Port on every interface, for probes and metrics."""


class SettingsInvalid(ValueError):  # noqa: N818 - says the state of the settings
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the guard is, what it watches and where it listens.

    `dialable` are addresses of MCP servers that are dialled although no binding allows them: those of tests, whose
    servers are on loopback. The operator never sets it, and takes out what others add to a guard's container.
    """

    agent: str
    namespace: str
    bundle: str
    api_server: str
    credentials: Path
    pipes: Path
    secrets: Path
    dialable: frozenset[str]
    mcp_port: int
    observe_port: int
    lease_seconds: float


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Only the first four variables are set in a pod; the others have defaults and exist for tests and odd clusters.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    return Settings(
        agent=_text(environment, "INTERLOCK_AGENT"),
        namespace=_text(environment, "INTERLOCK_NAMESPACE"),
        bundle=_text(environment, "INTERLOCK_BUNDLE"),
        api_server=_api_server(environment),
        credentials=Path(environment.get("INTERLOCK_CREDENTIALS", "/var/run/secrets/interlock")),
        pipes=Path(environment.get("INTERLOCK_PIPES", "/run/interlock/pipes")),
        secrets=Path(environment.get("INTERLOCK_SECRETS", "/run/interlock/secrets")),
        dialable=frozenset(environment.get("INTERLOCK_DIALABLE", "").split()),
        mcp_port=int(_number(environment, "INTERLOCK_MCP_PORT", MCP_PORT)),
        observe_port=int(_number(environment, "INTERLOCK_OBSERVE_PORT", OBSERVE_PORT)),
        lease_seconds=_number(environment, "INTERLOCK_LEASE_SECONDS", LEASE_SECONDS),
    )


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingsInvalid(f"{name} is not set")
    return value


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environment.get(name, default))
    except ValueError:
        raise SettingsInvalid(f"{name} is not a number") from None
    if not 0 < value < 1e6:  # noqa: PLR2004 - also refuses nan and inf
        raise SettingsInvalid(f"{name} is out of range")
    return value


def _api_server(environment: Mapping[str, str]) -> str:
    override = environment.get("INTERLOCK_API_SERVER")
    if override:
        # The token must never travel in the clear; a test's server on the loopback interface is no journey.
        if not override.startswith(("https://", "http://127.0.0.1:")):
            raise SettingsInvalid("INTERLOCK_API_SERVER must start with https://")
        return override.rstrip("/")
    host, port = _text(environment, "KUBERNETES_SERVICE_HOST"), _text(environment, "KUBERNETES_SERVICE_PORT")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
