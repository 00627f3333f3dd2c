"""Kill, lease, bundle, identity: what the guard sees at the API server holds immediately, and uncertainty closes it."""

import asyncio
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from interlock_contract.bundle import dump_bundle, parse_bundle
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.harness import Answer, Bench, Client, Guard, a_bundle
from tests.requirements import requirement
from tests.support.bounds import BoundMissed, check_promise, until, until_count, until_exactly

KILLED = {"reason": "Killed", "message": "data leak"}


async def answers_with(bench: Bench, reason: str | None) -> Answer:
    """Call until the answer has the reason, and return it."""
    last: list[Answer] = []

    async def reached() -> bool:
        last[:] = [await bench.client.call("echo")]
        return last[0].reason == reason

    await until(reached, f"calls are answered with {reason}")
    return last[0]


def check_goes_on(reason: str | None) -> None:
    """Check that a guard in contact goes on; on a slow machine its short lease may run out before it is renewed."""
    assert reason in (None, "StaleState")
    if reason is not None:
        raise BoundMissed("the lease of 1.5 s ran out while the API server answered")


@requirement("guard.killed")
async def test_a_killed_guard_refuses_everything_with_503(bench: Bench) -> None:
    bench.api.kill("data leak")
    answer = await answers_with(bench, "Killed")
    assert (answer.status, answer.body["error"]["data"]) == (503, KILLED)
    for method in ("initialize", "ping", "tools/list", "resources/read"):
        assert (await bench.client.request(method)).body["error"]["data"] == KILLED
    assert (await bench.client.post("no json")).body["error"]["data"] == KILLED
    assert (await bench.client.post('{"jsonrpc":"2.0","method":"notifications/initialized"}')).status == 503
    assert not await bench.guard.probe("/readyz")
    assert await bench.guard.probe("/healthz")
    assert "interlock_guard_killed 1" in await bench.guard.metrics()


