"""The trouble of a verification's pod in the status of its MCPBinding."""

from datetime import timedelta
from typing import Any

from interlock_kube.resource_types import MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding
from tests.support.pod_failures import waiting
from tests.support.small_operator import SmallOperator


@requirement("status.quiet")
async def test_a_trouble_that_differs_in_figures_alone_is_written_once() -> None:
    operator = SmallOperator()
    key = operator.put({**a_binding().to_kubernetes(), "status": {}})
    assert await operator.turn(MCP_BINDING, key)
    [job] = operator.client.of_kind("Job").values()
    pod: dict[str, Any] = {
        "kind": "Pod",
        "metadata": {"name": "p", "labels": {"batch.kubernetes.io/job-name": job["metadata"]["name"]}},
    }
    seen = set()
    for turn in range(6):
        operator.now += timedelta(seconds=6)
        said = f"dial tcp 10.0.0.1:{40_000 + turn}: i/o timeout after {turn}ms"
        operator.client.put(
            f"/api/v1/namespaces/{key[0]}/pods/p", {**pod, "status": waiting("ErrImagePull", said, name="mcp-crm")}
        )
        operator.watch_children()
        assert await operator.turn(MCP_BINDING, key)
        seen.add(operator.condition(MCP_BINDING, key, "Verified")["message"])
    assert len(seen) == 1
    assert "10.0.0.1:40000: i/o timeout" in seen.pop()
