"""The conditions of an MCPBinding, and the Events of their transitions."""

from dataclasses import dataclass
from datetime import datetime

from interlock.action.pins import Drift, find_drift, has_other_image
from interlock.api.binding import MCPBinding
from interlock.api.refusals import Refusal
from interlock.api.status import Condition
from interlock.api.verification import BindingCondition, BindingReason, MCPBindingStatus, PinState, VerificationStatus
from interlock.deployment.names import binding_label
from interlock.deployment.observed.causes import find_pull_way_out
from interlock.reconcile.agent_events import EventNote
from interlock.reconcile.conditions import Finding, build_condition, printable
from interlock_contract.names import ACCEPT_DRIFT, BINDING_LABEL, NEEDS_REVIEW
from interlock_contract.verification import VerificationFailure, VerificationResult


@dataclass(frozen=True)
class EndedRun:
    """The end of a verification run: a result, or why there is none."""

    result: VerificationResult | None
    trouble: str = ""


def build_conditions(
    before: MCPBinding,
    after: MCPBinding,
    ended: EndedRun | None,
    now: datetime,
    *,
    trouble: str = "",
    blocked: Refusal | None = None,
) -> tuple[Condition, ...]:
    """Return the conditions, each with the generation of the spec. One that needs no new verdict keeps its own.

    Args:
        before: The binding as it was found.
        after: The same with the present verification in its status.
        ended: The run that has just ended, None where none has.
        now: The time.
        trouble: Why the pod of the run does not start, or what of it fails; empty where nothing is known.
        blocked: Why no pod of a run is created.
    """
    known = before.status.conditions if before.status else ()
    verified = _verified(before, after, ended, trouble)
    kept = before.status.condition(BindingCondition.VERIFIED) if before.status else None
    if verified is None and kept is not None and kept.reason != BindingReason.VERIFYING:
        verified = Finding(kept.type, kept.status, kept.reason, kept.message)
    elif verified is None:
        verified = _verifying(after, trouble)
    if blocked is not None:
        verified = Finding(BindingCondition.VERIFIED, "False", BindingReason(blocked.reason.value), blocked.message)
    findings = (_ready(after, verified), verified, _drifted(after))
    return tuple(build_condition(finding, after.metadata.generation, known, now) for finding in findings)


def _ready(binding: MCPBinding, verified: Finding) -> Finding:
    kind = BindingCondition.READY
    if NEEDS_REVIEW in binding.metadata.annotations:
        message = (
            "imported values are not reviewed: check operation and resource of each tool, then run: "
            f"kubectl -n {binding.metadata.namespace} annotate mcpbindings.interlock.dev {binding.metadata.name} "
            f"{NEEDS_REVIEW}-"
        )
        return Finding(kind, "False", BindingReason.NOT_REVIEWED, message)
    return Finding(kind, verified.status, verified.reason, verified.message)


def _verifying(binding: MCPBinding, trouble: str = "") -> Finding:
    seen = ": " + "; ".join(text for text in (trouble, find_pull_way_out(trouble)) if text) if trouble else ""
    message = (
        f"the MCP server is being verified in a pod of its own, which may take a minute{seen}; "
        f"if it takes longer, run: {_show_run(binding, 'describe jobs,pods')}"
    )
    return Finding(BindingCondition.VERIFIED, "Unknown", BindingReason.VERIFYING, message)


def _verified(before: MCPBinding, after: MCPBinding, ended: EndedRun | None, trouble: str) -> Finding | None:
    """Return the result of a run that has just ended; None where the condition stays as it is."""
    kind = BindingCondition.VERIFIED
    if ended is None:
        was, run = before.verification.run, after.verification.run
        has_other_plan = run is not None and (was is None or was.plan != run.plan)
        return _verifying(after) if has_other_plan else None
    result, seen = ended.result, f"; seen last: {trouble}" if trouble else ""
    if result is None:
        # The Job's end has deleted a pod that never started. Only its Events say why.
        message = f"{ended.trouble}{seen}; run: kubectl -n {before.metadata.namespace} events --types=Warning"
        return Finding(kind, "False", BindingReason.JOB_FAILED, message)
    if result.failure is not None:
        # What a server prints before it ends says more than that it does not answer.
        logs = f"{seen}; run: {_show_run(before, 'logs')} --all-containers" if result.failure in _OF_THE_SERVER else ""
        message = f"{printable(result.message)}{_dropped(result)}{logs}"
        return Finding(kind, "False", BindingReason(result.failure.value), message)
    mapped = len(result.tools or ())
    message = f"initialized, {mapped} mapped tools listed, {result.probes} probes passed{_dropped(result)}"
    return Finding(kind, "True", BindingReason.VERIFIED, message)


