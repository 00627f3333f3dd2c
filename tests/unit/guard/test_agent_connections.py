"""An agent that is not reached: the guard tries again while nothing was sent, for a bounded time, and says what it saw.

Time stands still but for the pauses between two tries.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interlock_contract.bundle import BundleTaskScope
from interlock_guard.budget.task_accounts import TaskAccounts, TaskReservation
from interlock_guard.tasks import endpoint as task_endpoint
from interlock_guard.tasks import exchange as task_exchange
from interlock_guard.tasks.agent_connector import LONGEST_PAUSE, REACH_SECONDS
from tests.requirements import requirement
from tests.support.placements import EU, REGION_HEADER, Here, Placement, placements, until

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
LIMIT = 10
NONE_SENT = "Nothing of the task was sent."


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Placement]:
    """A guard whose agent has two pods of its own."""
    async with placements(tmp_path, "all", agent_at=(FIRST, SECOND)) as (found,):
        found.open()
        yield found


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Placement]:
    """A guard in the pod of its agent."""
    async with placements(tmp_path, "all") as (found,):
        found.open()
        yield found


def refuse(one: Placement, *addresses: str, error: int = errno.ECONNREFUSED) -> None:
    one.refusing = dict.fromkeys(addresses, error)


def at_pause(one: Placement, number: int, act: Callable[[], object]) -> None:
    """Do something in one of the pauses between two tries."""

    def on_pause() -> None:
        if len(one.pauses) == number:
            act()

    one.on_pause = on_pause


async def refused(one: Placement, **more: Any) -> tuple[int, str, str]:
    """Send a task that is refused; return status, reason and message."""
    return told(await one.send(**more))


def told(answer: tuple[int, Any]) -> tuple[int, str, str]:
    """Return status, reason and message of a refusal."""
    status, body = answer
    return status, body["error"]["data"]["reason"], body["error"]["message"]


async def parts() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


@requirement("tasks.reach")
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_task_waits_for_an_agent_whose_port_opens_late_and_reaches_it_once(
    shared: Placement, method: str
) -> None:
    refuse(shared, FIRST)
    at_pause(shared, 4, lambda: refuse(shared))

    body = None if method == "GET" else b"x"
    assert await shared.send(method=method, body=body) == (200, {"from": "all"})
    assert len(shared.seen) == 1
    assert shared.pauses == [0.1, 0.2, 0.4, 0.5]
    assert [one["outcome"] for one in shared.records()] == ["Answered"]
    assert shared.work.counts.tasks_failed == 0


async def test_a_body_that_streams_waits_with_its_task_and_comes_whole(shared: Placement) -> None:
    refuse(shared, FIRST)
    at_pause(shared, 3, lambda: refuse(shared))

    body: Any = parts()
    assert (await shared.send(body=body))[0] == 200
    assert [sent for _, _, sent in shared.seen] == [b"one two"]


@requirement("tasks.reach")
@pytest.mark.parametrize("error", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT])
async def test_a_pod_that_is_not_reached_costs_no_task_where_there_is_another(one: Placement, error: int) -> None:
    refuse(one, FIRST, error=error)

    assert (await one.send())[0] == 200
    assert one.dialled == [FIRST, SECOND]
    assert (one.reached, one.pauses) == ([SECOND], [])


@requirement("tasks.reach")
async def test_each_try_asks_again_which_pods_there_are(one: Placement) -> None:
    one.resolver.addresses = (FIRST,)  # its pod has just ended, and DNS still names it
    refuse(one, FIRST)

    def start_the_next() -> None:
        one.resolver.addresses = (SECOND,)

    at_pause(one, 2, start_the_next)

    assert (await one.send())[0] == 200
    assert (one.dialled, one.reached) == ([FIRST, FIRST, SECOND], [SECOND])
    assert one.resolver.lookups == 3


async def test_a_task_waits_for_the_first_pod_that_is_ready(one: Placement) -> None:
    one.resolver.addresses = ()

    def start_the_first() -> None:
        one.resolver.addresses = (FIRST,)

    at_pause(one, 1, start_the_first)

    assert (await one.send())[0] == 200
    assert (one.reached, len(one.pauses)) == ([FIRST], 1)


async def test_a_pod_that_takes_no_connection_in_time_is_given_up_and_tried_again(
    shared: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = task_exchange.aiohttp.ClientTimeout(total=None, sock_connect=0.01)
    monkeypatch.setattr(task_exchange, "_LIMITS", silent)
    with socket.create_server((FIRST, 0), backlog=0) as full:
        held = _fill(full)
        shared.agent_port = full.getsockname()[1]
        shared.open()
        status, reason, message = await refused(shared)
        for other in held:
            other.close()

    assert (status, reason) == (502, "AgentUnavailable")
    assert f"The last connection to port {shared.agent_port} was not answered in time." in message
    assert len(shared.pauses) > 10


def _fill(full: socket.socket) -> list[socket.socket]:
    """Open connections until the next one has no place in the queue of a server that accepts none."""
    held = []
    for _ in range(4):
        held.append(socket.socket())
        held[-1].settimeout(0)
        with suppress(BlockingIOError):
            held[-1].connect(full.getsockname())
    return held


@requirement("tasks.reach")
async def test_a_dead_agent_is_a_502_after_a_bounded_time_that_says_what_was_tried(shared: Placement) -> None:
    refuse(shared, FIRST)

    status, reason, message = await refused(shared)

    assert (status, reason) == (502, "AgentUnavailable")
    assert REACH_SECONDS - LONGEST_PAUSE <= sum(shared.pauses) <= REACH_SECONDS
    tries = len(shared.pauses) + 1
    assert message == (
        f"The agent was not reached within 10 s (tries: {tries}). The last connection to port {shared.agent_port} was "
        f"refused. No process listens there. {NONE_SENT}"
    )
    assert len(shared.dialled) == tries
    assert [one["outcome"] for one in shared.records()] == ["AgentUnavailable"]
    assert shared.work.counts.tasks_failed == 1


async def test_one_try_dials_each_pod_once(one: Placement) -> None:
    refuse(one, FIRST, SECOND)

    _, _, message = await refused(one)

    assert one.dialled[:4] == [FIRST, SECOND, FIRST, SECOND]
    assert len(one.dialled) == 2 * (len(one.pauses) + 1)
    assert f"port {one.agent_port} of each of 2 pods was refused. No process listens there, or the network" in message


@pytest.mark.parametrize(
    ("error", "said"),
    [(errno.EHOSTUNREACH, "failed (No route to host)"), (errno.ETIMEDOUT, "was not answered in time")],
)
async def test_the_error_says_how_the_last_try_failed(shared: Placement, error: int, said: str) -> None:
    refuse(shared, FIRST, error=error)

    assert f"The last connection to port {shared.agent_port} {said}. {NONE_SENT}" in (await refused(shared))[2]


async def test_the_error_names_no_address_and_says_where_pods_fail_in_several_ways(one: Placement) -> None:
    one.refusing = {FIRST: errno.ECONNREFUSED, SECOND: errno.EHOSTUNREACH}

    message = (await refused(one))[2]

    assert f"of each of 2 pods failed, not all in the same way. {NONE_SENT}" in message
    assert "127.0.0" not in message


async def test_the_error_says_that_no_pod_is_ready(one: Placement) -> None:
    one.resolver.addresses = ()

    assert "DNS names no pod of the agent that is Ready. " in (await refused(one))[2]
    assert one.dialled == []


async def test_the_error_says_that_dns_is_away(one: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **_more: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(Here, "resolve", fail)

    assert "The name of the agent's Service could not be resolved. " in (await refused(one))[2]


async def test_the_error_says_that_every_pod_has_another_image(one: Placement) -> None:
    one.open(changed_addresses=[FIRST, SECOND])

    assert "Every pod of the agent runs another image than its revision was Ready with" in (await refused(one))[2]
    assert one.dialled == []


# What ends the wait


async def wait_for_the_agent(one: Placement) -> asyncio.Task[tuple[int, Any]]:
    """Return a task that waits for its agent for ever, since its time stands still."""
    refuse(one, FIRST, SECOND)
    one.on_pause = lambda: setattr(one, "dial_clock", 0.0)
    task = asyncio.create_task(one.send())
    await until(lambda: len(one.pauses) > 2)
    return task


@requirement("tasks.kill")
async def test_a_kill_ends_the_wait_immediately(one: Placement) -> None:
    task = await wait_for_the_agent(one)
    one.live.handle_agent(
        {
            "metadata": {"uid": "u", "annotations": {"interlock.dev/kill-switch": "incident-42"}},
            "status": {"bundleDigests": one.digests},
        }
    )

    assert told(await task) == (503, "Killed", "incident-42")
    tries = len(one.dialled)
    refuse(one)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(one.dialled), one.seen) == (tries, []), "it is tried no more"
    assert [record["outcome"] for record in one.records()] == ["Killed"]


async def test_a_caller_that_hangs_up_ends_the_wait(one: Placement) -> None:
    task = await wait_for_the_agent(one)
    task.cancel()

    await until(lambda: one.endpoint.under_way == 0)
    tries = len(one.dialled)
    refuse(one)
    for _ in range(20):
        await asyncio.sleep(0)
    assert (len(one.dialled), one.seen) == (tries, [])
    assert [record["outcome"] for record in one.records()] == ["Cancelled"]


async def test_the_end_of_the_guard_ends_the_wait(one: Placement) -> None:
    task = await wait_for_the_agent(one)
    one.endpoint.end()

    assert told(await task)[:2] == (503, "GuardEnded")
    assert one.seen == []


async def test_a_guard_that_loses_contact_refuses_what_waits_before_its_agent_is_there(one: Placement) -> None:
    task = await wait_for_the_agent(one)
    one.now = 1000.0

    assert told(await task)[:2] == (503, "StaleState")
    assert (one.seen, one.records()) == ([], []), "a refusal, and no task"
    assert one.figure("tasks_running") == "0"


async def test_a_task_does_not_wait_longer_than_its_own_time(one: Placement, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_exchange, "TASK_SECONDS", 0.05)
    task = await wait_for_the_agent(one)

    message = "The time that a task may take was over before the agent was reached. Nothing of the task was sent there."
    assert told(await task) == (504, "TimedOut", message)
    assert one.seen == []


async def test_a_task_that_waits_for_its_agent_keeps_its_place(one: Placement) -> None:
    one.open(most=1)
    task = await wait_for_the_agent(one)
    other = asyncio.create_task(one.send())
    await until(lambda: one.figure("tasks_waiting") == "1")
    assert one.figure("tasks_running") == "1"

    refuse(one)
    assert [(await sent)[0] for sent in (task, other)] == [200, 200]
    assert len(one.seen) == 2


async def test_a_task_that_waits_is_in_no_pod_and_counts_as_under_way(one: Placement) -> None:
    one.open(draining_addresses=(FIRST, SECOND))
    counted: list[tuple[int | None, int]] = []
    refuse(one, FIRST, SECOND)
    one.on_pause = lambda: counted.append((one.endpoint.under_way_leaving, one.endpoint.under_way))
    await refused(one)

    assert set(counted) == {(0, 1)}


async def test_calls_count_against_a_task_only_once_the_agent_has_it(one: Placement) -> None:
    accounts = one.endpoint._accounts  # noqa: SLF001 - the budget has them otherwise
    one.go_on.clear()
    task = await wait_for_the_agent(one)
    spend(accounts, 7)
    assert accounts.left("", LIMIT) == LIMIT

    refuse(one)
    await until(lambda: one.seen)
    assert accounts.left("", LIMIT) == LIMIT, "what was spent before is not the task's"
    spend(accounts, 7)
    assert accounts.left("", LIMIT) == 3
    one.go_on.set()
    await task


def spend(accounts: TaskAccounts, amount: int) -> None:
    reserved = accounts.reserve("", amount, None)
    assert isinstance(reserved, TaskReservation)
    reserved.settle(amount)


async def test_a_task_that_another_placement_serves_by_now_goes_there_however_long_it_has_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_endpoint, "ROUTE_SECONDS", 0.2)
    clock = asyncio.get_running_loop().time
    began = clock()
    declared: tuple[BundleTaskScope, ...] = (REGION_HEADER,)
    async with placements(tmp_path, "broken", "good") as (broken, good):
        good.open(declared=declared)
        broken.open(good.peer(), scope=EU, declared=declared)
        refuse(broken, FIRST)

        def drain_late() -> None:
            broken.dial_clock = 0.0
            if clock() > began + task_endpoint.ROUTE_SECONDS:
                broken.open(good.peer(), scope=EU, declared=declared, draining=True)
                refuse(broken)  # the other guard has the same address

        broken.on_pause = drain_late
        answer = await broken.send(headers={"X-Region": "eu"})

    assert answer == (200, {"from": "good"})
    assert (broken.seen, len(good.seen)) == ([], 1)


# What was sent is never sent again


@requirement("tasks.reach")
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
@pytest.mark.parametrize("has_read", [True, False], ids=["read", "unread"])
async def test_a_request_that_was_sent_is_never_repeated_though_another_pod_would_serve_it(
    one: Placement, method: str, monkeypatch: pytest.MonkeyPatch, *, has_read: bool
) -> None:
    taken: list[str] = []

    async def break_off(http: web.BaseRequest) -> web.StreamResponse:
        assert http.transport is not None
        taken.append(http.transport.get_extra_info("sockname")[0])
        if has_read:
            await http.content.read()
        http.transport.abort()
        return web.Response()

    monkeypatch.setattr(one, "take", break_off)
    body = None if method == "GET" else b"x" * 2**20

    assert (await refused(one, method=method, body=body))[:2] == (502, "BrokenOff")
    assert (taken, one.dialled, one.pauses) == ([FIRST], [FIRST], [])


@requirement("tasks.reach")
async def test_a_connection_that_ends_before_a_byte_was_read_is_not_tried_again(one: Placement) -> None:
    dialled: list[str] = []

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.append(FIRST)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, FIRST, 0) as server:
        one.agent_port = server.sockets[0].getsockname()[1]
        one.open()
        assert (await refused(one))[:2] == (502, "BrokenOff")

    assert (dialled, one.dialled, one.pauses) == ([FIRST], [FIRST], [])


async def test_a_body_of_which_a_part_was_sent_is_not_sent_again(
    one: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()
    taken: list[bytes] = []

    async def break_off(http: web.BaseRequest) -> web.StreamResponse:
        taken.append(await http.content.readany())
        begun.set()
        assert http.transport is not None
        http.transport.abort()
        return web.Response()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await begun.wait()
        yield b"two"

    monkeypatch.setattr(one, "take", break_off)
    sent: Any = body()

    assert (await refused(one, body=sent))[:2] == (502, "BrokenOff")
    assert (taken, one.dialled, one.pauses) == ([b"one"], [FIRST], [])
