"""What is not written: nothing in steady state, nothing after a restart, no more than is needed for a new Agent."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Api, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import MANAGED, Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess, queued_seconds

pytestmark = [pytest.mark.api, pytest.mark.timeout(240)]

A_FEW, MANY = 10, 100
STEADY_SECONDS, SHORT_SECONDS = 60, 8
READY_SECONDS = 90.0
CREATORS = 4
REVISION_WRITES = 1
STATUS_WRITES = 2  # not Ready yet, Ready
USERS_WRITES = 1  # of the binding, ten seconds later, which is too late to be counted unless Ready comes late
TABLE_WRITES = 1  # of the policy: many changes within a second are one write


def create_all(sandbox: Sandbox, names: list[str]) -> None:
    """Create the Agents and wait until all of them are Ready."""

    def create(part: list[str]) -> None:
        client = Api(sandbox.api.access)
        for name in part:
            client.create(objects.agent(name), sandbox.namespace)
        client.close()

    with ThreadPoolExecutor(CREATORS) as pool:
        list(pool.map(create, (names[number::CREATORS] for number in range(CREATORS))))

    def all_are_ready() -> bool:
        found = sandbox.api.listed("agents", sandbox.namespace)
        return sum(is_ready(agent) for agent in found) == len(names)

    eventually(all_are_ready, f"{len(names)} Agents are Ready", READY_SECONDS)


def users_of(sandbox: Sandbox) -> int:
    """Return how many Agents use the binding of the sandbox, as its status says."""
    return int(sandbox.binding("crm-sandbox")["status"].get("agents", 0))


def wait_for_users(sandbox: Sandbox, count: int) -> None:
    """Wait for a late write: 10 s after the first of them, the binding's status counts the Agents that use it."""
    eventually(lambda: users_of(sandbox) == count, "the binding knows its Agents", 40)


