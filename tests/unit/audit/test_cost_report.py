"""Reports on costs: days, owners, labels, formats and options of the command."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from interlock_audit import cost_report
from interlock_audit.cost_formats import FOCUS_COLUMNS
from interlock_audit.cost_report import ReportRefused, format_dollars, read_agents
from interlock_audit.report import OK, UNREADABLE, main
from interlock_audit.sql import SqlStore
from interlock_audit.sqlite import open_sqlite
from tests.requirements import requirement
from tests.support.costs import PaidCalls

Report = Callable[..., Any]
ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)
USAGE = {"inputTokens": 1000, "cachedInputTokens": 200, "inputAudioTokens": 5, "outputTokens": 30, "reasoningTokens": 7}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = open_sqlite(path)
    yield opened
    opened.close()


@pytest.fixture
def report(path: Path, capsys: pytest.CaptureFixture[str]) -> Report:
    def run(*arguments: str, code: int = OK) -> str:
        found = main(["--sqlite", str(path), *arguments], environment={}, clock=lambda: NOW)
        written = capsys.readouterr()
        assert (found, bool(written.err)) == (code, code != OK), written
        return written.out if code == OK else written.err

    return run


def rows(text: str) -> list[dict[str, Any]]:
    value = json.loads(text)
    assert value["isEstimate"] is True
    return list(value["rows"])


def agents(tmp_path: Path, *known: tuple[str, dict[str, str]]) -> str:
    items = [
        {
            "metadata": {"namespace": "agents", "name": name, "labels": labels},
            "spec": {"owner": {"email": f"{name}@x.io"}},
        }
        for name, labels in known
    ]
    file = tmp_path / "agents.json"
    file.write_text(json.dumps({"kind": "List", "items": items}))
    return str(file)


@requirement("costs.reported")
def test_the_table_has_the_most_expensive_first_and_a_total(store: SqlStore, report: Report) -> None:
    PaidCalls().call("0.5", outcome={"usage": USAGE}).store(store)
    PaidCalls("refund").call("12.40", environment="staging", tool="anthropic/claude-sonnet-4-5").store(store)
    assert report().splitlines() == [
        "AGENT           ENVIRONMENT   MODEL                         CALLS   INPUT   CACHED   OUTPUT     USD",
        "agents/refund   staging       anthropic/claude-sonnet-4-5       1       0        0        0   12.40",
        "agents/triage   production    openai/gpt-4o                     1    1205      200       37    0.50",
        "TOTAL                                                           2    1205      200       37   12.90",
        "Calls from 2026-03-01T00:00+00:00 until 2026-03-31T12:00+00:00. Estimates by list prices, not an invoice.",
    ]


def test_the_table_says_which_costs_are_bounds_and_which_cannot_be_read(store: SqlStore, report: Report) -> None:
    PaidCalls().call("1").call("2", outcome={"costBasis": "Reservation"}).call("x").store(store)
    text = report()
    assert "Of 1 calls ($2.00), the provider's usage is unknown. Their cost is an upper bound." in text
    assert "1 further records have a cost that is no amount." in text


def test_a_report_without_any_cost_is_a_report(store: SqlStore, report: Report) -> None:
    assert store.usage() == []
    assert report().splitlines()[1].split() == ["TOTAL", "0", "0", "0", "0", "0.00"]


@pytest.mark.parametrize(
    ("zone", "days"),
    [
        ("UTC", {"2026-03-28": "1.00", "2026-03-29": "6.00"}),
        ("Europe/Berlin", {"2026-03-29": "3.00", "2026-03-30": "4.00"}),  # that night, clocks went forward
        ("America/New_York", {"2026-03-28": "3.00", "2026-03-29": "4.00"}),
        ("Asia/Kathmandu", {"2026-03-29": "3.00", "2026-03-30": "4.00"}),  # 05:45 ahead of UTC
    ],
)
def test_days_are_those_of_the_time_zone(store: SqlStore, report: Report, zone: str, days: dict[str, str]) -> None:
    calls = PaidCalls().call("1", time="2026-03-28T23:00:00.000Z").call("2", time="2026-03-29T03:59:59.999Z")
    calls.call("4", time="2026-03-29T22:00:00.000Z").store(store)
    found = rows(report("--by", "day", "--time-zone", zone, "--format", "json"))
    assert {row["day"]: row["cost"] for row in found} == days


def test_a_day_begins_at_its_midnight_in_the_time_zone(store: SqlStore, report: Report) -> None:
    calls = PaidCalls()
    for number, time in enumerate(["2026-03-01T22:59:59.999", "2026-03-01T23:00:00.000", "2026-03-02T22:59:59.999"]):
        calls.call(str(10**number), time=f"{time}Z")
    calls.call("1000", time="2026-03-02T23:00:00.000Z").store(store)
    day = ["--from", "2026-03-02", "--to", "2026-03-03", "--time-zone", "Europe/Berlin", "--format", "json"]
    assert json.loads(report(*day))["total"]["cost"] == "110.00"
    exact = ["--from", "2026-03-01T23:00:00Z", "--to", "2026-03-03T00:00:00+01:00", "--format", "json"]
    assert json.loads(report(*exact))["total"]["cost"] == "110.00"


def test_a_time_that_does_not_exist_has_no_day(store: SqlStore, report: Report) -> None:
    PaidCalls().call("1", time="2026-03-02T99:99:99.999Z").store(store)
    assert [row["day"] for row in rows(report("--by", "day", "--format", "json"))] == [""]


def test_the_owner_is_that_of_the_record_and_else_the_agents(store: SqlStore, report: Report, tmp_path: Path) -> None:
    PaidCalls().call("1").call("2", owner="").store(store)
    PaidCalls("gone").call("4", owner="").store(store)
    known = agents(tmp_path, ("triage", {}))
    found = rows(report("--by", "owner", "--agents", known, "--format", "json"))
    assert {row["owner"]: row["cost"] for row in found} == {
        "ada@example.com": "1.00",
        "triage@x.io": "2.00",
        "": "4.00",
    }


def test_labels_are_those_of_the_agents_and_an_agent_that_is_gone_has_none(
    store: SqlStore, report: Report, tmp_path: Path
) -> None:
    for number, name in enumerate(["triage", "refund", "gone", "plain"]):
        PaidCalls(name).call(str(10**number)).store(store)
    known = agents(tmp_path, ("triage", {"team": "a"}), ("refund", {"team": "a"}), ("plain", {"other": "b"}))
    found = rows(report("--by", "label:team", "--agents", known, "--format", "json"))
    assert {row["label:team"]: row["cost"] for row in found} == {"a": "11.00", "": "1100.00"}


def test_of_several_files_of_agents_the_last_counts() -> None:
    def text(team: str) -> bytes:
        metadata = {"namespace": "agents", "name": "triage", "labels": {"team": team}}
        return json.dumps({"metadata": metadata, "spec": {}}).encode()

    assert read_agents([("one", text("a")), ("two", text("b"))])["agents/triage"].labels == {"team": "b"}


@pytest.mark.parametrize("text", [b"", b"[]", b"5", b'{"items": [{}]}', b'{"items": 5}', b"\xff", b"[" * 100_000])
def test_a_file_that_is_not_agents_is_refused(text: bytes) -> None:
    with pytest.raises(ReportRefused, match=r"kubectl get agents\.interlock\.dev"):
        read_agents([("file", text)])


def test_the_answered_model_is_named_with_its_provider(store: SqlStore, report: Report) -> None:
    calls = PaidCalls().call("1", outcome={"answeredModel": "gpt-4o-2024-08-06"}).call("2")
    calls.call("4", source="crm", tool="send_sms").store(store)
    found = rows(report("--by", "answered-model,source", "--format", "json"))
    assert [(row["answered-model"], row["source"], row["cost"]) for row in found] == [
        ("", "crm", "4.00"),
        ("openai/gpt-4o", "models", "2.00"),
        ("openai/gpt-4o-2024-08-06", "models", "1.00"),
    ]


def test_csv_has_the_columns_of_focus(store: SqlStore, report: Report, tmp_path: Path) -> None:
    PaidCalls().call("12.40", outcome={"usage": USAGE}).call("3", outcome={"costBasis": "Reservation"}).store(store)
    known = agents(tmp_path, ("triage", {"team": "a"}))
    text = report("--by", "agent,label:team", "--agents", known, "--format", "csv", "--billing-account", "org-1")
    (row,) = csv.DictReader(io.StringIO(text))
    assert list(row)[: len(FOCUS_COLUMNS)] == list(FOCUS_COLUMNS)
    assert all(name.startswith("x_") for name in list(row)[len(FOCUS_COLUMNS) :])
    wanted = {
        "BillingAccountId": "org-1",
        "BillingPeriodStart": "2026-03-01T00:00:00Z",
        "BillingPeriodEnd": "2026-04-01T00:00:00Z",
        "ChargePeriodStart": "2026-03-02T00:00:00Z",
        "ChargePeriodEnd": "2026-03-03T00:00:00Z",
        "ChargeCategory": "Usage",
        "BilledCost": "15.40",
        "EffectiveCost": "15.40",
        "ListCost": "15.40",
        "ContractedCost": "15.40",
        "PricingQuantity": "2",
        "ConsumedQuantity": "1242",
        "ConsumedUnit": "Tokens",
        "ProviderName": "openai",
        "ServiceName": "models",
        "ServiceCategory": "AI and Machine Learning",
        "Tags": '{"team": "a"}',
        "x_Agent": "agents/triage",
        "x_Model": "openai/gpt-4o",
        "x_ReasoningTokens": "7",
        "x_CostWithoutUsage": "3.00",
        "x_IsEstimate": "true",
    }
    assert {name: row[name] for name in wanted} == wanted


MAY_BE_NULL = {"BillingAccountName", "ChargeClass", "Tags"}


def test_no_column_of_focus_that_must_have_a_value_is_empty(store: SqlStore, report: Report) -> None:
    calls = PaidCalls().call("1").call("1", source="crm", tool="send_sms")
    calls.chain.write("outcome", of=900, outcome="Answered", cost="1", time="2026-03-02T09:00:00.000Z")
    calls.store(store)
    found = list(csv.DictReader(io.StringIO(report("--format", "csv"))))
    assert len(found) == 3
    for row in found:
        assert {name for name in FOCUS_COLUMNS if not row[name]} <= MAY_BE_NULL


@pytest.mark.parametrize("task", ["=1+1", "+1", "-1", "@A1", "\tx"])
def test_no_cell_is_a_formula(store: SqlStore, report: Report, task: str) -> None:
    PaidCalls().call("1", task=task).store(store)
    (row,) = csv.DictReader(io.StringIO(report("--by", "task", "--format", "csv")))
    assert row["x_Task"] == f"'{task}"


def test_no_value_speaks_to_the_terminal(store: SqlStore, report: Report) -> None:
    PaidCalls().call("1", outcome={"answeredModel": "a\x1b[2Jb\nc"}).store(store)
    assert "openai/a\\x1b[2Jb\\nc " in report("--by", "answered-model")


def test_a_report_with_too_many_rows_is_refused(
    store: SqlStore, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost_report, "MOST_ROWS", 3)
    calls = PaidCalls()
    for number in range(4):
        calls.call("1", task=f"t-{number}")
    calls.store(store)
    assert "more than 3 rows: group by less" in report("--by", "task", code=UNREADABLE)
    assert report("--by", "agent")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "tool"], "cannot be grouped by 'tool', only by agent, owner"),
        (["--by", "label:"], "cannot be grouped by 'label:'"),
        (["--by", "agent,"], "cannot be grouped by ''"),
        (["--time-zone", "Mars/Base"], "'Mars/Base' is not the name of a time zone"),
        (["--time-zone", "../../etc/passwd"], "is not the name of a time zone"),
        (["--from", "yesterday"], "'yesterday' is neither a day"),
        (["--to", "9999-12-31"], "not between the years"),
        (["--from", "2026-03-02", "--to", "2026-03-02"], "ends before it begins"),
        (["--agent", "triage"], "--agent needs --namespace"),
        (["--provider", "openai"], "--provider needs --compare"),
        (["--agents", "missing.json"], "missing.json: No such file"),
        (["--compare", "x", "--by", "day"], "takes no --by"),
        (["--postgres", "dbname=x"], "name one source"),
    ],
)
def test_what_cannot_be_reported_is_refused_with_a_sentence(
    store: SqlStore, report: Report, arguments: list[str], message: str
) -> None:
    assert store.usage() == []
    assert message in report(*arguments, code=UNREADABLE)


def test_a_missing_database_is_refused(report: Report) -> None:
    assert "records.sqlite: unable to open" in report(code=UNREADABLE)


def test_without_options_the_database_is_the_collectors(
    store: SqlStore, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    PaidCalls().call("1").store(store)
    assert main([], environment={"INTERLOCK_SQLITE": str(path)}, clock=lambda: NOW) == OK
    assert "agents/triage" in capsys.readouterr().out


def test_no_report_takes_the_memory_that_the_collector_needs(path: Path, tmp_path: Path, store: SqlStore) -> None:
    assert store.usage() == []
    large = tmp_path / "large.json"
    large.write_text('{"items": [' + "{}," * 5_000_000 + "{}]}")  # 15 MB of text, 360 MB of objects
    done = subprocess.run(
        [sys.executable, "-m", "interlock_audit", "report", "--sqlite", path, "--agents", large],
        env={"PYTHONPATH": str(ROOT / "operator")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (UNREADABLE, "")
    assert done.stderr == "the report takes more than 128 MiB of memory: group by less, or give it smaller files\n"


def test_a_file_that_is_too_long_is_refused(report: Report, tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text(" " * (16 * 1024 * 1024 + 1))
    assert "is longer than 16777216 bytes" in report("--agents", str(tmp_path / "long.json"), code=UNREADABLE)


def test_a_report_changes_nothing(store: SqlStore, report: Report, path: Path) -> None:
    PaidCalls().call("1").store(store)
    store.tidy()
    before = path.read_bytes()
    assert report()
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0.00"), (1, "0.000000001"), (12_400_000_000, "12.40"), (-3 * 10**9, "-3.00")]
)
def test_amounts_are_exact(nanos: int, text: str) -> None:
    assert format_dollars(nanos) == text
