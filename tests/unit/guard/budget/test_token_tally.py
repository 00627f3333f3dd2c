"""Counts of tokens and bytes on their way into the ledger, and what one call counts."""

import pytest

from interlock_contract.budget.leases import roll
from interlock_contract.budget.ledger import Ledger
from interlock_contract.budget.prices import ModelUsage
from interlock_contract.budget.tokens_per_byte import MAX_TOKEN_MODELS, TokenCount
from interlock_guard.budget.answer_text import TextBytes
from interlock_guard.budget.token_tally import TokenTally, count_call
from tests.requirements import requirement
from tests.support.budget_bench import NOON, OWN, TOTAL, BudgetBench

MODEL = "openai/gpt-4o-mini"
COUNT = TokenCount(1, 400, 100, 40, 10)


def calls(ledger: Ledger) -> list[tuple[str, int]]:
    return [(one.model, one.calls[0]) for one in ledger.tokens]


def test_what_was_written_is_not_counted_again_and_what_came_meanwhile_is() -> None:
    tally = TokenTally()
    tally.add(MODEL, COUNT)
    ledger = tally.write(Ledger(), NOON)
    tally.add(MODEL, COUNT)
    tally.add("openai/gpt-4o", COUNT)
    tally.accept()
    ledger = tally.write(ledger, NOON)
    tally.accept()
    assert calls(ledger) == [(MODEL, 2), ("openai/gpt-4o", 1)]
    assert tally.write(ledger, NOON) is ledger


def test_a_write_that_was_refused_is_repeated() -> None:
    tally = TokenTally()
    tally.add(MODEL, COUNT)
    tally.write(Ledger(), NOON)
    assert calls(tally.write(Ledger(), NOON)) == [(MODEL, 1)]


def test_the_models_that_wait_are_bounded() -> None:
    tally = TokenTally()
    for index in range(MAX_TOKEN_MODELS + 1):
        tally.add(f"local/{index}", COUNT)
    tally.add("local/0", COUNT)
    found = calls(tally.write(Ledger(), NOON))
    assert (len(found), found[0]) == (MAX_TOKEN_MODELS, ("local/0", 2))


@requirement("budget.tokens-per-byte")
async def test_guards_add_up_in_the_agents_ledger_with_their_settlements(bench: BudgetBench) -> None:
    bench.limit(day=1000, total_day=1000)
    first, second = await bench.start(), await bench.start("pod-b")
    for budget in (first, second):
        reservation = await bench.reserved(budget, 10)
        budget.tally.add(MODEL, COUNT)
        budget.settle(reservation, 4)
        await budget.finish(5)
    assert calls(bench.store.ledger(OWN)) == [(MODEL, 2)]
    assert bench.store.ledger(TOTAL).tokens == ()


async def test_counts_alone_are_no_reason_to_write(bench: BudgetBench) -> None:
    bench.limit(day=1000)
    bench.store.put(OWN, roll(Ledger(), bench.terms.terms, NOON))
    budget = await bench.start()
    budget.tally.add(MODEL, COUNT)
    await budget.finish(5)
    assert (budget.ledger_writes, bench.store.ledger(OWN).tokens) == (0, ())


TEXT = TextBytes(40, 0)
REASONED = TextBytes(40, 30)


@requirement("budget.tokens-per-byte")
@pytest.mark.parametrize(
    ("usage", "sent", "shown", "count"),
    [
        pytest.param(ModelUsage(input=100, output=10), 400, TEXT, COUNT, id="text"),
        pytest.param(ModelUsage(input=20, cached_input=80, output=10), 400, TEXT, COUNT, id="cached input"),
        pytest.param(ModelUsage(input=100, output=10), None, TEXT, (1, 0, 0, 40, 10), id="a request with an image"),
        pytest.param(ModelUsage(input=100, web_search=1), 400, TEXT, (1, 0, 0, 40, 0), id="what a search has found"),
        pytest.param(ModelUsage(input=100, output=10), 400, None, (1, 400, 100, 0, 0), id="an answer that is no text"),
        pytest.param(ModelUsage(input=100), 400, TextBytes(0, 0), (1, 400, 100, 0, 0), id="an answer without text"),
        pytest.param(ModelUsage(input=100, output=10, output_audio=3), 400, TEXT, (1, 400, 100, 0, 0), id="audio"),
        pytest.param(ModelUsage(input=100, output=10, reasoning=90), 400, TEXT, COUNT, id="reasoning is not shown"),
        pytest.param(ModelUsage(input=100, output=3, reasoning=7), 400, REASONED, (1, 400, 100, 10, 3), id="shown"),
        pytest.param(ModelUsage(input=100, output=10), 400, REASONED, COUNT, id="reasoning is shown and in the output"),
    ],
)
def test_a_call_counts_the_tokens_whose_bytes_are_known(
    usage: ModelUsage, sent: int | None, shown: TextBytes | None, count: tuple[int, ...]
) -> None:
    assert count_call(usage, sent_bytes=sent, shown=shown) == count
