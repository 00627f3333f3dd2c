"""Any history at all: what a rollout promises, whatever happens to it and whenever the operator is away or ends.

The machine keeps the truth next to what is recorded: how long each placement was Ready in each stage since that was
entered, which stages each revision has entered, and which revisions have passed their last stage.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from interlock.api.agent import Stage
from interlock.api.shared_types import parse_duration
from interlock.cluster.operator_clock import OperatorClock
from interlock.orchestration.rollout_decision import (
    DesiredPlacement,
    RolloutDecision,
    RolloutEventType,
    RolloutInvariantError,
)
from interlock.orchestration.rollout_state import (
    Command,
    GateVerdict,
    GoodRevision,
    LeavingPlacement,
    OnBreach,
    PlacementKey,
    RevisionRef,
    RolloutFacts,
    StopReason,
)
from interlock.orchestration.soak import identity, position
from tests.requirements import requirement
from tests.support.builders import NOW, a_stage, hours, stages
from tests.support.rollouts import CLAIMS, StagedAgent, digest, rules, servers

REGION = a_stage("region", "production", scope={"region": ["eu"]}, lasting="20h")
WIDE = a_stage("wide", "production", scope={"region": ["eu", "us"]}, lasting="10h")
STAGES = {
    "usual": stages(a_stage("staging", lasting="30h"), REGION, a_stage("everywhere", "production")),
    "wide": stages(a_stage("staging", lasting="30h"), REGION, WIDE, a_stage("everywhere", "production")),
    "soaking": stages(a_stage("staging", lasting="30h"), REGION, a_stage("everywhere", "production", lasting="9h")),
    "quick": stages(a_stage("staging"), a_stage("everywhere", "production")),
    "scoped": stages(a_stage("staging", scope={"region": ["eu"]}, lasting="9h"), a_stage("everywhere", "production")),
    "one": stages(a_stage("everywhere", "production")),
    "other": stages(
        a_stage("staging", lasting="30h"),
        a_stage("region", "production", scope={"region": ["us"]}, lasting="5h"),
        a_stage("products", "production", scope={"product": ["x"]}, lasting="5h"),
        a_stage("world", "production"),
    ),
}
CALLS = [
    {"region": region, "product": kind}
    for region, kind in product(((), ("eu",), ("us",), ("asia",), ("eu", "us")), ((), ("x",), ("y",)))
]
CONTENTS = "abcd"
UNKNOWN = RevisionRef(3, digest("f"))
SKEW, LENGTH = hours(1), 50
CLOCKS = ("operator", "node", "server")
EDITS = ("future", "long soak", "stage", "good", "numbers", "leaving", "stopped", "passed", "serving")

Run = tuple[RevisionRef, str, datetime]
"""One stay of a revision in a stage: the revision, the stage's name, and when it was entered."""


@dataclass
class Truth:
    """What is true of an agent's rollout, whatever is recorded.

    Attributes:
        ready: How long the placement of each stay was Ready.
        cleared: How much of that a kill or a refused spec has taken back. A status from before has it again.
        periods: How often it became Ready: an API server's clock that is set may count two hours too many each time.
        entered: What each content has entered by right: identities of stages.
        good: The contents that have been good by right.
        approved: What was commanded: name of the revision, stage, and whether by a certain user and past breaches.
        numbers: Each number, with the content that it was given to.
        edited: The stays whose recorded time was edited.
    """

    ready: dict[Run, timedelta] = field(default_factory=lambda: defaultdict(timedelta))
    cleared: dict[Run | None, timedelta] = field(default_factory=lambda: defaultdict(timedelta))
    periods: dict[Run, int] = field(default_factory=lambda: defaultdict(int))
    entered: dict[str, set[object]] = field(default_factory=lambda: defaultdict(set))
    good: set[str] = field(default_factory=set)
    approved: set[tuple[str, str, bool, bool]] = field(default_factory=set)
    numbers: dict[int, str] = field(default_factory=dict)
    edited: set[Run] = field(default_factory=set)


