"""Budget alerts as a BudgetLedger holds them.

They are `status.alerts`, `status.exhausted` as the alert at 100 percent, and `status.velocityAlerts`.

Only the members that a notification needs are read, each by itself. A ledger whose other members are damaged closes
its guards, and its owner must hear of the alerts all the same. No I/O.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, Final, get_args

from interlock_contract.budget.ledger import MAX_ALERTS, MAX_VELOCITY_ALERTS
from interlock_contract.budget.money import MAX_MONEY
from interlock_contract.budget.velocity import STEP_SECONDS
from interlock_contract.budget.windows import Period
from interlock_contract.names import OWNER_ANNOTATION

EXHAUSTED: Final = 100
"""Percent at which a budget is spent, and requests are refused."""
_LONGEST: Final = 256
"""Longest text of an object that goes into a notification, in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, which each webhook gets once.

    Attributes:
        id: The idempotency key: uid of the ledger, period, start of the window and percent. For an alert of velocity:
            uid of the ledger, `velocity` and start of the ten minutes. It holds no full stop, which separates the parts
            of the text that is signed.
        ledger: Name of the ledger.
        namespace: Its namespace.
        policy: Name of the AgentPolicy.
        agent: Name of the Agent; empty for the total budget of the policy.
        environment: The environment; empty for the total budget.
        owner: Who answers for the Agent, as the ledger says; empty where it does not.
        percent: The share of the budget that is spent; 0 for an alert of velocity.
        period: Whether the budget is that of a day or of a month; None for an alert of velocity.
        window_start: When its window began.
        window_end: When its window ends; None where the ledger has another window by now.
        spent: Nano-dollars that are spent of the window; None where they are not known.
        limit: The budget in nano-dollars; None where it is not known.
        at: When the line was crossed.
        median: For an alert of velocity, what ten minutes of the last day usually cost in nano-dollars. Else None.
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

    @property
    def digest(self) -> str:
        """The short form of the id that is recorded once the alert is delivered: 96 bits in hexadecimal digits."""
        return hashlib.sha256(self.id.encode()).hexdigest()[:24]


def read_alerts(found: Mapping[str, Any], policy: str) -> tuple[Alert, ...]:
    """Return the alerts of a BudgetLedger, each once. Entries that are no alerts are left out.

    Args:
        found: The object.
        policy: Name of the AgentPolicy that its label selects. Its spec names the policy that it began under.
    """
    status = _mapping(found.get("status"))
    entries = _entries(status.get("alerts"), MAX_ALERTS)
    exhausted = _mapping(status.get("exhausted"))
    if exhausted:
        window = _mapping(status.get(str(exhausted.get("period"))))
        entries.append({**exhausted, "percent": EXHAUSTED, "windowStart": window.get("start")})
    fast = _entries(status.get("velocityAlerts"), MAX_VELOCITY_ALERTS)
    read = [_read(found, policy, status, entry) for entry in entries]
    read += [_read_velocity(found, policy, entry) for entry in fast]
    return tuple({alert.id: alert for alert in read if alert is not None}.values())


def _entries(listed: Any, most: int) -> list[Mapping[str, Any]]:
    return [one for one in (listed if isinstance(listed, list) else [])[-most:] if isinstance(one, Mapping)]


def _read_velocity(found: Mapping[str, Any], policy: str, entry: Mapping[str, Any]) -> Alert | None:
    start, at = read_moment(entry.get("windowStart")), read_moment(entry.get("at"))
    spent, median = entry.get("spent"), entry.get("median", 0)  # members that are 0 are left out
    if start is None or at is None or not _is_amount(spent) or not _is_amount(median):
        return None
    if start.year == MAXYEAR:  # the end would be no time, and a guard writes what it likes
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


def _subject(found: Mapping[str, Any], policy: str) -> dict[str, Any]:
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


def _read(found: Mapping[str, Any], policy: str, status: Mapping[str, Any], entry: Mapping[str, Any]) -> Alert | None:
    percent, period = entry.get("percent"), _period(entry.get("period"))
    start, at = read_moment(entry.get("windowStart")), read_moment(entry.get("at"))
    if not isinstance(percent, int) or not _is_percent(percent) or period is None or start is None or at is None:
        return None
    window = _mapping(status.get(period))
    is_present = read_moment(window.get("start")) == start
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


def read_moment(value: Any) -> datetime | None:
    """Return a time in UTC as the ledger has it, None where the value is none."""
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo is not None else None
    except (ValueError, TypeError, OverflowError):
        return None


def write_moment(moment: datetime) -> str:
    """Return a time in UTC in whole seconds, such as `2026-03-02T00:00:00Z`."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


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


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
