"""Budget alerts as a BudgetLedger holds them.

They are `status.alerts`, `status.exhausted` as the alert at 100 percent, `status.velocityAlerts` and
`status.tokenAlerts`.

Only the members that a notification needs are read, each by itself. A ledger whose other members are damaged closes
its guards, and its owner must hear of the alerts all the same. Guards write ledgers, and a guard may be hostile: an
alert counts only if its window is one that the ledger has, so that no guard invents them without end. No I/O.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, Final, get_args

from interlock_contract.budget.ledger import MAX_ALERTS, MAX_DAYS, MAX_VELOCITY_ALERTS
from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.tokens_per_byte import MAX_TOKEN_ALERTS, Direction
from interlock_contract.budget.velocity import STEP_SECONDS
from interlock_contract.budget.windows import Period
from interlock_contract.clock import write_time
from interlock_contract.names import OWNER_ANNOTATION, POLICY_SINCE_ANNOTATION

EXHAUSTED: Final = 100
"""Percent at which a budget is spent, and requests are refused."""
CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""How far the clocks of operator and guards may differ: an alert that is so little too old is sent, perhaps twice."""
_LONGEST: Final = 256
"""Longest text of an object that goes into a notification, in characters."""


@dataclass(frozen=True, slots=True)
class ReportedTokens:
    """What a model reported in an hour, and on the day before: tokens, and the bytes that they stand for.

    Attributes:
        model: The model, as provider/model.
        direction: Whether they are tokens of input or of output.
        hour_start: When the hour began.
        tokens: Tokens of the hour.
        size: Bytes that they stand for.
        day_tokens: Tokens of the day before.
        day_size: Bytes that these stand for.
    """

    model: str
    direction: Direction
    hour_start: datetime
    tokens: int
    size: int
    day_tokens: int
    day_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, which each webhook gets once.

    Attributes:
        id: The idempotency key: uid of the ledger, period, start of the window and percent. For an alert of velocity:
            uid of the ledger, `velocity` and start of the ten minutes. For one of tokens: uid, `tokens`, start of the
            day and a digest of the model. It holds no full stop, which separates the parts of the text that is signed.
        ledger: Name of the ledger.
        namespace: Its namespace.
        policy: Name of the AgentPolicy.
        agent: Name of the Agent; empty for the total budget of the policy.
        environment: The environment; empty for the total budget.
        owner: Who answers for the Agent, as the ledger says; empty where it does not.
        percent: The share of the budget that is spent; 0 for an alert of velocity or of tokens.
        period: Whether the budget is that of a day or of a month; None for an alert of velocity or of tokens.
        window_start: When its window began.
        window_end: When its window ends; None where the ledger has another window by now.
        spent: Nano-dollars that are spent of the window; None where they are not known.
        limit: The budget in nano-dollars; None where it is not known.
        at: When the line was crossed.
        median: For an alert of velocity, what ten minutes of the last day usually cost in nano-dollars. Else None.
        reported: For an alert of tokens, what the model reported. Else None.
        digest: The short form of the id that is recorded once the alert is delivered: 96 bits in hexadecimal digits.
    """

    id: str
    ledger: str
    namespace: str
    policy: str
    agent: str
    environment: str
    owner: str
    percent: int
    period: Period | None
    window_start: datetime
    window_end: datetime | None
    spent: int | None
    limit: int | None
    at: datetime
    median: int | None = None
    reported: ReportedTokens | None = None
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the digest once: it is compared at each change of the ledger."""
        object.__setattr__(self, "digest", hashlib.sha256(self.id.encode()).hexdigest()[:24])


_Entry = Mapping[str, Any]
_Reader = Callable[[_Entry, str, _Entry], Alert | None]
"""Returns the alert of an entry, from the object, the policy and the entry; None where the entry is none."""


def read_alerts(found: Mapping[str, Any], policy: str) -> tuple[Alert, ...]:
    """Return the alerts of a BudgetLedger, each once.

    Left out are entries that are no alerts, and alerts from before the ledger came to this policy: they were that of
    another one.

    Args:
        found: The object.
        policy: Name of the AgentPolicy that its label selects. Its spec names the policy that it began under.
    """
    status = _mapping(found.get("status"))
    entries = [(entry, read) for name, (most, read) in _LISTS.items() for entry in _entries(status.get(name), most)]
    exhausted = _mapping(status.get("exhausted"))
    if exhausted:
        window = _mapping(status.get(str(exhausted.get("period"))))
        entries.append(({**exhausted, "percent": EXHAUSTED, "windowStart": window.get("start")}, _read_percent))
    since = read_moment(_mapping(found["metadata"].get("annotations")).get(POLICY_SINCE_ANNOTATION))
    read_all = (read(found, policy, entry) for entry, read in entries)
    known = [alert for alert in read_all if alert is not None and (since is None or alert.at >= since - CLOCKS_DIFFER)]
    return tuple({alert.id: alert for alert in known}.values())


