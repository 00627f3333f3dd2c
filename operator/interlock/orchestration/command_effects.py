"""What commands do to a rollout. Each names the run of a revision that it is about, and is void for any other.

A command is handled once, when it appears. It is carried out then, or void for as long as it stands. So a command that
was void does nothing later by surprise. A retry or rollback whose run cannot be stored yet is handled as soon as it can
be. A promote is an approval that is recorded until its stage is entered. One that appears while the policy is away is
handled once that is back. A pause is the exception: it holds back, so it counts whenever it applies.
"""

from dataclasses import replace
from typing import Final

from interlock.api.agent import Stage
from interlock.orchestration.rollout_context import Context, become_good, leave
from interlock.orchestration.rollout_decision import VoidCommand
from interlock.orchestration.rollout_state import (
    Approval,
    Command,
    GoodRevision,
    LeavingPlacement,
    RevisionRef,
    RolloutFacts,
    StoppedRevision,
    StopReason,
)
from interlock.orchestration.scopes import has_served
from interlock.orchestration.soak import StageFacts, identity

MAX_APPROVALS = 16
"""Most approvals that are recorded: as many as there are stages."""
_NUMBERED: Final = ("rollback", "retry")
"""The commands that begin a run of a revision."""


def apply_commands(facts: RolloutFacts, context: Context) -> tuple[RolloutFacts, tuple[VoidCommand, ...]]:
    """Return the facts after all commands, and those that have no effect."""
    void, postponed = [], list[str]()
    standing = context.commands
    handled_commands = facts.handled_commands
    for verb, command, carry_out in (
        ("rollback", standing.rollback, _roll_back),
        ("abort", standing.abort, _abort),
        ("retry", standing.retry, _retry),
        ("promote", standing.promote, _promote),
        ("pause", standing.pause, _pause),
    ):
        if command is None:
            continue
        text = command_text(verb, command)
        if text in handled_commands and not (verb == "promote" and _is_recorded(command, facts)):
            continue
        if verb in _NUMBERED and context.seen.may_number:
            postponed.append(text)
            continue
        if verb == "promote" and not context.rules.knows_classes:
            if text not in handled_commands:
                postponed.append(text)
            continue
        outcome = carry_out(facts, command, context)
        if not isinstance(outcome, str):
            facts = outcome
        elif text not in handled_commands:
            void.append(VoidCommand(verb, command, outcome))
    handled = tuple(one for one in _commands_now(context) if one not in postponed)
    approved = tuple(one for one in facts.approved if _is_kept(one, facts, context))
    return replace(facts, approved=approved, handled_commands=handled), tuple(void)


def stop(facts: RolloutFacts, why: StopReason, context: Context, *, by: str = "", message: str = "") -> RolloutFacts:
    """Return the facts with the newest revision stopped. What it served goes to the good one in the hand-over.

    Without a good one that may run, all its placements drain from now on.
    """
    if facts.newest is None:
        return facts
    stopped = StoppedRevision(facts.newest, context.now, why, by, message)
    left = leave(facts)
    if not context.has_successor(facts):
        left = replace(left, leaving=tuple(_drained(one, facts.newest, context) for one in left.leaving))
    return replace(left, stopped=stopped, approved=())


def _drained(one: LeavingPlacement, ref: RevisionRef, context: Context) -> LeavingPlacement:
    is_serving = one.ref == ref and one.draining_since is None
    return replace(one, draining_since=context.now) if is_serving else one


def is_paused(facts: RolloutFacts, context: Context, following: Stage | None) -> bool:
    """Return True if a pause holds before a stage; None for the end of the last one."""
    pause = context.commands.pause
    if pause is None or facts.newest is None or pause.revision != facts.newest.name:
        return False
    return not pause.stage or (following is not None and pause.stage == following.name)


