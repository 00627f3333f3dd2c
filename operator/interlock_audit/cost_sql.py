"""Sums of costs in SQL: what calls of models and tools cost, by what their records say.

The cost of a call is in the record of its end (`outcome`). Who called what for which task is in the record of the
decision, which the outcome names by `of`. Both are in one chain, so one step in the primary key finds the decision.

The database adds up, a part of the records after the other: 20 000 records by time, then the next 20 000. To sum over
all at once, a database sorts all of them in a temporary folder, which is smaller than that in the collector's pod. It
would also keep the collector from cutting off its write-ahead log.

A guard writes its own records, so a number counts only within its range. Without ranges, the records of one agent could
overflow a sum, and so end the report of all agents.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from interlock_contract.audit_chain import DECISION, OUTCOME

STEP: Final = 20_000
"""Records of one step."""
REMOTE_STEP: Final = 2000
"""Records of one step whose sums the collector sends. An answer has at most as many groups."""

TOKENS: Final = (
    "inputTokens",
    "cachedInputTokens",
    "cacheWrite5mTokens",
    "cacheWrite1hTokens",
    "outputTokens",
    "reasoningTokens",
    "inputAudioTokens",
    "outputAudioTokens",
)
"""Members of a record's `usage`. No token counts in two of them, so their sum is all tokens of a call."""
MOST_TOKENS: Final = 10**9
"""Most tokens of one kind in one record. A larger number is no usage."""
BOUND: Final = "Reservation"
"""The `costBasis` of a cost that is an upper bound: the usage is unknown, so what was reserved is charged."""

MODELS_SOURCE: Final = "models"
"""The `source` of a decision on a call of a model."""

_FIRST_SEQUENCE: Final = -(2**63)
_BILLION: Final = 10**9


class JsonSql(Protocol):
    """The expressions in which SQLite and PostgreSQL differ. A `name` is one of ours, never a text of a user."""

    fence: str
    """The end of a subquery that keeps the database from reading a document again for each use of it."""

    def valid(self, line: str) -> str:
        """Return the condition that a line can be read."""

    def contains(self, line: str, text: str) -> str:
        """Return the condition that a line contains a text."""

    def document(self, line: str) -> str:
        """Return a line as a document."""

    def text(self, document: str, name: str) -> str:
        """Return a member of a document as a text, NULL if it is none."""

    def integer(self, document: str, *names: str) -> str:
        """Return a member, or a member of a member, as an integer from 0 to 10**15, NULL if it is none."""

    def is_amount(self, text: str) -> str:
        """Return the condition that a text has at most seven digits, and at most nine behind a point."""

    def dollars(self, amount: str) -> str:
        """Return the whole dollars of an amount."""

    def nanos(self, amount: str) -> str:
        """Return the billionths of a dollar of an amount, without its whole dollars."""


class SqliteJson:
    """The expressions of SQLite, which keeps the last lines that it has parsed."""

    fence = " LIMIT -1"

    def valid(self, line: str) -> str:
        """Return the condition that a line can be read; see `JsonSql`."""
        return f"json_valid({line})"

    def contains(self, line: str, text: str) -> str:
        """Return the condition that a line contains a text; see `JsonSql`."""
        return f"instr({line}, '{text}') > 0"

    def document(self, line: str) -> str:
        """Return a line as a document; see `JsonSql`."""
        return line

    def text(self, document: str, name: str) -> str:
        """Return a member as a text; see `JsonSql`."""
        return f"CASE json_type({document}, '$.{name}') WHEN 'text' THEN json_extract({document}, '$.{name}') END"

    def integer(self, document: str, *names: str) -> str:
        """Return a member as an integer; see `JsonSql`."""
        found = f"json_extract({document}, '$.{'.'.join(names)}')"
        return f"CASE WHEN typeof({found}) = 'integer' AND {found} BETWEEN 0 AND 1000000000000000 THEN {found} END"

    def is_amount(self, text: str) -> str:
        """Return the condition that a text is an amount; see `JsonSql`."""
        digits = f"{text} GLOB '[0-9]*' AND {text} NOT GLOB '*[^0-9.]*'"
        one_point = f"{text} NOT GLOB '*.*.*' AND {text} NOT GLOB '*.'"
        point = f"instr({text} || '.', '.')"
        return f"{digits} AND {one_point} AND {point} <= 8 AND length({text}) - {point} <= 9"

    def dollars(self, amount: str) -> str:
        """Return the whole dollars; see `JsonSql`."""
        return f"CAST(substr({amount}, 1, instr({amount} || '.', '.') - 1) AS INTEGER)"

    def nanos(self, amount: str) -> str:
        """Return the billionths; see `JsonSql`."""
        return f"CAST(substr(substr({amount}, instr({amount} || '.', '.') + 1) || '000000000', 1, 9) AS INTEGER)"


