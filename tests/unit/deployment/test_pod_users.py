"""The users and groups of a pod's containers, and the range of a namespace of OpenShift."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.action.actions_bound import check_action
from interlock.api.agent_reasons import AgentReason
from interlock.api.gates import StageTest
from interlock.deployment.children.notifier import build_notifier
from interlock.deployment.children.stage_tests import StageService, build_test_job
from interlock.deployment.children.verification_job import VerificationTarget, build_job
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.pod_users import DEFAULT_USERS, GROUP_RANGES, UID_RANGE, Ids, PodUsers, users_of
from interlock.reconcile.verification_rules import find_pod_rules
from interlock_contract.pod import AGENT_UID, GUARD_GID, GUARD_UID, NOTIFIER_UID
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

FIRST, LAST = 1000680000, 1000689999
OPENSHIFT = {UID_RANGE: f"{FIRST}/10000", GROUP_RANGES: f"{FIRST}/10000"}
UNUSABLE = {
    "of a node's own programs": "1/10000",
    "too small": "1000680000/20",
    "no range": "all",
    "no number": "1000680000/many",
    "beyond what Kubernetes takes": "2147483600/10000",
    "no text": 7,
}


def ids_of(*manifests: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Return user and group of each container."""
    pods = [one["spec"]["template"]["spec"] for one in manifests]
    found = [one for pod in pods for one in (*pod.get("initContainers", ()), *pod["containers"])]
    return {one["name"]: (one["securityContext"]["runAsUser"], one["securityContext"]["runAsGroup"]) for one in found}


def everything(users: PodUsers) -> dict[str, tuple[int, int]]:
    """Return user and group of each kind of container that there is."""
    separate = replace(a_separate_placement(), users=users)
    test = StageTest.model_validate({"name": "smoke", "image": "registry.example.com/smoke:1"})
    verification = VerificationTarget(a_binding().build(), 1, GUARD_IMAGE, users=users)
    return ids_of(
        *build_workloads(replace(a_placement(), users=users)),
        *build_workloads(separate),
        build_test_job(separate, test, 1, StageService("guard-triage--development", ("10.96.0.42",))),
        build_job(verification),
        build_notifier(a_policy().notifying("chat").build(), GUARD_IMAGE, API_SERVER, users=users)[-1],
    )


@requirement("pods.users")
def test_without_an_annotation_users_and_groups_are_those_of_before() -> None:
    assert users_of({}) == DEFAULT_USERS
    assert everything(DEFAULT_USERS) == {
        "guard": (GUARD_UID, GUARD_GID),
        "launcher": (10004, 10004),
        "mcp-crm": (10010, GUARD_GID),
        "agent": (AGENT_UID, AGENT_UID),
        "egress-check": (10003, 10003),
        "test": (AGENT_UID, AGENT_UID),
        "pipes": (GUARD_UID, GUARD_GID),
        "verifier": (GUARD_UID, GUARD_GID),
        "notifier": (NOTIFIER_UID, NOTIFIER_UID),
    }


@requirement("pods.users")
def test_in_a_namespace_of_openshift_all_are_of_its_range_and_stay_apart() -> None:
    found = everything(users_of(OPENSHIFT))

    assert found.keys() == everything(DEFAULT_USERS).keys()
    assert all(FIRST < one <= LAST for ids in found.values() for one in ids)
    apart = ("guard", "launcher", "mcp-crm", "agent", "egress-check", "notifier")
    assert len({found[name][0] for name in apart}) == len(apart)
    assert found["mcp-crm"][1] == found["guard"][1] == found["verifier"][1]
    for name in ("agent", "test", "egress-check", "launcher", "notifier"):
        assert found[name][1] != found["guard"][1], name


@requirement("pods.users")
def test_the_group_that_openshift_gives_to_the_whole_pod_is_not_the_guards() -> None:
    other = users_of({**OPENSHIFT, GROUP_RANGES: "1000700000-1000709999,5000/10000"})

    assert users_of(OPENSHIFT).guard.gid != FIRST
    assert (other.guard.gid, other.agent.gid, other.guard.uid) == (1000700001, 1000700002, FIRST + 1)
    assert users_of({UID_RANGE: f"{FIRST}-{LAST}"}) == users_of(OPENSHIFT)
    overlapping = {**OPENSHIFT, GROUP_RANGES: f"{FIRST + 1}/1,{FIRST}/10000"}
    assert users_of(overlapping) == DEFAULT_USERS, "OpenShift gives the pod the group FIRST + 1"


