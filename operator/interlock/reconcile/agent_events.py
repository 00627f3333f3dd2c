"""The Events of an Agent: one for each transition between two statuses, none for a reconcile that changes nothing."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from interlock.api.rollout_status import TestStatus
from interlock.api.status import AgentReason, AgentStatus, Condition, ConditionType
from interlock.orchestration.gates import TestOutcome
from interlock.reconcile.egress import CROWDED_MESSAGE


class EventReason(StrEnum):
    """Reasons of Events that are not a condition's reason: stable words that alerts may match."""

    STAGE_ENTERED = "StageEntered"
    """The agent entered a stage of its rollout."""
    ROLLOUT_STARTED = "RolloutStarted"
    """A new revision began in its first stage."""
    REVISION_GOOD = "RevisionGood"
    """A revision was Ready in its last stage, and is the last good one now."""
    ROLLOUT_STOPPED = "RolloutStopped"
    """The newest revision was aborted, rolled back, or breached a gate."""
    ROLLED_BACK = "RolledBack"
    """A command went back to an earlier revision."""
    PROMOTED = "Promoted"
    """A command promoted the newest revision."""
    COMMAND_VOID = "CommandVoid"
    """A command about a rollout has no effect. The message says why."""
    TEST_ENDED = "TestEnded"
    """A test of a stage has ended."""
    SERVING_CHANGED = "ServingChanged"
    """Another placement serves, or one drains."""
    STATUS_REFUSED = "StatusRefused"
    """The status records a revision that the operator does not believe."""
    SOAK_RESTARTED = "SoakRestarted"
    """The agent's container ended by itself too often, so the soak of the stage started again."""
    KILLED = "Killed"
    """The kill switch was engaged."""
    RELEASED = "Released"
    """The kill switch was set to off."""
    REQUESTS_DENIED = "RequestsDenied"
    """One rule denied ten requests of the agent within a minute."""
    REQUESTS_WOULD_BE_DENIED = "RequestsWouldBeDenied"
    """One rule would have denied ten requests of the agent within a minute. They passed in mode Audit."""
    BUDGET_ALERT = "BudgetAlert"
    """The spend of a day or a month has reached a percentage of its budget."""
    VELOCITY_ALERT = "VelocityAlert"
    """Ten minutes cost far more than ten minutes of the last day usually do."""
    TOKENS_PER_BYTE_ALERT = "TokensPerByteAlert"
    """A model reported more or fewer tokens for the same number of bytes than on the day before."""
    BUDGET_OVERRIDE_REFUSED = "BudgetOverrideRefused"
    """The annotation interlock.dev/budget-override adds nothing: it cannot be read, the policy does not allow it, or no
    admission policy checks who set it."""
    EGRESS_CROWDED = "EgressCrowded"
    """So many ranges are left out of a cidr of a row of egress that more nodes will close it as a whole."""
    OPENINGS_WITHDRAWN = "OpeningsWithdrawn"
    """Pods were deleted, since they were started with a way out, a cloud identity or a network that is withdrawn."""
    LEDGER_REPAIRED = "LedgerRepaired"
    """A BudgetLedger could not be read. What was lost of it counts as spent."""
    GUARD_UPDATES_STOPPED = "GuardUpdatesStopped"
    """An agent was not ready again after the update of its guards, so no other agent is updated."""
    GUARD_UPDATES_RESUMED = "GuardUpdatesResumed"
    """No agent stops the updates of guards any longer."""
    ADMISSION_POLICIES_CHANGED = "AdmissionPoliciesChanged"
    """Admission policies of Interlock are missing, or differ from those of this version."""
    ADMISSION_POLICIES_RESTORED = "AdmissionPoliciesRestored"
    """All admission policies are those of this version again."""


@dataclass(frozen=True)
class EventNote:
    """The content of an Event.

    Attributes:
        type: Normal or Warning.
        reason: A stable word.
        message: One sentence.
        key: What happened. An Event of the same object and key is posted once, also after a restart of the operator.
            Empty for an Event of its own.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    key: str = ""


_RUNNING, _PASSED = TestOutcome.RUNNING.value, TestOutcome.PASSED.value
_REPORTED = (
    ConditionType.GOVERNED,
    ConditionType.ORCHESTRATED,
    ConditionType.ACTIONS_BOUND,
    ConditionType.DEPLOYED,
    ConditionType.READY,
)


def transitions(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Return the Events of a transition, in the order of the layers.

    A new agent has no Event for a layer that is satisfied from the start, but one for Ready.
    """
    changed = (_condition_note(_find(before, kind), _find(after, kind), kind) for kind in _REPORTED)
    return (
        *(note for note in changed if note is not None),
        *_stage_note(before, after),
        *_soak_note(before, after),
        *_gate_note(before, after),
        *_test_notes(before, after),
        *_kill_note(before, after),
        *_selftest_note(before, after),
        *_egress_note(before, after),
        *_budget_note(before, after),
        *_guard_note(before, after),
    )


def _condition_note(before: Condition | None, after: Condition | None, kind: ConditionType) -> EventNote | None:
    if after is None or (before is not None and (before.status, before.reason) == (after.status, after.reason)):
        return None
    was_unknown = before is None or before.status == "Unknown"
    if after.status == "Unknown" or (was_unknown and after.status == "True" and kind is not ConditionType.READY):
        return None
    if was_unknown and kind is ConditionType.READY and after.reason == AgentReason.PODS_NOT_READY:
        return None
    text = f"{kind}={after.status}: {after.message}"
    return EventNote("Normal" if after.status == "True" else "Warning", after.reason, text)


