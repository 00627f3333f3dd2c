"""Tasks on their way through a real guard process: bounded, refused, broken off, counted; nothing of them is left."""

import asyncio
import io
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from interlock_audit.verify import OK, main
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Guard, a_bundle
from tests.integration.guard.tasking import DyingAgent, TaskAgent, TaskBench, a_bundle_with_tasks
from tests.requirements import requirement
from tests.support.bounds import until

MIB = 2**20


@pytest.fixture
async def agent() -> AsyncIterator[TaskAgent]:
    found = TaskAgent()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def bench(
    request: pytest.FixtureRequest, api: FakeApiServer, agent: TaskAgent, tmp_path: Path
) -> AsyncIterator[TaskBench]:
    """A guard that lets four concurrent tasks through, or as many as the test says."""
    api.set_bundle(a_bundle_with_tasks(agent.port, getattr(request, "param", 4)))
    guard = Guard(api, tmp_path)
    await guard.start()
    await until(lambda: guard.probe("/readyz"), "the guard is open")
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
        yield TaskBench(api, guard, agent, session)
    await guard.stop()


@pytest.fixture
async def dying(bench: TaskBench) -> AsyncIterator[DyingAgent]:
    """An agent process in place of the other one."""
    found = DyingAgent()
    await found.start()
    bench.api.set_bundle(a_bundle_with_tasks(found.port))
    await until(lambda: _reaches(bench, found), "the guard knows the other port")
    await bench.reaches("tasks_running", 0)  # what was tried is over
    yield found
    await found.kill()


async def _reaches(bench: TaskBench, agent: DyingAgent) -> bool:
    async with bench.session.get(bench.url("/sized")) as response:
        return response.headers.get("Content-Length") == "1000"


def connections(bench: TaskBench) -> int:
    """Count what is open of connections to the guard for tasks, and of those from it to the agent."""
    ports = {f"{port:04X}" for port in (bench.guard.task_port, bench.agent.port)}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[3] in ("01", "08") and row[1][-4:] in ports for row in rows)  # established, or closed by one side


