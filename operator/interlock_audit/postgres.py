"""The PostgreSQL store of audit records: for several collectors, or where a database exists already."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

from interlock_audit.cost_sql import JsonSql, PostgresJson
from interlock_audit.quotas import NO_QUOTAS, Quotas
from interlock_audit.sql import SCHEMA, Cursor, SqlStore
from interlock_audit.stores import TOO_LONG, StoreUnavailable

_CONNECT_SECONDS: Final = 5
_SESSION: Final = "-c lock_timeout=10000 -c synchronous_commit=on"
_READ_ONLY: Final = "-c default_transaction_read_only=on"
_SECONDS: Final = 30.0
_SCHEMA_LOCK: Final = 0x696E746C  # any number, as long as every collector takes the same


def open_postgres(
    dsn: str, quotas: Quotas = NO_QUOTAS, *, is_read_only: bool = False, seconds: float = _SECONDS
) -> SqlStore:
    """Return the store in a database. Its first use creates missing tables, unless `is_read_only`.

    Args:
        dsn: A connection string of libpq. `PG*` variables complete it.
        quotas: What agents and namespaces may store.
        is_read_only: Nothing is written, so the right to SELECT is enough.
        seconds: How long a statement may take.
    """
    return SqlStore(_Postgres(dsn, is_read_only=is_read_only, seconds=seconds), quotas)


class _Postgres:
    """One connection at a time, opened when needed and again after it broke."""

    parameter = "%s"
    lock = " FOR UPDATE"
    octets = "OCTET_LENGTH(line)"
    json: JsonSql = PostgresJson()

    def __init__(self, dsn: str, *, is_read_only: bool, seconds: float) -> None:
        self._dsn, self._is_read_only = dsn, is_read_only
        options = f"-c statement_timeout={seconds * 1000:.0f} {_SESSION}"
        self._options = f"{options} {_READ_ONLY}" if is_read_only else options
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """Return a transaction; see `Database`."""
        try:
            connection = self._open()
            with connection.transaction(), connection.cursor() as cursor:
                yield cursor
        except psycopg.Error as error:
            if self._connection is not None and self._connection.broken:
                self.close()
            is_too_long = isinstance(error, psycopg.errors.QueryCanceled)
            raise StoreUnavailable(TOO_LONG if is_too_long else str(error).strip()) from None

    def check_room(self) -> None:
        """Check nothing: the database's administrators keep room for it; see `Database`."""

    def free(self) -> float | None:
        """Return None: the disk is not the collector's; see `Database`."""
        return None

    def tidy(self) -> None:
        """Do nothing: the database does so by itself; see `Database`."""

    def close(self) -> None:
        """Close the connection; see `Database`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self._dsn, autocommit=True, connect_timeout=_CONNECT_SECONDS, options=self._options
            )
            try:
                if not self._is_read_only:
                    self._create_tables(connection)
            except psycopg.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _create_tables(self, connection: psycopg.Connection[Any]) -> None:
        """Create missing tables. CREATE TABLE IF NOT EXISTS alone fails if two collectors run it at the same time."""
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
            for statement in SCHEMA:
                cursor.execute(statement.format(octets=self.octets))
