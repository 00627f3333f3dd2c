"""Who began a run of a revision, as its ControllerRevision names them. No name is better than a wrong one."""

from interlock.deployment.content import Content
from interlock.governance.authors import Author, author_of
from interlock.orchestration.rollout_decision import RolloutDecision, RolloutEventType
from interlock.orchestration.rollout_state import RevisionRef
from interlock.reconcile.snapshot import Snapshot

_BEGINS = (RolloutEventType.REVISION_STARTED, RolloutEventType.ROLLED_BACK)
_UNKNOWN = Author("", is_vouched=False)


def author_of_run(
    snapshot: Snapshot,
    ref: RevisionRef,
    decision: RolloutDecision,
    *,
    newest: RevisionRef | None,
    before: Content | None,
    after: Content,
) -> Author:
    """Return who began a run: who commanded it, else who wrote the spec that differs.

    Of several specs the Agent's counts first, then the policy's, then that of a binding. Labels, accepted pins, an
    edited ConfigMap and the removal of a binding begin runs too. The API server records no author of these, and the
    author of a spec is another user, so the run has none.

    Args:
        snapshot: The snapshot.
        ref: The run.
        decision: The decision that names it.
        newest: The newest run until now. If it is the same, it is stored again, and nothing says any more who began it.
        before: The content of that one, None if it is not known.
        after: The content of the run.
    """
    commanded = [event.by for event in decision.events if event.ref == ref and event.type in _BEGINS and event.by]
    if commanded:
        return Author(commanded[0], is_vouched=True)  # without the admission policy no command begins a run
    if ref == newest or ref != decision.facts.newest:
        return _UNKNOWN
    is_checked, policy = snapshot.are_authors_checked, snapshot.policy
    # An equal content begins again where its stage is none any more, which is in the Agent's spec.
    if newest is None or (before is not None and (before.agent != after.agent or before == after)):
        return author_of(snapshot.agent.metadata, is_checked=is_checked)
    if before is None:
        return _UNKNOWN
    if policy is not None and (before.policy, before.isolation) != (after.policy, after.isolation):
        return author_of(policy.metadata, is_checked=is_checked)
    changed = (one for one in snapshot.bindings if _differs(before, after, one.metadata.name))
    binding = next(changed, None)
    return _UNKNOWN if binding is None else author_of(binding.metadata, is_checked=is_checked)


def _differs(before: Content, after: Content, name: str) -> bool:
    earlier, later = before.bindings.get(name), after.bindings.get(name)
    return later is not None and (earlier is None or earlier.spec != later.spec)
