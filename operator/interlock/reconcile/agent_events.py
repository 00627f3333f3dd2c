"""Events are owed for transitions, not for looks: what changed between two statuses of an agent."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType


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


_TOLD = (
    ConditionType.GOVERNED,
    ConditionType.ORCHESTRATED,
    ConditionType.ACTIONS_BOUND,
    ConditionType.DEPLOYED,
    ConditionType.READY,
)


def transitions(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Return the Events that are owed, in the order of the layers.

    A layer of a new agent that simply holds is no news; that it is Ready is.
    """
    notes = [note for kind in _TOLD if (note := _told(_find(before, kind), _find(after, kind), kind))]
    return (*notes, *_stage(before, after), *_kill(before, after), *_proof(before, after), *_egress(before, after))


def _told(before: Condition | None, after: Condition | None, kind: ConditionType) -> EventNote | None:
    if after is None or (before is not None and (before.status, before.reason) == (after.status, after.reason)):
        return None
    was_unknown = before is None or before.status == "Unknown"
    if after.status == "Unknown" or (was_unknown and after.status == "True" and kind is not ConditionType.READY):
        return None
    if was_unknown and kind is ConditionType.READY and after.reason == AgentReason.PODS_NOT_READY:
        return None
    text = f"{kind}={after.status}: {after.message}"
    return EventNote("Normal" if after.status == "True" else "Warning", after.reason, text)


def _stage(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    old, new = before.stage if before else None, after.stage
    if new is None or (old is not None and (old.name, old.entered_at) == (new.name, new.entered_at)):
        return ()
    limits = "; ".join(f"{limit.dimension} {', '.join(limit.values)}" for limit in new.scope) or "everywhere"
    text = f"entered stage {new.name} ({new.environment}, {limits}) with revision {new.revision}"
    return (EventNote("Normal", EventReason.STAGE_ENTERED, text),)


def _kill(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    old, new = _find(before, ConditionType.KILLED), _find(after, ConditionType.KILLED)
    was, now_is = old is not None and old.status == "True", new is not None and new.status == "True"
    if new is None or was == now_is:
        return ()
    if now_is:
        return (EventNote("Warning", EventReason.KILLED, new.message),)
    return (EventNote("Normal", EventReason.RELEASED, new.message),)


def _proof(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """A proof is made at each change of a policy, and is no news; one that fails is."""
    old, new = _find(before, ConditionType.POLICY_ENFORCED), _find(after, ConditionType.POLICY_ENFORCED)
    if new is None or new.reason != AgentReason.SELF_TEST_FAILED or (old is not None and old.reason == new.reason):
        return ()
    return (EventNote("Warning", AgentReason.SELF_TEST_FAILED, f"{new.type}={new.status}: {new.message}"),)


def _egress(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Tell of a network that enforces nothing, also where the agent runs all the same."""
    old, new = _find(before, ConditionType.EGRESS_ENFORCED), _find(after, ConditionType.EGRESS_ENFORCED)
    if new is None or new.reason != AgentReason.NETWORK_OPEN or (old is not None and old.reason == new.reason):
        return ()
    return (EventNote("Warning", AgentReason.NETWORK_OPEN, f"{new.type}={new.status}: {new.message}"),)


def _find(status: AgentStatus | None, kind: ConditionType) -> Condition | None:
    return next((known for known in status.conditions if known.type == kind), None) if status else None
