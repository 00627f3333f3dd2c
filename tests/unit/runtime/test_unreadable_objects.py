"""An AgentPolicy or MCPBinding that cannot be read says so itself, so that waiting tools give up."""

from typing import Any

import pytest

from interlock_kube.resource_types import AGENT_POLICY, MCP_BINDING, ResourceType
from tests.requirements import requirement
from tests.support.builders import a_binding, a_policy
from tests.support.small_operator import SmallOperator

OBJECTS = {"AgentPolicy": (AGENT_POLICY, a_policy()), "MCPBinding": (MCP_BINDING, a_binding())}


def broken(kind: ResourceType, raw: dict[str, Any], generation: int) -> dict[str, Any]:
    field, value = ("dataAccess", "everything") if kind is AGENT_POLICY else ("environments", ["The Moon"])
    return {**raw, "metadata": {**raw["metadata"], "generation": generation}, "spec": {**raw["spec"], field: value}}


@requirement("operator.unreadable")
@pytest.mark.parametrize(("kind", "built"), OBJECTS.values(), ids=OBJECTS)
async def test_an_object_that_cannot_be_read_is_stalled_at_its_generation(kind: ResourceType, built: Any) -> None:
    operator = SmallOperator()
    raw = built.to_kubernetes()
    key = operator.put(raw)
    assert await operator.turn(kind, key)
    before = {one["type"] for one in operator.status(kind, key)["conditions"]}
    path = operator.path(kind, key)

    live = operator.client.objects[path]
    operator.put(broken(kind, live, generation=2))
    assert await operator.turn(kind, key)
    status = operator.status(kind, key)
    assert status["observedGeneration"] == 2
    for name, wanted in (("Ready", "False"), ("Stalled", "True")):
        found = operator.condition(kind, key, name)
        assert (found["status"], found["reason"], found["observedGeneration"]) == (wanted, "SpecInvalid", 2)
        field = "spec.dataAccess" if kind is AGENT_POLICY else "spec.environments"
        assert f"cannot be read because of {field}" in found["message"]
    assert before < {one["type"] for one in status["conditions"]}, "Agents go by conditions such as Verified"

    operator.client.forget_requests()
    assert await operator.turn(kind, key)
    assert operator.client.writes() == []

    corrected = {**operator.client.objects[path], "spec": raw["spec"]}
    operator.put({**corrected, "metadata": {**corrected["metadata"], "generation": 3}})
    assert await operator.turn(kind, key)
    assert "Stalled" not in {one["type"] for one in operator.status(kind, key)["conditions"]}
