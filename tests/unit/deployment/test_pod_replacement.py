"""Which Deployments hold the pods of their earlier template, and until when."""

from dataclasses import replace

import pytest

from interlock.deployment.names import Manifest
from interlock.deployment.plan import WORKLOAD, LiveChild, desired_children, has_drifted
from interlock.deployment.pod_replacement import (
    hold_pods,
    holds_pods,
    pace_replacement,
    template_digest,
    with_template_digest,
)
from tests.support.builders import a_placement, a_separate_placement, an_agent


def a_deployment(image: str = "guard:1") -> Manifest:
    return next(one for one in desired_children(replace(a_placement(), guard_image=image)) if one["kind"] == WORKLOAD)


OLD, NEW = (with_template_digest(a_deployment(image)) for image in ("guard:1", "guard:2"))


def scaled(manifest: Manifest, replicas: int) -> Manifest:
    return manifest | {"spec": manifest["spec"] | {"replicas": replicas}}


def test_another_template_has_another_digest_and_the_number_of_pods_has_none() -> None:
    assert len({template_digest(OLD), template_digest(NEW)}) == 2
    assert template_digest(with_template_digest(scaled(a_deployment(), 3))) == template_digest(OLD)
    assert template_digest(a_deployment()) == ""


@pytest.mark.parametrize("drains", [True, False])
def test_another_template_is_written_with_a_hold_if_something_may_be_under_way(*, drains: bool) -> None:
    assert holds_pods(pace_replacement(NEW, LiveChild(OLD), drains=drains, may_end=True)) == drains


def test_a_hold_lasts_until_the_earlier_pods_have_nothing_under_way() -> None:
    held = LiveChild(hold_pods(NEW))

    assert pace_replacement(NEW, held, drains=True, may_end=False) == held.manifest
    released = pace_replacement(NEW, held, drains=True, may_end=True)
    assert released == NEW
    assert has_drifted(released, held.manifest), "so that it is written"
    assert pace_replacement(NEW, LiveChild(NEW), drains=True, may_end=False) == NEW, "it never begins afterwards"


@pytest.mark.parametrize(("desired", "live"), [(0, 1), (1, 0)])
def test_without_pods_nothing_is_held(desired: int, live: int) -> None:
    before = LiveChild(scaled(hold_pods(OLD), live))

    assert not holds_pods(pace_replacement(scaled(NEW, desired), before, drains=True, may_end=False))


def test_a_pod_with_claims_goes_before_its_successor_comes() -> None:
    agent = an_agent().in_environment("development").with_claims(memory={"development": "memory"})
    workloads = [one for one in desired_children(a_separate_placement(agent)) if one["kind"] == WORKLOAD]
    [recreated] = [one for one in workloads if one["spec"].get("strategy") == {"type": "Recreate"}]

    assert hold_pods(recreated) == recreated
