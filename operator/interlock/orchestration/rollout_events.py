"""What has happened in a decision on a rollout: the differences between its facts before and after."""

from collections.abc import Iterator

from interlock.orchestration.rollout_context import Context
from interlock.orchestration.rollout_decision import RolloutEvent, RolloutEventType, VoidCommand
from interlock.orchestration.rollout_state import RolloutFacts


def rollout_events(
    recorded: RolloutFacts,
    before: RolloutFacts,
    commanded: RolloutFacts,
    after: RolloutFacts,
    void: tuple[VoidCommand, ...],
    context: Context,
) -> tuple[RolloutEvent, ...]:
    """Return what has happened. No event comes twice, for the facts after it are recorded.

    Args:
        recorded: The facts as recorded.
        before: Those of them that are believed.
        commanded: The same after all commands. An approval may be used in the same decision.
        after: The facts to record.
        void: The commands that were found to have no effect.
        context: All else.
    """
    return (
        *_refused(recorded, before),
        *_of_commands(before, commanded, void),
        *_of_newest(before, commanded, after, context),
        *_of_good(before, after, context),
        *_of_leaving(before, after),
    )


def _refused(recorded: RolloutFacts, before: RolloutFacts) -> Iterator[RolloutEvent]:
    if recorded.good is not None and (before.good is None or before.good.ref != recorded.good.ref):
        message = "the recorded good revision is not among those that passed"
        yield RolloutEvent(RolloutEventType.FACT_REFUSED, recorded.good.ref, message=message)
    if recorded.newest is not None and before.newest is None:
        message = "the recorded newest revision has the number of the good one"
        yield RolloutEvent(RolloutEventType.FACT_REFUSED, recorded.newest, message=message)


def _of_commands(
    before: RolloutFacts, commanded: RolloutFacts, void: tuple[VoidCommand, ...]
) -> Iterator[RolloutEvent]:
    for one in void:
        yield RolloutEvent(
            RolloutEventType.COMMAND_VOID, commanded.newest, by=one.command.by, message=f"{one.verb}: {one.why}"
        )
    for approval in commanded.approved:
        if approval not in before.approved:
            yield RolloutEvent(RolloutEventType.APPROVED, commanded.newest, approval.stage, by=approval.by)


def _of_newest(
    before: RolloutFacts, commanded: RolloutFacts, after: RolloutFacts, context: Context
) -> Iterator[RolloutEvent]:
    stopped = after.stopped
    if stopped is not None and stopped != before.stopped:
        message = f"{stopped.why}: {stopped.message}" if stopped.message else str(stopped.why)
        yield RolloutEvent(RolloutEventType.REVISION_STOPPED, stopped.ref, by=stopped.by, message=message)
    if after.stage is None or after.newest is None:
        return
    name = after.stage.stage.name
    is_new = after.newest != before.newest
    if is_new:
        retry = context.commands.retry if after.newest == commanded.newest else None
        by = "" if retry is None else retry.by
        yield RolloutEvent(RolloutEventType.REVISION_STARTED, after.newest, name, by=by)
    was_in = None if before.stage is None or is_new else before.stage.stage.name
    if was_in is not None and was_in != name:
        yield RolloutEvent(RolloutEventType.STAGE_ENTERED, after.newest, name)
    if after.serving_since is not None and after.serving_since != before.serving_since:
        yield RolloutEvent(RolloutEventType.SERVING, after.newest, name)


def _of_good(before: RolloutFacts, after: RolloutFacts, context: Context) -> Iterator[RolloutEvent]:
    good = after.good
    if good is None:
        return
    if before.good is None or good.ref != before.good.ref:
        is_newest = good.ref == after.newest
        kind = RolloutEventType.REVISION_GOOD if is_newest else RolloutEventType.ROLLED_BACK
        by = "" if is_newest or context.commands.rollback is None else context.commands.rollback.by
        yield RolloutEvent(kind, good.ref, good.stage.name, by=by)
    was_serving = before.good is not None and before.good.serving_since is not None
    if good.serving_since is not None and not was_serving and not context.is_complete(after):
        yield RolloutEvent(RolloutEventType.SERVING, good.ref, good.stage.name)


def _of_leaving(before: RolloutFacts, after: RolloutFacts) -> Iterator[RolloutEvent]:
    drained = {one.key for one in before.leaving if one.draining_since is not None}
    for one in after.leaving:
        if one.draining_since is not None and one.key not in drained:
            yield RolloutEvent(RolloutEventType.DRAINING, one.ref, one.stage.name)