def peak_memory(guard: Guard) -> int:
    """Return the most memory that the guard ever had, in bytes."""
    assert guard.process is not None
    status = Path(f"/proc/{guard.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


@requirement("tasks.pass")
async def test_a_task_reaches_the_agent_as_it_is_and_its_answer_comes_back(bench: TaskBench) -> None:
    target = "/a%2Fb/../c//d?x=%41&y=1;2"
    assert (await bench.post("/echo", b"hello"))[1] == {"size": 5, "method": "POST"}
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    writer.write(
        f"PUT {target} HTTP/1.1\r\nHost: triage\r\nX-Two: 1\r\nX-Two: 2\r\nContent-Length: 2\r\n\r\nhi".encode()
    )
    assert b" 200 OK\r\n" in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    seen = bench.agent.seen[-1]
    assert (seen.method, seen.target, seen.body) == ("PUT", target, b"hi")
    assert (seen.values("Host"), seen.values("X-Two"), seen.values("Content-Length")) == (["triage"], ["1", "2"], ["2"])
    assert (seen.values("Accept"), seen.values("User-Agent"), seen.values("Accept-Encoding")) == ([], [], [])


@requirement("tasks.bounded")
async def test_of_256_callers_at_once_4_are_served_16_wait_and_the_rest_must_retry_later(bench: TaskBench) -> None:
    callers = [asyncio.create_task(bench.post("/hold", b"%d" % n)) for n in range(256)]
    await until(lambda: sum(caller.done() for caller in callers) == 236, "the others are refused")
    assert (await bench.figure("tasks_running"), await bench.figure("tasks_waiting")) == (4, 16)
    assert connections(bench) >= 24
    refused = [caller.result() for caller in callers if caller.done()]
    assert {status for status, _ in refused} == {429}
    assert {body["error"]["data"]["reason"] for _, body in refused} == {"TooManyTasks"}
    bench.agent.release.set()
    answers = await asyncio.gather(*callers)
    assert Counter(status for status, _ in answers) == {200: 20, 429: 236}
    assert bench.agent.most == 4
    assert len(bench.agent.seen) == 20
    records = await bench.ended(20)
    assert Counter(one["outcome"] for one in records) == {"Answered": 20}
    assert await bench.figure('tasks_total{kind="Task",outcome="Answered"}') == 20
    assert await bench.figure('task_refusals_total{reason="TooManyTasks"}') == 236
    assert await bench.figure('task_duration_seconds_count{kind="Task"}') == 20
    await bench.reaches("tasks_running", 0)
    assert await bench.figure("tasks_waiting") == 0
    await bench.session.close()
    await until(lambda: connections(bench) == 0, "no connection is left")


@requirement("tasks.bounded")
@pytest.mark.parametrize("bench", [1], indirect=True, ids=["one place"])  # at two places one may overtake the other
async def test_waiting_callers_are_served_in_order(bench: TaskBench) -> None:
    running = asyncio.create_task(bench.post("/hold", b"first"))
    await until(lambda: bench.agent.running == 1, "the place is taken")
    waiting = []
    for number in range(4):
        waiting.append(asyncio.create_task(bench.post("/echo", b"%d" % number)))
        await until(lambda n=number: _waits(bench, n + 1), "it waits")  # type: ignore[misc]
    bench.agent.release.set()
    await asyncio.gather(running, *waiting)
    assert [one.body for one in bench.agent.seen[-4:]] == [b"%d" % number for number in range(4)]


async def _waits(bench: TaskBench, count: int) -> bool:
    return await bench.figure("tasks_waiting") == count


async def test_a_refusal_for_want_of_room_says_when_to_come_back(bench: TaskBench) -> None:
    callers = [asyncio.create_task(bench.post("/hold")) for _ in range(20)]
    await until(lambda: _waits(bench, 16), "all places are taken")
    async with bench.session.post(bench.url("/hold")) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "10"
        assert "try again later" in (await response.json())["error"]["message"]
    bench.agent.release.set()
    await asyncio.gather(*callers)


@requirement("tasks.hang-up")
async def test_a_caller_that_hangs_up_ends_its_task_in_the_agent_and_leaves_nothing(bench: TaskBench) -> None:
    caller = asyncio.create_task(bench.post("/hold"))
    await until(lambda: bench.agent.running == 1, "the agent is at work")
    caller.cancel()
    await until(lambda: bench.agent.cancelled == 1, "the agent is notified")
    (record,) = await bench.ended(1)
    assert (record["outcome"], record["status"]) == ("Cancelled", 0)
    assert await bench.figure('tasks_total{kind="Task",outcome="Cancelled"}') == 1
    assert await bench.figure('task_failures_total{kind="Task"}') == 0
    await bench.reaches("tasks_running", 0)
    await bench.session.close()
    await until(lambda: connections(bench) == 0, "no connection is left")


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"message": {"role": "ROLE_AGENT"}}, "Answered"),
        ({"statusUpdate": {"status": {"state": "TASK_STATE_FAILED"}}}, "Failed"),
        ({"statusUpdate": {"status": {"state": "TASK_STATE_WORKING"}}}, "Cancelled"),
    ],
)
async def test_a_caller_that_hangs_up_after_the_last_word_has_its_answer(
    bench: TaskBench, said: dict[str, Any], outcome: str
) -> None:
    async with bench.session.post(bench.url("/event"), data=json.dumps(said)) as response:
        assert b"data: " in await response.content.readany()
        response.close()
    (record,) = await bench.ended(1)
    assert record["outcome"] == outcome


async def test_a_caller_that_hangs_up_in_the_line_gives_its_turn_away_and_never_reaches_the_agent(
    bench: TaskBench,
) -> None:
    running = [asyncio.create_task(bench.post("/hold")) for _ in range(4)]
    await until(lambda: bench.agent.running == 4, "all places are taken")
    waiting = asyncio.create_task(bench.post("/echo"))
    await until(lambda: _waits(bench, 1), "it waits")
    waiting.cancel()
    await until(lambda: _waits(bench, 0), "it has left the line")
    bench.agent.release.set()
    await asyncio.gather(*running)
    await bench.reaches('task_refusals_total{reason="GaveUp"}', 1)
    assert len(bench.agent.seen) == 4


