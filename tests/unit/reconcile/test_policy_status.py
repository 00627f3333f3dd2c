"""What the status of policies and bindings says about the Agents that depend on them."""

import copy
from typing import Any

import pytest

from interlock.api.policy import AgentPolicyStatus, PolicyCondition
from interlock.reconcile.policy_status import build_policy_conditions
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import NOW, a_binding, a_policy, an_agent
from tests.support.small_operator import SmallOperator

TRIAGE, SUPPORT, CRM = ("agents", "triage"), ("agents", "support"), ("agents", "crm")


def test_a_policy_without_violations_is_ready_and_one_with_many_names_some_of_them() -> None:
    policy = a_policy().build()
    ready, violated = build_policy_conditions(policy, None, 2, {}, NOW)
    assert (ready.type, ready.status, ready.reason) == (PolicyCondition.READY, "True", "InForce")
    assert (violated.type, violated.status, violated.reason) == ("Violated", "False", "NoViolation")

    refused = {f"agent-{number:02}": "DataAccessMissing" for number in range(10)}
    before = AgentPolicyStatus(conditions=(ready, violated))
    ready, violated = build_policy_conditions(policy, before, 12, refused, NOW)
    assert (violated.status, violated.reason) == ("True", "AgentsRefused")
    assert violated.message.startswith("10 of 12 Agents are refused")
    assert "agent-07 (DataAccessMissing) and 2 more" in violated.message


@requirement("status.policies")
async def test_an_agent_that_its_policy_refuses_is_a_violation_until_the_policy_allows_it() -> None:
    operator = SmallOperator()
    operator.put(a_policy().giving_nothing().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    assert await operator.turn(AGENT_POLICY, SUPPORT)
    status = operator.status(AGENT_POLICY, SUPPORT)
    assert (status["agents"], status["violations"]) == (1, 1)
    violated = operator.condition(AGENT_POLICY, SUPPORT, "Violated")
    assert (violated["status"], violated["reason"]) == ("True", "AgentsRefused")
    assert "triage (DataAccessMissing)" in violated["message"]

    operator.put(a_policy().at_version(5000).to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    assert await operator.turn(AGENT_POLICY, SUPPORT)
    assert operator.status(AGENT_POLICY, SUPPORT)["violations"] == 0
    assert operator.condition(AGENT_POLICY, SUPPORT, "Violated")["status"] == "False"


@requirement("status.policies")
async def test_a_refusal_that_the_operator_has_written_wakes_the_policy() -> None:
    operator = SmallOperator()
    operator.put(a_policy().giving_nothing().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    changed: list[Any] = []
    operator.cache.on_agent_change = lambda *seen: changed.append([one.summary for one in seen[1:]])
    assert await operator.turn(AGENT, TRIAGE)
    assert changed[-1][1].violation == "DataAccessMissing"
    assert changed[-1][0] != changed[-1][1]


@pytest.mark.parametrize(
    "conditions", [None, 5, [7], [{"type": "Governed"}], [{"type": "Governed", "status": "False"}]]
)
async def test_a_stored_status_of_any_content_is_no_violation(conditions: Any) -> None:
    operator = SmallOperator()
    raw = an_agent().to_kubernetes()
    raw["status"] = {"conditions": conditions}
    operator.put(raw)
    summary = operator.cache.summary(TRIAGE)
    assert summary is not None
    assert summary.violation == ""


@requirement("status.bindings")
async def test_a_binding_names_the_agents_that_use_it_and_counts_its_tools() -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    key = operator.put(a_binding().to_kubernetes())
    assert await operator.turn(MCP_BINDING, key)
    assert operator.status(MCP_BINDING, key)["agents"] == 0
    operator.put(an_agent().to_kubernetes())
    elsewhere = copy.deepcopy(an_agent().named("elsewhere").to_kubernetes())
    elsewhere["spec"]["bindings"] = [{"source": "mail"}]
    operator.put(elsewhere)
    assert await operator.turn(MCP_BINDING, key)
    status = operator.status(MCP_BINDING, key)
    assert (status["agents"], status["usedBy"]) == (1, ["triage"])
    assert status["toolsMapped"] == len(status["verification"]["tools"])
    assert (status["toolsUnmapped"], status["toolsDrifted"]) == (0, 0)
    operator.router.handle_deletion(AGENT, TRIAGE, None)
    assert await operator.turn(MCP_BINDING, key)
    assert operator.status(MCP_BINDING, key)["usedBy"] == []


def test_a_policy_with_an_environment_in_mode_audit_says_what_passes_there() -> None:
    policy = a_policy().declaring({"name": "qa", "class": "development", "mode": "Audit"}).build()
    *_, enforced = build_policy_conditions(policy, None, 1, {}, NOW)
    assert (enforced.type, enforced.status, enforced.reason) == ("Enforced", "False", "Audit")
    assert "mode Audit in qa" in enforced.message
    assert "with all rights of their MCP server, deletes included" in enforced.message