def _stage_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    old, new = before.stage if before else None, after.stage
    if new is None or (old is not None and (old.name, old.entered_at) == (new.name, new.entered_at)):
        return ()
    limits = "; ".join(f"{limit.dimension} {', '.join(limit.values)}" for limit in new.scope) or "everywhere"
    text = f"entered stage {new.name} ({new.environment}, {limits}) with revision {new.revision_name or new.revision}"
    return (EventNote("Normal", EventReason.STAGE_ENTERED, text),)


def _soak_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    old, new = before.stage if before else None, after.stage
    if new is None or new.soak_restarted_at is None or (old and old.soak_restarted_at == new.soak_restarted_at):
        return ()
    pending = _find(after, ConditionType.PROMOTION_PENDING)
    return (
        EventNote("Warning", EventReason.SOAK_RESTARTED, f"stage {new.name}: {pending.message if pending else ''}"),
    )


def _gate_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Report a breached gate once, whether it holds or stops the revision. Its figures may change afterwards."""
    old, new = _find(before, ConditionType.DEGRADED), _find(after, ConditionType.DEGRADED)
    is_new = old is None or old.reason != AgentReason.GATE_BREACHED
    if new is None or new.reason != AgentReason.GATE_BREACHED or not is_new:
        return ()
    return (EventNote("Warning", AgentReason.GATE_BREACHED, f"{new.type}={new.status}: {new.message}"),)


def _test_notes(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    known = {_test_of(one) for one in _tests(before)}
    return tuple(_test_note(one) for one in _tests(after) if one.outcome != _RUNNING and _test_of(one) not in known)


def _tests(status: AgentStatus | None) -> tuple[TestStatus, ...]:
    return () if status is None or status.rollout is None else status.rollout.tests


def _test_of(one: TestStatus) -> tuple[int, str, str, bool]:
    return one.number, one.stage, one.name, one.outcome != _RUNNING


def _test_note(one: TestStatus) -> EventNote:
    code = "" if one.exit_code is None else f" with exit code {one.exit_code}"
    text = f"test {one.name} of stage {one.stage} ended{code}: {one.outcome}"
    return EventNote("Normal" if one.outcome == _PASSED else "Warning", EventReason.TEST_ENDED, text)


def _kill_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    old, new = _find(before, ConditionType.KILLED), _find(after, ConditionType.KILLED)
    was, now_is = old is not None and old.status == "True", new is not None and new.status == "True"
    if new is None or was == now_is:
        return ()
    if now_is:
        return (EventNote("Warning", EventReason.KILLED, new.message),)
    return (EventNote("Normal", EventReason.RELEASED, new.message),)


def _selftest_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Report a self-test that failed; guards run one at each change of a policy, and one that passes has no Event."""
    old, new = _find(before, ConditionType.POLICY_ENFORCED), _find(after, ConditionType.POLICY_ENFORCED)
    if new is None or new.reason != AgentReason.SELF_TEST_FAILED or (old is not None and old.reason == new.reason):
        return ()
    return (EventNote("Warning", AgentReason.SELF_TEST_FAILED, f"{new.type}={new.status}: {new.message}"),)


def _egress_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Report a network that enforces no NetworkPolicy, and a way out that more nodes will close.

    The former also where the agent runs nevertheless.
    """
    old, new = _find(before, ConditionType.EGRESS_ENFORCED), _find(after, ConditionType.EGRESS_ENFORCED)
    if new is None:
        return ()
    text = f"{new.type}={new.status}: {new.message}"
    if new.reason == AgentReason.NETWORK_OPEN and (old is None or old.reason != new.reason):
        return (EventNote("Warning", AgentReason.NETWORK_OPEN, text),)
    if CROWDED_MESSAGE in new.message and (old is None or CROWDED_MESSAGE not in old.message):
        return (EventNote("Warning", EventReason.EGRESS_CROWDED, text),)
    return ()


def _budget_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Report a budget that is exhausted, and one that has room again. A new agent that has room is no event."""
    old, new = _find(before, ConditionType.BUDGET_EXHAUSTED), _find(after, ConditionType.BUDGET_EXHAUSTED)
    was, now_is = old is not None and old.status == "True", new is not None and new.status == "True"
    if new is None or was == now_is:
        return ()
    return (EventNote("Warning" if now_is else "Normal", new.reason, f"{new.type}={new.status}: {new.message}"),)


def _guard_note(before: AgentStatus | None, after: AgentStatus) -> tuple[EventNote, ...]:
    """Report that the pods of guards are replaced for a new version of the operator, and that this has failed."""
    old, new = _find(before, ConditionType.GUARD_UPDATED), _find(after, ConditionType.GUARD_UPDATED)
    if new is None or (old is not None and old.reason == new.reason):
        return ()
    if new.reason == AgentReason.GUARD_UPDATE_FAILED:
        return (EventNote("Warning", new.reason, f"{new.type}={new.status}: {new.message}"),)
    return (EventNote("Normal", new.reason, new.message),) if new.reason == AgentReason.GUARD_UPDATING else ()


def _find(status: AgentStatus | None, kind: ConditionType) -> Condition | None:
    return next((known for known in status.conditions if known.type == kind), None) if status else None
