"""The setting with the pull secrets of the installation reaches the pods of agents, verifications and notifiers."""

import pytest

from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, an_agent
from tests.support.small_operator import SmallOperator


@requirement("pods.installed-pull-secrets")
async def test_every_workload_of_an_operator_names_the_secrets_of_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_IMAGE_PULL_SECRETS", '[{"name": "registry-login"}]')
    operator = SmallOperator()
    unverified = a_binding("mail").unverified()
    for one in (a_policy().notifying("chat"), a_binding(), an_agent(), unverified.serving("mail", "development")):
        operator.put(one.to_kubernetes())
    for kind, name in ((AGENT_POLICY, "support"), (MCP_BINDING, "mail"), (AGENT, "triage")):
        assert await operator.turn(kind, ("agents", name))

    workloads = [*operator.client.of_kind("Deployment").values(), *operator.client.of_kind("Job").values()]

    assert {one["kind"] for one in workloads} == {"Deployment", "Job"}
    assert len(workloads) == 3
    for one in workloads:
        assert one["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry-login"}], one["metadata"]