def relevant_approvals(facts: RolloutFacts, context: Context, following: Stage | None) -> tuple[Approval, ...]:
    """Return the approvals of a stage as it is today; None for the end of the last one."""
    named = ("", "") if following is None else (following.name, context.work_of(following))
    return tuple(one for one in facts.approved if (one.stage, one.work) == named)


def is_approved(facts: RolloutFacts, context: Context, following: Stage) -> bool:
    """Return True if a stage needs no approval, or a user whose name is certain gave one."""
    if following.name not in context.rules.approvals:
        return True
    return any(one.is_vouched for one in relevant_approvals(facts, context, following))


def begin(facts: RolloutFacts, digest: str, context: Context) -> RolloutFacts:
    """Return the facts with a new run of a revision.

    The last good revision is an exception: it serves already, so it has no stage to pass if its stage is still the
    last one.
    """
    number = facts.last_number + 1
    ref = RevisionRef(number, digest)
    is_kept = context.has_successor(facts) or facts.was_ready or context.is_ready(facts.key)
    left = leave(facts, drains_since=None if is_kept else context.now)
    left = replace(left, stopped=None, approved=(), newest=ref, last_number=number, was_ready=False)
    good = facts.good
    if good is None or good.ref.digest != digest or identity(good.stage) != identity(context.last):
        return start(left, context)
    stage = StageFacts(context.last, digest, context.now)
    known = become_good(left, replace(good, ref=ref), context)
    return replace(known, stage=stage, serving_since=good.serving_since, was_ready=True)


def start(facts: RolloutFacts, context: Context) -> RolloutFacts:
    """Return the facts in the first stage, which may need an approval as any other."""
    first = context.stages[0]
    if facts.newest is None or not is_approved(facts, context, first) or is_paused(facts, context, first):
        return facts
    approved = tuple(one for one in facts.approved if one.stage != first.name)
    stage = StageFacts(first, facts.newest.digest, context.now)
    return replace(facts, stage=stage, serving_since=None, approved=approved)


def command_text(verb: str, command: Command) -> str:
    """Return a command as `RolloutFacts.handled_commands` has it, such as `promote 3-84c7482aa0/everywhere`."""
    return f"{verb} {command.revision}" + (f"/{command.stage}" if command.stage else "")


def _commands_now(context: Context) -> tuple[str, ...]:
    standing = context.commands
    commands = (
        ("rollback", standing.rollback),
        ("abort", standing.abort),
        ("retry", standing.retry),
        ("promote", standing.promote),
        ("pause", standing.pause),
    )
    return tuple(command_text(verb, command) for verb, command in commands if command is not None)


def _other_revision(facts: RolloutFacts, command: Command) -> str:
    """Return why a command about the newest revision is void if it names another one, else an empty text."""
    newest = "there is none" if facts.newest is None else f"the newest revision is {facts.newest.name}"
    named = facts.newest is not None and command.revision == facts.newest.name
    return "" if named else f"it names revision {command.revision}, and {newest}"


def _roll_back(facts: RolloutFacts, command: Command, context: Context) -> RolloutFacts | str:
    """A rollback is a run with a number of its own, so that the same command names nothing afterwards."""
    passed = next((one for one in facts.passed if one.ref.name == command.revision), None)
    good = facts.good
    if passed is None:
        return f"revision {command.revision} is none that was good and that the history still has"
    target = passed.ref
    if good is not None and good.ref == target and (context.is_complete(facts) or facts.stopped is not None):
        return f"revision {command.revision} is good already, and no newer one is under way"
    if (good is None or good.ref != target) and not has_served(passed, context.last, context.rules.class_of):
        work = f"the environment, class and scope of stage {context.last.name}"
        return f"revision {command.revision} was never good with {work}"
    if not context.is_allowed(target.digest):
        return f"today's policy and bindings do not allow revision {command.revision}"
    number = facts.last_number + 1
    ref = RevisionRef(number, target.digest)
    if facts.stopped is None:
        facts = stop(facts, StopReason.ROLLED_BACK, context, by=command.by, message=f"to revision {ref.name}")
    facts = replace(facts, last_number=number)
    if good is not None and good.ref == target:  # what it serves, and in which stage, stays
        return become_good(facts, replace(good, ref=ref), context)
    if good is not None and good.serving_since is not None:
        facts = replace(facts, leaving=(LeavingPlacement(good.ref, good.stage), *facts.leaving))
    return become_good(facts, GoodRevision(ref, context.last, context.now), context)


