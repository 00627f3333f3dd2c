"""Sums of costs on SQLite; tests/integration/guard/test_costs_postgresql.py has the same on PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from interlock_audit.cost_sql import CostQuery, CostStatements, SqliteJson
from interlock_audit.sql import SqlStore
from interlock_audit.sqlite import open_sqlite
from tests.support.cost_promises import DOLLAR, CostPromises, total
from tests.support.costs import PaidCalls


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_sqlite(tmp_path / "records.sqlite")
    yield opened
    opened.close()


class TestSqlite(CostPromises):
    def test_a_damaged_line_does_not_count(self, store: SqlStore, tmp_path: Path) -> None:
        PaidCalls().call("1").call("2").store(store)
        with sqlite3.connect(tmp_path / "records.sqlite") as other:
            other.execute("UPDATE records SET line = substr(line, 1, 400) || '\"cost\":' WHERE seq = 4")
        other.close()
        assert total(store).nanos == DOLLAR

    @pytest.mark.usefixtures("store")
    def test_a_step_reads_the_index_by_time(self, tmp_path: Path) -> None:
        query = CostQuery("2026-03-02", "2026-03-03", "2026-03-04", ("agent", "task"))
        steps = CostStatements(query, SqliteJson())
        with sqlite3.connect(tmp_path / "records.sqlite") as other:
            for statement, values in (steps.end(), steps.sums(None)):
                plan = [row[3] for row in other.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
                assert any("records_by_time (" in line for line in plan)
                assert not [line for line in plan if line.startswith("SCAN records")]
        other.close()
