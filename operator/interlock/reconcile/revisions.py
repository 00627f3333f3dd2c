"""The revisions of an agent now: which one is described, what each was reviewed with, and which may run."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from interlock.action.actions_bound import check_action
from interlock.api.agent import Agent, Stage
from interlock.api.refusals import Refusal
from interlock.api.status import AgentReason, ConditionType
from interlock.deployment.children.revisions import read_revision, revision_object_name
from interlock.deployment.config_maps import check_config_maps, unread_names, uses_of
from interlock.deployment.content import Content, content_of, content_size_refusal, is_too_large, verification_wait
from interlock.deployment.effective import Effective, described_digest, effective
from interlock.governance.governed import check_governance
from interlock.orchestration.claim_checks import check_claims, claims_in
from interlock.orchestration.rollout_state import PlacementKey, RevisionRef, RolloutCommands, RolloutFacts
from interlock.orchestration.soak import position
from interlock.reconcile.layers import Verdict, check_layers, claims_of_namespace, refuses_all
from interlock.reconcile.rollout_status import RolloutRecord
from interlock.reconcile.snapshot import KnownRevision, Snapshot
from interlock_contract.revisions import RevisionUnreadableError


@dataclass(frozen=True)
class Revisions:
    """The revisions of an agent now.

    Attributes:
        verdict: The verdict of the layers on what is described today.
        wanted: Digest of what is described today; None while one of the first three layers refuses it.
        known: What is known of each revision, by its digest.
        allowed: Digests of the revisions that today's policy and bindings allow to run.
        refused: Placements of what is described today that they refuse. The layers check it as of its current stage.
        content_digests: Digests of stored contents that are not those of their revisions, by the latter.
        is_unstored: The status is one of an earlier version, and the content of its revision is not known.
        waiting: Why a new revision must wait; empty if it need not.
    """

    verdict: Verdict
    wanted: str | None = None
    known: Mapping[str, KnownRevision] = field(default_factory=dict)
    allowed: frozenset[str] = frozenset()
    refused: frozenset[PlacementKey] = frozenset()
    content_digests: Mapping[str, str] = field(default_factory=dict)
    is_unstored: bool = False
    waiting: str = ""

    def effective(self, snapshot: Snapshot, digest: str, stage: Stage) -> Effective | None:
        """Return what holds for a revision in a stage; None where its content is not known."""
        found = self.known.get(digest)
        if found is None or snapshot.policy is None:
            return None
        return effective(
            found.content,
            snapshot.agent,
            snapshot.policy,
            snapshot.bindings,
            stage=stage,
            stricter=snapshot.stricter.all,
        )

    def claims_of(self, digest: str, environment: str) -> frozenset[str]:
        """Return the names of the claims that a revision uses in an environment."""
        found = self.known.get(digest)
        return frozenset() if found is None else claims_in(found.content.agent, environment)

    def takes_tasks(self, snapshot: Snapshot, digest: str) -> bool:
        """Return True if the guards of a revision take tasks: it, and not today's spec, may have a port for them."""
        found = self.known.get(digest)
        return (snapshot.agent.spec if found is None else found.content.agent).tasks is not None


def needed_revisions(facts: RolloutFacts, commands: RolloutCommands) -> tuple[RevisionRef, ...]:
    """Return the revisions whose contents a reconcile needs: those with placements, and that a rollback names."""
    named = [*_candidates(facts), *(one.ref for one in facts.leaving)]
    if commands.rollback is not None:
        named += [one for one in facts.passed_refs if one.name == commands.rollback.revision]
    return tuple(dict.fromkeys(named))


def _candidates(facts: RolloutFacts) -> list[RevisionRef]:
    """Return the newest revision and the last good one: what is described today may be one of them."""
    return [ref for ref in (facts.newest, facts.good.ref if facts.good is not None else None) if ref is not None]


@dataclass(frozen=True)
class MissingRevision:
    """A revision that must be read.

    Attributes:
        digest: Its digest.
        stored_digest: The digest of its content as it is stored.
        name: The name of its ControllerRevision.
    """

    digest: str
    stored_digest: str
    name: str


def missing_revisions(snapshot: Snapshot, record: RolloutRecord) -> tuple[MissingRevision, ...]:
    """Return the needed revisions that were not read yet. A status of an earlier version has none to read."""
    if record.is_earlier:
        return ()
    known = snapshot.revisions.keys() | snapshot.lost_revisions.keys()
    missing = (ref for ref in needed_revisions(record.facts, snapshot.commands) if ref.digest not in known)
    return tuple(_missing(snapshot, record, ref) for ref in missing)


