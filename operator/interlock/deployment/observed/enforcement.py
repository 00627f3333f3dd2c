"""The self-test reports of a placement's guards, and the tool drift that guards report, both from its Lease."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from interlock.api.binding import MCPBinding
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.plan import LiveChild
from interlock_contract.selftest_report import DROPPED_SUFFIX, read_drifts, read_reports


@dataclass(frozen=True)
class Enforcement:
    """The self-test results of a placement's guards for one bundle.

    Attributes:
        bundle: Digest of the current bundle.
        guards: Number of guards whose self-test passed.
        flaw: Name of a guard's pod with the failure of its self-test; empty if none failed.
    """

    bundle: str
    guards: int = 0
    flaw: str = ""


def drifts_of(
    children: Mapping[ChildKey, LiveChild], bindings: Iterable[MCPBinding], now: datetime
) -> dict[str, datetime]:
    """Return when an agent's guards found changed tools, by the names of these bindings.

    A name with `DROPPED_SUFFIX` has the time when they dropped many messages. Other names are ignored, and so are times
    that are more than a minute ahead of `now`.
    """
    names = {f"{binding.metadata.name}{suffix}" for binding in bindings for suffix in ("", DROPPED_SUFFIX)}
    found: dict[str, datetime] = {}
    for key, child in children.items():
        if key.kind == "Lease":
            said = read_drifts(child.manifest["metadata"].get("annotations") or {}, now)
            seen = {name: at for name, at in said.items() if name in names}
            found |= {name: max(at, found.get(name, at)) for name, at in seen.items()}
    return found


def enforcement_of(lease: Manifest | None, bundle: str) -> Enforcement:
    """Return the guards' self-test results for a bundle. Reports on other bundles are ignored.

    Args:
        lease: The placement's Lease, None if it does not exist yet.
        bundle: The digest of the placement's current bundle.
    """
    annotations: Mapping[str, str] = {} if lease is None else lease["metadata"].get("annotations") or {}
    said = {pod: one for pod, one in sorted(read_reports(annotations).items()) if one.bundle == bundle}
    flaws = (f"guard {pod}: {one.flaw}" for pod, one in said.items() if one.flaw)
    return Enforcement(bundle, sum(not one.flaw for one in said.values()), next(flaws, ""))
