"""The tests of a stage: locked-down Jobs that reach one placement's guards, and what their ends say."""

import json
from typing import Any

import pytest

from interlock.api.gates import StageTest
from interlock.deployment.children.services import build_public_service
from interlock.deployment.children.stage_tests import (
    StageService,
    build_test_job,
    build_test_support,
    stage_test_selector,
)
from interlock.deployment.children.workload import build_workloads
from interlock.deployment.names import stage_test_account, stage_test_job
from interlock.deployment.observed.pod_reports import AgentPods, read_pod
from interlock.deployment.observed.stage_tests import read_test
from interlock.deployment.placement import Placement
from interlock.orchestration.gates import TestOutcome
from interlock_contract.pod import TASK_PORT
from tests.support.builders import a_placement, a_separate_placement, an_agent

SERVICE = StageService("guard-triage--staging", ("10.96.0.7", "fd00::7"))
SMOKE = StageTest.model_validate(
    {
        "name": "smoke",
        "image": "registry.example.com/smoke:1",
        "command": ["/smoke"],
        "args": ["--all"],
        "env": [{"name": "LEVEL", "value": "2"}],
        "deadline": "1m30s",
    }
)


def job(placement: Placement, number: int = 3, test: StageTest = SMOKE) -> dict[str, Any]:
    return build_test_job(placement, test, number, SERVICE)