def _abort(facts: RolloutFacts, command: Command, context: Context) -> RolloutFacts | str:
    if why := _other_revision(facts, command):
        return why
    if facts.stopped is not None:
        return f"revision {command.revision} was stopped already"
    if context.is_complete(facts):
        return f"revision {command.revision} is good already; a rollback goes back to an earlier one"
    current = facts.stage.stage.name if facts.stage else ""
    if command.stage and command.stage != current:
        return f"revision {command.revision} is in stage {current}"
    return stop(facts, StopReason.ABORTED, context, by=command.by)


def _retry(facts: RolloutFacts, command: Command, context: Context) -> RolloutFacts | str:
    if why := _other_revision(facts, command):
        return why
    if facts.newest is None or facts.stopped is None:
        return f"revision {command.revision} was not stopped"
    if context.seen.wanted != facts.newest.digest:
        return f"revision {command.revision} is not what is described today, or a layer refuses it"
    return begin(facts, facts.newest.digest, context)


def _promote(facts: RolloutFacts, command: Command, context: Context) -> RolloutFacts | str:
    """A promote for a stage that was entered already has had its effect."""
    why = _other_revision(facts, command) or _not_to_promote(facts, command, context)
    if why:
        return why
    current = context.index_of(facts)
    to_come = [stage.name for stage in context.stages[0 if current is None else current + 1 :]]
    is_over = context.is_complete(facts) or (command.stage and command.stage not in to_come)
    approval = _approval(command, context)
    # The same command does not approve again what its stage has become since.
    if is_over or replace(approval, work="") in [replace(one, work="") for one in facts.approved]:
        return facts
    return replace(facts, approved=(*facts.approved, approval)[-MAX_APPROVALS:])


def _approval(command: Command, context: Context) -> Approval:
    work = next((context.work_of(stage) for stage in context.stages if stage.name == command.stage), "")
    return Approval(command.stage, command.by, command.is_vouched, command.may_override_gates, work)


def _is_kept(approval: Approval, facts: RolloutFacts, context: Context) -> bool:
    """Return True unless the stage has become another one since, and the command that approved it stands no longer.

    While what is described is refused, its policy may be away, and the classes of environments unknown.
    """
    if context.seen.wanted is None:
        return True
    promote = context.commands.promote
    if promote is not None and not _other_revision(facts, promote) and promote.stage == approval.stage:
        return True
    return not approval.stage or (approval.stage, approval.work) in [
        (stage.name, context.work_of(stage)) for stage in context.stages
    ]


def _is_recorded(command: Command, facts: RolloutFacts) -> bool:
    """Return True if what a promote approved is still to be entered. Its user, or their rights, may have changed."""
    return any(one.stage == command.stage for one in facts.approved)


def _not_to_promote(facts: RolloutFacts, command: Command, context: Context) -> str:
    if facts.stopped is not None:
        return f"revision {command.revision} was stopped"
    if not command.stage and context.following(facts) is not None:
        return "it names no stage to enter, and the current one is not the last"
    return _unknown_stage(command, context)


def _pause(facts: RolloutFacts, command: Command, context: Context) -> RolloutFacts | str:
    """A pause changes no facts: `is_paused` asks for it, also where it was void when it appeared."""
    return _other_revision(facts, command) or _unknown_stage(command, context) or facts


def _unknown_stage(command: Command, context: Context) -> str:
    is_known = not command.stage or command.stage in [stage.name for stage in context.stages]
    return "" if is_known else f"there is no stage {command.stage}"
