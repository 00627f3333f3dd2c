"""The journal of a holder: its reservations and settlements on the guard's own disk, for the run after it.

A line is written before a call is forwarded, and another one once its cost is known. A guard that was killed therefore
leaves behind what it has spent at most. The next run of the same container reads the journal, and settles the slices of
the run before it:

    {"boot":"6b9e..."}                                                             begins each file
    {"granted":50000000,"at":[["triage.staging",1772409600,1772323200]]}           after a write to the ledger
    {"reserve":9000000,"id":1,"at":[["triage.staging",1772409600,1772323200]]}     before the forward
    {"settle":120000,"id":1}                                                       after the answer
    {"reserve":9000000,"id":2,"at":[["triage.staging",1772409600,1772323200]]}     no settlement: counts as 9000000

Lines are not synced to the medium: they outlive the process, but not its node. A journal of another boot of the node
may have lost its end, so it counts as one that cannot be read: its slices are spent whole.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from interlock_contract.strict_json import JsonInvalid, dump_json, parse_json
from interlock_guard.budget.account import AccountKey, Reservation

_NAME: Final = re.compile(r"(\d{1,16})\.jsonl\Z")
_MODE: Final = 0o640
COMPACT_BYTES: Final = 1024 * 1024
"""Size of a journal that is written again, in bytes."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class JournalFailed(Exception):  # noqa: N818 - says what happened to a line
    """A line could not be written; the call that it stands for must not be forwarded."""


@dataclass(slots=True)
class Spending:
    """What a run has spent, slice by slice.

    Attributes:
        settled: Settled over the life of each slice.
        granted: What each slice was last known to have been granted. What is spent above that is in no ledger yet.
        open: The reservations without a settlement: amount and slices, by id.
    """

    settled: Counter[AccountKey] = field(default_factory=Counter)
    granted: dict[AccountKey, int] = field(default_factory=dict)
    open: dict[int, tuple[int, tuple[AccountKey, ...]]] = field(default_factory=dict)

    def most(self) -> Counter[AccountKey]:
        """Return what each slice has spent at most: a call whose end is unknown has cost what it had reserved."""
        found = Counter(self.settled)
        for amount, keys in self.open.values():
            for key in keys:
                found[key] += amount
        return found

    def forget(self, key: AccountKey) -> None:
        """Forget what a slice was granted and has settled."""
        self.settled.pop(key, None)
        self.granted.pop(key, None)


@dataclass(frozen=True, slots=True)
class FormerRun:
    """A run of this container that has ended.

    Attributes:
        holder: Its name in the ledgers.
        spending: What it has spent; None where its journal cannot be read, so that its slices must be spent whole.
    """

    holder: str
    spending: Spending | None


