"""What a server's end, a guard's end and a server's misbehaviour lose, and what they must not do."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest
from msgspec.structs import replace

from interlock_contract.bundle import BundleLimits, ScopeLimit, dump_bundle, parse_bundle
from tests.integration.guard.conftest import TOOLS as LISTED
from tests.integration.guard.harness import Answer, Bench, a_bundle
from tests.requirements import requirement
from tests.support.bounds import until, until_exactly


async def in_flight(bench: Bench, count: int) -> None:
    async def reached() -> bool:
        return f'interlock_guard_calls_in_flight{{source="crm"}} {count}\n' in await bench.guard.metrics()

    await until(reached, f"{count} calls are in flight")


async def restart_server(bench: Bench) -> None:
    await bench.server.kill()
    await bench.guard.source_gone()
    await bench.server.start()
    await bench.guard.source_ready()


async def test_a_call_reaches_the_server_and_comes_back_with_the_clients_id(bench: Bench) -> None:
    answer = await bench.client.post(
        '{"jsonrpc":"2.0","id":"mine","method":"tools/call","params":{"name":"echo","arguments":{"a":1.5}}}'
    )
    assert (answer.status, answer.body["id"]) == (200, "mine")
    assert '"arguments": {"a": 1.5}' in answer.text


async def test_only_understood_parameters_reach_the_server(bench: Bench) -> None:
    answer = await bench.client.request(
        "tools/call", {"name": "echo", "arguments": {}, "_meta": {"authorization": "Bearer secret"}}
    )
    assert '"params": ["arguments", "name"]' in answer.text


@requirement("guard.lists-permitted")
async def test_the_list_has_only_what_some_call_could_be_allowed_for(bench: Bench) -> None:
    answer = await bench.client.request("tools/list")
    assert [tool["name"] for tool in answer.body["result"]["tools"]] == LISTED
    assert answer.body["result"].keys() == {"tools"}


async def test_a_server_killed_in_mid_call_answers_its_caller_with_a_clear_error(bench: Bench) -> None:
    calls = [asyncio.create_task(bench.client.call("never")) for _ in range(2)]
    await until_exactly(bench.executed_names, ["never"] * 2, "the server has both calls")
    await bench.server.kill()
    for answer in await asyncio.gather(*calls):
        assert answer.reason == "ServerUnavailable"
        assert "may have been executed or not" in answer.text


async def test_half_a_line_of_a_dead_server_is_not_glued_to_the_next_ones_answer(bench: Bench) -> None:
    assert (await bench.client.call("half_line")).reason == "ServerUnavailable"
    await restart_server(bench)
    assert '"arguments": {"n": 1}' in (await bench.client.call("echo", n=1)).text


async def test_a_request_that_was_reported_as_failed_is_not_executed_by_the_restarted_server(bench: Bench) -> None:
    # The server is asleep in a first call, so that the second one stays in the pipe, unread, when it is killed.
    asleep = asyncio.create_task(bench.client.call("slow", seconds=60))
    await until_exactly(bench.executed_names, ["slow"], "the server is busy")
    unread = asyncio.create_task(bench.client.call("echo", n="unread"))
    await in_flight(bench, 2)
    await restart_server(bench)
    assert {(await asleep).reason, (await unread).reason} == {"ServerUnavailable"}
    assert (await bench.client.call("echo", n="after")).status == 200
    assert [entry["arguments"] for entry in bench.executed()] == [{"seconds": 60}, {"n": "after"}]


async def test_a_request_too_large_for_the_pipe_is_not_finished_for_the_restarted_server(bench: Bench) -> None:
    asleep = asyncio.create_task(bench.client.call("slow", seconds=60))
    await until_exactly(bench.executed_names, ["slow"], "the server is busy")
    unread = asyncio.create_task(bench.client.call("echo", text="x" * 1_000_000))
    await in_flight(bench, 2)
    await restart_server(bench)
    assert {(await asleep).reason, (await unread).reason} == {"ServerUnavailable"}
    assert '"n": "after"' in (await bench.client.call("echo", n="after")).text
    assert bench.executed_names() == ["slow", "echo"]


async def test_a_request_while_no_server_is_there_is_refused_and_never_executed(bench: Bench) -> None:
    await bench.server.kill()
    await bench.guard.source_gone()
    answer = await bench.client.call("echo", n="nobody there")
    assert answer.reason == "ServerUnavailable"
    assert "nothing was sent" in answer.text
    await bench.server.start()
    await bench.guard.source_ready()
    assert bench.executed() == []
    assert bench.guard.records()[-1]["reason"] == "ServerUnavailable"


async def test_a_guard_killed_and_restarted_works_with_a_restarted_server(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    await bench.guard.stop(signal.SIGKILL)
    with pytest.raises(aiohttp.ClientError):
        await call
    assert await bench.server.wait() == 0  # it read the end of its input
    await bench.guard.start()
    await bench.guard.started()
    await bench.server.start()
    await bench.guard.source_ready()
    assert '"n": 1' in (await bench.client.call("echo", n=1)).text
    assert bench.executed_names() == ["never", "echo"]


async def test_a_server_that_waits_on_a_dead_guards_pipes_is_let_go(bench: Bench) -> None:
    await bench.guard.stop(signal.SIGKILL)
    await bench.server.wait()
    await bench.server.start()  # as the kubelet does, before the guard is back
    inode = (bench.guard.pipes / "crm" / "in").stat().st_ino
    await until(lambda: has_open_attempt(bench), "the shell waits for the other end")
    await bench.guard.start()
    await bench.guard.started()
    assert (bench.guard.pipes / "crm" / "in").stat().st_ino != inode
    await bench.server.wait()
    await bench.server.start()
    await bench.guard.source_ready()
    assert (await bench.client.call("echo")).status == 200


def has_open_attempt(bench: Bench) -> bool:
    """Return True if the server's shell hangs in the open of a named pipe, which is all that it ever waits for."""
    assert bench.server.process is not None
    name, _, rest = Path(f"/proc/{bench.server.process.pid}/stat").read_text().partition(") ")
    return name.endswith("(sh") and rest.startswith("S")


