"""Where things lie and what is forced: the environment variables of the cluster tooling, read once."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from tools.machine.errors import ClusterError

Choice = TypeVar("Choice", bound=StrEnum)


class EngineChoice(StrEnum):
    """INTERLOCK_ENGINE: which Docker engine kind uses."""

    AUTO = "auto"
    """One that answers, else a private one."""
    EXISTING = "existing"
    """Only one that answers already (DOCKER_HOST, a docker context or the default socket)."""
    PRIVATE = "private"
    """Always an engine of our own (root on Debian or Ubuntu)."""


class PartsChoice(StrEnum):
    """INTERLOCK_PARTS: where programs, node image and base image come from."""

    AUTO = "auto"
    """Released ones where the servers answer, else built."""
    RELEASED = "released"
    """Only released programs and images."""
    BUILT = "built"
    """Programs from the Go module proxy, images from those and Debian packages."""


@dataclass(frozen=True)
class Settings:
    """Everything that the environment decides."""

    cache: Path
    engine: EngineChoice = EngineChoice.AUTO
    parts: PartsChoice = PartsChoice.AUTO
    debian_mirror: str | None = None
    base_image: str | None = None
    """What our own images start from; None: what this machine can have."""
    cluster: str | None = None
    """The kind cluster that commands mean where they name none; None: `interlock`."""

    @property
    def programs(self) -> Path:
        """Programs, one folder for each name and version."""
        return self.cache / "programs"

    @property
    def logs(self) -> Path:
        """The output of every step."""
        return self.cache / "logs"

    @property
    def roots(self) -> Path:
        """Debian file trees, one folder for each suite and package list."""
        return self.cache / "roots"

    @property
    def run(self) -> Path:
        """The state of running clusters."""
        return self.cache / "run"

    @property
    def private_engine(self) -> Path:
        """The private Docker engine: its data, sockets, log and record of what was there before it."""
        return self.cache / "engine"


def from_environment(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read INTERLOCK_CACHE, _ENGINE, _PARTS, _DEBIAN_MIRROR, _BASE_IMAGE and _CLUSTER.

    Raises:
        ClusterError: a setting has a value that it cannot have.
    """
    base = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or "~").expanduser() / ".cache")
    cache = environ.get("INTERLOCK_CACHE") or str(Path(base) / "interlock")
    return Settings(
        cache=Path(cache).absolute(),
        engine=_choice(EngineChoice, "INTERLOCK_ENGINE", environ),
        parts=_choice(PartsChoice, "INTERLOCK_PARTS", environ),
        debian_mirror=environ.get("INTERLOCK_DEBIAN_MIRROR") or None,
        base_image=environ.get("INTERLOCK_BASE_IMAGE") or None,
        cluster=environ.get("INTERLOCK_CLUSTER") or None,
    )


def _choice(enum: type[Choice], name: str, environ: Mapping[str, str]) -> Choice:
    value = environ.get(name) or "auto"
    try:
        return enum(value)
    except ValueError:
        allowed = ", ".join(enum)
        raise ClusterError(f"{name} is {value!r}; it may be one of: {allowed}") from None


def architecture(machine: str | None = None) -> str:
    """Return this machine's architecture as Go, Debian and the image registries call it.

    Raises:
        ClusterError: one that nothing here was made for.
    """
    machine = machine or platform.machine()
    known = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    if machine not in known:
        raise ClusterError(f"clusters need an x86-64 or arm64 machine; this one is {machine!r}")
    return known[machine]
