"""Settlement: what a call is charged, by how it ended and by what its answer says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock_contract.budget.money import MAX_LIMIT, MAX_MONEY
from interlock_contract.budget.prices import MAX_RATE, Dearest, ModelPrice, ModelUsage, PriceRow, dearest
from interlock_guard.budget.dialects import CHAT, COUNT_TOKENS, EMBEDDINGS
from interlock_guard.budget.settlement import Charge, End, charge, end_of
from interlock_guard.budget.usage import MAX_COUNT, Answer, Unknown
from interlock_guard.budget.worst_case import Terms
from tests.requirements import requirement

DOLLAR = 1_000_000_000
IN, OUT = 1 * DOLLAR, 10 * DOLLAR
RESERVED = 1_000_000
PRICE = ModelPrice(
    rows=(
        PriceRow(input=IN, output=OUT),
        PriceRow(input=IN // 2, output=OUT // 2, tier="flex"),
        PriceRow(input=2 * IN, output=2 * OUT, tier="priority"),
    ),
    dated=True,
)
OTHER = ModelPrice(rows=(PriceRow(input=3 * IN, output=3 * OUT),))
RATES = Dearest(2 * IN, 4 * OUT, 0, 0, 0)
TERMS = Terms(CHAT, "gpt-5-mini", PRICE, 1000.0, RESERVED, ("standard",), RATES)
USAGE = ModelUsage(input=10, output=5)
COST = 10 * 1000 + 5 * 10_000
UNKNOWN = Unknown("the answer has no usage")


def find(name: str) -> ModelPrice | None:
    return OTHER if name == "gpt-5" else None


def settle(answer: Answer | None, end: End = End.COMPLETE, terms: Terms = TERMS) -> Charge:
    return charge(end, terms, answer, find)


@requirement("budget.settled")
@pytest.mark.parametrize(
    ("status", "end"),
    [
        *((status, End.FREE) for status in (301, 302, 304, 307, 308)),
        *((status, End.FREE) for status in (400, 401, 403, 404, 408, 409, 413, 422, 429, 498, 499, 503, 529)),
        *((status, End.UNKNOWN) for status in (500, 501, 502, 504, 505, 520, 522, 524, 599, 100, 101, 600)),
        *((status, End.COMPLETE) for status in (200, 201, 202)),
    ],
)
def test_a_status_says_whether_a_call_costs_something(status: int, end: End) -> None:
    assert end_of(status, is_complete=True) is end
    broken = End.UNKNOWN if end is End.COMPLETE else end
    assert end_of(status, is_complete=False) is broken


@requirement("budget.settled")
def test_a_call_that_the_provider_refused_or_never_got_costs_nothing() -> None:
    assert settle(None, End.FREE) == Charge(0, "Free")
    assert settle(Answer(USAGE), End.FREE) == Charge(0, "Free")


@requirement("budget.settled")
def test_a_call_whose_end_is_unknown_costs_its_whole_reservation() -> None:
    for answer in (None, Answer(UNKNOWN), Answer(USAGE, output_bytes=64), Answer(UNKNOWN, counted=USAGE)):
        found = settle(answer, End.UNKNOWN)
        assert (found.nanos, found.basis, found.alerts) == (RESERVED, "Reservation", ())
        assert found.reason


@requirement("budget.settled")
def test_a_complete_answer_without_a_usage_costs_its_whole_reservation_and_is_alerted() -> None:
    for answer in (None, Answer(UNKNOWN)):
        found = settle(answer)
        assert (found.nanos, found.basis, found.alerts) == (RESERVED, "Reservation", ("UsageUnknown",))


@requirement("budget.settled")
def test_a_usage_is_charged_at_the_price_of_the_model() -> None:
    assert settle(Answer(USAGE, "gpt-5-mini", "standard")) == Charge(COST, "Usage", USAGE)
    assert settle(Answer(USAGE, None, None)) == Charge(COST, "Usage", USAGE)
    assert settle(Answer(USAGE, "gpt-5-mini-2025-08-07", None)) == Charge(COST, "Usage", USAGE)


@requirement("budget.settled")
@pytest.mark.parametrize(("tier", "factor"), [("priority", 2), ("flex", 0.5), ("standard", 1)])
def test_the_tier_that_the_answer_names_counts(tier: str, factor: float) -> None:
    assert settle(Answer(USAGE, "gpt-5-mini", tier)) == Charge(int(factor * COST), "Usage", USAGE)


@requirement("budget.settled")
def test_without_a_tier_in_the_answer_the_dearest_that_may_have_served_counts() -> None:
    terms = Terms(CHAT, "gpt-5-mini", PRICE, 1000.0, RESERVED, ("standard", "priority"), RATES)
    assert settle(Answer(USAGE), terms=terms).nanos == 2 * COST


@requirement("budget.settled")
def test_another_model_that_has_a_price_is_charged_at_it() -> None:
    assert settle(Answer(USAGE, "gpt-5", None)) == Charge(3 * COST, "Usage", USAGE)


@requirement("budget.settled")
def test_an_unknown_model_or_tier_is_charged_at_the_dearer_of_asked_and_reserved() -> None:
    reserved = 10 * 2000 + 5 * 40_000
    assert settle(Answer(USAGE, "gpt-6", None)) == Charge(reserved, "Usage", USAGE, ("ModelUnknown",))
    assert settle(Answer(USAGE, None, "turbo")) == Charge(reserved, "Usage", USAGE, ("TierUnknown",))
    both = settle(Answer(USAGE, "gpt-6", "turbo"))
    assert (both.nanos, both.alerts) == (reserved, ("ModelUnknown", "TierUnknown"))
    cheap = Terms(CHAT, "gpt-5-mini", PRICE, 1000.0, RESERVED, ("standard",), Dearest(0, 0, 0, 0, 0))
    assert settle(Answer(USAGE, "gpt-6", None), terms=cheap).nanos == COST
    none = Terms(CHAT, "gpt-5-mini", PRICE, 1000.0, RESERVED)
    assert settle(Answer(USAGE, "gpt-6", None), terms=none).nanos == COST


@requirement("budget.settled")
def test_fewer_tokens_than_streamed_text_can_have_are_charged_at_its_least() -> None:
    found = settle(Answer(USAGE, output_bytes=16 * 6))
    assert found == Charge(COST + 10_000, "Usage", ModelUsage(input=10, output=6), ("FewerTokensThanStreamed",))
    assert settle(Answer(USAGE, output_bytes=16 * 6 - 1)) == Charge(COST, "Usage", USAGE)
    thought = ModelUsage(input=10, reasoning=5)
    assert settle(Answer(thought, output_bytes=16 * 5)) == Charge(COST, "Usage", thought)


@requirement("budget.settled")
def test_a_usage_above_the_reservation_is_charged_whole_and_alerted() -> None:
    usage = ModelUsage(input=10_000_000)
    assert settle(Answer(usage)) == Charge(10_000_000_000, "Usage", usage, ("AboveReservation",))


@requirement("budget.settled")
def test_streamed_text_that_costs_more_than_the_reservation_is_charged_whole_and_alerted() -> None:
    found = settle(Answer(UNKNOWN, output_bytes=16 * 1000), End.UNKNOWN)
    assert (found.nanos, found.alerts) == (1000 * 40_000, ("AboveReservation",))


@requirement("budget.settled")
@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (Answer(UNKNOWN, counted=ModelUsage(input=10_000)), End.COMPLETE),
        (Answer(UNKNOWN, counted=ModelUsage(input=10_000)), End.UNKNOWN),
        (Answer(ModelUsage(input=10_000)), End.UNKNOWN),
    ],
)
def test_what_an_answer_has_counted_is_charged_where_it_costs_more_than_the_reservation(
    answer: Answer, end: End
) -> None:
    found = settle(answer, end)
    assert (found.nanos, found.basis) == (10_000 * 1000, "Reservation")
    assert "AboveReservation" in found.alerts
    assert settle(answer._replace(tier="priority"), end).nanos == 2 * 10_000 * 1000


@requirement("budget.settled")
def test_of_two_readings_of_a_usage_the_dearer_one_counts() -> None:
    for other, cost in ((ModelUsage(input=1), COST), (ModelUsage(input=20, output=5), COST + 10_000)):
        found = settle(Answer(USAGE, counted=other))
        assert found.nanos == cost
        assert found.usage == (USAGE if cost == COST else other)


@requirement("budget.settled")
def test_no_call_is_charged_more_than_the_largest_budget() -> None:
    price = ModelPrice(rows=(PriceRow(input=MAX_RATE, output=MAX_RATE, web_search=MAX_RATE, request=MAX_MONEY),))
    usage = ModelUsage(**dict.fromkeys(ModelUsage.__slots__, MAX_COUNT))
    rates = dearest(price, at=1000.0, input_tokens=1)
    terms = Terms(CHAT, "m", price, 1000.0, RESERVED, ("standard",), rates)
    for answer in (
        Answer(usage),
        Answer(usage, "unknown", "unknown"),
        Answer(UNKNOWN, counted=usage),
        Answer(UNKNOWN, output_bytes=10**15),
    ):
        for end in (End.COMPLETE, End.UNKNOWN):
            found = settle(answer, end, terms)
            assert (found.nanos, found.alerts[-1]) == (MAX_LIMIT, "AboveEveryBudget")
    reserved = Terms(CHAT, "m", price, 1000.0, MAX_LIMIT + 1, ("standard",))
    assert settle(None, End.UNKNOWN, reserved).nanos == MAX_LIMIT + 1  # an override can raise a budget above it


@requirement("budget.settled")
@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (ModelUsage(input=10, output=5), COST + 700_000),  # the searches may be in no usage
        (ModelUsage(input=10, output=5, citation=40, reasoning=20), RESERVED),  # within what perCall is for
        (ModelUsage(input=10, output=5, reasoning=1000), 10_060_000),  # above it: whole, and alerted
    ],
)
def test_the_flat_price_of_a_model_that_searches_covers_what_exceeds_its_limits(usage: ModelUsage, cost: int) -> None:
    price = ModelPrice(rows=(PriceRow(input=IN, output=OUT, request=700_000),), covers_searches=True)
    terms = Terms(CHAT, "sonar-deep-research", price, 1000.0, RESERVED, ("standard",), RATES)
    found = settle(Answer(usage), terms=terms)
    assert found.nanos == cost
    assert ("AboveReservation" in found.alerts) is (cost > RESERVED)


@requirement("budget.settled")
def test_output_of_a_model_without_a_price_of_output_costs_the_reservation() -> None:
    terms = Terms(EMBEDDINGS, "e", ModelPrice(rows=(PriceRow(input=IN),)), 1000.0, RESERVED)
    assert settle(Answer(ModelUsage(input=10)), terms=terms).nanos == 10_000
    found = settle(Answer(USAGE), terms=terms)
    assert (found.nanos, found.basis, found.alerts) == (RESERVED, "Reservation", ("PriceUnknown",))


@requirement("budget.settled")
def test_a_count_of_tokens_costs_nothing_however_it_ends() -> None:
    terms = Terms(COUNT_TOKENS, "m", None, 1000.0, 0)
    for end in End:
        assert settle(None, end, terms) == Charge(0, "Free")


COUNT = st.integers(0, 10**9)


@requirement("budget.settled")
@given(
    st.builds(lambda a, b, c: ModelUsage(input=a, output=b, reasoning=c), COUNT, COUNT, COUNT) | st.just(UNKNOWN),
    st.sampled_from([None, "gpt-5-mini", "gpt-5", "gpt-6"]),
    st.sampled_from([None, "standard", "flex", "priority", "turbo"]),
    st.integers(0, 10**9),
    st.sampled_from(list(End)),
)
def test_no_charge_is_negative_and_only_a_known_usage_costs_less_than_the_reservation(
    usage: ModelUsage | Unknown, model: str | None, tier: str | None, size: int, end: End
) -> None:
    found = settle(Answer(usage, model, tier, size), end)
    assert found.nanos >= 0
    if found.nanos < RESERVED:
        assert end is End.FREE or (end is End.COMPLETE and not isinstance(usage, Unknown))
    if found.basis == "Usage":
        assert found.usage is not None
        assert found.usage.output_tokens >= size // 16
