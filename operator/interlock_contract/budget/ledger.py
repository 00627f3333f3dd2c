"""The ledger: the `status` of one BudgetLedger, in which guards and operator record what was spent and what may be.

A holder is one process of a guard. It spends only from a slice, and the slice is in the ledger before. The sum of
`spent` and of the open amounts of slices is what is committed. It stays within the limit, whatever happens to a holder.
Money is in nano-dollars. Times are seconds since the epoch in memory, and RFC 3339 in the document.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from interlock_contract.budget.ledger_fields import Holder, Seconds
from interlock_contract.budget.money import Limit, Nanos
from interlock_contract.budget.rates import MinuteRate
from interlock_contract.budget.tokens_per_byte import MAX_TOKEN_ALERTS, MAX_TOKEN_MODELS, ModelTokens, TokenAlert
from interlock_contract.budget.windows import MAX_SECONDS, Period
from interlock_contract.clock import write_time
from interlock_contract.strict_fields import StrictStruct, Text

Part = TypeVar("Part")

MAX_SLICES: Final = 1024
MAX_POD_SLICES: Final = 8
"""Most slices of one pod, as admission has it: those of its present windows and its restarts, and a few older ones."""
MAX_DAYS: Final = 35
"""Closed days that a ledger keeps."""
MAX_MONTHS: Final = 13
"""Closed months that a ledger keeps."""
MAX_ALERTS: Final = 64
MAX_STEPS: Final = 145
"""Steps of ten minutes that a ledger keeps: the newest one, and a day before it."""
MAX_VELOCITY_ALERTS: Final = 24

_TIMES: Final = frozenset(
    {
        *("start", "end", "dayStart", "monthStart", "windowStart", "hourStart"),
        *("at", "renewedAt", "until", "givenAt", "askedAt"),
    }
)
"""The fields that hold a time, in every object of the document."""
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class LedgerInvalid(ValueError):  # noqa: N818 - says the state of a document, as BundleInvalid does
    """The status is no ledger; the message starts with the path of what is wrong. No money is spent from it."""


class SliceKey(NamedTuple):
    """The key of a slice: its holder, and the starts of the day and the month that it belongs to."""

    holder: str
    day_start: int
    month_start: int


class LedgerWindow(StrictStruct, frozen=True):
    """A day or month: what was spent in it, settled or closed. `spent` never falls.

    `credited` is the part of what is committed in the window that a credit pays. It can fall as slices are returned.
    A window that ends at 0 has not begun: the ledger is new, and the first holder opens its windows.
    """

    start: Seconds = 0
    end: Seconds = 0
    spent: Nanos = 0
    credited: Nanos = 0


class Slice(StrictStruct, frozen=True):
    """Money that a holder may spend, in the day and the month in which the slice was taken, for ever.

    `amount` is granted and not settled. `settled` is what has moved from the slice to the windows so far, so that
    settling twice moves it once. `wanted` is what the holder lacks: other holders return what they have not reserved.
    """

    holder: Holder
    pod_uid: Text
    amount: Nanos
    day_start: Seconds
    month_start: Seconds
    renewed_at: Seconds
    settled: Nanos = 0
    wanted: Nanos = 0

    @property
    def key(self) -> SliceKey:
        """The key of the slice in its ledger."""
        return SliceKey(self.holder, self.day_start, self.month_start)


class Credit(StrictStruct, frozen=True):
    """Money beyond the limits of day and month, until a time.

    `spent` is what is committed on it: settled, or in open slices. `id` is the identity of the override that it stands
    for. An amount of 0 is an override that was refused, or without `id` a credit that was withdrawn.
    """

    amount: Limit
    until: Seconds
    reason: Text
    given_at: Seconds
    spent: Nanos = 0
    by: Text | None = None
    id: Text | None = None


class BudgetAlert(StrictStruct, frozen=True):
    """A window whose spend has reached a percentage of its limit, with both as they were then."""

    percent: Annotated[int, Meta(ge=1, le=100)]
    period: Period
    window_start: Seconds
    at: Seconds
    spent: Nanos
    limit: Nanos


class RecentSpend(StrictStruct, frozen=True):
    """What was settled in steps of ten minutes, the newest first. `start` is that of the newest one."""

    start: Seconds
    spent: Annotated[tuple[Nanos, ...], Meta(max_length=MAX_STEPS)] = ()


class VelocityAlert(StrictStruct, frozen=True):
    """Ten minutes that cost far more than usual: what was settled, and the median of the last day, at that moment."""

    window_start: Seconds
    at: Seconds
    spent: Nanos
    median: Nanos


class Exhausted(StrictStruct, frozen=True):
    """The refusal of a request for lack of money; `refused` is the smallest worst case that was refused."""

    at: Seconds
    period: Period
    refused: Limit
    holder: Holder


class Ledger(StrictStruct, frozen=True):
    """One ledger: the present day and month, the open slices, and the closed windows, newest first.

    `rate` is the last minute in which an agent with `rateLimits` has called. It has nothing to do with money.

    `Ledger()` is a new one, whose object has an empty status.
    """

    day: LedgerWindow = LedgerWindow()
    month: LedgerWindow = LedgerWindow()
    slices: Annotated[tuple[Slice, ...], Meta(max_length=MAX_SLICES)] = ()
    credit: Credit | None = None
    days: Annotated[tuple[LedgerWindow, ...], Meta(max_length=MAX_DAYS)] = ()
    months: Annotated[tuple[LedgerWindow, ...], Meta(max_length=MAX_MONTHS)] = ()
    alerts: Annotated[tuple[BudgetAlert, ...], Meta(max_length=MAX_ALERTS)] = ()
    exhausted: Exhausted | None = None
    recent: RecentSpend | None = None
    velocity_alerts: Annotated[tuple[VelocityAlert, ...], Meta(max_length=MAX_VELOCITY_ALERTS)] = ()
    tokens: Annotated[tuple[ModelTokens, ...], Meta(max_length=MAX_TOKEN_MODELS)] = ()
    token_alerts: Annotated[tuple[TokenAlert, ...], Meta(max_length=MAX_TOKEN_ALERTS)] = ()
    rate: MinuteRate = MinuteRate()

    def window(self, period: Period) -> LedgerWindow:
        """Return the present window of this length."""
        return self.day if period == "day" else self.month

    def closed(self, period: Period) -> tuple[LedgerWindow, ...]:
        """Return the closed windows of this length, newest first."""
        return self.days if period == "day" else self.months

    def find(self, key: SliceKey) -> Slice | None:
        """Return the slice with this key."""
        return next((one for one in self.slices if one.key == key), None)

    def present_key(self, holder: str) -> SliceKey:
        """Return the key of a holder's slice of the present day and month."""
        return SliceKey(holder, self.day.start, self.month.start)

    def committed(self, period: Period) -> int:
        """Return what is spent or in open slices in the present window, in nano-dollars."""
        window = self.window(period)
        return window.spent + sum(one.amount for one in self.slices if start_of(one, period) == window.start)


