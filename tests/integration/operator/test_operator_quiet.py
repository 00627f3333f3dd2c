"""What is not written: nothing in steady state, nothing after a restart, no more than is needed for a new Agent."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Api, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.world import MANAGED, Room
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.timeout(240)]

AGENTS = 100
STEADY_SECONDS = 60
READY_SECONDS = 90.0
CREATORS = 4
STATUS_WRITES = 2  # not Ready yet, Ready


def create_all(room: Room, names: list[str]) -> None:
    """Create the Agents and wait until all of them are Ready."""

    def create(part: list[str]) -> None:
        client = Api(room.api.access)
        for name in part:
            client.create(objects.agent(name), room.namespace)
        client.close()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, (names[number::CREATORS] for number in range(CREATORS))))

    def all_are_ready() -> bool:
        found = room.api.listed("agents", room.namespace)
        return sum(is_ready(agent) for agent in found) == len(names)

    eventually(all_are_ready, f"{len(names)} Agents are Ready", READY_SECONDS)


def is_ready(agent: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = agent.get("status", {}).get("conditions", [])
    return any((found["type"], found["status"]) == ("Ready", "True") for found in conditions)


def furnish(room: Room, names: list[str]) -> None:
    """Apply the bindings and a policy with as many rows as so many agents take."""
    room.furnish(names[0])
    row = objects.policy(names[0])["spec"]["dataAccess"][0]
    rows = [row | {"agents": names[start : start + 50]} for start in range(0, len(names), 50)]
    room.api.patch("agentpolicies", room.namespace, objects.POLICY, {"spec": {"dataAccess": rows}})


@requirement("operator.idle-on-a-cluster", "operator.idle")
def test_a_hundred_agents_cost_no_write_in_a_minute_and_none_after_a_restart(
    operator: OperatorProcess, room: Room, operators: Operators
) -> None:
    names = [f"agent-{number:03}" for number in range(AGENTS)]
    furnish(room, names)
    create_all(room, names)
    quiet(operators)
    begin = operators.audit_offset()
    time.sleep(STEADY_SECONDS)  # the minute is what is measured
    assert operators.writes(begin) == []
    before = operator.metric("interlock_reconciles_total")
    assert before >= AGENTS
    operator.kill()
    operator.start()
    eventually(lambda: operator.metric("interlock_reconciles_total") >= AGENTS, "all were looked at anew", 30)
    eventually(lambda: operator.metric("interlock_queued_agents") == 0, "no look is owed", 30)
    assert operators.writes(begin) == []


def quiet(operators: Operators) -> None:
    """Wait until the audit log has not grown by the operator's doing for two seconds."""
    seen = [operators.audit_offset(), time.monotonic()]

    def is_quiet() -> bool:
        now = operators.audit_offset()
        if operators.writes(int(seen[0])):
            seen[:] = [now, time.monotonic()]
        return time.monotonic() - seen[1] > 2

    eventually(is_quiet, "the last writes are over", 30)


def test_a_new_agent_costs_its_children_and_two_writes(
    operator: OperatorProcess, room: Room, operators: Operators
) -> None:
    room.furnish("triage")
    begin = operators.audit_offset()
    room.create("triage")
    room.wait_ready("triage")
    quiet(operators)
    children = sum(len(found) for found in room.children("triage").values())
    writes = [f"{write['verb']} {write['uri']}" for write in operators.writes(begin)]
    assert len(writes) <= children + STATUS_WRITES, "\n".join(writes)
    assert len([write for write in writes if "/status" in write]) <= STATUS_WRITES


def test_a_policy_that_is_touched_without_a_change_costs_no_write(
    operator: OperatorProcess, room: Room, operators: Operators
) -> None:
    room.furnish("triage")
    room.create("triage")
    room.wait_ready("triage")
    quiet(operators)
    begin = operators.audit_offset()
    looked = operator.metric("interlock_reconciles_total")
    label = {"metadata": {"labels": {"touched": "yes"}}}
    for plural, name in (("agentpolicies", objects.POLICY), ("mcpbindings", "crm"), ("agents", "triage")):
        room.api.patch(plural, room.namespace, name, label)
    eventually(lambda: operator.metric("interlock_reconciles_total") > looked, "it has looked")
    quiet(operators)
    assert operators.writes(begin) == []
    assert len(room.api.listed("configmaps", room.namespace, MANAGED)) == 2
