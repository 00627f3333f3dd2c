"""Admission of an Agent without a row of the access matrix, which only mode Audit of its first environment allows."""

from typing import Any

import pytest

from interlock.api.agent import Agent
from interlock.api.policy import AgentPolicy
from interlock.governance.governed import is_audited
from tests.integration.kubectl import Api, eventually
from tests.integration.test_admission import agent, create, declaring, kubectl, namespace, stage

__all__ = ["kubectl", "namespace"]

pytestmark = pytest.mark.api

AUDIT = {"name": "development", "mode": "Audit"}
QA = {"name": "qa", "class": "development"}
FREE = {"minStaging": "0s", "requireLimitedScope": False}
DEV, STAGING = stage("dev", "development"), stage("staging", "staging")


@pytest.mark.parametrize(
    ("policy_manifest", "agent_manifest", "is_admitted"),
    [
        (declaring(AUDIT), agent(sources=("mail",)), True),
        (declaring(AUDIT, **FREE), agent(DEV, STAGING, sources=("mail",)), True),
        (declaring({**QA, "mode": "Audit"}), agent(stage("qa", "qa"), sources=("mail",)), True),
        (declaring({**AUDIT, "mode": "Enforce"}), agent(sources=("mail",)), False),
        (declaring(AUDIT, **FREE), agent(STAGING, sources=("mail",)), False),
        (declaring({**QA, "mode": "Audit"}), agent(sources=("mail",)), False),
        (declaring({**QA, "mode": "Audit"}), agent(DEV, stage("qa", "qa"), sources=("mail",)), False),
    ],
)
def test_a_missing_row_is_admitted_where_the_first_stage_is_in_mode_audit(
    server: Api, namespace: str, policy_manifest: dict[str, Any], agent_manifest: dict[str, Any], *, is_admitted: bool
) -> None:
    create(server, namespace, policy_manifest)
    read, policy = Agent.model_validate(agent_manifest), AgentPolicy.model_validate(policy_manifest)
    assert is_audited(read, policy, 0) is is_admitted

    def is_answered() -> bool:  # the policy reaches admission within a moment
        answer = server.try_create(agent_manifest, namespace)
        return answer.ok if is_admitted else "has no dataAccess row" in answer.text

    eventually(is_answered, lambda: server.try_create(agent_manifest, namespace).text)
