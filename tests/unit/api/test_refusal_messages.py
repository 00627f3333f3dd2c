from datetime import timedelta

import pytest

from interlock.api.agent import AgentSpec, BindingUse, Owner, PolicyRef, Rollout, Stage
from interlock.api.pod_template import Template
from interlock.api.policy import AgentPolicySpec, AgentSelector, DataAccessRow, RolloutMinimums
from interlock.api.refusals import (
    duration_refusal,
    environment_refusal,
    minimum_refusals,
    name_refusal,
    owner_refusal,
    policy_ref_refusal,
    purpose_refusal,
    row_refusals,
    short_duration,
    stage_order_refusals,
)
from interlock.api.shared_types import EnvironmentClass, ObjectMeta, ScopeDimension
from tests.requirements import requirement

ADA = Owner(name="Ada Example", email="ada@example.com")
TEMPLATE = Template(image="agent:1")
DEFAULTS = AgentPolicySpec()


def stage(name: str, environment: str, min_duration: str | None = None, **scope: tuple[str, ...]) -> Stage:
    limits = tuple(ScopeDimension(dimension=dimension, values=values) for dimension, values in scope.items())
    return Stage(name=name, environment=environment, min_duration=min_duration, scope=limits or None)


def test_a_person_answers_for_an_agent() -> None:
    assert owner_refusal(ADA) is None


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        (None, "spec.owner is missing: write"),
        (Owner(), "spec.owner.name is missing: write"),
        (Owner(name=" ", email=ADA.email), "spec.owner.name is missing: write"),
        (Owner(name="Ada"), "spec.owner.email is missing: write"),
        (Owner(name="Ada", email="ada"), 'spec.owner.email "ada" is not an e-mail address: write'),
        (Owner(name="Ada", email="ada@example.com\n"), "spec.owner.email (of several lines) is not an e-mail address"),
        (
            Owner(name="Ada", email="TEAM@example.com"),
            'spec.owner.email "TEAM@example.com" is a role address: an agent',
        ),
    ],
)
@requirement("governance.owner-is-a-person")
def test_what_is_no_person_is_refused_with_the_way_out(owner: Owner | None, words: str) -> None:
    assert (owner_refusal(owner) or "").startswith(words)


@pytest.mark.parametrize("purpose", [None, "", " \n"])
@requirement("governance.purpose")
def test_a_missing_or_blank_purpose_is_refused(purpose: str | None) -> None:
    assert purpose_refusal(purpose) == "spec.purpose is missing: write in one sentence what this agent is for"
    assert purpose_refusal("Sort tickets") is None


def test_a_missing_policy_ref_is_refused() -> None:
    assert policy_ref_refusal(PolicyRef(name="support")) is None
    assert (policy_ref_refusal(None) or "").startswith("spec.policyRef is missing: write")


@requirement("rollout.one-of")
def test_exactly_one_of_environment_and_rollout_is_set() -> None:
    rollout = Rollout(stages=(stage("a", "staging"),))
    neither, both = (
        AgentSpec(template=TEMPLATE),
        AgentSpec(template=TEMPLATE, environment=EnvironmentClass.STAGING, rollout=rollout),
    )
    assert "both missing: write environment: development" in (environment_refusal(neither) or "")
    assert "both set: keep" in (environment_refusal(both) or "")
    assert environment_refusal(AgentSpec(template=TEMPLATE, rollout=rollout)) is None
    assert environment_refusal(AgentSpec(template=TEMPLATE, environment=EnvironmentClass.STAGING)) is None


def test_an_environment_is_one_stage_of_its_name() -> None:
    spec = AgentSpec(template=TEMPLATE, environment=EnvironmentClass.STAGING)
    assert spec.stages == (stage("staging", "staging"),)
    assert AgentSpec(template=TEMPLATE).stages == ()


@requirement("rollout.order")
def test_a_stage_that_goes_back_is_named() -> None:
    stages = [stage("a", "staging"), stage("b", "production"), stage("c", "development"), stage("d", "staging")]
    (message,) = stage_order_refusals(stages)
    assert message.startswith("spec.rollout.stages: stage c in development follows a stage in production: ")


@pytest.mark.parametrize(
    ("earlier", "later", "is_wider"),
    [
        ({}, {}, True),
        ({"region": ("eu",)}, {}, True),
        ({"region": ("eu",)}, {"region": ("eu",)}, True),
        ({"region": ("eu",)}, {"region": ("us", "eu")}, True),
        ({"region": ("eu",), "product": ("x",)}, {"region": ("eu",)}, True),
        ({}, {"region": ("eu",)}, False),
        ({"region": ("eu", "us")}, {"region": ("eu",)}, False),
        ({"region": ("eu",)}, {"region": ("us",)}, False),
        ({"region": ("eu",)}, {"region": ("eu",), "product": ("x",)}, False),
    ],
)
@requirement("rollout.order")
def test_within_an_environment_a_scope_only_widens(
    earlier: dict[str, tuple[str, ...]],
    later: dict[str, tuple[str, ...]],
    *,
    is_wider: bool,
) -> None:
    stages = [stage("a", "production", **earlier), stage("b", "production", **later)]
    assert (stage_order_refusals(stages) == []) is is_wider
    assert stage_order_refusals([stage("a", "staging", **earlier), stage("b", "production", **later)]) == []


