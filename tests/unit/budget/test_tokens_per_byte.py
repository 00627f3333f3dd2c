"""Tokens per byte: what a ledger keeps of the last day, and when a model's count is an alert."""

import pytest
from msgspec.structs import replace

from interlock_contract.budget.ledger import Ledger, LedgerInvalid, dump_ledger, parse_ledger
from interlock_contract.budget.tokens_per_byte import (
    HOUR,
    MAX_COUNT,
    MAX_HOURS,
    MAX_TOKEN_ALERTS,
    MAX_TOKEN_MODELS,
    ModelTokens,
    TokenAlert,
    TokenCount,
    TokenTerms,
    add_tokens,
    find_token_alerts,
    per_kilobyte,
)
from tests.requirements import requirement

START = 1_780_002_000  # a full hour
DAY = START - 9 * HOUR
MODEL = "openai/gpt-4o-mini"
COUNT = TokenCount(20, 100_000, 25_000, 10_000, 2_500)
"""A quarter of a token for each byte, in both directions."""
TERMS = TokenTerms()


def counted(*hours: TokenCount, model: str = MODEL) -> tuple[ModelTokens, ...]:
    """Return what a ledger has after these hours, the newest last."""
    known: tuple[ModelTokens, ...] = ()
    for index, count in enumerate(hours):
        known = add_tokens(known, {model: count}, START - (len(hours) - 1 - index) * HOUR)
    return known


def alerts(*hours: TokenCount, terms: TokenTerms = TERMS, raised: tuple[TokenAlert, ...] = ()) -> list[TokenAlert]:
    return list(find_token_alerts(counted(*hours), raised, terms, window_start=DAY, now=START + 60))


# What is kept


def test_the_counts_of_several_guards_and_calls_add_up_by_model_and_hour() -> None:
    known = add_tokens((), {MODEL: COUNT, "openai/gpt-4o": TokenCount(1, 5, 1)}, START)
    known = add_tokens(known, {MODEL: COUNT}, START + HOUR - 1)
    known = add_tokens(known, {MODEL: COUNT}, START + 3 * HOUR)
    assert known == (
        ModelTokens(
            MODEL,
            START + 3 * HOUR,
            (20, 0, 0, 40),
            (100_000, 0, 0, 200_000),
            (25_000, 0, 0, 50_000),
            (10_000, 0, 0, 20_000),
            (2_500, 0, 0, 5_000),
        ),
        ModelTokens("openai/gpt-4o", START, (1,), (5,), (1,)),
    )


@pytest.mark.parametrize(("passed", "kept"), [(MAX_HOURS - 1, MAX_HOURS), (MAX_HOURS, 1), (10**6, 1)])
def test_a_day_before_the_newest_hour_is_kept(passed: int, kept: int) -> None:
    (one,) = add_tokens(counted(COUNT), {MODEL: COUNT}, START + passed * HOUR)
    assert (one.start, len(one.calls), len(one.hours)) == (START + passed * HOUR, kept, kept)


def test_a_clock_that_is_behind_counts_to_the_newest_hour() -> None:
    (one,) = add_tokens(counted(COUNT), {MODEL: COUNT}, START - 1)
    assert (one.start, one.calls) == (START, (40,))


def test_an_hour_that_no_clock_can_have_written_keeps_no_later_one_from_being_counted() -> None:
    far = counted(COUNT)[0]
    (one,) = add_tokens((replace(far, start=253_402_297_200),), {MODEL: COUNT}, START)
    assert one == far


def test_of_too_many_models_those_are_kept_that_were_called_last() -> None:
    known: tuple[ModelTokens, ...] = ()
    for index in range(MAX_TOKEN_MODELS + 2):
        known = add_tokens(known, {f"local/{index}": COUNT}, START + index * HOUR)
    assert [one.model for one in known] == [f"local/{index}" for index in range(2, MAX_TOKEN_MODELS + 2)]


def test_a_count_is_a_number_that_every_reader_keeps_exactly() -> None:
    most = TokenCount(*[MAX_COUNT] * 5)
    ledger = Ledger(tokens=add_tokens(counted(most), {MODEL: most}, START))
    assert parse_ledger(dump_ledger(ledger)) == ledger
    assert ledger.tokens[0].input_tokens == (MAX_COUNT,)


def test_a_day_of_the_busiest_agent_is_a_small_part_of_its_ledger() -> None:
    known: tuple[ModelTokens, ...] = ()
    for hour in range(MAX_HOURS):
        count = TokenCount(99_999, 999_999_999, 299_999_999, 99_999_999, 29_999_999)
        known = add_tokens(known, {f"local/model-{index}": count for index in range(2)}, START + hour * HOUR)
    assert len(str(dump_ledger(Ledger(tokens=known))["tokens"])) < 3_000


def test_a_model_that_is_there_twice_is_no_ledger() -> None:
    with pytest.raises(LedgerInvalid, match="tokens: a model is there twice"):
        parse_ledger(dump_ledger(Ledger(tokens=counted(COUNT) * 2)))


