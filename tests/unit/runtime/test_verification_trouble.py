"""The trouble of a verification's pod in the status of its MCPBinding."""

from datetime import timedelta
from typing import Any

from interlock_kube.resource_types import MCP_BINDING
from tests.requirements import requirement
from tests.support.builders import a_binding
from tests.support.pod_failures import waiting
from tests.support.small_operator import SmallOperator


class Run:
    """A binding whose verification runs, with the pod of its Job."""

    def __init__(self) -> None:
        self.operator = SmallOperator()
        self.key = self.operator.put({**a_binding().to_kubernetes(), "status": {}})

    async def begin(self) -> None:
        assert await self.operator.turn(MCP_BINDING, self.key)
        [job] = self.operator.client.of_kind("Job").values()
        labels = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
        self._pod: dict[str, Any] = {"kind": "Pod", "metadata": {"name": "p", "labels": labels}}

    async def message(self, status: dict[str, Any] | None) -> str:
        """Return the message of Verified some seconds after the pod has reported a status; None for no pod."""
        self.operator.now += timedelta(seconds=6)
        path = f"/api/v1/namespaces/{self.key[0]}/pods/p"
        if status is None:
            del self.operator.client.objects[path]
        else:
            self.operator.client.put(path, {**self._pod, "status": status})
        self.operator.watch_children()
        assert await self.operator.turn(MCP_BINDING, self.key)
        return str(self.operator.condition(MCP_BINDING, self.key, "Verified")["message"])


@requirement("status.quiet")
async def test_a_trouble_that_differs_in_figures_alone_is_written_once() -> None:
    run = Run()
    await run.begin()
    said = [f"dial tcp 10.0.0.1:{40_000 + turn}: i/o timeout after {turn}ms" for turn in range(6)]
    seen = {await run.message(waiting("ErrImagePull", one, name="mcp-crm")) for one in said}
    assert len(seen) == 1
    [message] = seen
    assert "10.0.0.1:40000: i/o timeout" in message
    assert (
        "; correct the name of the image, load it onto the nodes (kind load docker-image), or name a Secret" in message
    )


@requirement("status.causes")
async def test_a_trouble_that_is_over_is_no_longer_told() -> None:
    run = Run()
    await run.begin()
    secret = waiting("CreateContainerConfigError", 'secret "crm-token" not found', name="mcp-crm")
    assert 'secret "crm-token" not found' in await run.message(secret)
    assert "crm-token" not in await run.message(waiting("PodInitializing"))


@requirement("status.causes")
async def test_a_trouble_outlives_the_pod_that_the_end_of_the_job_deletes() -> None:
    run = Run()
    await run.begin()
    secret = waiting("CreateContainerConfigError", 'secret "crm-token" not found', name="mcp-crm")
    await run.message(secret)
    assert 'secret "crm-token" not found' in await run.message(None)
