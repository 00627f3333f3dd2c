"""Comparisons of recorded costs with exports in the shapes that OpenAI and Anthropic document."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interlock_audit.provider_export import ExportInvalid, read_export
from interlock_audit.report import OK, UNREADABLE, main
from interlock_audit.sql import SqlStore
from interlock_audit.sqlite import open_sqlite
from tests.requirements import requirement
from tests.support.costs import PaidCalls

Compare = Callable[..., str]
DOLLAR = 10**9
MARCH_2, DAY_SECONDS = 1772409600, 86400
GPT, CLAUDE = "gpt-4o-2024-08-06", "claude-sonnet-4-20250514"


def openai_cost(value: Any, line_item: str | None = f"{GPT}, input") -> dict[str, Any]:
    amount = {"value": value, "currency": "usd"}
    return {"object": "organization.costs.result", "amount": amount, "line_item": line_item, "project_id": None}


def openai_usage(**counts: Any) -> dict[str, Any]:
    empty = {"project_id": None, "user_id": None, "api_key_id": None, "model": GPT, "batch": None}
    return {"object": "organization.usage.completions.result", "num_model_requests": 5, **empty, **counts}


def openai_page(*days: list[dict[str, Any]], first: int = MARCH_2, has_more: bool = False) -> str:
    buckets = [
        {"object": "bucket", "start_time": start, "end_time": start + DAY_SECONDS, "results": results}
        for start, results in enumerate_days(first, days)
    ]
    return json.dumps({"object": "page", "data": buckets, "has_more": has_more, "next_page": None})


def enumerate_days(first: int, days: tuple[list[dict[str, Any]], ...]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    for number, results in enumerate(days):
        yield first + number * DAY_SECONDS, results


def anthropic_cost(amount: str, model: str | None = CLAUDE, description: str = "Input Tokens") -> dict[str, Any]:
    known = {"currency": "USD", "workspace_id": None, "cost_type": "tokens", "context_window": "0-200k"}
    named = {"description": description, "model": model, "service_tier": "standard"}
    return {"amount": amount, **known, **named, "token_type": "uncached_input_tokens"}


def anthropic_page(*results: dict[str, Any]) -> str:
    bucket = {"starting_at": "2026-03-02T00:00:00Z", "ending_at": "2026-03-03T00:00:00Z", "results": list(results)}
    return json.dumps({"data": [bucket], "has_more": False, "next_page": None})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = open_sqlite(tmp_path / "records.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    def run(export: str, *arguments: str, code: int = OK) -> str:
        (tmp_path / "export").write_text(export)
        options = ["--sqlite", str(tmp_path / "records.sqlite"), "--compare", str(tmp_path / "export"), *arguments]
        found = main(options, environment={})
        written = capsys.readouterr()
        assert found == code, written
        return written.out if code == OK else written.err

    return run


def gpt(calls: PaidCalls, cost: str, **more: Any) -> PaidCalls:
    return calls.call(cost, outcome={"answeredModel": GPT, **more})


@requirement("costs.compared")
def test_differences_are_by_day_and_model_with_percentages(store: SqlStore, compare: Compare) -> None:
    calls = gpt(gpt(PaidCalls(), "6"), "6.40")
    calls.call("1", time="2026-03-03T12:00:00.000Z", outcome={"answeredModel": "o3-2025-04-16"}).store(store)
    first = [openai_cost(8), openai_cost(2.0, f"{GPT}, output")]
    page = openai_page(first, [openai_cost(0.5, "gpt-4o-mini-2024-07-18, input")])
    head, *lines = compare(page).splitlines()
    assert head == "DAY          MODEL                    RECORDED USD   PROVIDER USD   DIFFERENCE    PERCENT"
    assert [line.split() for line in lines[:4]] == [
        ["2026-03-02", GPT, "12.40", "10.00", "2.40", "+24.0", "%"],
        ["2026-03-03", "gpt-4o-mini-2024-07-18", "0.00", "0.50", "-0.50", "-100.0", "%"],
        ["2026-03-03", "o3-2025-04-16", "1.00", "0.00", "1.00", "-"],
        ["TOTAL", "13.40", "10.50", "2.90", "+27.6", "%"],
    ]


@pytest.mark.parametrize(
    ("line_item", "model"),
    [
        ("gpt-5.5-2026-04-23, cached input", "gpt-5.5-2026-04-23"),
        ("priority | gpt-5, output, long context", "gpt-5"),
        ("gpt-audio-mini-2025-12-15 audio, input", "gpt-audio-mini-2025-12-15"),
        ("gpt-image-1 text, cached input", "gpt-image-1"),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc, input", "ft:gpt-4o-mini-2024-07-18:acme::abc"),
        ("gpt-4o", "gpt-4o"),
        ("web search tool calls", "web search tool calls"),
        ("Code interpreter, sessions", "Code interpreter, sessions"),
    ],
)
def test_a_line_item_of_openai_names_a_model(line_item: str, model: str) -> None:
    assert set(read_export(openai_page([openai_cost("1.25", line_item)])).amounts) == {("2026-03-02", model)}


def test_only_the_days_and_the_provider_of_the_export_are_compared(store: SqlStore, compare: Compare) -> None:
    calls = gpt(PaidCalls(), "10").call("5", time="2026-03-04T00:00:00.000Z")
    calls.call("7", tool="anthropic/claude-sonnet-4").call("9", source="crm", tool="send_sms").store(store)
    value = json.loads(compare(openai_page([openai_cost(10)], []), "--format", "json"))
    assert value["total"] == {"recorded": "10.00", "provider": "10.00", "difference": "0.00", "percent": "0.0"}


def test_a_provider_with_another_name_in_policies_is_named(store: SqlStore, compare: Compare) -> None:
    PaidCalls().call("3", tool="gateway/gpt-4o", outcome={"answeredModel": GPT}).store(store)
    page = openai_page([openai_cost(3)])
    assert json.loads(compare(page, "--format", "json"))["total"]["recorded"] == "0.00"
    assert json.loads(compare(page, "--provider", "gateway", "--format", "json"))["total"]["recorded"] == "3.00"


def test_costs_of_anthropic_are_cents(store: SqlStore, compare: Compare) -> None:
    PaidCalls().call("1.24", tool="anthropic/claude-sonnet-4-0", outcome={"answeredModel": CLAUDE}).store(store)
    page = anthropic_page(anthropic_cost("123.78912"), anthropic_cost("500", None, "Web Search Usage"))
    (search, model) = json.loads(compare(page, "--format", "json"))["rows"]
    assert (search["model"], search["recorded"], search["provider"]) == ("Web Search Usage", "0.00", "5.00")
    assert (model["model"], model["provider"], model["difference"]) == (CLAUDE, "1.2378912", "0.0021088")


def test_usage_of_openai_is_compared_in_tokens(store: SqlStore, compare: Compare) -> None:
    usage = {"inputTokens": 200, "cachedInputTokens": 800, "outputTokens": 400, "reasoningTokens": 100}
    gpt(PaidCalls(), "1", usage=usage).store(store)
    page = openai_page([openai_usage(input_tokens=1000, input_cached_tokens=800, output_tokens=500)])
    (row,) = json.loads(compare(page, "--format", "json"))["rows"]
    assert (row["recorded"], row["provider"], row["percent"]) == ("1500", "1500", "0.0")


def test_usage_of_anthropic_is_compared_in_tokens(store: SqlStore, compare: Compare) -> None:
    usage = {"inputTokens": 10, "cachedInputTokens": 20, "cacheWrite5mTokens": 3, "cacheWrite1hTokens": 4}
    PaidCalls().call("1", tool="anthropic/c", outcome={"answeredModel": CLAUDE, "usage": usage}).store(store)
    writes = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    counted = {"uncached_input_tokens": 10, "cache_read_input_tokens": 20, "output_tokens": 0, "cache_creation": writes}
    (row,) = json.loads(compare(anthropic_page({"model": CLAUDE, **counted}), "--format", "json"))["rows"]
    assert (row["recorded"], row["provider"]) == ("37", "37")


def test_an_export_without_models_is_compared_by_day(store: SqlStore, compare: Compare) -> None:
    gpt(PaidCalls(), "2").call("1", tool="openai/o3").store(store)
    text = compare(openai_page([openai_cost(4, None)]))
    assert text.splitlines()[1].split() == ["2026-03-02", "all", "models", "3.00", "4.00", "-1.00", "-25.0", "%"]
    assert "The file has no models." in text


@pytest.mark.parametrize(
    "text",
    [
        f"day,model,cost\n2026-03-02,{GPT},4\n2026-03-02,{GPT},1.5\n",
        f"\ufeffDate,Model,Cost_USD\r\n2026-03-02,{GPT},5.50\r\n2026-03-03,,\r\n",
        (
            "start_time,start_time_iso,amount_value,amount_currency,line_item\n"
            f'1772409600,2026-03-02T00:00:00+00:00,5.5000000,usd,"{GPT}, input"\n'
        ),
    ],
)
def test_csv_of_dollars_is_compared(store: SqlStore, compare: Compare, text: str) -> None:
    gpt(PaidCalls(), "5.50").store(store)
    (row,) = csv.DictReader(io.StringIO(compare(text, "--format", "csv")))
    assert list(row.values()) == ["2026-03-02", GPT, "5.50", "5.50", "0.00", "0.0"]


def test_days_of_csv_may_be_of_another_time_zone_and_those_of_the_apis_not(store: SqlStore, compare: Compare) -> None:
    PaidCalls().call("5", time="2026-03-01T23:30:00.000Z", outcome={"answeredModel": GPT}).store(store)
    berlin = ["--time-zone", "Europe/Berlin"]
    value = json.loads(compare(f"day,model,cost\n2026-03-02,{GPT},5\n", *berlin, "--format", "json"))
    assert value["total"]["difference"] == "0.00"
    assert "must be UTC" in compare(openai_page([openai_cost(5)]), *berlin, code=UNREADABLE)


@pytest.mark.parametrize("join", [" ", "\n", ""])
def test_pages_stand_behind_each_other_or_in_a_list(join: str) -> None:
    pages = openai_page([openai_cost(1)], has_more=True), openai_page([openai_cost(2)], first=MARCH_2 + DAY_SECONDS)
    for text in (join.join(pages), f"[{','.join(pages)}]"):
        export = read_export(text)
        assert export.amounts == {("2026-03-02", GPT): DOLLAR, ("2026-03-03", GPT): 2 * DOLLAR}
        assert not export.has_more


def test_a_missing_page_is_said(store: SqlStore, compare: Compare) -> None:
    assert store.usage() == []
    assert "names a further page" in compare(openai_page([openai_cost(1)], has_more=True))


def test_days_without_results_do_not_say_what_a_file_is_of() -> None:
    export = read_export(openai_page([], [openai_usage(input_tokens=3, output_tokens=4)]))
    assert (export.is_cost, export.amounts) == (False, {("2026-03-03", GPT): 7})
    assert export.days == {"2026-03-02", "2026-03-03"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not name day, model and cost, but nothing"),
        ("a,b\n1,2\n", "but a, b"),
        ("{}", "no answer of the cost or usage APIs"),
        ("[]", "it has no days"),
        ("[1]", "no answer of the cost"),
        ('{"data": 5}', "no answer of the cost"),
        (openai_page([openai_cost("x")]), "no answer of the cost"),
        (openai_page([openai_cost(1e40)]), "an amount is out of range"),
        (openai_page([openai_cost(1)]).replace("usd", "eur"), "its currency is 'eur'"),
        (anthropic_page(anthropic_cost("NaN")), "out of range"),
        (openai_page([openai_cost(1)]) + openai_page([openai_usage(input_tokens=1)]), "several APIs"),
        ("day,model,cost\n0001-01-01,m,1\n9999-01-01,m,1\n", "more than 3660 apart"),
        ("day,model,cost\n", "it has no days"),
        ("day,model,cost\n2026-03-02,m,1\n02.03.2026,m,1\n", "line 3 has no day"),
        ("day,model,cost\n2026-03-02,m,four\n", "line 2 has no day"),
        ("day,model,cost\n2026-03-02,m,Infinity\n", "line 2: an amount is out of range"),
        ("day,model,cost,currency\n2026-03-02,m,1,EUR\n", "line 2: its currency is 'EUR'"),
        ("[" * 100_000, "no answer of the cost"),
    ],
)
def test_what_is_no_export_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExportInvalid, match=message):
        read_export(text)


def test_a_day_of_a_missing_page_is_not_compared(store: SqlStore, compare: Compare) -> None:
    PaidCalls().call("9", time="2026-03-03T09:00:00.000Z").store(store)
    pages = openai_page([openai_cost(1)]) + openai_page([openai_cost(1)], first=MARCH_2 + 2 * DAY_SECONDS)
    assert json.loads(compare(pages, "--format", "json"))["total"]["recorded"] == "0.00"


def test_a_day_without_a_line_of_csv_is_compared(store: SqlStore, compare: Compare) -> None:
    PaidCalls().call("9", time="2026-03-03T09:00:00.000Z").store(store)
    text = f"day,model,cost\n2026-03-02,{GPT},1\n2026-03-04,{GPT},1\n"
    assert json.loads(compare(text, "--format", "json"))["total"]["recorded"] == "9.00"


def test_a_line_without_a_cost_is_a_day() -> None:
    export = read_export("day,model,cost\n2026-03-02\n")
    assert (export.days, export.amounts) == ({"2026-03-02"}, {})
