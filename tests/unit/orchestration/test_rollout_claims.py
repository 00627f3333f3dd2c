"""The old pod goes first: two revisions that use the same claim never have pods at once, in either direction."""

from dataclasses import replace

import pytest

from interlock.orchestration.rollout_decision import RolloutState
from interlock.orchestration.rollout_state import GateVerdict, HeldClaims, OnBreach, PlacementKey
from tests.support.builders import a_stage, stages
from tests.support.rollouts import StagedAgent, digest, name, rules

STAGES = stages(a_stage("staging", lasting="100s"), a_stage("everywhere", "production", lasting="50s"))
CLAIMS = {"staging": "files-staging", "production": "files"}


def claims_of(revision: str, environment: str) -> frozenset[str]:
    """All revisions but `n` use one claim in each environment, and `o` uses another one."""
    if revision == digest("n"):
        return frozenset()
    return frozenset({CLAIMS[environment] + ("-other" if revision == digest("o") else "")})


@pytest.fixture
def served() -> StagedAgent:
    """Revision 1 serves production."""
    agent = StagedAgent(STAGES, rules(claims_of=claims_of))
    agent.roll_out("a").let_pods_end()
    assert (agent.good, agent.placements) == (name(1, "a"), {"1/everywhere": "serving"})
    return agent


@pytest.fixture
def entered(served: StagedAgent) -> StagedAgent:
    """Revision 2 has just entered production, and a task is under way in revision 1."""
    served.describe("b").start_pods().work_on("1/everywhere")
    return served.wait(100)


def test_another_environment_has_another_claim_so_that_both_run(served: StagedAgent) -> None:
    served.describe("b")
    assert served.placements == {"2/staging": "serving", "1/everywhere": "serving"}


def test_the_pods_of_the_good_revision_drain_before_the_new_one_has_any(entered: StagedAgent) -> None:
    assert entered.placements == {
        "2/everywhere": "serving, no pods",
        "1/everywhere": "draining",
    }
    (waiting,) = (one for one in entered.decision.placements if one.is_without_pods)
    assert (waiting.replicas, waiting.waits_for) == (0, (PlacementKey("everywhere", digest("a")),))
    assert entered.state is RolloutState.WAITING_FOR_READY

    entered.wait(31)  # its drain is over, and its pods begin to end
    assert entered.placements == {"2/everywhere": "serving, no pods"}
    assert entered.decision.placements[0].waits_for == (PlacementKey("everywhere", digest("a")),)

    entered.let_pods_end()
    assert entered.placements == {"2/everywhere": "serving"}
    assert entered.decision.placements[0].replicas is None
    assert entered.start_pods().wait(50).good == name(2, "b")


def test_nothing_serves_in_the_gap_and_the_new_revision_has_the_address(entered: StagedAgent) -> None:
    assert (entered.who_serves(), entered.public) == (["2/everywhere"], "2/everywhere")


@pytest.mark.parametrize("other", ["n", "o"])
def test_a_revision_with_another_claim_or_without_one_takes_over_without_a_gap(served: StagedAgent, other: str) -> None:
    served.describe(other).start_pods().wait(100)
    assert served.placements == {"2/everywhere": "starting", "1/everywhere": "serving", "2/staging": "serving"}
    assert all(one.replicas is None for one in served.decision.placements)


def test_an_abort_before_the_old_pod_ends_keeps_it(entered: StagedAgent) -> None:
    entered.command(abort=name(2, "b"))
    assert entered.placements["1/everywhere"] == "serving"
    assert entered.placements.get("2/everywhere") in {None, "draining, no pods"}
    assert entered.wait(31).placements == {"1/everywhere": "serving"}


def test_an_abort_afterwards_ends_the_new_pod_before_the_good_one_starts_again(entered: StagedAgent) -> None:
    entered.wait(31).let_pods_end().start_pods().work_on("2/everywhere")
    entered.command(abort=name(2, "b"))
    assert entered.placements == {"1/everywhere": "serving, no pods", "2/everywhere": "draining"}

    assert entered.wait(31).placements == {"1/everywhere": "serving, no pods"}
    assert entered.let_pods_end().placements == {"1/everywhere": "serving"}


def test_a_breach_goes_back_in_the_same_way(entered: StagedAgent) -> None:
    entered.rules = replace(entered.rules, on_breach=OnBreach.ROLLBACK, gated=frozenset({"everywhere"}))
    entered.wait(31).let_pods_end().start_pods().work_on("2/everywhere").judge(GateVerdict.BREACHED)
    assert entered.placements == {"1/everywhere": "serving, no pods", "2/everywhere": "draining"}


