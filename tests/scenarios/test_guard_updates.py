"""New versions of the operator: the pods of agents stay until their turn, and what users change does not wait."""

from dataclasses import replace
from datetime import timedelta

import pytest

from interlock.api.status import ConditionType
from interlock.deployment.names import ChildKey, Manifest
from interlock.deployment.ownership import content_digest
from interlock.deployment.plan import LiveChild
from interlock.reconcile.guard_updates import UPDATE_DEADLINE
from interlock_contract.bundle import BUNDLE_KEY, parse_bundle
from interlock_contract.bundle_schema import SCHEMA_VERSION
from interlock_contract.names import BUNDLE_SCHEMAS
from tests.scenarios.test_rollout_over_time import a_rollout
from tests.support.builders import a_policy, a_snapshot, an_agent, hours, seconds
from tests.support.simulation import Simulation

AGENT = an_agent().in_environment("development")
EARLIER, LATER = "registry.example.com/guard:1", "registry.example.com/guard:2"
NOT_YET = "their wave has not begun"


def running(isolation: str = "Shared", simulation: Simulation | None = None) -> Simulation:
    """Return an agent that an earlier version of the operator has started."""
    policy = a_policy().isolating(development=isolation)
    simulation = simulation or Simulation(a_snapshot().of(AGENT).with_policy(policy))
    simulation.snapshot = replace(simulation.snapshot, guard_image=EARLIER, operator_version="1")
    simulation.run()
    simulation.wait(seconds(60))
    assert guard_update(simulation) == ("True", "GuardCurrent")
    return simulation


def update_operator(simulation: Simulation, *, version: str = "2", image: str = LATER, waits: str = NOT_YET) -> None:
    simulation.forget()
    simulation.snapshot = replace(simulation.snapshot, guard_image=image, operator_version=version, may_update=waits)


def may_update(simulation: Simulation, waits: str = "") -> None:
    simulation.snapshot = replace(simulation.snapshot, may_update=waits)


def deployments(simulation: Simulation) -> dict[str, Manifest]:
    """Return the Deployments by what runs in them."""
    found = [child.manifest for key, child in simulation.snapshot.children.items() if key.kind == "Deployment"]
    return {one["metadata"]["labels"]["app.kubernetes.io/component"]: one for one in found}


def images(simulation: Simulation, component: str = "agent") -> set[str]:
    """Return the images of Interlock in the pods of a Deployment."""
    pod = deployments(simulation)[component]["spec"]["template"]["spec"]
    named = {one["image"] for one in (*pod.get("initContainers", ()), *pod["containers"])}
    return named & {EARLIER, LATER}


def generations(simulation: Simulation) -> dict[str, int]:
    return {name: one["metadata"]["generation"] for name, one in deployments(simulation).items()}


def guard_update(simulation: Simulation) -> tuple[str, str]:
    found = simulation.condition(ConditionType.GUARD_UPDATED)
    return found.status, found.reason


def schema(simulation: Simulation) -> int:
    return parse_bundle(simulation.child_with(BUNDLE_KEY)["data"][BUNDLE_KEY]).schema_version


def say_schemas(simulation: Simulation, said: str | None) -> None:
    """Let the pods with guards have been started by another release, in which guards read other schemas."""
    children = {}
    for key, child in simulation.snapshot.children.items():
        manifest = child.manifest
        if key.kind == "Deployment" and BUNDLE_SCHEMAS in manifest["spec"]["template"]["metadata"]["annotations"]:
            annotations = dict(manifest["spec"]["template"]["metadata"]["annotations"])
            annotations.pop(BUNDLE_SCHEMAS)
            annotations |= {} if said is None else {BUNDLE_SCHEMAS: said}
            metadata = manifest["spec"]["template"]["metadata"] | {"annotations": annotations}
            template = manifest["spec"]["template"] | {"metadata": metadata}
            manifest = manifest | {"spec": manifest["spec"] | {"template": template}}
        children[key] = LiveChild(manifest)
    simulation.snapshot = replace(simulation.snapshot, children=children)


def as_applied(simulation: Simulation) -> None:
    """Let the status say that the operator left the Deployments as they are."""
    children, status = simulation.snapshot.children, simulation.status
    managed = tuple(
        one.model_copy(update={"digest": content_digest(children[key].manifest)})
        if (key := ChildKey(one.kind, one.name)) in children
        else one
        for one in status.managed_objects
    )
    simulation.report(status.model_copy(update={"managed_objects": managed}))


