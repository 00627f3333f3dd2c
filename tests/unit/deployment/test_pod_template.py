"""What an agent's template says arrives in its pods, and leaves what is Interlock's as it is."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from interlock.api.pod_template import PodMetadata
from interlock.deployment.children.stage_tests import StageService, build_test_job
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import pod_labels
from interlock.deployment.placement import Placement
from interlock_contract.names import SCHEDULING_DIGEST
from tests.support.builders import PolicyBuilder, a_placement, a_policy, a_separate_placement, a_stage, an_agent
from tests.support.pod_security import restricted_violations
from tests.support.pod_templates import CASES, agent_of

FOR_BOTH = ("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "priorityClassName")
ALL_MEMBERS = {
    **{name: value for case in CASES.values() for name, value in case.members.items()},
    "metadata": {"labels": {"user.interlock.dev/team": "a"}, "annotations": {"user.interlock.dev/ticket": "42"}},
    "volumes": [{"name": "data", "emptyDir": {}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "a"}],
}


def of_one_revision(placement: Placement) -> Placement:
    """Return the placement with the names that another template's placement has, so that pods can be compared."""
    return replace(placement, revision="0" * 64, agent_key="key")


def shared(template: dict[str, Any], policy: PolicyBuilder | None = None) -> dict[str, Any]:
    placement = a_placement(an_agent().with_template(**template), policy=policy or a_policy())
    found: dict[str, Any] = build_workloads(of_one_revision(placement))[0]["spec"]["template"]
    return found


def separate(template: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    placement = of_one_revision(a_separate_placement(an_agent().with_template(**template)))
    guard, agent = build_workloads(placement)
    return guard["spec"]["template"], agent["spec"]["template"]


@pytest.mark.parametrize("member", CASES)
def test_a_field_arrives_in_the_agents_pod(member: str) -> None:
    case = CASES[member]
    assert case.found(shared({})) != case.wanted
    assert case.found(shared(case.members)) == case.wanted
    assert case.found(separate(case.members)[1]) == case.wanted


@pytest.mark.parametrize("member", CASES)
def test_a_separate_guards_pod_takes_only_where_it_runs(member: str) -> None:
    plain, guard = separate({})[0], separate(CASES[member].members)[0]
    if member in FOR_BOTH:
        assert guard["spec"].pop(member) == CASES[member].wanted
    assert guard == plain


def test_mounts_of_the_template_come_after_those_of_interlock() -> None:
    template = {
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "config", "emptyDir": {"sizeLimit": "1Mi"}}],
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "subPath": "a/b", "readOnly": True},
            {"name": "config", "mountPath": "/tmp/config"},  # noqa: S108 - a path in the container
        ],
    }
    pod = shared(template)
    assert agent_of(pod)["volumeMounts"] == [
        *agent_of(shared({}))["volumeMounts"],
        {"name": "user-data", "mountPath": "/data", "subPath": "a/b", "readOnly": True},
        {"name": "user-config", "mountPath": "/tmp/config"},  # noqa: S108 - a path in the container
    ]
    assert pod["spec"]["volumes"] == [
        *shared({})["spec"]["volumes"],
        {"name": "user-data", "emptyDir": {"sizeLimit": "512Mi"}},
        {"name": "user-config", "emptyDir": {"sizeLimit": "1Mi"}},
    ]
    mounting = [one["name"] for one in pod["spec"]["initContainers"] if "user-" in json.dumps(one["volumeMounts"])]
    assert mounting == []


def test_a_readiness_probe_replaces_the_one_of_the_port_of_tasks() -> None:
    def probe_of(template: dict[str, Any]) -> Any:
        placement = a_placement(an_agent().taking_tasks(8080).with_template(**template))
        return agent_of(build_workloads(placement)[0]["spec"]["template"])["readinessProbe"]

    assert probe_of({})["tcpSocket"] == {"port": 8080}
    assert probe_of({"readinessProbe": {"httpGet": {"port": 9000}}}) == {"httpGet": {"port": 9000}}


def test_the_grace_period_is_that_of_the_pods_of_agent_and_guard() -> None:
    guard, agent = separate({"terminationGracePeriodSeconds": 30})
    assert agent["spec"]["terminationGracePeriodSeconds"] == 30
    assert guard["spec"]["terminationGracePeriodSeconds"] == 30
    assert shared({})["spec"]["terminationGracePeriodSeconds"] == 1


DEFAULTS = {
    "imagePullSecrets": [{"name": "mirror"}],
    "nodeSelector": {"pool": "agents"},
    "tolerations": [{"key": "agents", "operator": "Exists"}],
}


