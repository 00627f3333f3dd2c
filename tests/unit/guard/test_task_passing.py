"""Where tasks go between placements of an agent: by the values that they name, by A2A's ids, and while one drains."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from interlock_contract.bundle import BundleTaskScope
from interlock_guard.tasks import endpoint as task_endpoint
from interlock_guard.tasks import exchange as task_exchange
from interlock_guard.tasks.inspection import LONGEST_READ, BodyRoom
from tests.requirements import requirement
from tests.support.placements import EU, REGION_HEADER, US, Placement, placements, until

IN_BODY = (BundleTaskScope("region", pointer="/meta/region"),)


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Placement]]:
    """The limited placements of eu and us, and the one that serves the rest."""
    monkeypatch.setattr(task_endpoint, "PAUSE_SECONDS", 0.01)
    async with placements(tmp_path, "one-eu", "one-us", "everywhere") as found:
        connect(found)
        yield found


def connect(three: list[Placement], declared: tuple[BundleTaskScope, ...] = (REGION_HEADER,)) -> None:
    eu, us, rest = three
    eu.open(us.peer(US), rest.peer((), (EU, US)), scope=EU, declared=declared)
    us.open(eu.peer(EU), rest.peer((), (EU, US)), scope=US, declared=declared)
    rest.open(eu.peer(EU), us.peer(US), excluded=(EU, US), declared=declared)


def served(three: list[Placement]) -> list[int]:
    return [len(one.seen) for one in three]


@pytest.mark.parametrize(
    ("region", "by"),
    [("eu", 0), ("eu2, eu", 0), ("us", 1), ("asia", 2), ("", None), ("EU", 2), (None, 2)],
)
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_a_task_is_served_by_the_placement_of_its_values_wherever_it_is_sent(
    three: list[Placement], region: str | None, by: int | None, at: int
) -> None:
    status, body = await three[at].send("/do?x=1", headers={} if region is None else {"X-Region": region})

    if by is None:
        assert (status, body["error"]["data"]["reason"]) == (400, "BadRequest")
        assert served(three) == [0, 0, 0]
        return
    assert (status, body) == (200, {"from": three[by].stage})
    assert served(three) == [int(index == by) for index in range(3)]
    await until(three[at].records)
    (record,) = three[at].records()
    assert record.get("passedTo") == (None if by == at else f"{three[by].stage}/r")
    assert record.get("values") == (None if region is None else f"region={region.replace(' ', '')}")
    assert [one.figure('tasks_passed_on_total{outcome="Answered"}') for one in three] == [
        "1" if index == at != by else "" for index in range(3)
    ]


@requirement("tasks.scope")
async def test_a_task_of_values_of_two_placements_is_refused_with_who_serves_which(three: list[Placement]) -> None:
    for one in three:
        status, body = await one.send(headers={"X-Region": "eu,us"})

        assert status == 421
        assert body["error"]["data"]["reason"] == "OutOfScope"
        assert sorted(body["error"]["data"]["servedBy"], key=str) == [
            {"stage": "one-eu", "revision": "r", "values": {"region": ["eu"]}},
            {"stage": "one-us", "revision": "r", "values": {"region": ["us"]}},
        ]
        assert "region=eu,us as a whole" in body["error"]["message"]
        (record,) = one.records()
        assert (record["outcome"], record["status"], record["values"]) == ("OutOfScope", 421, "region=eu,us")
    assert served(three) == [0, 0, 0]


@requirement("tasks.scope")
async def test_where_no_placement_serves_the_rest_the_refusal_says_so(three: list[Placement]) -> None:
    eu, us, _ = three
    eu.open(us.peer(US), scope=EU)

    status, body = await eu.send(headers={"X-Region": "asia"})
    nothing = await eu.send()

    assert (status, body["error"]["data"]["servedBy"]) == (421, [])
    assert body["error"]["message"] == "No placement of the agent serves region=asia."
    assert nothing[0] == 421
    assert "names no value" in nothing[1]["error"]["message"]


async def test_a_placement_that_is_being_started_takes_no_task(three: list[Placement]) -> None:
    eu, _, rest = three
    eu.open(rest.peer(), scope=EU, excluded=((),))
    rest.open(eu.peer(EU, ((),)))

    assert await eu.send(headers={"X-Region": "eu"}) == (200, {"from": "everywhere"})
    assert await rest.send(headers={"X-Region": "eu"}) == (200, {"from": "everywhere"})


async def test_an_agent_that_does_not_say_how_tasks_name_values_takes_what_its_service_gets(
    three: list[Placement],
) -> None:
    connect(three, ())

    assert [await one.send(headers={"X-Region": "us"}) for one in three] == [
        (200, {"from": one.stage}) for one in three
    ]


@requirement("tasks.once")
@pytest.mark.parametrize("value", ["task", "scope", "", "TASK", "scope, task", "9"])
async def test_what_claims_to_be_passed_on_gains_nothing(three: list[Placement], value: str) -> None:
    eu, _, rest = three
    claims = {"Interlock-Forwarded": value, "Interlock-Refused": "OutOfScope"}

    status, reason = await rest.reason(headers={"X-Region": "eu", **claims})
    inside = await eu.reason(headers={"X-Region": "eu", **claims})

    assert (status, reason) == (421, "UnknownTask" if value == "task" else "OutOfScope")
    assert inside == ((421, "UnknownTask") if value == "task" else (200, ""))
    assert all("Interlock-Forwarded" not in headers for _, headers, _ in eu.seen)


@requirement("tasks.once")
async def test_guards_that_disagree_never_send_a_task_in_circles(three: list[Placement]) -> None:
    eu, us, rest = three
    eu.open(us.peer(), excluded=((),))
    us.open(rest.peer(), excluded=((),))
    rest.open(eu.peer(), excluded=((),))

    results = [await one.reason() for one in three]

    assert results == [(503, "PeerUnavailable")] * 3
    assert served(three) == [0, 0, 0]
    assert [one.endpoint.under_way for one in three] == [0, 0, 0]


async def test_a_task_waits_until_the_other_placement_has_its_bundle_too(
    three: list[Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, us, rest = three
    eu.open(us.peer(US), rest.peer(), scope=EU, excluded=((),))  # it does not know yet that it serves
    waits = 0

    async def sleep(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            connect(three)

    monkeypatch.setattr(task_endpoint, "_sleep", sleep)

    assert await rest.send(headers={"X-Region": "eu"}) == (200, {"from": "one-eu"})
    assert waits == 3


async def test_a_peer_that_is_away_is_said_with_a_time_to_come_back(three: list[Placement]) -> None:
    eu, us, rest = three
    rest.open(eu.peer(EU, port=1), us.peer(US), excluded=(EU, US))

    async with rest.session.post(f"http://127.0.0.1:{rest.port}/", headers={"X-Region": "eu"}) as response:
        body = json.loads(await response.read())

    assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert body["error"]["data"]["reason"] == "PeerUnavailable"
    assert [one["outcome"] for one in rest.records()] == ["PeerUnavailable"]
    assert await rest.send(headers={"X-Region": "us"}) == (200, {"from": "one-us"})


async def test_identity_and_trace_pass_and_what_belongs_to_the_guard_does_not(three: list[Placement]) -> None:
    eu, _, rest = three
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    sent = {"X-Region": "eu", "Authorization": "Bearer t", "traceparent": trace, "Cookie": "c=1", "Interlock-Task": "x"}
    eu.headers = {"Interlock-Refused": "OutOfScope", "X-Answer": "1"}
    eu.status = 421

    async with rest.session.post(f"http://127.0.0.1:{rest.port}/", data=b"x", headers=sent) as response:
        answered = dict(response.headers)
        status = response.status

    ((_, headers, body),) = eu.seen
    kept = {name: headers[name] for name in ("Authorization", "Cookie", "traceparent", "X-Region")}
    assert kept == {name: sent[name] for name in kept}
    assert headers["Interlock-Task"] not in ("x", answered["Interlock-Task"])
    assert body == b"x"
    assert status == 421, "the agent's own 421 is its answer"
    assert answered["X-Answer"] == "1"
    assert "Interlock-Refused" not in answered


async def test_a_body_of_4_mib_streams_through_both_guards(three: list[Placement]) -> None:
    eu, _, rest = three

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    body: Any = parts()
    assert await rest.send(body=body, headers={"X-Region": "eu"}) == (200, {"from": "one-eu"})
    assert len(eu.seen[0][2]) == 2**22


async def test_short_bodies_without_a_length_take_no_more_memory_than_they_need(
    three: list[Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    rest = three[2]
    monkeypatch.setattr(rest.endpoint, "_bodies", BodyRoom(LONGEST_READ + 5))
    rest.go_on.clear()

    async def part() -> AsyncIterator[bytes]:
        yield b"{}"

    bodies: list[Any] = [part() for _ in range(3)]
    held = []
    for number, body in enumerate(bodies, 1):
        held.append(asyncio.create_task(rest.send(body=body)))
        await until(lambda number=number: len(rest.seen) == number or held[-1].done())
    too_long = await rest.reason(body=b"x" * LONGEST_READ)
    rest.go_on.set()

    assert [status for status, _ in await asyncio.gather(*held)] == [200] * 3
    assert too_long == (429, "TooManyTasks"), "what is under way keeps its bodies"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
async def test_a_task_whose_agent_breaks_off_is_not_sent_again(
    three: list[Placement], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    eu, _, rest = three
    sent = 0

    async def break_off(http: web.BaseRequest) -> web.StreamResponse:
        nonlocal sent
        sent += 1
        await http.content.read()
        assert http.transport is not None
        http.transport.abort()
        return web.Response()

    monkeypatch.setattr(eu, "take", break_off)
    for number, at in enumerate((eu, rest), 1):
        body = None if method == "GET" else b"x"
        assert await at.reason(method=method, body=body, headers={"X-Region": "eu"}) == (502, "BrokenOff")
        assert sent == number


async def test_a_task_that_is_passed_on_takes_no_place_of_the_agent(three: list[Placement]) -> None:
    eu, us, rest = three
    rest.open(eu.peer(EU), us.peer(US), excluded=(EU, US), most=1)
    eu.go_on.clear()
    held = [asyncio.create_task(rest.send(headers={"X-Region": "eu"})) for _ in range(4)]
    await until(lambda: len(eu.seen) == 4)

    assert await rest.send() == (200, {"from": "everywhere"})
    assert (await rest.reason(headers={"X-Region": "eu"}))[1] == "TooManyTasks"
    assert rest.figure('task_refusals_total{reason="TooManyTasks"}') == "1", "its own limit, not that of the peer"
    assert rest.endpoint.under_way == 4
    eu.go_on.set()
    assert [status for status, _ in await asyncio.gather(*held)] == [200] * 4


async def test_a_kill_ends_what_is_passed_on_and_passes_on_nothing_new(three: list[Placement]) -> None:
    eu, _, rest = three
    eu.go_on.clear()
    held = asyncio.create_task(rest.reason(headers={"X-Region": "eu"}))
    await until(lambda: eu.seen)

    rest.live.handle_agent(
        {"metadata": {"uid": "u", "annotations": {"interlock.dev/kill-switch": "leak"}}, "status": {}}
    )

    assert await held == (503, "Killed")
    assert await rest.reason(headers={"X-Region": "eu"}) == (503, "Killed")
    assert served(three) == [1, 0, 0]


SEND = {"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {"messageId": "m"}}}


def a_message(**ids: str) -> dict[str, Any]:
    return {**SEND, "params": {"message": {"messageId": "m", **ids}}}


def a_task(state: str, task: str = "t-1", context: str = "c-1") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "result": {"id": task, "contextId": context, "status": {"state": state}}}


def a_query(method: str, task: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"id": task}}


async def begin(placement: Placement, state: str = "working", **headers: str) -> None:
    placement.answer = a_task(state)
    assert (await placement.send(body=SEND, headers={name.replace("_", "-"): one for name, one in headers.items()}))[
        0
    ] == 200
    placement.answer = {"from": placement.stage}


@requirement("tasks.where-begun")
async def test_what_a_guard_began_goes_to_its_agent_wherever_it_is_sent_even_out_of_scope(
    three: list[Placement],
) -> None:
    eu, us, rest = three
    await begin(eu, X_Region="eu")
    eu.open(us.peer(US), rest.peer((), (US,)), scope=EU, draining=True)
    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/", a_query("tasks/get", "t-1")),
        ("POST", "/", a_query("CancelTask", "t-1")),
        ("POST", "/", a_message(contextId="c-1")),
        ("POST", "/", a_message(taskId="t-1")),
        ("GET", "/v1/tasks/t-1", None),
        ("POST", "/tasks/t-1:cancel", b""),
        ("POST", "/message:send", {"message": {"contextId": "c-1"}}),
        ("GET", "/tasks?contextId=c-1", None),
    ]
    for at in three:
        for method, path, body in requests:
            assert await at.send(path, body, method=method) == (200, {"from": "one-eu"}), (at.stage, path, body)


async def test_an_id_that_no_guard_knows_goes_by_scope(three: list[Placement]) -> None:
    eu, us, rest = three

    assert await us.send(body=a_message(contextId="new"), headers={"X-Region": "eu"}) == (200, {"from": "one-eu"})
    assert await rest.send(body=a_message(contextId="new")) == (200, {"from": "everywhere"})
    assert await eu.send(body=a_query("tasks/get", "new")) == (200, {"from": "one-eu"})
    assert served(three) == [2, 0, 1]


async def test_a_peer_that_is_away_does_not_keep_an_unknown_id_from_going_by_scope(three: list[Placement]) -> None:
    eu, us, rest = three
    rest.open(eu.peer(EU, port=1), us.peer(US), excluded=(EU, US))

    assert await rest.send(body=a_message(contextId="new")) == (200, {"from": "everywhere"})


def exhaust(placement: Placement) -> None:
    placement.seconds_until_money = 60


def start(placement: Placement) -> None:
    placement.live.set_unverified_reason("the self-test has not run")


def close(placement: Placement) -> None:
    placement.live.handle_agent({"metadata": {"uid": "u"}, "status": {"bundleDigests": ["0" * 64]}})


def lose_contact(placement: Placement) -> None:
    placement.now = 1e6


@pytest.mark.parametrize("trouble", [exhaust, start, close, lose_contact])
async def test_trouble_of_a_peer_that_knows_no_id_is_no_answer(
    three: list[Placement], trouble: Callable[[Placement], None]
) -> None:
    eu, us, rest = three
    trouble(eu)
    trouble(us)

    for body in (a_message(contextId="new"), a_query("tasks/get", "new")):
        assert await rest.send(body=body) == (200, {"from": "everywhere"})


async def test_what_the_guard_of_a_known_task_refuses_is_refused(three: list[Placement]) -> None:
    eu, _, rest = three
    await begin(eu, X_Region="eu")
    exhaust(eu)

    assert await rest.reason(body=a_message(taskId="t-1")) == (429, "BudgetExhausted")
    assert await rest.send(body=a_query("tasks/get", "t-1")) == (200, {"from": "one-eu"})


@pytest.mark.parametrize("trouble", [start, close, lose_contact])
async def test_a_task_waits_until_the_guard_of_its_placement_is_open_again(
    three: list[Placement], monkeypatch: pytest.MonkeyPatch, trouble: Callable[[Placement], None]
) -> None:
    eu, us, rest = three

    async def open_again(_: float) -> None:
        eu.now = 0.0
        connect(three)
        monkeypatch.setattr(task_endpoint, "_sleep", asyncio.sleep)

    monkeypatch.setattr(task_endpoint, "_sleep", open_again)
    trouble(eu)

    assert await rest.send(headers={"X-Region": "eu"}) == (200, {"from": "one-eu"})
    trouble(eu)
    assert await us.reason(headers={"X-Region": "eu"}) == (503, "PeerUnavailable")


async def test_draining_peers_are_asked_first_and_each_once(three: list[Placement]) -> None:
    eu, us, rest = three
    rest.open(us.peer(US), eu.peer(EU, draining=True), excluded=(US,))
    await begin(eu, X_Region="eu")
    await begin(us, X_Region="us")

    assert await rest.send(body=a_message(taskId="t-1")) == (200, {"from": "one-eu"})
    assert not any("UnknownTask" in line for line in us.endpoint.lines()), "the draining one was asked first"


async def test_a_draining_guard_takes_no_new_task_and_finishes_those_under_way(three: list[Placement]) -> None:
    eu, us, rest = three
    eu.go_on.clear()
    held = asyncio.create_task(eu.send(headers={"X-Region": "eu"}))
    await until(lambda: eu.seen)
    await asyncio.sleep(0)

    eu.open(us.peer(US), rest.peer((), (US,)), scope=EU, draining=True)
    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))

    assert await eu.send(headers={"X-Region": "eu"}) == (200, {"from": "everywhere"})
    assert eu.endpoint.under_way == 1
    eu.go_on.set()
    assert await held == (200, {"from": "one-eu"})
    await until(lambda: eu.endpoint.under_way == 0)
    assert eu.figure("draining") == "1"


async def test_a_draining_guard_without_a_successor_says_when_to_come_back(three: list[Placement]) -> None:
    _, _, rest = three
    rest.open(draining=True)

    async with rest.session.post(f"http://127.0.0.1:{rest.port}/", data=b"x") as response:
        body = json.loads(await response.read())

    assert (response.status, response.headers["Retry-After"]) == (503, "2")
    assert body["error"]["data"]["reason"] == "Draining"
    assert [one["outcome"] for one in rest.records()] == ["Draining"]


async def connection_after(at: Placement, **more: Any) -> tuple[int, str]:
    """Send a task; return the status of its answer, and what that says of the connection."""
    async with at.session.post(f"http://127.0.0.1:{at.port}/", data=b"x", **more) as response:
        await response.read()
        return response.status, response.headers.get("Connection", "")


@requirement("tasks.scale-down")
async def test_a_pod_that_is_scaled_away_serves_what_reaches_it_and_sends_callers_to_the_others(
    three: list[Placement],
) -> None:
    _, _, rest = three
    rest.open(draining_pods=("pod-other",))
    assert (await connection_after(rest), rest.figure("draining")) == ((200, ""), "0")

    rest.go_on.clear()
    begun = asyncio.create_task(connection_after(rest))
    await until(lambda: len(rest.seen) == 2)
    rest.open(draining_pods=("pod-other", "pod-everywhere"))
    late = asyncio.create_task(connection_after(rest))
    await until(lambda: len(rest.seen) == 3)
    assert (rest.endpoint.under_way, rest.figure("draining")) == (2, "1")
    rest.go_on.set()

    assert await asyncio.gather(begun, late) == [(200, "close")] * 2
    assert served(three) == [0, 0, 3]


async def test_answers_and_refusals_of_a_guard_that_drains_end_their_connections(three: list[Placement]) -> None:
    eu, us, rest = three
    eu.open(rest.peer((), (US,)), us.peer(US), scope=EU, draining=True)
    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))

    assert await connection_after(eu, headers={"X-Region": "eu"}) == (200, "close")
    assert await connection_after(eu, headers={"X-Region": "eu,us"}) == (421, "close")
    assert await connection_after(rest, headers={"X-Region": "eu,us"}) == (421, "")


async def test_a_task_that_waited_while_the_drain_began_is_passed_on(three: list[Placement]) -> None:
    eu, us, rest = three
    eu.open(us.peer(US), rest.peer((), (EU, US)), scope=EU, most=1)
    eu.go_on.clear()
    held, waiting = (asyncio.create_task(eu.send(headers={"X-Region": "eu"})) for _ in range(2))
    await until(lambda: eu.figure("tasks_waiting") == "1")

    rest.open(eu.peer(EU, draining=True), us.peer(US), excluded=(US,))
    eu.open(us.peer(US), rest.peer((), (US,)), scope=EU, most=1, draining=True)
    eu.go_on.set()

    assert sorted(json.dumps(body) for _, body in await asyncio.gather(held, waiting)) == [
        '{"from": "everywhere"}',
        '{"from": "one-eu"}',
    ]


async def test_an_a2a_task_is_under_way_until_its_state_is_final(three: list[Placement]) -> None:
    eu, *_ = three
    await begin(eu, X_Region="eu")
    assert eu.endpoint.under_way == 1

    eu.answer = a_task("completed")
    await eu.send(body=a_query("tasks/get", "t-1"))

    await until(lambda: eu.endpoint.under_way == 0)
    assert await eu.send(body=a_message(contextId="c-1")) == (200, eu.answer), "its context goes on to be known"


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["working", "working", "failed", "failed"], (1, 1)),  # submitted, polled three times
        (["working", "completed", "failed"], (1, 0)),
        (["failed", "failed"], (1, 1)),  # it failed in its own answer
        (["working", "canceled"], (1, 0)),
        (["completed", "failed"], (1, 0)),
    ],
)
async def test_a_task_that_fails_after_its_answer_counts_as_failed_once(
    three: list[Placement], states: list[str], expected: tuple[int, int]
) -> None:
    rest = three[2]
    for body, state in zip([SEND, *[a_query("tasks/get", "t-1")] * 3], states, strict=False):
        rest.answer = a_task(state)
        await rest.send(body=body)
    await until(lambda: rest.endpoint.under_way == 0)

    assert (rest.work.counts.tasks, rest.work.counts.tasks_failed) == expected


async def test_a_failure_in_a_later_turn_of_a_task_counts_for_that_turn_alone(three: list[Placement]) -> None:
    rest = three[2]
    for body, state in (
        (SEND, "input-required"),
        (a_message(taskId="t-1"), "failed"),
        (a_query("tasks/get", "t-1"), "failed"),
    ):
        rest.answer = a_task(state)
        await rest.send(body=body)
    await until(lambda: rest.endpoint.under_way == 0)

    assert (rest.work.counts.tasks, rest.work.counts.tasks_failed) == (2, 1)


async def test_values_in_the_body_count_wherever_agents_would_read_them(three: list[Placement]) -> None:
    connect(three, IN_BODY)
    rest = three[2]
    text = json.dumps({"meta": {"region": "eu"}}).encode()

    async def chunked() -> AsyncIterator[bytes]:
        for start in range(0, len(text), 5):
            yield text[start : start + 5]

    for body, kind in [(text, "application/json"), (text, "text/plain"), (chunked(), "application/a2a+json")]:
        assert await rest.send(body=body, headers={"Content-Type": kind}) == (200, {"from": "one-eu"})
    assert await rest.send(body={"meta": {"region": ["eu", "eu2"]}}) == (200, {"from": "one-eu"})
    assert (await rest.send(body={"meta": {"region": ["eu", "us"]}}))[0] == 421
    assert await rest.send(body={"meta": {"region": []}}) == (200, {"from": "everywhere"})
    assert await rest.send(body=b"no JSON") == (200, {"from": "everywhere"})
    long = json.dumps({"meta": {"region": "eu"}, "x": "y" * 70_000}).encode()
    assert await rest.send(body=long) == (200, {"from": "everywhere"})
    assert three[2].seen[-1][2] == long

    async def long_parts() -> AsyncIterator[bytes]:
        for start in range(0, len(long), 8192):
            yield long[start : start + 8192]

    assert await rest.send(body=long_parts()) == (200, {"from": "everywhere"})
    assert three[2].seen[-1][2] == long


async def test_a_control_request_that_names_values_goes_by_them(three: list[Placement]) -> None:
    eu, _, rest = three

    for at in (eu, rest):
        assert await at.send("/tasks/none:cancel", b"", headers={"X-Region": "us"}) == (200, {"from": "one-us"})
    assert await eu.send("/tasks/none:cancel", b"") == (200, {"from": "one-eu"})
    assert await eu.send("/.well-known/agent-card.json", None, method="GET") == (200, {"from": "one-eu"})


async def test_pipelined_tasks_are_each_routed_by_their_own_values(three: list[Placement]) -> None:
    eu, us, rest = three
    reader, writer = await asyncio.open_connection("127.0.0.1", rest.port)
    writer.write(
        b"".join(
            b"POST / HTTP/1.1\r\nHost: a\r\nX-Region: %s\r\nContent-Length: 1\r\n%s\r\nx" % (region, end)
            for region, end in ((b"eu", b""), (b"us", b""), (b"asia", b"Connection: close\r\n"))
        )
    )
    async with asyncio.timeout(20):
        text = await reader.read()
    writer.close()

    assert [stage for stage in (b"one-eu", b"one-us", b"everywhere") if stage in text] == [
        b"one-eu",
        b"one-us",
        b"everywhere",
    ]
    assert served([eu, us, rest]) == [1, 1, 1]


async def test_a_flood_of_refusals_shares_a_record(three: list[Placement]) -> None:
    eu, us, _ = three
    eu.open(us.peer(US), scope=EU)

    assert {(await eu.reason(headers={"X-Region": f"asia-{number}"}))[0] for number in range(103)} == {421}

    assert len(eu.records()) == 100


# A guard that never answers


@asynccontextmanager
async def a_stub(answer: Callable[[], bytes | None]) -> AsyncIterator[int]:
    """Run a server in a guard's place, which answers once to each connection, or never; yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        found = answer()
        if found is not None:
            writer.write(found)
        await reader.read()  # until the caller hangs up
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@requirement("tasks.own-time")
async def test_a_peer_that_takes_a_task_and_never_answers_is_a_504_in_the_time_of_the_task(
    three: list[Placement], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_exchange, "TASK_SECONDS", 0.5)
    eu, us, _ = three
    async with a_stub(lambda: None) as silent:
        eu.open(us.peer(US, port=silent), scope=EU)
        status, body = await eu.send(headers={"X-Region": "us"})

    assert (status, body["error"]["data"]["reason"]) == (504, "TimedOut")
    assert body["error"]["message"].startswith("Stage 'one-us' took this task, and has not answered")
    (record,) = eu.records()
    assert (record["outcome"], record["status"], record["passedTo"]) == ("TimedOut", 504, "one-us/r")
    assert eu.figure('tasks_passed_on_total{outcome="TimedOut"}') == "1"


@requirement("tasks.own-time")
async def test_the_time_of_a_task_does_not_begin_again_at_the_next_placement_that_is_asked(
    three: list[Placement],
) -> None:
    eu, us, rest = three

    def decline_late() -> bytes:
        eu.now += task_exchange.TASK_SECONDS
        for what in ("agent", "bundle"):
            eu.live.record_contact(what, eu.now)
        return b"HTTP/1.1 421 no\r\nInterlock-Refused: UnknownTask\r\nContent-Length: 0\r\n\r\n"

    async with a_stub(decline_late) as late, a_stub(lambda: None) as silent:
        eu.open(us.peer(US, port=late), rest.peer(port=silent), scope=EU)
        async with asyncio.timeout(20):
            status, body = await eu.send(
                body={"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "unknown"}}
            )

    assert (status, body["error"]["data"]["reason"]) == (504, "TimedOut")
    assert body["error"]["message"].endswith(
        "before stage 'everywhere' was reached. Nothing of the task was sent there."
    )