def test_a_test_runs_once_and_its_own_deadline_keeps_its_pod_with_its_log() -> None:
    spec = job(a_placement())["spec"]
    pod = spec["template"]["spec"]
    assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert (pod["activeDeadlineSeconds"], spec["activeDeadlineSeconds"]) == (90, 390)
    assert "ttlSecondsAfterFinished" not in spec  # it would run again
    assert pod["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError"
    assert pod["terminationGracePeriodSeconds"] == 1  # a kill waits no longer


def test_a_tests_container_is_locked_down_and_gets_nothing_but_what_it_says() -> None:
    pod = job(a_placement())["spec"]["template"]["spec"]
    assert not pod["automountServiceAccountToken"]
    assert pod["serviceAccountName"] == stage_test_account(a_placement())
    assert [list(volume) for volume in pod["volumes"]] == [["name", "emptyDir"]]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "runAsUser": 10002,
        "runAsGroup": 10002,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["securityContext"]["runAsNonRoot"]
    assert (container["image"], container["command"], container["args"]) == (SMOKE.image, ["/smoke"], ["--all"])
    assert container["env"] == [
        {"name": "LEVEL", "value": "2"},
        {"name": "INTERLOCK_TASK_URL", "value": "http://guard-triage--staging"},
    ]
    assert container["resources"]["limits"] == {"memory": "1Gi"}


def test_a_test_finds_its_stage_without_dns() -> None:
    pod = job(a_placement())["spec"]["template"]["spec"]
    assert pod["dnsPolicy"] == "None"
    assert pod["hostAliases"] == [
        {"ip": "10.96.0.7", "hostnames": ["guard-triage--staging"]},
        {"ip": "fd00::7", "hostnames": ["guard-triage--staging"]},
    ]


@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
def test_a_tests_pod_reaches_the_guards_of_its_placement_at_the_port_of_tasks_and_nothing_else(build: Any) -> None:
    placement = build()
    account, policy = build_test_support(placement)
    assert account["kind"] == "ServiceAccount"
    assert not account["automountServiceAccountToken"]
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in spec
    [rule] = spec["egress"]
    assert rule["ports"] == [{"port": TASK_PORT, "protocol": "TCP"}]
    [peer] = rule["to"]
    reached = peer["podSelector"]["matchLabels"]
    test_pod = job(placement)["spec"]["template"]["metadata"]["labels"]
    templates = [one["spec"]["template"]["metadata"]["labels"] for one in build_workloads(placement)]
    assert [reached.items() <= labels.items() for labels in templates].count(True) == 1
    assert spec["podSelector"]["matchLabels"] == stage_test_selector(placement)
    assert spec["podSelector"]["matchLabels"].items() <= test_pod.items()
    assert not any(spec["podSelector"]["matchLabels"].items() <= labels.items() for labels in templates)


@pytest.mark.parametrize("build", [a_placement, a_separate_placement])
def test_nothing_takes_a_tests_pod_for_one_of_the_agents_but_the_kill(build: Any) -> None:
    placement = build()
    labels = job(placement)["spec"]["template"]["metadata"]["labels"]
    assert labels["interlock.dev/agent"] == "triage"  # by which a kill ends it, and admission refuses it
    for workload in build_workloads(placement):
        assert not workload["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert not build_public_service(placement)["spec"]["selector"].items() <= labels.items()
    waiting = {"name": "test", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    pod = {"metadata": {"uid": "u", "labels": labels}, "status": {"containerStatuses": [waiting]}}
    pods = AgentPods((read_pod(pod),))
    assert pods.of(placement.stage.name, placement.revision) == ()
    assert pods.cause(placement.stage.name, placement.revision) == ""


def test_each_number_stage_and_test_has_a_job_of_its_own_name() -> None:
    agent, other = (one.build().metadata for one in (an_agent(), an_agent("other")))
    names = {
        stage_test_job(agent, "staging", "a" * 64, 3, "smoke"),
        stage_test_job(agent, "staging", "a" * 64, 4, "smoke"),
        stage_test_job(agent, "staging", "a" * 64, 3, "load"),
        stage_test_job(agent, "region", "a" * 64, 3, "smoke"),
        stage_test_job(other, "staging", "a" * 64, 3, "smoke"),
    }
    assert len(names) == 5
    assert all(len(name) <= 63 for name in names)
    assert stage_test_job(agent, "staging", "a" * 64, 3, "smoke") in names


# The results


def ended(*, complete: bool = False, reason: str = "BackoffLimitExceeded") -> dict[str, Any]:
    kind = "Complete" if complete else "Failed"
    return {"status": {"conditions": [{"type": kind, "status": "True", "reason": reason}]}}


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    statuses = [] if state is None else [{"name": "test", "state": state}]
    return {"metadata": {}, "status": {"containerStatuses": statuses, **status}}


def terminated(code: int, message: str = "", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "message": message, "startedAt": "2026-03-02T09:00:00Z", **more}}


GONE = [{"type": "DisruptionTarget", "status": "True"}]
PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}


@pytest.mark.parametrize(
    ("found", "pods", "outcome", "code", "log"),
    [
        (None, [], TestOutcome.RUNNING, None, ""),
        ({}, [pod({"running": {}})], TestOutcome.RUNNING, None, ""),
        ({"status": {"conditions": [{"type": "Failed", "status": "False"}]}}, [], TestOutcome.RUNNING, None, ""),
        (ended(complete=True), [pod(terminated(0, "all good"))], TestOutcome.PASSED, 0, "all good"),
        (ended(complete=True), [], TestOutcome.PASSED, 0, ""),
        (ended(), [pod(terminated(3, "no answer"))], TestOutcome.FAILED, 3, "no answer"),
        (
            ended(),
            [pod(terminated(137, "slow"), reason="DeadlineExceeded")],
            TestOutcome.FAILED,
            137,
            "slow",
        ),
        (
            ended(),
            [pod({"running": {}}, reason="DeadlineExceeded")],
            TestOutcome.FAILED,
            None,
            "its deadline is exceeded",
        ),
        # What says nothing about the agent.
        (
            ended(),
            [pod(PULL, reason="DeadlineExceeded")],
            TestOutcome.LOST,
            None,
            "it did not start before its deadline: ImagePullBackOff: no such image",
        ),
        (ended(), [pod(PULL)], TestOutcome.LOST, None, "it did not start: ImagePullBackOff: no such image"),
        (ended(), [pod()], TestOutcome.LOST, None, "it did not start: no node had started it"),
        (ended(), [], TestOutcome.LOST, None, "its pod was deleted before its end was seen, such as by a kill"),
        (ended(reason="DeadlineExceeded"), [], TestOutcome.LOST, None, "its pod was deleted before its end was seen"),
        (ended(), [pod(terminated(137), conditions=GONE)], TestOutcome.LOST, None, "its pod was deleted or went"),
        (
            ended(),
            [pod(terminated(137, reason="ContainerStatusUnknown"))],
            TestOutcome.LOST,
            None,
            "its pod was deleted or went",
        ),
        (
            ended(),
            [pod(terminated(143)) | {"metadata": {"deletionTimestamp": "2026-03-02T09:00:00Z"}}],
            TestOutcome.LOST,
            None,
            "its pod was deleted or went",
        ),
    ],
)
def test_a_test_has_failed_only_if_it_ran_to_its_end(
    found: Any, pods: list[Any], outcome: TestOutcome, code: int | None, log: str
) -> None:
    result = read_test(found, pods)
    assert (result.outcome, result.exit_code) == (outcome, code)
    assert result.log.startswith(log)


def test_the_last_bytes_of_a_log_are_kept() -> None:
    log = read_test(ended(), [pod(terminated(1, "x" * 5000 + "ä" * 10 + "end"))]).log
    assert log.endswith("ääend")
    assert len(log.encode()) <= 4096


@pytest.mark.parametrize("character", ["<", "\x01", "\u2028", '"', "ä"])
def test_a_log_takes_no_more_room_in_the_status_than_its_bound(character: str) -> None:
    """The attack: a test prints what takes six bytes in JSON, until a kill has no room in the Agent."""
    log = read_test(ended(), [pod(terminated(1, character * 4096 + "end"))]).log
    written = json.dumps(log, ensure_ascii=False).replace("<", "\\u003c").strip('"')
    assert log.endswith("end")
    assert len(written.encode()) <= 4096
