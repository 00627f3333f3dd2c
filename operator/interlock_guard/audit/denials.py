"""The counter of repeated denials: beyond the first 100 a minute of one rule, denials share one record.

An agent decides how often it is denied. One record each would fill its guard's spool and the collector with nothing
new, so a window of a minute has 100 records of a rule, and then one with the number of the others and their digest.
What is allowed is always recorded one by one. No I/O.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from interlock_contract.audit_chain import DENY
from interlock_contract.selftest_report import RepeatedDenials
from interlock_contract.strict_json import dump_json

RECORDED: Final = 100
"""Denials of one rule in one window that have a record each."""
WINDOW: Final = timedelta(minutes=1)

REPEATED: Final = 10
"""Denials of one rule in one window that a user is told of."""

_FOUND_AGAIN: Final = timedelta(minutes=10)
_MOST_RULES: Final = 1024
_SHARED: Final = ("agent", "namespace", "revision", "stage", "environment")

Rule = tuple[str, str, str]
"""What denied: the reason, the rule, and the source if the bundle has it."""


@dataclass(slots=True)
class _Window:
    began: datetime
    recorded: int = 0
    shared: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    since: str = ""
    until: str = ""
    digest: Any = None


class RepetitionFinder:
    """Finds rules that deny ten requests within a minute, so that a user is told once.

    A rule that goes on is found again after ten minutes. Memory is bounded by the number of rules.
    """

    def __init__(self) -> None:
        self._times: dict[Rule, deque[datetime]] = {}
        self._found_at: dict[Rule, datetime] = {}

    def count(self, rule: Rule, now: datetime) -> RepeatedDenials | None:
        """Count a denial; return the report if it is the tenth within a minute."""
        found_at = self._found_at.get(rule)
        if found_at is not None and timedelta() <= now - found_at < _FOUND_AGAIN:
            return None
        times = self._times.pop(rule, None) or deque(maxlen=REPEATED)
        times.append(now)
        while len(self._times) >= _MOST_RULES:
            del self._times[next(iter(self._times))]  # the one that denied nothing for the longest time
        self._times[rule] = times
        if len(times) < REPEATED or not timedelta() <= now - times[0] <= WINDOW:
            return None
        del self._times[rule]
        while len(self._found_at) >= _MOST_RULES:
            del self._found_at[next(iter(self._found_at))]
        self._found_at[rule] = now
        reason, name, source = rule
        return RepeatedDenials(reason, source, name, REPEATED, now)


class DenialCounter:
    """Counts the denials that have no record of their own."""

    def __init__(self) -> None:
        self._windows: dict[Rule, _Window] = {}

    def count(self, rule: Rule, fields: Mapping[str, Any], now: datetime, time: str) -> bool:
        """Count a denial; return False if it gets a record of its own.

        Args:
            rule: What denied.
            fields: The fields that its record would have.
            now: The time.
            time: The time as records spell it.
        """
        if rule not in self._windows and len(self._windows) >= _MOST_RULES:
            rule = ("", "", "")
        window = self._windows.setdefault(rule, _Window(now))
        if window.recorded < RECORDED:
            window.recorded += 1
            return False
        if not window.count:
            window.shared = {name: fields[name] for name in _SHARED}
            window.since, window.digest = time, hashlib.sha256()
        window.count += 1
        window.until = time
        window.digest.update(dump_json({"time": time, **fields}) + b"\n")
        return True

    def take_ended(self, now: datetime) -> list[dict[str, Any]]:
        """Return the fields of a record for each window that has ended, and forget these windows."""
        ended: list[tuple[Rule, _Window]] = []
        while self._windows:
            rule, window = next(iter(self._windows.items()))  # the oldest one: this runs at each decision
            if window.began <= now < window.began + WINDOW:
                break
            ended.append((rule, self._windows.pop(rule)))
        return _describe(ended)

    def take_all(self) -> list[dict[str, Any]]:
        """Return the fields of a record for each window, and forget all windows."""
        windows, self._windows = self._windows, {}
        return _describe(windows.items())


def _describe(windows: Iterable[tuple[Rule, _Window]]) -> list[dict[str, Any]]:
    return [
        {
            **window.shared,
            "source": source,
            "decision": DENY,
            "reason": reason,
            "rule": rule,
            "count": window.count,
            "since": window.since,
            "until": window.until,
            "digest": window.digest.hexdigest(),
        }
        for (reason, rule, source), window in windows
        if window.count
    ]