@requirement("guard.killed")
async def test_a_kill_answers_the_call_under_way_at_once_and_cuts_its_server_off(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    bench.api.kill("data leak")
    began = time.monotonic()
    answer = await call
    check_promise(time.monotonic() - began, 1, "a kill answers the call that is under way")
    assert (answer.status, answer.body["error"]["data"]) == (503, KILLED)
    assert await bench.server.wait() == 0  # it read the end of its input


async def test_a_kill_drops_what_the_server_has_not_read_yet(bench: Bench, tmp_path: Path) -> None:
    asleep = asyncio.create_task(bench.client.call("slow", signal=str(tmp_path / "signal")))
    await until_exactly(bench.executed_names, ["slow"], "the server is busy")
    small = asyncio.create_task(bench.client.call("echo", text="x"))
    await until_count(lambda: len(bench.guard.records()), 2, "the second call lies in the pipe")
    large = asyncio.create_task(bench.client.call("echo", text="x" * 1_000_000))
    await until_count(lambda: len(bench.guard.records()), 3, "the third one is half in the pipe")
    bench.api.kill("data leak")
    assert {(await call).status for call in (asleep, small, large)} == {503}
    (tmp_path / "signal").touch()
    await bench.server.wait()
    assert bench.executed_names() == ["slow"]


@requirement("guard.killed")
async def test_a_kill_breaks_an_open_stream_off(bench: Bench) -> None:
    body = {"name": "progress_forever", "_meta": {"progressToken": 1}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}
    accept = {"Accept": "application/json, text/event-stream"}
    async with bench.client.session.post(bench.client.url, json=message, headers=accept) as response:
        assert b"progress" in await response.content.readuntil(b"\n\n")
        bench.api.kill("data leak")
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(response.content.read(), 5)


async def test_a_kill_breaks_off_an_answer_that_is_still_going_out(bench: Bench) -> None:
    params = {"name": "large", "arguments": {"bytes": 15 * 1024 * 1024}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with bench.client.session.post(bench.client.url, json=message) as response:
        assert await response.content.readany()  # and then nothing, so that most of it waits in the guard
        bench.api.kill("data leak")
        await answers_with(bench, "Killed")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_a_killed_agents_server_is_not_even_spoken_to(api: FakeApiServer, guard: Guard, bench: Bench) -> None:
    bench.api.kill("data leak")
    await answers_with(bench, "Killed")
    await bench.server.wait()
    await bench.server.start()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.server.wait(), 0.5)  # it waits for a guard that does not open its pipe
    assert not await bench.guard.probe("/ready/crm")


@requirement("kill.latched")
async def test_only_off_releases_a_kill(bench: Bench) -> None:
    bench.api.kill("data leak")
    await answers_with(bench, "Killed")
    bench.api.set_agent(annotations={"something": "else"})
    bench.api.set_bundle(a_bundle(["echo"]))
    await until(lambda: bench.api.lists >= 2, "the guard lists")
    assert (await bench.client.call("echo")).reason == "Killed"
    bench.api.kill("Off")
    assert (await answers_with(bench, "Killed")).status == 503
    await bench.server.wait()
    await bench.server.start()
    bench.api.kill("off")
    await bench.guard.source_ready()
    await answers_with(bench, None)


async def test_a_restarted_guard_goes_by_the_status_where_the_annotation_is_gone(bench: Bench) -> None:
    bench.api.kill("data leak")
    await answers_with(bench, "Killed")
    await bench.guard.stop(signal.SIGKILL)
    kill = {"reason": "data leak", "requestedAt": "2026-11-24T10:00:00Z"}
    bench.api.set_agent(status={"kill": kill})
    await bench.guard.start()
    await bench.guard.started()
    assert (await bench.client.call("echo")).body["error"]["data"] == KILLED
    bench.api.set_agent(status={"kill": {**kill, "releasedAt": "2026-11-24T11:00:00Z"}})
    assert (await answers_with(bench, "Killed")).status == 503  # this guard has seen it killed: only `off` releases


async def test_a_guard_before_the_api_server_answers_lets_nothing_out(api: FakeApiServer, guard: Guard) -> None:
    await guard.stop()
    await api.stop()
    await guard.start()
    async with aiohttp.ClientSession() as session:
        answer = await Client(session, guard.url).call("echo")
    assert (answer.status, answer.reason) == (503, "StaleState")
    assert not await guard.probe("/startupz")
    assert not await guard.probe("/readyz")


@requirement("guard.stale")
async def test_without_contact_for_a_lease_everything_is_refused_until_fresh_state_is_seen(
    api: FakeApiServer, guard: Guard, bench: Bench
) -> None:
    await guard.stop()
    guard.lease_seconds = 1.5
    await bench.server.wait()
    await guard.start()
    await guard.started()
    await bench.server.start()
    await guard.source_ready()
    await api.stop()
    check_goes_on((await bench.client.call("echo")).reason)
    assert (await answers_with(bench, "StaleState")).status == 503
    assert not await guard.probe("/readyz")
    api.kill("data leak")  # while no guard could see it
    await api.start()
    await answers_with(bench, "Killed")


async def test_contact_renews_the_lease(api: FakeApiServer, guard: Guard, bench: Bench) -> None:
    await guard.stop()
    guard.lease_seconds = 1.5
    await bench.server.wait()
    await guard.start()
    await guard.started()
    await bench.server.start()
    await guard.source_ready()
    lists = api.lists

    async def renewed() -> bool:
        check_goes_on((await bench.client.call("echo")).reason)
        return api.lists >= lists + 6

    await until(renewed, "the guard has renewed its lease three times")


async def test_a_silent_api_server_is_no_contact(api: FakeApiServer, guard: Guard, bench: Bench) -> None:
    await guard.stop()
    guard.lease_seconds = 1.5
    await guard.start()
    await guard.started()
    api.talks.clear()
    await answers_with(bench, "StaleState")
    api.talks.set()


async def test_an_updated_bundle_forbids_the_next_call(bench: Bench) -> None:
    assert (await bench.client.call("echo")).reason is None
    bench.api.set_bundle(a_bundle(["slow"]))
    assert (await answers_with(bench, "ToolNotMapped")).status == 200
    listed = await bench.client.request("tools/list")
    assert [tool["name"] for tool in listed.body["result"]["tools"]] == ["slow"]


@pytest.mark.parametrize("text", [None, "{}", "not json"])
async def test_without_a_valid_bundle_everything_is_refused(bench: Bench, text: str | None) -> None:
    bench.api.set_bundle(text)
    assert (await answers_with(bench, "NoBundle")).status == 503
    bench.api.set_bundle(a_bundle(["echo"]))
    await answers_with(bench, None)


async def test_another_agent_of_the_same_name_is_not_this_one(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    bench.api.set_agent(uid="another")
    assert (await call).reason == "AgentMismatch"
    assert (await answers_with(bench, "AgentMismatch")).status == 503


async def test_a_deleted_agent_closes_the_guard(bench: Bench) -> None:
    bench.api.delete_agent()
    assert (await answers_with(bench, "AgentMismatch")).status == 503


@requirement("governance.deleted")
async def test_an_agent_that_a_finalizer_keeps_closes_the_guard_once_it_is_deleted(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    bench.api.delete_agent_with_finalizer()
    assert (await call).reason == "AgentMismatch"
    assert (await answers_with(bench, "AgentMismatch")).status == 503


async def test_a_source_that_leaves_the_bundle_is_cut_off(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    text = a_bundle(["echo"]).replace('"name":"crm"', '"name":"mail"')
    assert parse_bundle(text).sources[0].name == "mail"
    bench.api.set_bundle(text)
    assert (await call).status == 404
    assert (await bench.client.call("echo")).reason == "UnknownSource"
    assert await bench.server.wait() == 0
    assert dump_bundle(parse_bundle(text)) == text


async def test_an_expired_watch_is_taken_up_again(bench: Bench) -> None:
    lists = bench.api.lists
    bench.api.expire_watches()
    await until(lambda: bench.api.lists >= lists + 2, "the guard lists again")
    bench.api.kill("data leak")
    await answers_with(bench, "Killed")


async def test_a_rotated_token_is_used_for_the_next_request(bench: Bench) -> None:
    bench.guard.token.write_text("second-token")
    bench.api.expire_watches()
    await until(lambda: bench.api.tokens[-1] == "Bearer second-token", "the new token is used")
    assert bench.api.tokens[0] == "Bearer first-token"


async def test_sigterm_ends_the_guard_clean_without_waiting_for_calls(bench: Bench) -> None:
    call = asyncio.create_task(bench.client.call("never"))
    await until_exactly(bench.executed_names, ["never"], "the server has the call")
    assert await bench.guard.stop(signal.SIGTERM) == 0
    assert (await call).reason == "ServerUnavailable"
    assert "Traceback" not in bench.guard.log()


@requirement("guard.records")
async def test_a_record_that_cannot_be_written_stops_the_call(bench: Bench) -> None:
    await bench.guard.stop()
    await bench.server.wait()
    (bench.guard.folder / "records").unlink()
    (bench.guard.folder / "records").symlink_to("/dev/full")
    await bench.guard.start()
    await bench.guard.started()
    await bench.server.start()
    await bench.guard.source_ready()
    answer = await bench.client.call("echo")
    assert answer.reason == "AuditUnavailable"
    assert "cannot write a record" in answer.text
    assert bench.executed() == []


@requirement("guard.records")
async def test_every_decision_has_one_record_with_all_its_fields(bench: Bench) -> None:
    await bench.client.call("echo")
    await bench.client.call("drop")
    await bench.client.call("hidden")
    await bench.client.request("tasks/list")
    await bench.client.post("[]")
    allowed, denied, unmapped, method, bad = bench.guard.records()
    assert (
        allowed.items()
        >= {
            "agent": "support-triage",
            "revision": "0123456789",
            "stage": "staging",
            "source": "crm",
            "method": "tools/call",
            "tool": "echo",
            "operation": "read",
            "resource": "contacts",
            "decision": "Allow",
            "reason": "",
            "rule": "agentpolicy/support/dataAccess[0]",
        }.items()
    )
    assert allowed["time"].endswith("Z")
    assert (denied["operation"], denied["reason"]) == ("delete", "NotGrantedByBinding")
    assert (unmapped["tool"], unmapped["reason"]) == ("hidden", "ToolNotMapped")
    assert (method["method"], method["reason"]) == ("tasks/list", "MethodNotAllowed")
    assert bad["reason"] == "BadRequest"


@requirement("guard.lists-permitted")
async def test_an_unmapped_tool_and_one_that_does_not_exist_answer_alike_to_the_byte(bench: Bench) -> None:
    bodies = []
    for tool in ("hidden", "there-is-no-such-tool"):
        message = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}'
        async with bench.client.session.post(
            bench.client.url, data=message, headers={"Content-Type": "application/json"}
        ) as response:
            bodies.append((response.status, await response.read(), response.headers.keys()))
    assert bodies[0] == bodies[1]


@requirement("guard.confirmed-bundle")
async def test_a_bundle_that_anyone_wrote_into_the_config_map_is_not_obeyed(bench: Bench) -> None:
    """The delete without a grant is denied before, during and after. Other calls are answered all the while."""
    bench.api.set_bundle(a_bundle(["echo"], read_only=["large"]))

    async def is_denied() -> bool:
        return (await bench.client.call("large", bytes=10)).reason == "NotGrantedByBinding"

    await until(is_denied, "the delete is denied")
    bench.api.forge_bundle(a_bundle(["echo"], writable=["large"]))

    for _ in range(20):
        assert await is_denied()
    assert (await bench.client.call("echo")).reason is None

    bench.api.name_bundles(a_bundle(["another"]))  # as the operator does where the policy changed meanwhile
    await answers_with(bench, "BundleNotConfirmed")
    assert "large" not in bench.executed_names()


@requirement("guard.confirmed-bundle")
async def test_a_guard_that_starts_on_a_forged_bundle_stays_closed_until_it_is_healed(bench: Bench) -> None:
    honest = a_bundle(["echo"], read_only=["large"])
    bench.api.set_bundle(honest)
    await answers_with(bench, None)
    await bench.guard.stop()
    bench.api.forge_bundle(a_bundle(["echo"], writable=["large"]))
    await bench.guard.start()

    await answers_with(bench, "BundleNotConfirmed")
    assert not await bench.guard.probe("/startupz")

    bench.api.forge_bundle(honest)
    await until(lambda: bench.guard.probe("/startupz"), "the guard has its bundle")


@requirement("guard.bundle-grace")
async def test_a_status_that_comes_before_its_config_map_ends_no_call_under_way(bench: Bench) -> None:
    bench.api.set_bundle(a_bundle(["echo", "never", "slow"]))
    await answers_with(bench, None)
    call = asyncio.create_task(bench.client.call("never"))
    await until(lambda: "never" in bench.executed_names(), "the server has the call")

    bench.api.set_bundle_late(a_bundle(["slow", "never"]))

    answer = await answers_with(bench, "ToolNotMapped")
    assert answer.status == 200
    assert not call.done()
    assert "is not obeyed" not in bench.guard.log()
    call.cancel()


@requirement("guard.bundle-grace")
async def test_a_bundle_whose_successor_cannot_be_read_is_dropped(bench: Bench) -> None:
    assert (await bench.client.call("echo")).reason is None
    bench.api.talks.clear()  # the open watches still bring events, and no list is answered
    bench.api.name_bundles(a_bundle(["another"]))

    await answers_with(bench, "BundleNotConfirmed")
    await until(lambda: "the bundle was not read: TimeoutError" in bench.guard.log(), "the log says why")
    bench.api.talks.set()
