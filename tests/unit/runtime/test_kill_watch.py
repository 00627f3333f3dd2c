"""The kill path, against a fake of the Client: what is engaged, insisted on, latched and released."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from interlock.cluster.killer import Killer
from interlock.runtime import kill_watch
from interlock.runtime.kill_watch import KillWatch
from interlock_kube.resource_types import AGENT, AGENT_POLICY
from interlock_kube.watch import ChangeEvent, ListEvent
from tests.requirements import requirement
from tests.support.builders import NOW, AgentBuilder, an_agent
from tests.support.fake_client import FakeClient

KEY = ("agents", "triage")
PATH = "/apis/interlock.dev/v1alpha1/namespaces/agents/agents/triage"
POD = "/api/v1/namespaces/agents/pods/p1"
DEPLOYMENT = "/apis/apps/v1/namespaces/agents/deployments/d1"
OF_TRIAGE = {"interlock.dev/agent": "triage"}
MOST_TURNS = 2000


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let retries come immediately: how long they pause is no behaviour of interest here."""
    monkeypatch.setattr(kill_watch, "SWEEP_SECONDS", 0)
    monkeypatch.setattr(kill_watch, "RETRY_SECONDS", 0)


class Scene:
    def __init__(self) -> None:
        self.client = FakeClient()
        self.seen: list[tuple[Any, ...]] = []
        self.gone: list[tuple[Any, ...]] = []
        self.watch = KillWatch(
            None,
            lambda: NOW,
            saw=lambda *what: self.seen.append(what),
            gone=lambda *what: self.gone.append(what),
            ended=lambda: None,
        )
        self.killer = Killer(self.client)  # type: ignore[arg-type]
        self.client.put(PATH, an_agent().to_kubernetes())
        self.client.put(POD, {"kind": "Pod", "metadata": {"name": "p1", "labels": OF_TRIAGE}})
        self.client.put(
            DEPLOYMENT,
            {"kind": "Deployment", "metadata": {"name": "d1", "labels": OF_TRIAGE}, "spec": {"replicas": 2}},
        )

    def send(self, agent: AgentBuilder) -> None:
        """Let the watch see the agent as it is now."""
        self.watch._seen(self.killer, AGENT, agent.to_kubernetes())  # noqa: SLF001 - what its watch calls

    @property
    def kill(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.objects[PATH].get("status", {}).get("kill", {})
        return {name: value for name, value in found.items() if value is not None}

    @property
    def is_ended(self) -> bool:
        return POD not in self.client.objects and self.client.objects[DEPLOYMENT]["spec"]["replicas"] == 0


@pytest.fixture
def scene() -> Scene:
    return Scene()


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


@requirement("kill.any-value", "kill.recorded")
@pytest.mark.parametrize("value", ["runaway", "", "Off", "off "])
async def test_any_value_but_off_ends_the_agent_and_is_recorded(scene: Scene, value: str) -> None:
    scene.send(an_agent().killed(value))
    assert scene.watch.seen(KEY) == value

    await until(lambda: "zeroPodsAt" in scene.kill)

    assert scene.is_ended
    assert scene.kill["reason"] == value


async def test_an_agent_without_a_switch_or_with_off_is_left_alone(scene: Scene) -> None:
    scene.send(an_agent())
    scene.send(an_agent().killed("off"))
    await turns()

    assert scene.watch.seen(KEY) is None
    assert scene.client.writes() == []


@requirement("kill.insists")
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/pods"), ("DELETE", "/pods/p1"), ("GET", "/deployments"), ("PATCH", "/deployments/d1")],
)
async def test_a_kill_goes_on_while_the_api_server_refuses(scene: Scene, method: str, path: str) -> None:
    scene.client.refuse(method, path, status=503, times=20)

    scene.send(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.kill)

    assert scene.is_ended


@requirement("kill.insists")
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
async def test_a_kill_goes_on_over_a_defect_of_the_operator_which_is_logged_with_its_trace(
    scene: Scene, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    unread: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unread.append(context))
    scene.client.break_with(KeyError("a defect"), method, "/", times=5)

    scene.send(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.kill)

    assert scene.is_ended
    assert any(record.exc_info for record in caplog.records)
    assert unread == []


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(), OSError("no route")])
async def test_a_kill_goes_on_while_the_api_server_cannot_be_reached(scene: Scene, error: Exception) -> None:
    scene.client.break_with(error, "GET", "/", times=30)

    scene.send(an_agent().killed())
    await until(lambda: "zeroPodsAt" in scene.kill)

    assert scene.is_ended