class History:
    """What happens to one agent, step by step, with the truth next to it."""

    def __init__(self) -> None:
        self.agent = StagedAgent(STAGES["usual"], rules())
        self.truth = Truth()
        self.real = NOW
        self.skews = dict.fromkeys(CLOCKS, timedelta())
        self.clock = self._operator_clock()
        self.is_server_skewed = False
        self.lost: list[tuple[RolloutFacts, timedelta]] = []
        self.claims = "none"
        self.was_edited = False
        self.was_restaged = False

    # What happens

    def begin(self) -> None:
        self.agent.wanted = digest("a")
        self.reconcile("sees it")

    def use_claims(self, name: str) -> None:
        """Let contents use claims from the beginning."""
        agent, self.claims = self.agent, name
        agent.rules = replace(agent.rules, claims_of=self._claims_of)
        agent.asking = {key: self._claims_of(key.revision, "staging") for key in agent.asking}

    def end_pods(self, which: int) -> None:
        """Let pods that end be gone."""
        keys = sorted(self.agent.ending)
        if keys:
            gone = keys[which % len(keys)]
            self.agent.ending = {key: claims for key, claims in self.agent.ending.items() if key != gone}

    def describe(self, content: str) -> None:
        self.agent.wanted = digest(content)

    def refuse(self) -> None:
        self.agent.wanted = None

    def start_all(self) -> None:
        if self.agent.is_running:
            for key, pods in self.agent.pods.items():
                if self._can_start(key):
                    pods.ready_since = pods.ready_since or self._node_time()

    def change_pods(self, which: int, *, is_ready: bool, is_busy: bool) -> None:
        keys = list(self.agent.pods)
        if not keys or not self.agent.is_running:
            return
        pods = self.agent.pods[keys[which % len(keys)]]
        pods.is_busy = is_busy
        if is_ready and pods.ready_since is None and self._can_start(keys[which % len(keys)]):
            pods.ready_since = self._node_time()
        elif not is_ready and pods.ready_since is not None:
            pods.broken_at, pods.ready_since = pods.broken_at or self._node_time(), None
            self._see_loss()

    def soak(self, span: float) -> None:
        """Let all pods be Ready for a while."""
        self.start_all()
        self.reconcile("sees it")
        self.pass_time(span)

    def command(self, verb: str, which: int, stage: str, *, is_certain: bool, may_override: bool) -> None:
        names = [ref.name for ref in self._refs(self.agent.facts)]
        if names:
            command = Command(
                names[which % len(names)],
                stage if verb in {"pause", "promote"} else "",
                "ada",
                is_vouched=is_certain,
                may_override_gates=may_override,
            )
            self.agent.commands = replace(self.agent.commands, **{verb: command})  # type: ignore[arg-type]

    def take_back(self, verb: str) -> None:
        self.agent.commands = replace(self.agent.commands, **{verb: None})  # type: ignore[arg-type]

    def judge(self, verdict: GateVerdict | None) -> None:
        self.agent.verdict = verdict

    def change_policy(self, approved: str, gated: str, on_breach: OnBreach, holds: int | None) -> None:
        self.agent.rules = rules(
            approvals=frozenset({approved} - {""}),
            gated=frozenset({gated} - {""}),
            on_breach=on_breach,
            history=3,
            claims_of=self._claims_of,
            hold_before=lambda _current, _passed: None if holds is None else (holds, "a minimum"),
        )

    def change_stages(self, name: str) -> None:
        if self.agent.stages != STAGES[name]:
            self.agent.stages = STAGES[name]
            self.was_restaged = True

    def forbid(self, content: str) -> None:
        self.agent.forbidden ^= {digest(content)}

    def kill(self) -> None:
        self.agent.is_running = False
        self.agent.stop_pods({*self.agent.asking, *self.agent.pods})
        self._see_loss()

    def release(self) -> None:
        self.agent.is_running = True

    def refuse_storing(self, reason: str) -> None:
        self.agent.unstored = reason

    def block(self, reason: str) -> None:
        self.agent.blocked = reason

    def make_wait(self, reason: str) -> None:
        self.agent.waits = reason

    def change_clock(self, whose: str, skew: timedelta) -> None:
        """Set a clock. The operator's is another one, for it starts on another node."""
        self.skews[whose] = skew
        if whose == "operator":
            self.clock = self._operator_clock()
        if whose == "server":
            self.is_server_skewed |= skew != timedelta()

    def lose_writes(self, which: int) -> None:
        """The status is that of an earlier decision."""
        if self.lost:
            self.agent.facts, cleared = self.lost[-1 - which % len(self.lost)]
            if (run := _run(self.agent.facts)) is not None:
                self.truth.ready[run] += self.truth.cleared[run] - cleared
                self.truth.cleared[run] = cleared
            self.was_edited = True

    def edit(self, kind: str) -> None:
        self.agent.facts = _edited(self.agent.facts, kind, self._now())
        self.was_edited = True
        if kind == "long soak" and (run := _run(self.agent.facts)) is not None:
            self.truth.edited.add(run)

    def reconcile(self, operator: str) -> None:
        """Let the operator decide, and end before its writes, between them, or lose the facts after them."""
        agent = self.agent
        agent.now = self._now()
        before = agent.facts
        self._approve()
        decision = agent.decide(before)
        self._check(before, decision)
        if operator == "writes nothing":
            return
        self.lost = [*self.lost[-3:], (before, self.truth.cleared[_run(before)])]
        objects = agent.pods, agent.asking, agent.ending
        agent.apply(decision)
        if operator == "loses it":
            agent.facts = before
        elif operator == "writes facts alone":
            agent.pods, agent.asking, agent.ending = objects
        self._check_claims()
        self._after(before, decision)

    def pass_time(self, span: float) -> None:
        """Let time pass. A stay that is recorded no longer may be so again, when a write was lost."""
        run = _run(self.agent.facts)
        for one in {*self.truth.ready, *([run] if run else [])}:
            pods = self.agent.pods.get(PlacementKey(one[1], one[0].digest))
            if pods is not None and pods.ready_since is not None:
                self.truth.ready[one] += hours(span)
                self.truth.periods[one] += 1
        self.real += hours(span)

    def finish(self) -> None:
        """Let nothing hold the agent any longer, and all that ends be gone. Each stage hands a claim over once more."""
        self.agent.is_running = True
        for turn in range(16):
            self.pass_time(1)
            self.start_all()
            self.reconcile("sees it")
            self.agent.ending = {}
            is_waiting = any(one.is_without_pods and not one.is_draining for one in self.agent.decision.placements)
            if turn >= 3 and (not is_waiting or self.claims == "crossed"):
                return
        raise AssertionError("no placement waits for ever")

    # The truth

    def _claims_of(self, revision: str, environment: str) -> frozenset[str]:
        found = CLAIMS[self.claims].get((revision[0], environment))
        return frozenset() if found is None else frozenset({found})

    def _can_start(self, key: PlacementKey) -> bool:
        """Return True unless pods of a placement must not be there, for one of its claims."""
        return self.claims == "none" or key in self.agent.asking

    def _now(self) -> datetime:
        """Return the operator's time, after an answer of the API server."""
        self.clock.observe(format_datetime(self.real + self.skews["server"], usegmt=True), 0.0)
        return self.clock.now()

    def _operator_clock(self) -> OperatorClock:
        return OperatorClock(lambda: self.real + self.skews["operator"], self._monotonic)

    def _monotonic(self) -> float:
        return (self.real - NOW).total_seconds()

    def _node_time(self) -> datetime:
        return self.real + self.skews["node"]

    def _see_loss(self) -> None:
        """Let the operator see that pods are no longer Ready, if nothing but a wrong clock tells it later when."""
        if self.skews["node"]:
            self.reconcile("sees it")

    def _approve(self) -> None:
        command = self.agent.commands.promote
        if command is not None:
            self.truth.approved.add((command.revision, command.stage, command.is_vouched, command.may_override_gates))

    @staticmethod
    def _refs(facts: RolloutFacts) -> list[RevisionRef]:
        refs = [*facts.passed_refs, *(one.ref for one in facts.leaving)]
        refs += [facts.newest] * 3 if facts.newest else []
        return refs + ([facts.good.ref] if facts.good else [])

    # The promises

    def _check(self, before: RolloutFacts, decision: RolloutDecision) -> None:
        after = decision.facts
        self._check_numbers(before, after)
        self._check_stages(before, after)
        self._check_good(before, after)
        self._check_stop(before, after)
        self._check_scopes(decision)
        self._check_partition(decision)
        self._check_service(decision)
        assert decision.next_at is None or decision.next_at > self.agent.now
        again = self.agent.decide(after)
        assert again.facts.last_number == after.last_number, "a decision that is repeated begins nothing"

    def _check_numbers(self, before: RolloutFacts, after: RolloutFacts) -> None:
        known = {ref.number for ref in self._refs(before)}
        for ref in self._refs(after):
            if ref.number not in known:
                assert ref.number > max(known, default=0), "a number is given once"
                assert not self.agent.unstored, "no number is given that cannot be stored"
        assert after.last_number >= max([*known, 0])

    def _check_stages(self, before: RolloutFacts, after: RolloutFacts) -> None:
        agent, stages_now = self.agent, self.agent.stages
        if after.newest is None or after.stage is None:
            return
        reached = position(stages_now, after.stage, after.newest.digest)
        left = position(stages_now, before.stage, after.newest.digest) if before.newest == after.newest else None
        if reached is None:
            return  # a stage that is gone, and nothing may begin now: the revision has no placement
        is_back = before.good is not None and after.good is not None and after.good.ref == after.newest
        if before.newest != after.newest or left is None or before.stopped is not None:
            if reached == len(stages_now) - 1 and is_back:
                assert after.newest.digest in self.truth.good, "only a good one passes no stage"
                return
            assert reached == 0, "a run begins in the first stage"
            self._check_entering(stages_now[0], after.newest, is_gated=False)
        elif reached != left:
            assert reached == left + 1, "no stage is skipped"
            self._check_soak(before, stages_now[left])
            self._check_entering(stages_now[reached], after.newest, is_gated=True, left=stages_now[left])
            assert not agent.blocked
            forbidden = agent.rules.hold_before(left, before.stage.passed) if before.stage else None
            assert forbidden is None or reached < forbidden[0]

    def _check_soak(self, before: RolloutFacts, stage: Stage) -> None:
        """The stage was Ready for its minimum, but for what an API server's clock may count too much in each period."""
        agent, run = self.agent, _run(before)
        assert run is not None
        assert agent.is_running
        assert agent.wanted is not None
        soak = parse_duration(stage.min_duration) if stage.min_duration else timedelta()
        pods = agent.pods.get(before.key) if before.key else None
        assert pods is not None
        assert pods.ready_since is not None, "only what is Ready goes on"
        tolerance = 2 * SKEW * (self.truth.periods[run] + 1) if self.is_server_skewed else timedelta(seconds=1)
        counted = self._now() - run[2] if run in self.truth.edited else self.truth.ready[run]
        assert counted + tolerance >= soak, "no soak is shortened"

    def _check_entering(self, stage: Stage, ref: RevisionRef, *, is_gated: bool, left: Stage | None = None) -> None:
        agent = self.agent
        following = [one for one in self.truth.approved if one[:2] == (ref.name, stage.name)]
        if stage.name in agent.rules.approvals:
            assert any(one[2] for one in following), "no stage is entered without its approval"
        pause = agent.commands.pause
        if is_gated and pause is not None and pause.revision == ref.name:
            assert pause.stage not in {"", stage.name}, "no stage is entered while it is paused"
        if left is not None and left.name in agent.rules.gated:
            assert agent.verdict is not GateVerdict.PENDING
            if agent.verdict is GateVerdict.BREACHED:
                assert any(one[3] for one in following)
            if agent.verdict in {None, GateVerdict.NO_VERDICT}:
                assert following

    def _check_good(self, before: RolloutFacts, after: RolloutFacts) -> None:
        good, was = after.good, before.good
        assert len({ref.digest for ref in after.passed_refs}) == len(after.passed) <= self.agent.rules.history
        if good is None or (was is not None and was.ref == good.ref and was.stage == good.stage):
            return
        if good.ref == after.newest and good.ref.digest not in self.truth.good:
            assert before.newest == good.ref
            assert position(self.agent.stages, before.stage, good.ref.digest) == len(self.agent.stages) - 1
            self._check_soak(before, self.agent.stages[-1])
        elif good.ref != after.newest:
            assert good.ref.digest in self.truth.good, "only what was good is rolled back to"
        if was is not None and good.ref != after.newest and not self.was_edited:
            rollback = self.agent.commands.rollback
            assert rollback is not None
            assert rollback.revision.partition("-")[2] == good.ref.digest[:10]

    def _check_stop(self, before: RolloutFacts, after: RolloutFacts) -> None:
        """Nothing is stopped without a reason."""
        agent, stopped = self.agent, after.stopped
        if stopped is None or stopped == before.stopped:
            return
        if stopped.why is StopReason.BREACHED:
            assert agent.verdict is GateVerdict.BREACHED
            assert agent.rules.on_breach is OnBreach.ROLLBACK
        elif stopped.why is StopReason.ABORTED:
            assert agent.commands.abort is not None
            assert agent.commands.abort.revision == stopped.ref.name
        else:
            assert agent.commands.rollback is not None

    def _check_scopes(self, decision: RolloutDecision) -> None:
        """Nothing serves a scope that it has not entered by right."""
        for one in decision.placements:
            entered = self.truth.entered[one.ref.digest] | self._entered_now(decision, one)
            assert identity(one.stage) in entered, "no scope is widened by accident"

    def _entered_now(self, decision: RolloutDecision, one: DesiredPlacement) -> set[object]:
        """Return what this decision entered, which other checks have found right."""
        facts = decision.facts
        found: set[object] = set()
        is_known = position(self.agent.stages, facts.stage, one.ref.digest) is not None
        if facts.newest == one.ref and facts.stage is not None and is_known:
            found.add(identity(facts.stage.stage))
        last = identity(self.agent.stages[-1])
        works = {work[1:] for work in self.truth.entered[one.ref.digest]}
        is_good = facts.good is not None and facts.good.ref == one.ref and one.ref.digest in self.truth.good
        if is_good and not works.isdisjoint({last[1:], (last[1], ())}):
            found.add(last)
        return found

    def _check_partition(self, decision: RolloutDecision) -> None:
        agent = self.agent
        has_rest = any(
            one.is_serving and not one.stage.scope and not one.is_draining for one in _shared(decision, agent)
        )
        for call in CALLS:
            found = servers(decision, agent.rules, agent.stages, call)
            assert len(found) <= 1, "each call has one placement at most"
            is_single = all(len(values) <= 1 for values in call.values())
            assert found or not has_rest or not is_single, "each call has a placement once there is one for the rest"

    def _check_claims(self) -> None:
        """No two placements have pods that use the same claim, and none has pods of before and after a kill."""
        users: dict[str, list[PlacementKey]] = defaultdict(list)
        for key, claims in (*self.agent.asking.items(), *self.agent.ending.items()):
            for claim in claims:
                users[claim].append(key)
        assert all(len(keys) <= 1 for keys in users.values()), "the old pod goes first"

    def _goes_first(self, one: DesiredPlacement, decision: RolloutDecision) -> bool:
        """Return True if another placement uses the claim of one, which ends before that has any pod."""
        others = (other for other in decision.placements if not other.is_draining and other.key != one.key)
        return any(
            other.stage.environment == one.stage.environment and self.agent.claims_of(other) & self.agent.claims_of(one)
            for other in others
        )

    def _check_service(self, decision: RolloutDecision) -> None:
        """What is Ready and serves the rest gives it to nothing that is not, and to none that has not passed."""
        agent = self.agent
        was = [one for one in servers(agent.decision, agent.rules, agent.stages, {}) if not one.stage.scope]
        now = [one for one in servers(decision, agent.rules, agent.stages, {}) if not one.stage.scope]
        for one in now:
            if one.ref.digest not in self.truth.good:
                assert identity(one.stage) in self.truth.entered[one.ref.digest] | self._entered_now(decision, one)
        if self.was_edited or self.was_restaged or not agent.is_running or agent.wanted is None:
            return
        for one in was:
            pods = agent.pods.get(one.key)
            if pods is None or pods.ready_since is None or one.ref.digest in agent.forbidden:
                continue
            if self._goes_first(one, decision):
                continue
            if decision.facts.good is None or decision.facts.good.ref.digest in agent.forbidden:
                assert now or self._is_stopped(one, decision), "production is served, also before anything has passed"
                continue
            assert now, "production is served"
            taker = agent.pods.get(now[0].key)
            assert now[0].key == one.key or (taker is not None and taker.ready_since is not None)

    def _is_stopped(self, one: DesiredPlacement, decision: RolloutDecision) -> bool:
        """Return True if a command or a breach takes a placement away, and nothing may take over."""
        stopped, verbs = decision.facts.stopped, self.agent.commands
        return (stopped is not None and stopped.ref == one.ref) or verbs.abort is not None or verbs.rollback is not None

    def _after(self, before: RolloutFacts, decision: RolloutDecision) -> None:
        after = decision.facts
        self.was_edited = self.agent.facts is before
        self.was_restaged = False
        is_known = after.newest and position(self.agent.stages, after.stage, after.newest.digest) is not None
        if after.newest is not None and after.stage is not None and is_known:
            self.truth.entered[after.newest.digest].add(identity(after.stage.stage))
        if after.good is not None:
            self.truth.good.add(after.good.ref.digest)
            self.truth.entered[after.good.ref.digest].add(identity(after.good.stage))
        run = _run(after)
        is_recorded = self.agent.facts is not before
        if run is not None and is_recorded and (not self.agent.is_running or self.agent.wanted is None):
            self.truth.cleared[run] += self.truth.ready[run]
            self.truth.ready[run] = timedelta()