@requirement("tasks.broken-off")
@pytest.mark.parametrize("path", ["/chunked", "/sized"])
async def test_an_agent_that_dies_in_mid_answer_is_a_broken_connection_and_a_failure(
    bench: TaskBench, dying: DyingAgent, path: str
) -> None:
    failures = await bench.figure('task_failures_total{kind="Task"}')
    async with bench.session.post(bench.url(path)) as response:
        assert response.status == 200
        assert await response.content.readany() == b"data: begun\n\n"
        await dying.kill()
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()
    await until(lambda: bench.guard.tasks() and bench.guard.tasks()[-1]["method"] == "POST", "it is recorded")
    assert bench.guard.tasks()[-1]["outcome"] == "BrokenOff"
    assert await bench.figure('task_failures_total{kind="Task"}') == failures + 1
    await bench.reaches("tasks_running", 0)


@requirement("tasks.broken-off")
async def test_to_a_caller_of_http_1_0_the_end_of_a_broken_answer_is_a_reset(
    bench: TaskBench, dying: DyingAgent
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    writer.write(b"GET /chunked HTTP/1.0\r\n\r\n")
    assert b"data: begun" in await reader.readuntil(b"begun\n\n")
    await dying.kill()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


@requirement("tasks.broken-off")
async def test_an_agent_that_dies_before_its_answer_is_a_502_and_a_failure(bench: TaskBench, dying: DyingAgent) -> None:
    caller = asyncio.create_task(bench.reason("/silent"))
    await until(lambda: _runs(bench, 1), "the task is under way")
    await dying.kill()
    assert await caller == (502, "BrokenOff")
    await bench.reaches('tasks_total{kind="Task",outcome="BrokenOff"}', 1)


async def _runs(bench: TaskBench, count: int) -> bool:
    return await bench.figure("tasks_running") == count


async def test_an_agent_that_is_not_there_is_a_502_and_a_failure(bench: TaskBench) -> None:
    await bench.agent.stop()
    status, body = await bench.post("/task")
    assert (status, body["error"]["data"]["reason"]) == (502, "AgentUnavailable")
    assert re.search(
        r"within \d+ s \(tries: \d+\)\. .* refused\. No process listens there\. ", body["error"]["message"]
    )
    assert await bench.outcomes(1) == ["AgentUnavailable"]
    assert await bench.figure('task_failures_total{kind="Task"}') == 1


@requirement("tasks.size")
async def test_a_body_of_64_mib_is_refused_by_its_length_and_never_held(bench: TaskBench) -> None:
    await bench.post("/echo")
    before = peak_memory(bench.guard)
    for _ in range(3):
        assert await bench.reason("/echo", data=io.BytesIO(b"x" * 64 * MIB)) == (413, "TaskTooLarge")
    assert len(bench.agent.seen) == 1
    assert peak_memory(bench.guard) - before < 16 * MIB


@requirement("tasks.size")
async def test_a_body_of_64_mib_that_does_not_say_its_length_is_cut_off_at_the_bound(bench: TaskBench) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * MIB

    await bench.post("/echo")
    before = peak_memory(bench.guard)
    assert await bench.reason("/echo", data=pieces()) == (413, "TaskTooLarge")
    await until(lambda: bench.agent.cancelled == 1, "the agent never got the whole body")
    assert [len(one.body) for one in bench.agent.seen] == [2]
    assert (await bench.outcomes(2))[1] == "TaskTooLarge"
    assert peak_memory(bench.guard) - before < 16 * MIB
    assert await bench.figure('task_failures_total{kind="Task"}') == 0


async def test_a_caller_that_expects_100_continue_is_refused_before_it_sends_a_large_body(bench: TaskBench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    head = "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
    writer.write(head.format(64 * MIB).encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    writer.write(head.format(5).encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    writer.close()
    assert (bench.agent.seen[-1].body, bench.agent.seen[-1].values("Expect")) == (b"hello", [])


async def test_a_body_of_16_mib_passes_whole_and_an_answer_of_32_mib_too(bench: TaskBench) -> None:
    assert await bench.post("/echo", io.BytesIO(b"x" * 16 * MIB)) == (200, {"size": 16 * MIB, "method": "POST"})
    assert await bench.post("/large") == (200, b"x" * 32 * MIB)


async def test_a_stream_comes_event_by_event(bench: TaskBench) -> None:
    async with bench.session.post(bench.url("/stream")) as response:
        for number in range(3):
            assert await response.content.readany() == b"data: %d\n\n" % number
            bench.agent.step.set()
        assert await response.content.read() == b""
    assert await bench.outcomes(1) == ["Answered"]


@requirement("tasks.kill")
async def test_a_kill_ends_every_open_task_at_once_and_refuses_the_next(bench: TaskBench) -> None:
    stream = await bench.session.post(bench.url("/stream"))
    assert await stream.content.readany() == b"data: 0\n\n"
    running = [asyncio.create_task(bench.post("/hold")) for _ in range(3)]
    await until(lambda: bench.agent.running == 4, "all places are taken")
    waiting = asyncio.create_task(bench.post("/hold"))
    await until(lambda: _waits(bench, 1), "one waits")
    bench.api.kill("incident-42")
    for status, body in await asyncio.gather(*running, waiting):
        assert (status, body["error"]["data"]) == (503, {"reason": "Killed", "message": "incident-42"})
    with pytest.raises(aiohttp.ClientPayloadError):
        await stream.content.read()
    stream.close()
    await until(lambda: bench.agent.cancelled == 4, "the agent's work is ended")
    assert await bench.reason() == (503, "Killed")
    assert Counter(await bench.outcomes(4)) == {"Killed": 4}
    assert await bench.figure('task_failures_total{kind="Task"}') == 0
    assert len(bench.agent.seen) == 4
    bench.api.kill("off")
    await until(lambda: _passes(bench), "tasks pass again")


async def _passes(bench: TaskBench) -> bool:
    return (await bench.post("/echo"))[0] == 200


@requirement("guard.bundle-grace")
async def test_a_status_that_comes_before_its_config_map_ends_no_open_task(bench: TaskBench) -> None:
    open_tasks = [asyncio.create_task(bench.post("/hold")) for _ in range(6)]
    await until(lambda: _waits(bench, 2), "all four places are taken, and two wait")

    bench.api.set_bundle_late(a_bundle_with_tasks(bench.agent.port, most=6))

    await until(lambda: bench.agent.running == 6, "the new bundle has room for all")
    bench.agent.release.set()
    assert {status for status, _ in await asyncio.gather(*open_tasks)} == {200}
    assert bench.agent.cancelled == 0


@requirement("tasks.closed")
async def test_a_guard_without_state_without_contact_or_without_bundle_takes_no_task(
    api: FakeApiServer, agent: TaskAgent, tmp_path: Path
) -> None:
    api.set_bundle(None)
    api.talks.clear()
    guard = Guard(api, tmp_path, lease_seconds=1.5)
    await guard.start()
    async with aiohttp.ClientSession() as session:
        bench = TaskBench(api, guard, agent, session)
        assert await bench.reason() == (503, "StaleState")
        api.talks.set()
        await until(lambda: _says(bench, "NoBundle"), "there is no bundle")
        api.set_bundle(a_bundle_with_tasks(agent.port))
        await until(lambda: _passes(bench), "tasks pass")
        api.talks.clear()
        api.expire_watches()
        await until(lambda: _says(bench, "StaleState"), "the guard has lost contact")
    await guard.stop()


async def _says(bench: TaskBench, reason: str) -> bool:
    status, body = await bench.post("/echo")
    return status == 503 and body["error"]["data"]["reason"] == reason


async def test_an_agent_without_a_port_takes_no_task(bench: TaskBench) -> None:
    bench.api.set_bundle(a_bundle(["echo"]))
    await until(lambda: _is_refused(bench), "the guard knows")
    assert await bench.reason() == (404, "NoTasks")


async def _is_refused(bench: TaskBench) -> bool:
    return (await bench.post("/echo"))[0] == 404


async def test_more_places_let_those_that_wait_in_at_once(bench: TaskBench) -> None:
    callers = [asyncio.create_task(bench.post("/hold")) for _ in range(8)]
    await until(lambda: _waits(bench, 4), "half of them wait")
    bench.api.set_bundle(a_bundle_with_tasks(bench.agent.port, most=8))
    await until(lambda: bench.agent.running == 8, "all are under way")
    bench.agent.release.set()
    await asyncio.gather(*callers)


@requirement("tasks.trace")
async def test_each_task_has_an_id_and_a_trace_that_agent_caller_and_record_agree_on(bench: TaskBench) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {"traceparent": parent, "tracestate": "a=1", "Interlock-Task": "forged", "Interlock-Else": "forged"}
    async with bench.session.post(bench.url("/echo"), headers=sent) as response:
        task = response.headers["Interlock-Task"]
    (seen,), (record,) = bench.agent.seen, await bench.ended(1)
    assert (seen.values("traceparent"), seen.values("tracestate")) == ([parent], ["a=1"])
    assert (seen.values("Interlock-Task"), seen.values("Interlock-Else")) == ([task], [])
    assert (record["task"], record["trace"]) == (task, "0af7651916cd43dd8448eb211c80319c")
    assert len(task) == 32


@requirement("tasks.trace")
async def test_a_task_without_a_valid_trace_gets_a_new_one(bench: TaskBench) -> None:
    for sent in ({}, {"traceparent": "00-" + "0" * 32 + "-b7ad6b7169203331-01", "tracestate": "a=1"}):
        await bench.post("/echo", headers=sent)
    records = await bench.ended(2)
    for seen, record in zip(bench.agent.seen, records, strict=True):
        (parent,) = seen.values("traceparent")
        assert parent.split("-")[1] == record["trace"] != "0" * 32
        assert seen.values("tracestate") == []
    assert records[0]["trace"] != records[1]["trace"]


async def test_what_belongs_to_a_connection_does_not_pass_in_either_direction(bench: TaskBench) -> None:
    sent = {"Connection": "X-Mine", "X-Mine": "1", "TE": "trailers", "Proxy-Authorization": "x", "X-Kept": "2"}
    async with bench.session.post(bench.url("/odd"), headers=sent) as response:
        assert {"X-Private", "Keep-Alive"} & set(response.headers) == set()
        assert (response.headers["X-Kept"], response.headers["Set-Cookie"]) == ("2", "a=b")
        assert response.headers["Interlock-Task"] != "forged"
    seen = bench.agent.seen[-1]
    assert [seen.values(name) for name in ("X-Mine", "TE", "Proxy-Authorization", "X-Kept")] == [[], [], [], ["2"]]


async def test_an_answer_without_a_body_is_whole_and_the_connection_goes_on(bench: TaskBench) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    for request, status in (("HEAD /echo", b"200"), ("POST /status/204", b"204"), ("GET /status/304", b"304")):
        writer.write(f"{request} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split()[1] == status
        assert b"chunked" not in head
    writer.close()
    assert await bench.outcomes(3) == ["Answered"] * 3
    assert [one.method for one in bench.agent.seen] == ["HEAD", "POST", "GET"]


async def test_a_redirect_is_the_callers_to_follow(bench: TaskBench) -> None:
    async with bench.session.post(bench.url("/loops"), allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:1/elsewhere")


SMUGGLED = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
    "another coding": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\nHost: a\r\n" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd",
    "a folded header": b"POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "two hosts": b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "a proxy's target": b"POST http://169.254.169.254/latest HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "a target without a path": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"POST /a#b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "a tunnel": b"CONNECT agent:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a trace": b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a web socket": b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "an unknown expectation": b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 0\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "a later version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
}


@requirement("tasks.smuggling")
@pytest.mark.parametrize("request_text", SMUGGLED.values(), ids=SMUGGLED)
async def test_what_two_parsers_could_read_differently_is_refused_and_its_connection_ended(
    bench: TaskBench, request_text: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.guard.task_port)
    writer.write(request_text + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    async with asyncio.timeout(20):
        answer = await reader.read()
    writer.close()
    (status,) = re.findall(rb"^HTTP/\d\.\d (\d\d\d) ", answer, re.MULTILINE)
    assert status[:1] in (b"4", b"5")
    assert "Traceback" not in bench.guard.log()
    assert bench.agent.seen == []


async def test_an_offer_of_http_2_is_not_taken_up_and_the_task_passes(bench: TaskBench) -> None:
    offer = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    async with bench.session.post(bench.url("/echo"), data=b"hello", headers=offer) as response:
        assert (response.status, (await response.json())["size"]) == (200, 5)
    assert [bench.agent.seen[0].values(name) for name in ("Upgrade", "HTTP2-Settings")] == [[], []]


@pytest.mark.parametrize(
    ("path", "body", "outcome"),
    [
        ("/status/200", {}, "Answered"),
        ("/status/404", {}, "Rejected"),
        ("/status/500", {}, "Failed"),
        ("/says", {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603, "message": "x"}}, "Failed"),
        ("/says", {"jsonrpc": "2.0", "id": 1, "error": {"code": -32602, "message": "x"}}, "Rejected"),
        (
            "/says",
            {"jsonrpc": "2.0", "id": 1, "result": {"task": {"status": {"state": "TASK_STATE_FAILED"}}}},
            "Failed",
        ),
        (
            "/says",
            {"jsonrpc": "2.0", "id": 1, "result": {"kind": "task", "status": {"state": "completed"}}},
            "Answered",
        ),
    ],
)
async def test_an_answer_is_judged_by_what_it_says(bench: TaskBench, path: str, body: Any, outcome: str) -> None:
    await bench.post(path, json.dumps(body))
    assert await bench.outcomes(1) == [outcome]


async def test_a_cancellation_does_not_wait_behind_the_tasks_that_it_is_to_end(bench: TaskBench) -> None:
    callers = [asyncio.create_task(bench.post("/hold")) for _ in range(20)]
    await until(lambda: _waits(bench, 16), "all places are taken")
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "CancelTask", "params": {"id": "t"}})
    headers = {"Content-Type": "application/json"}
    assert (await bench.post("/says", message, headers=headers))[0] == 200
    assert (await bench.post("/tasks/t:cancel"))[0] == 200
    await bench.reaches('tasks_total{kind="Control",outcome="Answered"}', 2)
    bench.agent.release.set()
    await asyncio.gather(*callers)
    assert [one["rpc"] for one in await bench.ended(22) if one["type"] == "Control"] == ["CancelTask", ""]


async def test_words_about_tasks_are_bounded_too(bench: TaskBench) -> None:
    callers = [asyncio.create_task(bench.post("/hold/tasks/t:cancel")) for _ in range(20)]
    await until(lambda: sum(caller.done() for caller in callers) == 4, "those beyond the bound are refused")
    bench.agent.release.set()
    assert Counter(status for status, _ in await asyncio.gather(*callers)) == {200: 16, 429: 4}


@requirement("tasks.recorded")
async def test_each_task_that_has_ended_is_one_line_of_the_chain(bench: TaskBench) -> None:
    await bench.post("/echo", headers={"Content-Type": "text/plain"})
    async with bench.session.get(bench.url("/status/503")) as response:
        assert response.status == 503
    first, second = await bench.ended(2)
    metrics = {key: first[key] for key in ("agent", "stage", "type", "method", "rpc", "caller", "outcome", "status")}
    assert metrics == {
        "agent": "support-triage",
        "stage": "staging",
        "type": "Task",
        "method": "POST",
        "rpc": "",
        "caller": "127.0.0.1",
        "outcome": "Answered",
        "status": 200,
    }
    assert 0 <= first["waitSeconds"] <= first["durationSeconds"] < 60
    assert (second["type"], second["outcome"], second["status"]) == ("Read", "Failed", 503)
    assert main([str(bench.guard.folder / "records")]) == OK


async def test_refusals_are_counted_and_leave_no_record(bench: TaskBench) -> None:
    assert await bench.reason(data=io.BytesIO(b"x" * 17 * MIB)) == (413, "TaskTooLarge")
    bench.api.kill("incident-42")
    await until(lambda: _says(bench, "Killed"), "the guard is closed")
    assert await bench.figure('task_refusals_total{reason="TaskTooLarge"}') == 1
    assert await bench.figure('task_refusals_total{reason="Killed"}') >= 1
    assert len(bench.guard.tasks()) == len(bench.agent.seen)
