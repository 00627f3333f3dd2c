"""Habits of stdio servers in use, in front of a real guard process: what each costs, and what goes on."""

import asyncio
from pathlib import Path

import pytest

from interlock_guard.upstream.initialize import PROBE_SECONDS
from tests.integration.guard.fake_api_server import FakeApiServer
from tests.integration.guard.habits import Habit, habit
from tests.integration.guard.harness import Guard, a_bundle
from tests.requirements import requirement
from tests.support.bounds import limit, until

TOOLS = ["echo", "slow"]


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
    ["plain", "crlf", "early_requests", "null_cursor", "empty_cursor", "same_cursor", "pages=64", "pages=65"],
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
            await found.ready()
            answer = await found.client.call("echo", n=number)
            assert answer.reason is None, answer.text
            await until(lambda: len(found.noted("started")) > number + 1, "it is started again")  # noqa: B023


@requirement("guard.reconnect-pause")
async def test_a_server_that_ends_at_once_is_rarely_initialized(served: Guard, tmp_path: Path) -> None:
    async with habit(served, tmp_path, "ends") as found:
        await until(lambda: "generation 4 begins" in found.lines(), found.lines)
        before = found.lines().count("begins")
        await asyncio.sleep(3)
        assert found.lines().count("begins") - before <= 4
