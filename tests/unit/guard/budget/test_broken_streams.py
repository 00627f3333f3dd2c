"""Disconnects at every byte of a stream: what does not come to its end costs the whole reservation."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from interlock_contract.budget.prices import ModelPrice, PriceRow
from interlock_guard.budget.dialects import CHAT, MESSAGES, RESPONSES, dialect_of
from interlock_guard.budget.prompt_size import measure_prompt
from interlock_guard.budget.settlement import Charge, charge
from interlock_guard.budget.worst_case import ModelRequest, WorstCase, assess
from interlock_guard.llm.answer_screen import AnswerScreen
from interlock_guard.llm.metering import MeteredCall
from tests.requirements import requirement

PRICE = ModelPrice((PriceRow(input=10**9, output=4 * 10**9),), 128_000)
USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
CLAUDE = {"input_tokens": 100, "output_tokens": 1}
OUTPUT = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}

EVENTS: dict[str, list[dict[str, Any]]] = {
    CHAT: [
        {"model": "m", "choices": [{"index": 0, "delta": {"content": "hel"}}], "usage": None},
        {"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None},
        {"model": "m", "choices": [], "usage": USAGE},
    ],
    MESSAGES: [
        {"type": "message_start", "message": {"model": "m", "usage": CLAUDE}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hel"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ],
    RESPONSES: [
        {"type": "response.created", "response": {"model": "m", "max_output_tokens": 4096, "usage": None}},
        {"type": "response.output_text.delta", "delta": "hel"},
        {"type": "response.completed", "response": {"model": "m", "max_output_tokens": 4096, "usage": OUTPUT}},
    ],
}
COST = 100 * 1000 + 10 * 4000


def stream_of(endpoint: str) -> bytes:
    return b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in EVENTS[endpoint])


async def worst_case_of(endpoint: str) -> WorstCase:
    body = {"model": "m", "stream": True, "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
    if endpoint == RESPONSES:
        body = {"model": "m", "stream": True, "input": "hello"}
    size = await measure_prompt(endpoint, body, lambda text: len(text.encode()))
    shape = "Anthropic" if endpoint == MESSAGES else "OpenAI"
    dialect = dialect_of(shape, "openai", "https://api.openai.com/v1")
    request = ModelRequest(
        endpoint=endpoint,
        body=body,
        size=size,
        model="m",
        price=PRICE,
        dialect=dialect,
        at=0.0,
        max_output_tokens=4096,
    )
    worst = assess(request)
    assert isinstance(worst, WorstCase), worst
    return worst


def settle(worst: WorstCase, data: bytes, *, is_complete: bool, step: int = 7) -> tuple[Charge, bytes]:
    """Pass a part of a stream on as the guard does; return what the call has cost, and what has passed."""
    parts: Any = None
    call = MeteredCall(worst, parts, parts, parts, "m", None, 60)
    answer: Any = SimpleNamespace(status=200, content_type="text/event-stream")
    screen = AnswerScreen(lambda _: False, is_events=True, usage=call.begin_answer(answer, is_events=True))
    passed = b"".join(call.feed(screen.feed(data[start : start + step])) for start in range(0, len(data), step))
    if is_complete:
        passed += call.feed(screen.finish())
        call.is_complete = True
    found = charge(call.find_end(was_sent=True), worst.terms, call.read_answer(), lambda _: None)
    return found, passed


@requirement("budget.b5")
@pytest.mark.parametrize("endpoint", EVENTS)
async def test_a_stream_that_breaks_off_at_any_byte_costs_the_whole_reservation(endpoint: str) -> None:
    worst, data = await worst_case_of(endpoint), stream_of(endpoint)
    for size in range(len(data) + 1):
        found, _ = settle(worst, data[:size], is_complete=False)
        assert (found.nanos, found.basis) == (worst.nanos, "Reservation")


@pytest.mark.parametrize("endpoint", EVENTS)
async def test_a_stream_that_ends_before_its_usage_costs_the_whole_reservation(endpoint: str) -> None:
    worst, data = await worst_case_of(endpoint), stream_of(endpoint)
    for size in range(len(data)):
        found, _ = settle(worst, data[:size], is_complete=True)
        assert found.nanos in {worst.nanos, COST}  # what follows the usage may be missing
        assert found.nanos == worst.nanos or b'"usage"' in data[:size]


@pytest.mark.parametrize("step", [1, 2, 3, 64, 4096])
@pytest.mark.parametrize("endpoint", EVENTS)
async def test_a_whole_stream_costs_its_usage_however_it_is_cut_into_pieces(endpoint: str, step: int) -> None:
    worst, data = await worst_case_of(endpoint), stream_of(endpoint)
    found, passed = settle(worst, data, is_complete=True, step=step)
    assert (found.nanos, found.basis) == (COST, "Usage")
    if endpoint == CHAT:
        assert passed == b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in EVENTS[CHAT][:-1])
    elif endpoint == MESSAGES:
        assert passed == data
    else:
        assert json.loads(passed.split(b"\n\n")[0].removeprefix(b"data: "))["response"]["max_output_tokens"] is None