def _missing(snapshot: Snapshot, record: RolloutRecord, ref: RevisionRef) -> MissingRevision:
    stored = record.content_digests.get(ref.digest, ref.digest)
    return MissingRevision(ref.digest, stored, revision_object_name(snapshot.agent.metadata.name, ref.number, stored))


def read_known(found: Mapping[str, Any], agent: Agent, missing: MissingRevision) -> KnownRevision:
    """Read a ControllerRevision as the API server has it.

    Raises:
        RevisionUnreadableError: It is not what the status records, or this version cannot read it.
    """
    stored, content = read_revision(found, agent)
    if stored.digest != missing.stored_digest:
        raise RevisionUnreadableError(f"ControllerRevision {missing.name} has another content than the status records")
    return KnownRevision(content, stored.data)


def find_revisions(snapshot: Snapshot, record: RolloutRecord) -> Revisions:
    """Return the revisions of the agent. Those that `missing_revisions` names must have been read.

    Args:
        snapshot: The snapshot.
        record: What the status records.
    """
    facts, policy = record.facts, snapshot.policy
    if policy is None or refuses_all(snapshot) is not None:
        verdict = check_layers(snapshot, _current(snapshot.agent, facts, None))
        return Revisions(verdict, known=snapshot.revisions, is_unstored=record.is_earlier)
    stricter = frozenset(snapshot.stricter.known)
    today = content_of(snapshot.agent, policy, snapshot.bindings, snapshot.config_maps, stricter=stricter)
    known, content_digests = dict(snapshot.revisions), dict(record.content_digests)
    is_unstored = record.is_earlier
    is_whole = not snapshot.unreadable
    if record.is_earlier and facts.newest is not None and is_whole and _is_unchanged(snapshot.agent):
        known[facts.newest.digest] = KnownRevision(today)
        content_digests[facts.newest.digest] = today.digest
    candidates = dict.fromkeys(ref.digest for ref in _candidates(facts))
    returned_to = {digest: known[digest].content for digest in candidates if digest in known}
    described = described_digest(
        returned_to, snapshot.agent, policy, snapshot.bindings, today, snapshot.config_maps, stricter=stricter
    )
    known.setdefault(described, KnownRevision(today))
    verdict = check_layers(snapshot, _current(snapshot.agent, facts, described), _running_claims(facts, known))
    content, waiting = known[described].content, ""
    if verdict.layer is None and not _waits_for_config_maps(facts, described, content):
        verdict = _too_large(content) or verdict
    wanted = described if verdict.layer is None else None
    if verdict.layer is None:
        is_unstored = False
    if _begins(facts, described):
        waiting = _waiting(snapshot, known, facts, today)
        held = _held_by_config_maps(snapshot, content) if verdict.layer is None else None
        if held is not None and held.refusal is not None:
            verdict, waiting = held, held.refusal.message
    found = Revisions(
        verdict,
        wanted=wanted,
        known=known,
        content_digests=content_digests,
        is_unstored=is_unstored,
        waiting=waiting,
    )
    return replace(
        found,
        allowed=frozenset(_allowed(snapshot, facts, found)),
        refused=frozenset(_refused(snapshot, facts, found)),
    )


def _waits_for_config_maps(facts: RolloutFacts, described: str, content: Content) -> bool:
    """Return True if a revision that would begin is too large only because of the ConfigMaps that it refers to."""
    without = content.model_copy(update={"config_maps": {}})
    return bool(content.config_maps) and _begins(facts, described) and not is_too_large(without)


def _held_by_config_maps(snapshot: Snapshot, content: Content) -> Verdict | None:
    """Return why what is described today cannot begin with the ConfigMaps as they are.

    It waits: a revision that runs has its own copies, so it goes on, and its rollout too.
    """
    refused = check_config_maps(uses_of(snapshot.agent, snapshot.bindings), snapshot.config_maps)
    return _too_large(content) if refused is None else Verdict(ConditionType.DEPLOYED, refused)


def _begins(facts: RolloutFacts, described: str) -> bool:
    return facts.newest is None or facts.newest.digest != described


def _is_unchanged(agent: Agent) -> bool:
    """Return True if the status is about today's spec, so that today's content is that of its revision."""
    return agent.status is not None and agent.status.observed_generation == agent.metadata.generation


def _current(agent: Agent, facts: RolloutFacts, described: str | None) -> int | None:
    """Return the index of the stage that what is described has entered, None before its first."""
    digest = described if described is not None else facts.newest.digest if facts.newest else ""
    if facts.newest is None or facts.newest.digest != digest:
        return None
    return position(agent.spec.stages, facts.stage, digest)


