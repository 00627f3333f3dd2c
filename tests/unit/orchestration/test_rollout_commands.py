"""Commands name one run of a revision. Each is carried out once, and void for anything else."""

from dataclasses import replace

import pytest

from interlock.api.environments import class_of_name
from interlock.api.shared_types import EnvironmentClass
from interlock.orchestration.rollout import decide_rollout
from interlock.orchestration.rollout_decision import RolloutEventType, RolloutState
from interlock.orchestration.rollout_state import (
    Command,
    GateReport,
    GateVerdict,
    PlacementKey,
    RolloutCommands,
    RolloutRules,
    StopReason,
)
from tests.support.builders import a_stage, seconds, stages
from tests.support.rollouts import StagedAgent, digest, name, rules

STAGES = stages(
    a_stage("staging", lasting="100s"),
    a_stage("region", "production", scope={"region": ["eu"]}, lasting="50s"),
    a_stage("everywhere", "production"),
)
RULES = rules()
GATED = rules(gated=frozenset({"region"}))
APPROVED = rules(approvals=frozenset({"everywhere"}))


@pytest.fixture
def served() -> StagedAgent:
    """Revision 1 serves production."""
    return StagedAgent(STAGES, rules()).roll_out("a")


@pytest.fixture
def mid_way(served: StagedAgent) -> StagedAgent:
    """Revision 2 serves one region, and revision 1 the rest."""
    return served.describe("b").start_pods().wait(100).start_pods().wait(10)


@pytest.fixture
def twice() -> StagedAgent:
    """Revision 2 serves production after revision 1."""
    return StagedAgent(STAGES, rules()).roll_out("a").roll_out("b")


def with_lab(name: str, base: RolloutRules = RULES) -> RolloutRules:
    """Return rules under a policy that gives the environment `lab` a class."""

    def class_of(environment: str) -> EnvironmentClass:
        return EnvironmentClass(name) if environment == "lab" else class_of_name(environment)

    return replace(base, class_of=class_of)


def void(agent: StagedAgent) -> list[str]:
    """Return why commands are void, for those that the next decision finds to be so."""
    return [one.why for one in agent.step().void]


def give(agent: StagedAgent, **commands: str) -> StagedAgent:
    """Let commands stand that no decision has seen yet."""
    given = {verb: Command(*text.split("/"), by="ada", is_vouched=True) for verb, text in commands.items()}
    agent.commands = replace(RolloutCommands(), **given)
    return agent


# pause


def test_a_pause_holds_while_it_stands_and_the_soak_goes_on(mid_way: StagedAgent) -> None:
    mid_way.command(pause=name(2, "b"))
    assert (mid_way.state, mid_way.decision.progress.is_paused) == (RolloutState.SOAKING, True)
    assert mid_way.wait(40).state is RolloutState.PAUSED

    mid_way.command(pause=None)

    assert mid_way.placements == {"2/everywhere": "starting", "1/everywhere": "serving", "2/region": "serving"}


def test_a_pause_before_a_stage_holds_before_no_other(served: StagedAgent) -> None:
    served.describe("b").command(pause=f"{name(2, 'b')}/everywhere").start_pods().wait(100)
    assert "2/region" in served.placements
    assert served.start_pods().wait(50).state is RolloutState.PAUSED


def test_a_pause_holds_what_is_everywhere_before_it_is_good(served: StagedAgent) -> None:
    served.stages = (*STAGES[:-1], STAGES[-1].model_copy(update={"min_duration": "5s"}))
    served.describe("b").start_pods().wait(100).start_pods().wait(50).start_pods()
    served.command(pause=name(2, "b")).wait(100)
    assert (served.state, served.good) == (RolloutState.PAUSED, name(1, "a"))


