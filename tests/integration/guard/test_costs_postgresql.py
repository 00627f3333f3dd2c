"""Sums of costs on a real PostgreSQL."""

from collections.abc import Iterator

import psycopg
import pytest

from interlock_audit.postgres import open_postgres
from interlock_audit.report import OK, main
from interlock_audit.sql import SqlStore
from tests.integration.guard.postgresql import Postgresql
from tests.support.cost_promises import CostPromises
from tests.support.costs import PaidCalls

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def store(postgresql: Postgresql) -> Iterator[SqlStore]:
    opened = open_postgres(postgresql.dsn)
    opened.check()
    with psycopg.connect(postgresql.dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE records, chains, usage")
    yield opened
    opened.close()


class TestPostgresql(CostPromises):
    def test_the_command_reads_the_database_of_the_collector(
        self, store: SqlStore, postgresql: Postgresql, capsys: pytest.CaptureFixture[str]
    ) -> None:
        PaidCalls().call("12.40").store(store)
        arguments = ["--by", "agent", "--from", "2026-03-01", "--to", "2026-03-03"]
        assert main(arguments, environment={"INTERLOCK_POSTGRES": postgresql.dsn}) == OK
        assert "agents/triage" in capsys.readouterr().out
