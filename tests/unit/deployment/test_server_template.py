"""What an MCPBinding says about its stdio server arrives in the pods that the server runs in."""

import json
from dataclasses import replace
from typing import Any

import pytest

from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from interlock.reconcile.snapshot import Unreadable
from interlock.reconcile.verification_rules import find_pod_rules
from tests.support.builders import (
    GUARD_IMAGE,
    PolicyBuilder,
    a_binding,
    a_placement,
    a_policy,
    a_separate_placement,
    an_agent,
)
from tests.support.pod_security import restricted_violations
from tests.support.pod_templates import SERVER_CASES, server_of

EVERYTHING = {name: value for case in SERVER_CASES.values() for name, value in case.members.items()} | {
    "volumes": [{"name": "data", "emptyDir": {}}],
    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
}
DEFAULTS = {
    "imagePullSecrets": [{"name": "mirror"}],
    "nodeSelector": {"region": "eu"},
    "tolerations": [{"key": "agents", "operator": "Exists"}],
}


def shared(**server: Any) -> dict[str, Any]:
    placement = a_placement(bindings=(a_binding().with_server(**server),))
    found: dict[str, Any] = build_workloads(placement)[0]["spec"]["template"]
    return found


def separate(**server: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    guard, agent = build_workloads(a_separate_placement(bindings=(a_binding().with_server(**server),)))
    return guard["spec"]["template"], agent["spec"]["template"]


def verification(policy: PolicyBuilder | None = None, **server: Any) -> dict[str, Any]:
    binding = a_binding().with_server(**server).build()
    rules = find_pod_rules([(policy or a_policy()).build()], binding).rules
    job = build_job(VerificationTarget(binding, 1, GUARD_IMAGE, pods=rules))
    found: dict[str, Any] = job["spec"]["template"]
    return found


@pytest.mark.parametrize("member", SERVER_CASES)
def test_a_field_arrives_in_each_pod_of_the_server_and_in_no_other(member: str) -> None:
    case = SERVER_CASES[member]
    for pod, plain in (
        (shared(**case.members), shared()),
        (separate(**case.members)[0], separate()[0]),
        (verification(**case.members), verification()),
    ):
        assert case.found(plain) != case.wanted
        assert case.found(pod) == case.wanted
        assert restricted_violations(pod["spec"]) == []
    assert separate(**case.members)[1] == separate()[1]


def test_probes_of_the_guard_stay_and_the_group_is_that_of_the_pipes() -> None:
    before, after = server_of(shared()), server_of(shared(**EVERYTHING))
    for name in ("startupProbe", "livenessProbe"):
        assert after[name] == before[name]
    assert after["securityContext"] == {**before["securityContext"], "runAsUser": 20000}
    assert after["volumeMounts"] == [*before["volumeMounts"], {"name": "srv0-data", "mountPath": "/data"}]
    assert after["command"] == before["command"]


def test_each_server_and_the_agent_mount_volumes_of_their_own() -> None:
    volume = {"volumes": [{"name": "data", "emptyDir": {}}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    bindings = (
        a_binding().with_server(**volume),
        a_binding("mail").serving("mail", "development").with_server(**volume),
    )
    agent = an_agent().using("crm", "mail").with_template(**volume)
    policy = a_policy().giving("triage", "mail", read=["x"])
    (workload,) = build_workloads(a_placement(agent, policy=policy, bindings=bindings))
    pod = workload["spec"]["template"]["spec"]
    names = [one["name"] for one in pod["volumes"]]
    assert len(set(names)) == len(names)
    for name, container in (("user-data", "agent"), ("srv0-data", "mcp-crm"), ("srv1-data", "mcp-mail")):
        assert name in names
        everyone = (*pod["initContainers"], *pod["containers"])
        assert [one["name"] for one in everyone if f'"{name}"' in json.dumps(one["volumeMounts"])] == [container]


def test_the_pod_of_a_server_joins_what_agent_server_and_policy_say() -> None:
    server = {
        "imagePullSecrets": [{"name": "servers"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "ssd", "operator": "Exists"}],
    }
    template = {
        "imagePullSecrets": [{"name": "agents"}],
        "nodeSelector": {"pool": "agents"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
    }
    parts: dict[str, Any] = {
        "policy": a_policy().with_pod_template(default=DEFAULTS),
        "bindings": (a_binding().with_server(**server),),
    }
    agent = an_agent().with_template(**template)
    guard, own = (one["spec"]["template"]["spec"] for one in build_workloads(a_separate_placement(agent, **parts)))
    (both,) = (one["spec"]["template"]["spec"] for one in build_workloads(a_placement(agent, **parts)))

    def of(pod: dict[str, Any]) -> tuple[list[str], dict[str, str], list[str]]:
        return (
            [one["name"] for one in pod["imagePullSecrets"]],
            pod["nodeSelector"],
            [one["key"] for one in pod["tolerations"]],
        )

    everywhere = {"region": "eu", "pool": "agents"}
    assert of(guard) == (["mirror", "servers"], {**everywhere, "disk": "ssd"}, ["agents", "gpu", "ssd"])
    assert of(own) == (["mirror", "agents"], everywhere, ["agents", "gpu"])
    assert of(both) == (["mirror", "agents", "servers"], {**everywhere, "disk": "ssd"}, ["agents", "gpu", "ssd"])
    pod = verification(parts["policy"], **server)["spec"]
    assert of(pod) == (["mirror", "servers"], {"region": "eu", "disk": "ssd"}, ["agents", "ssd"])


def test_a_verification_runs_by_the_first_policy_that_uses_the_source_and_allows_the_server() -> None:
    binding = a_binding().with_server(workingDir="/app").build()
    strict = a_policy().named("a-strict").with_pod_template(allow=[]).build()
    other = a_policy().named("b-other").giving_nothing().with_pod_template(default={"nodeSelector": {"x": "y"}}).build()
    lenient = a_policy().named("c-lenient").with_pod_template(default=DEFAULTS).build()
    gone = a_policy().named("d-gone").being_deleted("x").build()
    assert find_pod_rules([strict, other, lenient, gone], binding) == (lenient.spec.pod_template, "")
    assert find_pod_rules([other, gone], binding) == (other.spec.pod_template, "")
    assert find_pod_rules([strict, other, gone], binding).refusal == (
        "spec.server.stdio.workingDir: AgentPolicy a-strict does not allow Container: add Container to "
        "spec.podTemplate.allow there, or remove the field"
    )


def test_a_source_that_no_policy_uses_escapes_none_of_them() -> None:
    binding = a_binding().with_server(tolerations=[{"operator": "Exists"}]).build()
    strict = a_policy().named("a-strict").giving_nothing().with_pod_template(allow=[]).build()
    lenient = a_policy().named("b-lenient").giving_nothing().with_pod_template(default=DEFAULTS).build()
    assert "AgentPolicy a-strict does not allow Scheduling" in find_pod_rules([strict], binding).refusal
    assert find_pod_rules([strict, lenient], binding) == (lenient.spec.pod_template, "")
    assert find_pod_rules([], binding).refusal == ""


def test_a_policy_that_cannot_be_read_keeps_servers_from_running_unless_another_one_uses_their_source() -> None:
    binding = a_binding().build()
    unread = Unreadable("AgentPolicy", "0-unread", "spec.podTemplate: is none")
    other = a_policy().named("b-other").giving_nothing().build()
    lenient = a_policy().named("c-lenient").with_pod_template(default=DEFAULTS).build()
    for found in ([unread], [unread, other]):
        assert find_pod_rules(found, binding).refusal == (
            "AgentPolicy 0-unread, which may say how the server's pod runs, cannot be read: spec.podTemplate: is none; "
            "fix it, or delete it"
        )
    assert find_pod_rules([unread, other, lenient], binding) == (lenient.spec.pod_template, "")
    elsewhere = replace(unread, rest=other)
    assert find_pod_rules([elsewhere, other], binding).refusal == "", "what can be read of it uses another source"
    assert find_pod_rules([replace(unread, rest=lenient), other], binding).refusal != ""


def test_a_policy_that_requires_digests_keeps_a_tag_from_being_verified() -> None:
    policy = a_policy().with_pod_template(imageReferences="Digest").build()
    assert "requires images by digest" in find_pod_rules([policy], a_binding().build()).refusal


def test_a_policy_in_audit_whose_agents_use_the_source_has_a_say_without_a_row() -> None:
    binding = a_binding().build()
    other = a_policy().named("a-other").giving_nothing().with_pod_template(default={"nodeSelector": {"x": "y"}}).build()
    auditing = a_policy().named("b-audit").giving_nothing().with_pod_template(default=DEFAULTS)
    auditing = auditing.with_environments({"name": "development", "mode": "Audit"})
    assert find_pod_rules([other, auditing.build()], binding, {"b-audit"}).rules == auditing.build().spec.pod_template
    assert find_pod_rules([other, auditing.build()], binding).rules == other.spec.pod_template, "no agent of it does"
    enforcing = a_policy().named("b-audit").giving_nothing().with_pod_template(default=DEFAULTS).build()
    assert find_pod_rules([other, enforcing], binding, {"b-audit"}).rules == other.spec.pod_template
