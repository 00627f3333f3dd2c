from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from interlock.api.pod_policy import PodMaximums
from interlock.api.policy import ContainerDefaults
from interlock.api.shared_types import ResourceAmounts, ResourceLimits, Resources
from interlock.deployment.children.resources import bounded_defaults, build_resources
from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from tests.requirements import requirement
from tests.support.builders import a_binding, a_placement, a_policy, a_separate_placement, an_agent

DEFAULTS = ContainerDefaults()
QUANTITIES = st.sampled_from([None, "0", "1", "10m", "16Mi", "32Mi", "1Gi", "2Gi", "1500M", "0.5", "1e3"])
AMOUNTS = st.builds(ResourceAmounts, cpu=QUANTITIES, memory=QUANTITIES)
SOMETHING = QUANTITIES.filter(lambda quantity: quantity != "0")
LIMITS = st.builds(ResourceLimits, cpu=SOMETHING, memory=SOMETHING)


def pods(placement: Any) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in build_workloads(placement)]


@requirement("pods.bounded")
@pytest.mark.parametrize("place", [a_placement, a_separate_placement])
def test_every_container_has_a_memory_limit_and_every_empty_dir_a_size(place: Any) -> None:
    for pod in pods(place(an_agent())):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            assert parse_quantity(container["resources"]["limits"]["memory"]) > 0, container["name"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, container["name"]
        for volume in pod["volumes"]:
            if "emptyDir" in volume:
                assert parse_quantity(volume["emptyDir"]["sizeLimit"]) > 0, volume["name"]


@requirement("pods.bounded")
def test_the_policy_says_the_defaults() -> None:
    policy = a_policy().with_resources(default={"memory": "300Mi"}, defaultRequest={"cpu": "5m"}, tmpSizeLimit="20Mi")
    [pod] = pods(a_placement(policy=policy))
    [agent] = pod["containers"]
    sizes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume}

    assert agent["resources"] == {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "300Mi"}}
    assert sizes["tmp-agent"] == sizes["tmp-mcp-crm"] == "20Mi"


@pytest.mark.parametrize(
    ("requests", "limits", "expected"),
    [
        (None, None, ({"cpu": "10m", "memory": "32Mi"}, {"memory": "1Gi"})),
        ({"memory": "2Gi"}, None, ({"cpu": "10m", "memory": "2Gi"}, {"memory": "2Gi"})),
        (None, {"memory": "16Mi"}, ({"cpu": "10m", "memory": "16Mi"}, {"memory": "16Mi"})),
        (None, {"cpu": "5m"}, ({"cpu": "5m", "memory": "32Mi"}, {"cpu": "5m", "memory": "1Gi"})),
        ({"cpu": "1"}, {"memory": "4Gi"}, ({"cpu": "1", "memory": "32Mi"}, {"memory": "4Gi"})),
    ],
)
def test_what_a_spec_states_stands(requests: Any, limits: Any, expected: tuple[Any, Any]) -> None:
    stated = Resources(requests=requests, limits=limits)

    assert build_resources(stated, DEFAULTS) == {"requests": expected[0], "limits": expected[1]}


@requirement("pods.bounded")
@given(AMOUNTS, LIMITS, LIMITS, AMOUNTS)
def test_no_request_is_above_its_limit_and_what_is_stated_stands(
    requests: ResourceAmounts, limits: ResourceLimits, default: ResourceLimits, default_request: ResourceAmounts
) -> None:
    defaults = ContainerDefaults.model_construct(default=default, default_request=default_request)  # type: ignore[arg-type]
    for stated in (Resources(requests=requests), Resources(limits=limits)):
        found = build_resources(stated, defaults)
        asked, most = found.get("requests", {}), found.get("limits", {})
        for kind in asked.keys() & most.keys():
            assert parse_quantity(asked[kind]) <= parse_quantity(most[kind])
        for name, amounts in (("requests", stated.requests), ("limits", stated.limits)):
            own = {} if amounts is None else amounts.model_dump(exclude_none=True)
            assert own.items() <= found.get(name, {}).items()


@requirement("operator.blast-radius")
@pytest.mark.parametrize("text", ["x", "", "NaN", "sNaN", "Infinity", "1Xi", "1e999999999"])
def test_a_quantity_that_an_older_crd_let_in_is_left_to_the_api_server(text: str) -> None:
    stated = Resources.model_construct(requests=ResourceAmounts.model_construct(memory=text), limits=None)

    assert build_resources(stated, DEFAULTS)["requests"]["memory"] == text


def test_a_verification_has_the_same_bounds() -> None:
    job = build_job(VerificationTarget(a_binding().build(), 1, "guard:1"))
    pod = job["spec"]["template"]["spec"]
    assert all("limits" in one["resources"] for one in [*pod["initContainers"], *pod["containers"]])
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


MOST = {"cpu": "500m", "memory": "256Mi", "emptyDir": "64Mi"}


def test_the_largest_amounts_of_a_policy_are_the_limits_of_what_states_none() -> None:
    volume = {"volumes": [{"name": "cache", "emptyDir": {}}], "volumeMounts": [{"name": "cache", "mountPath": "/c"}]}
    agent, binding = an_agent().with_template(**volume), a_binding().with_server(**volume)
    policy = a_policy().with_pod_template(max=MOST)
    of_users = ("agent", "mcp-crm")
    verification = build_job(VerificationTarget(binding.build(), 1, "guard:1", pods=policy.build().spec.pod_template))
    found = [*pods(a_placement(agent, policy=policy, bindings=(binding,))), verification["spec"]["template"]["spec"]]
    containers = [one for pod in found for one in (*pod["initContainers"], *pod["containers"])]
    limits = [one["resources"]["limits"] for one in containers if one["name"] in of_users]
    sizes = {
        one["name"]: one["emptyDir"]["sizeLimit"]
        for pod in found
        for one in pod["volumes"]
        if "emptyDir" in one and one["name"].startswith(("tmp-", "user-", "srv0-"))
    }
    assert limits == [{"cpu": "500m", "memory": "256Mi"}] * 3
    assert sizes == dict.fromkeys(("tmp-agent", "tmp-mcp-crm", "user-cache", "srv0-cache"), "64Mi")


@pytest.mark.parametrize(
    ("default", "most", "expected"),
    [
        ({"memory": "1Gi"}, {}, ("1Gi", None)),
        ({"memory": "1Gi"}, {"memory": "2Gi", "cpu": "2"}, ("1Gi", "2")),
        ({"memory": "1Gi", "cpu": "4"}, {"memory": "1000Mi", "cpu": "2"}, ("1000Mi", "2")),
        ({"memory": "1Gi", "cpu": "1"}, {"memory": "1073741824", "cpu": "1"}, ("1Gi", "1")),
    ],
)
def test_a_default_is_within_the_largest_amount(
    default: dict[str, str], most: dict[str, str], expected: tuple[str, str | None]
) -> None:
    stated = ContainerDefaults.model_validate({"default": default})
    found = bounded_defaults(stated, PodMaximums.model_validate(most))
    assert (found.default.memory, found.default.cpu) == expected
    assert found.default_request == stated.default_request
