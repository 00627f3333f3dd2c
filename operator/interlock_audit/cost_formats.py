"""The formats of a report on costs: a table, JSON, and CSV with the columns of FOCUS 1.2.

FOCUS is the specification of billing data that tools for cloud costs read (focus.finops.org). A report is not billing
data: it is an estimate by list prices, so the four costs of a row are the same number, and `x_IsEstimate` says so.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from interlock_audit.cost_report import DAY, LABEL, CostReport, Row, format_dollars, stamp_of
from interlock_audit.cost_sql import MODELS_SOURCE, TOKENS, Cost
from interlock_contract.clock import write_time

CURRENCY: Final = "USD"
NEEDED_BY_CSV: Final = (DAY, "model", "source")
"""Dimensions that each row of FOCUS needs: its period, and whose service it is."""
FOCUS_COLUMNS: Final = (
    "BillingAccountId",
    "BillingAccountName",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "BillingCurrency",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "BilledCost",
    "EffectiveCost",
    "ListCost",
    "ContractedCost",
    "PricingQuantity",
    "PricingUnit",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ProviderName",
    "PublisherName",
    "InvoiceIssuerName",
    "ServiceCategory",
    "ServiceSubcategory",
    "ServiceName",
    "Tags",
)
"""All mandatory columns of FOCUS 1.2, and those others that a report can fill."""

_EXTRAS: Final = {
    "agent": "x_Agent",
    "owner": "x_Owner",
    "environment": "x_Environment",
    "model": "x_Model",
    "answered-model": "x_AnsweredModel",
    "task": "x_Task",
}
_UNKNOWN: Final = "unknown"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_INPUT: Final = slice(0, 4)


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Tokens of a sum as the table shows them: all of the input, what of it came from the cache, and the output."""

    input: int
    cached: int
    output: int


def _tokens(cost: Cost) -> _Tokens:
    known = dict(zip(TOKENS, cost.tokens, strict=True))
    taken = sum(cost.tokens[_INPUT]) + known["inputAudioTokens"]
    return _Tokens(taken, known["cachedInputTokens"], sum(cost.tokens) - taken)