def _run(facts: RolloutFacts) -> Run | None:
    if facts.newest is None or facts.stage is None:
        return None
    return facts.newest, facts.stage.stage.name, facts.stage.entered_at


def _shared(decision: RolloutDecision, agent: StagedAgent) -> list[DesiredPlacement]:
    class_of = agent.rules.class_of
    return [
        one for one in decision.placements if class_of(one.stage.environment) is class_of(agent.stages[-1].environment)
    ]


def _edited(facts: RolloutFacts, kind: str, now: datetime) -> RolloutFacts:
    far, stage, good = now + timedelta(days=365), facts.stage, facts.good
    (moon,) = stages(a_stage("moon", "production"))
    edits: dict[str, dict[str, Any]] = {
        "future": {
            "stage": stage and replace(stage, ready_since=stage.ready_since and far),
            "leaving": tuple(replace(one, draining_since=one.draining_since and far) for one in facts.leaving),
            "good": good and replace(good, since=far),
        },
        "long soak": {"stage": stage and replace(stage, soaked=hours(1000), ready_since=stage.ready_since and NOW)},
        "stage": {"stage": stage and replace(stage, stage=moon)},
        "good": {"good": GoodRevision(UNKNOWN, moon, now, now)},
        "numbers": {"last_number": 0},
        "leaving": {"leaving": (LeavingPlacement(UNKNOWN, moon), *facts.leaving)},
        "stopped": {"stopped": None},
        "passed": {"passed": facts.passed[1:]},
        "serving": {
            "serving_since": None if facts.serving_since else now,
            "good": good and replace(good, serving_since=None if good.serving_since else now),
        },
    }
    return replace(facts, **edits[kind])