class PostgresJson:
    """The expressions of PostgreSQL, which parses a line into a `jsonb` once."""

    fence = " OFFSET 0"

    def valid(self, line: str) -> str:
        """Return a condition that holds: PostgreSQL 15 has none, and `document` ends the report; see `JsonSql`."""
        return f"{line} IS NOT NULL"

    def contains(self, line: str, text: str) -> str:
        """Return the condition that a line contains a text; see `JsonSql`."""
        return f"strpos({line}, '{text}') > 0"

    def document(self, line: str) -> str:
        """Return a line as a document; see `JsonSql`.

        PostgreSQL refuses the escape of NUL, which an agent can write into the recorded arguments of a call.
        """
        return rf"replace({line}, '\u0000', '\ufffd')::jsonb"

    def text(self, document: str, name: str) -> str:
        """Return a member as a text; see `JsonSql`."""
        return f"CASE jsonb_typeof({document} -> '{name}') WHEN 'string' THEN {document} ->> '{name}' END"

    def integer(self, document: str, *names: str) -> str:
        """Return a member as an integer; see `JsonSql`."""
        path = f"'{{{','.join(names)}}}'"
        found = f"{document} #>> {path}"
        is_number = f"jsonb_typeof({document} #> {path}) = 'number'"
        return f"CASE WHEN {is_number} AND {found} ~ '^[0-9]{{1,15}}$' THEN ({found})::bigint END"

    def is_amount(self, text: str) -> str:
        """Return the condition that a text is an amount; see `JsonSql`."""
        return f"{text} ~ '^[0-9]{{1,7}}([.][0-9]{{1,9}}|)$'"

    def dollars(self, amount: str) -> str:
        """Return the whole dollars; see `JsonSql`."""
        return f"split_part({amount}, '.', 1)::bigint"

    def nanos(self, amount: str) -> str:
        """Return the billionths; see `JsonSql`."""
        return f"rpad(split_part({amount}, '.', 2), 9, '0')::bigint"


GROUPS: Final = {
    "agent": "namespace || '/' || agent",
    "owner": "owner",
    "environment": "environment",
    "model": f"CASE WHEN source = '{MODELS_SOURCE}' THEN tool END",
    "answered": f"CASE WHEN source = '{MODELS_SOURCE}' THEN answered END",
    "source": "source",
    "task": "task",
    "quarter": "substr(began, 1, 14) || CAST(CAST(substr(began, 15, 2) AS INTEGER) / 15 AS TEXT)",
}
"""What sums can be grouped by. A quarter of an hour is the smallest part by which the days of time zones differ."""
_DECIDED: Final = ("owner", "environment", "source", "tool", "task")
"""Members of the decision that groups need."""


CostPlace = tuple[str, str, int]
"""Time, chain and number of a record, in the order of which records are read."""


@dataclass(frozen=True, slots=True)
class CostQuery:
    """Which calls are summed, and by what.

    Attributes:
        since: The first time of a decision that counts, as records spell it.
        until: The time from which on none counts.
        latest: The time from which on no outcome is read.
        groups: Names in `GROUPS`.
        namespace: Only this namespace, empty for all.
        agent: Only this agent of the namespace, empty for all.
        after: The place of an outcome after which the step begins, None for the first step.
    """

    since: str
    until: str
    latest: str
    groups: tuple[str, ...]
    namespace: str = ""
    agent: str = ""
    after: CostPlace | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """A sum over calls.

    Attributes:
        calls: Their number.
        nanos: What they cost, in billionths of a dollar.
        bound_calls: Those of them whose cost is an upper bound.
        bound_nanos: What these cost.
        unreadable: Further calls, whose cost is no amount.
        tokens: Tokens in the order of `TOKENS`.
    """

    calls: int = 0
    nanos: int = 0
    bound_calls: int = 0
    bound_nanos: int = 0
    unreadable: int = 0
    tokens: tuple[int, ...] = (0,) * len(TOKENS)

    def __add__(self, other: "Cost") -> "Cost":
        """Return the sum of both."""
        return Cost(
            self.calls + other.calls,
            self.nanos + other.nanos,
            self.bound_calls + other.bound_calls,
            self.bound_nanos + other.bound_nanos,
            self.unreadable + other.unreadable,
            tuple(one + two for one, two in zip(self.tokens, other.tokens, strict=True)),
        )


