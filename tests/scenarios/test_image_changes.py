"""Tags that move: pods that run another image than their revision was Ready with serve nothing."""

from dataclasses import replace

import pytest

from interlock.api.status import ConditionType
from interlock_contract.bundle import BUNDLE_KEY, Bundle, parse_bundle
from tests.scenarios.test_rollout_over_time import STAGED, a_rollout
from tests.support.builders import a_binding, a_policy, a_snapshot, an_agent, hours, seconds
from tests.support.simulation import Simulation

AGENT = an_agent().in_environment("development").taking_tasks()
OLD, NEW = (f"sha256:{two * 32}" for two in ("aa", "bb"))


def running(isolation: str = "Shared", replicas: int = 2) -> Simulation:
    policy = a_policy().isolating(development=isolation)
    simulation = Simulation(
        a_snapshot().of(AGENT.with_replicas(replicas)).with_policy(policy).with_bindings(a_binding())
    )
    simulation.image = OLD
    simulation.run()
    simulation.wait(seconds(60))
    return simulation


def everywhere(image: str) -> Simulation:
    """Return an agent whose first revision has passed all stages."""
    simulation = a_rollout()
    simulation.image = image
    for span in (0, 168, 48):
        simulation.wait(hours(span))
        simulation.run()
    assert simulation.stage == "everywhere"
    return simulation


def bundle(simulation: Simulation) -> Bundle:
    return parse_bundle(str(simulation.child_with(BUNDLE_KEY)["data"][BUNDLE_KEY]))


def agents(simulation: Simulation) -> list[str]:
    return sorted(pod.name for pod in simulation.pods.reports if pod.group.component == "agent")


def ready(simulation: Simulation) -> tuple[str, str]:
    found = simulation.condition(ConditionType.READY)
    return found.status, found.reason


def with_another_image_in_the_second_stage() -> Simulation:
    simulation = a_rollout()
    simulation.image = OLD
    simulation.run()
    simulation.image = NEW
    simulation.wait(hours(168))
    simulation.run()
    assert simulation.stage == "one-region"
    return simulation


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_pod_that_starts_with_another_image_is_cut_off_and_the_other_one_goes_on(isolation: str) -> None:
    simulation = running(isolation)
    assert ready(simulation) == ("True", "PodsReady")
    moved = agents(simulation)[0]

    simulation.replace_image(moved, NEW)
    simulation.run()

    assert ready(simulation) == ("False", "ImageChanged")
    message = simulation.condition(ConditionType.READY).message
    assert "1 of 2 pods ready" in message
    assert f"pod {moved}: container agent runs {NEW}, and its revision was Ready with {OLD}" in message
    marks = {pod.name: pod.is_marked for pod in simulation.pods.reports}
    assert marks == {name: name == moved for name in marks}
    found = bundle(simulation)
    addresses = {one for pod in simulation.pods.reports if pod.name == moved for one in pod.addresses}
    assert set(found.changed_addresses) == addresses
    assert found.changed_pods == (() if isolation == "Separate" else (moved,))
    assert simulation.condition(ConditionType.SERVING).status == "True"


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_pod_stays_cut_off_once_it_is_deleted_since_it_may_take_long_to_end(isolation: str) -> None:
    simulation = running(isolation)
    simulation.replace_image(agents(simulation)[0], NEW)
    simulation.run()
    before = bundle(simulation)
    simulation.evict()
    simulation.run()
    found = bundle(simulation)
    assert found.changed_pods == before.changed_pods
    assert found.changed_addresses == before.changed_addresses
    assert found.changed_pods or found.changed_addresses
    assert ready(simulation) == ("True", "PodsReady")


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_pod_that_is_gone_is_forgotten_so_that_later_pods_need_not_wait_and_may_have_its_address(
    isolation: str,
) -> None:
    simulation = running(isolation)
    moved = agents(simulation)[0]
    simulation.replace_image(moved, NEW)
    simulation.run()
    simulation.evict()
    simulation.snapshot = simulation.snapshot.with_pods(replace(simulation.pods, leaving=frozenset({moved, "guard"})))
    simulation.settle()
    assert bundle(simulation).changed_pods or bundle(simulation).changed_addresses

    simulation.snapshot = simulation.snapshot.with_pods(replace(simulation.pods, leaving=frozenset()))
    simulation.run()
    assert (bundle(simulation).changed_pods, bundle(simulation).changed_addresses) == ((), ())
    simulation.forget_image(agents(simulation)[0])
    simulation.run()
    assert refused(simulation) == []


def test_an_agent_that_ends_since_its_first_call_is_refused_restarts_no_soak() -> None:
    simulation = a_rollout()
    simulation.image = OLD
    simulation.run()
    simulation.wait(hours(1))
    [moved] = agents(simulation)
    simulation.lose_readiness(moved)
    simulation.run()
    assert simulation.status.stage is not None
    assert simulation.status.stage.soaked_seconds > 0
    simulation.replace_image(moved, NEW)
    simulation.run()
    simulation.crash()
    simulation.run()
    assert simulation.status.stage is not None
    assert (simulation.status.stage.restarts, simulation.status.stage.soak_restarted_at) == (0, None)