Step = tuple[str, dict[str, Any]]
"""A method of a history, and what it is given."""

VERBS = ("pause", "promote", "abort", "retry", "rollback")
SKEWS = (-SKEW, timedelta(), SKEW)
OPERATOR = ("sees it",) * 8 + ("loses it", "writes nothing", "writes facts alone")


def course_of(seed: int) -> list[Step]:
    """Return a random course of events: some that happen, and what the operator does then."""
    random = Random(seed)  # noqa: S311
    # What is lost with a write, the operator learns again from pods, which say it by their nodes' clocks.
    has_wrong_nodes = seed % 6 == 0
    outcomes = ("sees it", "writes facts alone") if has_wrong_nodes else OPERATOR

    def flip() -> bool:
        return random.random() < 0.6

    choices: list[tuple[int, str, Callable[[], dict[str, Any]]]] = [
        (12, "soak", lambda: {"span": random.choice([10, 19.99, 21, 29.99, 31, 31])}),
        (6, "start_all", dict),
        (6, "describe", lambda: {"content": random.choice(CONTENTS)}),
        (4, "change_pods", lambda: {"which": random.randrange(4), "is_ready": flip(), "is_busy": flip()}),
        (4, "pass_time", lambda: {"span": random.choice([0.01, 1, 5, 10, 21, 31])}),
        (
            8,
            "command",
            lambda: {
                "verb": random.choice(VERBS),
                "which": random.randrange(6),
                "stage": random.choice(["", "staging", "region", "everywhere", "everywhere"]),
                "is_certain": flip(),
                "may_override": flip(),
            },
        ),
        (4, "take_back", lambda: {"verb": random.choice(VERBS)}),
        (4, "judge", lambda: {"verdict": random.choice([*GateVerdict, GateVerdict.PASSED, None])}),
        (
            2,
            "change_policy",
            lambda: {
                "approved": random.choice(["", "", "staging", "everywhere"]),
                "gated": random.choice(["", "region", "everywhere"]),
                "on_breach": random.choice(list(OnBreach)),
                "holds": random.choice([None, None, 1, 2]),
            },
        ),
        (2, "change_stages", lambda: {"name": random.choice(["usual", "usual", "soaking", *STAGES])}),
        (1, "refuse", dict),
        (1, "forbid", lambda: {"content": random.choice(CONTENTS)}),
        (1, "kill", dict),
        (4, "release", dict),
        (1, "block", lambda: {"reason": random.choice(["", "", "no new pod starts"])}),
        (1, "refuse_storing", lambda: {"reason": random.choice(["", "", "no quota"])}),
        (1, "make_wait", lambda: {"reason": random.choice(["", "", "others are under way"])}),
        (2, "change_clock", lambda: {"whose": "operator", "skew": random.choice(SKEWS)}),
        (2 if has_wrong_nodes else 0, "change_clock", lambda: {"whose": "node", "skew": random.choice(SKEWS)}),
        (1 if seed % 4 == 1 else 0, "change_clock", lambda: {"whose": "server", "skew": random.choice(SKEWS)}),
        (6 if seed % 2 else 0, "end_pods", lambda: {"which": random.randrange(4)}),
        (1 if seed % 3 else 0, "lose_writes", lambda: {"which": random.randrange(4)}),
        (2 if seed % 3 == 1 else 0, "edit", lambda: {"kind": random.choice(EDITS)}),
    ]
    weights = [weight for weight, _, _ in choices]
    course: list[Step] = []
    if seed % 2:
        course.append(("use_claims", {"name": random.choice([name for name in CLAIMS if name != "none"])}))
    for _ in range(LENGTH):
        _, name, draw = random.choices(choices, weights)[0]
        course.append((name, draw()))
        if random.random() < 0.8:
            course.append(("reconcile", {"operator": random.choice(outcomes)}))
    return course


