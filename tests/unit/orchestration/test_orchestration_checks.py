import pytest

from interlock.api.status import AgentReason
from interlock.orchestration.orchestrated import (
    PassedTime,
    check_orchestration,
    hold_before,
    minimum_violations,
    stages_to_approve,
)
from tests.requirements import requirement
from tests.support.builders import AgentBuilder, PolicyBuilder, a_policy, a_stage, an_agent, hours

STRICT = a_policy().requiring(minStaging="168h", minLimitedScope="48h", requireLimitedScope=True)
STAGING = a_stage("staging", "staging", lasting="168h")
ONE_REGION = a_stage("one-region", "production", scope={"region": ["eu-west"]}, lasting="48h")
TWO_REGIONS = a_stage("two-regions", "production", scope={"region": ["eu-west", "us-east"]}, lasting="48h")
EVERYWHERE = a_stage("everywhere", "production")
NONE = PassedTime()


def refused(agent: AgentBuilder, policy: PolicyBuilder | None = None) -> tuple[AgentReason, str]:
    refusal = check_orchestration(agent.build(), (policy or a_policy()).build(), None)
    assert refusal is not None, "nothing was refused"
    return refusal.reason, refusal.message


def passes(agent: AgentBuilder, policy: PolicyBuilder | None = None, current: int | None = None) -> bool:
    return check_orchestration(agent.build(), (policy or a_policy()).build(), current) is None


@requirement("rollout.one-of")
def test_neither_or_both_of_environment_and_rollout_are_refused() -> None:
    for agent in (an_agent().in_environment(None), an_agent().in_environment_and_with_stages("staging", STAGING)):
        reason, message = refused(agent)
        assert reason == AgentReason.ENVIRONMENT_INVALID
        assert "spec.environment and spec.rollout are both" in message


def test_an_environment_is_one_stage_of_its_name_without_scope() -> None:
    (only,) = an_agent().in_environment("staging").build().spec.stages

    assert (only.name, only.environment, only.scope, only.min_duration) == ("staging", "staging", None, None)


@requirement("rollout.order")
@pytest.mark.parametrize(
    ("written", "says"),
    [
        ([EVERYWHERE, STAGING], "stage staging in staging follows a stage in production"),
        ([STAGING, a_stage("dev", "development")], "stage dev in development follows a stage in staging"),
        ([EVERYWHERE, ONE_REGION], "the scope of stage one-region is narrower"),
        ([TWO_REGIONS, ONE_REGION], "the scope of stage one-region is narrower"),
        (
            [ONE_REGION, a_stage("other", "production", scope={"region": ["us-east"]})],
            "the scope of stage other is narrower",
        ),
        (
            [ONE_REGION, a_stage("other", "production", scope={"region": ["eu-west"], "product": ["a"]})],
            "the scope of stage other is narrower",
        ),
    ],
)
def test_stages_that_go_back_or_narrow_are_refused(written: list[dict[str, object]], says: str) -> None:
    reason, message = refused(an_agent().with_stages(*written))

    assert reason == AgentReason.STAGES_INVALID
    assert says in message


def test_a_scope_may_widen_step_by_step_and_narrow_between_environments() -> None:
    assert passes(an_agent().with_stages(STAGING, ONE_REGION, TWO_REGIONS, EVERYWHERE))


@requirement("tasks.scope-complete")
def test_a_limited_stage_whose_dimension_tasks_cannot_name_is_refused() -> None:
    agent = an_agent().with_stages(STAGING, ONE_REGION, EVERYWHERE)
    region, product = {"dimension": "region", "header": "X-Region"}, {"dimension": "product", "pointer": "/product"}

    assert passes(agent.taking_tasks())
    assert passes(agent.taking_tasks(scope=[product, region]))
    reason, message = refused(agent.taking_tasks(scope=[product]))
    assert reason == AgentReason.STAGES_INVALID
    assert message == (
        "spec.tasks.scope does not say where tasks name dimension region, so stage one-region, which is limited in it, "
        "could serve no task: add region with a header or pointer there, or remove it from the scope of the stage"
    )


@pytest.mark.parametrize("text", ["7d", "1.5h", "-1h", "", "1", "168 h", "1h1h1h1h1h"])
def test_a_duration_that_cannot_be_read_is_refused(text: str) -> None:
    reason, message = refused(an_agent().with_stages(a_stage("staging", lasting=text), EVERYWHERE))

    assert reason == AgentReason.STAGES_INVALID
    assert message == f'"{text}" is not a duration: write 168h, 90m or 1h30m (7 days are 168h)'


@pytest.mark.parametrize("which", ["minStaging", "minLimitedScope"])
def test_a_policy_whose_minimum_cannot_be_read_is_refused_and_named(which: str) -> None:
    reason, message = refused(an_agent(), a_policy().requiring(**{which: "7d"}))

    assert reason == AgentReason.POLICY_INVALID
    assert message.startswith('AgentPolicy support: spec.rollout: "7d" is not a duration')


