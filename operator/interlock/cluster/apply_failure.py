"""The failure of a write to a child."""

from interlock.api.status import AgentReason
from interlock.deployment.ownership import AppliedObjects
from interlock_kube.client import ApiError
from interlock_kube.reconcile_loop import ReconcileRefused


class ApplyFailed(ReconcileRefused):
    """A child could not be written or deleted; the message names the child and the reason.

    Attributes:
        reason: The reason of the condition that reports it.
        written: The children that this run of the plan has written nevertheless.
    """

    def __init__(self, message: str, reason: AgentReason = AgentReason.APPLY_FAILED) -> None:
        super().__init__(message)
        self.reason = reason
        self.written: AppliedObjects = {}


def because(error: Exception) -> str:
    """Return why a request failed. One without an answer counts as refused: a webhook may be what holds it up."""
    return error.message if isinstance(error, ApiError) else f"the API server gave no answer ({type(error).__name__})"


def has_status(error: Exception, *statuses: int) -> bool:
    """Return True if the API server answered with one of these."""
    return isinstance(error, ApiError) and error.status in statuses
