"""The preStop hook: how long the kubelet waits before it ends the agent of a pod that is evicted or deleted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from interlock_contract.bundle import AgentIdentity, Bundle, digest, dump_bundle
from interlock_guard import pre_stop
from interlock_guard.pre_stop import MAX_WAITING, OF_KUBELET, PreStop
from interlock_guard.state import LiveState
from tests.support.bounds import until
from tests.support.placements import Placement, placements

BUNDLE = dump_bundle(Bundle(4, AgentIdentity("a", "agents", "u"), "r", "all", "production", (), ()))
AGENT = {"metadata": {"uid": "u"}, "status": {"bundleDigests": [digest(BUNDLE)]}}
KILLED = {"metadata": {"uid": "u", "annotations": {"interlock.dev/kill-switch": "leak"}}}
LEAST, MOST = 10.0, 28.0


class Pod:
    """A pod whose clock and work the test sets."""

    def __init__(self) -> None:
        self.now, self.under_way, self.drains = 0.0, 0, False
        self.last_request: float | None = None
        self.live = LiveState()
        self.hook = PreStop(
            self.live,
            count=lambda: self.under_way,
            drains=lambda: self.drains,
            last_request=lambda: self.last_request,
            seconds=MOST,
            monotonic=lambda: self.now,
        )
        self.live.reactions = (self.hook.follow,)
        self.live.handle_agent(AGENT)
        self.live.handle_bundle(BUNDLE)

    async def call(self, peer: str = "10.0.0.1") -> asyncio.Task[None]:
        """Return a call of the hook that has begun."""
        call = asyncio.create_task(self.hook.wait(peer))
        await asyncio.sleep(0)
        return call


async def waits(call: asyncio.Task[None]) -> bool:
    """Return True if a call still waits after the guard has counted a few times."""
    await asyncio.wait({call}, timeout=10 * pre_stop.PAUSE_SECONDS)
    return not call.done()


async def ends(*calls: asyncio.Task[None]) -> None:
    async with asyncio.timeout(20):
        await asyncio.gather(*calls)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> Pod:
    monkeypatch.setattr(pre_stop, "PAUSE_SECONDS", 0.002)
    return Pod()


async def test_the_hook_waits_for_what_is_under_way(pod: Pod) -> None:
    pod.under_way = 1
    call = await pod.call()
    pod.now = LEAST
    assert await waits(call)
    pod.under_way = 0
    await ends(call)
    assert not pod.hook.is_waiting


async def test_the_hook_waits_until_nodes_have_learned_to_send_nothing(pod: Pod) -> None:
    call = await pod.call()
    pod.now = LEAST - 0.001
    assert await waits(call)
    pod.now = LEAST
    await ends(call)


async def test_the_hook_waits_until_no_slow_node_sends_anything(pod: Pod) -> None:
    """Requests that end between two counts of what is under way hold it up as others do."""
    call = await pod.call()
    pod.now, pod.last_request = LEAST, 7.5
    assert await waits(call)
    pod.now = 7.5 + LEAST
    await ends(call)


async def test_requests_before_the_hook_do_not_hold_it_up(pod: Pod) -> None:
    pod.now, pod.last_request = 100.0, 99.0
    call = await pod.call()
    pod.now += LEAST
    await ends(call)


async def test_a_pod_that_has_drained_already_waits_for_slow_nodes_alone(pod: Pod) -> None:
    pod.drains = True
    pod.live.handle_agent(AGENT)
    pod.now, pod.last_request = LEAST, 4.0
    call = await pod.call()
    assert await waits(call)
    pod.now = 4.0 + LEAST
    await ends(call)


async def test_a_pod_that_has_drained_already_ends_immediately(pod: Pod) -> None:
    pod.drains = True
    pod.live.handle_agent(AGENT)
    pod.now = LEAST
    pod.live.handle_agent(AGENT)  # a later event begins no new drain
    await ends(await pod.call())


async def test_a_drain_that_was_taken_back_does_not_count(pod: Pod) -> None:
    for pod.drains in (True, False):
        pod.live.handle_agent(AGENT)
    pod.now = LEAST
    call = await pod.call()
    assert await waits(call)
    pod.now = 2 * LEAST
    await ends(call)


async def test_a_guard_without_a_bundle_takes_nothing_new_and_finishes_what_it_has(pod: Pod) -> None:
    pod.under_way = 1
    pod.live.handle_bundle(None)
    call = await pod.call()
    assert await waits(call)
    pod.under_way = 0
    await ends(call)


async def test_the_hook_leaves_the_rest_of_the_grace_period_to_the_agents_end(pod: Pod) -> None:
    pod.under_way = 1
    call = await pod.call()
    pod.now = MOST - 0.001
    assert await waits(call)
    pod.now = MOST
    await ends(call)


@pytest.mark.parametrize("event", [KILLED, None], ids=["a kill", "the deletion of the Agent"])
async def test_a_kill_ends_the_wait_without_a_pause(
    event: dict[str, object] | None, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pre_stop, "PAUSE_SECONDS", 3600)
    pod.under_way = 1
    call = await pod.call()
    await until(lambda: pod.hook.is_waiting, "the call waits")
    pod.live.handle_agent(event)
    await ends(call)
    await ends(await pod.call())  # nor does one wait that comes after it


async def test_a_flood_of_one_peer_ends_its_own_calls(pod: Pod) -> None:
    pod.under_way = 1
    kubelet = await pod.call()
    flood = [await pod.call("10.0.0.9") for _ in range(MAX_WAITING + 4)]
    await until(lambda: sum(one.done() for one in flood) == 5, "what is too much was answered")
    assert await waits(kubelet)
    pod.under_way, pod.now = 0, LEAST
    await ends(kubelet, *flood)


async def test_of_many_peers_with_one_call_each_the_last_one_is_answered(pod: Pod) -> None:
    pod.under_way = 1
    calls = [await pod.call(f"10.0.0.{number}") for number in range(MAX_WAITING + 1)]
    await ends(calls.pop())
    assert await waits(calls[0])
    assert not any(one.done() for one in calls)
    pod.under_way, pod.now = 0, LEAST
    await ends(*calls)


@pytest.mark.parametrize("first", ["the kubelet", "the others"])
async def test_no_number_of_peers_ends_the_kubelets_calls(first: str, pod: Pod) -> None:
    """It calls once for each container, so that it may be the peer with the most calls."""
    pod.under_way = 1
    pod.hook.note_start_probe("10.0.0.1")
    pod.hook.note_start_probe("10.0.1.1")  # a later one, of someone who has learned the pod's address
    peers = [*["10.0.0.1"] * OF_KUBELET, *(f"10.0.1.{number}" for number in range(MAX_WAITING + 4))]
    calls = [(peer, await pod.call(peer)) for peer in (peers if first == "the kubelet" else reversed(peers))]
    await until(lambda: sum(call.done() for _, call in calls) == len(peers) - MAX_WAITING, "room was made")
    assert {peer for peer, call in calls if call.done()} <= set(peers[OF_KUBELET:])
    pod.under_way, pod.now = 0, LEAST
    await ends(*(call for _, call in calls))


async def test_a_flood_from_the_kubelets_address_ends_its_own_calls(pod: Pod) -> None:
    """Pods in the network of the node have it, too."""
    pod.under_way = 1
    pod.hook.note_start_probe("10.0.0.1")
    kubelet = await pod.call()
    other = await pod.call("10.0.0.9")
    flood = [await pod.call() for _ in range(MAX_WAITING + 4)]
    await until(lambda: sum(one.done() for one in flood) == 6, "what is too much was answered")
    assert await waits(kubelet)
    assert not other.done()
    pod.under_way, pod.now = 0, LEAST
    await ends(kubelet, other, *flood)


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Placement]:
    async with placements(tmp_path, "all") as (found,):
        found.open()
        yield found


async def test_while_the_hook_waits_tasks_are_served_and_their_connections_end(one: Placement) -> None:
    waiting = False
    one.endpoint.is_leaving = lambda: waiting

    async def ends_connection(status: int) -> bool:
        url = f"http://127.0.0.1:{one.port}/"
        one.seconds_until_money = 5 if status == 429 else None
        async with one.session.post(url, data=b"x") as response:
            assert response.status == status
            return response.headers.get("Connection") == "close"

    assert not await ends_connection(200)
    assert not await ends_connection(429)
    waiting = True
    assert await ends_connection(200)
    assert await ends_connection(429)
    assert one.endpoint.drains is False, "the bundle alone says that a guard drains"
    waiting = False
    assert not await ends_connection(200)


async def test_without_time_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    extended: Callable[..., None] = lambda *_: pytest.fail("a call waits")  # noqa: E731
    monkeypatch.setattr(pre_stop, "extend", extended)
    hook = PreStop(
        LiveState(),
        count=lambda: 1,
        drains=lambda: False,
        last_request=lambda: None,
        seconds=0,
        monotonic=lambda: 0.0,
    )
    assert (await hook.answer(None)).status == 200  # type: ignore[arg-type]  # nothing of the request is read