PartialCost = tuple[tuple[str, ...], Cost]
"""The values of a group, in the order of the query's `groups`, and the sum of one step. A group has several of them."""
Statement = tuple[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class CostStep:
    """The sums of one step, and the `after` of the next one, None after the last."""

    sums: list[PartialCost]
    next: CostPlace | None


class CostSource(Protocol):
    """A store that sums costs. `costs` may raise `StoreUnavailable`."""

    def costs(self, query: CostQuery) -> CostStep:
        """Return the sums of one step of a query."""


def all_costs(store: CostSource, query: CostQuery) -> Iterator[list[PartialCost]]:
    """Yield the sums of a query, step by step."""
    is_last = False
    while not is_last:
        step = store.costs(query)
        yield step.sums
        is_last, query = step.next is None, replace(query, after=step.next)


class CostStatements:
    """The statements of one step of a query.

    Args:
        query: The query.
        json: The expressions of the database.
        step: Records of one step.
    """

    def __init__(self, query: CostQuery, json: JsonSql, step: int = STEP) -> None:
        self._query, self._json, self._step = query, json, step
        self._begin = query.after or (query.since, "", _FIRST_SEQUENCE)
        where = {"namespace = ?": query.namespace, "agent = ?": query.agent}
        self._where = "".join(f" AND {condition}" for condition, value in where.items() if value)
        self._values = [value for value in where.values() if value]

    def end(self) -> Statement:
        """Return the statement that finds the last place of the step. If it finds none, the step is the last."""
        statement = f"""SELECT time, guard, seq FROM records
            WHERE (time, guard, seq) > (?, ?, ?) AND time < ?{self._where}
            ORDER BY time, guard, seq LIMIT 1 OFFSET {self._step - 1}"""  # noqa: S608 - no values
        return statement, [*self._begin, self._query.latest, *self._values]

    def sums(self, end: Sequence[Any] | None) -> Statement:
        """Return the statement that sums the step, up to a place, or to the end of the query."""
        json, query = self._json, self._query
        last: tuple[str, Sequence[Any]] = ("time < ?", [query.latest])
        if end is not None:
            last = "(time, guard, seq) <= (?, ?, ?)", end
        ended = f"""SELECT guard, namespace, agent, time, {json.document("line")} AS outcome
            FROM records WHERE (time, guard, seq) > (?, ?, ?) AND {last[0]}{self._where} AND kind = '{OUTCOME}'
            AND {json.contains("line", '"cost":')} AND {json.valid("line")}{json.fence}"""  # noqa: S608 - no values
        joined = f"""SELECT ended.namespace, ended.agent, ended.time AS ended, ended.outcome,
            decided.time AS decided, {json.document("decided.line")} AS decision
            FROM ({ended}) AS ended LEFT JOIN records AS decided
            ON decided.guard = ended.guard AND decided.seq = {json.integer("ended.outcome", "of")}
            AND decided.kind = '{DECISION}' AND {json.valid("decided.line")}{json.fence}"""  # noqa: S608 - no values
        calls = f"SELECT {', '.join(self._columns())} FROM ({joined}) AS joined{json.fence}"  # noqa: S608 - no values
        amounts = f"SELECT {', '.join(self._amounts())} FROM ({calls}) AS calls{json.fence}"  # noqa: S608 - no values
        groups = [f"COALESCE({GROUPS[name]}, '')" for name in query.groups]
        by = f" GROUP BY {', '.join(str(number + 1) for number in range(len(groups)))}" if groups else ""
        statement = f"""SELECT {", ".join([*groups, *self._measures()])} FROM ({amounts}) AS amounts
            WHERE began >= ? AND began < ?{by}"""  # noqa: S608 - no values
        return statement, [*self._begin, *last[1], *self._values, query.since, query.until]

    def _columns(self) -> Iterator[str]:
        """Yield what is read of each call."""
        json = self._json
        yield "namespace"
        yield "agent"
        yield "COALESCE(decided, ended) AS began"
        yield f"{json.text('outcome', 'cost')} AS amount"
        yield f"{json.text('outcome', 'costBasis')} AS basis"
        yield f"{json.text('outcome', 'answeredModel')} AS answered"
        for name in _DECIDED:
            is_needed = any(name in GROUPS[group] for group in self._query.groups)
            yield f"{json.text('decision', name) if is_needed else 'NULL'} AS {name}"
        for name in TOKENS:
            yield f"{json.integer('outcome', 'usage', name)} AS {name}"

    def _amounts(self) -> Iterator[str]:
        """Yield what is known of each call, and its amount if it is one."""
        is_amount = self._json.is_amount("amount")
        yield "namespace, agent, began, answered"
        yield from (*_DECIDED, *TOKENS)
        yield f"CASE WHEN {is_amount} THEN amount END AS cost"
        yield f"CASE WHEN basis = '{BOUND}' AND {is_amount} THEN amount END AS bound"

    def _measures(self) -> Iterator[str]:
        """Yield the sums, in the order in which `read_cost` takes them: dollars apart, so that no sum overflows."""
        yield "COUNT(*)"
        for amount in ("cost", "bound"):
            yield f"COUNT({amount}), SUM({self._json.dollars(amount)}), SUM({self._json.nanos(amount)})"
        for name in TOKENS:
            yield f"SUM(CASE WHEN {name} <= {MOST_TOKENS} THEN {name} ELSE 0 END)"


def read_cost(row: Sequence[Any], groups: int) -> PartialCost:
    """Return a row of `CostStatements.sums` with so many groups."""
    rows, calls, dollars, nanos, bound_calls, bound_dollars, bound_nanos, *tokens = (
        int(one or 0) for one in row[groups:]
    )
    cost = Cost(
        calls,
        dollars * _BILLION + nanos,
        bound_calls,
        bound_dollars * _BILLION + bound_nanos,
        rows - calls,
        tuple(tokens),
    )
    return tuple(str(one) for one in row[:groups]), cost