def test_a_rollback_goes_back_in_the_same_way(served: StagedAgent) -> None:
    served.roll_out("b").let_pods_end().start_pods().wait(10_000)
    assert served.good == name(2, "b")
    served.work_on("2/everywhere").command(rollback=name(1, "a"))
    assert served.placements == {"3/everywhere": "serving, no pods", "2/everywhere": "draining"}
    assert served.wait(31).let_pods_end().placements == {"3/everywhere": "serving"}


def test_a_third_revision_in_staging_gives_production_back_pod_by_pod(entered: StagedAgent) -> None:
    entered.wait(31).let_pods_end().start_pods().work_on("2/everywhere").describe("c")
    assert entered.placements == {
        "3/staging": "serving",
        "1/everywhere": "serving, no pods",
        "2/everywhere": "draining",
    }


def test_a_killed_and_released_agent_waits_for_its_own_pods(served: StagedAgent) -> None:
    served.kill().kill(is_killed=False)
    assert served.placements == {"1/everywhere": "serving, no pods"}
    assert served.decision.placements[0].waits_for == (PlacementKey("everywhere", digest("a")),)
    assert served.let_pods_end().placements == {"1/everywhere": "serving"}


def test_an_agent_that_is_killed_in_the_gap_goes_on_with_the_new_revision(entered: StagedAgent) -> None:
    entered.kill().kill(is_killed=False)
    assert entered.placements == {"2/everywhere": "serving, no pods"}
    assert entered.let_pods_end().placements == {"2/everywhere": "serving"}


def test_what_drains_never_gets_a_pod_again(entered: StagedAgent) -> None:
    entered.stop_pods([PlacementKey("everywhere", digest("a"))])  # by a quota or an eviction
    entered.rules = replace(entered.rules, least_drain=entered.rules.drain_timeout)
    entered.settle()
    assert entered.placements == {"2/everywhere": "serving, no pods", "1/everywhere": "draining, no pods"}
    assert entered.let_pods_end().placements == {"2/everywhere": "serving", "1/everywhere": "draining, no pods"}


def test_pods_that_no_facts_name_are_waited_for(served: StagedAgent) -> None:
    stranger = PlacementKey("everywhere", digest("f"))
    served.kill().kill(is_killed=False)
    served.ending = {stranger: frozenset({"files"})}
    assert served.settle().decision.placements[0].waits_for == (stranger,)
    assert served.let_pods_end().placements == {"1/everywhere": "serving"}


def test_a_deployment_that_still_asks_for_pods_is_waited_for(served: StagedAgent) -> None:
    stranger = PlacementKey("everywhere", digest("f"))
    served.kill().kill(is_killed=False).let_pods_end()
    seen = served.observe(served.facts)
    assert seen.holders == {PlacementKey("everywhere", digest("a")): HeldClaims(frozenset({"files"}), is_asking=True)}
    served.asking[stranger] = frozenset({"files"})
    assert served.decide(served.facts).placements[0].is_without_pods


def test_without_a_good_revision_the_earlier_one_goes_first_too() -> None:
    agent = StagedAgent(STAGES, rules(claims_of=claims_of))
    agent.describe("a").start_pods().wait(100).let_pods_end().start_pods()
    assert agent.let_pods_end().placements == {"1/everywhere": "serving"}
    agent.describe("b").start_pods()
    assert agent.placements == {"2/staging": "serving", "1/everywhere": "serving"}
    assert agent.work_on("1/everywhere").wait(100).placements == {
        "2/everywhere": "serving, no pods",
        "1/everywhere": "draining",
    }


def test_what_took_over_serves_while_the_next_revision_waits_for_the_claim_of_the_good_one() -> None:
    agent = StagedAgent(stages(a_stage("everywhere", "production", lasting="50s")), rules(claims_of=claims_of))
    agent.roll_out("a").let_pods_end().work_on("1/everywhere").describe("n").start_pods()
    assert (agent.good, agent.placements) == (name(1, "a"), {"2/everywhere": "serving", "1/everywhere": "draining"})

    agent.describe("b")

    assert agent.placements == {
        "3/everywhere": "starting, no pods",
        "2/everywhere": "serving",
        "1/everywhere": "draining",
    }
    agent.wait(31).let_pods_end()
    assert agent.placements == {"3/everywhere": "starting", "2/everywhere": "serving"}
    assert agent.start_pods().who_serves() == ["3/everywhere"]


