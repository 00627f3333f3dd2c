"""Usages: each shape that providers send is read into classes that do not overlap, and an odd one is unknown."""

from typing import Any

import pytest
from anthropic.types import CacheCreation, OutputTokensDetails, ServerToolUsage
from anthropic.types import Usage as MessageUsage
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails
from openai.types.create_embedding_response import Usage as EmbeddingUsage
from openai.types.responses import ResponseUsage
from openai.types.responses.response_usage import (
    InputTokensDetails,
    InputTokensDetailsCacheWriteTokensDetails,
)
from openai.types.responses.response_usage import (
    OutputTokensDetails as ResponseOutputDetails,
)
from typing_extensions import override

from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.dialects import CHAT, COMPLETIONS, COUNT_TOKENS, EMBEDDINGS, MESSAGES, RESPONSES, dialect_of
from interlock_guard.budget.usage import MAX_COUNT, MEMBERS, Unknown, build_answer, merge_usage, read_usage
from tests.requirements import requirement

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
XAI = dialect_of("OpenAI", "xai", "https://api.x.ai/v1")
GEMINI = dialect_of("OpenAI", "gemini", "https://generativelanguage.googleapis.com/v1beta/openai")
DEEPSEEK = dialect_of("OpenAI", "deepseek", "https://api.deepseek.com/v1")
MISTRAL = dialect_of("OpenAI", "mistral", "https://api.mistral.ai/v1")
GATEWAY = dialect_of("OpenAI", "gateway", "http://llm.models.svc:8000/v1")
ANTHROPIC = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com/v1")


def read(endpoint: str, raw: Any, dialect: Any = OPENAI) -> ModelUsage:
    found = read_usage(endpoint, raw, dialect)
    assert isinstance(found, ModelUsage), found
    return found


@requirement("budget.usage")
def test_a_chat_completion_is_divided_into_classes_that_do_not_overlap() -> None:
    usage = CompletionUsage(
        prompt_tokens=1000,
        completion_tokens=500,
        total_tokens=1500,
        prompt_tokens_details=PromptTokensDetails(audio_tokens=100, cached_tokens=300, image_tokens=50),
        completion_tokens_details=CompletionTokensDetails(
            audio_tokens=20, reasoning_tokens=400, accepted_prediction_tokens=5, rejected_prediction_tokens=7
        ),
    )
    found = read(CHAT, usage.model_dump())
    assert found == ModelUsage(
        input=550, cached_input=300, input_audio=100, input_image=50, output=80, reasoning=400, output_audio=20
    )
    assert (found.input_tokens, found.output_tokens) == (1000, 500)


@requirement("budget.usage")
def test_tokens_written_to_the_cache_of_openai_are_a_part_of_the_prompt() -> None:
    raw = CompletionUsage(
        prompt_tokens=1000,
        completion_tokens=1,
        total_tokens=1001,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=200, cache_write_tokens=700),
    ).model_dump()
    assert read(CHAT, raw) == ModelUsage(input=100, cached_input=200, cache_write_5m=700, output=1)


@requirement("budget.usage")
def test_a_response_has_its_reasoning_inside_and_tells_the_lifetimes_of_its_cache() -> None:
    usage = ResponseUsage(
        input_tokens=1000,
        input_tokens_details=InputTokensDetails(
            cached_tokens=100,
            cache_write_tokens=600,
            cache_write_tokens_details=InputTokensDetailsCacheWriteTokensDetails(
                ttl_12h_tokens=400, ttl_30m_tokens=200
            ),
        ),
        output_tokens=90,
        output_tokens_details=ResponseOutputDetails(reasoning_tokens=64),
        total_tokens=1090,
    )
    assert read(RESPONSES, usage.model_dump()) == ModelUsage(
        input=300, cached_input=100, cache_write_5m=200, cache_write_1h=400, output=26, reasoning=64
    )