@requirement("rollout.minimums")
@pytest.mark.parametrize(
    ("written", "says"),
    [
        (
            [a_stage("staging", lasting="167h"), ONE_REGION, EVERYWHERE],
            "167h in staging, but AgentPolicy support requires 168h before production: raise minDuration",
        ),
        ([a_stage("staging"), ONE_REGION, EVERYWHERE], "0s in staging, but AgentPolicy support requires 168h"),
        ([ONE_REGION, EVERYWHERE], "no staging stage before production"),
        ([STAGING, EVERYWHERE], "production starts without a scope, but AgentPolicy support requires a limited one"),
        (
            [STAGING, {**ONE_REGION, "minDuration": "47h59m"}, EVERYWHERE],
            "2879m in limited scope, but AgentPolicy support requires 48h",
        ),
    ],
)
def test_a_duration_below_the_minimum_is_refused(written: list[dict[str, object]], says: str) -> None:
    reason, message = refused(an_agent().with_stages(*written), STRICT)

    assert reason == AgentReason.MINIMUM_NOT_REACHED
    assert says in message


def test_every_violated_minimum_is_named_together() -> None:
    reason, message = refused(an_agent().in_environment("production"), STRICT)

    assert reason == AgentReason.MINIMUM_NOT_REACHED
    assert "no staging stage before production" in message
    assert "production starts without a scope" in message


def test_minimums_are_sums_over_all_stages_of_their_kind() -> None:
    agent = an_agent().with_stages(
        a_stage("first", lasting="100h"),
        a_stage("second", lasting="68h"),
        {**ONE_REGION, "minDuration": "24h"},
        {**TWO_REGIONS, "minDuration": "24h"},
        EVERYWHERE,
    )

    assert passes(agent, STRICT)


@pytest.mark.parametrize("environment", ["development", "staging"])
def test_minimums_guard_production_and_nothing_else(environment: str) -> None:
    assert passes(an_agent().in_environment(environment), STRICT)


def test_defaults_are_a_week_of_staging_and_two_days_of_limited_scope() -> None:
    policy = a_policy().requiring()

    assert passes(an_agent().with_stages(STAGING, ONE_REGION, EVERYWHERE), policy)
    assert not passes(an_agent().in_environment("production"), policy)


@requirement("rollout.tightened")
@pytest.mark.parametrize("current", [0, 1, 2])
def test_a_tightened_minimum_refuses_no_agent_that_has_begun(current: int) -> None:
    agent = an_agent().with_stages(a_stage("staging", lasting="1s"), ONE_REGION, EVERYWHERE)

    assert not passes(agent, STRICT)
    assert passes(agent, STRICT, current)


def test_a_tightened_minimum_holds_before_the_stages_still_to_come() -> None:
    short_staging = an_agent().with_stages(a_stage("staging", lasting="1s"), ONE_REGION, EVERYWHERE).build()
    short_limited = an_agent().with_stages(STAGING, {**ONE_REGION, "minDuration": "1s"}, EVERYWHERE).build()
    policy = STRICT.build()

    held = [hold_before(short_staging, policy, current, NONE) for current in range(3)]
    assert [found and found[0] for found in held] == [1, None, None]
    assert held[0] is not None
    assert "1s in staging" in held[0][1]
    found = [hold_before(short_limited, policy, at, PassedTime(staging=hours(168))) for at in range(3)]
    assert [one and one[0] for one in found] == [2, 2, None]


def test_of_several_holds_the_nearest_speaks() -> None:
    agent = an_agent().with_stages(a_stage("staging", lasting="1s"), {**ONE_REGION, "minDuration": "1s"}, EVERYWHERE)

    found = hold_before(agent.build(), STRICT.build(), 0, NONE)

    assert found is not None
    assert found[0] == 1
    assert "in staging" in found[1]


def test_too_little_limited_scope_holds_the_first_stage_without_one() -> None:
    agent = an_agent().with_stages(
        STAGING, {**ONE_REGION, "minDuration": "1s"}, {**TWO_REGIONS, "minDuration": "1s"}, EVERYWHERE
    )

    (violation,) = minimum_violations(agent.build().spec.stages, STRICT.build())

    assert violation.before == 3


@requirement("rollout.passed")
def test_of_stages_before_the_current_one_only_the_time_in_them_counts() -> None:
    """Their durations can be edited after the agent has passed them, or before it was ever in them."""
    stages = (STAGING, a_stage("last", lasting="1h"), ONE_REGION, TWO_REGIONS, EVERYWHERE)
    agent, policy = an_agent().with_stages(*stages).build(), STRICT.build()

    def held(current: int, passed: PassedTime) -> int | None:
        found = hold_before(agent, policy, current, passed)
        return found and found[0]

    assert held(0, NONE) is None
    assert held(1, PassedTime(staging=hours(167))) is None
    assert held(1, PassedTime(staging=hours(166))) == 2
    assert held(2, NONE) is None, "ONE_REGION and TWO_REGIONS are still to come"
    assert held(3, NONE) is None
    shorter = an_agent().with_stages(*stages[:3], {**TWO_REGIONS, "minDuration": "1h"}, EVERYWHERE).build()
    assert hold_before(shorter, policy, 3, PassedTime(limited=hours(47))) is None
    found = hold_before(shorter, policy, 3, PassedTime(limited=hours(46)))
    assert found is not None
    assert found[0] == 4
    assert "47h in limited scope, but AgentPolicy support requires 48h: raise minDuration" in found[1]


