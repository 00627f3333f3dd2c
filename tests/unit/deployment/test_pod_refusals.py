"""The way out where a ResourceQuota or a LimitRange refuses pods. The words are those of an API server of 1.37."""

from typing import Any

import pytest

from interlock.deployment.observed.causes import read_warning
from interlock.deployment.observed.pod_refusals import find_way_out
from interlock.deployment.observed.readiness import readiness_of, readiness_of_all
from tests.requirements import requirement

FORBIDDEN = 'pods "triage-3ad1f1f6d5-6c9f8-x2x4j" is forbidden: '
EXCEEDED = "exceeded quota: small, requested: limits.cpu=2, used: limits.cpu=1, limited: limits.cpu=2"
UNSTATED = "failed quota: small: must specify limits.cpu for: agent,mcp-crm; requests.memory for: agent"
REFUSALS = {
    EXCEEDED: ("ResourceQuota small has no room", "lower replicas", "describe resourcequotas small"),
    UNSTATED: ("ResourceQuota small needs amounts", "spec.resources of the AgentPolicy"),
    "maximum cpu usage per Container is 500m, but limit is 1": ("a LimitRange of namespace agents", "guardResources"),
    "minimum memory usage per Container is 64Mi, but request is 48Mi": ("a LimitRange", "describe limitranges"),
    "cpu max limit to request ratio per Container is 4, but provided ratio is 50.000000": ("a LimitRange",),
    "maximum memory usage per Pod is 1Gi, but limit is 1207959552": ("a LimitRange",),
    "[maximum cpu usage per Container is 500m, but limit is 1, maximum memory usage per Container is 64Mi, but limit "
    "is 128Mi]": ("a LimitRange",),
    "maximum cpu usage per Container is 500m.  No limit is specified": ("a LimitRange",),
}


@requirement("status.quotas")
@pytest.mark.parametrize(("words", "said"), REFUSALS.items())
def test_the_object_that_refuses_is_named_with_the_way_out(words: str, said: tuple[str, ...]) -> None:
    found = find_way_out(FORBIDDEN + words, "agents")

    assert all(one in found for one in said), found


@requirement("status.quotas")
@pytest.mark.parametrize(
    "message",
    [
        "",
        EXCEEDED,
        'pods "x" is forbidden: error looking up service account agents/x: serviceaccount "x" not found',
        FORBIDDEN + "exceeded quota: No_Name, requested: pods=1",
        'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    ],
)
def test_another_message_has_no_such_way_out(message: str) -> None:
    assert find_way_out(message, "agents") == ""


def a_refused_deployment(message: str) -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": "True", "message": message}
    return {
        "metadata": {"generation": 1, "namespace": "agents"},
        "spec": {"replicas": 1},
        "status": {"observedGeneration": 1, "conditions": [condition]},
    }


@requirement("status.quotas")
def test_of_two_deployments_the_refusal_and_its_way_out_are_of_the_same_one() -> None:
    plain, quota = map(readiness_of, (a_refused_deployment("no"), a_refused_deployment(FORBIDDEN + EXCEEDED)))

    assert "ResourceQuota small" in readiness_of_all([quota, plain]).way_out
    assert (readiness_of_all([plain, quota]).refused, readiness_of_all([plain, quota]).way_out) == ('"no"', "")


@requirement("status.quotas")
def test_the_event_of_a_job_without_a_pod_has_the_way_out() -> None:
    event = {
        "metadata": {"namespace": "agents"},
        "regarding": {"kind": "Job", "uid": "1"},
        "reason": "FailedCreate",
        "note": f"Error creating: {FORBIDDEN}{UNSTATED}",
    }
    found = read_warning(event)

    assert found is not None
    assert "its Job: FailedCreate" in found.message
    assert "; ResourceQuota small needs amounts" in found.message