@requirement("budget.usage")
def test_embeddings_and_completions_have_few_numbers() -> None:
    embedding = EmbeddingUsage(prompt_tokens=8, total_tokens=8).model_dump()
    assert read(EMBEDDINGS, embedding) == ModelUsage(input=8)
    assert read(EMBEDDINGS, {"prompt_tokens": 8, "total_tokens": 9}) == ModelUsage(input=9)
    raw = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    assert read(COMPLETIONS, raw) == ModelUsage(input=5, output=7)


@requirement("budget.usage")
def test_a_count_of_tokens_is_free() -> None:
    assert read(COUNT_TOKENS, None, ANTHROPIC) == ModelUsage()


@requirement("budget.usage")
def test_a_message_counts_its_cache_apart_and_its_thoughts_inside() -> None:
    usage = MessageUsage(
        input_tokens=10,
        cache_read_input_tokens=20,
        cache_creation_input_tokens=300,
        cache_creation=CacheCreation(ephemeral_5m_input_tokens=100, ephemeral_1h_input_tokens=200),
        output_tokens=50,
        output_tokens_details=OutputTokensDetails(thinking_tokens=40),
        server_tool_use=ServerToolUsage(web_fetch_requests=0, web_search_requests=2),
    )
    assert read(MESSAGES, usage.model_dump(), ANTHROPIC) == ModelUsage(
        input=10, cached_input=20, cache_write_5m=100, cache_write_1h=200, output=50, web_search=2
    )


@requirement("budget.usage")
@pytest.mark.parametrize("has_hour_cache", [True, False])
def test_tokens_written_with_an_unknown_lifetime_have_the_longest_that_was_asked(has_hour_cache: bool) -> None:  # noqa: FBT001
    raw = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 30}
    found = read_usage(MESSAGES, raw, ANTHROPIC, has_hour_cache=has_hour_cache)
    expected = {"cache_write_1h" if has_hour_cache else "cache_write_5m": 30}
    assert found == ModelUsage(input=1, output=1, **expected)


@requirement("budget.usage")
def test_a_compaction_is_charged_although_only_the_iterations_have_it() -> None:
    one = {"input_tokens": 100, "output_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    raw = {**one, "iterations": [{**one, "type": "compaction", "input_tokens": 5000}, {**one, "type": "message"}]}
    assert read(MESSAGES, raw, ANTHROPIC) == ModelUsage(input=5100, output=20)
    twice = {**one, "iterations": [{**one, "type": "message"}, {**one, "type": "message"}]}
    assert read(MESSAGES, twice, ANTHROPIC) == ModelUsage(input=200, output=20)


HUGE = [{"type": "compaction", "input_tokens": 10**9, "output_tokens": 1}] * 2
"""Each number is believed, and their sum is not: it would be more than a ledger can hold."""


@requirement("budget.usage")
@pytest.mark.parametrize("iterations", [{}, "x", [1], [{"type": "compaction", "input_tokens": -1}], [{}] * 5000, HUGE])
def test_odd_iterations_are_unknown(iterations: Any) -> None:
    raw = {"input_tokens": 1, "output_tokens": 1, "iterations": iterations}
    assert isinstance(read_usage(MESSAGES, raw, ANTHROPIC), Unknown)


@requirement("budget.usage")
def test_reasoning_outside_of_the_completion_is_added() -> None:
    # As xAI answered: 10120 of the prompt, 1499 of the completion, 2809 of reasoning, 14428 in all.
    raw = {
        "prompt_tokens": 10120,
        "completion_tokens": 1499,
        "total_tokens": 14428,
        "prompt_tokens_details": {"cached_tokens": 128},
        "completion_tokens_details": {"reasoning_tokens": 2809},
    }
    expected = ModelUsage(input=9992, cached_input=128, output=1499, reasoning=2809)
    assert read(CHAT, raw, XAI) == expected
    assert read(CHAT, raw, OPENAI).output_tokens == 4308  # the total says so, whatever the table says


@requirement("budget.usage")
def test_thoughts_that_only_the_total_counts_are_output() -> None:
    raw = {"prompt_tokens": 21, "completion_tokens": 0, "total_tokens": 81}
    assert read(CHAT, raw, GEMINI) == ModelUsage(input=21, output=60)
    raw["completion_tokens_details"] = {"reasoning_tokens": 60}  # type: ignore[assignment] # as some gateways have it
    assert read(CHAT, raw, GEMINI) == ModelUsage(input=21, reasoning=60)


@requirement("budget.usage")
def test_more_reasoning_than_completion_cannot_be_inside_of_it() -> None:
    raw = {"prompt_tokens": 1, "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 30}}
    assert read(CHAT, raw) == ModelUsage(input=1, output=10, reasoning=30)


@requirement("budget.usage")
def test_the_cache_of_deepseek_and_mistral_is_read_by_their_own_names() -> None:
    raw = {"prompt_tokens": 100, "completion_tokens": 1, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36}
    assert read(CHAT, raw, DEEPSEEK) == ModelUsage(input=36, cached_input=64, output=1)
    raw = {"prompt_tokens": 801, "completion_tokens": 2, "num_cached_tokens": 768}
    assert read(CHAT, raw, MISTRAL) == ModelUsage(input=33, cached_input=768, output=2)


@requirement("budget.usage")
def test_an_unknown_provider_is_read_in_the_larger_way() -> None:
    raw = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 80},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    assert read(CHAT, raw, OPENAI) == ModelUsage(input=20, cached_input=80, output=10, reasoning=40)
    assert read(CHAT, raw, GATEWAY) == ModelUsage(input=100, cached_input=80, output=50, reasoning=40)


@requirement("budget.usage")
def test_more_cached_tokens_than_prompt_cannot_be_inside_of_it() -> None:
    raw = {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 80}}
    assert read(CHAT, raw) == ModelUsage(input=10, cached_input=80, output=1)


