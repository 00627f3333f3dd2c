"""`python -m tools.rollout_picture [--check]`: draw who serves what in a rollout, as the operator decides it.

The stages are those of examples/05-staged-scope, and the moments are decisions of `decide_rollout`. The picture is in
docs/explanation/rollouts.md, so that the page cannot say something that the operator does not do.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml

from interlock.api.agent import Agent, Stage
from interlock.api.policy import AgentPolicy
from interlock.orchestration.orchestrated import hold_before
from interlock.orchestration.rollout import decide_rollout
from interlock.orchestration.rollout_decision import DesiredPlacement, RolloutDecision
from interlock.orchestration.rollout_state import (
    Command,
    PlacementKey,
    PlacementSeen,
    RolloutCommands,
    RolloutFacts,
    RolloutObservation,
    RolloutRules,
    Scope,
)
from interlock.orchestration.scopes import covers
from tools.generated import write_or_check

ROOT: Final = Path(__file__).parents[1]
EXAMPLE: Final = ROOT / "examples" / "05-staged-scope"
PAGE: Final = ROOT / "docs" / "explanation" / "rollouts.md"
BEGIN: Final = "<!-- Drawn by `make docs` from `decide_rollout`, the function of the operator: do not edit. -->"
END: Final = "<!-- End of what is drawn. -->"
_START: Final = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_DECISIONS: Final = 20
"""Decisions after which nothing changes any more, unless time passes."""


@dataclass(frozen=True)
class Column:
    """A part of the work.

    Attributes:
        environment: Where the work is done.
        scope: The values that the work names. Empty: other values, or none.
        title: For people.
    """

    environment: str
    scope: Scope
    title: str


@dataclass(frozen=True)
class Moment:
    """One moment of a rollout: what happens, and what runs then."""

    title: str
    placements: tuple[DesiredPlacement, ...]


@dataclass
class Rollout:
    """A rollout whose pods are Ready at once and whose soaks pass when told."""

    stages: tuple[Stage, ...]
    rules: RolloutRules
    facts: RolloutFacts = field(default_factory=RolloutFacts)
    now: datetime = _START
    wanted: str = ""
    commands: RolloutCommands = field(default_factory=RolloutCommands)
    ready: dict[PlacementKey, datetime] = field(default_factory=dict)

    def change(self, revision: int) -> Moment:
        """Apply a change of the agent."""
        self.wanted = str(revision) * 64
        return self._settle("")

    def soak(self) -> Moment:
        """Let the soak of the current stage pass."""
        self.now += timedelta(days=30)
        return self._settle("")

    def abort(self) -> Moment:
        """Abort the newest revision."""
        newest = self.facts.newest
        if newest is not None:
            self.commands = RolloutCommands(abort=Command(newest.name, by="ada", is_vouched=True))
        return self._settle(f"{newest.number if newest else 0} is aborted")

    def _settle(self, title: str) -> Moment:
        """Decide until nothing changes, with the pods of each placement Ready."""
        for _ in range(_MOST_DECISIONS):
            decision = self._decide()
            is_settled = decision.facts == self.facts and {one.key for one in decision.placements} == set(self.ready)
            self.facts = decision.facts
            self.ready = {one.key: self.ready.get(one.key, self.now) for one in decision.placements}
            if is_settled:
                newest, stage = self.facts.newest, self.facts.stage
                where = f"{newest.number} in {stage.stage.name}" if newest and stage else ""
                return Moment(title or where, decision.placements)
        raise RuntimeError("the rollout does not settle")

    def _decide(self) -> RolloutDecision:
        known = [one.digest for one in (*self.facts.passed_refs, *(one.ref for one in self.facts.leaving))]
        seen = {
            key: PlacementSeen(is_ready=True, ready_since=since, is_drained=True) for key, since in self.ready.items()
        }
        observed = RolloutObservation(self.wanted, placements=seen, allowed=frozenset({*known, self.wanted}))
        return decide_rollout(self.stages, self.facts, observed, self.now, commands=self.commands, rules=self.rules)


def moments(stages: tuple[Stage, ...], rules: RolloutRules) -> Iterator[Moment]:
    """Yield the moments of two rollouts, and of a third one that is aborted in its last stage but one."""
    rollout = Rollout(stages, rules)
    for revision in (1, 2):
        yield rollout.change(revision)
        for _ in stages[1:]:
            yield rollout.soak()
    rollout.change(3)
    for _ in stages[2:]:
        last = rollout.soak()
    yield last
    yield rollout.abort()


def columns(stages: Sequence[Stage], rules: RolloutRules) -> Iterator[Column]:
    """Yield the parts of the work: each earlier environment whole, and the scopes of the last one's class."""
    served = rules.class_of(stages[-1].environment)
    before = dict.fromkeys(one.environment for one in stages if rules.class_of(one.environment) is not served)
    yield from (Column(name, (), name) for name in before)
    last = [one for one in stages if rules.class_of(one.environment) is served]
    for scope in dict.fromkeys(one.scope or () for one in last if one.scope):
        values = " ".join(f"{limit.dimension}={','.join(limit.values)}" for limit in scope)
        yield Column(last[-1].environment, scope, f"{last[-1].environment}, {values}")
    yield Column(last[-1].environment, (), f"{last[-1].environment}, the rest")


