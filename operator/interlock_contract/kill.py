"""The kill switch as the guard reads it: any value but `off` kills, and a kill latches.

Only an explicit `off` releases. A removed annotation (a Helm upgrade, a GitOps sync, a hand) releases nothing, not even
across a restart of the guard: the Agent's `status.kill` without `releasedAt` then stands for the annotation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

KILL_SWITCH: Final = "interlock.dev/kill-switch"
"""Annotation of an Agent that kills it."""

RELEASE: Final = "off"
"""The one value that does not kill; exactly this, no other spelling."""


@dataclass(frozen=True, slots=True)
class KillLatch:
    """What the guard remembers about kills between two looks at its Agent.

    `message` is the switch's value while killed, else None. `excused` is the `requestedAt` of a kill in the status
    whose release the guard has seen itself, so that a status that lags behind does not engage it anew.
    """

    message: str | None = None
    excused: str | None = None


def observe_kill(latch: KillLatch, agent: Mapping[str, Any]) -> KillLatch:
    """Return the latch after a look at the Agent object."""
    annotations = _mapping(_mapping(agent.get("metadata")).get("annotations"))
    reported = _mapping(_mapping(agent.get("status")).get("kill"))
    requested_at = str(reported.get("requestedAt"))
    value = annotations.get(KILL_SWITCH)
    if value == RELEASE:
        return KillLatch(message=None, excused=requested_at if reported else None)
    if value is not None:
        return KillLatch(message=str(value), excused=None)
    if reported and not reported.get("releasedAt") and requested_at != latch.excused:
        return KillLatch(message=str(reported.get("reason", "killed")), excused=None)
    return latch  # a switch that is gone releases nothing


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
