"""The journal: what the next run of a container learns of the one before it, wherever that was killed."""

import os
from pathlib import Path

import pytest

from interlock_guard.budget import journal as module
from interlock_guard.budget.account import Account, AccountKey, Reservation
from interlock_guard.budget.journal import FormerRun, Journal, JournalFailed, Spending, read_boot_id
from tests.requirements import requirement

KEY = AccountKey("triage.staging", 100, 0)
POD = "0b1f"


def reservations(*amounts: int) -> list[Reservation]:
    account = Account()
    account.grant(KEY, sum(amounts), 0, 0.0)
    made = [account.reserve(amount, (KEY,), 0.0) for amount in amounts]
    return [one for one in made if one is not None]


def the_former(folder: Path) -> FormerRun:
    (found,) = Journal(folder, POD, 2000).former
    return found


def spent(folder: Path) -> int:
    former = the_former(folder).spending
    assert former is not None
    return former.most()[KEY]


def test_a_first_run_has_none_before_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "budget", POD, 1000)
    assert (journal.holder, journal.former) == (f"{POD}/1000", [])


def test_a_call_whose_end_is_unknown_has_cost_what_it_had_reserved(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second = reservations(30, 50)
    journal.reserve(first)
    journal.reserve(second)
    journal.settle(first, 10)
    assert the_former(tmp_path).holder == f"{POD}/1000"
    assert spent(tmp_path) == 60


def test_a_run_that_ends_before_its_first_call_is_known_to_have_spent_nothing(tmp_path: Path) -> None:
    Journal(tmp_path, POD, 1000).start()
    assert the_former(tmp_path) == FormerRun(f"{POD}/1000", Spending())


def test_a_call_that_ends_twice_is_counted_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 1000)
    (one,) = reservations(30)
    journal.reserve(one)
    journal.settle(one, 10)
    journal.settle(one, 30)
    assert spent(tmp_path) == 10


def test_a_journal_that_breaks_off_anywhere_never_says_too_little(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second = reservations(30, 50)
    journal.reserve(first)
    journal.settle(first, 10)
    journal.reserve(second)
    path = tmp_path / "1000.jsonl"
    whole = path.read_bytes()
    begin, *ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        if size < begin:
            assert the_former(tmp_path).spending is None
        else:
            assert spent(tmp_path) == (0 if size < ends[0] else 30 if size < ends[1] else 10 if size < ends[2] else 60)


@pytest.mark.parametrize(
    "line",
    [
        b"x",
        b"[]",
        b'{"settle":1,"id":7}',
        b'{"reserve":-1,"id":1,"at":[]}',
        b'{"reserve":true,"id":1,"at":[]}',
        b'{"reserve":1.5,"id":1,"at":[]}',
        b'{"reserve":1,"id":1,"at":[["a",1]]}',
        b'{"settled":-5,"at":["a",1,1]}',
        b'{"granted":-5,"at":[["a",1,1]]}',
        b'{"forget":[["a",1]]}',
        b"",
    ],
)
def test_a_journal_that_cannot_be_read_says_so(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "1000.jsonl").write_bytes(b'{"boot":""}\n' + line + b"\n")
    assert the_former(tmp_path) == FormerRun(f"{POD}/1000", None)


@requirement("budget.crash")
@pytest.mark.parametrize("text", [None, b"", b'{"reserve":30,"id":1,"at":[["a",1,1]]}\n'])
def test_a_journal_of_another_boot_of_the_node_may_have_lost_its_end(tmp_path: Path, text: bytes | None) -> None:
    journal = Journal(tmp_path, POD, 1000, "boot a")
    journal.reserve(reservations(30)[0])
    if text is not None:  # what a node that lost its power leaves behind
        (tmp_path / "1000.jsonl").write_bytes(text)
    (found,) = Journal(tmp_path, POD, 2000, "boot b").former
    assert found.spending is None


def test_boots_have_an_id() -> None:
    assert read_boot_id() == read_boot_id()


def test_what_was_granted_and_charged_without_a_reservation_is_known_to_the_next_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 1000)
    journal.grant(KEY, 100)
    journal.grant(KEY, 70)
    journal.charge(KEY, 5)
    former = the_former(tmp_path).spending
    assert former is not None
    assert (former.granted, former.most()) == ({KEY: 70}, {KEY: 5})


def test_a_clock_that_went_back_gives_no_holder_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 5000)
    journal.reserve(reservations(1)[0])
    assert Journal(tmp_path, POD, 4000).holder == f"{POD}/5001"


def test_the_journal_of_a_settled_run_is_deleted(tmp_path: Path) -> None:
    Journal(tmp_path, POD, 1000).reserve(reservations(1)[0])
    later = Journal(tmp_path, POD, 2000)
    later.drop_former(later.former[0])
    assert (later.former, list(tmp_path.iterdir())) == ([], [])


def test_a_long_journal_is_written_again_and_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPACT_BYTES", 400)
    journal = Journal(tmp_path, POD, 1000)
    made = reservations(*[7] * 50)
    for one in made:
        journal.reserve(one)
        if one.id % 10:
            journal.settle(one, 3)
        assert (tmp_path / "1000.jsonl").stat().st_size <= 800
    assert spent(tmp_path) == 45 * 3 + 5 * 7


def test_an_end_that_begins_another_file_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second = reservations(30, 50)
    journal.reserve(first)
    journal.reserve(second)
    monkeypatch.setattr(module, "COMPACT_BYTES", 0)
    journal.settle(first, 10)
    assert spent(tmp_path) == 60
    journal.settle(second, 20)
    assert spent(tmp_path) == 30


def test_a_forgotten_slice_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second = reservations(30, 50)
    journal.reserve(first)
    journal.settle(first, 30)
    journal.forget(KEY)
    journal.reserve(second)
    assert spent(tmp_path) == 50
    monkeypatch.setattr(module, "COMPACT_BYTES", 0)
    journal.settle(second, 40)
    assert spent(tmp_path) == 40


def test_a_disk_that_refuses_a_reservation_refuses_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second, third = reservations(30, 50, 70)
    journal.reserve(first)

    def refuse(_file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", refuse)
        with pytest.raises(JournalFailed, match="No space left"):
            journal.reserve(second)
        journal.settle(first, 10)
    journal.reserve(third)  # there is room again
    assert spent(tmp_path) == 10 + 70


def test_a_holder_that_was_closed_goes_on_under_another_name(tmp_path: Path) -> None:
    journal = Journal(tmp_path, POD, 1000)
    first, second = reservations(30, 50)
    journal.reserve(first)
    journal.renew({KEY: 70})
    assert journal.holder == f"{POD}/1001"
    assert [one.holder for one in journal.former] == [f"{POD}/1000"]
    journal.settle(first, 10)  # of the closed holder: its slice is spent whole
    journal.reserve(second)
    former = {one.holder: one.spending for one in Journal(tmp_path, POD, 2000).former}
    assert {holder: found.most()[KEY] for holder, found in former.items() if found} == {
        f"{POD}/1000": 30,
        f"{POD}/1001": 50,
    }
