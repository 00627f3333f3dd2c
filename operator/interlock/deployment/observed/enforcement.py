"""Which of a placement's guards have proven the bundle that holds now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from interlock.api.binding import MCPBinding
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.plan import LiveChild
from interlock_contract.selftest_report import read_drifts, read_reports


@dataclass(frozen=True)
class Enforcement:
    """How far the guards are.

    Attributes:
        bundle: Digest of the bundle that holds.
        guards: How many have proven it.
        flaw: Of one that has found that it would not keep it, with its pod's name; empty where none has.
    """

    bundle: str
    guards: int = 0
    flaw: str = ""


def drifts_of(children: Mapping[ChildKey, LiveChild], bindings: Iterable[MCPBinding]) -> dict[str, datetime]:
    """Return when an agent's guards have found tools of these bindings changed; no others are theirs to speak of."""
    names = {binding.metadata.name for binding in bindings}
    found: dict[str, datetime] = {}
    for key, child in children.items():
        if key.kind == "Lease":
            said = read_drifts(child.manifest["metadata"].get("annotations") or {})
            found |= {name: max(at, found.get(name, at)) for name, at in said.items() if name in names}
    return found


def enforcement_of(lease: Manifest | None, bundle: str) -> Enforcement:
    """Return what the guards say of a bundle; what they say of any other counts for nothing.

    Args:
        lease: The placement's Lease, None where there is none yet.
        bundle: The digest of the bundle that the placement is to have.
    """
    annotations: Mapping[str, str] = {} if lease is None else lease["metadata"].get("annotations") or {}
    said = {pod: one for pod, one in sorted(read_reports(annotations).items()) if one.bundle == bundle}
    flaws = (f"guard {pod}: {one.flaw}" for pod, one in said.items() if one.flaw)
    return Enforcement(bundle, sum(not one.flaw for one in said.values()), next(flaws, ""))