class Journal:
    """The journals of one container: that of this run, and those of the runs before it.

    Args:
        folder: Made with the first file; the guard alone mounts it.
        pod_uid: The pod's UID, with which the names of its holders begin.
        started: The start of this run in milliseconds since the epoch.
        boot_id: Which boot of the node this is, see `read_boot_id`.

    Raises:
        OSError: The folder cannot be read.
    """

    def __init__(self, folder: Path, pod_uid: str, started: int, boot_id: str = "") -> None:
        self._folder, self._pod_uid, self._boot_id = folder, pod_uid, boot_id
        paths = folder.iterdir() if folder.exists() else ()
        former = sorted(int(found[1]) for path in paths if (found := _NAME.match(path.name)))
        self.former = [FormerRun(self._holder(one), _read(self._path(one), boot_id)) for one in former]
        """Runs whose slices are to be settled; `drop_former` takes one out."""
        self._run = max([started, *(one + 1 for one in former)])  # a clock that went back gives no name twice
        self._file: int | None = None
        self._size = 0
        self._spending = Spending()

    @property
    def holder(self) -> str:
        """The name of this run in the ledgers."""
        return self._holder(self._run)

    def start(self) -> None:
        """Write an empty journal before the run takes its first slice, so that the run after it returns that slice.

        Raises:
            JournalFailed: The disk refuses it.
        """
        if self._file is None:
            try:
                self._start_file()
            except OSError as error:
                raise JournalFailed(f"the disk refuses it: {error.strerror}") from None

    def reserve(self, reservation: Reservation) -> None:
        """Note a reservation, before the call is forwarded.

        Raises:
            JournalFailed: The disk refuses it.
        """
        keys = reservation.keys
        line = {"reserve": reservation.amount, "id": reservation.id, "at": [list(key) for key in keys]}
        self._write(line)
        self._spending.open[reservation.id] = reservation.amount, keys

    def settle(self, reservation: Reservation, cost: int) -> None:
        """Note the end of a call. Where the disk refuses the line, the next run counts the whole reservation."""
        if reservation.id not in self._spending.open:
            return
        with suppress(JournalFailed):  # first: the line may begin a file, which must have the reservation before it
            self._write({"settle": cost, "id": reservation.id})
        del self._spending.open[reservation.id]
        for key in reservation.keys:
            self._spending.settled[key] += cost

    def grant(self, key: AccountKey, granted: int) -> None:
        """Note what a slice was granted. Where the disk refuses the line, the next run counts less as granted."""
        if self._spending.granted.get(key) != granted:
            with suppress(JournalFailed):
                self._write({"granted": granted, "at": [list(key)]})
            self._spending.granted[key] = granted

    def charge(self, key: AccountKey, nanos: int) -> None:
        """Note a charge that no reservation has paid. Where the disk refuses the line, a crash loses that charge."""
        if nanos == 0:
            return
        with suppress(JournalFailed):
            self._write({"settled": nanos, "at": [list(key)]})
        self._spending.settled[key] += nanos

    def forget(self, key: AccountKey) -> None:
        """Forget a slice that is no longer in its ledger."""
        with suppress(JournalFailed):
            self._write({"forget": [list(key)]})
        self._spending.forget(key)

    def renew(self, granted: Mapping[AccountKey, int]) -> None:
        """Go on as another holder, because the operator has closed a slice of the present one.

        The present holder becomes a former one, whose other slices are settled like those of a run before this one.

        Args:
            granted: What each slice was granted, less what was returned.
        """
        self.close()
        self._spending.granted = dict(granted)
        self.former.append(FormerRun(self.holder, self._spending))
        self._run += 1
        self._spending = Spending()

    def drop_former(self, run: FormerRun) -> None:
        """Delete the journal of a run whose slices are settled."""
        self.former.remove(run)
        with suppress(OSError):
            self._path(int(run.holder.rpartition("/")[2])).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file. Where no reservation is open and nothing was spent, there is nothing to read later."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _holder(self, run: int) -> str:
        return f"{self._pod_uid}/{run}"

    def _path(self, run: int) -> Path:
        return self._folder / f"{run}.jsonl"

    def _write(self, value: dict[str, Any]) -> None:
        line = dump_json(value) + b"\n"
        try:
            if self._file is None or self._size + len(line) > COMPACT_BYTES:
                self._start_file()
            if self._file is None:
                raise AssertionError("a file was started")
            _write_whole(self._file, line)
        except OSError as error:
            self.close()  # half a line may stand at its end: the next line starts another file
            raise JournalFailed(f"the disk refuses it: {error.strerror}") from None
        self._size += len(line)

    def _start_file(self) -> None:
        """Write the file again, with one line per slice and one per open reservation."""
        self.close()
        lines: list[dict[str, Any]] = [{"boot": self._boot_id}]
        lines += [{"settled": amount, "at": [list(key)]} for key, amount in self._spending.settled.items()]
        lines += [{"granted": amount, "at": [list(key)]} for key, amount in self._spending.granted.items()]
        lines += [
            {"reserve": amount, "id": number, "at": [list(key) for key in keys]}
            for number, (amount, keys) in self._spending.open.items()
        ]
        text = b"".join(dump_json(line) + b"\n" for line in lines)
        path = self._path(self._run)
        fresh = path.with_suffix(".new")
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, _MODE)
        try:
            _write_whole(file, text)
            fresh.replace(path)
        except OSError:
            os.close(file)
            raise
        self._file, self._size = file, len(text)


def _write_whole(file: int, data: bytes) -> None:
    """Write all of the data.

    Raises:
        OSError: The disk refuses some of it.
    """
    while data:
        data = data[os.write(file, data) :]


def read_boot_id() -> str:
    """Return a text that differs between two boots of the node; empty where there is none to read."""
    try:
        return _BOOT_ID.read_text().strip()
    except (OSError, ValueError):
        return ""


def _read(path: Path, boot_id: str) -> Spending | None:
    """Return what a journal says; None where a line that is whole cannot be read, or its end may be lost.

    A line without its end was being written when the process ended. The call of such a reservation was not forwarded,
    and the end of such a settlement counts as unknown.
    """
    found = Spending()
    try:
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        first, *lines = whole.split(b"\n")
        if parse_json(first)["boot"] != boot_id:
            return None
        for line in lines:
            _take(found, parse_json(line))
    except (OSError, JsonInvalid, KeyError, TypeError, ValueError):
        return None
    return found


def _take(found: Spending, line: Any) -> None:
    """Take one line over.

    Raises:
        KeyError: A member is missing, or no reservation has this number.
        TypeError: A member has another type.
        ValueError: An amount is negative, or a key has another number of parts.
    """
    if "settle" in line:
        _, keys = found.open.pop(line["id"])
        for key in keys:
            found.settled[key] += _amount(line["settle"])
    elif "reserve" in line:
        found.open[line["id"]] = _amount(line["reserve"]), tuple(_keys(line["at"]))
    elif "forget" in line:
        for key in _keys(line["forget"]):
            found.forget(key)
    else:
        (key,) = _keys(line["at"])
        if "granted" in line:
            found.granted[key] = _amount(line["granted"])
        else:
            found.settled[key] += _amount(line["settled"])


def _amount(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("no amount")
    return value


def _keys(values: Any) -> Iterable[AccountKey]:
    return [AccountKey(str(name), int(day), int(month)) for name, day, month in values]
