"""The SQLite store of audit records: one file for one collector, which is enough for most clusters."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from interlock_audit.quotas import NO_QUOTAS, Quotas
from interlock_audit.sql import SCHEMA, Cursor, SqlStore
from interlock_audit.stores import StoreUnavailable

_BUSY_SECONDS: Final = 10.0


def open_sqlite(path: Path, *, is_read_only: bool = False, quotas: Quotas = NO_QUOTAS) -> SqlStore:
    """Return the store in a file. A missing file is created, unless `is_read_only`.

    Raises:
        StoreUnavailable: The file cannot be opened, or is no database.
    """
    return SqlStore(_Sqlite(path, is_read_only=is_read_only), quotas)


class _Sqlite:
    """One connection. Each commit is synced to the disk (WAL, `synchronous=FULL`)."""

    parameter = "?"
    lock = ""
    octets = "LENGTH(CAST(line AS BLOB))"

    def __init__(self, path: Path, *, is_read_only: bool) -> None:
        self._begin = "BEGIN" if is_read_only else "BEGIN IMMEDIATE"
        uri = f"{path.absolute().as_uri()}?mode={'ro' if is_read_only else 'rwc'}"
        try:
            # The collector calls it from worker threads, one at a time.
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{path}: {error}") from None
        try:
            if not is_read_only:
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                for statement in SCHEMA:
                    self._connection.execute(statement.format(octets=self.octets))
        except sqlite3.Error as error:
            self._connection.close()
            raise StoreUnavailable(f"{path}: {error}") from None

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Return a transaction; see `Database`."""
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
            raise StoreUnavailable(str(error)) from None

    def close(self) -> None:
        """Close the file; see `Database`."""
        self._connection.close()
