"""The timeline of a rollout in the status of an Agent, and the Events of what has happened to it."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from interlock.api.agent import Agent
from interlock.api.rollout_status import MAX_EVENTS, HistoryEntry, HistoryEvent
from interlock.orchestration.rollout_decision import RolloutDecision, RolloutEvent, RolloutEventType
from interlock.orchestration.rollout_state import RevisionRef, StopReason
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.revisions import Revisions
from interlock_contract.json_diff import diff_lines

_MOST_TEXT = 256
"""Characters of a name and of a message in an entry. With all else that is recorded, a kill must still fit."""
_STOPPED = {
    StopReason.ABORTED: HistoryEvent.ABORTED,
    StopReason.BREACHED: HistoryEvent.BREACHED,
    StopReason.ROLLED_BACK: HistoryEvent.ROLLED_BACK,
}


def history_of(agent: Agent, decision: RolloutDecision, now: datetime) -> tuple[HistoryEntry, ...]:
    """Return the timeline with what this decision adds to it. A decision that is made again adds nothing."""
    known = agent.status.history if agent.status else ()
    fresh = [one for one in _entries(decision, now) if one not in known and not _is_known(one, known)]
    return (*known, *fresh)[-MAX_EVENTS:] if fresh else known


def _is_known(entry: HistoryEntry, known: tuple[HistoryEntry, ...]) -> bool:
    """Entries of earlier versions name revisions by their digests, so the time alone tells that a stage is known."""
    return entry.event is HistoryEvent.STAGE_ENTERED and any(
        one.event is HistoryEvent.STAGE_ENTERED and (one.at, one.stage) == (entry.at, entry.stage) for one in known
    )


def _entries(decision: RolloutDecision, now: datetime) -> Iterator[HistoryEntry]:
    facts = decision.facts
    for event in decision.events:
        if event.ref is None:
            continue
        if event.type is RolloutEventType.REVISION_STOPPED and facts.stopped is not None:
            yield HistoryEntry(
                event=_STOPPED[facts.stopped.why],
                at=facts.stopped.at,
                revision=event.ref.name,
                by=event.by[:_MOST_TEXT],
                message=facts.stopped.message[:_MOST_TEXT],
            )
        elif event.type is RolloutEventType.REVISION_GOOD:
            yield HistoryEntry(event=HistoryEvent.GOOD, at=now, revision=event.ref.name, stage=event.stage)
    stage, newest = facts.stage, facts.newest
    if stage is not None and newest is not None:
        yield HistoryEntry(
            at=stage.entered_at,
            revision=newest.name,
            stage=stage.stage.name,
            environment=stage.stage.environment,
        )


def notes_of(decision: RolloutDecision, before: RevisionRef | None, revisions: Revisions) -> tuple[EventNote, ...]:
    """Return the Events of what has happened in a decision, besides the stage that was entered.

    The start of the first revision is no news: nothing else serves, and its first stage has an Event of its own.

    Args:
        decision: The decision.
        before: The newest revision until now.
        revisions: The revisions of the agent.
    """
    told = (event for event in decision.events if not _is_first(event))
    return tuple(note for event in told if (note := _note(event, before, revisions)) is not None)


MOST_CHANGES: Final = 8
"""Most differences that the Event of a new revision names."""


def _changes(event: RolloutEvent, before: RevisionRef | None, revisions: Revisions) -> str:
    """Return what a new revision changes, for its Event; empty where one of both contents is not known."""
    if before is None or event.ref is None:
        return ""
    old, new = revisions.known.get(before.digest), revisions.known.get(event.ref.digest)
    if old is None or new is None:
        return ""
    lines = diff_lines(old.data, new.data, max_lines=MOST_CHANGES)
    return f": {'; '.join(lines)}" if lines else ""


def _is_first(event: RolloutEvent) -> bool:
    is_start = event.type in (RolloutEventType.REVISION_STARTED, RolloutEventType.SERVING)
    return is_start and event.ref is not None and event.ref.number == 1


def _note(event: RolloutEvent, before: RevisionRef | None, revisions: Revisions) -> EventNote | None:
    name = event.ref.name if event.ref is not None else "unknown"
    by = f" by {event.by}" if event.by else ""
    is_start = event.type is RolloutEventType.REVISION_STARTED
    retried = f", retried{by}" if by else ""
    more = (
        (_changes(event, before, revisions) or retried) if is_start else f": {event.message}" if event.message else ""
    )
    to = f" to stage {event.stage}" if event.stage else ""
    texts = {
        RolloutEventType.REVISION_STARTED: (
            EventReason.ROLLOUT_STARTED,
            f"revision {name} starts in {event.stage}{more}",
        ),
        RolloutEventType.REVISION_GOOD: (
            EventReason.REVISION_GOOD,
            f"revision {name} is good: it was Ready in its last stage, {event.stage}",
        ),
        RolloutEventType.REVISION_STOPPED: (EventReason.ROLLOUT_STOPPED, f"revision {name} was stopped{by}{more}"),
        RolloutEventType.ROLLED_BACK: (EventReason.ROLLED_BACK, f"revision {name} serves again, rolled back{by}"),
        RolloutEventType.APPROVED: (EventReason.PROMOTED, f"revision {name} was promoted{to}{by}"),
        RolloutEventType.COMMAND_VOID: (EventReason.COMMAND_VOID, f"a command{by} has no effect{more}"),
        RolloutEventType.FACT_REFUSED: (EventReason.STATUS_REFUSED, f"revision {name} in the status{more}"),
        RolloutEventType.SERVING: (EventReason.SERVING_CHANGED, f"revision {name} serves in stage {event.stage}"),
        RolloutEventType.DRAINING: (
            EventReason.SERVING_CHANGED,
            f"revision {name} takes no new work in stage {event.stage}, and ends after what is under way",
        ),
    }
    found = texts.get(event.type)
    return None if found is None else EventNote("Warning" if found[0] in _WARNINGS else "Normal", *found)


_WARNINGS = (EventReason.ROLLOUT_STOPPED, EventReason.COMMAND_VOID, EventReason.STATUS_REFUSED)
