"""Habits of MCP servers over HTTP that users have, each in front of a real guard process.

A server is given up only where it cannot be spoken to, a call fails alone, and nothing is tried again without a pause.
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import aiohttp
import pytest

from interlock_contract.http_target import HttpTarget
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habit_server import (
    LONGEST_SESSION,
    LOST_WITH_200,
    SESSIONLESS,
    SLASHES,
    STREAMS,
    TOOLS,
    WITHOUT_SESSIONS,
    HabitServer,
)
from tests.integration.guard.harness import SOURCE, Client, Guard, a_bundle_over_http
from tests.requirements import requirement
from tests.support.bounds import limit, until, until_exactly

USABLE = [
    *(
        "plain",
        "stateless",
        "charset",
        "capitals",
        "text_plain",
        "json_rpc",
        "no_type",
        "closes",
        *sorted({*STREAMS} - {"sse_unended"}),
        "sse_many_lines",
        "long_session",
        "delete_405",
        "sticky",
        "html",
        "utf8_encoding",
        "on_stream",
        "on_stream_202",
        "no_capabilities",
        "nameless_tools",
        *SLASHES,
    ),
    *("discover_html", "discover_202", "discover_empty", "discover_server_error"),
    *("discover_400", "discover_404", "discover_405", "discover_500"),
    *("initialized_200", "initialized_result", "initialized_204", "initialized_body"),
    *("initialized_error", "initialized_401", "initialized_404", "initialized_500", "initialized_silent"),
    *("get_400", "get_401", "get_404", "get_405", "get_410", "get_429", "get_500", "get_501", "get_503"),
    *("get_html", "get_ends", "get_retry_0", "stateless_get_404", *sorted(SESSIONLESS)),
]

PINGS = ["plain", "no_ping", "no_ping_404", "no_ping_null", "no_ping_page", "no_ping_stateless"]
"""Ways to answer a ping."""


@dataclass
class Rig:
    """Guard, API server, an MCP server with a habit, and a client."""

    api: FakeApiServer
    guard: Guard
    server: HabitServer
    client: Client

    async def called(self, tool: str) -> str:
        """Call a tool; return the answer as text."""
        async with limit(30, f"{tool} is answered"):
            return json.dumps((await self.client.call(tool)).body)


Rigs = Callable[[str], AbstractAsyncContextManager[Rig]]


@pytest.fixture
def rigs(api: FakeApiServer, guard: Guard) -> Rigs:
    @asynccontextmanager
    async def build(habit: str) -> AsyncIterator[Rig]:
        server = HabitServer(habit)
        await server.start()
        target = HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), None)
        api.set_bundle(a_bundle_over_http(TOOLS, target))
        await guard.started()
        async with aiohttp.ClientSession() as session:
            yield Rig(api, guard, server, Client(session, guard.url))
        await server.stop()

    return build


@requirement("http.habits")
@pytest.mark.parametrize("habit", USABLE)
async def test_a_server_of_this_habit_can_be_used(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        if not habit.startswith("sse"):  # those are asked for their stream while they are called
            await until(lambda: bool(rig.server.asked_at), "the guard asks for the server's stream")
        for _ in range(3):
            answer = await rig.client.call("echo", a="b\u2028\u00fc\U0001f389")
            assert answer.reason is None, answer.body
            assert json.loads(answer.text) == {"a": "b\u2028\u00fc\U0001f389"}
        assert rig.server.counts["initialize"] == (0 if habit in SESSIONLESS else 1)
        assert rig.guard.log().count(" begins, MCP ") == 1


@pytest.mark.parametrize(
    ("habit", "words"),
    [
        ("redirects", "redirect (HTTP 307), which the guard does not follow"),
        ("unauthorized", "does not accept the guard's credentials (HTTP 401)"),
        ("page", "answered with neither JSON nor a stream of events"),
        ("sse_unended", "ended its answer half-way"),
        ("gzip", "a compressed body, which the guard had not asked for"),
        ("too_long_session", "a session id of 8193 bytes; one has at most 8192"),
        ("large_header", "a header field of more than 16384 bytes"),
    ],
)
async def test_the_reason_is_told_for_a_server_that_cannot_be_used(rigs: Rigs, habit: str, words: str) -> None:
    async with rigs(habit) as rig:
        await until(lambda: words in rig.guard.log(), "the log says why")
        assert words in await rig.called("echo")
        assert "secretsecret" not in rig.guard.log()


async def test_an_answer_that_never_comes_on_the_stream_is_waited_for_a_moment(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        await until(lambda: bool(rig.server.open_streams), "the stream is open")
        assert "answered with nothing; the call may have been executed or not" in await rig.called("nothing")
        assert (await rig.client.call("echo")).reason is None


async def test_a_server_that_refuses_a_newer_version_gets_the_one_that_it_names(rigs: Rigs) -> None:
    async with rigs("one_version") as rig:
        await rig.guard.source_ready()
        assert (await rig.client.call("echo")).reason is None
        assert rig.server.counts["initialize"] == 2


# Errors and what they say of a session


@requirement("http.once")
@pytest.mark.parametrize("habit", ["stateless", *PINGS])
@pytest.mark.parametrize(
    ("tool", "words"), [("refused", "name is required"), ("typed", "name is required"), ("result", '"isError": true')]
)
async def test_an_answer_reaches_the_client_whatever_its_status(rigs: Rigs, habit: str, tool: str, words: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        assert words in await rig.called(tool)
        assert rig.server.counts[tool] == 1


@pytest.mark.parametrize("habit", PINGS)
async def test_an_error_with_a_status_costs_no_other_call(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        other = asyncio.create_task(rig.client.call("slow"))
        await until(lambda: rig.server.counts["slow"] == 1, "another call is under way")
        assert "No such customer" in await rig.called("missing")
        assert "xxxxx" in await rig.called("failed")
        for tool in ("null_id", "foreign_id", "foreign_id_500"):
            assert "It failed half-way" in await rig.called(tool)
        assert "HTTP 404" in await rig.called("page")
        assert (await rig.client.call("echo")).reason is None
        rig.server.release.set()
        assert (await other).reason is None
        assert rig.server.counts["initialize"] == 1


@requirement("http.once")
@pytest.mark.parametrize("habit", PINGS)
@pytest.mark.parametrize("tool", ["refused", "missing", "failed", "result", "null_id", "page"])
async def test_no_executed_call_is_reported_as_not_executed(rigs: Rigs, habit: str, tool: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        assert "not executed" not in await rig.called(tool)
        assert rig.server.counts[tool] == 1


async def test_an_error_whose_page_never_ends_is_answered_all_the_same(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        assert "HTTP 500" in await rig.called("hangs")


async def test_calls_that_keep_getting_the_status_of_a_lost_session_get_another_session(rigs: Rigs) -> None:
    """A gateway may answer the ping itself, whatever has become of the session behind it."""
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        for _ in range(3):
            assert "HTTP 404" in await rig.called("page")
        await until(lambda: rig.server.counts["initialize"] == 2, "another session is begun")


@pytest.mark.parametrize(
    "habit", [*(f"lost_{status}" for status in (400, 401, 403, 404, 410, 422, 500, 503)), *LOST_WITH_200]
)
async def test_a_lost_session_is_replaced_however_the_server_says_so(rigs: Rigs, habit: str) -> None:
    """The Rust SDK has 401, for example."""
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        await until(lambda: bool(rig.server.open_streams), "the stream is open")
        rig.server.sessions.clear()
        async with limit(30, "another session is begun"):
            while rig.server.counts["initialize"] == 1:
                await rig.client.call("echo")
        await rig.guard.source_ready()
        assert (await rig.client.call("echo")).reason is None


@pytest.mark.parametrize(("tool", "status"), [("denied", "403)"), ("overloaded", "503, Retry-After: 17)")])
async def test_a_tool_that_is_refused_with_the_status_of_a_lost_session_costs_no_session(
    rigs: Rigs, tool: str, status: str
) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        for _ in range(4):
            assert f"HTTP {status}" in await rig.called(tool)
        assert (await rig.client.call("echo")).reason is None
        assert rig.server.counts["initialize"] == 1


async def test_an_error_that_speaks_of_a_session_costs_none_that_the_server_knows(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        for number in range(3):
            assert "No browser session is open" in await rig.called("session_error")
            await until(lambda: rig.server.counts["ping"] > number, "the session is checked")  # noqa: B023
        assert rig.server.counts["initialize"] == 1


async def test_a_slash_is_added_once_and_not_for_each_call(rigs: Rigs) -> None:
    async with rigs("slash") as rig:
        await rig.guard.source_ready()
        for _ in range(3):
            assert (await rig.client.call("echo")).reason is None
        assert rig.server.counts["redirected"] == 1


async def test_cookies_go_back_within_a_connection_and_not_into_the_next_one(rigs: Rigs) -> None:
    async with rigs("sticky") as rig:
        await rig.guard.source_ready()
        assert (await rig.client.call("echo")).reason is None
        assert all(cookie.startswith("AWSALB=") for cookie in rig.server.cookies[1:])
        rig.server.sessions.clear()
        await rig.client.call("echo")
        await until(lambda: rig.server.counts["initialize"] == 2, "another session is begun")
        await rig.guard.source_ready()
        assert (await rig.client.call("echo")).reason is None
        assert rig.server.cookies.count("") == 2


@requirement("http.pause")
async def test_a_server_that_names_a_time_is_initialized_after_it_though_calls_ask_for_it(rigs: Rigs) -> None:
    async with rigs("too_many") as rig:
        await until(lambda: bool(rig.server.initialized_at), "it was initialized once")
        while len(rig.server.initialized_at) < 2:
            await rig.called("echo")
            await asyncio.sleep(0.05)
        assert rig.server.initialized_at[1] - rig.server.initialized_at[0] >= 3


# Streams


@pytest.mark.parametrize("habit", [f"then_{status}" for status in (400, 404, 405, 409, 429, 500, 502, 503)])
async def test_a_stream_that_was_open_once_is_asked_for_again_whatever_refuses_it(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await until(lambda: bool(rig.server.open_streams), "the stream is open again")
        assert rig.server.counts["initialize"] == 1
        assert f"(HTTP {habit[-3:]}); asked for again" in rig.guard.log()


@pytest.mark.parametrize("habit", [f"first_{status}" for status in (409, 429, 500, 502, 503, 520, 524)])
async def test_a_stream_that_is_refused_for_the_moment_is_asked_for_again(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await until(lambda: bool(rig.server.open_streams), "the stream is open")
        assert rig.server.counts["initialize"] == 1


async def test_a_subscription_that_ended_is_asked_for_again(rigs: Rigs) -> None:
    async with rigs("listen_then_503") as rig:
        await until(lambda: bool(rig.server.open_streams), "the stream is open again")
        assert len(rig.server.asked_at) == 3
        assert "(HTTP 503)" in rig.guard.log()
        assert "the stream of its own messages has ended; asked for again" in rig.guard.log()


async def test_progress_on_the_standalone_stream_reaches_the_client(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await until(lambda: bool(rig.server.open_streams), "the stream is open")
        params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": "p"}}
        call = asyncio.create_task(rig.client.request("tools/call", params))
        await until(lambda: rig.server.counts["progress"] == 1, "the call is under way")
        await rig.server.say({"id": "last", "method": "ping"})
        await until(lambda: rig.server.counts["None"] == 1, "the guard has read the stream so far")
        rig.server.release.set()
        assert (await call).body.count(b"notifications/progress") == 2


@requirement("http.pause")
@pytest.mark.parametrize("habit", ["get_ends", "get_503", "listen_ends", "listen_404"])
async def test_streams_that_end_at_once_are_asked_for_ever_more_seldom(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await until(lambda: len(rig.server.asked_at) > 4, "the guard has asked five times")
        assert_grows(rig.server.asked_at[:5])


@requirement("http.pause")
async def test_a_server_that_wants_its_client_back_at_once_has_it_back_after_a_second(rigs: Rigs) -> None:
    async with rigs("get_retry_0") as rig:
        await until(lambda: len(rig.server.asked_at) > 2, "the guard has asked three times")
        assert all(after - before >= 1 for before, after in pairwise(rig.server.asked_at))


# Sessions


@requirement("http.pause")
async def test_a_server_that_loses_each_session_is_initialized_ever_more_seldom(rigs: Rigs) -> None:
    async with rigs("loses_sessions") as rig:
        await until(lambda: len(rig.server.initialized_at) > 4, "it was initialized five times")
        assert_grows(rig.server.initialized_at[:5])


async def test_a_session_that_is_lost_while_no_call_is_made_is_noticed_by_the_stream(rigs: Rigs) -> None:
    async with rigs("restarts") as rig:
        await until(lambda: rig.server.counts["initialize"] == 2, "another session is begun")
        await until(lambda: bool(rig.server.open_streams), "the stream is open")
        assert (await rig.client.call("echo")).reason is None


@requirement("http.session-end")
@pytest.mark.parametrize("habit", ["plain", "delete_405", "delete_silent", "long_session"])
async def test_a_session_is_ended_at_the_server_when_the_guard_ends(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        await rig.guard.stop(signal.SIGTERM)
        assert rig.server.deleted == [LONGEST_SESSION if habit == "long_session" else "session-1"]


@pytest.mark.parametrize("habit", sorted(WITHOUT_SESSIONS))
async def test_nothing_is_ended_at_a_server_without_sessions(rigs: Rigs, habit: str) -> None:
    async with rigs(habit) as rig:
        await rig.guard.source_ready()
        await rig.guard.stop(signal.SIGTERM)
        assert rig.server.deleted == []


@requirement("http.session-end")
async def test_a_session_is_ended_when_its_source_gets_another_server(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        target = HttpTarget(f"http://localhost:{rig.server.port}/mcp", "Private", (), None)
        rig.api.set_bundle(a_bundle_over_http(TOOLS, target))
        await until_exactly(lambda: rig.server.deleted, ["session-1"], "the first session is ended")


@requirement("http.session-end")
async def test_a_session_that_a_kill_has_cut_off_is_ended_after_the_release(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        rig.api.kill("stop")
        await rig.guard.source_gone()
        assert (await rig.client.call("echo")).reason == "Killed"
        assert rig.server.deleted == [], "a killed agent's guard sends nothing"
        rig.api.kill("off")
        await until_exactly(lambda: rig.server.deleted, ["session-1"], "the first session is ended")


@requirement("http.session-end", "guard.killed")
async def test_the_guard_of_a_killed_agent_ends_no_session_at_its_own_end(rigs: Rigs) -> None:
    async with rigs("plain") as rig:
        await rig.guard.source_ready()
        rig.api.kill("stop")
        await rig.guard.source_gone()
        await rig.guard.stop(signal.SIGTERM)
        assert rig.server.deleted == []


@requirement("http.session-end")
async def test_a_session_without_a_common_version_is_ended(rigs: Rigs) -> None:
    async with rigs("unknown_version") as rig:
        await until(lambda: rig.server.deleted[:1] == ["session-1"], "the session is ended")
        assert not await rig.guard.probe(f"/ready/{SOURCE}")


def assert_grows(times: list[float]) -> None:
    """Assert that pauses of 0.1, 0.2, 0.4 and 0.8 s, or a fourth less, lay between; a slow machine adds to them."""
    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause >= 0.075 * 2**index for index, pause in enumerate(pauses)), pauses


@requirement("guard.first-message")
async def test_a_guard_that_knows_the_version_from_the_verification_sends_no_probe(
    api: FakeApiServer, guard: Guard
) -> None:
    server = HabitServer("plain")
    await server.start()
    target = HttpTarget(f"http://127.0.0.1:{server.port}/mcp", "Private", (), None)
    api.set_bundle(a_bundle_over_http(TOOLS, target, protocol="2025-06-18"))
    await guard.started()
    await until(lambda: guard.probe(f"/ready/{SOURCE}"), guard.log)
    assert (server.counts["initialize"], server.counts["server/discover"]) == (1, 0)
    await server.stop()