def _read_percent(found: _Entry, policy: str, entry: _Entry) -> Alert | None:
    percent, period = entry.get("percent"), _period(entry.get("period"))
    start, at = read_moment(entry.get("windowStart")), read_moment(entry.get("at"))
    if not isinstance(percent, int) or not _is_percent(percent) or period is None or start is None or at is None:
        return None
    status = _mapping(found.get("status"))
    window = _mapping(status.get(period))
    is_present = read_moment(window.get("start")) == start
    if not _has_window(status, period, start):
        return None
    return Alert(
        id="/".join((str(found["metadata"]["uid"]), period, write_moment(start), str(percent))),
        **_subject(found, policy),
        percent=percent,
        period=period,
        window_start=start,
        window_end=read_moment(window.get("end")) if is_present else None,
        spent=next(filter(_is_amount, (entry.get("spent"), window.get("spent") if is_present else None)), None),
        limit=next(filter(_is_amount, (entry.get("limit"),)), None),
        at=at,
    )


def _read_velocity(found: _Entry, policy: str, entry: _Entry) -> Alert | None:
    start, at = read_moment(entry.get("windowStart")), read_moment(entry.get("at"))
    spent, median = entry.get("spent"), entry.get("median", 0)  # members that are 0 are left out
    if start is None or at is None or not _is_amount(spent) or not _is_amount(median):
        return None
    if start.year == MAXYEAR or start.timestamp() % STEP_SECONDS:  # the end would be no time; no step begins there
        return None
    return Alert(
        id=f"{found['metadata']['uid']}/velocity/{write_moment(start)}",
        **_subject(found, policy),
        percent=0,
        period=None,
        window_start=start,
        window_end=start + timedelta(seconds=STEP_SECONDS),
        spent=spent,
        limit=None,
        at=at,
        median=median,
    )


def _read_tokens(found: _Entry, policy: str, entry: _Entry) -> Alert | None:
    start, hour, at = (read_moment(entry.get(name)) for name in ("windowStart", "hourStart", "at"))
    model = _text(entry.get("model"))
    direction = next((one for one in get_args(Direction) if one == entry.get("direction")), None)
    if start is None or hour is None or at is None or not model or direction is None:
        return None
    counts = (entry.get(name, 0) for name in ("tokens", "bytes", "dayTokens", "dayBytes"))
    tokens, size, day_tokens, day_size = (one if _is_amount(one) else 0 for one in counts)
    if not size or not day_size or not _has_window(_mapping(found.get("status")), "day", start):
        return None
    return Alert(
        id=f"{found['metadata']['uid']}/tokens/{write_moment(start)}/{hashlib.sha256(model.encode()).hexdigest()[:12]}",
        **_subject(found, policy),
        percent=0,
        period=None,
        window_start=start,
        window_end=None,
        spent=None,
        limit=None,
        at=at,
        reported=ReportedTokens(model, direction, hour, tokens, size, day_tokens, day_size),
    )


def _has_window(status: _Entry, period: Period, start: datetime) -> bool:
    """Return True if a day or month that begins then is the present one, or a closed one that the ledger keeps."""
    windows = [_mapping(status.get(period)), *_entries(status.get(f"{period}s"), MAX_DAYS)]
    return any(read_moment(one.get("start")) == start for one in windows)


_LISTS: Final[Mapping[str, tuple[int, _Reader]]] = {
    "alerts": (MAX_ALERTS, _read_percent),
    "velocityAlerts": (MAX_VELOCITY_ALERTS, _read_velocity),
    "tokenAlerts": (MAX_TOKEN_ALERTS, _read_tokens),
}
"""The lists of a ledger's status that hold alerts: how many of the last entries count, and what reads one."""


def _subject(found: _Entry, policy: str) -> dict[str, Any]:
    """Return whose alert it is."""
    metadata, spec = found["metadata"], _mapping(found.get("spec"))
    return {
        "ledger": metadata["name"],
        "namespace": metadata["namespace"],
        "policy": policy,
        "agent": _text(spec.get("agent")),
        "environment": _text(spec.get("environment")),
        "owner": _text(_mapping(metadata.get("annotations")).get(OWNER_ANNOTATION)),
    }


def read_moment(value: Any) -> datetime | None:
    """Return a time in UTC as the ledger has it, None where the value is none."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError):
        return None


def write_moment(moment: datetime) -> str:
    """Return a time in UTC in whole seconds, such as `2026-03-02T00:00:00Z`."""
    return write_time(moment, "seconds")


def _entries(listed: Any, most: int) -> list[_Entry]:
    return [one for one in (listed if isinstance(listed, list) else [])[-most:] if isinstance(one, Mapping)]


def _period(value: Any) -> Period | None:
    return next((one for one in get_args(Period) if one == value), None)


def _is_percent(value: int) -> bool:
    return not isinstance(value, bool) and 1 <= value <= EXHAUSTED


def _is_amount(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_MONEY


def _text(value: Any) -> str:
    """Return a text on one line without control characters, empty where the value is none."""
    if not isinstance(value, str):
        return ""
    return "".join(character if character.isprintable() else " " for character in value[:_LONGEST]).strip()


def _mapping(value: Any) -> _Entry:
    return value if isinstance(value, Mapping) else {}
