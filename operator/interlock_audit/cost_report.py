"""A report on costs: the sums of `cost_sql`, grouped by what a user asks for, with days, owners and labels.

Days depend on a time zone, which a database may not know, so the database sums quarters of an hour. Labels are not in
records: they are joined with Agents when a report is made, and an Agent that is gone keeps its sums.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from interlock_audit.cost_sql import Cost, CostQuery, CostSource, all_costs
from interlock_contract.clock import write_time

LABEL: Final = "label:"
"""Begin of a dimension for a label of Agents, such as `label:team`."""
DAY: Final = "day"
DIMENSIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": ("agent",),
    "owner": ("owner", "agent"),
    "environment": ("environment",),
    "model": ("model",),
    "answered-model": ("model", "answered"),
    "source": ("source",),
    "task": ("task",),
    DAY: ("quarter",),
}
"""What a report can be grouped by, each with the groups of `cost_sql` that it needs."""

MOST_ROWS: Final = 20_000
"""Most rows of a report: about 50 MiB with its text, which the collector's container has to spare."""
LONGEST_CALL: Final = timedelta(hours=24)
"""How long after the end of a report the outcome of a call is looked for."""

_QUARTER: Final = timedelta(minutes=15)
_NANOS_DIGITS: Final = 9


class ReportRefused(Exception):  # noqa: N818 - says the state of a report
    """The report cannot be made. The message says why, and what to change."""


@dataclass(frozen=True, slots=True)
class KnownAgent:
    """What a report takes from an Agent: its owner's address, and its labels."""

    owner: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is about.

    Attributes:
        by: Its dimensions.
        since: The first time that counts.
        until: The time from which on no decision counts.
        zone: The time zone of days.
        namespace: Only this namespace, empty for all.
        agent: Only this agent of the namespace, empty for all.
    """

    by: tuple[str, ...]
    since: datetime
    until: datetime
    zone: ZoneInfo
    namespace: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a value for each dimension, empty where it is unknown, and the sum."""

    values: tuple[str, ...]
    cost: Cost


@dataclass(frozen=True, slots=True)
class CostReport:
    """The rows of a report, the most expensive first. With days, by day first."""

    question: Question
    rows: list[Row]
    total: Cost = field(default_factory=Cost)


def build_report(store: CostSource, question: Question, agents: Mapping[str, KnownAgent]) -> CostReport:
    """Return the report on a question.

    Args:
        store: Sums the costs.
        question: The question.
        agents: Agents by `namespace/name`, for labels, and for owners of calls whose record has none.

    Raises:
        ReportRefused: It has a dimension that does not exist, or more than `MOST_ROWS` rows.
        StoreUnavailable: The store cannot be read.
    """
    groups = _groups(question.by)
    readers = [_reader(dimension, groups, question.zone, agents) for dimension in question.by]
    found: dict[tuple[str, ...], Cost] = {}
    total = Cost()
    query = CostQuery(
        since=stamp_of(question.since),
        until=stamp_of(question.until),
        latest=stamp_of(question.until + LONGEST_CALL),
        groups=groups,
        namespace=question.namespace,
        agent=question.agent,
    )
    for step in all_costs(store, query):
        for group, cost in step:
            values = tuple(reader(group) for reader in readers)
            found[values] = found[values] + cost if values in found else cost
            total += cost
        if len(found) > MOST_ROWS:
            message = f"the report has more than {MOST_ROWS} rows"
            raise ReportRefused(f"{message}: group by less, or choose a shorter time with --from and --to")
    rows = [Row(values, cost) for values, cost in found.items() if cost != Cost()]
    return CostReport(question, sorted(rows, key=_order(question.by)), total)


def read_agents(texts: Iterable[tuple[str, bytes]]) -> dict[str, KnownAgent]:
    """Return the Agents of the output of `kubectl get agents.interlock.dev -o json`. Of two with one name, the last.

    Args:
        texts: Name and content of each file.

    Raises:
        ReportRefused: A file is something else.
    """
    found: dict[str, KnownAgent] = {}
    for name, text in texts:
        try:
            document = json.loads(text)
            for one in document.get("items", [document]):
                metadata, owner = one["metadata"], one["spec"].get("owner") or {}
                labels = {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()}
                address = str(owner.get("email") or owner.get("name") or "")
                found[f"{metadata['namespace']}/{metadata['name']}"] = KnownAgent(address, labels)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            wanted = "the output of: kubectl get agents.interlock.dev -A -o json"
            raise ReportRefused(f"{name} is not {wanted}") from None
    return found


def stamp_of(time: datetime) -> str:
    """Return a time as records spell it, in whole seconds."""
    return write_time(time.replace(microsecond=0), "milliseconds")


def format_dollars(nanos: int) -> str:
    """Return an amount in dollars, exact, with two decimals at least: `12.40`, `0.000000001`, `-3.00`."""
    dollars, rest = divmod(abs(nanos), 10**_NANOS_DIGITS)
    decimals = f"{rest:0{_NANOS_DIGITS}}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{dollars}.{decimals}"


def _groups(by: Sequence[str]) -> tuple[str, ...]:
    groups: list[str] = []
    for dimension in by:
        if not dimension.removeprefix(LABEL) or not (dimension.startswith(LABEL) or dimension in DIMENSIONS):
            known = ", ".join([*DIMENSIONS, f"{LABEL}KEY"])
            raise ReportRefused(f"a report cannot be grouped by {dimension!r}, only by {known}")
        groups += ("agent",) if dimension.startswith(LABEL) else DIMENSIONS[dimension]
    return tuple(dict.fromkeys(groups))


def _reader(
    dimension: str, groups: Sequence[str], zone: ZoneInfo, agents: Mapping[str, KnownAgent]
) -> Callable[[tuple[str, ...]], str]:
    """Return the function that reads the value of a dimension from the values of a group."""
    if dimension.startswith(LABEL):
        at, key = groups.index("agent"), dimension.removeprefix(LABEL)
        return lambda group: agents[group[at]].labels.get(key, "") if group[at] in agents else ""
    places = [groups.index(name) for name in DIMENSIONS[dimension]]
    if dimension == DAY:
        days: dict[str, str] = {}
        return lambda group: (
            days.get(group[places[0]]) or days.setdefault(group[places[0]], _day(group[places[0]], zone))
        )
    if dimension == "owner":
        owner, agent = places
        return lambda group: group[owner] or (agents[group[agent]].owner if group[agent] in agents else "")
    if dimension == "answered-model":
        model, answered = places
        return lambda group: _answered(group[model], group[answered])
    return lambda group: group[places[0]]


def _answered(model: str, answered: str) -> str:
    """Return the model that answered, behind the provider's name: `openai/gpt-4o` and `gpt-4o-2024-08-06`."""
    provider, slash, _ = model.partition("/")
    return f"{provider}{slash}{answered}" if answered else model


def _day(quarter: str, zone: ZoneInfo) -> str:
    """Return the day of a quarter of an hour such as `2026-03-02T09:3`, empty if a guard wrote no such time."""
    hour, _, number = quarter.rpartition(":")
    try:
        time = datetime.strptime(f"{hour}+0000", "%Y-%m-%dT%H%z") + int(number) * _QUARTER
        return time.astimezone(zone).date().isoformat()
    except (ValueError, OverflowError):
        return ""


def _order(by: Sequence[str]) -> Callable[[Row], Any]:
    if DAY in by:
        at = by.index(DAY)
        return lambda row: (row.values[at], -row.cost.nanos, row.values)
    return lambda row: (-row.cost.nanos, row.values)
