"""Bodies of calls of models: what is cut out comes back, and a decision is the same without it."""

import asyncio
import json
import tracemalloc
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_guard.llm.request_body import ModelBodies, OutgoingBody, RequestBody
from interlock_guard.wire.large_messages import LargeMessages, MemoryBudget, NoRoom
from tests.requirements import requirement
from tests.unit.guard.test_body_members import CHAT, MESSAGES, RESPONSES, decide

SLICE = 4096
SIGNS = "ABCxyz0189+/=_-"
KIB, MIB = 1024, 1024 * 1024


async def parse(data: bytes, bodies: ModelBodies | None = None) -> RequestBody:
    bodies = bodies or ModelBodies(LargeMessages())
    return await bodies.parse(bytearray(data), bodies.budget.hold())


async def write(body: RequestBody) -> bytes:
    out = body.write()
    sent = b"".join([part async for part in out.stream()])
    assert len(sent) == out.size
    assert body.hold.size == 0
    return sent


def run_of(size: int, start: int = 0) -> str:
    return (SIGNS * (size // len(SIGNS) + 2))[start : start + size]


PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["data:image/png;base64,", "https://a.example/", ":", "\n", "\\", '"', "\U0001f600", "\u00e9", "\u0001"]
    ),
    st.builds(run_of, st.integers(4000, 20_000), st.integers(0, 9)),
)
TEXTS = st.lists(PIECES, max_size=6).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none() | st.booleans(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=8,
)


@requirement("models.large")
@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_what_is_written_is_what_came(value: Any, ascii_only: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    data = json.dumps({"value": value}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected = parse_json(data)
    except JsonInvalid:
        with pytest.raises(JsonInvalid):
            asyncio.run(parse(data))
        return
    assert json.loads(asyncio.run(_through(data))) == expected


async def _through(data: bytes) -> bytes:
    return await write(await parse(data))


@requirement("models.large")
async def test_an_image_is_no_part_of_what_is_parsed() -> None:
    image = run_of(3 * MIB)
    body = await parse(json.dumps({"model": "m", "a": f"data:image/png;base64,{image}", "b": "\U0001f600"}).encode())
    assert len(body.value["a"]) < 3 * SLICE
    assert body.value["a"].startswith("data:image/png;base64,ABC")
    assert json.loads(await write(body))["a"].endswith(image)


@requirement("models.large")
@pytest.mark.parametrize("before", [r"\u0041", r"\/", r"\n", r"\\", r"\ud83d\ude00"])
@pytest.mark.parametrize("shift", range(8))
async def test_an_escape_before_a_run_stays_whole(before: str, shift: int) -> None:
    data = f'{{"a":"{"." * (SLICE - 12 + shift)}{before}{run_of(3 * SLICE)}"}}'.encode()
    body = await parse(data)
    assert len(json.dumps(body.value)) < 2 * SLICE + 2 * KIB + SLICE
    assert json.loads(await write(body)) == json.loads(data)


@requirement("models.large")
async def test_members_with_long_names_are_refused() -> None:
    for name in (run_of(3 * SLICE), f"x:{run_of(5 * SLICE)}"):
        with pytest.raises(JsonInvalid, match="names of at most 4096 characters"):
            await parse(f'{{"a":1,"{name}":1,"{name}":2}}'.encode())


@requirement("models.large")
@pytest.mark.parametrize(
    ("method", "part"),
    [
        (CHAT, lambda text: {"type": "image_url", "image_url": {"url": text}}),
        (CHAT, lambda text: {"type": "file", "file": {"file_data": text}}),
        (CHAT, lambda text: {"type": "file", "file": {"file_id": text}}),
        (CHAT, lambda text: {"type": text}),
        (CHAT, lambda text: {text[:30]: text}),
        (RESPONSES, lambda text: {"type": "input_image", "image_url": text}),
        (MESSAGES, lambda text: {"type": "image", "source": {"type": "url", "url": text}}),
        (MESSAGES, lambda text: {"type": "image", "source": {"type": "base64", "data": text}}),
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        f"data:image/png;base64,{run_of(9 * SLICE)}",
        run_of(9 * SLICE),
        f"{run_of(9 * SLICE)}:",
        f"https://images.example.com/{run_of(9 * SLICE)}",
        f"https://images.example.com/{run_of(9 * SLICE)}?a=b",
        f"https://evil.example/{run_of(9 * SLICE)}",
        f"https://{run_of(9 * SLICE)}.images.example.com/",
        f"https://{run_of(9 * SLICE)}@images.example.com/",
        f"https://images.example.com{run_of(9 * SLICE)}",
        f"//{run_of(9 * SLICE)}",
        f"Data:{run_of(9 * SLICE)}",
    ],
    ids=lambda text: f"{text[:30]}...{text[-22:]}",
)
async def test_a_decision_is_the_same_on_what_is_left(method: str, part: Any, text: str) -> None:
    where = "input" if method == RESPONSES else "messages"
    whole = {where: [{"role": "user", "content": [part(text)]}]}
    body = await parse(json.dumps({"pad": "." * SLICE, **whole}).encode())
    assert len(json.dumps(body.value)) < len(text)
    del body.value["pad"]
    for hosts in ((), ("images.example.com",)):
        assert decide(method, body.value, hosts=hosts)[0] == decide(method, whole, hosts=hosts)[0]


@requirement("models.large")
async def test_a_body_of_numbers_is_refused_by_their_count_before_it_is_parsed() -> None:
    data = b'{"model":"m","input":[' + b"1," * (16 * MIB - 64) + b"1]}"
    bodies = ModelBodies(LargeMessages())
    with pytest.raises(JsonInvalid, match="has more than 65536 values and keys"):
        await parse(data, bodies)
    assert bodies.budget.used == 0


@requirement("models.large")
async def test_a_text_that_needs_more_than_the_parser_has_is_refused_with_the_numbers() -> None:
    data = json.dumps({"a": "\U0001f600 " * (2 * MIB)}, ensure_ascii=False).encode()
    with pytest.raises(JsonInvalid, match=r"may need \d+ bytes of memory, and one message has 75497472"):
        await parse(data)


@requirement("models.large")
async def test_a_body_counts_until_it_is_sent() -> None:
    bodies = ModelBodies(LargeMessages(), MIB)
    data = json.dumps({"model": "m", "a": run_of(MIB - 100)}).encode()
    first, second = await parse(data, bodies), await parse(data, bodies)
    assert 2 * len(data) <= bodies.budget.used < 2 * len(data) + 100 * KIB
    third = bodies.budget.hold()
    with pytest.raises(NoRoom):
        await bodies.parse(bytearray(data), third)
    await write(first)
    await write(second)
    assert bodies.budget.used == third.size


@requirement("models.large")
async def test_the_answer_of_a_provider_is_read_between_two_portions_of_a_body() -> None:
    """A provider may refuse a body and reset the connection before it has read it."""
    turns = 0

    async def read() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    body = OutgoingBody(deque([memoryview(bytes(1024 * 1024))]), MemoryBudget(1).hold())
    portions = [len(portion) async for portion in body.stream()]
    reading.cancel()
    assert turns >= len(portions) > 1
    assert sum(portions) == 1024 * 1024


@requirement("models.large")
async def test_the_length_of_a_large_text_is_found_without_a_second_copy_of_it() -> None:
    text = "\U0001f600caf\u00e9 " * (MIB // 4)
    body = await parse(json.dumps({"model": "m", "a": text}).encode())
    tracemalloc.start()
    try:
        length = body.length_of(body.value["a"])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert length == len(text.encode())
    assert most < MIB