def printable(text: str) -> str:
    """Return a text in one line and without signs that a terminal obeys: agents and providers write some of them."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def to_table(report: CostReport) -> str:
    """Return the report as a table, with what it is based on below it."""
    by = report.question.by
    head = [*(name.upper() for name in by), "CALLS", "INPUT", "CACHED", "OUTPUT", CURRENCY]
    lines = [[*(printable(value) or "-" for value in row.values), *_numbers(row.cost)] for row in report.rows]
    last = ["TOTAL", *[""] * (len(by) - 1)] if by else []
    lines.append([*last, *_numbers(report.total)])
    return align([head, *lines], len(by)) + "".join(f"{note}\n" for note in notes(report))


def align(lines: Sequence[Sequence[str]], texts: int) -> str:
    """Return lines of cells in columns: so many of texts, which begin at the left, and others of numbers."""
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    cells = (
        [
            cell.ljust(width) if at < texts else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    )
    return "".join("   ".join(line).rstrip() + "\n" for line in cells)


def notes(report: CostReport) -> Iterator[str]:
    """Yield what a reader has to know: that these are estimates, and which costs are bounds."""
    question, total = report.question, report.total
    since, until = (
        time.astimezone(question.zone).isoformat(timespec="minutes") for time in (question.since, question.until)
    )
    yield f"Calls from {since} until {until}. Estimates by list prices, not an invoice."
    if total.bound_calls:
        cost = format_dollars(total.bound_nanos)
        yield f"Of {total.bound_calls} calls (${cost}), the provider's usage is unknown. Their cost is an upper bound."
    if total.unreadable:
        yield f"{total.unreadable} further records have a cost that is no amount."


def to_json(report: CostReport) -> str:
    """Return the report as one JSON object. Amounts are decimal strings."""
    question = report.question
    value = {
        "isEstimate": True,
        "currency": CURRENCY,
        "from": stamp_of(question.since),
        "to": stamp_of(question.until),
        "timeZone": question.zone.key,
        "by": list(question.by),
        "rows": [dict(zip(question.by, row.values, strict=True)) | _members(row.cost) for row in report.rows],
        "total": _members(report.total),
    }
    return json.dumps(value, indent=2) + "\n"


def to_csv(report: CostReport, billing_account: str) -> str:
    """Return the report as CSV with the columns of FOCUS 1.2, and further ones whose names begin with `x_`.

    Args:
        report: The report, grouped by at least `NEEDED_BY_CSV`.
        billing_account: The provider's identifier of the account, if it is known.
    """
    output = io.StringIO()
    rows = [_focus(report, row, billing_account or _UNKNOWN) for row in report.rows]
    extras = [column for dimension, column in _EXTRAS.items() if dimension in report.question.by]
    columns = [*FOCUS_COLUMNS, *extras, *(f"x_{name[0].upper()}{name[1:]}" for name in TOKENS), *_MARKS]
    writer = csv.DictWriter(output, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell_of(value) for name, value in row.items()} for row in rows)
    return output.getvalue()


_MARKS: Final = ("x_CallsWithoutUsage", "x_CostWithoutUsage", "x_IsEstimate")


def cell_of(value: str) -> str:
    """Return a text as a cell that no spreadsheet takes for a formula: an agent names its tasks."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def _focus(report: CostReport, row: Row, billing_account: str) -> dict[str, str]:
    by, question, cost = dict(zip(report.question.by, row.values, strict=True)), report.question, row.cost
    amount, source = format_dollars(cost.nanos), by["source"] or _UNKNOWN
    is_model = source == MODELS_SOURCE
    provider = by["model"].partition("/")[0] or source
    periods = _periods(by[DAY], question.zone) or ((question.since, question.until),) * 2
    (charge_start, charge_end), (billing_start, billing_end) = periods
    labels = {name.removeprefix(LABEL): value for name, value in by.items() if name.startswith(LABEL)}
    return {
        "BillingAccountId": billing_account,
        "BillingPeriodStart": _time(billing_start),
        "BillingPeriodEnd": _time(billing_end),
        "BillingCurrency": CURRENCY,
        "ChargePeriodStart": _time(charge_start),
        "ChargePeriodEnd": _time(charge_end),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"Calls of {by['model'] or source}, estimated by Interlock",
        "ChargeFrequency": "Usage-Based",
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"), amount),
        "PricingQuantity": str(cost.calls),
        "PricingUnit": "Requests",
        "ConsumedQuantity": str(sum(cost.tokens) if is_model else cost.calls),
        "ConsumedUnit": "Tokens" if is_model else "Requests",
        **dict.fromkeys(("ProviderName", "PublisherName", "InvoiceIssuerName"), provider),
        "ServiceCategory": "AI and Machine Learning" if is_model else "Other",
        "ServiceSubcategory": "Generative AI" if is_model else "Other (Other)",
        "ServiceName": source,
        "Tags": json.dumps(labels) if labels else "",
        **{column: by[dimension] for dimension, column in _EXTRAS.items() if dimension in by},
        **{f"x_{name[0].upper()}{name[1:]}": str(one) for name, one in zip(TOKENS, cost.tokens, strict=True)},
        "x_CallsWithoutUsage": str(cost.bound_calls),
        "x_CostWithoutUsage": format_dollars(cost.bound_nanos),
        "x_IsEstimate": "true",
    }


Period = tuple[datetime, datetime]


def _periods(day: str, zone: ZoneInfo) -> tuple[Period, Period] | None:
    """Return begin and end of a day and of its month, None without a day."""
    if not day:
        return None
    first = date.fromisoformat(day)
    month = first.replace(day=1)
    next_month = (month + timedelta(days=31)).replace(day=1)
    return (midnight(first, zone), midnight(first + timedelta(days=1), zone)), (
        midnight(month, zone),
        midnight(next_month, zone),
    )


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return when a day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _time(time: datetime) -> str:
    return write_time(time, "seconds")


def _numbers(cost: Cost) -> list[str]:
    tokens = _tokens(cost)
    return [*map(str, (cost.calls, tokens.input, tokens.cached, tokens.output)), format_dollars(cost.nanos)]


def _members(cost: Cost) -> dict[str, Any]:
    return {
        "calls": cost.calls,
        "usage": dict(zip(TOKENS, cost.tokens, strict=True)),
        "cost": format_dollars(cost.nanos),
        "callsWithoutUsage": cost.bound_calls,
        "costWithoutUsage": format_dollars(cost.bound_nanos),
        "unreadable": cost.unreadable,
    }
