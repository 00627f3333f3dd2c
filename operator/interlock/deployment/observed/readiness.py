"""When a placement's Deployments serve: all replicas updated and available, at the spec that is there now."""

from collections.abc import Iterable
from dataclasses import dataclass

from interlock.deployment.names import Manifest


@dataclass(frozen=True)
class Readiness:
    """How far a Deployment is.

    Attributes:
        available: Pods of the present template that are surely available: the counts do not tell them from older
            ones, so each older one is taken for one of the available.
        wanted: Pods that its spec wants.
        is_current: Its controller has seen the present spec.
        trouble: What the Deployment's controller could not do, empty where there is nothing.
    """

    available: int = 0
    wanted: int = 0
    is_current: bool = False
    trouble: str = ""

    @property
    def is_ready(self) -> bool:
        """All wanted pods serve, and there is at least one."""
        return self.is_current and 0 < self.wanted <= self.available


def readiness_of_all(deployments: Iterable[Manifest | None]) -> Readiness:
    """Return how far several Deployments are that serve only together: as far as the one that is least far."""
    found = [readiness_of(deployment) for deployment in deployments]
    return Readiness(
        available=min((one.available for one in found), default=0),
        wanted=max((one.wanted for one in found), default=0),
        is_current=bool(found) and all(one.is_current for one in found),
        trouble=next((one.trouble for one in found if one.trouble), ""),
    )


def readiness_of(deployment: Manifest | None) -> Readiness:
    """Return how far a live Deployment is; one that is not there is at nothing."""
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