COUNTS = [
    (CHAT, ("prompt_tokens",)),
    (CHAT, ("completion_tokens",)),
    (CHAT, ("total_tokens",)),
    (CHAT, ("prompt_tokens_details", "cached_tokens")),
    (CHAT, ("prompt_tokens_details", "audio_tokens")),
    (CHAT, ("completion_tokens_details", "reasoning_tokens")),
    (CHAT, ("prompt_cache_hit_tokens",)),
    (EMBEDDINGS, ("prompt_tokens",)),
    (RESPONSES, ("input_tokens",)),
    (RESPONSES, ("output_tokens",)),
    (RESPONSES, ("input_tokens_details", "cached_tokens")),
    (RESPONSES, ("output_tokens_details", "reasoning_tokens")),
    (MESSAGES, ("input_tokens",)),
    (MESSAGES, ("output_tokens",)),
    (MESSAGES, ("cache_read_input_tokens",)),
    (MESSAGES, ("cache_creation_input_tokens",)),
    (MESSAGES, ("cache_creation", "ephemeral_1h_input_tokens")),
]
WHOLE: dict[str, Any] = {
    "prompt_tokens": 10,
    "completion_tokens": 10,
    "input_tokens": 10,
    "output_tokens": 10,
}


@requirement("budget.usage")
@pytest.mark.parametrize("odd", [-1, True, 1.0, "1", MAX_COUNT + 1, [], {}])
@pytest.mark.parametrize(("endpoint", "path"), COUNTS)
def test_a_number_that_is_no_number_of_tokens_makes_a_usage_unknown(
    endpoint: str, path: tuple[str, ...], odd: Any
) -> None:
    assert isinstance(read_usage(endpoint, WHOLE, OPENAI), ModelUsage)
    raw = {**WHOLE, path[0]: odd if len(path) == 1 else {path[1]: odd}}
    found = read_usage(endpoint, raw, OPENAI)
    assert isinstance(found, Unknown)
    assert path[-1] in found.reason


