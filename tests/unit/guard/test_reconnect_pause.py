"""The pause between two connections to an MCP server."""

import asyncio

import pytest

from interlock_guard.upstream import reconnect_pause
from interlock_guard.upstream.reconnect_pause import LONGEST_SECONDS, STEADY_SECONDS, ReconnectPause
from tests.support.bounds import limit

MANY = 2000
MINUTES = 600.0


def test_there_is_no_pause_before_the_first_connection() -> None:
    assert ReconnectPause().seconds == 0


def test_the_pause_doubles_with_each_short_connection_up_to_its_bound() -> None:
    pause = ReconnectPause(first=0.5)
    seen = []
    for _ in range(MANY):
        pause.note_end(0.0)
        seen.append(pause.seconds)
    assert seen[:4] == [0.5, 1, 2, 4]
    assert set(seen[8:]) == {LONGEST_SECONDS}


def test_connections_that_end_at_once_are_few() -> None:
    """The number of connections in ten minutes is bounded, however soon each ends."""
    pause, passed, connections = ReconnectPause(), 0.0, 0
    while passed < MINUTES:
        pause.note_end(0.0)
        passed += 0.75 * pause.seconds
        connections += 1
    assert connections < 40


def test_a_connection_that_lasted_makes_the_next_pause_short_again() -> None:
    pause = ReconnectPause(first=0.5)
    for _ in range(10):
        pause.note_end(STEADY_SECONDS / 2)
    pause.note_end(STEADY_SECONDS)
    assert pause.seconds == 0
    pause.note_end(0.0)
    assert pause.seconds == 0.5


async def test_a_call_ends_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect_pause, "_LEAST_SECONDS", 0.0)

    pause = ReconnectPause(first=3600, longest=3600)
    pause.note_end(0.0)
    waiting = asyncio.create_task(pause.wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    pause.want()
    async with limit(30, "the pause ends"):
        await waiting


async def test_a_call_does_not_shorten_a_pause_below_its_least_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in a row must not bring a server's connections back to any rate."""
    monkeypatch.setattr(reconnect_pause, "_LEAST_SECONDS", 3600.0)

    pause = ReconnectPause(first=3600, longest=3600)
    pause.note_end(0.0)
    waiting = asyncio.create_task(pause.wait())
    await asyncio.sleep(0)
    pause.want()
    for _ in range(100):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
