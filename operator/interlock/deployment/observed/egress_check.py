"""The gate: the first init container of an agent's pod of its own, and what it has to say.

A NetworkPolicy that exists before a pod is not in force when the pod starts. So the pod itself tries what must be
closed until it is, and only then its agent is started.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from interlock.deployment.names import Manifest
from interlock_contract.names import REVISION_LABEL, STAGE_LABEL
from interlock_contract.pod import EGRESS_CHECK_CONTAINER, NETWORK_OPEN, OPEN_MESSAGE


class EgressCheckVerdict(StrEnum):
    """What the gate of one pod has found."""

    WAITING = "Waiting"
    """Nothing yet."""
    CLOSED = "Closed"
    """All that must be closed is."""
    OPEN = "Open"
    """Something answered that no policy allows."""


@dataclass(frozen=True)
class EgressCheckReport:
    """What the gate of one pod says.

    Attributes:
        stage: Of the placement that the pod belongs to.
        revision: The same.
        verdict: What was found.
        message: The gate's own words, where it found something open.
    """

    stage: str
    revision: str
    verdict: EgressCheckVerdict
    message: str = ""


def read_egress_check(pod: Manifest) -> EgressCheckReport:
    """Return what the gate of a pod says, as the kubelet tells it.

    A gate that found the network open is started again and again: what it said last holds until it says otherwise.
    """
    labels = pod["metadata"].get("labels", {})
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    found: dict[str, Any] = next((status for status in statuses if status["name"] == EGRESS_CHECK_CONTAINER), {})
    verdict, message = EgressCheckVerdict.WAITING, ""
    for moment in ("lastState", "state"):
        ended = found.get(moment, {}).get("terminated")
        if ended is not None:
            verdict, message = _read_verdict(ended)
    return EgressCheckReport(labels.get(STAGE_LABEL, ""), labels.get(REVISION_LABEL, ""), verdict, message)


def _read_verdict(ended: dict[str, Any]) -> tuple[EgressCheckVerdict, str]:
    code, message = ended.get("exitCode"), str(ended.get("message", "")).strip()
    if code == NETWORK_OPEN or (code == 0 and message.startswith(OPEN_MESSAGE)):
        return EgressCheckVerdict.OPEN, message.removeprefix(OPEN_MESSAGE).strip()[:512]
    return (EgressCheckVerdict.CLOSED if code == 0 else EgressCheckVerdict.WAITING), ""
