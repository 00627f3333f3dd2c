"""Real guards in random schedules: what tests/unit/budget checks of ledgers holds with the guard's own code, too."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from interlock_guard.budget import journal as journal_module
from interlock_guard.budget.account import OpenSlice
from interlock_guard.budget.holder import LedgerShare
from interlock_guard.budget.journal import Journal, Spending
from tests.requirements import requirement
from tests.support.guard_schedule import BudgetBroken, GuardSchedule
from tests.support.virtual_time import run_in_virtual_time

EVENTS = (
    *("forwarded", "BudgetExhausted", "BudgetUnavailable", "checked refusals"),
    *("closed", "kills", "lost pods", "partitions", "limits", "credits"),
)


def simulate(seed: int, folder: Path) -> Counter[str]:
    async def work() -> Counter[str]:
        return await GuardSchedule(seed, folder / str(seed)).run()

    return run_in_virtual_time(work())


@requirement("budget.schedules")
def test_no_schedule_of_guards_breaks_a_promise(tmp_path: Path) -> None:
    happened: Counter[str] = Counter()
    for seed in range(24):  # the 20th has a guard that is killed before its first call
        happened += simulate(seed, tmp_path)
    assert not [event for event in EVENTS if not happened[event]]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@settings(
    max_examples=3000,
    phases=[Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(1000, 2**32))
def test_no_schedule_of_many_breaks_a_promise(tmp_path: Path, seed: int) -> None:
    simulate(seed, tmp_path)


def is_noticed(folder: Path) -> bool:
    for seed in range(60):
        try:
            simulate(seed, folder)
        except BudgetBroken:
            return True
    return False


@requirement("budget.rules")
def test_it_is_noticed_that_nothing_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenSlice, "free", property(lambda held: held.granted - held.settled))
    assert is_noticed(tmp_path)


@requirement("budget.rules")
def test_it_is_noticed_that_a_restart_reads_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_read", lambda *_: Spending())
    assert is_noticed(tmp_path)


@requirement("budget.rules")
def test_it_is_noticed_that_a_reservation_is_not_in_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "reserve", lambda *_: None)
    assert is_noticed(tmp_path)


@requirement("budget.rules")
def test_it_is_noticed_that_guards_return_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LedgerShare, "returns", lambda *_: False)
    assert is_noticed(tmp_path)
