"""The comparison of recorded costs with a provider's export, by day and model."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from interlock_audit.cost_formats import align, cell_of, printable
from interlock_audit.cost_report import CostReport, Row, format_dollars
from interlock_audit.provider_export import Key, ProviderExport

BY: Final = ("day", "answered-model")
"""Dimensions of a report that can be compared."""
_ALL: Final = "all models"


@dataclass(frozen=True, slots=True)
class Difference:
    """What was recorded and what the provider says: nano-dollars, or tokens.

    Attributes:
        key: Day and model.
        recorded: By audit records.
        provider: By the export.
    """

    key: Key
    recorded: int
    provider: int

    @property
    def difference(self) -> int:
        """Return by how much more was recorded."""
        return self.recorded - self.provider

    @property
    def percent(self) -> Decimal | None:
        """Return the difference as a part of the provider's amount, None where that is zero."""
        if not self.provider:
            return None
        return (Decimal(100 * self.difference) / self.provider).quantize(Decimal("0.1"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences by day and model, and that of the sums."""

    export: ProviderExport
    rows: list[Difference]
    total: Difference


def compare(report: CostReport, export: ProviderExport, provider: str = "") -> Comparison:
    """Return the differences of a report and an export.

    Args:
        report: A report by `BY`.
        export: The export. If it has no models, days are compared as a whole.
        provider: The name of the provider in policies, which is in front of the slash of a model. Empty for all.
    """
    recorded: dict[Key, int] = {}
    for row in report.rows:
        day, name = row.values
        owner, slash, model = name.partition("/")
        is_meant = bool(slash) and (not provider or owner == provider) and day in export.days
        if is_meant:
            key = (day, model if export.has_models else "")
            recorded[key] = recorded.get(key, 0) + _measure(row, export)
    keys = sorted({*recorded, *export.amounts})
    rows = [Difference(key, recorded.get(key, 0), export.amounts.get(key, 0)) for key in keys]
    rows = [row for row in rows if row.recorded or row.provider]
    total = Difference(("TOTAL", ""), sum(row.recorded for row in rows), sum(row.provider for row in rows))
    return Comparison(export, rows, total)


def _measure(row: Row, export: ProviderExport) -> int:
    return row.cost.nanos if export.is_cost else sum(row.cost.tokens)


def period_of(days: Iterable[str]) -> tuple[date, date]:
    """Return the first day of an export, and the first one after it."""
    found = [date.fromisoformat(day) for day in days]
    return min(found), max(found) + timedelta(days=1)


def to_table(comparison: Comparison) -> str:
    """Return the differences as a table, with what they mean below it."""
    export = comparison.export
    unit = "USD" if export.is_cost else "TOKENS"
    head = ["DAY", "MODEL", f"RECORDED {unit}", f"PROVIDER {unit}", "DIFFERENCE", "PERCENT"]
    lines = [_cells(row, export) for row in comparison.rows]
    total = _cells(comparison.total, export)
    text = align([head, *lines, [total[0], "", *total[2:]]], 2)
    return text + "".join(f"{note}\n" for note in notes(export))


def notes(export: ProviderExport) -> list[str]:
    """Return what a reader has to know."""
    found = [
        "Recorded costs are estimates by list prices. A positive difference: more was recorded than the provider says."
    ]
    if export.has_more:
        found.append("The file names a further page of the provider's answer: the last days may be missing.")
    if not export.has_models:
        found.append("The file has no models. Days are compared as a whole.")
    return found


def to_json(comparison: Comparison) -> str:
    """Return the differences as one JSON object."""
    export = comparison.export
    value = {
        "isEstimate": True,
        "unit": "USD" if export.is_cost else "tokens",
        "hasMore": export.has_more,
        "rows": [{"day": row.key[0], "model": row.key[1], **_members(row, export)} for row in comparison.rows],
        "total": _members(comparison.total, export),
    }
    return json.dumps(value, indent=2) + "\n"


def to_csv(comparison: Comparison) -> str:
    """Return the differences as CSV."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    unit = "usd" if comparison.export.is_cost else "tokens"
    writer.writerow(["day", "model", f"recorded_{unit}", f"provider_{unit}", f"difference_{unit}", "percent"])
    for row in comparison.rows:
        members = _members(row, comparison.export)
        writer.writerow([row.key[0], cell_of(row.key[1]), *("" if one is None else one for one in members.values())])
    return output.getvalue()


def _cells(row: Difference, export: ProviderExport) -> list[str]:
    day, model = row.key
    percent = "-" if row.percent is None else f"{row.percent:+} %"
    amounts = (_amount(one, export) for one in (row.recorded, row.provider, row.difference))
    return [day, printable(model) or _ALL, *amounts, percent]


def _members(row: Difference, export: ProviderExport) -> dict[str, Any]:
    return {
        "recorded": _amount(row.recorded, export),
        "provider": _amount(row.provider, export),
        "difference": _amount(row.difference, export),
        "percent": None if row.percent is None else str(row.percent),
    }


def _amount(value: int, export: ProviderExport) -> str:
    return format_dollars(value) if export.is_cost else str(value)
