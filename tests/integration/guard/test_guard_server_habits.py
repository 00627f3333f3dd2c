"""Habits of stdio servers in use, in front of a real guard process: what each costs, and what goes on."""

import asyncio
from pathlib import Path

import pytest

from interlock_contract.selftest_report import DROPPED_SUFFIX
from interlock_guard.upstream.initialize import PROBE_SECONDS
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habits import Habit, habit, kept_running
from tests.integration.guard.harness import SOURCE, Guard, a_bundle
from tests.requirements import requirement
from tests.support.bounds import limit, until

PASSED = {
    "half_emoji": "party \ufffd",
    "latin1": "caf\ufffd",
    "separators": "a\u2028b\x85c",
    "nan": "x",
    "null_members": "x",
    "no_version": "x",
    "chatty": "done",
    "debug_line": "done",
    "json_line": "done",
    "log_line": "done",
    "unknown_id": "done",
    "foreign_id": "done",
    "null_id_notification": "done",
    "null_params": "done",
    "list_params": "done",
    "batch": "done",
    "several": "x",
    "quoted": "done",
}
"""Tools with an odd answer, or an odd line before it, and the text that reaches the client."""
ERRORS = {
    "list_result": (-32603, "The MCP server answered with a result that is no object."),
    "text_code": (-32603, "ENOENT: no such file"),
    "no_message": (-32000, ""),
    "text_error": (-32603, "no such file"),
}
"""Tools whose answer is an error, and that error."""
REFUSED = {"double_key": "duplicate key", "unfinished": "not JSON"}
"""Tools whose answer cannot be read, and what their own call is told."""
TOOLS = ["echo", "slow", "deep", "long", "big", "flood", "progress", *PASSED, *ERRORS, *REFUSED]


@pytest.fixture
async def served(api: FakeApiServer, guard: Guard) -> Guard:
    api.set_bundle(a_bundle(TOOLS))
    return guard


async def echo(found: Habit) -> None:
    answer = await found.client.call("echo", a="b")
    assert (answer.reason, answer.text) == (None, '{"a": "b"}'), f"{answer.body}\n{found.lines()}"


@requirement("guard.first-message")
async def test_a_server_that_ends_at_the_probe_is_initialized_at_its_next_start(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "strict") as found:
        await found.ready()
        await echo(found)
        assert found.noted("ended_at") == ["server/discover"], "the probe is sent once"


@requirement("guard.first-message")
async def test_a_guard_that_knows_the_version_from_the_verification_sends_no_probe(
    api: FakeApiServer, guard: Guard, tmp_path: Path
) -> None:
    api.set_bundle(a_bundle(TOOLS, protocol="2025-11-25"))
    async with habit(guard, tmp_path, "strict") as found:
        await found.ready()
        await echo(found)
        assert len(found.noted("started")) == 1
        assert found.noted("got")[0] == "initialize"


@requirement("guard.first-message")
async def test_after_a_refused_initialize_the_next_start_begins_with_the_probe_again(
    served: Guard, tmp_path: Path
) -> None:
    async with habit(served, tmp_path, "refuses_initialize_once") as found:
        await found.ready()
        # The probe ends it, initialize is refused, the probe ends it again, and initialize is accepted.
        assert found.noted("ended_at") == ["server/discover", "server/discover"]
        assert len(found.noted("started")) == 4


@pytest.mark.parametrize(
    "name",
    [
        *("plain", "crlf", "early_requests", "one_version", "banner", "byte_order_mark"),
        *("null_id_errors", "no_id_errors", "null_id_results", "error_null", "unknown_member"),
        *("text_ids", "decimal_ids"),
        *("null_cursor", "empty_cursor", "same_cursor", "pages=64", "pages=65"),
    ],
)
async def test_a_server_of_this_habit_can_be_used(served: Guard, tmp_path: Path, name: str) -> None:
    async with habit(served, tmp_path, name) as found:
        await found.ready()
        await echo(found)
        assert len(found.noted("started")) == 1, found.lines()


@requirement("guard.lists-bounded")
async def test_a_server_that_changes_its_list_while_it_lists_is_asked_rarely_and_can_be_called(
    served: Guard, tmp_path: Path
) -> None:
    async with habit(served, tmp_path, "changes_while_listing") as found:
        await found.ready()
        before = len(found.noted("list"))
        await asyncio.sleep(2)
        assert len(found.noted("list")) - before < 10
        for _ in range(3):
            async with limit(20, "the call has its answer"):
                await echo(found)


async def test_a_server_that_does_not_answer_the_probe_is_asked_once(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "mute") as found:
        await found.ready(PROBE_SECONDS + 30)
        await echo(found)