def test_a_revision_that_a_layer_refuses_in_the_last_stage_gives_its_claim_back(entered: StagedAgent) -> None:
    entered.wait(31).let_pods_end().start_pods().refuse()
    assert entered.placements == {"1/everywhere": "serving, no pods"}
    assert entered.let_pods_end().placements == {"1/everywhere": "serving"}


def test_the_placement_of_before_a_change_of_stages_is_not_its_own_successor(served: StagedAgent) -> None:
    served.stages = stages(a_stage("everywhere", "production", scope={"region": ["eu"]}, lasting="50s"))
    served.settle()
    assert served.newest == name(2, "a")
    assert served.placements == {"1/everywhere": "serving"}
    assert served.start_pods().wait(50).placements == {"2/everywhere": "serving"}


def test_of_two_stages_in_one_environment_the_earlier_one_ends_first() -> None:
    region = a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s")
    agent = StagedAgent(stages(region, a_stage("everywhere", "production")), rules(claims_of=claims_of))
    agent.describe("a").start_pods().work_on("1/region").wait(50)
    assert agent.placements == {"1/everywhere": "serving, no pods", "1/region": "draining"}
    assert agent.wait(31).let_pods_end().placements == {"1/everywhere": "serving"}


def test_what_serves_the_rest_for_a_good_revision_keeps_its_pod_until_that_is_ready() -> None:
    agent = StagedAgent(stages(a_stage("old", "blue")), rules(claims_of=lambda _, where: frozenset({where})))
    agent.roll_out("a")
    agent.stages = stages(a_stage("live", "production", lasting="500s"))
    agent.describe("b").start_pods().let_pods_end()
    assert agent.placements == {"2/live": "serving"}

    agent.describe("c")
    assert agent.placements == {"3/live": "starting, no pods", "1/old": "starting", "2/live": "serving"}
    assert agent.start_pods().placements == {"3/live": "starting, no pods", "1/old": "serving"}
    assert agent.let_pods_end().placements == {"3/live": "starting", "1/old": "serving"}


def test_a_gap_in_staging_takes_no_pods_from_the_stage_before_it() -> None:
    dev, staging = a_stage("dev", "development"), a_stage("staging", lasting="100s")
    agent = StagedAgent(
        stages(dev, staging, a_stage("everywhere", "production")), rules(claims_of=lambda _, where: frozenset({where}))
    )
    agent.roll_out("a").let_pods_end()
    agent.describe("b").start_pods().wait(1).let_pods_end().start_pods().work_on("2/staging")
    assert agent.placements == {"2/staging": "serving", "1/everywhere": "serving"}
    agent.describe("c").let_pods_end().start_pods().wait(1)
    assert agent.placements == {
        "3/staging": "starting, no pods",
        "1/everywhere": "serving",
        "3/dev": "serving",
        "2/staging": "draining",
    }


def test_of_one_claim_in_two_environments_production_keeps_its_pod(served: StagedAgent) -> None:
    served.rules = replace(served.rules, claims_of=lambda _revision, _environment: frozenset({"files"}))
    served.describe("b")
    assert served.placements == {"2/staging": "serving, no pods", "1/everywhere": "serving"}
    served.kill().kill(is_killed=False).let_pods_end()
    assert served.placements == {"2/staging": "serving, no pods", "1/everywhere": "serving"}


def test_no_pod_uses_a_claim_before_the_status_announces_it() -> None:
    agent = StagedAgent(STAGES, rules(claims_of=claims_of))
    agent.announced = frozenset()
    agent.describe("a")
    assert agent.placements == {"1/staging": "serving, no pods"}
    (waiting,) = agent.decision.placements
    assert (waiting.replicas, waiting.is_announcing, waiting.waits_for) == (0, True, ())

    agent.announced = frozenset({"files-staging"})
    assert agent.settle().placements == {"1/staging": "serving"}
    assert not agent.decision.placements[0].is_announcing


def test_what_uses_a_claim_already_does_so_until_its_status_says_so(served: StagedAgent) -> None:
    served.announced = frozenset()
    assert served.settle().placements == {"1/everywhere": "serving"}
    assert served.describe("o").placements == {"2/staging": "serving, no pods", "1/everywhere": "serving"}
