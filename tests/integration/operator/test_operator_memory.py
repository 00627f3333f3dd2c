"""What strangers' objects cost the operator's memory, measured on the process while it runs and after a restart."""

import base64
import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.integration.operator import objects
from tests.integration.operator.api import Api, Json, eventually
from tests.integration.operator.conftest import Operators
from tests.integration.operator.sandbox import Sandbox
from tests.requirements import requirement
from tests.support.bounds import check_promise
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.api, pytest.mark.timeout(300)]

FEW, MANY = 60, 200
FORGED = 50
MIB = 1024 * 1024
MOST_MIB = 8.0
"""What the operator's memory may grow by, however much strangers create. Asserted at three times this."""
METADATA_MIB = 12.0
"""The same while a namespace gets 30 MiB of annotations, with 120 objects that are small otherwise."""
ANNOTATION = {"example.com/x": "y" * 250_000}
FORGED_MIB = 20.0
"""The same for 50 MiB that name a real Agent as their owner: some are read before they are deleted."""
POD_LABELS = {
    "interlock.dev/agent": "junk-0",
    "interlock.dev/isolation": "Separate",
    "app.kubernetes.io/component": "agent",
}
LABELS = {"app.kubernetes.io/managed-by": "interlock", "interlock.dev/agent": "triage"}
NOISE = base64.b64encode(os.urandom(760 * 1024)).decode()


def a_config_map(name: str, **metadata: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": LABELS, **metadata},
        "data": {"x": NOISE},
    }


@pytest.fixture
def strangers(api: Api) -> Iterator[str]:
    """A namespace without an Agent."""
    name = f"strangers-{uuid4().hex[:10]}"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    for plural in ("configmaps", "agents", "agentpolicies", "pods"):
        api.delete_all(plural, name)
    api.request("DELETE", f"/api/v1/namespaces/{name}")


def settled(operator: OperatorProcess, sandbox: Sandbox, name: str) -> float:
    """Return the peak memory once an Agent has gone through the operator: whatever came before was handled."""
    sandbox.create(name)
    sandbox.wait_ready(name, 60)
    return operator.peak_rss_mb()


def check_growth(before: float, after: float, what: str, promised: float = MOST_MIB) -> None:
    check_promise(after - before, promised, f"memory ({before:.0f} MiB) grows while {what}", unit="MiB")


@requirement("operator.memory")
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_labelled_objects_of_1_mib_of_a_stranger_do_not_move_the_operators_memory(
    operators: Operators, sandbox: Sandbox, strangers: str, count: int
) -> None:
    operators.stop()
    operator = operators.use()
    sandbox.apply_policy_and_bindings("before", "during", "first", "second")
    before = settled(operator, sandbox, "before")
    for number in range(count):
        sandbox.api.create(a_config_map(f"junk-{number}"), strangers)
    check_growth(before, settled(operator, sandbox, "during"), f"{count} MiB are created while the operator runs")
    operators.stop()
    restarted = operators.use()
    check_growth(before, settled(restarted, sandbox, "first"), f"{count} MiB are there when the operator starts")


@requirement("operator.memory")
def test_objects_of_1_mib_that_name_a_real_agent_as_their_owner_are_deleted_at_little_cost(
    operators: Operators, sandbox: Sandbox
) -> None:
    operators.stop()
    operator = operators.use()
    sandbox.apply_policy_and_bindings("triage", "before", "during")
    sandbox.create("triage")
    owner = sandbox.wait_ready("triage", 60)["metadata"]
    reference = {
        "apiVersion": "interlock.dev/v1alpha1",
        "kind": "Agent",
        "name": "triage",
        "uid": owner["uid"],
        "controller": True,
    }
    before = settled(operator, sandbox, "before")
    for number in range(FORGED):
        forged = a_config_map(f"junk-{number}", ownerReferences=[reference])
        sandbox.api.create(forged, sandbox.namespace)
    eventually(
        lambda: not [one for one in sandbox.children("triage")["ConfigMap"] if "junk" in one["metadata"]["name"]],
        "what is not the agent's is deleted",
        60,
    )
    check_growth(before, settled(operator, sandbox, "during"), "50 MiB name a real Agent as their owner", FORGED_MIB)


@pytest.mark.nightly
@requirement("operator.memory")
def test_annotations_of_250_kib_on_agents_policies_and_pods_move_neither_operator_nor_kill_controller(
    operators: Operators, sandbox: Sandbox, strangers: str
) -> None:
    def restart() -> OperatorProcess:
        operators.stop()
        operators.killer.stop()
        operators.killer.start()
        return operators.use()

    operator = restart()
    sandbox.apply_policy_and_bindings("before", "after", "restarted")
    before, before_kill = settled(operator, sandbox, "before"), operators.killer.peak_rss_mb()
    pod = {"containers": [{"name": "x", "image": "example.com/x"}]}
    for number in range(40):
        for made in (
            objects.agent(f"junk-{number}"),
            objects.policy(name=f"junk-{number}"),
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"junk-{number}", "labels": POD_LABELS},
                "spec": pod,
            },
        ):
            made["metadata"]["annotations"] = ANNOTATION
            sandbox.api.create(made, strangers)
    check_growth(before, settled(operator, sandbox, "after"), "30 MiB of annotations are written", METADATA_MIB)
    check_growth(before_kill, operators.killer.peak_rss_mb(), "the kill controller sees them", METADATA_MIB)
    operator = restart()
    check_growth(before, settled(operator, sandbox, "restarted"), "the operator starts with them", METADATA_MIB)
    check_growth(before_kill, operators.killer.peak_rss_mb(), "the kill controller starts with them", METADATA_MIB)
