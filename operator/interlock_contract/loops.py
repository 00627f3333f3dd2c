"""Loops: the terms by which a guard finds them, and its report of one, for which the kill controller ends the agent.

The report is an annotation of the placement's Lease, by pod. The kill controller reads it only from Leases that the
operator has labelled, which says that the policy has the agent killed. Admission lets a guard write it under the name
of its own pod alone. No I/O.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from interlock_contract.clock import read_time, write_time
from interlock_contract.names import LOOP_PREFIX
from interlock_contract.strict_fields import StrictStruct
from interlock_contract.strict_json import JsonInvalid, parse_json

LEAST_CALLS: Final = 2
MAX_CALLS: Final = 10_000
LEAST_WINDOW: Final = 10
MAX_WINDOW: Final = 3600
"""Seconds, as the least one."""
LOOP_VALUE: Final = "loop: "
"""Beginning of the value of a kill switch that the kill controller sets."""

LoopAction = Literal["Block", "Kill"]

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NAME: Final = 256
_MAX_VALUE: Final = 4096
_MAX_COUNT: Final = 10**9


class BundleLoops(StrictStruct, frozen=True):
    """When identical calls are a loop: `identical_calls` of them within `window_seconds`.

    `Block` refuses the call until it stayed away for one window. `Kill` refuses it, and has the agent killed.
    """

    identical_calls: Annotated[int, Meta(ge=LEAST_CALLS, le=MAX_CALLS)]
    window_seconds: Annotated[int, Meta(ge=LEAST_WINDOW, le=MAX_WINDOW)]
    action: LoopAction = "Block"


@dataclass(frozen=True, slots=True)
class LoopReport:
    """A loop that a guard has found.

    Attributes:
        call: What was called: source and tool, or provider and model.
        calls: How many identical calls there were within the window.
        window_seconds: Length of the window.
        digest: Digest of the arguments of a tool's call, as its audit records have it; empty for prompts.
        at: When it was found, by the guard's clock.
    """

    call: str
    calls: int
    window_seconds: int
    digest: str
    at: datetime


def dump_loop(report: LoopReport) -> str:
    """Return the annotation's value for a report."""
    said = {
        "at": write_time(report.at),
        "call": report.call[:_MAX_NAME],
        "calls": report.calls,
        "digest": report.digest,
        "windowSeconds": report.window_seconds,
    }
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def read_loops(annotations: Mapping[str, str]) -> dict[str, LoopReport]:
    """Return the loops that guards report, by the names of their pods. What is no such report is left out."""
    found = {
        key.removeprefix(LOOP_PREFIX): _parse(text) for key, text in annotations.items() if key.startswith(LOOP_PREFIX)
    }
    return {pod: report for pod, report in found.items() if report is not None}


def describe_loop(pod: str, report: LoopReport) -> str:
    """Return the value of the kill switch for a report: the same text for the same report, and for no other."""
    return (
        f"{LOOP_VALUE}{report.calls} identical calls of {report.call} in {report.window_seconds}s, "
        f"reported by pod {pod} at {write_time(report.at)}"
    )


def _parse(text: Any) -> LoopReport | None:
    try:
        said = parse_json(text, max_depth=1) if isinstance(text, str) and len(text) <= _MAX_VALUE else None
    except JsonInvalid:
        return None
    match said:
        case {"call": str(call), "calls": int(calls), "digest": str(digest), "windowSeconds": int(seconds), "at": at}:
            when = read_time(at, _NEVER)
            is_text = call.isprintable() and digest.isprintable() and max(len(call), len(digest)) <= _MAX_NAME
            if is_text and 0 < calls <= _MAX_COUNT and 0 < seconds <= _MAX_COUNT and when != _NEVER:
                return LoopReport(call, calls, seconds, digest, when.astimezone(UTC))
        case _:
            pass
    return None
