"""Invariant 8: ending the operator at any write leaves a state from which the next start comes to the same end.

The proxy lets the n-th write through to the API server and ends the operator with SIGKILL before the response, on the
way of a new Agent up to its second stage, so that children that come and children that go are among them. Each costs a
start of the operator: `tests/unit/runtime` tries them in memory, `make test` one of them here, `make test-all`
every third, up to where there is no n-th write any more.
"""

import difflib
import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.operator.api import Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.fault_proxy import FaultProxy
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.timeout(900)]

END_SECONDS = 30.0
MOST_WRITES = 60
LATE = 37  # while the second stage replaces the first
STEP = 3  # children of one kind of step are applied side by side, in an order that differs from run to run
SPARED_WRITES = 4  # not every run has equally many; least of all reports of an Agent, which are not counted on at all
SERVER_FIELDS = ("clusterIP", "clusterIPs")
PLACEMENT_NAME = "NAME-[0-9a-f]{10}"  # digits of a digest of the agent, among others
AGENT_KEY_DIGEST = r'agentKeyDigest\\":\\"[0-9a-f]{64}'  # in the bundle, which is text
SERVICE_ADDRESS = r"10\.96\.\d+\.\d+"  # of the guard's Service, as the agent's pods get it


def staged() -> Json:
    """Two stages, the first one as short as can be."""
    return {
        "stages": [
            {"name": "staging", "environment": "staging", "minDuration": "1s"},
            {"name": "everywhere", "environment": "production"},
        ]
    }


def end_state(sandbox: Sandbox, name: str) -> Any:
    """Return all that must be the same however often the operator was ended: children, conditions, stage."""
    status = sandbox.agent(name)["status"]
    children = {
        kind: sorted((without_own_name(child, name) for child in found), key=json.dumps)
        for kind, found in sandbox.children(name).items()
    }
    conditions = [(found["type"], found["status"], found["reason"]) for found in status["conditions"]]
    stage = {part: status["stage"][part] for part in ("name", "environment")}
    return {"children": children, "conditions": conditions, "stage": stage, "kill": status.get("kill")}


def check_same(end: Any, expected: Any, number: int) -> None:
    """Fail with the lines in which an end state differs."""
    texts = (json.dumps(one, indent=1, sort_keys=True).splitlines() for one in (expected, end))
    different = "\n".join(difflib.unified_diff(*texts, lineterm="", n=4))
    assert end == expected, f"ended after write {number}:\n{different}"


def without_own_name(child: Json, name: str) -> Json:
    """Return what must be the same from agent to agent: each run has one of its own in a namespace of its own."""
    spec = {part: value for part, value in child.items() if part not in ("metadata", "status")}
    for field in SERVER_FIELDS:
        spec.get("spec", {}).pop(field, None)
    metadata = child["metadata"]
    kept = {"name": metadata["name"], "labels": metadata["labels"], "owners": len(metadata["ownerReferences"])}
    text = json.dumps(spec | kept, sort_keys=True).replace(metadata["ownerReferences"][0]["uid"], "UID")
    text = re.sub(AGENT_KEY_DIGEST, "KEY", re.sub(SERVICE_ADDRESS, "ADDRESS", text))
    text = text.replace(metadata["namespace"], "NAMESPACE").replace(name, "NAME")
    text = re.sub(r"[0-9a-f]{63,64}", "DIGEST", text)  # the name of the agent is in its revision
    loaded: Json = json.loads(re.sub(PLACEMENT_NAME, "PLACEMENT", text))
    return loaded


def has_arrived(sandbox: Sandbox, name: str) -> bool:
    """Return True if agent and guard are ready in the last stage, and nothing of the first is left."""
    status = sandbox.agent(name).get("status", {})
    ready = sandbox.condition(name, "Ready").get("status") == "True"
    last = status.get("stage", {}).get("name") == "everywhere" and "readySince" in status["stage"]
    complete = sandbox.condition(name, "Progressing").get("reason") == "RolloutComplete"
    if not (ready and last and complete):
        return False
    labels = [child["metadata"]["labels"] for found in sandbox.children(name).values() for child in found]
    return {found["interlock.dev/stage"] for found in labels if "interlock.dev/stage" in found} == {"everywhere"}


def wait_for_end(sandbox: Sandbox, name: str) -> Any:
    """Wait until the Agent has arrived, and return its end state."""
    eventually(lambda: has_arrived(sandbox, name), f"{name} serves everywhere", END_SECONDS)
    return end_state(sandbox, name)


def end_after(number: int, operator: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox) -> Any:
    """End the operator after a write for a new Agent, and return the end state; None if there were fewer writes."""
    name = f"agent-{number:02}"
    with proxy.counting(number, lambda: os.kill(operator.pid, signal.SIGKILL)):
        sandbox.create(name, rollout=staged())
        eventually(lambda: not operator.is_running or has_arrived(sandbox, name), "an end", END_SECONDS)
        if operator.is_running:
            return None
    operator.start()
    return wait_for_end(sandbox, name)


@pytest.fixture
def disturbed(operators: Operators, proxy: FaultProxy, sandbox: Sandbox) -> Iterator[OperatorProcess]:
    """The operator behind the proxy, with rows for every Agent."""
    names = [f"agent-{number:02}" for number in range(MOST_WRITES)]
    sandbox.apply_policy_and_bindings(*names, isolation="Separate", production=True)
    yield operators.use(proxy.url)
    operators.stop()


@requirement("operator.converges")
def test_ending_the_operator_at_a_late_write_leads_to_the_same_end(
    disturbed: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    sandbox.create("agent-00", rollout=staged())
    undisturbed = wait_for_end(sandbox, "agent-00")
    check_same(end_after(LATE, disturbed, proxy, sandbox), undisturbed, LATE)


@pytest.mark.nightly
@requirement("operator.converges")
def test_ending_the_operator_at_any_write_leads_to_the_same_end(
    disturbed: OperatorProcess, proxy: FaultProxy, sandbox: Sandbox
) -> None:
    with proxy.counting() as writes:
        sandbox.create("agent-00", rollout=staged())
        undisturbed = wait_for_end(sandbox, "agent-00")
    # Bindings are verified at the same time, and Events are posted to no name.
    least = sum("agent-00" in call.path and "/status" not in call.path for call in writes.calls) - SPARED_WRITES
    for number in range(1, MOST_WRITES, STEP):
        if (end := end_after(number, disturbed, proxy, sandbox)) is None:
            break
        check_same(end, undisturbed, number)
    assert number > least, f"only {number} writes were there to end it after"