async def test_a_server_that_ends_after_each_call_comes_back(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "ends_after_each_call") as found:
        for number in range(3):
            await until(lambda: served.log().count(" begins") > number, "the guard speaks to the next one")  # noqa: B023
            await found.ready()
            answer = await found.client.call("echo", n=number)
            assert answer.reason is None, answer.text


@requirement("guard.reconnect-pause")
async def test_a_server_that_ends_at_once_is_rarely_initialized(served: Guard) -> None:
    def begun() -> int:
        return served.log().count("begins")

    await served.started()
    async with kept_running(served.pipes / SOURCE, ["true"], longest_pause=0.01):
        await until(lambda: begun() >= 6, served.log)
        before = begun()
        await asyncio.sleep(3)
        assert begun() - before <= 2


@requirement("guard.odd-messages")
async def test_an_odd_line_costs_at_most_its_own_call(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        for tool, text in PASSED.items():
            answer = await found.client.call(tool)
            assert (answer.reason, answer.text) == (None, text), f"{tool}: {answer.body}\n{found.lines()}"
        for tool, error in ERRORS.items():
            answer = await found.client.call(tool)
            assert (answer.body["error"]["code"], answer.body["error"]["message"]) == error, f"{tool}: {answer.body}"
        for tool, words in REFUSED.items():
            answer = await found.client.call(tool)
            assert answer.reason == "ServerUnavailable", f"{tool}: {answer.body}"
            assert words in answer.text
        assert found.noted("called") == [*PASSED, *ERRORS, *REFUSED], "each call is executed once"
        assert len(found.noted("started")) == 1, found.lines()
        assert "is over" not in found.lines()


@requirement("guard.odd-messages")
async def test_numbers_pass_as_they_are(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        answer = await found.client.call("big")
        assert answer.body["result"]["structuredContent"] == {"id": 9007199254740993, "p": 1.1}


@requirement("guard.odd-messages")
@pytest.mark.parametrize(("depth", "passes"), [(50, True), (60, True), (61, True), (70, False)])
async def test_a_deep_result_costs_at_most_its_own_call(
    served: Guard,
    tmp_path: Path,
    depth: int,
    passes: bool,  # noqa: FBT001
) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        answer = await found.client.call("deep", depth=depth)
        assert answer.reason == (None if passes else "ServerUnavailable"), answer.body
        await echo(found)
        assert len(found.noted("started")) == 1


@requirement("guard.odd-messages")
async def test_calls_under_way_are_answered_next_to_one_that_cannot_be_read(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        tools = ["slow"] * 3 + ["unfinished"] + ["slow"] * 6
        answers = await asyncio.gather(*(found.client.call(tool, seconds=0.05) for tool in tools))
        assert [answer.reason for answer in answers] == [None] * 3 + ["ServerUnavailable"] + [None] * 6


@requirement("guard.odd-messages")
async def test_an_error_for_a_cancellation_costs_no_other_call(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "null_id_errors") as found:
        await found.ready()
        hasty = asyncio.create_task(found.client.call("slow", seconds=1))
        await until(lambda: found.noted("called") == ["slow"], "the call is under way")
        hasty.cancel()
        answer = await found.client.call("slow", seconds=0)
        assert answer.reason is None, answer.text
        assert len(found.noted("started")) == 1


@requirement("guard.odd-messages")
async def test_progress_under_a_token_that_came_back_as_text_reaches_its_client(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "text_tokens") as found:
        await found.ready()
        params = {"name": "progress", "arguments": {}, "_meta": {"progressToken": 7}}
        answer = await found.client.request("tools/call", params)
        assert answer.body.count(b"notifications/progress") == 3, answer.body


@requirement("guard.odd-messages")
async def test_dropped_lines_are_counted_reported_and_logged_in_part_without_secrets(
    api: FakeApiServer, served: Guard, tmp_path: Path
) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        await found.client.call("debug_line")
        await until(lambda: "not JSON" in found.lines(), found.lines)
        assert "DEBUG: querying the database" in found.lines()
        assert "0123456789abcdef0123" not in found.guard.log()
        answer = await found.client.call("flood", lines=1000)
        assert answer.text == "done"
        assert await found.dropped() == 1001
        assert found.lines().count("dropped:") <= 5
        await until(lambda: f"crm-sandbox{DROPPED_SUFFIX}" in str(api.lease), lambda: f"a report: {api.lease}")


@pytest.mark.parametrize("size", [65_535, 65_537, 5_000_000])
async def test_a_long_line_is_whole(served: Guard, tmp_path: Path, size: int) -> None:
    async with habit(served, tmp_path, "plain") as found:
        await found.ready()
        assert len((await found.client.call("long", bytes=size)).text) == size