@requirement("budget.usage")
@pytest.mark.parametrize(
    ("endpoint", "name"),
    [
        *((CHAT, name) for name in ("prompt_tokens", "completion_tokens")),
        *((RESPONSES, name) for name in ("input_tokens", "output_tokens")),
        *((MESSAGES, name) for name in ("input_tokens", "output_tokens")),
        (EMBEDDINGS, "prompt_tokens"),
    ],
)
def test_an_absent_number_makes_a_usage_unknown(endpoint: str, name: str) -> None:
    for raw in ({**WHOLE, name: None}, {key: value for key, value in WHOLE.items() if key != name}):
        assert read_usage(endpoint, raw, OPENAI) == Unknown(f"{name} is absent")


@requirement("budget.usage")
@pytest.mark.parametrize("raw", [None, [], "10", 10, {}])
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, MESSAGES])
def test_no_usage_at_all_is_unknown(endpoint: str, raw: Any) -> None:
    assert isinstance(read_usage(endpoint, raw, OPENAI), Unknown)


@requirement("budget.usage")
@pytest.mark.parametrize("name", ["prompt_tokens_details", "completion_tokens_details"])
def test_details_that_are_no_object_are_unknown(name: str) -> None:
    assert isinstance(read_usage(CHAT, {**WHOLE, name: [1]}, OPENAI), Unknown)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(WHOLE)) | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@requirement("budget.usage")
@given(JSON, st.sampled_from([CHAT, EMBEDDINGS, RESPONSES, MESSAGES]), st.sampled_from([OPENAI, GATEWAY, ANTHROPIC]))
def test_whatever_a_provider_sends_is_a_usage_or_unknown(raw: Any, endpoint: str, dialect: Any) -> None:
    assert isinstance(read_usage(endpoint, raw, dialect), ModelUsage | Unknown)
    merge_usage(raw, raw)
    merge_usage(merge_usage(None, raw), WHOLE)


COUNT = st.integers(0, 1000)


@requirement("budget.usage")
@given(COUNT, COUNT, COUNT, COUNT)
def test_no_reading_is_smaller_than_what_the_provider_calls_prompt_and_completion(
    prompt: int, completion: int, cached: int, reasoning: int
) -> None:
    raw = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    for dialect in (OPENAI, XAI, GATEWAY):
        found = read(CHAT, raw, dialect)
        assert found.input_tokens >= prompt
        assert found.output_tokens >= completion
    larger = read(CHAT, raw, GATEWAY)
    for dialect in (OPENAI, XAI):
        assert larger.input_tokens >= read(CHAT, raw, dialect).input_tokens
        assert larger.output_tokens >= read(CHAT, raw, dialect).output_tokens


@requirement("budget.usage")
def test_of_several_usages_of_a_stream_no_number_falls() -> None:
    start = {
        "input_tokens": 10,
        "output_tokens": 1,
        "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
    }
    merged = merge_usage(start, {"output_tokens": 30, "input_tokens": 4, "cache_creation": None, "other": 1})
    assert merged == {**start, "output_tokens": 30}


@requirement("budget.usage")
def test_of_several_lists_of_iterations_none_is_lost() -> None:
    compaction = {"type": "compaction", "input_tokens": 5000, "output_tokens": 20}
    message = {"type": "message", "input_tokens": 10, "output_tokens": 30, "cache_creation": {"other": 1}}
    top = {"input_tokens": 10, "output_tokens": 30}
    whole = {**top, "iterations": [compaction, message]}
    expected = ModelUsage(input=5010, output=50)
    lists: list[Any] = [[], None, [compaction], [{**compaction, "input_tokens": 1}, message]]
    for other in ({**top, "iterations": one} for one in lists):
        for first, second in ((whole, other), (other, whole)):
            merged = merge_usage(merge_usage(None, first), second)
            assert read_usage(MESSAGES, merged, ANTHROPIC) == expected
    many = merge_usage(None, {**top, "iterations": [message] * 10_000})
    assert len(many["iterations"]) < 5000
    assert isinstance(read_usage(MESSAGES, many, ANTHROPIC), Unknown)