@requirement("pods.users")
@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE)
def test_a_range_that_cannot_be_used_changes_nothing(text: object) -> None:
    assert users_of({UID_RANGE: text}) == DEFAULT_USERS
    assert users_of({**OPENSHIFT, GROUP_RANGES: text}) in (DEFAULT_USERS, users_of(OPENSHIFT))


@requirement("pods.users")
def test_a_template_chooses_no_user_of_another_container_in_its_namespace() -> None:
    users = users_of(OPENSHIFT)

    assert users.choose(users.agent, None, None) == users.agent
    assert users.choose(users.agent, FIRST + 500, FIRST + 600) == Ids(FIRST + 500, FIRST + 600)
    for taken in (users.guard, users.server(3), users.launcher):
        assert users.choose(users.agent, taken.uid, taken.gid) == users.agent


TAKEN = (FIRST + 1, FIRST + 2, FIRST + 10)
"""The guard, the agent and the first server."""


@requirement("pods.users")
@pytest.mark.parametrize("number", TAKEN)
def test_an_agent_that_chooses_a_user_of_interlock_in_its_namespace_is_refused(number: int) -> None:
    policy = a_policy().with_pod_template(allow=["Users"]).build()
    agent = an_agent().with_template(securityContext={"runAsUser": number, "runAsGroup": number}).build()
    refused = check_action(agent, policy, (a_binding().build(),), reserved_ids=users_of(OPENSHIFT).reserved)
    assert refused is not None
    assert refused.reason == AgentReason.TEMPLATE_NOT_ALLOWED
    for field in ("runAsUser", "runAsGroup"):
        assert (
            f"spec.template.securityContext.{field}: {number} is a user or group of Interlock's containers in this "
            "namespace: write a larger number of the range in the annotation openshift.io/sa.scc.uid-range"
        ) in refused.message
    assert check_action(agent, policy, (a_binding().build(),), reserved_ids=DEFAULT_USERS.reserved) is None
    alone = an_agent().using().with_template(securityContext={"runAsUser": number}).build()
    assert check_action(alone, policy, (), reserved_ids=users_of(OPENSHIFT).reserved) is not None


@requirement("pods.users")
@pytest.mark.parametrize("number", TAKEN)
def test_a_server_that_chooses_one_is_refused_and_not_verified(number: int) -> None:
    reserved = users_of(OPENSHIFT).reserved
    policy = a_policy().with_pod_template(allow=["Users"]).build()
    binding = a_binding().with_server(securityContext={"runAsUser": number}).build()
    sentence = f"spec.server.stdio.securityContext.runAsUser: {number} is a user or group of Interlock's containers"
    refused = check_action(an_agent().build(), policy, (binding,), reserved_ids=reserved)
    assert refused is not None
    assert f"MCPBinding crm: {sentence}" in refused.message
    assert find_pod_rules([policy], binding, reserved_ids=reserved).refusal.startswith(sentence)
    assert find_pod_rules([policy], binding).refusal == ""


@requirement("pods.users")
@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.integers(1, 20_000))
def test_no_two_containers_share_a_user_whatever_the_ranges(uid: int, gid: int, size: int) -> None:
    users = users_of({UID_RANGE: f"{uid}/{size}", GROUP_RANGES: f"{gid}/{size}"})

    alone = [users.agent, users.egress_check, users.launcher, users.notifier]
    guards = [users.guard, *map(users.server, range(64))]
    assert len({one.uid for one in (*alone, *guards)}) == len(alone) + len(guards)
    assert {one.gid for one in guards} == {users.guard_gid}
    assert users.guard_gid not in {one.gid for one in alone}
    assert all(one.uid in users.reserved and one.gid in users.reserved for one in (*alone, *guards))
    assert 0 not in users.reserved
