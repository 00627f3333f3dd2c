"""Large messages: what is accepted is what the strict parser accepts, in steps, and within a budget."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_guard.upstream.pipes import Channel, PipePair
from interlock_guard.wire import jsonrpc, large_messages
from interlock_guard.wire.jsonrpc import MAX_BODY, Message, MessageInvalid, MessageTooLarge, RpcRequest, parse_message
from interlock_guard.wire.large_messages import (
    MAX_REQUEST_NODES,
    SMALL,
    Hold,
    LargeMessages,
    MemoryBudget,
    NoRoom,
    let_others_run,
)
from interlock_guard.wire.streams import Oversized
from tests.requirements import requirement
from tests.support.bounds import until

MIB = 1024 * 1024
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)


def a_request(value: Any, *, filling: int = SMALL) -> bytes:
    params = {"name": "echo", "arguments": {"value": value, "filling": "x" * filling}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def parse(large: LargeMessages, data: bytes, **options: Any) -> Message:
    bounds = {"max_bytes": MAX_BODY, "max_nodes": MAX_REQUEST_NODES, "hold": large.requests.hold()}
    [message] = await large.parse_messages(data, **{**bounds, **options})
    return message


@requirement("guard.load")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VALUE, st.sampled_from([b"", b"}", b'"', b"\xff", b"\\ud800", b",1", b"[" * 70]))
def test_a_large_message_is_accepted_exactly_where_the_strict_parser_accepts_it(value: Any, broken: bytes) -> None:
    data = a_request(value)
    data = data[:-300] + broken + data[-300:] if broken else data
    try:
        expected: Message | str = parse_message(data)
    except MessageInvalid as error:
        expected = str(error)
    try:
        found: Message | str = asyncio.run(parse(LargeMessages(), data))
    except MessageInvalid as error:
        found = str(error)
    assert found == expected


@requirement("guard.load")
@given(VALUE)
def test_a_digest_that_is_computed_in_steps_is_that_of_the_canonical_text(value: Any) -> None:
    assert asyncio.run(LargeMessages().digest(value)) == digest_of(canonicalize(value))


async def count_turns(work: Any) -> int:
    """Return how many turns the event loop had for others while some work was done."""
    turns = 0
    task = asyncio.ensure_future(work)
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    await task
    return turns


@requirement("guard.load")
async def test_between_two_steps_of_a_large_message_the_event_loop_handles_other_events() -> None:
    large = LargeMessages()
    data = a_request([9e-9] * 1000, filling=3 * MIB)
    slices = len(data) // (128 * 1024)
    assert await count_turns(parse(large, data)) > 3 * slices
    assert await count_turns(parse(large, a_request(1, filling=100))) < 3


@requirement("guard.load")
async def test_a_digest_lets_the_event_loop_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_messages, "_STEP_SECONDS", 0.0)
    assert await count_turns(LargeMessages().digest([9e-9] * 10_000)) > 30


@requirement("guard.load")
async def test_a_message_with_more_values_than_its_bound_is_refused_before_it_is_parsed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: str) -> Any:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(jsonrpc, "parse_text", refuse)
    large = LargeMessages()
    with pytest.raises(MessageTooLarge, match="has more than 65536 values and keys"):
        await parse(large, a_request([[1e1]] * 40_000))
    escaped = a_request("\U0001f600", filling=15 * MIB)
    for data in (escaped, escaped.replace(b"\\ud83d\\ude00", "\U0001f600".encode())):
        with pytest.raises(MessageTooLarge, match=r"may need \d+ bytes of memory"):
            await parse(large, data, max_bytes=16 * MIB, hold=large.results.hold())


@requirement("guard.load")
async def test_a_large_message_has_its_part_of_the_budget_while_it_lives() -> None:
    large = LargeMessages()
    data = a_request(1, filling=MIB)
    message = await parse(large, data, is_forwarded=True)
    assert isinstance(message, RpcRequest)
    assert message.size == len(data)
    assert 2 * MIB < large.requests.used < 3 * MIB
    del message
    assert large.requests.used == 0


@requirement("guard.load")
@pytest.mark.parametrize("broken", [b"]", b'{"jsonrpc":"1.0"}' + b" " * SMALL, a_request([1] * 70_000)])
async def test_a_refused_message_gives_its_part_back_although_its_exception_is_kept(broken: bytes) -> None:
    large = LargeMessages()
    data = broken if len(broken) > SMALL else a_request(1) + broken
    with pytest.raises(MessageInvalid) as kept:
        await parse(large, data)
    assert kept.value.__traceback__ is not None
    assert large.requests.used == 0
    with pytest.raises(ValueError, match="kept") as other:  # noqa: PT012 - the body of the block is what is tested
        async with large.receive(MIB):
            assert large.receiving.used == MIB
            raise ValueError("kept")
    assert other.value.__traceback__ is not None
    assert large.receiving.used == 0


@requirement("guard.load")
async def test_a_message_without_room_waits_and_is_refused_by_name_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = MemoryBudget(10)
    first, second = budget.hold(), budget.hold()
    await first.resize(8)
    waiting = asyncio.create_task(second.resize(5))
    await let_others_run()
    assert not waiting.done()
    first.release()
    await waiting
    assert budget.used == 5
    with pytest.raises(NoRoom, match="needs 11 bytes of memory, and large messages have 10 in all"):
        await first.resize(11)
    monkeypatch.setattr(large_messages, "WAIT_SECONDS", 0.01)
    with pytest.raises(NoRoom, match="try again"):
        await first.resize(6)
    assert budget.used == 5


@dataclass
class Stdio:
    """A channel, and the other end of its pipes."""

    channel: Channel
    output: BufferedWriter
    lines: list[Any]
    ends: list[str]

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self.output.write, data)
        await asyncio.get_running_loop().run_in_executor(None, self.output.flush)


@pytest.fixture
async def large() -> LargeMessages:
    return LargeMessages()


@pytest.fixture
async def stdio(tmp_path: Path, large: LargeMessages) -> AsyncIterator[Stdio]:
    lines: list[Any] = []
    ends: list[str] = []

    async def handle_large_line(line: bytes | bytearray, _: Hold) -> None:
        await let_others_run()
        lines.append(len(line))

    pipes = PipePair(tmp_path / "crm")
    pipes.make()
    reader = pipes.open_reader()
    with (pipes.directory / "out").open("wb") as output:
        kept = os.open(pipes.directory / "in", os.O_RDONLY | os.O_NONBLOCK)
        writer = await pipes.open_writer(is_wanted=lambda: True)
        assert writer is not None
        channel = Channel(
            pipes,
            reader,
            writer,
            large=large,
            on_line=lines.append,
            on_large_line=handle_large_line,
            on_end=ends.append,
        )
        yield Stdio(channel, output, lines, ends)
        channel.close()
        os.close(kept)
        os.close(reader)


@requirement("guard.load")
async def test_lines_come_out_in_their_order_also_where_a_large_one_takes_several_turns(
    stdio: Stdio, large: LargeMessages
) -> None:
    await stdio.send(b"{}\n" + b"x" * MIB + b"\n[]\n" + b"y" * 5000 + b"\n1\n")
    await until(lambda: len(stdio.lines) == 5, lambda: f"all lines are handled: {stdio.lines}")
    assert stdio.lines == [b"{}", MIB, b"[]", 5000, b"1"]
    assert large.results.used == 0


@requirement("guard.load")
async def test_a_line_without_room_is_refused_by_name_and_the_next_one_is_read(
    stdio: Stdio, large: LargeMessages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large_messages, "WAIT_SECONDS", 0.05)
    other = large.results.hold()
    assert other.try_resize(large.results.capacity - MIB)
    await stdio.send(b"x" * (2 * MIB) + b"\n{}\n")
    await until(lambda: len(stdio.lines) == 2, lambda: f"both lines are handled: {stdio.lines}")
    refused = stdio.lines[0]
    assert isinstance(refused, Oversized)
    assert "has no room in memory" in refused.why
    assert large.results.used == other.size


@requirement("guard.load")
async def test_a_server_that_does_not_finish_a_large_message_is_ended(
    stdio: Stdio, large: LargeMessages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interlock_guard.upstream.pipes.MESSAGE_SECONDS", 0.05)
    await stdio.send(b"x" * MIB)
    await until(lambda: bool(stdio.ends), "the connection has ended")
    assert "did not finish a message" in stdio.ends[0]
    assert large.results.used == 0


@requirement("guard.load")
async def test_many_small_lines_are_handled_in_steps(stdio: Stdio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_messages, "_STEP_SECONDS", -1.0)
    pauses: list[int] = []

    async def pause() -> None:
        pauses.append(len(stdio.lines))
        await let_others_run()

    monkeypatch.setattr("interlock_guard.upstream.pipes.let_others_run", pause)
    await stdio.send(b"{}\n" * 50)
    await until(lambda: len(pauses) == 50, "all lines are handled")
    assert pauses == list(range(1, 51))


@requirement("guard.load")
async def test_a_server_that_goes_on_writing_does_not_hold_up_the_end_of_its_connection(
    stdio: Stdio, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, reads = os.read, list[int]()

    def read_more(descriptor: int, size: int) -> bytes:
        """Read as if the server had written again, which it can do faster than the guard reads."""
        reads.append(descriptor)
        assert len(reads) < 1000
        return b"x" * size

    with monkeypatch.context() as patched:
        patched.setattr(os, "read", read_more)
        stdio.channel.end("a kill")
    assert stdio.ends == ["a kill"]
    assert not stdio.channel.drained.is_set()
    monkeypatch.setattr(os, "read", read)
    stdio.output.close()
    await until(stdio.channel.drained.is_set, "the end of the server is seen")
    assert len(reads) < 100
