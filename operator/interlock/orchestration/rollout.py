"""The rollout of an agent: which revisions run in which stages, and which of them serves what.

A pure function of the stages, the recorded facts, what is seen now and the time. All that it remembers is in the facts
that it returns.
"""

from datetime import datetime

from interlock.api.agent import Stage
from interlock.orchestration.rollout_decision import RolloutDecision
from interlock.orchestration.rollout_state import (
    RolloutCommands,
    RolloutFacts,
    RolloutObservation,
    RolloutRules,
)


def decide_rollout(
    stages: tuple[Stage, ...],
    facts: RolloutFacts,
    seen: RolloutObservation,
    now: datetime,
    *,
    commands: RolloutCommands,
    rules: RolloutRules,
) -> RolloutDecision:
    """Return what must run, and what to remember.

    Args:
        stages: The stages of today's spec in order, at least one.
        facts: What was recorded.
        seen: What is seen now.
        now: The time.
        commands: The commands that stand on the Agent.
        rules: What spec and policy say about the rollout.
    """
    raise NotImplementedError
