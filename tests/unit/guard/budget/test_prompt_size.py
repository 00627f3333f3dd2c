"""The size of prompts: no body has more tokens than its size says, and what bounds them is found wherever it is."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlock_contract.strict_json import dump_json
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from interlock_guard.budget.prompt_size import (
    PER_KNOWN_TOOL,
    PER_MESSAGE,
    PER_REQUEST,
    PER_TOOL,
    WITH_TOOLS,
    PromptSize,
    measure_prompt,
)
from interlock_guard.llm.request_body import ModelBodies
from interlock_guard.wire import large_messages
from interlock_guard.wire.large_messages import LargeMessages
from tests.requirements import requirement

WINDOW = 200_000
CLAUDE, GPT = "claude-opus-4-6", "gpt-4o"


def measure(endpoint: str, body: Mapping[str, Any], *added: str) -> PromptSize:
    return asyncio.run(measure_prompt(endpoint, body, lambda text: len(text.encode()), frozenset(added)))


def ask(content: Any, **members: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **members}


@requirement("budget.worst-case")
def test_text_counts_with_its_bytes_and_a_constant_for_each_message() -> None:
    least = measure(CHAT, ask("")).text
    assert least >= PER_REQUEST + PER_MESSAGE
    assert measure(CHAT, ask("x" * 1000)).text == least + 1000
    assert measure(CHAT, ask("\u00e9" * 1000)).text == least + 2000
    assert measure(CHAT, ask("\U0001f600" * 1000)).text == least + 4000
    two = {"model": "m", "messages": 2 * [{"role": "user", "content": ""}]}
    assert measure(CHAT, two).text >= least + PER_MESSAGE


def texts(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, dict):
        return sum(texts(name) + texts(item) for name, item in value.items())
    return sum(map(texts, value)) if isinstance(value, list) else 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["type", "content", "text", "tools", "parameters", "input", "metadata", "id"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@requirement("budget.worst-case")
@settings(deadline=None)
@given(JSON, st.sampled_from([CHAT, COMPLETIONS, RESPONSES, MESSAGES, EMBEDDINGS]))
def test_no_text_of_a_body_is_left_out(value: Any, endpoint: str) -> None:
    body = {"model": "m", "messages": value, "system": value, "prediction": value}
    size = measure(endpoint, body)
    assert size.prediction >= texts(value)
    if size.images == 0 and not size.reference:
        assert size.text >= texts({name: body[name] for name in ("model", "messages", "system")})


@requirement("budget.worst-case")
def test_a_tool_counts_with_its_description_and_a_constant() -> None:
    least = measure(CHAT, ask("")).text
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "image_url": {"a": "b"}}}}
    one = measure(CHAT, ask("", tools=[tool]))
    assert one.text >= least + len(dump_json(tool)) - 2 + PER_TOOL + WITH_TOOLS
    assert (one.images, one.reference) == (0, "")  # a schema has no content, whatever its members are called
    known = measure(MESSAGES, ask("", tools=[{"type": "bash_20250124", "name": "bash"}]))
    assert known.text >= least + PER_KNOWN_TOOL + WITH_TOOLS
    described = measure(MESSAGES, ask("", tools=[{"name": "f", "input_schema": {}}]))
    assert described.text < least + PER_KNOWN_TOOL
    functions = measure(CHAT, ask("", functions=[{"name": "f", "parameters": {}}]))
    assert functions.text >= least + PER_TOOL + WITH_TOOLS


IMAGES = [
    (CHAT, {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 9999, "detail": "low"}}),
    (CHAT, {"image_url": {"url": "https://images.example.com/a.png"}}),
    (RESPONSES, {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 9999}),
    (RESPONSES, {"type": "input_image", "file_id": "file-1"}),
    (RESPONSES, {"type": "computer_screenshot", "image_url": "data:image/png;base64," + "A" * 9999}),
    (RESPONSES, {"type": "image_generation_call", "id": "ig_1", "result": "A" * 9999}),
    (MESSAGES, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 9999}}),
    (MESSAGES, {"type": "image", "source": {"type": "url", "url": "https://images.example.com/a.png"}}),
    (MESSAGES, {"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
]


@requirement("budget.worst-case")
@pytest.mark.parametrize(("endpoint", "part"), IMAGES, ids=[str(index) for index in range(len(IMAGES))])
def test_an_image_counts_with_a_bound_of_its_own_and_not_with_its_bytes(endpoint: str, part: dict[str, Any]) -> None:
    items = {"input": [part]} if endpoint == RESPONSES else ask([part])
    for body in (items, ask([part]), ask([{"type": "tool_result", "content": [part]}])):
        size = measure(endpoint, body)
        assert size.text < 1000
        assert (size.images, size.reference) == (1, "")


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("model", "per_image"),
    [
        ("claude-opus-4-6", 4784),
        ("anthropic/claude-sonnet-4", 4784),
        ("gpt-4o-mini-2024-07-18", 48_169),
        ("gpt-4o", 24_600),
        ("GPT-5-mini", 24_600),
        ("o3", 24_600),
    ],
)
def test_the_bound_of_an_image_is_that_of_the_model(model: str, per_image: int) -> None:
    assert PromptSize(text=10, images=3).input_tokens(model, None) == 10 + 3 * per_image


@requirement("budget.worst-case")
def test_an_image_for_an_unknown_model_may_fill_the_context_window() -> None:
    size = PromptSize(text=10, images=1)
    assert size.input_tokens("qwen-vl", WINDOW) == WINDOW
    assert size.input_tokens("qwen-vl", None) is None
    assert PromptSize(text=10).input_tokens("qwen-vl", None) == 10


REFERENCES = [
    (RESPONSES, {"input": "x", "previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSES, {"input": "x", "conversation": "conv_1"}, "conversation"),
    (RESPONSES, {"input": "x", "conversation": {"id": "conv_1"}}, "conversation"),
    (RESPONSES, {"input": [{"type": "item_reference", "id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": [{"id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": [{"type": None, "id": "msg_1"}]}, "item_reference"),
    (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_id": "file-1"}]}]}, "input_file"),
    (RESPONSES, {"input": [{"content": [{"type": "input_file", "file_data": "A" * 99}]}]}, "input_file"),
    (
        RESPONSES,
        {"input": [{"content": [{"type": "input_file", "file_url": "https://a.example/a.pdf"}]}]},
        "input_file",
    ),
    (CHAT, ask([{"type": "file", "file": {"file_data": "A" * 99, "filename": "a.pdf"}}]), "file"),
    (CHAT, ask([{"type": "file", "file": {"file_id": "file-1"}}]), "file"),
    (CHAT, {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]}, "audio"),
    (CHAT, ask([{"type": "input_audio", "input_audio": {"data": "https://a.example/a.mp3"}}]), "input_audio"),
    (CHAT, ask("x", extra_body={"google": {"cached_content": "cachedContents/1"}}), "cached_content"),
    (MESSAGES, ask([{"type": "document", "source": {"type": "base64", "data": "A" * 99}}]), "document"),
    (MESSAGES, ask([{"type": "document", "source": {"type": "url", "url": "https://a.example/a.pdf"}}]), "document"),
    (MESSAGES, ask([{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]), "document"),
    (MESSAGES, ask([{"type": "container_upload", "file_id": "file_1"}]), "container_upload"),
    (MESSAGES, ask("x", thread={"type": "continue", "previous_message_id": "msg_1"}), "thread"),
]


@requirement("budget.worst-case")
@pytest.mark.parametrize(("endpoint", "body", "reference"), REFERENCES, ids=[str(i) for i in range(len(REFERENCES))])
def test_what_a_body_only_refers_to_may_fill_the_context_window(
    endpoint: str, body: dict[str, Any], reference: str
) -> None:
    size = measure(endpoint, body)
    assert size.reference == reference
    assert size.input_tokens(GPT, WINDOW) == WINDOW
    assert size.input_tokens(GPT, 10) == size.text
    assert size.input_tokens(GPT, None) is None


ADDED = [
    (CHAT, ask([{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}]), "video_url"),
    (CHAT, ask([{"type": "audio_url", "audio_url": {"url": "https://a.example/a.mp3"}}]), "audio_url"),
    (CHAT, ask([{"type": "input_video", "data": "AAAA"}]), "input_video"),  # the member is one of the SDK's
    (CHAT, ask([{"type": "text", "text": "x", "clip": "AAAA"}]), "clip"),
    (CHAT, {"messages": [{"role": "user", "content": "x", "images": ["AAAA"]}]}, "images"),
    (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_video", "id": "v"}]}]}, "input_video"),
    (CHAT, ask("x", documents=[{"title": "a"}]), "documents"),
    (CHAT, ask("x", MediaUrls=["https://a.example/a.mp4"]), "MediaUrls"),
]


@requirement("budget.worst-case")
@pytest.mark.parametrize(("endpoint", "body", "name"), ADDED, ids=[str(index) for index in range(len(ADDED))])
def test_a_part_of_which_only_the_policy_knows_may_fill_the_context_window(
    endpoint: str, body: dict[str, Any], name: str
) -> None:
    size = measure(endpoint, body, name, "another")
    assert size.reference == name
    assert size.input_tokens(GPT, None) is None
    assert size.added == {name, "another"}


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    "body",
    [
        ask("x", top_k=5, guided_json={"type": "object", "properties": {"image_url": {"type": "string"}}}),
        ask("x", repetition_penalty=1.1, videos=None, images=[]),
        {"messages": [{"role": "assistant", "content": "x", "reasoning_content": "hm", "prefix": True}]},
        {"messages": [{"tool_calls": [{"extra_content": {"google": {"thought_signature": "x"}}}]}]},
        ask([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]),
    ],
)
def test_a_member_that_the_policy_adds_and_that_brings_no_content_counts_as_text(body: dict[str, Any]) -> None:
    names = ["top_k", "repetition_penalty", "guided_json", "videos", "images", "reasoning_content", "prefix"]
    names += ["extra_content", "cache_control"]
    plain, size = measure(CHAT, body), measure(CHAT, body, *names)
    assert (size.reference, size.images) == ("", plain.images)
    assert size.text >= texts(body)


HELD = [
    (RESPONSES, {"input": "x", "previous_response_id": None, "conversation": None}),
    (
        RESPONSES,
        {"input": [{"role": "assistant", "content": [{"annotations": [{"type": "file_citation", "file_id": "f"}]}]}]},
    ),
    (RESPONSES, {"input": [{"type": "message", "id": "msg_1", "role": "assistant", "content": []}]}),
    (RESPONSES, {"input": [{"type": "reasoning", "id": "rs_1", "encrypted_content": "A" * 99, "summary": []}]}),
    (MESSAGES, ask([{"type": "text", "citations": [{"type": "char_location", "file_id": "f"}]}])),
    (MESSAGES, ask([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A" * 99}}])),
    (MESSAGES, ask([{"type": "document", "source": {"type": "content", "content": "A" * 99}}])),
    (MESSAGES, ask([{"type": "tool_use", "id": "t", "name": "read", "input": {"file_id": "f", "type": "image"}}])),
    (MESSAGES, ask("x", thread={"type": "create"})),
    (CHAT, ask("x", metadata={"file_id": "f"}, audio={"format": "wav", "voice": "alloy"})),
]


@requirement("budget.worst-case")
@pytest.mark.parametrize(("endpoint", "body"), HELD, ids=[str(index) for index in range(len(HELD))])
def test_what_a_body_holds_is_bounded_by_its_bytes(endpoint: str, body: dict[str, Any]) -> None:
    size = measure(endpoint, body)
    assert (size.reference, size.images) == ("", 0)
    assert size.input_tokens(CLAUDE, None) == size.text


@requirement("budget.worst-case")
def test_audio_in_the_body_counts_with_its_bytes_as_audio() -> None:
    size = measure(CHAT, ask([{"type": "input_audio", "input_audio": {"data": "A" * 9999, "format": "wav"}}]))
    assert size.has_audio
    assert size.text > 9999


@requirement("budget.worst-case")
def test_a_list_of_tokens_counts_each_of_them_once() -> None:
    for endpoint, member in ((EMBEDDINGS, "input"), (COMPLETIONS, "prompt")):
        least = measure(endpoint, {member: []}).text
        assert measure(endpoint, {member: [123_456] * 1000}).text == least + 1000
        assert measure(endpoint, {member: [[123_456] * 500] * 2}).text == least + 1004


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("endpoint", "body", "writes", "is_long"),
    [
        (MESSAGES, ask("x"), False, False),
        (MESSAGES, ask("x", cache_control={"type": "ephemeral"}), True, False),
        (
            MESSAGES,
            ask([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "5m"}}]),
            True,
            False,
        ),
        (MESSAGES, ask("x", tools=[{"name": "f", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]), True, True),
        (MESSAGES, ask("x", system=[{"type": "text", "text": "", "cache_control": {"ttl": "other"}}]), True, True),
        (MESSAGES, ask("x", cache_control=None), False, False),
        (RESPONSES, {"input": "x", "prompt_cache_options": {"ttl": "12h"}}, True, True),
        (RESPONSES, {"input": "x", "prompt_cache_options": {"ttl": "30m"}}, True, False),
        (CHAT, ask([{"type": "text", "text": "x", "prompt_cache_breakpoint": {"ttl": "12h"}}]), True, True),
    ],
)
def test_a_cache_and_its_lifetime_are_found_wherever_they_are_asked_for(
    endpoint: str,
    body: dict[str, Any],
    writes: bool,  # noqa: FBT001 - pytest passes it
    is_long: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    size = measure(endpoint, body)
    assert (size.writes_cache, size.has_long_cache) == (writes, is_long)


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("endpoint", "context", "compacts"),
    [
        (MESSAGES, {"edits": [{"type": "compact_20260112"}]}, True),
        (MESSAGES, {"edits": [{"type": "clear_tool_uses_20250919"}]}, False),
        (RESPONSES, [{"type": "compaction", "compact_threshold": 1000}], True),
        (RESPONSES, [], False),
        (RESPONSES, None, False),
    ],
)
def test_a_compaction_is_one_more_call(endpoint: str, context: Any, compacts: bool) -> None:  # noqa: FBT001
    assert measure(endpoint, {"context_management": context}).compacts is compacts


@requirement("budget.worst-case")
async def test_runs_that_were_cut_out_of_a_body_count() -> None:
    run = "QUJD" * 50_000
    text = f"caf\u00e9 {run} and {run}"
    body = ask([{"type": "text", "text": text}, {"type": "text", "text": "x"}])
    bodies = ModelBodies(LargeMessages())
    parsed = await bodies.parse(bytearray(json.dumps(body).encode()), bodies.budget.hold())
    assert len(json.dumps(parsed.value)) < 20_000
    size = await measure_prompt(CHAT, parsed.value, parsed.length_of)
    whole = await measure_prompt(CHAT, body, lambda one: len(one.encode()))
    assert size == whole
    assert size.text > len(text.encode())


@requirement("budget.worst-case")
async def test_a_body_of_many_values_is_measured_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, is_done = 0, False

    async def count_turns() -> None:
        nonlocal turns
        while not is_done:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(large_messages, "_STEP_SECONDS", 0)  # so that each step ends with a pause
    for content in ([{"type": "text", "text": "x"} for _ in range(20_000)], ["x"] * 60_000):
        turns, is_done = 0, False
        counting = asyncio.create_task(count_turns())
        size = await measure_prompt(CHAT, ask(content), len)
        is_done = True
        await counting
        assert size.text > len(content)
        assert turns >= 1
