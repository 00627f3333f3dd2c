"""What audit records say about costs."""

from dataclasses import fields

from interlock_contract.budget.prices import ModelUsage
from interlock_guard.budget.cost_record import describe_cost, describe_flat_cost, describe_usage
from interlock_guard.budget.settlement import Charge

SEARCHES = {"web_search", "file_search"}


def test_every_token_is_in_exactly_one_member() -> None:
    names = [one.name for one in fields(ModelUsage) if one.name not in SEARCHES]
    usage = ModelUsage(**{name: 10**number for number, name in enumerate(names)})
    assert sum(describe_usage(usage).values()) == sum(10**number for number in range(len(names)))
    assert sum(describe_usage(usage).values()) == usage.input_tokens + usage.output_tokens


def test_a_cost_has_its_basis_and_what_was_reserved() -> None:
    usage = ModelUsage(input=100, output=10)
    found = describe_cost(Charge(140_000, "Usage", usage), reserved=9 * 10**9, answered_model="m", price_book="9" * 64)
    assert (found["cost"], found["costBasis"], found["reserved"]) == ("0.00014", "Usage", "9.00")
    assert (found["answeredModel"], found["priceBook"]) == ("m", "9" * 64)
    assert found["usage"]["inputTokens"] == 100


def test_the_name_that_a_provider_wrote_is_short_and_printable() -> None:
    found = describe_cost(Charge(1, "Reservation"), reserved=1, answered_model="a\n\u202e" + "x" * 500, price_book=None)
    assert found["answeredModel"] == ("a??" + "x" * 500)[:256]
    assert "usage" not in found
    assert "priceBook" not in found


def test_a_tool_costs_the_same_each_time() -> None:
    assert describe_flat_cost(250_000_000) == {"cost": "0.25", "costBasis": "Flat", "reserved": "0.25"}