def parse_ledger(status: Any) -> Ledger:
    """Read a ledger from the `status` of its object.

    Args:
        status: The value as the API server has it. None or an empty object is a new ledger.

    Raises:
        LedgerInvalid: Naming the path, such as `slices[0].amount`.
    """
    ledger = parse_part({} if status is None else status, Ledger)
    try:
        _check(ledger)
    except ValueError as error:
        raise LedgerInvalid(str(error)) from None
    return ledger


def parse_part(value: Any, kind: type[Part]) -> Part:
    """Read a part of a ledger, such as a slice, without the rules over several parts.

    Raises:
        LedgerInvalid: Naming the path in the part.
    """
    try:
        return msgspec.convert(_map_times(value, _read_seconds), kind)
    except msgspec.ValidationError as error:
        message, found, path = str(error).rpartition(" - at `$.")
        raise LedgerInvalid(f"{path.removesuffix('`')}: {message}" if found else f"$: {error}") from None
    except ValueError as error:
        raise LedgerInvalid(str(error)) from None
    except (TypeError, OverflowError, RecursionError) as error:  # no JSON of a ledger, or too deep
        raise LedgerInvalid(f"$: {type(error).__name__}: {error}") from None


def dump_ledger(ledger: Ledger) -> dict[str, Any]:
    """Return a ledger as the `status` of its object: a JSON object of its own, which the caller may change."""
    document: dict[str, Any] = _map_times(msgspec.to_builtins(ledger), write_seconds)
    return document


def write_seconds(seconds: int) -> str:
    """Return a time of a ledger, in seconds since the epoch, as its object has it, such as `2026-11-29T00:00:00Z`."""
    return write_time(datetime.fromtimestamp(seconds, UTC), "seconds")


def _read_seconds(text: Any) -> int:
    if not isinstance(text, str) or _TIME.fullmatch(text) is None:
        raise ValueError("$: a time must be written such as 2026-11-29T00:00:00Z")
    return int(datetime.fromisoformat(text).timestamp())


def _map_times(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a JSON value with another form of its times."""
    if isinstance(value, dict):
        return {key: change(item) if key in _TIMES else _map_times(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_times(item, change) for item in value]
    return value


def _check_windows(ledger: Ledger, period: Period) -> None:
    later = ledger.window(period)
    for index, window in enumerate((later, *ledger.closed(period))):
        path = f"{period}s[{index - 1}]" if index else period
        if window.start >= window.end and (index or window.end):
            raise ValueError(f"{path}: must end after its start")
        if window.end - window.start > MAX_SECONDS[period]:
            raise ValueError(f"{path}: must not be longer than {MAX_SECONDS[period] // 3600} hours")
        if index and window.end > later.start:
            raise ValueError(f"{path}: must end before the next one starts")
        later = window


def _check(ledger: Ledger) -> None:
    """Check the rules over several fields.

    Raises:
        ValueError: A rule is broken. The message starts with the path.
    """
    _check_windows(ledger, "day")
    _check_windows(ledger, "month")
    seen = set()
    for index, one in enumerate(ledger.slices):
        if one.key in seen:
            raise ValueError(f"slices[{index}]: the holder has two slices of the same day and month")
        if one.day_start > ledger.day.start or one.month_start > ledger.month.start:
            raise ValueError(f"slices[{index}]: must not be of a later window than the present one")
        seen.add(one.key)
    models = [one.model for one in ledger.tokens]
    if len(models) != len(set(models)):
        raise ValueError("tokens: a model is there twice")
    holders = [one.holder for one in ledger.rate.slices]
    if len(holders) != len(set(holders)):
        raise ValueError("rate.slices: a holder has two slices of the same minute")


def start_of(one: Slice, period: Period) -> int:
    """Return the start of the day or month that a slice belongs to."""
    return one.day_start if period == "day" else one.month_start
