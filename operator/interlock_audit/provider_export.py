"""Exports of providers: what a provider says that calls cost, or how many tokens they took, by day and model.

| format | amounts | model |
|---|---|---|
| OpenAI `/v1/organization/costs` | dollars | `line_item` in front of the comma, with `group_by=line_item` |
| OpenAI `/v1/organization/usage/...` | tokens | `model`, with `group_by=model` |
| Anthropic `/v1/organizations/cost_report` | cents, as a decimal string | `model`, with `group_by[]=description` |
| Anthropic `/v1/organizations/usage_report/messages` | tokens | `model`, with `group_by[]=model` |
| CSV with a header | dollars | column `model` or `line_item` |

Each of the APIs answers in pages of buckets, each bucket with its `results`. Their days are days in UTC. Several pages
stand behind each other, as programs for downloads write them, or in a list.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

Key = tuple[str, str]
"""A day, such as `2026-03-02`, and a model, empty for all models."""

_NANOS: Final = Decimal(10**9)
_CENT_NANOS: Final = Decimal(10**7)
_MOST: Final = 10**18
_MOST_DAYS: Final = 3660
_DAYS: Final = ("day", "date", "start_time_iso", "usage_date_utc")
_MODELS: Final = ("model", "line_item", "model_version")
_COSTS: Final = ("cost", "cost_usd", "amount_value")
_CURRENCIES: Final = ("currency", "amount_currency")

_LINE_ITEM: Final = re.compile(r"(?:\w+ \| )?(?P<model>[^\s,|]+)(?: (?:audio|image|text))?,.*")
_OPENAI_TOKENS: Final = ("input_tokens", "output_tokens")
"""OpenAI counts cached tokens in the input, and reasoning in the output."""
_ANTHROPIC_TOKENS: Final = ("uncached_input_tokens", "cache_read_input_tokens", "output_tokens")
_ANTHROPIC_WRITES: Final = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")


class ExportInvalid(ValueError):  # noqa: N818 - says the state of a file
    """The file is no export that can be read. The message says why."""


@dataclass(slots=True)
class ProviderExport:
    """What a provider says.

    Attributes:
        provider: `openai` or `anthropic`, empty if the file does not tell.
        is_cost: True for amounts in billionths of a dollar, False for tokens.
        is_utc: True if its days are days in UTC.
        amounts: By day and model.
        days: All days that the file covers, those without an amount too. Days of a missing page are not among them.
        has_more: True if the last page names a further one.
    """

    provider: str
    is_cost: bool
    is_utc: bool
    amounts: dict[Key, int] = field(default_factory=dict)
    days: set[str] = field(default_factory=set)
    has_more: bool = False

    @property
    def has_models(self) -> bool:
        """Return True if amounts are by model."""
        return any(model for _, model in self.amounts)


def read_export(text: str) -> ProviderExport:
    """Return the content of an export.

    Raises:
        ExportInvalid: It is none.
    """
    if text.lstrip()[:1] in ("{", "["):
        return _read_pages(text.strip())
    return _read_csv(text)


@dataclass(frozen=True, slots=True)
class _Format:
    """How the results of one API are read.

    Attributes:
        provider: The provider.
        start: The member of a bucket that says when it begins.
        amount: Returns the amount of a result.
        model: Returns the model of a result.
        is_cost: See `ProviderExport`.
    """

    provider: str
    start: str
    amount: Callable[[Mapping[str, Any]], int]
    model: Callable[[Mapping[str, Any]], str]
    is_cost: bool = True


def _read_pages(text: str) -> ProviderExport:
    found: ProviderExport | None = None
    try:
        for page in _pages(text):
            for bucket in page["data"]:
                results = bucket["results"]
                known = _FORMATS[_kind(bucket, results)]
                if found is None or (not found.amounts and results):
                    days = set[str]() if found is None else found.days
                    found = ProviderExport(known.provider, known.is_cost, is_utc=True, days=days)
                day = _day(bucket[known.start])
                found.days.add(day)
                if results:
                    _check_same(found, known)
                for result in results:
                    _add(found, (day, known.model(result)), known.amount(result))
            if found is not None:
                found.has_more = bool(page.get("has_more"))
    except ExportInvalid:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise ExportInvalid("it is no answer of the cost or usage APIs of OpenAI or Anthropic") from None
    if found is None:
        raise ExportInvalid("it has no days")
    return found


def _check_same(found: ProviderExport, known: _Format) -> None:
    if (found.provider, found.is_cost) != (known.provider, known.is_cost):
        raise ExportInvalid("its pages are of several APIs")


def _pages(text: str) -> Iterator[Mapping[str, Any]]:
    """Yield the pages of a text: one page, several behind each other, or a list of pages."""
    decoder, at = json.JSONDecoder(parse_float=Decimal), 0
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        yield from value if isinstance(value, list) else [value]
        at = end + len(text[end:]) - len(text[end:].lstrip())


def _kind(bucket: Mapping[str, Any], results: list[Mapping[str, Any]]) -> str:
    """Return the name in `_FORMATS` of a bucket. One without results does not tell whether it is of costs."""
    if "start_time" in bucket:
        return "openai-costs" if not results or "amount" in results[0] else "openai-usage"
    return "anthropic-costs" if not results or "amount" in results[0] else "anthropic-usage"


def _openai_cost(result: Mapping[str, Any]) -> int:
    amount = result["amount"]
    _check_currency(amount["currency"])
    return _whole(Decimal(amount["value"]) * _NANOS)


def _openai_tokens(result: Mapping[str, Any]) -> int:
    return sum(_whole(Decimal(result.get(name) or 0)) for name in _OPENAI_TOKENS)


def _anthropic_cost(result: Mapping[str, Any]) -> int:
    _check_currency(result["currency"])
    return _whole(Decimal(result["amount"]) * _CENT_NANOS)


def _anthropic_tokens(result: Mapping[str, Any]) -> int:
    writes = result.get("cache_creation") or {}
    counted = [result.get(name) for name in _ANTHROPIC_TOKENS] + [writes.get(name) for name in _ANTHROPIC_WRITES]
    return sum(_whole(Decimal(one or 0)) for one in counted)


def _line_item(text: Any) -> str:
    """Return the model of a line item. Others, such as `web search tool calls`, stay as they are.

    OpenAI writes a tier in front of the model, a kind of tokens behind it, or both:

        gpt-4o-2024-08-06, cached input
        priority | gpt-5, output, long context
        gpt-audio-mini-2025-12-15 audio, input
    """
    found = _LINE_ITEM.fullmatch(str(text or "").strip())
    return found["model"] if found else str(text or "").strip()


def _named(result: Mapping[str, Any]) -> str:
    """Return the model of a result. Costs of Anthropic that are of no model have a description."""
    return str(result.get("model") or result.get("description") or "")


_FORMATS: Final[Mapping[str, _Format]] = {
    "openai-costs": _Format("openai", "start_time", _openai_cost, lambda one: _line_item(one.get("line_item"))),
    "openai-usage": _Format("openai", "start_time", _openai_tokens, _named, is_cost=False),
    "anthropic-costs": _Format("anthropic", "starting_at", _anthropic_cost, _named),
    "anthropic-usage": _Format("anthropic", "starting_at", _anthropic_tokens, _named, is_cost=False),
}


def _read_csv(text: str) -> ProviderExport:
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    names = {name.strip().lower(): name for name in reader.fieldnames or []}
    day, model, cost = (next((names[one] for one in known if one in names), None) for known in (_DAYS, _MODELS, _COSTS))
    currency = next((names[one] for one in _CURRENCIES if one in names), None)
    if day is None or model is None or cost is None:
        raise ExportInvalid(f"its first line does not name day, model and cost, but {', '.join(names) or 'nothing'}")
    found = ProviderExport("", is_cost=True, is_utc=False)
    for row in reader:
        try:
            when = _day(row[day])
            found.days.add(when)
            if not row[cost]:  # a day without costs
                continue
            if currency is not None:
                _check_currency(row[currency])
            _add(found, (when, _line_item(row[model])), _whole(Decimal(row[cost]) * _NANOS))
        except ExportInvalid as error:
            raise ExportInvalid(f"line {reader.line_num}: {error}") from None
        except (ValueError, InvalidOperation, TypeError, AttributeError):
            raise ExportInvalid(f"line {reader.line_num} has no day as YYYY-MM-DD, or no cost in dollars") from None
    if not found.days:
        raise ExportInvalid("it has no days")
    first, last = date.fromisoformat(min(found.days)), date.fromisoformat(max(found.days))
    if (last - first).days > _MOST_DAYS:
        raise ExportInvalid(f"its days are more than {_MOST_DAYS} apart")
    # A day without a line is a day without costs.
    found.days |= {(first + timedelta(days=number)).isoformat() for number in range((last - first).days)}
    return found


def _add(found: ProviderExport, key: Key, amount: int) -> None:
    found.amounts[key] = found.amounts.get(key, 0) + amount


def _day(value: Any) -> str:
    """Return the day in UTC of a time in seconds, or of a text that begins with a date."""
    if isinstance(value, int):
        return datetime.fromtimestamp(value, UTC).date().isoformat()
    text = str(value).strip()
    if "T" in text:
        time = datetime.fromisoformat(text)
        return (time.astimezone(UTC) if time.tzinfo else time).date().isoformat()
    return date.fromisoformat(text[:10]).isoformat()


def _check_currency(currency: Any) -> None:
    if str(currency).lower() != "usd":
        raise ExportInvalid(f"its currency is {currency!r}, not USD")


def _whole(value: Decimal) -> int:
    """Return the nearest integer.

    Raises:
        ExportInvalid: It is no number, or larger than any amount can be.
    """
    if not value.is_finite() or abs(value) > _MOST:
        raise ExportInvalid("an amount is out of range")
    return int(value.to_integral_value())