def test_the_policys_defaults_are_added_to_each_pod() -> None:
    policy = a_policy().with_pod_template(default=DEFAULTS)
    template = {
        "imagePullSecrets": [{"name": "own"}, {"name": "mirror"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    agent = an_agent().with_template(**template)
    guard, own = (
        one["spec"]["template"]["spec"] for one in build_workloads(a_separate_placement(agent, policy=policy))
    )
    for pod in (guard, own, shared(template, policy)["spec"]):
        assert pod["nodeSelector"] == {"pool": "agents", "disk": "ssd"}
        assert [one["key"] for one in pod["tolerations"]] == ["agents", "gpu"]
    assert own["imagePullSecrets"] == [{"name": "mirror"}, {"name": "own"}]
    assert guard["imagePullSecrets"] == [{"name": "mirror"}]


def test_tests_of_a_stage_run_where_the_agent_runs() -> None:
    test = {"name": "smoke", "image": "smoke:1", "command": ["/smoke"], "deadline": "1m"}
    agent = an_agent().with_template(**ALL_MEMBERS).with_stages(a_stage("dev", "development") | {"tests": [test]})
    placement = a_placement(agent, policy=a_policy().with_pod_template(default=DEFAULTS))
    (one,) = placement.stage.tests
    job = build_test_job(placement, one, 1, StageService("svc", ("10.96.0.9",)))
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"pool": "agents"}
    assert [one["key"] for one in pod["tolerations"]] == ["agents", "gpu"]
    assert pod["imagePullSecrets"] == [{"name": "mirror"}, {"name": "registry"}]
    assert "affinity" not in pod


def test_required_anti_affinity_keeps_only_pods_of_the_agent_away() -> None:
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    terms = [{"topologyKey": "zone", "labelSelector": {"matchLabels": {"interlock.dev/agent": "another"}}}]
    guard, agent = separate({"affinity": {"podAntiAffinity": {required: [{"topologyKey": "zone"}, *terms]}}})
    for pod, component in ((guard, "guard"), (agent, "agent")):
        own = {"interlock.dev/agent": "triage", "app.kubernetes.io/component": component}
        found = pod["spec"]["affinity"]["podAntiAffinity"][required]
        assert [one["labelSelector"]["matchLabels"] for one in found] == [own, own]


def test_pods_are_spread_among_those_of_their_placement_by_default() -> None:
    spread = [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}]
    for pod in separate({"topologySpreadConstraints": spread}):
        selected = pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
        assert selected.items() <= pod["metadata"]["labels"].items()


def test_keys_that_the_default_of_a_spread_selects_already_are_left_out() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    spread |= {"matchLabelKeys": ["interlock.dev/agent", "pod-template-hash"]}
    for pod in separate({"topologySpreadConstraints": [spread]}):
        assert pod["spec"]["topologySpreadConstraints"][0]["matchLabelKeys"] == ["pod-template-hash"]


def test_an_agent_that_must_stay_keeps_its_guard_and_nothing_else_reaches_the_guards_pod() -> None:
    stay = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    plain = separate({})[0]["metadata"]
    own = {"user.interlock.dev/team": "a"}
    guard, agent = separate({"metadata": {"labels": own, "annotations": stay | own}})
    assert guard["metadata"] == {**plain, "annotations": plain["annotations"] | stay}
    assert (stay | own).items() <= agent["metadata"]["annotations"].items()


def test_labels_and_annotations_of_interlock_count_also_if_a_template_could_name_them() -> None:
    plain = of_one_revision(a_placement())
    ours = build_workloads(plain)[0]["spec"]["template"]["metadata"]
    taken = PodMetadata.model_construct(
        labels=dict.fromkeys(ours["labels"], "taken"), annotations=dict.fromkeys(ours["annotations"], "taken")
    )
    template = plain.agent.spec.template.model_copy(update={"metadata": taken})
    spec = plain.agent.spec.model_copy(update={"template": template})
    hostile = replace(plain, agent=plain.agent.model_copy(update={"spec": spec}))
    assert build_workloads(hostile)[0]["spec"]["template"]["metadata"] == ours


@pytest.mark.parametrize("placement", [a_placement, a_separate_placement])
def test_a_template_with_everything_leaves_what_is_interlocks(placement: Callable[..., Placement]) -> None:
    with_everything = of_one_revision(placement(an_agent().with_template(**ALL_MEMBERS)))
    plain = of_one_revision(placement(an_agent()))
    for full, bare in zip(build_workloads(with_everything), build_workloads(plain), strict=True):
        component = full["metadata"]["labels"]["app.kubernetes.io/component"]
        template, before = full["spec"]["template"], bare["spec"]["template"]
        for one in (full, bare):
            one["metadata"]["annotations"].pop(
                SCHEDULING_DIGEST
            )  # which is of the template, and for the operator alone
        assert full["metadata"] == bare["metadata"]
        assert full["spec"]["selector"] == bare["spec"]["selector"]
        assert pod_labels(plain, component).items() <= template["metadata"]["labels"].items()
        assert before["metadata"]["annotations"].items() <= template["metadata"]["annotations"].items()
        assert template["spec"].get("initContainers") == before["spec"].get("initContainers")
        for name in ("serviceAccountName", "automountServiceAccountToken", "securityContext", "hostAliases"):
            assert template["spec"].get(name) == before["spec"].get(name)
        assert restricted_violations(template["spec"]) == []
