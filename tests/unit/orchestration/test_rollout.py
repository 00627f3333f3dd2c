"""A rollout carries a running service: entering stages, hand-over, draining, and the good revision behind it."""

import pytest

from interlock.orchestration.rollout_decision import RolloutEventType, RolloutState
from tests.support.builders import a_stage, seconds, stages
from tests.support.rollouts import StagedAgent, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)


@pytest.fixture
def agent() -> StagedAgent:
    return StagedAgent(STAGES, rules())


@pytest.fixture
def served(agent: StagedAgent) -> StagedAgent:
    """Revision 1 serves production."""
    agent.roll_out("a")
    assert (agent.good, agent.placements, agent.state) == (
        name(1, "a"),
        {"1/everywhere": "serving"},
        RolloutState.COMPLETE,
    )
    return agent


# The first revision


def test_the_first_revision_goes_through_the_stages_and_nobody_serves_the_rest_before_it_is_everywhere(
    agent: StagedAgent,
) -> None:
    agent.describe("a")
    assert (agent.placements, agent.public, agent.state) == (
        {"1/staging": "serving"},
        "1/staging",
        RolloutState.STARTING,
    )
    agent.start_pods()
    assert (agent.state, agent.decision.next_at) == (RolloutState.SOAKING, agent.now + seconds(100))
    agent.wait(100)
    assert agent.placements == {"1/region": "starting", "1/staging": "serving"}
    agent.start_pods().wait(1)
    assert (agent.placements, agent.public) == ({"1/region": "serving"}, "1/region")
    assert (agent.who_serves(region="eu"), agent.who_serves(region="us"), agent.who_serves()) == (["1/region"], [], [])
    agent.wait(50).start_pods().wait(1)
    assert (agent.placements, agent.good) == ({"1/everywhere": "serving"}, name(1, "a"))
    assert agent.who_serves() == agent.who_serves(region="us") == ["1/everywhere"]


# The second


def test_a_new_revision_goes_through_the_stages_while_the_good_one_serves(served: StagedAgent) -> None:
    served.describe("b").start_pods()
    assert served.placements == {"2/staging": "serving", "1/everywhere": "serving"}
    assert served.who_serves() == ["1/everywhere"]

    served.wait(100)
    assert served.placements == {"2/region": "starting", "1/everywhere": "serving", "2/staging": "serving"}
    assert served.who_serves(region="eu") == ["1/everywhere"]

    served.start_pods()
    assert served.who_serves(region="eu") == ["2/region"]
    assert served.who_serves(region="us") == served.who_serves() == ["1/everywhere"]
    assert served.public == "1/everywhere"

    served.wait(50)
    assert served.placements == {"2/everywhere": "starting", "1/everywhere": "serving", "2/region": "serving"}

    served.step()
    served.work_on("1/everywhere").start_pods()
    assert served.placements == {"2/everywhere": "serving", "1/everywhere": "draining"}
    assert served.who_serves() == served.who_serves(region="eu") == ["2/everywhere"]
    assert (served.good, served.facts.passed[-1].name) == (name(2, "b"), name(2, "b"))
    served.wait(31)
    assert served.placements == {"2/everywhere": "serving"}


def test_events_of_a_rollout_come_once_each(served: StagedAgent) -> None:
    served.events.clear()
    served.roll_out("b").settle()
    kinds = [kind for kind, ref in served.events if ref == name(2, "b")]
    assert kinds.count(RolloutEventType.REVISION_STARTED) == 1
    assert kinds.count(RolloutEventType.STAGE_ENTERED) == 2
    assert kinds.count(RolloutEventType.REVISION_GOOD) == 1