async def test_a_server_that_never_answers_does_not_keep_others_from_being_answered(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.client.call("never"))
    await in_flight(bench, 1)
    assert (await bench.client.call("echo")).reason is None
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_client_that_hangs_up_frees_its_place_and_the_server_is_notified(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    waiting.cancel()
    await in_flight(bench, 0)
    await until(lambda: bench.executed()[-1] == {"cancelled": "the client hung up"}, "the server is notified")


async def test_a_client_cancels_its_own_call_and_no_other(bench: Bench) -> None:
    def as_session(name: str) -> dict[str, str]:
        return {"Mcp-Session-Id": name}

    def message(method: str, params: str, extra: str = "") -> str:
        return f'{{"jsonrpc":"2.0",{extra}"method":"{method}","params":{params}}}'

    never = message("tools/call", '{"name":"never"}', '"id":7,')
    mine, other = (asyncio.create_task(bench.client.post(never, as_session(name))) for name in ("a", "b"))
    await in_flight(bench, 2)
    cancel = message("notifications/cancelled", '{"requestId":7}')
    assert (await bench.client.post(cancel, as_session("a"))).status == 202
    assert (await mine).body == b""
    await in_flight(bench, 1)
    assert not other.done()
    other.cancel()


async def test_a_cancellation_without_a_session_cancels_no_call(bench: Bench) -> None:
    waiting = asyncio.create_task(bench.client.request("tools/call", {"name": "never"}))
    await in_flight(bench, 1)
    cancel = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'
    assert (await bench.client.post(cancel)).status == 202
    assert (await bench.client.call("echo")).reason is None
    assert not waiting.done()
    assert 'interlock_guard_calls_in_flight{source="crm"} 1' in await bench.guard.metrics()
    waiting.cancel()


async def test_the_65th_call_in_flight_is_refused(bench: Bench) -> None:
    waiting = [asyncio.create_task(bench.client.call("never")) for _ in range(64)]
    await in_flight(bench, 64)
    answer = await bench.client.call("echo", n=65)
    assert answer.reason == "ServerUnavailable"
    assert "too many calls" in answer.text
    waiting.pop().cancel()
    await in_flight(bench, 63)
    assert (await bench.client.call("echo")).reason is None
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_result_beyond_16_mib_is_an_error_that_says_so_and_the_server_lives_on(bench: Bench) -> None:
    answer = await bench.client.call("large", bytes=17 * 1024 * 1024)
    assert "more than 16777216 bytes" in answer.text
    assert answer.body["result"]["isError"] is True
    assert (await bench.client.call("echo")).reason is None
    assert "is over" not in bench.guard.log()


async def test_a_result_below_the_bound_comes_through_whole(bench: Bench) -> None:
    answer = await bench.client.call("large", bytes=15 * 1024 * 1024)
    assert answer.text == "x" * (15 * 1024 * 1024)


async def test_a_server_request_to_the_agent_is_refused_by_the_guard(bench: Bench) -> None:
    response = (await bench.client.call("ask")).text
    assert '"id":"ask-1"' in response
    assert '"code":-32601' in response


@requirement("guard.limits")
async def test_a_binding_bounds_requests_results_and_calls_under_way(bench: Bench) -> None:
    tools = ["echo", "large", "never"]
    bench.api.set_bundle(a_bundle(tools, limits=BundleLimits(request_bytes=4096, result_bytes=8192, in_flight=1)))

    async def is_obeyed() -> bool:
        return (await bench.client.call("echo", text="x" * 4096)).status == 400

    await until(is_obeyed, "the new bundle is in force")
    assert "larger than 4096 bytes" in bench.guard.records()[-1]["message"]
    assert (await bench.client.call("echo", text="x" * 2048)).reason is None
    assert "more than 8192 bytes" in (await bench.client.call("large", bytes=8192)).text
    assert (await bench.client.call("large", bytes=4096)).reason is None
    waiting = asyncio.create_task(bench.client.call("never"))
    await in_flight(bench, 1)
    assert "too many calls" in (await bench.client.call("echo")).text
    waiting.cancel()


@requirement("guard.odd-messages")
@pytest.mark.parametrize("tool", ["invalid_json", "unknown_id"])
async def test_a_line_that_answers_no_call_costs_no_connection(bench: Bench, tool: str) -> None:
    """The call itself has no answer: its server has given none."""
    waiting = asyncio.create_task(bench.client.call(tool))
    await until(lambda: "message" in bench.guard.log() and "dropped" in bench.guard.log(), "the line is dropped")
    assert (await bench.client.call("echo")).reason is None
    assert not waiting.done()
    waiting.cancel()
    assert bench.executed_names() == [tool, "echo"]
    assert "is over" not in bench.guard.log()


async def stream(bench: Bench, tool: str) -> Answer:
    params = {"name": tool, "arguments": {}, "_meta": {"progressToken": "mine"}}
    return await bench.client.request("tools/call", params)


async def test_progress_comes_under_the_clients_token_and_then_the_result(bench: Bench) -> None:
    answer = await stream(bench, "progress")
    events = answer.body.decode().strip().split("\n\n")
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert len(events) == 3
    assert '"params":{"progressToken":"mine","progress":1}' in events[0]
    assert '"params":{"progressToken":"mine","progress":2}' in events[1]
    assert '"result":' in events[2]


@requirement("guard.scope")
async def test_the_scope_of_a_stage_is_kept_by_every_call(bench: Bench) -> None:
    limit = ScopeLimit("region", ("eu-west",))
    bench.api.set_bundle(dump_bundle(replace(parse_bundle(a_bundle(["echo"])), scope=(limit,))))

    async def has_limit() -> bool:
        return (await bench.client.call("echo")).reason == "ScopeMissing"

    await until(has_limit, "the new bundle is in force")
    assert (await bench.client.call("echo", region="eu-west")).reason is None
    assert (await bench.client.call("echo", region=["eu-west", "us-east"])).reason == "OutOfScope"
    records = {record["reason"]: record for record in bench.guard.records()}
    assert records["OutOfScope"]["rule"] == "mcpbinding/crm-sandbox/tools[echo]"
    assert [entry["arguments"] for entry in bench.executed()][-1] == {"region": "eu-west"}


async def test_the_pipes_are_for_guard_and_servers_only(bench: Bench) -> None:
    folder = bench.guard.pipes / "crm"
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {"in": 0o660, "out": 0o660}
