import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from interlock_contract.audit_chain import Head, open_line, seal
from interlock_guard.audit.spool import Position, Spool, SpoolLimits, SpoolRefused

GUARD = "agents/pod/0123456789abcdef"
SMALL = SpoolLimits(capacity=8_000, reserve=2_000, segment=1_000, memory=1_000)


def line_of(head: Head, note: str = "") -> tuple[bytes, Head]:
    line, after = seal(GUARD, head, {"kind": "decision", "time": "2026-03-02T09:00:00.000Z", "note": note})
    return line + b"\n", after


def fill(spool: Spool, count: int, head: Head | None = None, *, is_vital: bool = False) -> Head:
    head = Head() if head is None else head
    for _ in range(count):
        line, after = line_of(head)
        spool.append(line, head.next, is_vital=is_vital)
        head = after
    return head


def fill_up(spool: Spool, *, is_vital: bool, head: Head | None = None) -> Head:
    """Append until it is refused; return the state of the chain."""
    head = Head() if head is None else head
    for _ in range(1000):
        try:
            head = fill(spool, 1, head, is_vital=is_vital)
        except SpoolRefused:
            return head
    raise AssertionError("it took everything")


def seqs(spool: Spool, position: Position | None = None, size: int = 500) -> list[int]:
    """Read everything, in small bites."""
    found, position = [], position or Position()
    while True:
        lines, position = spool.read(position, size)
        if not lines:
            return found
        found += [open_line(line).seq for line in lines.splitlines()]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", SMALL, keeps=True)


def test_lines_are_read_in_their_order_across_files(spool: Spool, tmp_path: Path) -> None:
    fill(spool, 20)
    assert seqs(spool) == list(range(20))
    assert len(list((tmp_path / "spool").iterdir())) > 3


def test_a_line_longer_than_the_requested_size_comes_whole(spool: Spool) -> None:
    line, _ = line_of(Head(), "x" * 400)
    spool.append(line, 0, is_vital=False)
    assert spool.read(Position(), 10)[0] == line


def test_a_line_is_on_disk_when_append_returns(spool: Spool, tmp_path: Path) -> None:
    fill(spool, 1)
    assert [open_line(path.read_bytes()[:-1]).seq for path in (tmp_path / "spool").iterdir()] == [0]


def test_vital_lines_leave_the_reserve_to_others_and_nothing_exceeds_the_capacity(spool: Spool) -> None:
    head = fill_up(spool, is_vital=True)
    assert spool.used <= SMALL.capacity - SMALL.reserve
    reads = fill_up(spool, is_vital=False, head=head)
    assert reads.next > head.next
    assert spool.used <= SMALL.capacity
    assert seqs(spool) == list(range(reads.next))


def test_what_was_released_makes_room(spool: Spool) -> None:
    head = fill_up(spool, is_vital=False)
    _, position = spool.read(Position(), 100)
    while position.name[7:] < "000000000010":
        _, position = spool.read(position, 1000)
    spool.release(position)
    assert seqs(spool)[0] > 0
    assert fill_up(spool, is_vital=False, head=head).next > head.next


def test_the_file_being_written_is_never_deleted(spool: Spool) -> None:
    fill(spool, 2)
    spool.release(Position("999999-000000000000.jsonl"))
    assert seqs(spool) == [0, 1]


def test_without_a_collector_the_oldest_lines_make_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SMALL, keeps=False)
    fill(spool, 100, is_vital=True)
    found = seqs(spool)
    assert spool.used <= SMALL.capacity
    assert found == list(range(found[0], 100))
    assert found[0] > 0


def test_a_later_guard_finds_the_lines_and_writes_files_of_its_own(tmp_path: Path) -> None:
    first = Spool(tmp_path, SMALL, keeps=True)
    head = fill(first, 5)
    first.close()
    second = Spool(tmp_path, SMALL, keeps=True)
    assert second.last is not None
    assert (second.last.seq, second.last.hash) == (4, head.hash)
    assert second.used == first.used
    fill(second, 3)
    assert seqs(second) == [0, 1, 2, 3, 4, 0, 1, 2]


@pytest.mark.parametrize("cut", [1, 50, 150])
def test_half_a_line_that_a_dead_guard_left_is_cut_off(tmp_path: Path, cut: int) -> None:
    first = Spool(tmp_path, SMALL, keeps=True)
    head = fill(first, 2)
    first.close()
    path = max(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + line_of(head)[0][:cut])
    second = Spool(tmp_path, SMALL, keeps=True)
    assert second.last is not None
    assert second.last.seq == 1
    assert seqs(second) == [0, 1]


def test_a_file_with_half_a_line_only_goes(tmp_path: Path) -> None:
    (tmp_path / "000001-000000000000.jsonl").write_bytes(b'{"half')
    (tmp_path / "unrelated").write_text("kept")
    spool = Spool(tmp_path, SMALL, keeps=True)
    assert (spool.last, spool.used) == (None, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["unrelated"]


def test_a_damaged_last_line_is_no_chains_head(tmp_path: Path) -> None:
    (tmp_path / "000001-000000000000.jsonl").write_bytes(b'{"no": "line"}\n')
    assert Spool(tmp_path, SMALL, keeps=True).last is None


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A disk that takes half of each write and then has no room, while it is switched on."""
    real, state = os.pwrite, {"is": ""}

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        if state["is"] != "full":
            return real(descriptor, data, offset)
        if len(data) > 100:
            return real(descriptor, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", pwrite)
    return lambda state_now: state.update({"is": state_now})


def test_a_full_disk_refuses_vital_lines_and_holds_others_in_memory_for_a_while(
    spool: Spool, full_disk: Callable[[str], None]
) -> None:
    head = fill(spool, 2)
    full_disk("full")
    with pytest.raises(SpoolRefused, match="No space left"):
        fill(spool, 1, head, is_vital=True)
    after = fill_up(spool, is_vital=False, head=head)
    assert after.next > head.next
    assert 0 < spool.held <= SMALL.memory
    assert seqs(spool) == [0, 1]
    full_disk("")
    fill(spool, 1, after, is_vital=True)
    assert spool.held == 0
    assert seqs(spool) == list(range(after.next + 1))


def test_half_a_line_that_a_full_disk_left_is_not_glued_to_the_next(
    spool: Spool, full_disk: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ftruncate(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "ftruncate", ftruncate)
    head = fill(spool, 1)
    full_disk("full")
    with pytest.raises(SpoolRefused):
        spool.append(line_of(head, "x" * 200)[0], 1, is_vital=True)
    full_disk("")
    fill(spool, 1, head)
    assert seqs(spool) == [0, 1]
    assert seqs(Spool(tmp_path / "spool", SMALL, keeps=True)) == [0, 1]
