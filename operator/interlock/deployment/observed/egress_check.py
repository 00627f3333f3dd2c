"""The reports of egress checks: the first init container of a separate agent's pod, as the kubelet reports it.

A NetworkPolicy that exists before a pod may not be in force when the pod starts. So the pod itself probes the addresses
that must be closed, and its agent starts only after they are.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from interlock.deployment.names import Manifest
from interlock_contract.pod import EGRESS_CHECK_CONTAINER, NETWORK_OPEN, OPEN_MESSAGE, UNANSWERED_MESSAGE


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
    """

    verdict: EgressCheckVerdict
    message: str = ""


def read_egress_check(pod: Manifest) -> EgressCheckReport:
    """Return the report of a pod's egress check.

    The kubelet restarts a check that found the network open. The last result counts until there is another one.
    """
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    found: dict[str, Any] = next((status for status in statuses if status["name"] == EGRESS_CHECK_CONTAINER), {})
    verdict, message = EgressCheckVerdict.WAITING, ""
    for moment in ("lastState", "state"):
        ended = found.get(moment, {}).get("terminated")
        if ended is not None:
            verdict, message = _read_verdict(ended)
    return EgressCheckReport(verdict, message)


def _read_verdict(ended: dict[str, Any]) -> tuple[EgressCheckVerdict, str]:
    code, message = ended.get("exitCode"), str(ended.get("message", "")).strip()
    if code == NETWORK_OPEN or (code == 0 and message.startswith(OPEN_MESSAGE)):
        return EgressCheckVerdict.OPEN, message.removeprefix(OPEN_MESSAGE).strip()[:512]
    if code != 0:
        return EgressCheckVerdict.WAITING, ""
    is_unanswered = message.startswith(UNANSWERED_MESSAGE)
    return EgressCheckVerdict.CLOSED, message.removeprefix(UNANSWERED_MESSAGE).strip()[:512] if is_unanswered else ""
