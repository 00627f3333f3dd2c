"""Readiness of a placement's Deployments: all replicas updated and available at the current spec."""

from collections.abc import Sequence
from dataclasses import dataclass

from interlock.deployment.names import Manifest
from interlock.deployment.observed.pod_refusals import find_way_out
from interlock.deployment.observed.quoting import quote_message


@dataclass(frozen=True)
class Readiness:
    """The progress of a Deployment.

    Attributes:
        available: Number of pods of the current template that are certainly available. The counts of a Deployment do
            not separate templates, so every older pod is subtracted.
        wanted: Number of pods in the spec.
        is_current: The Deployment's controller has observed the current spec.
        refused: Quoted message of the API server that refused a pod, empty where it has refused none.
        stuck: Quoted message of the Deployment's controller that there was no progress for minutes, empty without one.
        way_out: Which object of the namespace refuses the pod and what to do, as far as `refused` says that.
    """

    available: int = 0
    wanted: int = 0
    is_current: bool = False
    refused: str = ""
    stuck: str = ""
    way_out: str = ""

    @property
    def is_ready(self) -> bool:
        """True if all wanted pods are available, and there is at least one."""
        return self.is_current and 0 < self.wanted <= self.available


def readiness_of_all(found: Sequence[Readiness]) -> Readiness:
    """Return the progress of several Deployments that serve only together: that of the slowest."""
    return Readiness(
        available=min((one.available for one in found), default=0),
        wanted=max((one.wanted for one in found), default=0),
        is_current=bool(found) and all(one.is_current for one in found),
        refused=next((one.refused for one in found if one.refused), ""),
        stuck=next((one.stuck for one in found if one.stuck), ""),
        way_out=next((one.way_out for one in found if one.refused), ""),
    )


def readiness_of(deployment: Manifest | None, ready: int | None = None) -> Readiness:
    """Return the progress of a live Deployment; a missing one (None) has no pods.

    Args:
        deployment: The Deployment.
        ready: How many pods of the current template are Ready by their own word. It counts instead of what the
            Deployment says, whose controller calls no new pod available while it holds earlier ones. None otherwise.
    """
    if deployment is None:
        return Readiness()
    status = deployment.get("status", {})
    older = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    refusal = _message_of("ReplicaFailure", "True", status.get("conditions", []))
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return Readiness(
        available=max(0, status.get("availableReplicas", 0) - older) if ready is None else ready,
        wanted=deployment["spec"].get("replicas", 1),
        is_current=seen,
        refused=quote_message(refusal),
        stuck=quote_message(_message_of("Progressing", "False", status.get("conditions", []))),
        way_out=find_way_out(refusal, deployment["metadata"].get("namespace", "")),
    )


def _message_of(kind: str, status: str, conditions: list[dict[str, str]]) -> str:
    found = (one for one in conditions if (one["type"], one["status"]) == (kind, status))
    return next((one.get("message", "") for one in found), "")
