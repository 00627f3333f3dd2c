"""Every object that an API server may store goes through every reconcile, and ends nothing but its own turn."""

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from interlock.runtime.second_watch import SecondWatch
from interlock_contract.clock import monotonic
from interlock_contract.verification import RESULT_KEY
from interlock_kill.controller import KillController
from interlock_kube.resource_types import AGENT, AGENT_POLICY, MCP_BINDING, ResourceType
from tests.requirements import requirement
from tests.support.builders import NOW, a_binding, a_policy, a_stage, an_agent
from tests.support.fake_client import FakeClient
from tests.support.small_operator import SmallOperator
from tests.support.stored_objects import OTHER_TYPES, retyped, stored

KINDS: dict[str, tuple[ResourceType, dict[str, Any]]] = {
    "Agent": (
        AGENT,
        an_agent("odd")
        .with_stages(a_stage("one", lasting="1h"), a_stage("all", "production"))
        .calling("openai/gpt-5")
        .taking_tasks()
        .with_files({"a.md": "x"})
        .to_kubernetes(),
    ),
    "AgentPolicy": (AGENT_POLICY, a_policy("odd").to_kubernetes()),
    "MCPBinding": (MCP_BINDING, a_binding("odd").serving("mail", "development", "staging").to_kubernetes()),
}
INNOCENT = {
    AGENT: (an_agent().to_kubernetes(), ("agents", "triage")),
    AGENT_POLICY: (a_policy().to_kubernetes(), ("agents", "support")),
    MCP_BINDING: (a_binding().to_kubernetes(), ("agents", "crm")),
}


def defects() -> float:
    """Return how many defects all loops and watches have counted."""
    names = ("interlock_reconcile_failures_total", "interlock_watch_event_failures_total")
    return sum(
        sample.value
        for metric in REGISTRY.restricted_registry(names).collect()
        for sample in metric.samples
        if sample.name in names and sample.labels.get("cause", "defect") == "defect"
    )


async def check(kind: ResourceType, raw: dict[str, Any], result: str = "") -> None:
    """Let an odd object and sound ones go through all reconciles, twice."""
    operator, before = SmallOperator(), defects()
    odd = operator.put(raw)
    for manifest, _ in INNOCENT.values():
        operator.put(copy.deepcopy(manifest))
    for _ in range(2):
        await operator.turn(kind, odd)
        for other, (_, key) in INNOCENT.items():
            assert await operator.turn(other, key), f"{other.kind} {key[1]} was not reconciled"
        if result:
            for path, found in operator.client.of_kind("ConfigMap").items():
                if path.endswith("odd-verify-result"):
                    operator.client.put(path, {**found, "data": {RESULT_KEY: result}})
            operator.watch_children()
    assert operator.condition(AGENT, INNOCENT[AGENT][1], "Governed")["status"] == "True"
    watch_metadata(raw)
    assert defects() == before, f"a defect: {operator.status(kind, odd)}"
    for queue in operator.queues.values():
        for key in list(queue._timers):  # noqa: SLF001 - timers of a loop that ends with the example
            queue.cancel(key)


def watch_metadata(raw: dict[str, Any]) -> None:
    """Let the watches of metadata see an object."""
    seen = {"metadata": raw["metadata"]}
    switched: list[Any] = []
    watch = SecondWatch(None, saw=lambda *_: None, gone=lambda *_: None, switched=switched.append, ended=lambda: None)
    fake: Any = FakeClient()
    killer = KillController(fake, fake, clock=lambda: NOW, monotonic=monotonic)
    for kind in (AGENT, AGENT_POLICY, MCP_BINDING):
        watch._seen(kind, seen)  # noqa: SLF001 - its thread needs an API server
    killer.observe_agent(seen)
    labels = {"interlock.dev/agent": "odd", **raw["metadata"].get("labels", {})}
    killer.observe_pod({"metadata": {**raw["metadata"], "labels": labels}})
    for row in (raw.get("status"), {}, None):
        kill = (row or {}).get("kill") if isinstance(row, dict) else None
        cells = kill if isinstance(kill, dict) else {}
        columns = {
            "Kill-Requested": cells.get("requestedAt"),
            "Kill-Released": cells.get("releasedAt"),
            "Kill-Reason": cells.get("reason"),
            "Kill-By": cells.get("by"),
        }
        killer.observe_recorded(seen, columns)


@requirement("operator.blast-radius")
@pytest.mark.parametrize("is_admitted", [True, False], ids=["admitted", "of another version"])
@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_stored_object_ends_nothing_but_its_own_turn(name: str, is_admitted: bool, data: st.DataObject) -> None:  # noqa: FBT001 - pytest's
    kind, base = KINDS[name]
    raw = data.draw(stored(base, is_admitted=is_admitted))
    asyncio.run(check(kind, raw))


@requirement("operator.blast-radius")
@pytest.mark.parametrize(
    "deep_types", [1, pytest.param(3, marks=pytest.mark.nightly)], ids=["one type", "each type of deep fields"]
)
@pytest.mark.parametrize("name", KINDS)
async def test_a_field_of_any_other_type_ends_nothing_but_its_own_turn(name: str, deep_types: int) -> None:
    kind, base = KINDS[name]
    operator, before = SmallOperator(), defects()
    for manifest, _ in INNOCENT.values():
        operator.put(copy.deepcopy(manifest))
    for path, raw in retyped(base, deep_types=deep_types):
        where = ".".join(map(str, path))
        odd = operator.put(raw)
        await operator.turn(kind, odd)
        assert defects() == before, f"a defect where {where} has another type"
        operator.router.handle_deletion(kind, odd, None)
        del operator.client.objects[operator.path(kind, odd)]
    for other, (_, key) in INNOCENT.items():
        assert await operator.turn(other, key), f"{other.kind} {key[1]} was not reconciled"
        operator.queues[other].cancel(key)


RESULTS = st.sampled_from(
    ["", "x", "[" * 2000, '{"run":' * 2000, "null", '{"version":1}', '{"version":2}', "9" * 5000, '{"a":1,"a":2}']
)


@requirement("operator.blast-radius")
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(RESULTS | OTHER_TYPES.map(str))
def test_any_result_of_a_verification_ends_nothing_but_its_own_turn(result: str) -> None:
    raw = KINDS["MCPBinding"][1] | {"status": None}
    asyncio.run(check(MCP_BINDING, raw, result))
