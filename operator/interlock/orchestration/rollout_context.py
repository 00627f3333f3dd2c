"""What a decision on a rollout is made from besides the facts, and what several of its steps ask about both."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from interlock.api.agent import Stage
from interlock.orchestration.rollout_state import (
    GoodRevision,
    LeavingPlacement,
    PassedRevision,
    PlacedRevision,
    PlacementKey,
    PlacementSeen,
    RolloutCommands,
    RolloutFacts,
    RolloutObservation,
    RolloutRules,
    Scope,
)
from interlock.orchestration.scopes import covers, work_of
from interlock.orchestration.soak import identity, position

_NOT_SEEN = PlacementSeen()


@dataclass(frozen=True)
class Context:
    """What a decision is made from besides the facts.

    Attributes:
        stages: The stages of today's spec in order, at least one.
        seen: What is seen now.
        now: The time.
        commands: The commands that stand on the Agent.
        rules: What spec and policy say about the rollout.
    """

    stages: tuple[Stage, ...]
    seen: RolloutObservation
    now: datetime
    commands: RolloutCommands
    rules: RolloutRules

    @property
    def last(self) -> Stage:
        """The last stage, in which a revision becomes good."""
        return self.stages[-1]

    def work_of(self, stage: Stage) -> str:
        """Return a digest of what a stage serves today."""
        return work_of(stage, self.rules.class_of)

    def is_shared(self, stage: Stage) -> bool:
        """Return True if a placement of that stage shares work: it is of the class of the last stage."""
        class_of = self.rules.class_of
        return class_of(stage.environment) is class_of(self.last.environment)

    def is_allowed(self, digest: str) -> bool:
        """Return True if today's policy and bindings allow a revision to run."""
        return digest == self.seen.wanted or digest in self.seen.allowed

    def may_run(self, one: PlacedRevision) -> bool:
        """Return True if today's policy and bindings allow a revision to run in a stage that it is in."""
        return self.is_allowed(one.ref.digest) and one.key not in self.seen.refused

    def of(self, key: PlacementKey | None) -> PlacementSeen:
        """Return what is seen of a placement."""
        return _NOT_SEEN if key is None else self.seen.placements.get(key, _NOT_SEEN)

    def is_ready(self, key: PlacementKey | None) -> bool:
        """Return True if a placement can take over work."""
        return self.seen.is_running and self.of(key).is_ready

    def index_of(self, facts: RolloutFacts) -> int | None:
        """Return where the newest revision is among today's stages, None if it is nowhere."""
        return None if facts.newest is None else position(self.stages, facts.stage, facts.newest.digest)

    def is_complete(self, facts: RolloutFacts) -> bool:
        """Return True if the newest revision is the good one, and no stage is left for it."""
        good = facts.good
        return (
            good is not None
            and facts.stage is not None
            and facts.newest == good.ref
            and identity(good.stage) == identity(facts.stage.stage)
            and self.index_of(facts) == len(self.stages) - 1
        )

    def following(self, facts: RolloutFacts) -> Stage | None:
        """Return the stage that the newest revision enters next, None in the last one."""
        index = self.index_of(facts)
        following = 0 if index is None else index + 1
        return self.stages[following] if following < len(self.stages) else None

    def runs(self, facts: RolloutFacts) -> bool:
        """Return True if the newest revision has a placement: in one of today's stages, and no layer refuses it."""
        if facts.newest is None or self.index_of(facts) is None or not self.is_allowed(facts.newest.digest):
            return False
        return self.seen.wanted is not None or self.is_complete(facts)

    def newest_placements(self, facts: RolloutFacts) -> Iterator[tuple[PlacementKey, Stage]]:
        """Yield the placements with which the newest revision serves: the current stage's, or the one before it."""
        if facts.serving_since is None or not self.is_in_good(facts):
            yield from self._servers(facts)

    def is_in_good(self, facts: RolloutFacts) -> bool:
        """Return True if the newest revision's placement is the good one, in the course of changed stages.

        It has the stage of the good one then, which may be wider, until the newest revision is good itself.
        """
        return (
            facts.good is not None
            and facts.good.key == facts.key
            and not self.is_complete(facts)
            and not self.is_good_covered(facts)
        )

    def is_good_covered(self, facts: RolloutFacts) -> bool:
        """Return True if the newest revision serves all that the last good one would serve, or uses its claim."""
        good = facts.good
        if good is None:
            return False
        return self.is_displaced(good, facts) or (
            self.is_shared(good.stage)
            and any(
                key != good.key and self.is_shared(stage) and covers(scope_of(stage), scope_of(good.stage))
                for key, stage in self._servers(facts)
            )
        )

    def claims_of(self, one: PlacedRevision) -> frozenset[str]:
        """Return the names of the claims that a revision uses in a stage."""
        return self.rules.claims_of(one.ref.digest, one.stage.environment)

    def shares_claim(self, one: PlacedRevision, other: PlacedRevision) -> bool:
        """Return True if two placements of one environment use the same claim, so that one alone has pods."""
        return (
            one.key != other.key
            and one.stage.environment == other.stage.environment
            and not self.claims_of(one).isdisjoint(self.claims_of(other))
        )

    def is_displaced(self, one: PlacedRevision, facts: RolloutFacts) -> bool:
        """Return True if the newest revision's placement uses the claim of another one, which must go first."""
        if facts.newest is None or facts.stage is None or not self.runs(facts):
            return False
        return self.shares_claim(LeavingPlacement(facts.newest, facts.stage.stage), one)

    def _servers(self, facts: RolloutFacts) -> Iterator[tuple[PlacementKey, Stage]]:
        if not self.runs(facts) or facts.stage is None or facts.key is None:
            return
        if facts.serving_since is not None:
            yield facts.key, facts.stage.stage
            return
        for one in facts.leaving:
            if one.draining_since is None and one.ref == facts.newest:
                yield one.key, one.stage

    def has_successor(self, facts: RolloutFacts) -> bool:
        """Return True if a good revision takes back what the newest one served, once that goes."""
        good = facts.good
        return good is not None and self.may_run(good) and self.is_shared(good.stage)

    def is_entered_by_right(self, one: LeavingPlacement, facts: RolloutFacts) -> bool:
        """Return True if a placement on its way out may serve: it has passed, or is in a stage that is known.

        These are today's stages, and that in which a revision was good.
        """
        known = (*self.stages, *(() if facts.good is None else (facts.good.stage,)))
        return one.ref in facts.passed_refs or identity(one.stage) in map(identity, known)

    def runs_good(self, facts: RolloutFacts) -> bool:
        """Return True if the last good revision has a placement."""
        good = facts.good
        return good is not None and self.may_run(good) and not self.is_good_covered(facts)

    def exclusions(self, facts: RolloutFacts, key: PlacementKey, stage: Stage) -> tuple[Scope, ...]:
        """Return what an older placement leaves to the newest revision."""
        if not self.is_shared(stage):
            return ()
        return tuple(
            scope_of(newer)
            for newer_key, newer in self.newest_placements(facts)
            if newer_key != key and self.is_shared(newer) and newer.scope
        )


def scope_of(stage: Stage) -> Scope:
    """Return the scope of a stage, empty for all of the work."""
    return stage.scope or ()


def leave(facts: RolloutFacts, *, drains_since: datetime | None = None) -> RolloutFacts:
    """Return the facts without the newest revision's stage. Its placement is on its way out if it has served.

    One that has never served is deleted. A good one stays, for it has its own facts.

    Args:
        facts: The facts.
        drains_since: Since when its placement drains in any case; None if the hand-over decides that.
    """
    gone = replace(facts, stage=None, serving_since=None)
    if facts.newest is None or facts.stage is None or facts.serving_since is None:
        return gone
    if facts.good is not None and facts.good.key == facts.key:
        return gone
    placement = LeavingPlacement(facts.newest, facts.stage.stage, drains_since)
    return replace(gone, leaving=(placement, *facts.leaving))


def become_good(facts: RolloutFacts, good: GoodRevision, context: Context) -> RolloutFacts:
    """Return the facts with another good revision. The one before it can be rolled back to."""
    others = (one for one in facts.passed if one.ref.digest != good.ref.digest)
    passed = (*others, PassedRevision(good.ref, context.work_of(good.stage)))
    return replace(facts, good=good, passed=passed[-max(1, context.rules.history) :])