def _allowed(snapshot: Snapshot, facts: RolloutFacts, revisions: Revisions) -> Iterator[str]:
    """Yield the digests of known revisions that no layer refuses in any stage that they may run in."""
    stages = _stages_by_digest(facts)
    for digest in revisions.known:
        found = stages.get(digest, ()) or snapshot.agent.spec.stages[-1:]
        if digest != revisions.wanted and all(_refusal(snapshot, revisions, digest, one) is None for one in found):
            yield digest


def _refused(snapshot: Snapshot, facts: RolloutFacts, revisions: Revisions) -> Iterator[PlacementKey]:
    """Yield the placements of what is described today that a layer refuses, but for that of its current stage.

    The spec may no longer have their stages, or be back in an earlier one, which may be in mode Audit.
    """
    current = None if _current(snapshot.agent, facts, revisions.wanted) is None else facts.key
    for key, stage in _entered(facts):
        is_checked = key == current or key.revision != revisions.wanted
        if not is_checked and _refusal(snapshot, revisions, key.revision, stage) is not None:
            yield key


def _stages_by_digest(facts: RolloutFacts) -> dict[str, tuple[Stage, ...]]:
    found: dict[str, tuple[Stage, ...]] = {}
    for key, stage in _entered(facts):
        found[key.revision] = (*found.get(key.revision, ()), stage)
    return found


def _entered(facts: RolloutFacts) -> Iterator[tuple[PlacementKey, Stage]]:
    """Yield the recorded placements, the current one first."""
    entered: Iterable[tuple[PlacementKey | None, Stage | None]] = (
        (facts.key, facts.stage.stage if facts.stage is not None else None),
        *(((facts.good.key, facts.good.stage),) if facts.good is not None else ()),
        *((one.key, one.stage) for one in facts.leaving),
    )
    for key, stage in entered:
        if key is not None and stage is not None:
            yield key, stage


def _running_claims(facts: RolloutFacts, known: Mapping[str, KnownRevision]) -> dict[str, frozenset[str]]:
    """Return the claims of the revisions that run, by environment."""
    found: dict[str, frozenset[str]] = {}
    for digest, entered in _stages_by_digest(facts).items():
        for stage in entered if digest in known else ():
            claims = claims_in(known[digest].content.agent, stage.environment)
            found[stage.environment] = found.get(stage.environment, frozenset()) | claims
    return found


def _refusal(snapshot: Snapshot, revisions: Revisions, digest: str, stage: Stage) -> Refusal | None:
    """Return why today's policy and bindings refuse a revision in a stage, or None."""
    found = revisions.effective(snapshot, digest, stage)
    if found is None:
        return None
    agent = in_stage(found.agent, stage)
    # Rows must match the labels that it was reviewed with, and today's.
    today = agent.model_copy(update={"metadata": snapshot.agent.metadata})
    prices = snapshot.spending.find_prices(agent, found.policy)
    governance = check_governance(agent, found.policy, prices) or check_governance(today, found.policy, prices)
    claims = check_claims(agent, found.policy, claims_of_namespace(snapshot))
    return (
        governance
        or claims
        or check_action(agent, found.policy, found.bindings, is_attached=True, reserved_ids=snapshot.users.reserved)
    )


def in_stage(agent: Agent, stage: Stage) -> Agent:
    """Return an Agent whose only stage is this one: its other stages are no reason to refuse it there."""
    if agent.spec.rollout is None:
        spec = agent.spec.model_copy(update={"environment": stage.environment})
    else:
        rollout = agent.spec.rollout.model_copy(update={"stages": (stage,)})
        spec = agent.spec.model_copy(update={"rollout": rollout})
    return agent.model_copy(update={"spec": spec})


def _too_large(content: Content) -> Verdict | None:
    sentence = content_size_refusal(content)
    if sentence is None:
        return None
    return Verdict(ConditionType.ORCHESTRATED, Refusal(AgentReason.REVISION_TOO_LARGE, sentence))


def _waiting(snapshot: Snapshot, revisions: Mapping[str, KnownRevision], facts: RolloutFacts, today: Content) -> str:
    """Return why a new revision must wait, empty if it need not.

    One that begins while the server of a binding is verified would begin twice: what was verified is part of it. So is
    the content of ConfigMaps. One that the Agent's own spec begins does not wait for those of other agents.
    """
    pending = verification_wait(snapshot.agent, snapshot.bindings, snapshot.config_maps)
    unread = unread_names(uses_of(snapshot.agent, snapshot.bindings), snapshot.config_maps)
    if unread and not pending:
        pending = f"ConfigMap {unread[0]} was not read yet"
    if pending or facts.newest is None:
        return pending
    before = revisions.get(facts.newest.digest)
    is_own = before is None or (before.content.agent, before.content.labels) != (today.agent, today.labels)
    return "" if is_own else snapshot.may_start