def is_ready(agent: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    conditions = agent.get("status", {}).get("conditions", [])
    return any((found["type"], found["status"]) == ("Ready", "True") for found in conditions)


def furnish(sandbox: Sandbox, names: list[str]) -> None:
    """Apply the bindings and a policy with as many rows as so many agents take."""
    sandbox.apply_policy_and_bindings(names[0])
    row = objects.policy(names[0])["spec"]["dataAccess"][0]
    rows = [row | {"agents": names[start : start + 50]} for start in range(0, len(names), 50)]
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": rows}})


@requirement("operator.idle-on-a-cluster", "operator.idle")
@pytest.mark.parametrize(
    ("agents", "seconds"),
    [
        pytest.param(A_FEW, SHORT_SECONDS, id="a few"),
        pytest.param(MANY, STEADY_SECONDS, id="a hundred for a minute", marks=pytest.mark.nightly),
    ],
)
def test_agents_cost_no_write_in_steady_state_and_none_after_a_restart(
    operator: OperatorProcess, sandbox: Sandbox, operators: Operators, agents: int, seconds: int
) -> None:
    names = [f"agent-{number:03}" for number in range(agents)]
    furnish(sandbox, names)
    create_all(sandbox, names)
    wait_for_users(sandbox, agents)
    wait_idle(operators)
    begin = operators.audit_offset()
    time.sleep(seconds)  # the time without a write is what is measured
    assert operators.writes(begin) == []
    before = operator.metric("interlock_reconciles_total", 'kind="Agent"')
    assert before >= agents
    operator.kill()
    operator.start()
    eventually(
        lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') >= agents, "all were reconciled again", 30
    )
    eventually(lambda: operator.metric("interlock_queued_agents") == 0, "no reconcile is pending", 30)
    assert operators.writes(begin) == []


def wait_idle(operators: Operators) -> None:
    """Wait until the audit log has not grown by the operator's doing for two seconds.

    Time in which the operator only waited for a processor does not count: it may have been about to write.
    """

    def now() -> float:
        return time.monotonic() - queued_seconds(operators.pid)

    seen = [operators.audit_offset(), now()]

    def is_idle() -> bool:
        end = operators.audit_offset()
        if operators.writes(int(seen[0])):
            seen[:] = [end, now()]
        return now() - seen[1] > 2

    eventually(is_idle, "the last writes are over", 30)


def test_a_new_agent_costs_its_children_and_two_writes(
    operator: OperatorProcess, sandbox: Sandbox, operators: Operators
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    eventually(lambda: sandbox.policy()["status"].get("observedGeneration", 0) > 0, "the policy was reconciled", 10)
    wait_idle(operators)
    begin = operators.audit_offset()
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    wait_idle(operators)
    children = sum(len(found) for found in sandbox.children("triage").values())
    children += len(sandbox.api.listed("secrets", sandbox.namespace, f"{MANAGED},interlock.dev/agent"))
    writes = [f"{write['verb']} {write['uri']}" for write in operators.writes(begin)]
    users = [write for write in writes if "/mcpbindings/" in write]
    writes = [write for write in writes if write not in users]
    assert len(users) <= USERS_WRITES, "\n".join(users)
    tables = [write for write in writes if "/agentpolicies/" in write]
    assert len(writes) <= children + REVISION_WRITES + STATUS_WRITES + len(tables), "\n".join(writes)
    assert len(tables) <= TABLE_WRITES, "\n".join(writes)
    assert len([write for write in writes if "/status" in write]) <= STATUS_WRITES + len(tables)


@requirement("access.on-a-cluster")
def test_what_a_policy_comes_to_stands_in_its_status_and_follows_what_it_stands_on(
    operator: OperatorProcess, sandbox: Sandbox, operators: Operators
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")

    def answers() -> dict[str, str]:
        rows = sandbox.policy().get("status", {}).get("access", [])
        return {f"{row['operation']} {name}": row["decision"] for row in rows for name in row["resources"]}

    eventually(lambda: answers().get("write tasks") == "Allow", "the table is written", 10)
    assert answers()["read contacts"] == "Allow"
    assert answers()["delete contacts"] == "Deny"
    rules = {row["rule"] for row in sandbox.policy()["status"]["access"] if row["decision"] == "Allow"}
    assert rules == {f"agentpolicy/{objects.POLICY}/dataAccess[0]"}
    sandbox.api.patch("mcpbindings", sandbox.namespace, "crm-sandbox", {"spec": {"permissions": {"write": []}}})
    eventually(lambda: answers().get("write tasks") == "Deny", "the table follows the binding", 10)
    sandbox.api.delete("agents", sandbox.namespace, "triage")
    eventually(lambda: answers() == {}, "the table follows the agent", 10)
    assert sandbox.policy()["status"]["observedGeneration"] == sandbox.policy()["metadata"]["generation"]


@requirement("access.bounded", "access.on-a-cluster")
def test_the_largest_table_fits_into_the_schema(operators: Operators, sandbox: Sandbox) -> None:
    operators.use()
    names, sources = [f"agent-{number:02}-{'x' * 43}" for number in range(20)], ("crm", "mail", "wiki")
    sandbox.apply_policy_and_bindings(*names)
    row = sandbox.policy()["spec"]["dataAccess"][0]
    rows = [row | {"source": source} for source in sources]
    sandbox.api.patch("agentpolicies", sandbox.namespace, objects.POLICY, {"spec": {"dataAccess": rows}})
    for source in sources[1:]:
        binding = objects.binding(source)
        sandbox.api.create(binding | {"spec": binding["spec"] | {"source": source}}, sandbox.namespace)
    for name in names:
        sandbox.create(name, replicas=0, bindings=[{"source": source} for source in sources])

    def is_full() -> bool:
        status = sandbox.policy().get("status", {})
        shown = {row["agent"] for row in status.get("access", [])}
        return bool(shown) and len(shown) + status["agentsOmitted"] == len(names)

    eventually(is_full, "as many agents as fit are in the table, and the others are counted", 60)
    assert sandbox.policy()["status"]["agentsOmitted"] > 0
    operators.stop()  # the agents need no objects any more


def test_a_policy_that_is_touched_without_a_change_costs_no_write(
    operator: OperatorProcess, sandbox: Sandbox, operators: Operators
) -> None:
    sandbox.apply_policy_and_bindings("triage")
    sandbox.create("triage")
    sandbox.wait_ready("triage")
    wait_for_users(sandbox, 1)
    wait_idle(operators)
    begin = operators.audit_offset()
    reconciled = operator.metric("interlock_reconciles_total", 'kind="Agent"')
    label = {"metadata": {"labels": {"touched": "yes"}}}
    for plural, name in (("agentpolicies", objects.POLICY), ("mcpbindings", "crm-sandbox"), ("agents", "triage")):
        sandbox.api.patch(plural, sandbox.namespace, name, label)
    eventually(lambda: operator.metric("interlock_reconciles_total", 'kind="Agent"') > reconciled, "it has reconciled")
    wait_idle(operators)
    assert operators.writes(begin) == []
    assert len(sandbox.api.listed("configmaps", sandbox.namespace, f"{MANAGED},interlock.dev/agent")) == 2
