"""The Secrets with which the installation has kubelets pull the images of each pod that the operator creates."""

from dataclasses import replace
from typing import Any

import pytest

from interlock.api.gates import StageTest
from interlock.deployment.children.notifier import build_notifier
from interlock.deployment.children.stage_tests import StageService, build_test_job
from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
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

INSTALLED = ("registry-login", "mirror")


def secrets_of(workload: Any) -> list[str]:
    return [one["name"] for one in workload["spec"]["template"]["spec"].get("imagePullSecrets", ())]


@requirement("pods.installed-pull-secrets")
@pytest.mark.parametrize("place", [a_placement, a_separate_placement])
def test_every_pod_of_an_agent_pulls_with_the_secrets_of_the_installation(place: Any) -> None:
    workloads = build_workloads(replace(place(), pull_secrets=INSTALLED))
    assert [secrets_of(one) for one in workloads] == [list(INSTALLED)] * len(workloads)
    assert [secrets_of(one) for one in build_workloads(place())] == [[]] * len(workloads)


@requirement("pods.installed-pull-secrets")
def test_verifications_notifiers_and_tests_of_stages_do_so_too() -> None:
    job = build_job(VerificationTarget(a_binding().build(), 1, GUARD_IMAGE, pull_secrets=INSTALLED))
    policy = a_policy().notifying("chat").build()
    notifier = build_notifier(policy, GUARD_IMAGE, API_SERVER, pull_secrets=INSTALLED)[-1]
    smoke = StageTest.model_validate({"name": "smoke", "image": "smoke:1", "command": ["/smoke"], "deadline": "1m"})
    installed = replace(a_placement(), pull_secrets=INSTALLED)
    test = build_test_job(installed, smoke, 1, StageService("guard-triage", ("10.96.0.7",)))
    found = [secrets_of(one) for one in (job, notifier, test)]
    assert found == [list(INSTALLED)] * 3


@requirement("pods.installed-pull-secrets")
def test_a_secret_that_policy_or_template_name_too_is_named_once() -> None:
    template = {"imagePullSecrets": [{"name": "own"}, {"name": "mirror"}]}
    agent = an_agent().with_template(**template)
    policy = a_policy().with_pod_template(default={"imagePullSecrets": [{"name": "registry-login"}]})
    (workload,) = build_workloads(replace(a_placement(agent, policy=policy), pull_secrets=INSTALLED))
    assert secrets_of(workload) == ["registry-login", "mirror", "own"]
