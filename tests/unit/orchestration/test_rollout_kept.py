"""What serves production before any revision was good goes on serving when another revision follows."""

from dataclasses import replace

import pytest

from interlock.orchestration.rollout_decision import RolloutDecision, RolloutState
from interlock.orchestration.rollout_state import GateVerdict, OnBreach
from tests.requirements import requirement
from tests.support.builders import a_stage, stages
from tests.support.rollouts import StagedAgent, digest, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)


@pytest.fixture
def held() -> StagedAgent:
    """Revision 1 serves production, and the gates of its last stage hold it there. No revision is good."""
    agent = StagedAgent(STAGES, rules(gated=frozenset({"everywhere"})), verdict=GateVerdict.PENDING)
    agent.describe("a").start_pods().wait(100).start_pods().wait(50).start_pods().wait(40)
    assert (agent.placements, agent.good, agent.state) == ({"1/everywhere": "serving"}, "", RolloutState.GATE_PENDING)
    return agent


@requirement("rollout.kept")
def test_what_serves_production_leaves_to_the_next_revision_what_that_serves(held: StagedAgent) -> None:
    held.describe("b").start_pods()
    assert held.placements == {"2/staging": "serving", "1/everywhere": "serving"}
    assert (held.public, held.who_serves(region="eu")) == ("1/everywhere", ["1/everywhere"])

    held.wait(100)
    assert held.placements["2/region"] == "starting"
    assert held.who_serves(region="eu") == ["1/everywhere"], "until the new one is Ready in its stage of production"
    held.start_pods()
    assert (held.who_serves(region="eu"), held.who_serves()) == (["2/region"], ["1/everywhere"])

    held.wait(50)
    assert held.who_serves() == ["1/everywhere"]
    held.work_on("1/everywhere").start_pods()
    assert held.placements == {"2/everywhere": "serving", "1/everywhere": "draining"}
    assert held.wait(30).placements == {"2/everywhere": "serving"}
    assert held.judge(GateVerdict.PASSED).good == name(2, "b")


@requirement("rollout.kept")
def test_a_limited_part_of_production_is_kept_too() -> None:
    agent = StagedAgent(STAGES, rules()).describe("a").start_pods().wait(100).start_pods().wait(10)
    assert agent.placements == {"1/region": "serving"}

    agent.describe("b").start_pods()
    assert agent.placements == {"2/staging": "serving", "1/region": "serving"}
    agent.wait(100).start_pods().wait(31)
    assert (agent.placements, agent.who_serves(region="eu")) == ({"2/region": "serving"}, ["2/region"])


@requirement("rollout.kept")
def test_the_older_of_two_takes_back_what_the_newer_one_served(held: StagedAgent) -> None:
    held.describe("b").start_pods().wait(100).start_pods()
    assert held.who_serves(region="eu") == ["2/region"]

    held.describe("c")

    assert held.who_serves(region="eu") == held.who_serves() == ["1/everywhere"]
    assert held.placements == {"3/staging": "serving", "1/everywhere": "serving"}


@requirement("rollout.kept")
def test_an_abort_or_a_breach_takes_away_what_it_is_about_and_nothing_else(held: StagedAgent) -> None:
    held.describe("b").start_pods().command(abort=name(2, "b"))
    assert (held.placements, held.state) == ({"1/everywhere": "serving"}, RolloutState.STOPPED)


@pytest.mark.parametrize("ends", ["abort", "breach"])
def test_a_revision_that_was_stopped_serves_no_longer_whatever_follows(held: StagedAgent, ends: str) -> None:
    held.work_on("1/everywhere")
    if ends == "abort":
        held.wanted = digest("b")  # in the same decision
        held.command(abort=name(1, "a"))
    else:
        held.rules = rules(gated=frozenset({"everywhere"}), on_breach=OnBreach.ROLLBACK)
        held.judge(GateVerdict.BREACHED).describe("b")

    assert held.placements == {"2/staging": "serving", "1/everywhere": "draining"}
    assert held.who_serves() == []


def test_a_revision_that_breaches_a_gate_once_it_is_ready_takes_nothing_over(held: StagedAgent) -> None:
    held.describe("b").start_pods().wait(100).start_pods().wait(50)
    assert held.placements["2/everywhere"] == "starting"
    held.rules, held.verdict = rules(gated=frozenset({"everywhere"}), on_breach=OnBreach.ROLLBACK), GateVerdict.BREACHED

    held.start_pods()

    assert (held.state, held.who_serves(region="eu")) == (RolloutState.STOPPED, ["1/everywhere"])


def test_a_revision_that_was_never_ready_is_not_kept() -> None:
    agent = StagedAgent(stages(a_stage("everywhere", "production")), rules()).describe("a")
    assert agent.placements == {"1/everywhere": "serving"}

    assert agent.describe("b").placements == {"2/everywhere": "serving"}