def test_what_earlier_pods_mount_stays_until_their_successors_are_written() -> None:
    """The API server may refuse these for long."""
    simulation = running()
    [(key, child)] = [(key, one) for key, one in simulation.snapshot.children.items() if key.kind == "Deployment"]
    template = child.manifest["spec"]["template"]
    volumes = [*template["spec"]["volumes"], {"name": "earlier", "configMap": {"name": "of-an-earlier-version"}}]
    earlier = child.manifest["spec"] | {"template": template | {"spec": template["spec"] | {"volumes": volumes}}}
    needed = ChildKey("ConfigMap", "of-an-earlier-version")
    like = next(one for found, one in simulation.snapshot.children.items() if found.kind == "ConfigMap").manifest
    mounted = like | {"metadata": like["metadata"] | {"name": needed.name}, "data": {}}
    children = simulation.snapshot.children | {key: LiveChild(child.manifest | {"spec": earlier})}
    simulation.snapshot = replace(simulation.snapshot, children=children | {needed: LiveChild(mounted)})
    as_applied(simulation)
    update_operator(simulation, waits="")
    result = simulation.peek()
    assert result.replaced == {key}
    assert needed not in result.plan.prune

    simulation.carry_out(result)
    assert needed in simulation.peek().plan.prune


def test_a_new_version_of_the_operator_moves_no_pod_before_its_turn() -> None:
    simulation = running()
    before = generations(simulation)
    update_operator(simulation)
    simulation.settle()
    assert (generations(simulation), images(simulation)) == (before, {EARLIER})
    assert guard_update(simulation) == ("False", "GuardUpdateWaiting")
    assert NOT_YET in simulation.condition(ConditionType.GUARD_UPDATED).message
    assert simulation.condition(ConditionType.READY).status == "True"

    may_update(simulation)
    simulation.settle()
    assert images(simulation) == {LATER}
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")
    simulation.evict()
    simulation.run()
    assert guard_update(simulation) == ("True", "GuardCurrent")


@pytest.mark.parametrize("image", [LATER, EARLIER], ids=["another image", "other manifests alone"])
def test_in_separate_pods_only_those_of_guards_are_replaced(image: str) -> None:
    simulation = running("Separate")
    before = generations(simulation)
    update_operator(simulation, image=image, waits="")
    if image == EARLIER:  # a version that writes something else into all pods
        simulation.snapshot = replace(simulation.snapshot, guard_image="registry.example.com/guard:1.0.1")
    simulation.run()
    after = generations(simulation)
    assert (after["agent"], after["guard"]) == (before["agent"], before["guard"] + 1)
    assert images(simulation) == {EARLIER}, "the egress check of a pod that runs has ended"
    assert guard_update(simulation) == ("True", "GuardCurrent")


def test_separate_pods_of_an_agent_that_is_not_ready_for_long_are_replaced_too() -> None:
    """Otherwise a setting that they need, such as a registry's Secret, would never reach them."""
    simulation = running("Separate")
    simulation.fail()
    simulation.settle()
    update_operator(simulation, waits="")
    simulation.settle()
    assert images(simulation) == {EARLIER}
    simulation.wait(UPDATE_DEADLINE)
    simulation.settle()
    assert images(simulation) == {LATER}


