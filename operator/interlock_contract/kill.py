"""The kill latch: the one rule by which kill controller, operator and guard decide whether an Agent is killed.

Every value of the annotation but `off` kills. Only an explicit `off` releases. Removing the annotation (a Helm upgrade,
a GitOps sync, a manual edit) releases nothing, not even across a restart. Then `status.kill` without `releasedAt`
stands for the annotation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from interlock_contract.names import KILL_SWITCH, KILL_SWITCH_OFF

GRACE_SECONDS: Final = 1
"""Grace period of the pods of agents and guards, and of every deletion of them: a kill cannot shorten a longer one that
is under way."""
MOST_TEXT: Final = 1024
"""Most characters of a switch's value that are kept, in memory and in the status."""


@dataclass(frozen=True, slots=True)
class KillLatch:
    """The kill state of one Agent between two observations.

    Attributes:
        message: The switch's value while the Agent is killed, at most `MOST_TEXT` characters of it, else None.
        released: `requestedAt` of the kill in the status whose release was observed in the annotation. A status that
            lags behind that release therefore does not kill again.
    """

    message: str | None = None
    released: str | None = None


def observe(latch: KillLatch, annotations: Any, status: Any) -> KillLatch:
    """Return the latch after one observation of the Agent.

    Args:
        latch: The latch so far; `KillLatch()` where nothing was observed before.
        annotations: `metadata.annotations` as the API server has them. Anything but a mapping counts as none.
        status: `status` as the API server has it. Anything but a mapping counts as none.
    """
    recorded = _mapping(_mapping(status).get("kill"))
    requested_at = str(recorded.get("requestedAt"))
    value = _mapping(annotations).get(KILL_SWITCH)
    if value == KILL_SWITCH_OFF:
        return KillLatch(released=requested_at if recorded else None)
    if value is not None:
        return KillLatch(message=shorten(value))
    if recorded and not recorded.get("releasedAt") and requested_at != latch.released:
        return KillLatch(message=shorten(recorded.get("reason", "killed")))
    return latch  # a removed annotation releases nothing


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def shorten(text: Any) -> str:
    """Return as much of a text that anyone may have written as is kept."""
    return str(text)[:MOST_TEXT]