def test_one_stage_passes_to_the_next_revision_once_that_is_ready() -> None:
    agent = StagedAgent(
        stages(a_stage("everywhere", "production")), rules(gated=frozenset({"everywhere"})), verdict=None
    )
    agent.describe("a").start_pods().describe("b")
    assert agent.placements == {"2/everywhere": "starting", "1/everywhere": "serving"}
    assert agent.start_pods().wait(1).placements == {"2/everywhere": "serving"}


def test_what_is_kept_serves_again_after_a_kill(held: StagedAgent) -> None:
    held.describe("b").kill()
    assert [one.replicas for one in held.decision.placements] == [0, 0]
    held.kill(is_killed=False).start_pods()
    assert held.who_serves() == ["1/everywhere"]


def test_a_revision_that_the_policy_no_longer_allows_is_not_kept(held: StagedAgent) -> None:
    held.describe("b")
    held.forbidden.add(digest("a"))
    assert held.settle().placements == {"2/staging": "serving"}


def test_a_return_to_what_is_kept_never_stops_serving(held: StagedAgent) -> None:
    held.describe("b").start_pods().describe("a").start_pods().wait(100).start_pods().wait(50)
    assert held.facts.stage is not None
    assert (held.facts.stage.stage.name, held.newest, held.who_serves()) == (
        "everywhere",
        name(3, "a"),
        ["3/everywhere"],
    )


def test_without_its_good_revision_what_serves_is_kept_as_well() -> None:
    agent = StagedAgent(STAGES, rules(gated=frozenset({"everywhere"})), verdict=GateVerdict.PASSED).roll_out("a")
    agent.judge(GateVerdict.PENDING).describe("b").start_pods().wait(100).start_pods().wait(50).start_pods().wait(40)
    assert (agent.good, agent.placements) == (name(1, "a"), {"2/everywhere": "serving"})
    agent.forbidden.add(digest("a"))

    assert agent.describe("c").placements == {"3/staging": "serving", "2/everywhere": "serving"}


def test_only_one_of_two_placements_serves_until_a_rolled_back_revision_is_ready() -> None:
    """As a status says it in which the current stage was edited."""
    only = stages(a_stage("everywhere", "production"))
    agent = StagedAgent(only, rules()).roll_out("a").roll_out("b")
    assert agent.facts.stage is not None
    (moon,) = stages(a_stage("moon", "production"))
    agent.facts = replace(agent.facts, stage=replace(agent.facts.stage, stage=moon))

    agent.command(rollback=name(1, "a"))

    assert agent.placements == {"3/everywhere": "starting", "2/everywhere": "serving"}


def test_what_serves_in_staging_is_not_kept() -> None:
    agent = StagedAgent(STAGES, rules()).describe("a").start_pods().work_on("1/staging").describe("b")
    assert agent.placements == {"2/staging": "serving", "1/staging": "draining"}


def test_a_revision_that_a_layer_refuses_is_not_kept() -> None:
    agent = StagedAgent(STAGES, rules()).describe("a").start_pods().wait(100).start_pods().wait(50)
    assert agent.placements == {"1/everywhere": "starting", "1/region": "serving"}
    assert agent.refuse().wait(30).placements == {}


def test_a_return_to_what_is_kept_goes_on_while_its_pods_are_not_ready(held: StagedAgent) -> None:
    held.describe("b").start_pods().describe("a").start_pods().wait(100).start_pods()
    held.end_pods("1/everywhere").wait(50)
    assert held.placements["3/everywhere"] == "serving"


RENAMED = (*STAGES[:-1], *stages(a_stage("world", "production")))


def test_what_serves_in_a_stage_that_is_no_longer_one_is_not_kept(held: StagedAgent) -> None:
    held.work_on("1/everywhere")
    held.stages, held.wanted = RENAMED, digest("b")
    assert _roles(held.step()) == {"everywhere": False, "staging": True}


def test_a_stage_that_was_renamed_is_served_until_the_good_revision_is_ready() -> None:
    agent = StagedAgent(STAGES, rules(gated=frozenset({"everywhere"})), verdict=GateVerdict.PASSED).roll_out("a")
    agent.judge(GateVerdict.PENDING).describe("b").start_pods().wait(100).start_pods().wait(50).start_pods().wait(40)
    agent.stages = RENAMED
    assert agent.settle().placements == {
        "3/staging": "serving",
        "1/everywhere": "starting",
        "2/everywhere": "serving",
    }


def _roles(decision: RolloutDecision) -> dict[str, bool]:
    return {one.stage.name: one.is_serving for one in decision.placements}
