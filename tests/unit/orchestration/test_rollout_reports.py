"""What users of other rollout controllers report as bugs, as promises of this one.

The numbers are those of issues of argoproj/argo-rollouts.
"""

import pytest

from interlock.orchestration.rollout_decision import RolloutState
from interlock.orchestration.rollout_state import GateVerdict, OnBreach
from tests.support.builders import a_stage, stages
from tests.support.rollouts import StagedAgent, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)


@pytest.fixture
def served() -> StagedAgent:
    """Revision 1 serves production."""
    return StagedAgent(STAGES, rules(gated=frozenset({"region"}))).judge(GateVerdict.PASSED).roll_out("a")


@pytest.fixture
def mid_way(served: StagedAgent) -> StagedAgent:
    """Revision 2 serves one region, and revision 1 the rest."""
    served.describe("b").start_pods().wait(100).start_pods().wait(10)
    assert served.placements == {"2/region": "serving", "1/everywhere": "serving"}
    return served


def test_2048_a_revision_that_follows_an_aborted_one_is_rolled_out(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b")).describe("c")

    assert mid_way.placements == {"3/staging": "serving", "1/everywhere": "serving"}
    mid_way.start_pods().wait(100).start_pods().wait(50).start_pods().wait(1)
    assert (mid_way.placements, mid_way.good) == ({"3/everywhere": "serving"}, name(3, "c"))


def test_3756_an_abort_works_while_the_rollout_is_paused_and_a_gate_runs(mid_way: StagedAgent) -> None:
    mid_way.command(pause=name(2, "b")).judge(GateVerdict.PENDING).command(abort=name(2, "b"))

    assert (mid_way.state, mid_way.placements) == (RolloutState.STOPPED, {"1/everywhere": "serving"})
    assert mid_way.decision.next_at is None, "nothing is left to reconcile for"


def test_1152_an_abort_in_the_middle_of_a_soak_ends_the_rollout(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b")).wait(10_000).start_pods().wait(10_000)

    assert (mid_way.state, mid_way.placements) == (RolloutState.STOPPED, {"1/everywhere": "serving"})


def test_1259_an_abort_takes_the_pods_of_what_was_aborted_away_also_if_they_never_started(
    served: StagedAgent,
) -> None:
    served.broken.add("b" * 64)
    served.describe("b").start_pods()
    assert served.placements == {"2/staging": "serving", "1/everywhere": "serving"}

    served.command(abort=name(2, "b"))

    assert served.placements == {"1/everywhere": "serving"}


@pytest.mark.parametrize("verdict", [GateVerdict.NO_VERDICT, None], ids=["no verdict", "no report"])
def test_3850_a_gate_without_a_verdict_holds(mid_way: StagedAgent, verdict: GateVerdict | None) -> None:
    mid_way.judge(verdict).wait(10_000).start_pods().wait(10_000)

    assert (mid_way.state, mid_way.who_serves(region="us")) == (RolloutState.NO_VERDICT, ["1/everywhere"])
    assert mid_way.decision.next_at is None


def test_3015_a_promote_goes_past_a_gate_without_a_verdict(mid_way: StagedAgent) -> None:
    mid_way.judge(GateVerdict.NO_VERDICT).wait(40)
    assert mid_way.state is RolloutState.NO_VERDICT

    mid_way.command(promote=f"{name(2, 'b')}/everywhere").start_pods()

    assert mid_way.good == name(2, "b")


def test_261_a_gate_without_a_verdict_holds_once_and_not_again_after_a_promote(mid_way: StagedAgent) -> None:
    mid_way.judge(GateVerdict.NO_VERDICT).command(promote=f"{name(2, 'b')}/everywhere")
    assert mid_way.state is RolloutState.SOAKING, "a promote does not shorten a soak"

    mid_way.judge(None).judge(GateVerdict.NO_VERDICT).wait(40).start_pods()

    assert (mid_way.good, mid_way.placements) == (name(2, "b"), {"2/everywhere": "serving"})


def test_2866_a_breach_may_hold_the_rollout_and_not_abort_it(mid_way: StagedAgent) -> None:
    mid_way.judge(GateVerdict.BREACHED).wait(10_000)
    assert (mid_way.state, mid_way.who_serves(region="eu")) == (RolloutState.BREACHED, ["2/region"])

    mid_way.judge(GateVerdict.PASSED).start_pods()
    assert mid_way.good == name(2, "b")


def test_2929_nothing_retries_by_itself_after_an_abort(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b"))
    for _ in range(3):
        mid_way.wait(10_000).command(abort=None).wait(10).command(abort=name(2, "b")).refuse()
        mid_way.describe("b").kill().kill(is_killed=False).start_pods()

    assert (mid_way.newest, mid_way.state) == (name(2, "b"), RolloutState.STOPPED)
    assert mid_way.placements == {"1/everywhere": "serving"}


def test_2929_nothing_retries_by_itself_after_a_breach(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(on_breach=OnBreach.ROLLBACK, gated=frozenset({"region"}))
    mid_way.judge(GateVerdict.BREACHED).judge(GateVerdict.PASSED).wait(10_000)

    assert (mid_way.newest, mid_way.state) == (name(2, "b"), RolloutState.STOPPED)