def play(course: list[Step]) -> History:
    """Let a course happen, and check every decision."""
    history = History()
    history.begin()
    for name, arguments in course:
        getattr(history, name)(**arguments)
    history.finish()
    return history


def smallest(course: list[Step]) -> list[Step]:
    """Return a part of a course that breaks a promise, and breaks none without any of its steps."""
    size = len(course) // 2
    while size:
        for start in range(0, len(course), size):
            rest = course[:start] + course[start + size :]
            if _failure(rest):
                course = rest
                break
        else:
            size //= 2
    return course


def _failure(course: list[Step]) -> str:
    """Return how a course breaks a promise, empty if it breaks none."""
    try:
        play(course)
    except (AssertionError, RolloutInvariantError, LookupError, TypeError, ValueError) as failure:
        return repr(failure)
    return ""


def check(seed: int) -> None:
    """Play the course of a seed. A failure is told with the smallest part of the course that has it."""
    course = course_of(seed)
    if _failure(course):
        found = smallest(course)
        pytest.fail(f"seed {seed}: {_failure(found)}\n" + "\n".join(f"  {step}" for step in found))


SEEDS = st.integers(0, 2**32)


@requirement(
    "rollout.in-turn",
    "rollout.restart",
    "rollout.clock",
    "rollout.one-clock",
    "rollout.node-clocks",
    "rollout.partition",
)
@settings(max_examples=120, phases=[Phase.generate], deadline=None)
@given(SEEDS)
def test_no_history_breaks_a_promise(seed: int) -> None:
    check(seed)


def test_the_histories_have_everything_that_can_happen() -> None:
    happened = Counter(kind for seed in range(60) for kind, _ in play(course_of(seed)).agent.events)
    assert not [kind for kind in RolloutEventType if not happened[kind]]


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@settings(max_examples=20_000, phases=[Phase.generate], deadline=None)
@given(SEEDS)
def test_no_history_of_many_breaks_a_promise(seed: int) -> None:
    check(seed)
