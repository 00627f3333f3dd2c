"""What one user writes costs one object its turn, and never the operator or another object."""

import copy
import json
import logging
from typing import Any

import pytest

from interlock_contract.names import DRIFT_PREFIX, SELFTEST_PREFIX
from interlock_kube.reconcile_loop import TooCostly
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy, an_agent
from tests.support.computing import compute
from tests.support.small_operator import SmallOperator

TRIAGE, SUPPORT = ("agents", "triage"), ("agents", "support")


def rows(count: int, resources: int) -> list[dict[str, Any]]:
    """Rows of the matrix for one agent and one source, each with resources of its own."""
    return [
        {"agents": ["triage"], "source": "crm", "read": [f"kind-{row}-{index}" for index in range(resources)]}
        for row in range(count)
    ]


@requirement("operator.blast-radius")
@pytest.mark.parametrize(("count", "resources"), [(2, 40), (256, 64)])
async def test_rows_that_add_up_to_more_than_one_row_may_name_are_reconciled(count: int, resources: int) -> None:
    operator = SmallOperator()
    policy = a_policy().to_kubernetes()
    policy["spec"]["dataAccess"] = [*policy["spec"]["dataAccess"], *rows(count, resources)][-256:]
    operator.put(policy)
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())

    assert await operator.turn(AGENT_POLICY, SUPPORT)
    assert await operator.turn(AGENT, TRIAGE)

    bundles = [
        found["data"]["bundle.json"]
        for found in operator.client.of_kind("ConfigMap").values()
        if "bundle.json" in found.get("data", {})
    ]
    assert len(bundles) == 1
    assert f"kind-{count - 1}-{resources - 1}" in bundles[0]
    assert operator.condition(AGENT, TRIAGE, "Governed")["status"] == "True"


POISONED = {
    "a deep list": "[" * 5000,
    "a very deep list": "[" * 100_000,
    "deep objects": '{"a":' * 5000,
    "a time before the first": '{"crm":"0001-01-01T00:00:00Z"}',
    "a time after the last": '{"crm":"9999-12-31T23:59:59Z"}',
    "a time with a wide offset": '{"crm":"0001-01-01T00:00:00+14:00"}',
    "a large number": '{"bundle":"x","calls":' + "9" * 5000 + "}",
    "a long flaw": '{"bundle":"BUNDLE","calls":1,"flaw":"' + "x" * 100_000 + '"}',
    "lone surrogates": '{"bundle":"BUNDLE","calls":1,"flaw":"\\ud800"}',
    "a NaN": '{"bundle":"x","calls":NaN}',
}


@requirement("operator.blast-radius")
@pytest.mark.parametrize("prefix", [DRIFT_PREFIX, SELFTEST_PREFIX])
@pytest.mark.parametrize("poison", POISONED.values(), ids=POISONED.keys())
async def test_no_annotation_of_a_lease_keeps_what_was_revoked(prefix: str, poison: str) -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    (path,) = operator.client.of_kind("Lease")
    lease = copy.deepcopy(operator.client.objects[path])
    lease["metadata"].setdefault("annotations", {})[f"{prefix}pod"] = poison
    operator.client.put(path, lease)
    operator.watch_children()

    revoked = a_policy().at_version(5000).to_kubernetes()
    revoked["spec"]["dataAccess"] = []
    operator.put(revoked)

    assert await operator.turn(AGENT, TRIAGE)
    assert operator.client.of_kind("Deployment") == {}
    assert operator.condition(AGENT, TRIAGE, "Governed")["reason"] == "DataAccessMissing"


@requirement("operator.blast-radius", "operator.stored-status")
async def test_an_agent_with_a_status_of_another_version_costs_no_other_its_turn() -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    poisoned = an_agent().named("poison").at_version(5).to_kubernetes()
    poisoned["spec"] = {"template": {"image": 7}}
    poisoned["status"] = {"stage": {"name": "qa", "environment": "qa"}, "kill": 5, "conditions": [{"type": "New"}]}

    async with operator.at_work():
        poison = operator.put(poisoned)
        innocent = operator.put(an_agent().to_kubernetes())
        await operator.until_reconciled(AGENT, innocent)
        await operator.until_reconciled(AGENT, poison)

    assert operator.condition(AGENT, poison, "Governed")["reason"] == "SpecInvalid"
    assert operator.condition(AGENT, innocent, "Governed")["status"] == "True"


async def too_costly(namespace: str, task: str, request: bytes) -> bytes:
    """Stop the access table of one policy, and every difference."""
    if task == "drift" or json.loads(request)["policy"]["metadata"]["name"] == "costly":
        raise TooCostly("it took more than 10 s")
    return await compute(namespace, task, request)


@requirement("operator.costly")
async def test_a_table_that_is_too_costly_is_shown_on_its_policy_and_costs_no_other_its_table(
    caplog: pytest.LogCaptureFixture,
) -> None:
    operator = SmallOperator(compute=too_costly)
    costly = operator.put(a_policy("costly").at_version(5).to_kubernetes())
    operator.put(a_policy().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert not await operator.turn(AGENT_POLICY, costly)
        assert await operator.turn(AGENT_POLICY, SUPPORT)

    failed = operator.condition(AGENT_POLICY, costly, "ReconcileFailed")
    assert failed["status"] == "True"
    assert "its computation was stopped: it took more than 10 s; use fewer Agents" in failed["message"]
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]
    assert operator.status(AGENT_POLICY, SUPPORT)["access"]


@requirement("operator.costly")
async def test_a_difference_that_is_too_costly_names_the_place_of_both_texts() -> None:
    operator = SmallOperator(compute=too_costly)
    drifted = a_binding().to_kubernetes()
    drifted["status"]["verification"]["tools"][0] |= {"state": "Changed", "digest": "ab" * 32}
    key = operator.put(drifted)

    assert await operator.turn(MCP_BINDING, key)

    assert operator.condition(MCP_BINDING, key, "Drifted")["status"] == "True"
    diff = operator.status(MCP_BINDING, key)["verification"]["diff"]
    assert diff.startswith(
        "tools: changed; the difference is too large to be shown; compare ConfigMap crm-verify-pinned"
    )
    assert "with ConfigMap crm-verify-result (as listed now) in namespace agents" in diff


@requirement("operator.blast-radius")
async def test_a_lie_of_a_guard_about_the_time_hides_no_honest_report() -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    key = operator.put(a_binding().to_kubernetes())
    operator.put(an_agent().to_kubernetes())
    assert await operator.turn(AGENT, TRIAGE)
    for at in ("9999-12-31T23:59:59Z", "2026-03-02T08:59:00Z"):
        await operator.report(TRIAGE, f"{DRIFT_PREFIX}pod", json.dumps({key[1]: at}))

    assert operator.drifts.learned_at(key) == operator.now


@requirement("operator.stored-status")
@pytest.mark.parametrize("name", ["", "A b", "x" * 63])
async def test_a_recorded_stage_with_a_name_that_no_spec_may_have_starts_the_rollout_again(name: str) -> None:
    operator = SmallOperator()
    operator.put(a_policy().to_kubernetes())
    operator.put(a_binding().to_kubernetes())
    raw = an_agent().to_kubernetes()
    stage = {"name": name, "environment": "development", "revision": "", "enteredAt": "2026-03-02T08:00:00Z"}
    raw["status"] = {"stage": stage}
    operator.put(raw)

    assert await operator.turn(AGENT, TRIAGE)
    assert operator.status(AGENT, TRIAGE)["stage"]["name"] == "development"