def test_a_pause_of_an_earlier_revision_is_void(mid_way: StagedAgent) -> None:
    assert void(give(mid_way, pause=name(1, "a"))) == [
        f"it names revision {name(1, 'a')}, and the newest revision is {name(2, 'b')}"
    ]
    assert "2/everywhere" in mid_way.wait(40).placements
    assert mid_way.facts.handled_commands == (f"pause {name(1, 'a')}",)


def test_a_pause_before_an_unknown_stage_is_void_and_holds_once_there_is_one(mid_way: StagedAgent) -> None:
    assert void(give(mid_way, pause=f"{name(2, 'b')}/moon")) == ["there is no stage moon"]
    mid_way.stages = (*STAGES[:2], *stages(a_stage("moon", "production")))
    assert mid_way.wait(40).state is RolloutState.PAUSED


@pytest.mark.parametrize("verb", ["pause", "promote"])
@pytest.mark.parametrize("value", [name(1, "a"), f"{name(2, 'b')}/moon"])
def test_a_void_pause_or_promote_is_said_once(mid_way: StagedAgent, verb: str, value: str) -> None:
    mid_way.step()
    mid_way.events.clear()
    give(mid_way, **{verb: value}).settle().wait(1)
    assert mid_way.events == [(RolloutEventType.COMMAND_VOID, name(2, "b"))]
    assert mid_way.facts.handled_commands == (f"{verb} {value}",)


# promote


