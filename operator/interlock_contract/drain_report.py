"""The report of a guard during a drain: how many tasks are under way, an annotation of the placement's Lease, by pod.

A guard writes it at each change while its bundle says that it drains or that pods of its agent do, at most once a
second. The operator deletes a placement early only if all its guards report that none is under way. It deletes a pod
of a separate agent early only if no guard reports a task there. Admission lets a guard write the report under the name
of its own pod alone. No I/O.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from interlock_contract.clock import read_time, write_time
from interlock_contract.names import DRAIN_PREFIX
from interlock_contract.strict_json import JsonInvalid, parse_json

LEAST_DRAIN_SECONDS: Final = 10
"""How long a pod that took tasks drains at least, and how long it must have got none at the end. Nothing else tells
when all nodes have learned that a Service leads to other pods. Until then they send tasks there."""
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VALUE: Final = 1024
_MAX_COUNT: Final = 10**6


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a guard has under way during a drain.

    Attributes:
        bundle: Digest of the text of the bundle by which the guard or pods of its agent drain.
        under_way: Tasks under way: HTTP exchanges, and A2A tasks without an exchange whose last state is not final.
            At least one until no task has come for `LEAST_DRAIN_SECONDS`. None while the guard takes new tasks.
        at: When it was counted, by the guard's clock.
        under_way_leaving: Those of them in pods of the agent that drain. None while no such pod does.
    """

    bundle: str
    under_way: int | None
    at: datetime
    under_way_leaving: int | None = None


def dump_drain(report: DrainReport) -> str:
    """Return the annotation's value for a report."""
    counts = {"underWay": report.under_way, "underWayLeaving": report.under_way_leaving}
    counted = {key: count for key, count in counts.items() if count is not None}
    said = {"at": write_time(report.at), "bundle": report.bundle, **counted}
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


def has_none_leaving(reports: Mapping[str, DrainReport], pod: str, bundle: str) -> bool:
    """Return True if the guard of a pod reports that nothing is under way in the agent's pods that drain.

    Args:
        reports: The reports of the placement's Lease.
        pod: Name of the guard's pod.
        bundle: Digest of the bundle that names the addresses of the pods that drain.
    """
    report = reports.get(pod)
    return report is not None and report.bundle == bundle and report.under_way_leaving == 0


def _parse(text: Any) -> DrainReport | None:
    try:
        said = parse_json(text, max_depth=1) if isinstance(text, str) and len(text) <= _MAX_VALUE else None
    except JsonInvalid:
        return None
    match said:
        case {"bundle": str(bundle), "at": at, **more}:
            when = read_time(at, _NEVER)
            counts: dict[str, Any] = {key: more[key] for key in ("underWay", "underWayLeaving") if key in more}
            if when != _NEVER and counts and all(map(_is_count, counts.values())):
                return DrainReport(bundle, counts.get("underWay"), when.astimezone(UTC), counts.get("underWayLeaving"))
        case _:
            pass
    return None


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MAX_COUNT