async def test_a_record_that_is_refused_delays_no_pods_end_and_is_written_later(scene: Scene) -> None:
    scene.client.refuse("PATCH", "/agents/triage/status", times=50)

    scene.send(an_agent().killed("runaway"))
    await until(lambda: scene.is_ended)
    assert scene.kill == {}

    await until(lambda: "zeroPodsAt" in scene.kill)
    assert scene.kill["reason"] == "runaway"


@requirement("kill.latched")
async def test_a_switch_that_is_removed_keeps_the_agent_killed(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway"))
    scene.send(an_agent())

    assert scene.watch.seen(KEY) == "runaway"
    await until(lambda: scene.is_ended)


async def test_off_releases_and_is_recorded_once(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.kill)

    for _ in range(3):
        scene.send(an_agent().killed("off"))
    assert scene.watch.seen(KEY) is None
    await until(lambda: "releasedAt" in scene.kill)
    scene.client.forget_requests()
    scene.send(an_agent().killed("off"))
    await turns()

    assert scene.client.requests == []


async def test_who_set_the_switch_and_who_released_it_is_recorded(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway", by="ada"))
    await until(lambda: "zeroPodsAt" in scene.kill)
    scene.send(an_agent().killed("off", by="alan"))
    await until(lambda: "releasedAt" in scene.kill)

    assert (scene.kill["by"], scene.kill["releasedBy"]) == ("ada", "alan")


@requirement("kill.recorded")
async def test_a_kill_that_is_released_before_it_could_be_recorded_is_recorded_all_the_same(scene: Scene) -> None:
    scene.client.refuse("PATCH", "/status", times=5)
    scene.send(an_agent().killed("a slip"))
    scene.send(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.kill)

    assert scene.kill["reason"] == "a slip"
    assert scene.kill["requestedAt"]


async def test_a_release_that_is_refused_is_recorded_later(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.kill)
    scene.client.refuse("PATCH", "/status", times=20)

    scene.send(an_agent().killed("off"))

    await until(lambda: "releasedAt" in scene.kill)


async def test_a_release_in_the_midst_of_a_kill_ends_the_kill(scene: Scene) -> None:
    scene.client.refuse("DELETE", "/pods/p1", times=10**9)
    scene.send(an_agent().killed("runaway"))
    await turns()

    scene.send(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.kill)
    scene.client.forget_requests()
    await turns()

    assert scene.client.writes() == []


async def test_a_kill_after_a_release_is_a_new_kill(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.kill)
    scene.send(an_agent().killed("off"))
    await until(lambda: "releasedAt" in scene.kill)
    scene.client.put(POD, {"kind": "Pod", "metadata": {"name": "p1", "labels": OF_TRIAGE}})

    scene.send(an_agent().killed("again"))
    await until(lambda: scene.kill.get("reason") == "again" and "zeroPodsAt" in scene.kill)

    assert "releasedAt" not in scene.kill
    assert scene.is_ended


async def test_an_agent_that_is_deleted_while_it_is_killed_is_insisted_on_no_longer(scene: Scene) -> None:
    scene.client.objects.clear()
    scene.send(an_agent().killed("runaway"))
    await turns()
    scene.client.forget_requests()
    await turns()

    assert scene.client.requests == []


async def test_an_agent_that_is_gone_is_no_longer_killed(scene: Scene) -> None:
    scene.send(an_agent().killed("runaway"))
    scene.watch._gone(AGENT, KEY, 9)  # noqa: SLF001 - what its watch calls

    assert scene.watch.seen(KEY) is None
    assert scene.gone == [("Agent", KEY, 9)]


async def test_a_list_names_what_went_while_the_watch_was_cut_off(scene: Scene) -> None:
    scene.send(an_agent())
    scene.send(an_agent("other"))

    listed = ListEvent((an_agent("other").to_kubernetes(),))
    scene.watch._listed(scene.killer, AGENT, listed)  # noqa: SLF001 - what its watch calls

    assert scene.gone == [("Agent", KEY, None)]


def a_pod(name: str, agent: str = "triage", **metadata: str) -> dict[str, Any]:
    labels = {"interlock.dev/agent": agent}
    return {"kind": "Pod", "metadata": {"name": name, "namespace": "agents", "labels": labels, **metadata}}


async def pods_seen(scene: Scene, monkeypatch: pytest.MonkeyPatch, *event: ListEvent | ChangeEvent) -> None:
    """Let the watch of pods send this event, and end."""

    async def follow_events(*_: Any) -> AsyncIterator[ListEvent | ChangeEvent]:
        for one in event:
            yield one

    monkeypatch.setattr(kill_watch, "follow", follow_events)
    client: Any = scene.client
    await scene.watch._watch_pods(client, scene.killer)  # noqa: SLF001 - one of the tasks of its thread


@requirement("kill.zero")
@pytest.mark.parametrize(
    "event", [ChangeEvent("ADDED", a_pod("p2")), ListEvent((a_pod("p2"),))], ids=["added", "listed"]
)
async def test_a_pod_that_comes_up_for_a_killed_agent_is_ended(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, event: ListEvent | ChangeEvent
) -> None:
    scene.send(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.kill)
    path = POD.replace("p1", "p2")
    scene.client.put(path, a_pod("p2"))

    await pods_seen(scene, monkeypatch, event)
    await until(lambda: path not in scene.client.objects)


@pytest.mark.parametrize(
    "event",
    [
        ChangeEvent("ADDED", a_pod("p2", "other")),
        ChangeEvent("ADDED", a_pod("p2", deletionTimestamp="2026-03-02T09:00:00Z")),
        ChangeEvent("MODIFIED", a_pod("p2")),
        ChangeEvent("DELETED", a_pod("p2")),
    ],
    ids=["of another agent", "ending already", "changed", "gone"],
)
async def test_other_pods_start_no_sweep(scene: Scene, monkeypatch: pytest.MonkeyPatch, event: ChangeEvent) -> None:
    scene.send(an_agent().killed("runaway"))
    await until(lambda: "zeroPodsAt" in scene.kill)
    scene.client.forget_requests()

    await pods_seen(scene, monkeypatch, event)
    await turns()

    assert scene.client.requests == []


@requirement("kill.insists")
async def test_an_object_that_no_code_expects_is_skipped_and_the_next_kill_is_seen(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = an_agent("odd").to_kubernetes()
    odd["metadata"]["annotations"] = "no mapping"

    async def follow_events(*_: Any) -> AsyncIterator[ListEvent | ChangeEvent]:
        yield ListEvent((odd, an_agent("listed").killed("runaway").to_kubernetes()))
        yield ChangeEvent("MODIFIED", {"metadata": {"name": "odd", "namespace": "agents"}})
        yield ChangeEvent("MODIFIED", an_agent().killed("runaway").to_kubernetes())

    monkeypatch.setattr(kill_watch, "follow", follow_events)
    client: Any = scene.client
    await scene.watch._follow(client, scene.killer, AGENT)  # noqa: SLF001 - one of the tasks of its thread

    assert scene.watch.seen(KEY) == "runaway"
    assert scene.watch.seen(("agents", "listed")) == "runaway"


async def test_a_policys_annotation_is_no_kill_switch_of_an_agent(scene: Scene) -> None:
    scene.watch._seen(scene.killer, AGENT_POLICY, an_agent().killed().to_kubernetes())  # noqa: SLF001 - what its watch calls

    assert scene.watch.seen(KEY) is None
    assert scene.seen == [("AgentPolicy", KEY, 1)]


@requirement("operator.liveness")
async def test_an_ended_kill_path_is_reported(scene: Scene) -> None:
    assert scene.watch.problem() is None

    scene.watch.failure = RuntimeError("no credentials")

    assert scene.watch.problem() == "the kill path ended: no credentials"


class FoundCredentials:
    async def current(self) -> None: ...


class ClosableClient(FakeClient):
    """A client that refuses every request once it is closed."""

    is_closed = False

    def _asked(self, method: str, path: str, body: Any) -> None:
        assert not self.is_closed, f"{method} {path} after the client was closed"
        super()._asked(method, path, body)

    async def close(self) -> None:
        self.is_closed = True
        await asyncio.sleep(0.05)  # as real connections take a while


async def test_the_kill_path_ends_its_work_and_then_closes_its_client(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kill_watch, "SWEEP_SECONDS", 0.001)
    client, ended = ClosableClient(), list[str]()
    client.objects = scene.client.objects
    client.put(PATH, an_agent().killed().to_kubernetes())
    client.refuse("DELETE", "/pods/p1", status=503, times=10**9)

    async def follow(_: Any, kind: Any, __: Any) -> AsyncIterator[ListEvent]:
        yield ListEvent((client.objects[PATH],) if kind is AGENT else ())
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(f"{kind.kind} with an {'closed' if client.is_closed else 'open'} client")

    monkeypatch.setattr(kill_watch, "find_credentials", lambda _: FoundCredentials())
    monkeypatch.setattr(kill_watch, "KubeClient", lambda *_: client)
    monkeypatch.setattr(kill_watch, "follow", follow)
    scene.watch.start()
    async with asyncio.timeout(10):
        while scene.watch.seen(KEY) is None or not client.requests:  # noqa: ASYNC110 - another thread's
            await asyncio.sleep(0.001)

    await asyncio.to_thread(scene.watch.stop)

    assert sorted(ended) == [f"{kind} with an open client" for kind in ("Agent", "AgentPolicy", "MCPBinding", "Pod")]
    assert client.is_closed
    assert scene.watch.problem() is None
    assert [record for record in caplog.records if record.exc_info] == [], "no request was made of a closed client"