def test_a_stage_that_needs_an_approval_is_entered_once_a_promote_names_it(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    assert mid_way.wait(100).state is RolloutState.APPROVAL
    mid_way.command(promote=f"{name(2, 'b')}/region")
    assert mid_way.state is RolloutState.APPROVAL, "that stage was entered already"

    mid_way.command(promote=f"{name(2, 'b')}/everywhere").start_pods()

    assert mid_way.good == name(2, "b")
    assert (RolloutEventType.APPROVED, name(2, "b")) in mid_way.events


def test_an_approval_in_advance_is_kept_though_the_annotation_changes(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere").command(promote=None).wait(40).start_pods()
    assert mid_way.good == name(2, "b")
    assert mid_way.facts.approved == ()


def test_an_approval_is_used_up_by_entering_its_stage(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere").command(promote=None)
    assert [one.stage for one in mid_way.facts.approved] == ["everywhere"]
    mid_way.wait(40)
    assert mid_way.placements["2/everywhere"] == "starting"
    assert mid_way.facts.approved == ()


@pytest.mark.parametrize("last", [a_stage("everywhere", "eu"), a_stage("everywhere", "production", scope={"x": ["y"]})])
def test_an_approval_is_of_the_stage_as_it_was(served: StagedAgent, last: dict[str, object]) -> None:
    """The attack: an author changes environment or scope of a stage between its approval and its beginning."""
    served.rules = APPROVED
    served.describe("b").command(promote=f"{name(2, 'b')}/everywhere").start_pods()
    served.stages = (*STAGES[:2], *stages(last))
    served.wait(100).start_pods().wait(50)
    assert served.state is RolloutState.APPROVAL, "the command that stands does not approve it again"
    served.command(promote=None)
    assert (served.state, served.facts.approved) == (RolloutState.APPROVAL, ())
    served.command(promote=f"{name(2, 'b')}/everywhere")
    assert served.facts.stage is not None
    assert served.facts.stage.stage.name == "everywhere"


def test_an_approval_is_of_the_class_that_the_environment_had(served: StagedAgent) -> None:
    """The attack: a policy makes production of what was development when a promote approved it."""
    served.stages = (*STAGES[:2], *stages(a_stage("everywhere", "lab")))
    served.rules = with_lab("development", APPROVED)
    served.describe("b").command(promote=f"{name(2, 'b')}/everywhere").start_pods()
    served.rules = with_lab("production", APPROVED)
    served.wait(100).start_pods().wait(50)
    assert served.state is RolloutState.APPROVAL
    served.rules = with_lab("development", APPROVED)
    assert served.settle().state is not RolloutState.APPROVAL, "the command that stands approved this class"


def test_an_approval_stays_while_the_policy_is_away_and_with_it_the_classes(served: StagedAgent) -> None:
    served.stages = (*STAGES[:2], *stages(a_stage("everywhere", "lab")))
    served.rules = with_lab("development", APPROVED)
    served.describe("b").command(promote=f"{name(2, 'b')}/everywhere").start_pods().command(promote=None)
    served.rules = RULES
    served.refuse()
    served.rules = with_lab("development", APPROVED)
    served.describe("b").start_pods().wait(100).start_pods().wait(50)
    assert served.facts.stage is not None
    assert served.facts.stage.stage.name == "everywhere"


def test_a_promote_that_appears_while_the_policy_is_away_approves_the_class_that_it_says_once_it_is_back(
    served: StagedAgent,
) -> None:
    served.stages = (*STAGES[:2], *stages(a_stage("everywhere", "lab")))
    served.rules = with_lab("development", APPROVED)
    served.describe("b").start_pods()
    served.rules = replace(RULES, knows_classes=False)
    served.refuse()
    served.command(promote=f"{name(2, 'b')}/everywhere")
    assert served.facts.approved == ()
    assert served.facts.handled_commands == ()

    served.rules = with_lab("development", APPROVED)
    served.describe("b").start_pods().wait(100).start_pods().wait(50)
    assert served.facts.stage is not None
    assert served.facts.stage.stage.name == "everywhere"


def test_a_promote_that_was_handled_before_stays_so_while_the_policy_is_away(served: StagedAgent) -> None:
    served.rules = APPROVED
    served.describe("b").command(promote=f"{name(2, 'b')}/everywhere").start_pods()
    before = served.facts
    served.rules = replace(APPROVED, knows_classes=False)
    served.refuse()
    assert (served.facts.approved, served.facts.handled_commands) == (before.approved, before.handled_commands)


def test_a_stage_that_is_put_back_has_its_approval_while_the_command_stands(served: StagedAgent) -> None:
    served.rules = APPROVED
    served.describe("b").command(promote=f"{name(2, 'b')}/everywhere").start_pods()
    served.stages = (*STAGES[:2], *stages(a_stage("everywhere", "eu")))
    served.wait(100)
    served.stages = STAGES
    assert served.start_pods().wait(50).start_pods().good == name(2, "b")


def test_a_promote_whose_author_is_not_certain_is_no_approval(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=Command(name(2, "b"), "everywhere", by="eve")).wait(40)
    assert mid_way.state is RolloutState.APPROVAL


def test_a_promote_of_another_revision_is_void(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    assert len(void(give(mid_way, promote=f"{name(1, 'a')}/everywhere"))) == 1
    assert mid_way.wait(40).state is RolloutState.APPROVAL


def test_a_promote_of_an_unknown_stage_is_void_also_once_there_is_one(mid_way: StagedAgent) -> None:
    assert void(give(mid_way, promote=f"{name(2, 'b')}/moon")) == ["there is no stage moon"]
    mid_way.stages = (*STAGES[:2], *stages(a_stage("moon", "production")))
    mid_way.rules = rules(approvals=frozenset({"moon"}))
    assert mid_way.wait(40).state is RolloutState.APPROVAL, "nothing is approved before it exists"
    mid_way.command(promote=None).command(promote=f"{name(2, 'b')}/moon")
    assert "2/moon" in mid_way.placements


def test_a_promote_without_a_stage_is_void_before_the_last_one_and_stays_so(mid_way: StagedAgent) -> None:
    mid_way.rules = rules(gated=frozenset({"everywhere"}))
    assert void(give(mid_way, promote=name(2, "b"))) == [
        "it names no stage to enter, and the current one is not the last"
    ]
    mid_way.wait(40).start_pods().wait(50)
    assert (mid_way.state, mid_way.good) == (RolloutState.NO_VERDICT, name(1, "a"))
    assert mid_way.command(promote=None).command(promote=name(2, "b")).good == name(2, "b")


def test_a_promote_that_was_handled_is_not_void_once_its_stage_is_gone(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere")
    mid_way.events.clear()
    mid_way.stages = (*STAGES[:2], *stages(a_stage("moon", "production")))
    mid_way.settle().wait(1)
    assert RolloutEventType.COMMAND_VOID not in [event for event, _ in mid_way.events]


def test_a_promote_that_stands_gets_the_right_to_override_gates_later(mid_way: StagedAgent) -> None:
    mid_way.rules = GATED
    mid_way.judge(GateVerdict.BREACHED).command(promote=f"{name(2, 'b')}/everywhere").wait(40)
    assert mid_way.state is RolloutState.BREACHED
    promote = Command(name(2, "b"), "everywhere", "ada", is_vouched=True, may_override_gates=True)
    mid_way.commands = replace(mid_way.commands, promote=promote)
    assert mid_way.step().progress.state is RolloutState.ENTERED


def test_an_approval_is_of_one_run_only(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere", abort=name(2, "b")).command(retry=name(2, "b"))
    mid_way.start_pods().wait(100).start_pods().wait(50)
    assert (mid_way.newest, mid_way.state) == (name(3, "b"), RolloutState.APPROVAL)


def test_an_approval_is_of_one_revision_only(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere").command(promote=None)
    mid_way.describe("c").start_pods().wait(100).start_pods().wait(50)
    assert (mid_way.newest, mid_way.state) == (name(3, "c"), RolloutState.APPROVAL)


def test_an_abort_takes_the_approvals_with_it(mid_way: StagedAgent) -> None:
    mid_way.rules = APPROVED
    mid_way.command(promote=f"{name(2, 'b')}/everywhere").command(promote=None)
    mid_way.commands = replace(mid_way.commands, abort=Command(name(2, "b")))
    assert mid_way.step().facts.approved == ()


def test_a_promote_of_a_later_stage_approves_no_earlier_one() -> None:
    agent = StagedAgent(STAGES, rules(approvals=frozenset({"staging"}))).describe("a")
    agent.command(promote=f"{name(1, 'a')}/everywhere")
    assert (agent.placements, agent.state) == ({}, RolloutState.APPROVAL)


def test_the_first_stage_waits_for_an_approval_too() -> None:
    agent = StagedAgent(STAGES, rules(approvals=frozenset({"staging"}))).describe("a")
    assert (agent.placements, agent.state) == ({}, RolloutState.APPROVAL)
    agent.command(promote=f"{name(1, 'a')}/staging")
    assert (agent.placements, agent.facts.approved) == ({"1/staging": "serving"}, ())


def test_a_revision_that_waits_for_its_first_stage_can_be_aborted() -> None:
    agent = StagedAgent(STAGES, rules(approvals=frozenset({"staging"}))).describe("a").command(abort=name(1, "a"))
    assert agent.state is RolloutState.STOPPED
    assert agent.command(promote=f"{name(1, 'a')}/staging").placements == {}


def test_a_promote_shortens_no_soak(mid_way: StagedAgent) -> None:
    mid_way.command(promote=f"{name(2, 'b')}/everywhere").wait(39.9)
    assert mid_way.state is RolloutState.SOAKING


@pytest.mark.parametrize(
    ("verdict", "may_override", "state"),
    [
        (GateVerdict.PENDING, True, RolloutState.GATE_PENDING),
        (GateVerdict.BREACHED, False, RolloutState.BREACHED),
        (GateVerdict.BREACHED, True, RolloutState.ENTERED),
        (GateVerdict.NO_VERDICT, False, RolloutState.ENTERED),
    ],
)
def test_a_promote_goes_past_a_gate_only_as_far_as_it_may(
    mid_way: StagedAgent, *, verdict: GateVerdict, may_override: bool, state: RolloutState
) -> None:
    mid_way.rules = GATED
    mid_way.judge(verdict).wait(40)
    mid_way.commands = mid_way.commands.__class__(
        promote=Command(name(2, "b"), "everywhere", "ada", is_vouched=True, may_override_gates=may_override)
    )
    assert mid_way.step().progress.state is state


def test_a_promote_without_a_stage_goes_past_a_gate_of_the_last_one(served: StagedAgent) -> None:
    served.rules = rules(gated=frozenset({"everywhere"}))
    served.describe("b").start_pods().wait(100).start_pods().command(promote=f"{name(2, 'b')}/everywhere").wait(50)
    served.start_pods()
    assert (served.state, served.good) == (RolloutState.NO_VERDICT, name(1, "a"))
    assert served.command(promote=name(2, "b")).good == name(2, "b")


# abort


def test_an_abort_of_another_revision_is_void(mid_way: StagedAgent) -> None:
    mid_way.step()
    mid_way.events.clear()
    mid_way.commands = mid_way.commands.__class__(abort=Command(name(1, "a")))
    assert [one.verb for one in mid_way.step().void] == ["abort"]
    mid_way.settle()
    assert mid_way.events == [(RolloutEventType.COMMAND_VOID, name(2, "b"))], "it is said once"
    assert mid_way.placements == {"2/region": "serving", "1/everywhere": "serving"}


def test_an_abort_of_a_good_revision_is_void(served: StagedAgent) -> None:
    assert served.command(abort=name(1, "a")).state is RolloutState.COMPLETE


def test_an_abort_for_another_stage_is_void(mid_way: StagedAgent) -> None:
    assert mid_way.command(abort=f"{name(2, 'b')}/staging").state is RolloutState.SOAKING
    assert mid_way.command(abort=f"{name(2, 'b')}/region").state is RolloutState.STOPPED


def test_an_abort_is_carried_out_while_the_agent_is_killed(mid_way: StagedAgent) -> None:
    assert mid_way.kill().command(abort=name(2, "b")).kill(is_killed=False).state is RolloutState.STOPPED


# retry


def test_a_retry_is_a_new_run_from_the_first_stage(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b")).command(retry=name(2, "b"))
    assert (mid_way.newest, mid_way.placements) == (
        name(3, "b"),
        {"3/staging": "serving", "1/everywhere": "serving"},
    )
    assert mid_way.wait(10_000).newest == name(3, "b")


def test_a_retry_written_before_the_abort_is_void(mid_way: StagedAgent) -> None:
    mid_way.command(retry=name(2, "b")).command(abort=name(2, "b")).wait(100)
    assert (mid_way.newest, mid_way.state) == (name(2, "b"), RolloutState.STOPPED)


def test_a_retry_of_what_is_not_described_is_void(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b")).refuse().command(retry=name(2, "b"))
    assert (mid_way.newest, mid_way.facts.stage) == (name(2, "b"), None)


# rollback


def test_a_rollback_starts_the_new_pods_before_the_old_ones_go(twice: StagedAgent) -> None:
    twice.command(rollback=name(1, "a"))
    assert (twice.state, twice.good) == (RolloutState.RETURNING, name(3, "a"))
    assert twice.placements == {"3/everywhere": "starting", "2/everywhere": "serving"}
    assert twice.who_serves() == ["2/everywhere"]

    twice.work_on("2/everywhere").start_pods()
    assert twice.placements == {"3/everywhere": "serving", "2/everywhere": "draining"}
    assert twice.wait(30).placements == {"3/everywhere": "serving"}
    stopped = twice.facts.stopped
    assert stopped is not None
    assert (stopped.ref.name, stopped.why, stopped.by) == (name(2, "b"), StopReason.ROLLED_BACK, "ada")


def test_a_rollback_that_stands_does_nothing_to_later_revisions(twice: StagedAgent) -> None:
    twice.command(rollback=name(1, "a")).start_pods().roll_out("c")
    assert twice.good == name(4, "c")
    twice.command(rollback=None).command(rollback=name(1, "a"))
    assert (twice.good, twice.state) == (name(4, "c"), RolloutState.COMPLETE)


def test_a_rollback_written_while_its_target_is_good_does_nothing_to_later_revisions(served: StagedAgent) -> None:
    served.command(rollback=name(1, "a")).describe("b").start_pods()
    assert served.placements == {"2/staging": "serving", "1/everywhere": "serving"}


def test_a_rollback_to_the_good_revision_stops_the_one_under_way(mid_way: StagedAgent) -> None:
    mid_way.command(rollback=name(1, "a"))
    assert (mid_way.good, mid_way.placements) == (name(3, "a"), {"3/everywhere": "serving"})
    assert mid_way.facts.stopped is not None
    assert mid_way.facts.stopped.why is StopReason.ROLLED_BACK


def test_a_rollback_can_be_rolled_back(twice: StagedAgent) -> None:
    twice.command(rollback=name(1, "a")).start_pods().command(rollback=name(2, "b")).start_pods()
    assert (twice.good, twice.placements) == (name(4, "b"), {"4/everywhere": "serving"})
    assert [ref.name for ref in twice.facts.passed_refs] == [name(3, "a"), name(4, "b")]


def test_a_rollback_to_a_revision_that_never_passed_is_void(mid_way: StagedAgent) -> None:
    mid_way.command(abort=name(2, "b")).command(rollback=name(2, "b"))
    assert (mid_way.good, mid_way.placements) == (name(1, "a"), {"1/everywhere": "serving"})


@pytest.mark.parametrize("last", [a_stage("everywhere", "production"), a_stage("region", "eu")], ids=["scope", "other"])
def test_a_rollback_gives_a_revision_no_work_that_it_did_not_have_as_the_good_one(last: dict[str, object]) -> None:
    """The attack: revisions are good in one region, then the stages go on, and a rollback skips what was added."""
    agent = StagedAgent(STAGES[:2], rules()).roll_out("a").roll_out("b")
    agent.stages = (*STAGES[:2], *stages(last))
    agent.command(rollback=name(1, "a"))
    assert agent.good == name(2, "b")
    assert RolloutEventType.COMMAND_VOID in [event for event, _ in agent.events]
    agent.stages = STAGES[:2]
    assert agent.command(rollback=None).command(rollback=name(1, "a")).start_pods().good.endswith(name(1, "a")[1:])


def test_a_rollback_gives_a_revision_no_other_class_of_its_environment() -> None:
    """The attack: a revision that was good in an environment of class development comes back as production."""
    stages_of_lab = (*STAGES[:2], *stages(a_stage("everywhere", "lab")))
    agent = StagedAgent(stages_of_lab, with_lab("development")).roll_out("a").roll_out("b")
    agent.rules = with_lab("production")
    agent.command(rollback=name(1, "a"))
    assert agent.good == name(2, "b")
    assert RolloutEventType.COMMAND_VOID in [event for event, _ in agent.events]
    agent.rules = with_lab("development")
    assert agent.command(rollback=None).command(rollback=name(1, "a")).start_pods().good == name(3, "a")


def test_a_rollback_to_a_revision_that_is_not_allowed_today_is_void(twice: StagedAgent) -> None:
    twice.forbidden.add(digest("a"))
    assert twice.command(rollback=name(1, "a")).good == name(2, "b")


def test_a_rollback_works_while_the_rollout_is_paused(mid_way: StagedAgent) -> None:
    assert mid_way.command(pause=name(2, "b"), rollback=name(1, "a")).state is RolloutState.STOPPED


def test_a_rollback_stops_what_is_under_way_and_the_good_one_serves_until_the_target_is_ready(
    twice: StagedAgent,
) -> None:
    twice.describe("c").start_pods().wait(100).start_pods()
    assert twice.who_serves(region="eu") == ["3/region"]

    twice.command(rollback=name(1, "a"))

    assert twice.placements == {"4/everywhere": "starting", "2/everywhere": "serving"}
    assert twice.who_serves(region="eu") == twice.who_serves() == ["2/everywhere"]


def test_a_retry_after_a_rollback_goes_through_the_stages(twice: StagedAgent) -> None:
    twice.command(rollback=name(1, "a")).start_pods().command(retry=name(2, "b"))
    assert twice.placements == {"4/staging": "serving", "3/everywhere": "serving"}


def test_the_history_is_bounded_and_never_loses_the_good_revision() -> None:
    agent = StagedAgent(STAGES, rules(history=2))
    for content in "abcd":
        agent.roll_out(content)
    assert [ref.name for ref in agent.facts.passed_refs] == [name(3, "c"), name(4, "d")]


def test_a_rollback_serves_in_todays_last_stage(twice: StagedAgent) -> None:
    twice.stages = (*STAGES[:2], *stages(a_stage("world", "production")))
    twice.command(rollback=name(1, "a"))
    assert twice.facts.good is not None
    assert twice.facts.good.stage == twice.stages[-1]
    assert twice.who_serves() == ["2/everywhere"]
    assert twice.start_pods().who_serves() == [f"{twice.facts.good.ref.number}/world"]
    assert twice.decision.next_at is None or twice.decision.next_at > twice.now + seconds(0)


def test_a_report_about_another_placement_is_no_verdict(mid_way: StagedAgent) -> None:
    mid_way.rules = GATED
    report = GateReport(PlacementKey("staging", digest("b")), GateVerdict.PASSED)
    seen = replace(mid_way.observe(mid_way.facts), gates=report)
    later = mid_way.now + seconds(40)

    decision = decide_rollout(STAGES, mid_way.facts, seen, later, commands=mid_way.commands, rules=GATED)

    assert decision.progress.state is RolloutState.NO_VERDICT


# what cannot be stored


def test_a_retry_or_rollback_that_cannot_be_stored_is_carried_out_once_it_can(twice: StagedAgent) -> None:
    twice.unstored = "ControllerRevision triage-3 cannot be created"
    twice.command(rollback=name(1, "a"))
    assert (twice.good, void(twice), twice.facts.handled_commands) == (name(2, "b"), [], ())
    twice.unstored = ""
    twice.settle()
    assert twice.good == name(3, "a")

    twice.unstored = "ControllerRevision triage-4 cannot be created"
    twice.command(retry=name(2, "b"))
    assert (twice.newest, twice.state) == (name(2, "b"), RolloutState.RETURNING)
    twice.unstored = ""
    assert twice.settle().newest == name(4, "b")


def test_an_abort_needs_nothing_stored(mid_way: StagedAgent) -> None:
    mid_way.unstored = "ControllerRevision triage-3 cannot be created"
    assert mid_way.command(abort=name(2, "b")).state is RolloutState.STOPPED


def test_a_revision_that_cannot_be_stored_waits_and_the_one_under_way_goes_on(mid_way: StagedAgent) -> None:
    mid_way.unstored = "ControllerRevision triage-3 cannot be created"
    mid_way.describe("c").wait(40)
    assert (mid_way.newest, mid_way.decision.progress.waiting) == (name(2, "b"), mid_way.unstored)
    assert mid_way.placements["2/everywhere"] == "starting"


def test_changed_stages_give_no_number_that_cannot_be_stored(mid_way: StagedAgent) -> None:
    mid_way.unstored = "ControllerRevision triage-3 cannot be created"
    mid_way.stages = (STAGES[0], STAGES[2])
    assert mid_way.settle().newest == name(2, "b")
    assert mid_way.who_serves(region="eu") == ["1/everywhere"]