def refused(simulation: Simulation) -> list[str]:
    """Return the agent's pods that guards refuse for their image."""
    found = bundle(simulation)
    return [
        pod.name
        for pod in simulation.pods.reports
        if pod.name in found.changed_pods or set(pod.addresses) & set(found.changed_addresses)
    ]


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_a_pod_with_another_image_stays_cut_off_while_its_container_starts_again(isolation: str) -> None:
    simulation = running(isolation)
    moved = agents(simulation)[0]
    simulation.replace_image(moved, NEW)
    simulation.run()
    simulation.forget_image(moved)
    simulation.run()
    assert refused(simulation) == [moved]


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_once_a_tag_has_moved_pods_are_cut_off_until_their_image_is_known(isolation: str) -> None:
    simulation = running(isolation)
    moved, other = agents(simulation)
    simulation.forget_image(other)
    simulation.run()
    assert refused(simulation) == [], "no tag has moved as far as is known, so no pod waits for the operator"

    simulation.replace_image(moved, NEW)
    simulation.run()
    assert sorted(refused(simulation)) == [moved, other]

    simulation.replace_image(other, OLD)
    simulation.run()
    assert refused(simulation) == [moved]
    assert not next(pod for pod in simulation.pods.reports if pod.name == other).is_marked


def test_a_tag_that_has_moved_in_one_stage_cuts_off_pods_of_other_stages_until_their_image_is_known() -> None:
    simulation = with_another_image_in_the_second_stage()
    [name] = [
        pod.name for pod in simulation.pods.reports if (pod.group.stage, pod.group.component) == ("staging", "agent")
    ]
    assert not refused_in(simulation, "staging")
    simulation.forget_image(name)
    simulation.settle()
    assert refused_in(simulation, "staging")


def refused_in(simulation: Simulation, stage: str) -> bool:
    """Return True if guards of a stage refuse a pod for its image."""
    found = (child.manifest.get("data", {}).get(BUNDLE_KEY) for child in simulation.snapshot.children.values())
    bundles = (parse_bundle(text) for text in found if text)
    return any(one.changed_pods or one.changed_addresses for one in bundles if one.stage == stage)


def test_an_address_is_judged_by_the_pod_that_has_it_now() -> None:
    simulation = running("Separate", replicas=1)
    simulation.replace_image(agents(simulation)[0], NEW)
    simulation.run()
    [address] = bundle(simulation).changed_addresses
    simulation.evict()
    simulation.move_address(agents(simulation)[0], address)
    simulation.run()
    assert bundle(simulation).changed_addresses == ()


def test_pods_with_the_recorded_image_make_it_ready_again() -> None:
    simulation = running()
    moved = agents(simulation)[0]
    simulation.replace_image(moved, NEW)
    simulation.run()
    simulation.replace_image(moved, OLD)
    simulation.run()
    assert ready(simulation) == ("True", "PodsReady")
    assert bundle(simulation).changed_pods == ()
    assert not any(pod.is_marked for pod in simulation.pods.reports)


def test_an_agent_all_of_whose_pods_run_another_image_serves_nothing() -> None:
    simulation = running(replicas=1)
    simulation.replace_image(agents(simulation)[0], NEW)
    simulation.run()
    assert simulation.condition(ConditionType.SERVING).status == "False"
    assert simulation.status.ready_summary == "0/1"


def test_a_new_revision_records_what_the_tag_leads_to_now() -> None:
    simulation = running(replicas=1)
    simulation.image = NEW
    simulation.apply(AGENT.with_template(env=[{"name": "VERSION", "value": "2"}]))
    simulation.run()
    simulation.wait(seconds(60))
    simulation.run()
    assert ready(simulation) == ("True", "PodsReady")
    rollout = simulation.status.rollout
    assert rollout is not None
    assert NEW in {one.digest for one in rollout.images}


def test_the_good_revision_is_not_ready_either_while_another_one_soaks() -> None:
    simulation = everywhere(OLD)
    simulation.apply(STAGED.with_template(env=[{"name": "VERSION", "value": "2"}]))
    simulation.run()
    assert simulation.stage == "staging"
    assert ready(simulation) == ("True", "PodsReady")
    [good] = [
        pod.name
        for pod in simulation.pods.reports
        if pod.group.stage == "everywhere" and pod.group.component == "agent"
    ]
    simulation.replace_image(good, NEW)
    simulation.run()
    assert ready(simulation) == ("False", "ImageChanged")
    assert "of revision 1-" in simulation.condition(ConditionType.READY).message


def test_a_later_stage_is_not_ready_with_another_image_than_the_first_one() -> None:
    simulation = with_another_image_in_the_second_stage()
    progressing = simulation.condition(ConditionType.PROGRESSING)
    assert progressing.reason == "ImageChanged"
    assert f"container agent runs {NEW}, and its revision was Ready with {OLD}" in progressing.message
    assert ready(simulation) == ("True", "PodsReady"), "staging serves until the next stage is Ready"
    simulation.wait(hours(1000))
    simulation.run()
    assert simulation.stage == "one-region", "it never begins to soak"
    assert simulation.status.stage is not None
    assert simulation.status.stage.ready_since is None