def server(placements: Sequence[DesiredPlacement], column: Column, rules: RolloutRules) -> str:
    """Return the number of the revision that serves a part of the work, empty if none does."""
    wanted = rules.class_of(column.environment)
    found = [
        str(one.ref.number)
        for one in placements
        if one.is_serving
        and rules.class_of(one.stage.environment) is wanted
        and covers(one.stage.scope or (), column.scope)
        and not any(covers(scope, column.scope) for scope in one.excluded)
    ]
    return ",".join(found)


def picture(agent: Agent, policy: AgentPolicy) -> str:
    """Return the picture, a block of Markdown."""
    rules = RolloutRules(class_of=policy.spec.class_of, hold_before=partial(hold_before, agent, policy))
    stages = agent.spec.stages
    parts = tuple(columns(stages, rules))
    drawn = tuple(moments(stages, rules))
    first = max(len(moment.title) for moment in drawn)
    lines = [_line("", [part.title for part in parts], first)]
    lines += [_line("", ["-" * len(part.title) for part in parts], first)]
    for moment in drawn:
        served = [server(moment.placements, part, rules) for part in parts]
        bars = [(number * len(part.title))[: len(part.title)] for number, part in zip(served, parts, strict=True)]
        filled = [bar or " " * len(part.title) for bar, part in zip(bars, parts, strict=True)]
        lines.append(_line(moment.title, filled, first))
    return "\n".join(("```text", *lines, "```"))


def _line(title: str, cells: Sequence[str], width: int) -> str:
    return "  ".join((title.ljust(width), *cells)).rstrip()


def rendered(text: str) -> str:
    """Return a page with the picture in its place.

    Raises:
        ValueError: The page has no place for it.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"write these two lines where the picture belongs:\n{BEGIN}\n{END}")
    return (
        f"{before}{BEGIN}\n{picture(_read(Agent, '4-agent.yaml'), _read(AgentPolicy, '2-policy.yaml'))}\n{END}{after}"
    )


def _read(kind: type[Any], name: str) -> Any:
    return kind.model_validate(yaml.safe_load((EXAMPLE / name).read_text(encoding="utf-8")))


def main(arguments: Sequence[str] | None = None, page: Path = PAGE) -> int:
    """Run the command; 1 where the page is not as it should be."""
    return write_or_check(
        arguments,
        command="python -m tools.rollout_picture",
        description=__doc__,
        path=page,
        wanted=rendered(page.read_text(encoding="utf-8")),
        advice="has not the picture of what the operator decides: run `make docs`",
    )


if __name__ == "__main__":
    sys.exit(main())
