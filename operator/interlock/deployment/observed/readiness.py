"""Readiness of a placement's Deployments: all replicas updated and available at the current spec."""

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.deployment.names import Manifest


@dataclass(frozen=True)
class Readiness:
    """The progress of a Deployment.

    Attributes:
        available: Number of pods of the current template that are certainly available. The counts of a Deployment do
            not separate templates, so every older pod is subtracted.
        wanted: Number of pods in the spec.
        is_current: The Deployment's controller has observed the current spec.
        trouble: Message of the Deployment's controller about a failure, empty without one.
    """

    available: int = 0
    wanted: int = 0
    is_current: bool = False
    trouble: str = ""

    @property
    def is_ready(self) -> bool:
        """True if all wanted pods are available, and there is at least one."""
        return self.is_current and 0 < self.wanted <= self.available


def readiness_of_all(deployments: Iterable[Manifest | None]) -> Readiness:
    """Return the progress of several Deployments that serve only together: that of the slowest."""
    found = [readiness_of(deployment) for deployment in deployments]
    return Readiness(
        available=min((one.available for one in found), default=0),
        wanted=max((one.wanted for one in found), default=0),
        is_current=bool(found) and all(one.is_current for one in found),
        trouble=next((one.trouble for one in found if one.trouble), ""),
    )


def readiness_of(deployment: Manifest | None) -> Readiness:
    """Return the progress of a live Deployment; a missing one (None) has no pods."""
    if deployment is None:
        return Readiness()
    status = deployment.get("status", {})
    older = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return Readiness(
        available=max(0, status.get("availableReplicas", 0) - older),
        wanted=deployment["spec"].get("replicas", 1),
        is_current=seen,
        trouble=_trouble(status.get("conditions", [])),
    )


def _trouble(conditions: list[dict[str, str]]) -> str:
    for condition in conditions:
        failed = condition["type"] == "ReplicaFailure" and condition["status"] == "True"
        stuck = condition["type"] == "Progressing" and condition["status"] == "False"
        if failed or stuck:
            return condition.get("message", "")
    return ""


_STARTING = ("ContainerCreating", "PodInitializing")
_MAX_TROUBLE = 200


def container_trouble(pod: Manifest) -> str:
    """Return the first container of a pod that waits for more than its start, and why; empty where none does.

    An example: `container agent is in ImagePullBackOff (pull access denied)`.
    """
    status = pod.get("status", {})
    for found in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        waiting = found.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if not reason or reason in _STARTING:
            continue
        ended = found.get("lastState", {}).get("terminated")
        # The kubelet's own message about a crash holds the length of the back-off, which changes at each restart.
        why = f"exit code {ended.get('exitCode')}" if ended else str(waiting.get("message", ""))
        trouble = f"container {found['name']} is in {reason}"
        room = _MAX_TROUBLE - len(f"{trouble} ()")
        said = why if len(why) <= room else f"{why[: room - 3]}..."
        return (f"{trouble} ({said})" if why else trouble)[:_MAX_TROUBLE]
    return ""
