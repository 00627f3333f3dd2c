"""Scopes, and the check that placements share the work without overlaps and gaps."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock.api.environments import class_of_name
from interlock.api.shared_types import EnvironmentClass, ScopeDimension
from interlock.orchestration.rollout_decision import DesiredPlacement
from interlock.orchestration.rollout_state import RevisionRef, Scope
from interlock.orchestration.scopes import EVERYTHING, covers, intersection, partition_violations
from tests.support.builders import a_stage, stages
from tests.support.rollouts import has

VALUES = {"region": ("eu", "us", "asia"), "product": ("x", "y")}
EU: dict[str, list[str]] = {"region": ["eu"]}


def a_placement(
    number: int,
    scope: dict[str, list[str]] | None = None,
    *,
    environment: str = "production",
    is_serving: bool = True,
    is_draining: bool = False,
    excluded: tuple[Scope, ...] = (),
) -> DesiredPlacement:
    (stage,) = stages(a_stage(f"stage-{number}", environment, scope=scope))
    return DesiredPlacement(RevisionRef(number, str(number) * 64), stage, is_serving, excluded, is_draining)


def a_scope(**values: list[str]) -> Scope:
    return tuple(ScopeDimension(dimension=name, values=tuple(some)) for name, some in values.items())


def violations(*placements: DesiredPlacement) -> tuple[str, ...]:
    return partition_violations(placements, EnvironmentClass.PRODUCTION, class_of_name)


REST = a_placement(1, excluded=(a_scope(region=["eu"]),))


def test_a_limited_placement_and_the_rest_share_the_work() -> None:
    assert violations(a_placement(2, EU), REST) == ()


@pytest.mark.parametrize(
    "placements",
    [
        (a_placement(2, EU), a_placement(1)),
        (a_placement(2), a_placement(1)),
        (a_placement(2, {"region": ["eu", "us"]}), REST),
        (a_placement(2, {"product": ["x"]}), REST),
        (REST,),
        (a_placement(2, EU, is_serving=False, excluded=EVERYTHING), REST),
        (a_placement(2, EU, is_draining=True, is_serving=False), REST),
        (a_placement(2, {"region": ["eu", "us"]}, excluded=(a_scope(region=["us"]),)), REST),
        (a_placement(2, EU, is_serving=False),),
        (a_placement(2, EU), a_placement(2, EU, is_serving=False, is_draining=True)),
        tuple(a_placement(number, is_serving=False, is_draining=True) for number in range(1, 6)),
    ],
    ids=[
        "the same scope",
        "two without a scope",
        "more than is excluded",
        "another dimension",
        "excluded, served by none",
        "excluded, served by what starts",
        "excluded, served by what drains",
        "excluded, served by half",
        "starting without excluding everything",
        "twice the same",
        "five",
    ],
)
def test_placements_that_overlap_leave_a_gap_or_are_too_many_are_violations(
    placements: tuple[DesiredPlacement, ...],
) -> None:
    assert violations(*placements)


@pytest.mark.parametrize(
    "placements",
    [
        (a_placement(2, EU), a_placement(1, {"region": ["us"]})),
        (a_placement(2, environment="staging"), a_placement(1)),
        (a_placement(2, is_serving=False, is_draining=True), a_placement(1)),
        (a_placement(2, is_serving=False, excluded=EVERYTHING), a_placement(1)),
        (
            a_placement(2, {"region": ["eu"], "product": ["x"]}),
            a_placement(1, excluded=(a_scope(region=["eu"], product=["x"]),)),
        ),
    ],
    ids=["other values", "another class", "draining", "starting", "two dimensions"],
)
def test_placements_that_share_nothing_are_no_violation(placements: tuple[DesiredPlacement, ...]) -> None:
    assert violations(*placements) == ()


SCOPES = st.dictionaries(
    st.sampled_from(sorted(VALUES)), st.lists(st.sampled_from(["eu", "us", "x", "y"]), min_size=1, unique=True)
).map(lambda limits: a_scope(**limits))
POINTS = [
    {"region": region, "product": product}
    for region in ((), ("eu",), ("us",), ("x",), ("y",))
    for product in ((), ("eu",), ("us",), ("x",), ("y",))
]


@settings(max_examples=200)
@given(SCOPES, SCOPES)
def test_scopes_compare_as_the_calls_that_they_have(one: Scope, other: Scope) -> None:
    in_one = [point for point in POINTS if has(one, point)]
    in_other = [point for point in POINTS if has(other, point)]
    both = intersection(one, other)

    assert covers(one, other) == all(point in in_one for point in in_other)
    assert [point for point in in_one if point in in_other] == [
        point for point in POINTS if both is not None and has(both, point)
    ]