@requirement("budget.usage")
def test_an_odd_number_of_a_stream_is_noticed_whatever_comes_after_it() -> None:
    merged = merge_usage({"input_tokens": 10, "output_tokens": -5}, {"output_tokens": 30})
    assert isinstance(read_usage(MESSAGES, merged, ANTHROPIC), Unknown)
    merged = merge_usage({"input_tokens": 10, "output_tokens": 5}, {"output_tokens": -30})
    assert isinstance(read_usage(MESSAGES, merged, ANTHROPIC), Unknown)


@requirement("budget.usage")
def test_a_stream_of_usages_with_ever_other_names_takes_no_memory() -> None:
    merged: Any = None
    for number in range(1000):
        merged = merge_usage(merged, {f"name{number}": 1, "input_tokens": number})
    assert merged == {"input_tokens": 999}


def leaves_of(value: Any) -> int:
    """Return how many values there are in one, and their characters."""
    if isinstance(value, dict | list):
        return 1 + sum(map(leaves_of, value.values() if isinstance(value, dict) else value))
    return 1 + len(str(value))


@requirement("budget.usage")
def test_a_stream_of_usages_with_all_that_is_read_in_all_that_is_read_takes_no_memory() -> None:
    counts = {name: 1 for names in MEMBERS.values() for name in names}
    large = [{name: {**counts, "type": "x" * 60_000} for name in counts}] * 100
    merged: Any = None
    for name in counts:
        merged = merge_usage(merged, {name: large})
        merged = merge_usage(merged, {name: large[0]} if name != "iterations" else {})
        merged = merge_usage(merged, {name: "x" * 60_000} if name != "iterations" else {})
    assert leaves_of(merged) < 50_000


@requirement("budget.usage")
def test_a_small_usage_after_a_large_one_is_read_by_itself_alone() -> None:
    class Untouched(list[Any]):
        @override
        def __iter__(self) -> Any:
            raise AssertionError("each iteration of the earlier usage is read again")

    iterations = Untouched({"input_tokens": number} for number in range(4000))
    merged = merge_usage({"iterations": iterations}, {"iterations": [None, {"output_tokens": 1}]})
    assert merged["iterations"][:3] == [
        {"input_tokens": 0},
        {"input_tokens": 1, "output_tokens": 1},
        {"input_tokens": 2},
    ]
    assert len(merged["iterations"]) == 4000


@requirement("budget.usage")
@pytest.mark.parametrize(
    ("tier", "usage", "expected"),
    [
        ("default", {}, "standard"),
        ("priority", {}, "priority"),
        ("flex", {}, "flex"),
        ("on_demand", {}, "standard"),
        (None, {"service_tier": "standard"}, "standard"),
        (None, {"service_tier": "priority"}, "priority"),
        (None, {"service_tier": "standard", "speed": "fast"}, "fast"),
        (None, {"speed": "standard"}, None),
        (None, {"service_tier": "standard", "inference_geo": "us"}, "us"),
        (None, {"service_tier": "standard", "inference_geo": "global"}, "standard"),
        (None, {"service_tier": "standard", "inference_geo": "not_available"}, "standard"),
        (None, {"inference_geo": "us"}, "us"),
        (None, {"speed": "fast", "inference_geo": "us"}, "fast-us"),
        (None, {"service_tier": "standard", "inference_geo": "mars"}, "mars"),
        (None, {}, None),
        (7, {}, None),
    ],
)
def test_the_tier_is_named_as_in_the_price_book(tier: Any, usage: Any, expected: str | None) -> None:
    found = build_answer(Unknown(""), model="m", service_tier=tier, raw_usage=usage)
    assert (found.model, found.tier) == ("m", expected)


@requirement("budget.usage")
def test_names_in_an_answer_are_short_texts_or_nothing() -> None:
    found = build_answer(Unknown(""), model=["m"], service_tier="x" * 9999, raw_usage={"inference_geo": ["us"]})
    assert (found.model, found.tier) == (None, "x" * 256)
