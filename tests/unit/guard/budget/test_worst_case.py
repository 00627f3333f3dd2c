"""Worst cases: no call can cost more than its own, and the body that is sent keeps the provider to it."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.prices import ModelPrice, ModelUsage, PriceRow, price_of
from interlock_guard.budget.dialects import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    RESPONSES,
    Dialect,
    dialect_of,
)
from interlock_guard.budget.member_scanner import SetBack
from interlock_guard.budget.prompt_size import PromptSize
from interlock_guard.budget.worst_case import ModelRequest, Refused, WorstCase, assess
from tests.requirements import requirement

OPENAI = dialect_of("OpenAI", "openai", "https://api.openai.com/v1")
MISTRAL = dialect_of("OpenAI", "mistral", "https://api.mistral.ai/v1")
GROQ = dialect_of("OpenAI", "groq", "https://api.groq.com/openai/v1")
GATEWAY = dialect_of("OpenAI", "gateway", "http://llm.models.svc:8000/v1")
ANTHROPIC = dialect_of("Anthropic", "anthropic", "https://api.anthropic.com")
DOLLAR = 1_000_000_000
IN, OUT = 1 * DOLLAR, 10 * DOLLAR
"""Rates for a million tokens: a token of input is 1 000 nano-dollars, one of output 10 000."""
PRICE = ModelPrice(rows=(PriceRow(input=IN, output=OUT),))
AT = 1_000.0


def price_with(*rows: PriceRow, context_window: int | None = None, **rates: Any) -> ModelPrice:
    return ModelPrice(rows=(PriceRow(**{"input": IN, "output": OUT, **rates}), *rows), context_window=context_window)


def run(
    endpoint: str,
    body: Mapping[str, Any],
    *,
    size: PromptSize | None = None,
    price: ModelPrice | None = PRICE,
    dialect: Dialect = OPENAI,
    betas: tuple[str, ...] = (),
    model: str = "m",
) -> WorstCase | Refused:
    return assess(
        ModelRequest(
            endpoint=endpoint,
            body={"model": model, **body},
            size=size or PromptSize(text=100),
            model=model,
            price=price,
            dialect=dialect,
            at=AT,
            max_output_tokens=4096,
            betas=betas,
        )
    )


def allow(endpoint: str, body: Mapping[str, Any], **arguments: Any) -> WorstCase:
    found = run(endpoint, body, **arguments)
    assert isinstance(found, WorstCase), found
    return found


def refuse(endpoint: str, body: Mapping[str, Any], **arguments: Any) -> Refused:
    found = run(endpoint, body, **arguments)
    assert isinstance(found, Refused), found
    return found


def cost(tokens_in: int, tokens_out: int) -> int:
    return tokens_in * 1000 + tokens_out * 10_000


@requirement("budget.worst-case")
def test_the_worst_case_is_the_input_and_the_limit_of_the_output() -> None:
    assert allow(CHAT, {"max_completion_tokens": 50}).nanos == cost(100, 50)
    assert allow(RESPONSES, {"max_output_tokens": 50}).nanos == cost(100, 50)
    assert allow(COMPLETIONS, {"max_tokens": 50, "prompt": "x"}).nanos == cost(100, 50)
    assert allow(MESSAGES, {"max_tokens": 50}, dialect=ANTHROPIC).nanos == cost(100, 50)
    assert allow(EMBEDDINGS, {"input": "x"}).nanos == cost(100, 0)


@requirement("budget.worst-case")
def test_only_anthropic_itself_is_known_to_generate_nothing_at_a_limit_of_zero() -> None:
    found = allow(MESSAGES, {"max_tokens": 0}, dialect=ANTHROPIC)
    assert (found.nanos, found.body["max_tokens"]) == (cost(100, 0), 0)
    gateway = dialect_of("Anthropic", "anthropic", "https://gateway.example.com")
    assert refuse(MESSAGES, {"max_tokens": 0}, dialect=gateway).reason == "BadRequest"
    assert refuse(CHAT, {"max_tokens": 0, "max_completion_tokens": 50}).reason == "BadRequest"


@requirement("budget.worst-case")
def test_the_worst_case_is_rounded_up() -> None:
    cheap = ModelPrice(rows=(PriceRow(input=1, output=0),))
    assert allow(EMBEDDINGS, {}, price=cheap).nanos == 1


@requirement("budget.worst-case")
def test_a_call_costs_its_flat_price_once() -> None:
    assert allow(CHAT, {"max_tokens": 1}, price=price_with(request=7)).nanos == cost(100, 1) + 7


@requirement("budget.worst-case")
def test_an_amount_that_no_budget_has_is_bounded_and_not_an_error() -> None:
    assert allow(CHAT, {"max_tokens": 10**30}).nanos == MAX_MONEY


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("endpoint", "dialect", "member"),
    [
        (CHAT, OPENAI, "max_completion_tokens"),
        (CHAT, MISTRAL, "max_tokens"),
        (CHAT, GATEWAY, "max_tokens"),
        (COMPLETIONS, OPENAI, "max_tokens"),
        (RESPONSES, OPENAI, "max_output_tokens"),
        (MESSAGES, ANTHROPIC, "max_tokens"),
    ],
)
@pytest.mark.parametrize("given", [{}, {"max_tokens": None}], ids=["absent", "null"])
def test_a_body_without_a_limit_gets_one_in_the_member_that_the_provider_takes(
    endpoint: str, dialect: Dialect, member: str, given: dict[str, Any]
) -> None:
    found = allow(endpoint, given, dialect=dialect)
    assert found.body[member] == 4096
    assert found.nanos == cost(100, 4096)
    other = {"max_completion_tokens": "max_tokens", "max_tokens": "max_completion_tokens"}.get(member)
    assert other not in found.body


@requirement("budget.worst-case")
@pytest.mark.parametrize(("dialect", "member"), [(OPENAI, "max_completion_tokens"), (MISTRAL, "max_tokens")])
@pytest.mark.parametrize(
    "given",
    [
        {"max_tokens": 50},
        {"max_completion_tokens": 50},
        {"max_tokens": 7, "max_completion_tokens": 50},
        {"max_tokens": 50, "max_completion_tokens": None},
    ],
)
def test_a_limit_is_sent_in_the_member_that_the_provider_does_not_ignore(
    dialect: Dialect, member: str, given: dict[str, Any]
) -> None:
    found = allow(CHAT, given, dialect=dialect)
    limits = {name: value for name, value in found.body.items() if name.startswith("max_")}
    assert limits == {member: 50}
    assert found.nanos == cost(100, 50)


@requirement("budget.worst-case")
@pytest.mark.parametrize("name", ["max_new_tokens", "max_gen_len", "n_predict", "num_predict"])
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_a_limit_by_a_name_that_only_the_policy_lets_pass_counts_where_it_is_larger(endpoint: str, name: str) -> None:
    found = allow(endpoint, {"max_tokens": 7, name: 50}, dialect=GATEWAY)
    assert (found.nanos, found.body["max_tokens"], found.body[name]) == (cost(100, 50), 50, 50)
    assert refuse(endpoint, {"max_tokens": 7, name: -1}, dialect=GATEWAY).reason == "BadRequest"


@requirement("budget.worst-case")
@pytest.mark.parametrize("odd", [-1, 0, True, 50.0, "50", [50], {}])
@pytest.mark.parametrize(
    ("endpoint", "member"),
    [(CHAT, "max_tokens"), (CHAT, "max_completion_tokens"), (RESPONSES, "max_output_tokens"), (MESSAGES, "max_tokens")],
)
def test_a_limit_that_is_no_number_or_may_be_none_at_all_is_refused(endpoint: str, member: str, odd: Any) -> None:
    found = refuse(endpoint, {member: odd})
    assert found.reason == "BadRequest"
    assert member in found.message


@requirement("budget.worst-case")
def test_each_answer_of_several_has_the_limit() -> None:
    assert allow(CHAT, {"max_tokens": 50, "n": 3}).nanos == cost(100, 150)
    assert allow(CHAT, {"max_tokens": 50, "n": None}).nanos == cost(100, 50)
    for name in ("best_of", "num_return_sequences", "candidate_count"):
        assert allow(CHAT, {"max_tokens": 50, "n": 2, name: 3}).nanos == cost(100, 150)
    assert allow(COMPLETIONS, {"max_tokens": 50, "n": 2, "best_of": 5, "prompt": "x"}).nanos == cost(100, 250)
    assert allow(COMPLETIONS, {"max_tokens": 50, "n": 5, "prompt": "x"}).nanos == cost(100, 250)


@requirement("budget.worst-case")
def test_each_prompt_of_a_list_has_its_answers() -> None:
    assert allow(COMPLETIONS, {"max_tokens": 50, "n": 2, "prompt": ["a", "b", "c"]}).nanos == cost(100, 300)
    assert allow(COMPLETIONS, {"max_tokens": 50, "prompt": [[1, 2], [3]]}).nanos == cost(100, 100)
    assert allow(COMPLETIONS, {"max_tokens": 50, "prompt": [1, 2, 3]}).nanos == cost(100, 50)


@requirement("budget.worst-case")
@pytest.mark.parametrize("odd", [0, -1, True, 2.0, "2", [2]])
@pytest.mark.parametrize(("endpoint", "member"), [(CHAT, "n"), (COMPLETIONS, "n"), (COMPLETIONS, "best_of")])
def test_a_number_of_answers_that_is_none_is_refused(endpoint: str, member: str, odd: Any) -> None:
    assert refuse(endpoint, {member: odd}).reason == "BadRequest"


@requirement("budget.worst-case")
def test_a_predicted_output_may_be_charged_as_output_too() -> None:
    size = PromptSize(text=100, prediction=30)
    assert allow(CHAT, {"max_tokens": 50}, size=size).nanos == cost(100, 80)


@requirement("budget.worst-case")
def test_a_compaction_reads_and_writes_once_more() -> None:
    size = PromptSize(text=100, compacts=True)
    assert allow(MESSAGES, {"max_tokens": 50}, size=size, dialect=ANTHROPIC).nanos == cost(200, 100)


@requirement("budget.worst-case")
def test_what_a_body_refers_to_may_fill_the_context_window() -> None:
    size = PromptSize(text=100, reference="previous_response_id")
    price = price_with(context_window=5000)
    assert allow(RESPONSES, {"max_output_tokens": 1}, size=size, price=price).nanos == cost(5000, 1)
    found = refuse(RESPONSES, {}, size=size)
    assert found.reason == "PriceUnknown"
    assert "previous_response_id" in found.message
    assert "contextWindow" in found.message


@requirement("budget.worst-case")
def test_the_beta_for_a_long_context_makes_the_window_longer() -> None:
    size, price = PromptSize(text=100, reference="document"), price_with(context_window=200_000)
    one = allow(MESSAGES, {"max_tokens": 1}, size=size, price=price, dialect=ANTHROPIC)
    assert one.nanos == cost(200_000, 1)
    other = allow(
        MESSAGES, {"max_tokens": 1}, size=size, price=price, dialect=ANTHROPIC, betas=("context-1m-2025-08-07",)
    )
    assert other.nanos == cost(1_000_000, 1)


@requirement("budget.worst-case")
def test_images_cost_by_the_bound_of_the_model() -> None:
    size = PromptSize(text=100, images=2)
    price = price_with(input_image=2 * IN)
    found = allow(MESSAGES, {"max_tokens": 1}, size=size, model="claude-opus-4-6", dialect=ANTHROPIC, price=price)
    assert found.nanos == 2 * cost(100 + 2 * 4784, 0) + cost(0, 1)
    assert refuse(CHAT, {}, size=size, model="qwen-vl").reason == "PriceUnknown"


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("size", "dialect", "rate"),
    [
        (PromptSize(text=100), ANTHROPIC, 1),
        (PromptSize(text=100, writes_cache=True), ANTHROPIC, 2),
        (PromptSize(text=100, writes_cache=True, has_long_cache=True), ANTHROPIC, 3),
        (PromptSize(text=100), OPENAI, 2),  # which writes to its cache unasked
        (PromptSize(text=100, has_audio=True), ANTHROPIC, 4),
        (PromptSize(text=100, images=1), ANTHROPIC, 5),
    ],
)
def test_input_costs_the_dearest_class_that_the_body_allows(size: PromptSize, dialect: Dialect, rate: int) -> None:
    price = price_with(cache_write_5m=2 * IN, cache_write_1h=3 * IN, input_audio=4 * IN, input_image=5 * IN)
    found = allow(EMBEDDINGS, {}, size=size, price=price, dialect=dialect, model="claude-x")
    assert found.nanos == rate * cost(100 + size.images * 4784, 0)


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("body", "rate"),
    [
        ({}, OUT),
        ({"modalities": ["text", "audio"]}, 3 * OUT),
        ({"audio": {"format": "wav"}}, 3 * OUT),
    ],
)
def test_output_costs_the_dearest_class_that_the_body_allows(body: dict[str, Any], rate: int) -> None:
    price = price_with(reasoning=OUT // 2, output_audio=3 * OUT)
    assert allow(CHAT, {"max_tokens": 1, **body}, price=price).nanos == cost(100, 0) + rate // 1_000_000
    dear = price_with(reasoning=4 * OUT)
    assert allow(CHAT, {"max_tokens": 1}, price=dear).nanos == cost(100, 4)


@requirement("budget.worst-case")
def test_long_input_costs_the_price_of_long_input() -> None:
    price = price_with(PriceRow(input=2 * IN, output=2 * OUT, above_input=1000))
    assert allow(CHAT, {"max_tokens": 1}, size=PromptSize(text=1000), price=price).nanos == cost(1000, 1)
    assert allow(CHAT, {"max_tokens": 1}, size=PromptSize(text=1001), price=price).nanos == 2 * cost(1001, 1)


TIERED = price_with(
    PriceRow(input=IN // 2, output=OUT // 2, tier="flex"), PriceRow(input=2 * IN, output=2 * OUT, tier="priority")
)


@requirement("budget.worst-case")
@pytest.mark.parametrize("asked", [{}, {"service_tier": None}, {"service_tier": "auto"}])
@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
def test_a_body_that_leaves_the_tier_to_the_provider_gets_the_standard_tier(
    asked: dict[str, Any], endpoint: str
) -> None:
    found = allow(endpoint, asked, price=TIERED)
    assert found.body["service_tier"] == "default"
    assert found.nanos == cost(100, 4096)
    assert allow(CHAT, asked, price=TIERED, dialect=GROQ).body["service_tier"] == "on_demand"
    assert allow(MESSAGES, asked, price=TIERED, dialect=ANTHROPIC).body["service_tier"] == "standard_only"


@requirement("budget.worst-case")
def test_a_provider_that_is_not_known_to_take_tiers_gets_none() -> None:
    assert "service_tier" not in allow(CHAT, {}, dialect=MISTRAL).body
    assert "service_tier" not in allow(EMBEDDINGS, {}).body
    assert "service_tier" not in allow(COMPLETIONS, {}).body


@requirement("budget.worst-case")
@pytest.mark.parametrize("asked", [{}, {"service_tier": None}, {"service_tier": "auto"}])
def test_a_provider_that_may_choose_the_tier_is_reserved_the_dearest(asked: dict[str, Any]) -> None:
    found = allow(CHAT, asked, price=TIERED, dialect=GATEWAY)
    assert found.body.get("service_tier") == asked.get("service_tier")
    assert found.nanos == 2 * cost(100, 4096)
    assert set(found.terms.tiers) == {"standard", "flex", "priority"}


@requirement("budget.worst-case")
def test_a_provider_with_the_standard_tier_as_its_documented_default_is_reserved_that() -> None:
    gemini = dialect_of("OpenAI", "google", "https://generativelanguage.googleapis.com/v1beta/openai")
    assert allow(CHAT, {}, price=TIERED, dialect=gemini).nanos == cost(100, 4096)
    assert allow(CHAT, {"service_tier": "auto"}, price=TIERED, dialect=gemini).nanos == 2 * cost(100, 4096)


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("asked", "factor", "tiers"),
    [
        ("priority", 2, ("priority",)),
        ("fast", 2, ("priority",)),
        ("flex", 1, ("flex", "standard")),  # a provider without room in it may serve the call at the standard price
        ("default", 1, ("standard",)),
    ],
)
def test_a_tier_that_is_asked_for_stays_and_costs_its_price(asked: str, factor: int, tiers: tuple[str, ...]) -> None:
    found = allow(CHAT, {"service_tier": asked}, price=TIERED)
    assert found.body["service_tier"] == asked
    assert found.nanos == factor * cost(100, 4096)
    assert found.terms.tiers == tiers


@requirement("budget.worst-case")
def test_a_tier_that_only_the_policy_lets_pass_costs_its_price() -> None:
    for endpoint in (COMPLETIONS, EMBEDDINGS):
        body = {"service_tier": "priority", "max_tokens": 1}
        assert allow(endpoint, body, price=TIERED).terms.tiers == ("priority",)
        assert refuse(endpoint, body).reason == "PriceUnknown"


@requirement("budget.worst-case")
@pytest.mark.parametrize("asked", ["priority", "fast", "scale", "performance", "x" * 5000])
def test_a_tier_without_a_price_is_refused(asked: str) -> None:
    found = refuse(CHAT, {"service_tier": asked})
    assert found.reason == "PriceUnknown"
    assert len(found.message) < 300
    assert refuse(CHAT, {"service_tier": ["flex"]}).reason == "BadRequest"


@requirement("budget.worst-case")
def test_a_cheaper_tier_without_a_price_costs_the_standard_price() -> None:
    assert allow(CHAT, {"service_tier": "flex"}).nanos == cost(100, 4096)


REGIONAL = price_with(
    PriceRow(input=IN * 11 // 10, output=OUT * 11 // 10, tier="us"),
    PriceRow(input=6 * IN, output=6 * OUT, tier="fast"),
    PriceRow(input=IN * 66 // 10, output=OUT * 66 // 10, tier="fast-us"),
)


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("body", "percent", "tiers"),
    [
        ({}, 110, ("standard", "us")),  # the workspace may choose the United States
        ({"inference_geo": "global"}, 100, ("standard",)),
        ({"inference_geo": "us"}, 110, ("us",)),
        ({"speed": "fast"}, 660, ("fast", "fast-us")),
        ({"speed": "fast", "inference_geo": "global"}, 600, ("fast",)),
        ({"speed": "fast", "inference_geo": "us"}, 660, ("fast-us",)),
        ({"speed": "standard", "inference_geo": "global"}, 100, ("standard",)),
    ],
)
def test_speed_and_region_cost_the_dearest_that_the_body_allows(
    body: dict[str, Any], percent: int, tiers: tuple[str, ...]
) -> None:
    for dialect in (ANTHROPIC, dialect_of("Anthropic", "anthropic", "https://gateway.example.com")):
        found = allow(MESSAGES, {"max_tokens": 1, **body}, price=REGIONAL, dialect=dialect)
        assert found.nanos == cost(100, 1) * percent // 100
        assert found.terms.tiers == tiers


@requirement("budget.worst-case")
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"speed": "fast"}, "PriceUnknown"),
        ({"speed": "ludicrous"}, "PriceUnknown"),
        ({"speed": 1}, "BadRequest"),
        ({"inference_geo": "us"}, "PriceUnknown"),
        ({"inference_geo": ["us"]}, "BadRequest"),
    ],
)
def test_a_speed_or_region_without_a_price_is_refused(body: dict[str, Any], reason: str) -> None:
    assert refuse(MESSAGES, body, dialect=ANTHROPIC).reason == reason


@requirement("budget.worst-case")
def test_a_model_without_a_price_is_refused_and_a_declared_zero_is_a_price() -> None:
    found = refuse(CHAT, {}, price=None)
    assert found.reason == "PriceUnknown"
    assert "models.prices" in found.message
    assert allow(CHAT, {}, price=ModelPrice(rows=(PriceRow(input=0, output=0),))).nanos == 0


@requirement("budget.worst-case")
def test_a_model_without_a_price_of_output_makes_embeddings_only() -> None:
    price = ModelPrice(rows=(PriceRow(input=IN),))
    assert allow(EMBEDDINGS, {}, price=price).nanos == cost(100, 0)
    assert refuse(CHAT, {}, price=price).reason == "PriceUnknown"


@requirement("budget.worst-case")
def test_a_call_that_goes_on_in_the_background_is_refused() -> None:
    asked: list[Any] = [True, 1, "true", {}]
    for value in asked:
        assert refuse(RESPONSES, {"background": value}).reason == "MemberNotAllowed"
    switched_off: list[Any] = [None, False, []]
    for value in switched_off:
        assert allow(RESPONSES, {"background": value}).body["background"] == value


@requirement("budget.worst-case")
def test_a_count_of_tokens_costs_nothing_and_needs_no_price() -> None:
    found = allow(COUNT_TOKENS, {"messages": []}, price=None, dialect=ANTHROPIC)
    assert (found.nanos, found.body) == (0, {"model": "m", "messages": []})


@requirement("budget.worst-case")
@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("options", "sent", "is_ours"),
    [
        ({}, {"include_usage": True}, True),
        ({"stream_options": None}, {"include_usage": True}, True),
        ({"stream_options": {"include_usage": False}}, {"include_usage": True}, True),
        (
            {"stream_options": {"include_obfuscation": False}},
            {"include_obfuscation": False, "include_usage": True},
            True,
        ),
        ({"stream_options": {"include_usage": True}}, {"include_usage": True}, False),
    ],
)
def test_a_stream_is_asked_for_its_usage_and_it_is_known_who_asked(
    endpoint: str,
    options: dict[str, Any],
    sent: dict[str, Any],
    is_ours: bool,  # noqa: FBT001 - pytest passes it
) -> None:
    found = allow(endpoint, {"stream": True, **options})
    assert found.body["stream_options"] == sent
    assert found.watch.takes_out is is_ours


@requirement("budget.worst-case")
def test_nothing_is_asked_where_nobody_answers() -> None:
    for endpoint, body, dialect in (
        (CHAT, {}, OPENAI),
        (CHAT, {"stream": False}, OPENAI),
        (CHAT, {"stream": True}, MISTRAL),
        (RESPONSES, {"stream": True}, OPENAI),
        (MESSAGES, {"stream": True}, ANTHROPIC),
    ):
        found = allow(endpoint, body, dialect=dialect)
        assert "stream_options" not in found.body
        assert not found.watch.takes_out
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert allow(CHAT, asked, dialect=MISTRAL).body["stream_options"] == {"include_usage": True}
    assert refuse(CHAT, {"stream": True, "stream_options": "usage"}).reason == "BadRequest"


@requirement("budget.unseen")
def test_only_a_limit_that_the_client_has_not_sent_is_set_back() -> None:
    assert allow(RESPONSES, {}).watch.set_back == SetBack(("max_output_tokens",), 4096)
    assert allow(RESPONSES, {"max_output_tokens": None}).watch.set_back == SetBack(("max_output_tokens",), 4096)
    assert allow(RESPONSES, {"max_output_tokens": 4096}).watch.set_back is None
    assert allow(CHAT, {}).watch.set_back is None
    assert allow(EMBEDDINGS, {}).watch.set_back is None


@requirement("budget.worst-case")
def test_everything_else_of_a_body_stays_and_the_given_body_is_not_changed() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "temperature": 1, "stream": True, "n": 2}
    before = dict(body)
    found = allow(CHAT, body)
    assert {name: found.body[name] for name in body} == before == body
    assert set(found.body) - set(body) == {"model", "max_completion_tokens", "service_tier", "stream_options"}


TOKENS = st.integers(0, 5000)


@requirement("budget.worst-case")
@given(
    rates=st.lists(st.integers(0, 10**12), min_size=8, max_size=8),
    tier=st.sampled_from(["standard", "flex", "priority"]),
    parts=st.lists(TOKENS, min_size=7, max_size=7),
    above=st.integers(1, 20_000),
    slack=TOKENS,
)
def test_no_usage_within_the_bounds_costs_more_than_the_worst_case(
    rates: list[int], tier: str, parts: list[int], above: int, slack: int
) -> None:
    names = ("input", "cached_input", "cache_write_5m", "cache_write_1h", "input_audio", "output", "reasoning")
    row: dict[str, Any] = dict(zip(names, rates, strict=False))
    rows = [
        PriceRow(**row),
        PriceRow(**{**row, "input": rates[7]}, above_input=above),
        PriceRow(input=rates[6], output=rates[5], tier="flex"),
        PriceRow(input=rates[2], output=rates[3], tier="priority"),
    ]
    usage = ModelUsage(**dict(zip(names, parts, strict=False)))
    size = PromptSize(text=usage.input_tokens + slack, has_audio=True, writes_cache=True, has_long_cache=True)
    limit = usage.output_tokens + slack + 1
    price = ModelPrice(rows=tuple(rows))
    found = allow(CHAT, {"max_tokens": limit, "service_tier": tier}, size=size, price=price)
    assert max(price_of(price, usage, at=AT, tier=one) for one in found.terms.tiers) <= found.nanos
