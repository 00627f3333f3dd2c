"""A kill controller whose watches say what a test lets them say."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from interlock_kill import controller
from interlock_kill.controller import KillController
from interlock_kube import watch
from interlock_kube.resource_types import AGENT, LEASE, POD, ResourceType
from interlock_kube.watch import ChangeEvent, ListEvent, WatchOptions
from tests.support.builders import NOW, AgentBuilder, an_agent
from tests.support.fake_client import FakeClient

KEY = ("agents", "triage")
PATH = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"
PODS = "/api/v1/namespaces/agents/pods"
DEPLOYMENT = "/apis/apps/v1/namespaces/agents/deployments/d1"
MOST_TURNS = 4000


def a_pod(name: str, agent: str | None = "triage", **metadata: Any) -> dict[str, Any]:
    labels = {} if agent is None else {"interlock.dev/agent": agent}
    described = {"name": name, "namespace": "agents", "uid": f"uid-of-{name}", "labels": labels, **metadata}
    described.setdefault("resourceVersion", "9")
    return {"kind": "Pod", "metadata": described, "spec": {"serviceAccountName": "default"}}


class Scene:
    """A kill controller whose watches say what a test lets them say."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.client = FakeClient()
        self.now = 1000.0
        self.events: dict[str, asyncio.Queue[ListEvent | ChangeEvent]] = {
            AGENT.kind: asyncio.Queue(),
            POD.kind: asyncio.Queue(),
            LEASE.kind: asyncio.Queue(),
        }
        self.leases(ListEvent((), version="1"))
        monkeypatch.setattr(watch, "follow", self._follow)
        client: Any = self.client
        self.controller = KillController(client, client, clock=lambda: NOW, monotonic=lambda: self.now)
        self.client.put(PATH, an_agent().to_kubernetes())
        self.client.put(f"{PODS}/p1", a_pod("p1"))
        owners = [{"uid": "uid-of-triage"}]
        deployed = {"name": "d1", "labels": {"interlock.dev/agent": "triage"}, "ownerReferences": owners}
        self.client.put(DEPLOYMENT, {"kind": "Deployment", "metadata": deployed, "spec": {"replicas": 2}})

    @property
    def objects(self) -> dict[str, dict[str, Any]]:
        return self.client.objects

    async def _follow(
        self, _client: Any, kind: ResourceType, options: WatchOptions
    ) -> AsyncIterator[ListEvent | ChangeEvent]:
        while True:
            event = await self.events[kind.kind].get()
            options.on_contact()
            yield event

    def agents(self, *events: ListEvent | ChangeEvent) -> None:
        """Let the watch of Agents say this."""
        for event in events:
            self.events[AGENT.kind].put_nowait(event)

    def pods(self, *events: ListEvent | ChangeEvent) -> None:
        """Let the watch of pods say this."""
        for event in events:
            self.events[POD.kind].put_nowait(event)

    def leases(self, *events: ListEvent | ChangeEvent) -> None:
        """Let the watch of Leases say this."""
        for event in events:
            self.events[LEASE.kind].put_nowait(event)

    def show(self, agent: AgentBuilder) -> None:
        """Let the Agent be like this now, as its owner left it, and the watch say so."""
        manifest = agent.to_kubernetes()
        path = PATH.replace("triage", manifest["metadata"]["name"])
        if path in self.objects:
            self.client.put(path, manifest | {"status": self.objects[path].get("status", {})})
        self.agents(ChangeEvent("MODIFIED", manifest))

    async def kill(self) -> None:
        """Kill the agent and wait until that is recorded."""
        self.show(an_agent().killed("runaway"))
        await until(lambda: "zeroPodsAt" in self.recorded)

    @property
    def recorded(self) -> dict[str, Any]:
        found: dict[str, Any] = self.objects[PATH].get("status", {}).get("kill", {})
        return {name: value for name, value in found.items() if value is not None}

    @property
    def is_ended(self) -> bool:
        return f"{PODS}/p1" not in self.client.objects and self.client.objects[DEPLOYMENT]["spec"]["replicas"] == 0


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A controller that runs; how long retries pause is no behaviour of interest here."""
    monkeypatch.setattr(controller, "SWEEP_SECONDS", (0,))
    monkeypatch.setattr(controller, "BACKOFF_SECONDS", (0,))
    scene = Scene(monkeypatch)
    running = asyncio.create_task(scene.controller.run())
    yield scene
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    for _ in range(MOST_TURNS):
        if holds():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to hold")


async def turns(count: int = 200) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