FREQUENT = 10
"""Dropped messages of a verification run from which on the condition names them."""


def _dropped(result: VerificationResult) -> str:
    if result.dropped < FREQUENT:
        return ""
    return f"; {result.dropped} messages of the server were not MCP and were dropped: let it log to standard error only"


_OF_THE_SERVER = (VerificationFailure.SERVER_UNAVAILABLE, VerificationFailure.LIST_FAILED)


def _show_run(binding: MCPBinding, what: str) -> str:
    label = f"{BINDING_LABEL}={binding_label(binding.metadata.name)}"
    return f"kubectl -n {binding.metadata.namespace} {what} -l {label}"


def _drifted(binding: MCPBinding) -> Finding:
    kind, known = BindingCondition.DRIFTED, binding.verification
    if known.verified_at is None:
        return Finding(kind, "Unknown", BindingReason.NOT_PINNED, "the MCP server has not been verified yet")
    drifts = find_drift(binding)
    if not drifts and not has_other_image(known):
        return Finding(kind, "False", BindingReason.NO_DRIFT, "the MCP server lists the verified tools")
    reason = BindingReason.TOOLS_CHANGED if drifts else BindingReason.IMAGE_CHANGED
    said = {
        state: [_name(drift) for drift in drifts if drift.definition.state == state]
        for state in (PinState.CHANGED, PinState.ADDED, PinState.MISSING)
    }
    what = [f"{state.lower()}: {_some(names)}" for state, names in said.items() if names]
    what += ["the image has another digest under the same name"] if has_other_image(known) else []
    return Finding(kind, "True", reason, f"{_refused_accept(known)}{'; '.join(what)}; {_accept_command(binding)}")


def _name(drift: Drift) -> str:
    return drift.definition.name if drift.kind == "tool" else drift.words


def _refused_accept(known: VerificationStatus) -> str:
    if not known.refused_accept:
        return ""
    return f"{printable(known.refused_accept)[:80]} is not the observed digest, so nothing was accepted; "


def _accept_command(binding: MCPBinding) -> str:
    return (
        "read status.verification.diff, then run: "
        f"kubectl -n {binding.metadata.namespace} annotate mcpbindings.interlock.dev {binding.metadata.name} "
        f"{ACCEPT_DRIFT}={binding.verification.observed_digest} --overwrite"
    )


def _some(names: list[str]) -> str:
    most = 8
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def binding_transitions(before: MCPBindingStatus | None, after: MCPBindingStatus) -> tuple[EventNote, ...]:
    """Return the Events: for each transition of a condition, for an accept, and for a refused accept."""
    kinds = (BindingCondition.VERIFIED, BindingCondition.DRIFTED)  # Ready repeats the first
    changed = (_condition_note(before.condition(kind) if before else None, after, kind) for kind in kinds)
    return (*(note for note in changed if note is not None), *_accept_notes(before, after))


def _condition_note(old: Condition | None, after: MCPBindingStatus, kind: BindingCondition) -> EventNote | None:
    new = after.condition(kind)
    if (
        new is None
        or new.status == "Unknown"
        or (old is not None and (old.status, old.reason) == (new.status, new.reason))
    ):
        return None
    is_good = (new.status == "True") == (kind is BindingCondition.VERIFIED)
    if kind is BindingCondition.DRIFTED and is_good:
        return None  # the accept has an Event of its own, and a binding without drift needs none
    text = f"{kind}={new.status}: {new.message}"
    if kind is BindingCondition.DRIFTED and after.verification is not None:
        text = f"{text[:500]}\n{after.verification.diff}"
    return EventNote("Normal" if is_good else "Warning", new.reason, text)


def _accept_notes(before: MCPBindingStatus | None, after: MCPBindingStatus) -> tuple[EventNote, ...]:
    old, new = before.verification if before else None, after.verification
    if old is None or new is None:
        return ()
    if new.refused_accept and new.refused_accept != old.refused_accept:
        drifted = after.condition(BindingCondition.DRIFTED)
        return (EventNote("Warning", BindingReason.ACCEPT_REFUSED, drifted.message if drifted else ""),)
    was, now_is = _drift_status(before), _drift_status(after)
    if was == "True" and now_is == "False":
        return (EventNote("Normal", BindingReason.DRIFT_ACCEPTED, f"the accepted digest is now {new.pinned_digest}"),)
    return ()


def _drift_status(status: MCPBindingStatus | None) -> str:
    condition = status.condition(BindingCondition.DRIFTED) if status else None
    return condition.status if condition else "Unknown"