QA, EU, LAB = (
    {"name": "qa", "class": "staging"},
    {"name": "eu", "class": "production"},
    {"name": "lab", "class": "development"},
)


EU_SCOPE = a_stage("late", "eu", scope={"region": ["eu-west"]}, lasting="48h")


@requirement("rollout.minimums")
def test_limited_scope_counts_only_before_the_first_stage_without_one() -> None:
    """The attack: the two days of limited scope come after the stage that they are to protect."""
    policy = STRICT.with_environments(EU)
    short = {**ONE_REGION, "minDuration": "1s"}
    reason, message = refused(an_agent().with_stages(STAGING, short, EVERYWHERE, EU_SCOPE), policy)
    assert reason == AgentReason.MINIMUM_NOT_REACHED
    assert "1s in limited scope, but AgentPolicy support requires 48h" in message
    assert passes(an_agent().with_stages(STAGING, ONE_REGION, EVERYWHERE, EU_SCOPE), policy)


@requirement("rollout.minimums")
def test_stages_that_are_put_before_the_current_one_do_not_lift_what_holds_after_it() -> None:
    """The attack: the spec of an agent in a limited scope lists a stage without one before it."""
    stages = (
        STAGING,
        {**EU_SCOPE, "name": "us"},
        a_stage("all", "eu"),
        {**ONE_REGION, "minDuration": "1s"},
        EVERYWHERE,
    )
    policy, agent = STRICT.with_environments(EU).build(), an_agent().with_stages(*stages).build()
    found = hold_before(agent, policy, 3, PassedTime(staging=hours(168)))
    assert found is not None
    assert found[0] == 4
    assert hold_before(agent, policy, 3, PassedTime(staging=hours(168), limited=hours(48))) is None


@requirement("budget.environments")
def test_an_environment_that_the_policy_does_not_have_is_refused() -> None:
    reason, message = refused(an_agent().with_stages(a_stage("a", "moon"), a_stage("b", "production")))
    assert reason == AgentReason.ENVIRONMENT_UNKNOWN
    assert message.startswith("spec.rollout.stages: AgentPolicy support has no environment moon: add it to")
    assert passes(an_agent().in_environment("moon"), a_policy().with_environments({"name": "moon", "class": "staging"}))


@requirement("budget.environments")
def test_stages_go_from_class_to_class_and_never_back() -> None:
    policy = a_policy().with_environments(QA, EU, LAB)
    order = [a_stage("l", "lab"), a_stage("q", "qa"), a_stage("s", "staging"), a_stage("e", "eu")]
    assert passes(an_agent().with_stages(*order), policy)
    reason, message = refused(an_agent().with_stages(a_stage("e", "eu"), a_stage("q", "qa")), policy)
    assert (reason, message.split(":")[1]) == (AgentReason.STAGES_INVALID, " stage q in qa follows a stage in eu")
    reason, message = refused(
        an_agent().with_stages(a_stage("a", "qa"), a_stage("b", "staging"), a_stage("c", "qa")), policy
    )
    assert (reason, message.split(",")[0]) == (
        AgentReason.STAGES_INVALID,
        "spec.rollout.stages: stage c returns to qa",
    )


@requirement("budget.environments")
def test_minimums_go_by_the_class() -> None:
    policy = STRICT.with_environments(QA, EU)
    limited = a_stage("one-region", "eu", scope={"region": ["eu-west"]}, lasting="48h")
    stages = [a_stage("q", "qa", lasting="168h"), limited, a_stage("all", "eu")]
    assert passes(an_agent().with_stages(*stages), policy)
    for shorter in (stages[1:], [a_stage("q", "qa", lasting="167h"), *stages[1:]], [stages[0], stages[2]]):
        assert refused(an_agent().with_stages(*shorter), policy)[0] == AgentReason.MINIMUM_NOT_REACHED


@requirement("rollout.approval")
def test_stages_to_approve_are_those_of_the_agent_and_those_of_its_policy() -> None:
    agent = an_agent().with_stages(STAGING, ONE_REGION, EVERYWHERE | {"approval": "Required"}).build()

    def required(*classes: str) -> set[str]:
        return set(stages_to_approve(agent, a_policy().requiring(requireApproval=list(classes)).build()))

    assert required() == {"everywhere"}
    assert required("staging") == {"staging", "everywhere"}
    assert required("production") == {"one-region", "everywhere"}
    assert required("development") == {"everywhere"}


@requirement("rollout.approval")
def test_an_environment_of_another_name_needs_the_approvals_of_its_class() -> None:
    policy = a_policy().declaring({"name": "uat", "class": "staging"}).requiring(requireApproval=["staging"]).build()

    assert stages_to_approve(an_agent().in_environment("uat").build(), policy) == {"uat"}
    assert stages_to_approve(an_agent().in_environment("production").build(), policy) == set()