# When it is an alert


@requirement("budget.tokens-per-byte", "budget.b12")
def test_an_hour_more_than_a_quarter_off_the_day_before_is_an_alert_with_both_counts() -> None:
    more = COUNT._replace(input_tokens=31_251)
    assert alerts(*[COUNT] * 3, more) == [
        TokenAlert(MODEL, "input", DAY, START, START + 60, 31_251, 100_000, 75_000, 300_000)
    ]


@requirement("budget.tokens-per-byte")
@pytest.mark.parametrize("tokens", [{"input_tokens": 18_749}, {"output_tokens": 3_126}, {"output_tokens": 1_874}])
def test_fewer_tokens_and_tokens_of_output_are_an_alert_as_well(tokens: dict[str, int]) -> None:
    (alert,) = alerts(COUNT, COUNT._replace(**tokens))
    assert (f"{alert.direction}_tokens", alert.tokens) == next(iter(tokens.items()))


@requirement("budget.tokens-per-byte")
@pytest.mark.parametrize(
    "hours",
    [
        pytest.param((COUNT, COUNT._replace(input_tokens=31_250, output_tokens=1_875)), id="a quarter is not more"),
        pytest.param((COUNT, COUNT._replace(calls=19, input_tokens=90_000)), id="too few calls in the hour"),
        pytest.param((COUNT._replace(calls=19), COUNT._replace(input_tokens=90_000)), id="too few calls before"),
        pytest.param((COUNT, COUNT._replace(output_bytes=9_999, output_tokens=9_000)), id="too few bytes"),
        pytest.param((COUNT._replace(output_bytes=9_999), COUNT._replace(output_tokens=9_000)), id="too few before"),
        pytest.param((COUNT._replace(input_tokens=90_000),), id="no day before"),
        pytest.param((COUNT._replace(input_tokens=90_000), COUNT, COUNT._replace(input_tokens=50_000)), id="usual"),
        pytest.param((COUNT, COUNT._replace(input_bytes=0, input_tokens=0)), id="nothing can be said of the input"),
    ],
)
def test_other_hours_are_no_alert(hours: tuple[TokenCount, ...]) -> None:
    assert alerts(*hours) == []


def test_a_day_of_more_than_a_day_ago_is_not_compared() -> None:
    known = add_tokens(counted(COUNT), {MODEL: COUNT._replace(input_tokens=90_000)}, START + MAX_HOURS * HOUR)
    assert not list(find_token_alerts(known, (), TERMS, window_start=DAY, now=START))


@requirement("budget.tokens-per-byte")
def test_how_far_and_of_how_many_calls_are_settable() -> None:
    hours = COUNT._replace(calls=5), COUNT._replace(calls=5, input_tokens=28_000)
    assert not alerts(*hours)
    assert not alerts(*hours, terms=TokenTerms(10, 6))
    assert alerts(*hours, terms=TokenTerms(10, 5))
    assert not alerts(*hours, terms=TokenTerms(12, 5))


@requirement("budget.tokens-per-byte")
def test_a_model_is_one_alert_a_day_and_each_model_has_its_own() -> None:
    more = COUNT._replace(input_tokens=50_000, output_tokens=5_000)
    raised = alerts(COUNT, more)
    assert [one.direction for one in raised] == ["input"]
    assert not alerts(COUNT, more, raised=tuple(raised))
    other = (*counted(COUNT, more), *counted(COUNT, more, model="openai/gpt-4o"))
    (second,) = find_token_alerts(other, raised, TERMS, window_start=DAY, now=START)
    assert second.model == "openai/gpt-4o"
    assert alerts(COUNT, more, raised=(replace(raised[0], window_start=DAY - 24 * HOUR),))


@requirement("budget.tokens-per-byte")
def test_a_guard_that_names_ever_new_models_raises_as_many_alerts_a_day_as_a_ledger_keeps() -> None:
    more = COUNT._replace(input_tokens=50_000)
    raised: list[TokenAlert] = []
    for write in range(10):
        invented = [f"openai/{write}-{number}" for number in range(MAX_TOKEN_MODELS)]
        known = [one for model in invented for one in counted(COUNT, more, model=model)]
        raised += find_token_alerts(known, raised[-MAX_TOKEN_ALERTS:], TERMS, window_start=DAY, now=START)
    assert len(raised) == MAX_TOKEN_ALERTS
    assert list(find_token_alerts(known, raised, TERMS, window_start=DAY + 24 * HOUR, now=START))


def test_a_provider_that_reports_tokens_where_there_were_none_is_an_alert() -> None:
    assert alerts(COUNT._replace(input_tokens=0), COUNT)


def test_tokens_are_told_for_a_thousand_bytes() -> None:
    assert (per_kilobyte(25_000, 100_000), per_kilobyte(1, 3_000)) == ("250", "0")
