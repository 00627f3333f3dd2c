"""Requests and limits of Interlock's own containers: guard, launcher, egress check, verifier, notifier."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.shared_types import Resources
from interlock.deployment.children.notifier import build_notifier
from interlock.deployment.children.resources import ContainerNeeds, build_own_resources
from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.content import content_of
from interlock.deployment.effective import effective, needs_revision
from interlock.deployment.placement import Placement
from tests.requirements import requirement
from tests.support.builders import (
    API_SERVER,
    GUARD_IMAGE,
    a_binding,
    a_placement,
    a_policy,
    a_separate_placement,
    an_agent,
)

GUARD = ContainerNeeds("20m", 48, 128)
OWN = ("guard", "launcher", "egress-check", "pipes", "verifier", "notifier")
STATED = {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"cpu": "250m", "memory": "1Gi"}}
INSTALLED = Resources.model_validate({"requests": {"cpu": "50m"}, "limits": {"cpu": "2"}})


def own_containers(*templates: dict[str, Any]) -> dict[str, Any]:
    pods = [one["spec"]["template"]["spec"] for one in templates]
    found = [one for pod in pods for one in (*pod.get("initContainers", ()), *pod["containers"])]
    return {one["name"]: one["resources"] for one in found if one["name"] in OWN}


def of_placement(placement: Placement) -> dict[str, Any]:
    return own_containers(*build_workloads(placement))


@requirement("pods.bounded")
def test_each_of_our_containers_states_requests_and_limits_of_cpu_and_memory() -> None:
    notifier = build_notifier(a_policy().notifying("chat").build(), GUARD_IMAGE, API_SERVER)[-1]
    found = [
        of_placement(a_placement()),
        of_placement(a_separate_placement()),
        own_containers(build_job(VerificationTarget(a_binding().build(), 1, GUARD_IMAGE)), notifier),
    ]

    assert {name for one in found for name in one} == set(OWN)
    for containers in found:
        for name, resources in containers.items():
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, name
            assert resources["limits"]["cpu"] == "1", name
    assert found[0]["guard"] == {
        "requests": {"cpu": "20m", "memory": "48Mi"},
        "limits": {"cpu": "1", "memory": "128Mi"},
    }


@requirement("pods.bounded")
@pytest.mark.parametrize("place", [a_placement, a_separate_placement])
def test_the_policy_states_the_resources_of_all_our_containers_in_the_pods_of_its_agents(place: Any) -> None:
    found = of_placement(place(policy=a_policy().with_guard_resources(**STATED)))

    assert found
    assert all(resources == STATED for resources in found.values())


@requirement("pods.bounded")
def test_the_installation_states_what_the_policy_does_not() -> None:
    installed = replace(a_placement(), guard_resources=INSTALLED)
    policy = a_policy().with_guard_resources(limits={"cpu": "500m"})

    assert of_placement(installed)["guard"]["requests"] == {"cpu": "50m", "memory": "48Mi"}
    assert of_placement(installed)["guard"]["limits"] == {"cpu": "2", "memory": "128Mi"}
    both = replace(a_placement(policy=policy), guard_resources=INSTALLED)
    assert of_placement(both)["guard"]["requests"]["cpu"] == "50m"
    assert of_placement(both)["guard"]["limits"]["cpu"] == "500m"


@requirement("pods.bounded")
def test_a_memory_limit_is_never_below_what_the_container_needs() -> None:
    low = a_policy().with_guard_resources(requests={"memory": "8Mi"}, limits={"memory": "8Mi"})
    found = of_placement(a_placement(policy=low.allowing_models("openai/*")))
    assert found["guard"] == {"requests": {"cpu": "20m", "memory": "8Mi"}, "limits": {"cpu": "1", "memory": "128Mi"}}
    assert found["launcher"]["limits"]["memory"] == "32Mi"

    calling = of_placement(
        a_placement(an_agent().calling("openai/gpt-4o-mini"), policy=low.allowing_models("openai/*"))
    )
    assert calling["guard"]["limits"]["memory"] == "288Mi"


def test_a_request_above_the_limit_of_another_rule_raises_that_limit() -> None:
    found = build_own_resources(GUARD, Resources.model_validate({"requests": {"cpu": "4", "memory": "2Gi"}}), INSTALLED)

    assert found == {"requests": {"cpu": "4", "memory": "2Gi"}, "limits": {"cpu": "4", "memory": "2Gi"}}


@requirement("pods.bounded")
def test_verifications_and_notifiers_have_what_policy_and_installation_state() -> None:
    policy = a_policy().with_guard_resources(**STATED).notifying("chat").build()
    notifier = build_notifier(policy, GUARD_IMAGE, API_SERVER, guard_resources=INSTALLED)[-1]
    assert own_containers(notifier) == {"notifier": STATED}
    plain = build_notifier(a_policy().notifying("chat").build(), GUARD_IMAGE, API_SERVER, guard_resources=INSTALLED)[-1]
    assert own_containers(plain)["notifier"]["limits"]["cpu"] == "2"

    pods = policy.spec.pod_template
    run = VerificationTarget(a_binding().build(), 1, GUARD_IMAGE, pods=pods, guard_resources=INSTALLED)
    job = build_job(run)
    assert own_containers(job) == dict.fromkeys(("launcher", "pipes", "verifier"), STATED)


@requirement("revision.field-classes")
def test_other_resources_of_the_guard_hold_in_all_revisions_immediately_and_start_none() -> None:
    agent, bindings = an_agent().build(), (a_binding().build(),)
    content = content_of(agent, a_policy().build(), bindings)
    today = a_policy().with_guard_resources(**STATED).build()

    assert not needs_revision(content, agent, today, bindings)
    found = effective(content, agent, today, bindings).policy
    assert found.spec.pod_template == today.spec.pod_template
    assert content_of(agent, today, bindings).digest == content.digest