@requirement("rollout.minimums")
def test_minimums_are_sums_over_the_stages() -> None:
    scoped = {"region": ("eu",)}
    stages = [
        stage("s1", "staging", "100h"),
        stage("s2", "staging", "68h"),
        stage("p1", "production", "24h", **scoped),
        stage("p2", "production", "24h", **scoped),
        stage("p3", "production"),
    ]
    assert minimum_refusals(stages, "support", DEFAULTS) == []
    assert minimum_refusals(stages[1:3], "support", DEFAULTS) == [
        (
            "spec.rollout.stages: 68h in staging, but AgentPolicy support requires 168h before production: "
            "raise minDuration of the staging stages, or lower spec.rollout.minStaging there"
        ),
        (
            "spec.rollout.stages: 24h in limited scope, but AgentPolicy support requires 48h: "
            "raise minDuration of the production stages that have a scope, or lower spec.rollout.minLimitedScope there"
        ),
    ]


def test_production_alone_lacks_staging_and_a_limited_scope() -> None:
    assert minimum_refusals([stage("production", "production")], "support", DEFAULTS) == [
        (
            "spec.rollout.stages: no staging stage before production, but AgentPolicy support requires 168h in staging"
            ": add a staging stage with minDuration 168h, or lower spec.rollout.minStaging there"
        ),
        (
            "spec.rollout.stages: production starts without a scope, but AgentPolicy support requires a limited one "
            "first: add a production stage with a scope and minDuration 48h before it, or set "
            "spec.rollout.requireLimitedScope: false there"
        ),
    ]


def test_nothing_is_required_where_there_is_no_production_or_no_minimum() -> None:
    lax = AgentPolicySpec(rollout=RolloutMinimums(min_staging="0s", require_limited_scope=False))
    assert minimum_refusals([stage("s", "staging")], "support", DEFAULTS) == []
    assert minimum_refusals([stage("production", "production")], "support", lax) == []


@requirement("governance.matrix-row")
def test_every_source_without_a_row_is_named() -> None:
    rows = (
        DataAccessRow(agents=("triage",), source="crm"),
        DataAccessRow(agents=("other",), source="mail"),
    )
    spec = AgentSpec(template=TEMPLATE, bindings=(BindingUse(source="crm"), BindingUse(source="mail")))
    assert row_refusals(ObjectMeta(name="triage"), spec, "support", AgentPolicySpec(data_access=rows)) == [
        (
            "spec.bindings: AgentPolicy support has no dataAccess row for agent triage and source mail: "
            "add the row, or remove the binding"
        ),
    ]


@requirement("governance.matrix-row", "governance.selector")
def test_a_source_whose_rows_select_other_labels_is_named() -> None:
    row = DataAccessRow(agent_selector=AgentSelector(match_labels={"team": "support"}), source="crm")
    spec = AgentSpec(template=TEMPLATE, bindings=(BindingUse(source="crm"),))
    required = AgentPolicySpec(data_access=(row,))
    assert row_refusals(ObjectMeta(name="triage", labels={"team": "support"}), spec, "support", required) == []
    (message,) = row_refusals(ObjectMeta(name="triage"), spec, "support", required)
    assert message.startswith(
        "spec.bindings: AgentPolicy support has no dataAccess row for agent triage and source crm"
    )


def test_a_name_that_leaves_no_room_for_children_is_refused() -> None:
    assert name_refusal("a" * 52) is None
    assert (name_refusal("a" * 53) or "").startswith(f'metadata.name "{"a" * 53}" is not a valid agent name')
    assert name_refusal("a.b")
    assert name_refusal("a--b"), "guard-a--b is the Service of stage b of agent a"


def test_a_bad_duration_is_refused() -> None:
    assert duration_refusal("168h") is None
    assert duration_refusal("7d") == '"7d" is not a duration: write 168h, 90m or 1h30m (7 days are 168h)'


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(hours=48), "48h"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=90), "90s"),
        (timedelta(milliseconds=90_500), "90.5s"),
        (timedelta(seconds=100), "100s"),
    ],
)
def test_a_duration_is_spoken_in_its_largest_whole_unit(duration: timedelta, text: str) -> None:
    assert short_duration(duration) == text
