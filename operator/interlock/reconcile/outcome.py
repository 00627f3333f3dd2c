"""What one look at an agent comes to."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from interlock.api.status import AgentStatus
from interlock.deployment.plan import Plan


class EventReason(StrEnum):
    """Reasons of Events that are no condition's reason: stable words that alerts may match."""

    STAGE_ENTERED = "StageEntered"
    """The agent entered a stage of its rollout."""
    KILLED = "Killed"
    """The kill switch was engaged."""
    RELEASED = "Released"
    """The kill switch was set to off."""


@dataclass(frozen=True)
class EventNote:
    """An Event that is owed: one per transition, never per look.

    Attributes:
        type: Normal or Warning, as Kubernetes has it.
        reason: A stable word.
        message: One sentence.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What has to be done, in this order: the plan, then the status, then the events.

    Attributes:
        plan: Writes to children.
        status: The status to report once the plan has been carried out.
        look_again_at: When time alone may change the answer, None where it does not.
    """

    plan: Plan
    status: AgentStatus
    look_again_at: datetime | None = None
