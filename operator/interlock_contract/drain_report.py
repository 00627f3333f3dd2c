"""The report of a draining guard: how many of its tasks are under way, an annotation of the placement's Lease, by pod.

A guard writes it at each change while its bundle says that the placement drains, at most once a second. The operator
deletes a placement early only if all its guards report that none is under way. Admission lets a guard write the report
under the name of its own pod alone. No I/O.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from interlock_contract.clock import read_time, write_time
from interlock_contract.names import DRAIN_PREFIX
from interlock_contract.strict_json import JsonInvalid, parse_json

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VALUE: Final = 1024
_MAX_COUNT: Final = 10**6


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a draining guard has under way.

    Attributes:
        bundle: Digest of the text of the bundle by which the guard drains.
        under_way: Tasks under way: HTTP exchanges, and A2A tasks without an exchange whose last state is not final.
        at: When it was counted, by the guard's clock.
    """

    bundle: str
    under_way: int
    at: datetime


def dump_drain(report: DrainReport) -> str:
    """Return the annotation's value for a report."""
    said = {"at": write_time(report.at), "bundle": report.bundle, "underWay": report.under_way}
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def read_drains(annotations: Mapping[str, str]) -> dict[str, DrainReport]:
    """Return what guards report, by the names of their pods. What is no such report is left out."""
    found = {
        key.removeprefix(DRAIN_PREFIX): _parse(text)
        for key, text in annotations.items()
        if key.startswith(DRAIN_PREFIX)
    }
    return {pod: report for pod, report in found.items() if report is not None}


def is_drained(reports: Mapping[str, DrainReport], pod: str, bundle: str) -> bool:
    """Return True if the guard of a pod reports that nothing is under way.

    Args:
        reports: The reports of the placement's Lease.
        pod: Name of the pod.
        bundle: Digest of the bundle that says that the placement drains. A report on another bundle is from before:
            the guard may have taken tasks since.
    """
    report = reports.get(pod)
    return report is not None and report.bundle == bundle and report.under_way == 0


def _parse(text: Any) -> DrainReport | None:
    try:
        said = parse_json(text, max_depth=1) if isinstance(text, str) and len(text) <= _MAX_VALUE else None
    except JsonInvalid:
        return None
    match said:
        case {"bundle": str(bundle), "underWay": int(count), "at": at}:
            when = read_time(at, _NEVER)
            if type(count) is int and 0 <= count <= _MAX_COUNT and when != _NEVER:
                return DrainReport(bundle, count, when.astimezone(UTC))
        case _:
            pass
    return None
