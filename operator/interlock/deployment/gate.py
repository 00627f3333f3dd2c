"""The gate: the first init container of an agent's pod of its own, and what it has to say.

A NetworkPolicy that exists before a pod is not in force when the pod starts. So the pod itself tries what must be
closed until it is, and only then its agent is started.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from interlock.api.meta import REVISION_LABEL, STAGE_LABEL
from interlock.api.scope import Environment
from interlock.deployment.child import Manifest
from interlock.deployment.guard_service import guard_url
from interlock.deployment.guard_sidecar import OBSERVE_PORT
from interlock.deployment.placement import Placement
from interlock.deployment.security import GATE_UID, container_security
from interlock_guard.egress_gate import NETWORK_OPEN, OPEN_MESSAGE

CONTAINER = "gate"


class GateVerdict(StrEnum):
    """What the gate of one pod has found."""

    WAITING = "Waiting"
    """Nothing yet."""
    CLOSED = "Closed"
    """All that must be closed is."""
    OPEN = "Open"
    """Something answered that no policy allows."""


@dataclass(frozen=True)
class GateReport:
    """What the gate of one pod says.

    Attributes:
        stage: Of the placement that the pod belongs to.
        revision: The same.
        verdict: What was found.
        message: The gate's own words, where it found something open.
    """

    stage: str
    revision: str
    verdict: GateVerdict
    message: str = ""


def may_start_open(environment: Environment) -> bool:
    """Tell whether an agent may start where the network enforces nothing: in development alone, and it is told."""
    return environment is Environment.DEVELOPMENT


def build_gate(placement: Placement) -> dict[str, Any]:
    """Return the gate's container."""
    closed = " ".join(_authority(address, OBSERVE_PORT) for address in placement.guard_addresses)
    return {
        "name": CONTAINER,
        "image": placement.guard_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/opt/venv/bin/python", "-m", "interlock_guard.egress_gate"],
        "env": [
            {"name": "INTERLOCK_GUARD_URL", "value": guard_url(placement)},
            {"name": "INTERLOCK_GATE_CLOSED", "value": closed},
            {"name": "INTERLOCK_GATE", "value": "Report" if may_start_open(placement.stage.environment) else "Demand"},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": container_security(GATE_UID, GATE_UID),
    }


def read_gate(pod: Manifest) -> GateReport:
    """Return what the gate of a pod says, as the kubelet tells it.

    A gate that found the network open is started again and again: what it said last holds until it says otherwise.
    """
    labels = pod["metadata"].get("labels", {})
    statuses = pod.get("status", {}).get("initContainerStatuses", ())
    found: dict[str, Any] = next((status for status in statuses if status["name"] == CONTAINER), {})
    verdict, message = GateVerdict.WAITING, ""
    for moment in ("lastState", "state"):
        ended = found.get(moment, {}).get("terminated")
        if ended is not None:
            verdict, message = _verdict(ended)
    return GateReport(labels.get(STAGE_LABEL, ""), labels.get(REVISION_LABEL, ""), verdict, message)


def _verdict(ended: dict[str, Any]) -> tuple[GateVerdict, str]:
    code, message = ended.get("exitCode"), str(ended.get("message", "")).strip()
    if code == NETWORK_OPEN or (code == 0 and message.startswith(OPEN_MESSAGE)):
        return GateVerdict.OPEN, message.removeprefix(OPEN_MESSAGE).strip()[:512]
    return (GateVerdict.CLOSED if code == 0 else GateVerdict.WAITING), ""


def _authority(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
