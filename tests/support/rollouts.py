"""An agent with stages and a clock of its own: pods start when told, and the operator decides at each step.

A placement's name is `<number>/<stage>`, so that a test reads as the rollout goes: `2/region` is revision 2 there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from interlock.api.agent import Stage
from interlock.orchestration.rollout import decide_rollout
from interlock.orchestration.rollout_decision import (
    DesiredPlacement,
    RolloutDecision,
    RolloutEventType,
    RolloutState,
)
from interlock.orchestration.rollout_state import (
    Command,
    GateReport,
    GateVerdict,
    HeldClaims,
    PlacementKey,
    PlacementSeen,
    RolloutCommands,
    RolloutFacts,
    RolloutObservation,
    RolloutRules,
    Scope,
)
from tests.support.builders import NOW, seconds

Values = Mapping[str, tuple[str, ...]]
"""What a call names in each dimension."""

CLAIMS: dict[str, dict[tuple[str, str], str]] = {
    "none": {},
    "same": {(content, stage): stage for content in "abc" for stage in ("staging", "production")},
    "production": {(content, "production"): "x" for content in "abcd"},
    "crossed": {("a", "production"): "x", ("b", "production"): "y", ("c", "staging"): "x", ("d", "production"): "x"},
}
"""Names of claims by content and environment. Where they are crossed, one of production is used in staging, too."""

MOST_STEPS = 20
"""Decisions after which nothing changes any more, unless time passes."""


@dataclass
class Pods:
    """The pods of one placement.

    Attributes:
        ready_since: Since when they are Ready, None while they are not.
        broken_at: Until when they were Ready since the operator saw it last, None if they still are.
        is_busy: A task is under way in them.
        is_told: Their guards know that they drain.
    """

    ready_since: datetime | None = None
    broken_at: datetime | None = None
    is_busy: bool = False
    is_told: bool = False

    def seen(self, recorded: datetime | None = None) -> PlacementSeen:
        """Return what the operator sees of them.

        Args:
            recorded: Since when they are Ready by the facts. If they broke since, nothing proves how long they were.
        """
        is_unbroken = recorded is None or (self.ready_since is not None and self.ready_since <= recorded)
        return PlacementSeen(
            is_ready=self.ready_since is not None,
            ready_since=self.ready_since,
            broken_at=None if is_unbroken else self.broken_at or recorded,
            is_drained=self.ready_since is None or (self.is_told and not self.is_busy),
        )


@dataclass
class StagedAgent:
    """An agent with a rollout.

    Attributes:
        stages: The stages of its spec.
        rules: What spec and policy say about the rollout.
        facts: What is recorded.
        now: The time.
        wanted: Digest of what is described; None while it is refused.
        is_running: Neither killed nor scaled to zero.
        verdict: What the gates of a stage with gates say; None for no report.
        broken: Digests of the revisions whose pods never become Ready.
        forbidden: Digests of the revisions that today's policy does not allow.
        refused: Placements of what is described that it refuses nevertheless.
        waits: Why a new revision must wait.
        unstored: Why no run of a revision can be stored.
        blocked: Why no stage may be entered.
        pods: The pods by placement.
        asking: The placements whose Deployments ask for pods, so that they have some, with the claims of these.
        ending: The placements whose pods end and are there still, with the claims of these.
        announced: The claims that the status announces; None for all.
        decision: The last decision.
        events: All that has happened.
    """

    stages: tuple[Stage, ...]
    rules: RolloutRules = field(default_factory=RolloutRules)
    facts: RolloutFacts = field(default_factory=RolloutFacts)
    now: datetime = NOW
    wanted: str | None = None
    is_running: bool = True
    verdict: GateVerdict | None = None
    broken: set[str] = field(default_factory=set)
    forbidden: set[str] = field(default_factory=set)
    refused: set[PlacementKey] = field(default_factory=set)
    waits: str = ""
    unstored: str = ""
    blocked: str = ""
    commands: RolloutCommands = field(default_factory=RolloutCommands)
    pods: dict[PlacementKey, Pods] = field(default_factory=dict)
    asking: dict[PlacementKey, frozenset[str]] = field(default_factory=dict)
    ending: dict[PlacementKey, frozenset[str]] = field(default_factory=dict)
    announced: frozenset[str] | None = None
    decision: RolloutDecision = field(default_factory=lambda: RolloutDecision(RolloutFacts()))
    events: list[tuple[RolloutEventType, str]] = field(default_factory=list)

    # What happens

    def describe(self, content: str) -> Self:
        """Apply a spec of that content, one letter, and reconcile."""
        self.wanted = digest(content)
        return self.settle()

    def refuse(self) -> Self:
        """Let a layer refuse what is described."""
        self.wanted = None
        return self.settle()

    def command(self, **verbs: str | Command | None) -> Self:
        """Set annotations such as `abort="2-bbbbbbbbbb"`; None removes one."""
        read = {verb: _read(one) if isinstance(one, str) else one for verb, one in verbs.items()}
        self.commands = replace(self.commands, **read)
        return self.settle()

    def start_pods(self) -> Self:
        """Let all pods that must run become Ready, but those that are broken, and reconcile."""
        for placement in self.decision.placements:
            pods = self.pods[placement.key]
            if placement.key in self.asking and placement.ref.digest not in self.broken and pods.ready_since is None:
                pods.ready_since = self.now
        return self.settle()

    def let_pods_end(self) -> Self:
        """Let the pods that end be gone, and reconcile."""
        self.ending = {}
        return self.settle()

    def end_pods(self, name: str) -> Self:
        """Let the pods of a placement be Ready no longer."""
        pods = self.pods[self.key(name)]
        pods.broken_at, pods.ready_since = self.now, None
        return self.settle()

    def work_on(self, name: str, *, is_busy: bool = True) -> Self:
        """Let a task be under way in a placement, or end there."""
        self.pods[self.key(name)].is_busy = is_busy
        return self

    def judge(self, verdict: GateVerdict | None) -> Self:
        """Let the gates of the current stage say so from now on."""
        self.verdict = verdict
        return self.settle()

    def kill(self, *, is_killed: bool = True) -> Self:
        """Engage the kill switch, or release it."""
        self.is_running = not is_killed
        if is_killed:
            self.stop_pods(self.asking)
        return self.settle()

    def stop_pods(self, keys: Iterable[PlacementKey]) -> None:
        """Let the pods of placements begin to end."""
        stopped = set(keys)
        self.ending = {**self.ending, **{key: claims for key, claims in self.asking.items() if key in stopped}}
        self.asking = {key: claims for key, claims in self.asking.items() if key not in stopped}
        self.pods = {key: Pods() if key in stopped else pods for key, pods in self.pods.items()}

    def wait(self, span: float) -> Self:
        """Let seconds pass, and reconcile at the end."""
        self.now += seconds(span)
        return self.settle()

    def roll_out(self, content: str) -> Self:
        """Take a revision through all stages."""
        self.describe(content)
        for _ in self.stages:
            self.start_pods().wait(10_000)
        return self.wait(100)

    def settle(self) -> Self:
        """Reconcile until nothing changes."""
        for _ in range(MOST_STEPS):
            before = self.decision
            self.step()
            if (self.decision.facts, self.decision.placements) == (before.facts, before.placements):
                return self
        raise AssertionError("the rollout does not settle")

    def step(self) -> RolloutDecision:
        """Reconcile once."""
        self.apply(self.decide(self.facts))
        return self.decision

    def decide(self, facts: RolloutFacts) -> RolloutDecision:
        """Return the decision on some facts as things are."""
        return decide_rollout(
            self.stages, facts, self.observe(facts), self.now, commands=self.commands, rules=self.rules
        )

    def observe(self, facts: RolloutFacts) -> RolloutObservation:
        """Return what the operator sees."""
        known = {ref.digest for ref in (*facts.passed_refs, *(one.ref for one in facts.leaving))}
        known |= {ref.digest for ref in (facts.newest, facts.good and facts.good.ref) if ref is not None}
        recorded = facts.stage.ready_since if facts.stage else None
        report = None
        is_gated = facts.stage is not None and facts.stage.stage.name in self.rules.gated
        if self.verdict is not None and facts.key is not None and is_gated:
            report = GateReport(facts.key, self.verdict, "of a test")
        return RolloutObservation(
            self.wanted,
            is_running=self.is_running,
            placements={key: pods.seen(recorded if key == facts.key else None) for key, pods in self.pods.items()},
            gates=report,
            may_start=self.waits,
            may_number=self.unstored,
            may_enter=self.blocked,
            allowed=frozenset(known - self.forbidden),
            refused=frozenset(self.refused),
            holders={
                key: HeldClaims(
                    self.asking.get(key, frozenset()) | self.ending.get(key, frozenset()), key in self.asking
                )
                for key in (*self.asking, *self.ending)
            },
            announced=self.announced,
        )

    def apply(self, decision: RolloutDecision) -> None:
        """Record the facts, create the placements that are missing and delete the others."""
        self.decision, self.facts = decision, decision.facts
        self.events += [(event.type, event.ref.name if event.ref else "") for event in decision.events]
        asking = {one.key: self.claims_of(one) for one in decision.placements if one.replicas != 0}
        self.stop_pods(self.asking.keys() - asking.keys())
        self.asking = asking
        self.pods = {one.key: self.pods.get(one.key, Pods()) for one in decision.placements}
        for one in decision.placements:
            self.pods[one.key].broken_at = None
            self.pods[one.key].is_told = one.is_draining

    # What one sees

    def claims_of(self, one: DesiredPlacement) -> frozenset[str]:
        """Return the names of the claims that a placement uses."""
        return self.rules.claims_of(one.ref.digest, one.stage.environment)

    @property
    def state(self) -> RolloutState:
        """How far the rollout is."""
        return self.decision.progress.state

    @property
    def newest(self) -> str:
        """Name of the newest revision."""
        assert self.facts.newest is not None
        return self.facts.newest.name

    @property
    def good(self) -> str:
        """Name of the good revision, empty if there is none."""
        return self.facts.good.ref.name if self.facts.good else ""

    @property
    def placements(self) -> dict[str, str]:
        """What each placement does: serving, starting or draining, and `no pods` where a claim is the reason."""
        return {name_of(one): _role(one) for one in self.decision.placements}

    @property
    def public(self) -> str:
        """Name of the public placement."""
        return next((name_of(one) for one in self.decision.placements if one.key == self.decision.public), "")

    def key(self, name: str) -> PlacementKey:
        """Return the key of a placement."""
        return next(one.key for one in self.decision.placements if name_of(one) == name)

    def who_serves(self, **values: str) -> list[str]:
        """Return the placements of production that would take a call which names these values."""
        named = {dimension: (value,) for dimension, value in values.items()}
        return [name_of(one) for one in servers(self.decision, self.rules, self.stages, named)]


def servers(
    decision: RolloutDecision, rules: RolloutRules, stages: tuple[Stage, ...], named: Values
) -> list[DesiredPlacement]:
    """Return the placements of the served class that take a call, as guards decide it."""
    served = rules.class_of(stages[-1].environment)
    return [
        one
        for one in decision.placements
        if one.is_serving
        and rules.class_of(one.stage.environment) is served
        and has(one.stage.scope or (), named)
        and not any(touches(scope, named) for scope in one.excluded)
    ]


def has(scope: Scope, named: Values) -> bool:
    """Return True if a scope has a call: in each dimension the call names values of the scope, and no other."""
    return all(named.get(limit.dimension) and {*named[limit.dimension]} <= {*limit.values} for limit in scope)


def touches(scope: Scope, named: Values) -> bool:
    """Return True if a call touches a scope: in each dimension it names a value of it."""
    return all({*named.get(limit.dimension, ())} & {*limit.values} for limit in scope)


def name_of(placement: DesiredPlacement) -> str:
    """Return the name of a placement in tests."""
    return f"{placement.ref.number}/{placement.stage.name}"


def digest(content: str) -> str:
    """Return the digest of the content with that letter."""
    return content * 64


def name(number: int, content: str) -> str:
    """Return the name of a revision."""
    return f"{number}-{content * 10}"


def _role(placement: DesiredPlacement) -> str:
    role = "draining" if placement.is_draining else "serving" if placement.is_serving else "starting"
    return f"{role}, no pods" if placement.is_without_pods else role


def _read(text: str) -> Command:
    revision, _, stage = text.partition("/")
    return Command(revision, stage, by="ada", is_vouched=True)


def rules(**members: object) -> RolloutRules:
    """Return rules that differ from the usual ones so."""
    return replace(RolloutRules(drain_timeout=timedelta(seconds=30)), **members)  # type: ignore[arg-type]
