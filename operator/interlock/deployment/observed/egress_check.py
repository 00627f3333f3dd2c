"""The reports of egress checks: the first init container of a separate agent's pod, as the kubelet reports it.

A NetworkPolicy that exists before a pod may not be in force when the pod starts. So the pod itself probes the addresses
that must be closed, and its agent starts only after they are.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from interlock.deployment.names import Manifest
from interlock_contract.pod import (
    EGRESS_CHECK_CONTAINER,
    NETWORK_OPEN,
    NODE_MESSAGE,
    OPEN_MESSAGE,
    UNANSWERED_MESSAGE,
)


class EgressCheckVerdict(StrEnum):
    """The result of one pod's egress check."""

    WAITING = "Waiting"
    """There is no result yet."""
    CLOSED = "Closed"
    """Every address that must be closed is closed."""
    OPEN = "Open"
    """An address answered that no policy allows."""


@dataclass(frozen=True)
class EgressCheckReport:
    """The report of one pod's egress check.

    Attributes:
        verdict: The result.
        message: What is open if the verdict is Open; if it is Closed, what rows of egress open and did not answer.
        node: The address and port of the pod's node that answered although the rest is closed; empty if it did not.
    """

    verdict: EgressCheckVerdict
    message: str = ""
    node: str = ""


def read_egress_check(pod: Manifest) -> EgressCheckReport:
    """Return the report of a pod's egress check.

    The kubelet restarts a check that found the network open. The last result counts until there is another one.
    """
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    found: dict[str, Any] = next((status for status in statuses if status["name"] == EGRESS_CHECK_CONTAINER), {})
    report = EgressCheckReport(EgressCheckVerdict.WAITING)
    for moment in ("lastState", "state"):
        ended = found.get(moment, {}).get("terminated")
        if ended is not None:
            report = _read_report(ended)
    return report


def _read_report(ended: dict[str, Any]) -> EgressCheckReport:
    code, message = ended.get("exitCode"), str(ended.get("message", "")).strip()
    if code == NETWORK_OPEN or (code == 0 and message.startswith(OPEN_MESSAGE)):
        return EgressCheckReport(EgressCheckVerdict.OPEN, message.removeprefix(OPEN_MESSAGE).strip()[:_MOST])
    if code != 0:
        return EgressCheckReport(EgressCheckVerdict.WAITING)
    lines = message.splitlines()
    return EgressCheckReport(
        EgressCheckVerdict.CLOSED, _after(UNANSWERED_MESSAGE, lines), node=_after(NODE_MESSAGE, lines)
    )


def _after(beginning: str, lines: list[str]) -> str:
    """Return the rest of the first line that begins so, empty if none does."""
    found = next((line for line in lines if line.startswith(beginning)), beginning)
    return found.removeprefix(beginning).strip()[:_MOST]


_MOST: Final = 512
"""Characters of a message that are kept."""