@pytest.mark.parametrize("isolation", ["Shared", "Separate"])
def test_what_users_change_does_not_wait(isolation: str) -> None:
    simulation = running(isolation)
    update_operator(simulation)
    simulation.settle()

    edited = AGENT.with_template(nodeSelector={"pool": "agents"})
    simulation.apply(edited)
    simulation.settle()
    for one in deployments(simulation).values():
        assert one["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "agents"}
    assert images(simulation, "agent" if isolation == "Shared" else "guard") == {LATER}


@pytest.mark.parametrize("is_for_it", [True, False], ids=["for its agents", "for others"])
def test_a_change_of_the_policy_does_not_wait_unless_it_is_a_row_for_others(*, is_for_it: bool) -> None:
    simulation = running()
    recorded = simulation.status.pod_templates
    others = a_policy().isolating(development="Shared").giving("another-agent", "crm", read=["contacts"])
    simulation.find_policy(others)
    simulation.settle()
    assert simulation.status.pod_templates == recorded

    update_operator(simulation)
    if is_for_it:
        simulation.find_policy(others.with_guard_resources(limits={"cpu": "300m"}))
    simulation.settle()
    assert images(simulation) == {LATER if is_for_it else EARLIER}


def test_an_agent_that_waits_is_scaled() -> None:
    simulation = running()
    update_operator(simulation)
    simulation.settle()
    simulation.apply(AGENT.with_replicas(3))
    simulation.run()
    assert deployments(simulation)["agent"]["spec"]["replicas"] == 3
    assert images(simulation) == {EARLIER}


def test_a_killed_agent_does_not_wait() -> None:
    simulation = running()
    update_operator(simulation)
    simulation.settle()
    simulation.kill()
    simulation.settle()
    assert guard_update(simulation) == ("True", "GuardCurrent")
    assert deployments(simulation).get("agent", {}) == {} or images(simulation) == {LATER}
    simulation.release()
    simulation.run()
    assert images(simulation) == {LATER}


def test_an_agent_that_is_not_ready_after_its_update_has_failed_until_it_is() -> None:
    simulation = running()
    update_operator(simulation, waits="")
    simulation.settle()
    began = simulation.now
    simulation.fail()
    simulation.wait(seconds(30))
    assert simulation.settle().requeue_at is not None
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")

    simulation.wait(UPDATE_DEADLINE - (simulation.now - began) - seconds(1))
    simulation.settle()
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")
    simulation.wait(seconds(1))
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardUpdateFailed")
    assert [one.reason for one in simulation.events if "GuardUpdat" in one.reason] == [
        "GuardUpdating",
        "GuardUpdateFailed",
    ]

    simulation.forget()
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardUpdateFailed"), "a restart forgets no failure"
    simulation.run()
    assert guard_update(simulation) == ("True", "GuardCurrent")


def test_a_failed_update_is_requeued_at_its_deadline() -> None:
    simulation = running()
    update_operator(simulation, waits="")
    outcome = simulation.reconcile_once()
    assert outcome.requeue_at is not None
    assert outcome.requeue_at <= simulation.now + UPDATE_DEADLINE


def failed() -> Simulation:
    simulation = running()
    update_operator(simulation, waits="")
    simulation.settle()
    simulation.fail()
    simulation.wait(UPDATE_DEADLINE)
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardUpdateFailed")
    return simulation


def test_an_agent_that_failed_gets_the_next_version_in_its_turn() -> None:
    simulation = failed()
    update_operator(simulation, version="3", image=EARLIER)
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardRetryWaiting")
    may_update(simulation)
    simulation.run()
    assert (guard_update(simulation), images(simulation)) == (("True", "GuardCurrent"), {EARLIER})


@pytest.mark.parametrize("waits", ["", NOT_YET], ids=["immediately", "in its turn"])
def test_an_agent_that_failed_is_watched_again_with_the_next_version(waits: str) -> None:
    simulation = failed()
    update_operator(simulation, version="3", image="registry.example.com/guard:3", waits=waits)
    simulation.settle()
    may_update(simulation)
    simulation.settle()
    assert guard_update(simulation) == ("Unknown", "GuardUpdating")

    simulation.fail()
    simulation.wait(UPDATE_DEADLINE)
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardUpdateFailed"), "the correction was none"


def test_a_version_that_changes_nothing_of_an_agent_that_failed_lets_no_others_pass() -> None:
    simulation = failed()
    update_operator(simulation, version="3", waits="")
    simulation.settle()
    assert guard_update(simulation) == ("False", "GuardUpdateFailed")


def test_an_agent_that_failed_and_is_ready_again_waits_like_any_other() -> None:
    simulation = failed()
    update_operator(simulation, version="3", image=EARLIER)
    simulation.settle()
    simulation.run()
    assert guard_update(simulation) == ("False", "GuardUpdateWaiting")


def test_an_agent_that_was_not_ready_before_its_update_stops_no_others() -> None:
    simulation = running()
    simulation.fail()
    simulation.settle()
    update_operator(simulation, waits="")
    simulation.settle()
    assert images(simulation) == {LATER}
    assert guard_update(simulation) == ("True", "GuardCurrent")


def test_an_update_pauses_a_soak_and_starts_no_revision() -> None:
    simulation = running(simulation=a_rollout())
    simulation.wait(hours(100))
    simulation.settle()
    revision = simulation.status.stage.revision if simulation.status.stage else ""
    update_operator(simulation, waits="")
    simulation.settle()
    simulation.fail()
    simulation.settle()
    simulation.wait(hours(50))
    simulation.run()
    assert simulation.status.stage is not None
    assert simulation.status.stage.revision == revision

    left = hours(68) - timedelta(minutes=1)
    simulation.wait(left - seconds(5))
    simulation.run()
    assert simulation.stage == "staging"
    simulation.wait(seconds(10))
    simulation.run()
    assert simulation.stage == "one-region"


def test_guards_of_the_release_before_get_its_schema_until_they_are_updated() -> None:
    simulation = running()
    say_schemas(simulation, None)
    as_applied(simulation)
    update_operator(simulation)
    simulation.settle()
    assert schema(simulation) == SCHEMA_VERSION - 1

    may_update(simulation)
    simulation.run()
    assert schema(simulation) == SCHEMA_VERSION


def test_an_operator_that_went_back_writes_what_newer_guards_read() -> None:
    simulation = running()
    say_schemas(simulation, f"{SCHEMA_VERSION},{SCHEMA_VERSION + 1}")
    as_applied(simulation)
    before = generations(simulation)
    update_operator(simulation)
    simulation.settle()
    assert (schema(simulation), generations(simulation)) == (SCHEMA_VERSION, before)


def test_guards_that_read_nothing_that_is_written_do_not_wait() -> None:
    simulation = running()
    say_schemas(simulation, f"{SCHEMA_VERSION + 1},{SCHEMA_VERSION + 2}")
    as_applied(simulation)
    update_operator(simulation)
    simulation.settle()
    assert images(simulation) == {LATER}
