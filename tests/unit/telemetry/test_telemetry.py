import contextlib
import json
import logging
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from types import ModuleType

import pytest

from interlock import telemetry
from interlock.telemetry import TelemetryServer
from interlock_kill import telemetry as kill_telemetry
from interlock_process import metrics
from interlock_process.logs import configure_logs
from tests.requirements import requirement


@pytest.fixture
def health() -> dict[str, str | None]:
    return {"problem": None}


@pytest.fixture
def server(health: dict[str, str | None]) -> Iterator[TelemetryServer]:
    server = TelemetryServer(0, lambda: health["problem"])
    yield server
    server.close()


def ask(server: TelemetryServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_is_200_while_all_is_well_and_503_with_the_reason_else(
    server: TelemetryServer, health: dict[str, str | None]
) -> None:
    assert ask(server, "/healthz") == (200, "ok\n")

    health["problem"] = "the second watch hangs for 30 s"

    assert ask(server, "/healthz") == (503, "the second watch hangs for 30 s\n")


def test_metrics_are_served_with_all_our_series(server: TelemetryServer) -> None:
    status, text = ask(server, "/metrics")

    assert status == 200
    for name in ("interlock_agents", "interlock_kill_controller_away", "interlock_queued_agents"):
        assert f"\n{name} " in text


@requirement("listeners.bounded", "listeners.probed-under-flood")
def test_a_flood_of_connections_costs_no_threads_and_health_is_answered(server: TelemetryServer) -> None:
    threads = threading.active_count()
    with contextlib.ExitStack() as held:
        for number in range(400):
            address = (f"127.0.0.{2 + number % 8}", 0)
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), 20, source_address=address))

        assert ask(server, "/healthz") == (200, "ok\n")
        assert threading.active_count() == threads


def test_a_taken_port_is_an_error_at_the_start(server: TelemetryServer) -> None:
    with pytest.raises(OSError, match="in use"):
        TelemetryServer(server.port, lambda: None)


BY_LEDGER = (
    *(telemetry.BUDGET_SPENT, telemetry.BUDGET_LIMIT, telemetry.BUDGET_EXHAUSTED),
    *(telemetry.VELOCITY_ALERT_TIMESTAMP, telemetry.TOKENS_ALERT_TIMESTAMP, telemetry.BUDGET_FORECAST),
)
"""These name an Agent, its policy and its environment, which are as many as there are ledgers."""


@pytest.mark.parametrize(("module", "least"), [(telemetry, 7), (metrics, 7), (kill_telemetry, 4)])
def test_no_metric_but_those_of_ledgers_has_a_label_that_users_write(module: ModuleType, least: int) -> None:
    series = [found for found in vars(module).values() if hasattr(found, "_labelnames")]

    assert len(series) >= least
    labels = {name for found in series if found not in BY_LEDGER for name in found._labelnames}  # noqa: SLF001
    assert labels <= {"kind", "cause", "result", "method", "code", "state"}


def test_a_log_line_is_one_json_object_with_its_fields(capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level, kopf = root.handlers[:], root.level, logging.getLogger("kopf.objects").level
    try:
        configure_logs("INFO")
        logging.getLogger("interlock").info("first\nsecond", extra={"agent": "agents/triage"})
        logging.getLogger("interlock").debug("nothing")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.getLogger("kopf.objects").setLevel(kopf)

    (line,) = capfd.readouterr().err.splitlines()
    record = json.loads(line)
    assert (record["message"], record["level"], record["agent"]) == ("first\nsecond", "INFO", "agents/triage")
    assert {"time", "logger"} <= set(record)
