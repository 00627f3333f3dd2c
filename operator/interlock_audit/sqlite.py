"""The SQLite store of audit records: one file for one collector, which is enough for most clusters."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from interlock_audit.cost_sql import JsonSql, SqliteJson
from interlock_audit.quotas import NO_QUOTAS, Quotas
from interlock_audit.sql import SCHEMA, Cursor, SqlStore
from interlock_audit.stores import TOO_LONG, StoreUnavailable

LEAST_FREE: Final = 64 * 1024 * 1024
"""Bytes of the disk that records never take: retention and a start of the collector write a little, too."""

_BUSY_SECONDS: Final = 10.0
_STEPS: Final = 20_000
"""Instructions of SQLite between two looks at the clock: less than a millisecond."""


def open_sqlite(
    path: Path,
    *,
    is_read_only: bool = False,
    quotas: Quotas = NO_QUOTAS,
    seconds: float = 0.0,
    monotonic: Callable[[], float] | None = None,
) -> SqlStore:
    """Return the store in a file. A missing file is created, unless `is_read_only`.

    Args:
        path: The file.
        is_read_only: Nothing is written.
        quotas: What agents and namespaces may store.
        seconds: How long a transaction may take, if there is a clock.
        monotonic: The monotonic clock, in seconds.

    Raises:
        StoreUnavailable: The file cannot be opened, or is no database.
    """
    database = _Sqlite(path, is_read_only=is_read_only)
    if monotonic is not None:
        database.limit(seconds, monotonic)
    return SqlStore(database, quotas)


class _Sqlite:
    """One connection. Each commit is synced to the disk (WAL, `synchronous=FULL`)."""

    parameter = "?"
    lock = ""
    octets = "LENGTH(CAST(line AS BLOB))"
    json: JsonSql = SqliteJson()

    def __init__(self, path: Path, *, is_read_only: bool) -> None:
        self._path = path
        self._begin = "BEGIN" if is_read_only else "BEGIN IMMEDIATE"
        self._start_watch: Callable[[], None] = lambda: None
        uri = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
        try:
            # The collector calls it from worker threads, one at a time.
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path}: {error}") from None
        if is_read_only:  # a damaged line must be readable, so that it is found
            self._connection.text_factory = lambda data: data.decode(errors="replace")
        try:
            if not is_read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                for statement in SCHEMA:
                    self._connection.execute(statement.format(octets=self.octets))
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreUnavailable(f"{path}: {error}") from None

    def limit(self, seconds: float, monotonic: Callable[[], float]) -> None:
        """Let no transaction run longer than some seconds."""
        until = 0.0

        def start() -> None:
            nonlocal until
            until = monotonic() + seconds

        self._start_watch = start
        self._connection.set_progress_handler(lambda: int(monotonic() > until), _STEPS)

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Return a transaction; see `Database`."""
        self._start_watch()
        try:
            cursor = self._connection.cursor()
            cursor.execute(self._begin)
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise
            finally:
                cursor.close()
        except sqlite3.Error as error:
            is_too_long = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
            raise StoreUnavailable(TOO_LONG if is_too_long else str(error)) from None

    def check_room(self) -> None:
        """Check that the file may grow; see `Database`."""
        if self._disk()[1] < LEAST_FREE:
            raise StoreUnavailable(f"the disk of {self._path} is full: its last {LEAST_FREE} bytes are for retention")

    def free(self) -> float | None:
        """Return the part of the disk that is free; see `Database`."""
        total, free = self._disk()
        return free / total

    def _disk(self) -> tuple[int, int]:
        """Return the size of the disk, and what of it is free, in bytes."""
        try:
            usage = shutil.disk_usage(self._path.parent)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from None
        return usage.total, usage.free

    def tidy(self) -> None:
        """Copy the write-ahead log into the file and cut it off.

        SQLite does so by itself where nothing reads at the moment of a commit. With a reader always there, the log
        would grow without end.
        """
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise StoreUnavailable(str(error)) from None

    def close(self) -> None:
        """Close the file; see `Database`."""
        self._connection.close()
