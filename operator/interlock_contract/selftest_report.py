"""The report of a guard's self-test: an annotation of the placement's Lease, by pod.

A Lease is small and watched by label, and the guard does not obey it. A holder of the guard's token can therefore
falsify the report of this pod, and change nothing else. No I/O.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from interlock_contract.clock import read_time, write_time
from interlock_contract.names import DENIALS_PREFIX, DRIFT_PREFIX, SELFTEST_PREFIX
from interlock_contract.strict_json import JsonInvalid, parse_json

MAX_REPORTS: Final = 256
"""More than an agent can have pods; the oldest above it are those of pods that are gone."""

DROPPED_SUFFIX: Final = "/messages"
"""Added to the name of a binding in a report of changes: not its tools have changed, but many messages of its server
were dropped. No binding has such a name."""
_MAX_FLAW: Final = 512
_MAX_RULE: Final = 512
_MAX_DIGITS: Final = 9
_AUDIT: Final = " Audit"
_WORD: Final = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]{0,62}|-")
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VALUE: Final = 16 * 1024
"""Most characters of an annotation's value that are read. An agent has 32 sources, and a name has 253 characters."""
_MAX_DEPTH: Final = 1
_MAX_AHEAD: Final = timedelta(minutes=1)
"""How far a guard's clock may be ahead. A report of a later time would hide all honest ones."""


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """The result of one guard's self-test of one bundle.

    Attributes:
        bundle: Digest of the bundle's text.
        calls: How many synthetic calls were refused as they had to be.
        flaw: What was not; empty where all were.
    """

    bundle: str
    calls: int
    flaw: str = ""


def dump_report(report: SelfTestReport, at: datetime) -> str:
    """Return the annotation's value."""
    said = {
        "at": _moment(at),
        "bundle": report.bundle,
        "calls": report.calls,
    }
    flaw = {"flaw": report.flaw[:_MAX_FLAW]} if report.flaw else {}
    return json.dumps(said | flaw, separators=(",", ":"), sort_keys=True)


def parse_report(text: str) -> SelfTestReport | None:
    """Return what an annotation's value says; None where it is none of ours."""
    said = _read_object(text)
    bundle, calls, flaw = said.get("bundle"), said.get("calls"), said.get("flaw", "")
    if not isinstance(bundle, str) or type(calls) is not int or not isinstance(flaw, str):
        return None
    return SelfTestReport(bundle, calls, flaw[:_MAX_FLAW])


def read_reports(annotations: Mapping[str, str]) -> dict[str, SelfTestReport]:
    """Return what the guards say, by the names of their pods."""
    said = {
        key.removeprefix(SELFTEST_PREFIX): parse_report(text)
        for key, text in annotations.items()
        if key.startswith(SELFTEST_PREFIX)
    }
    return {pod: report for pod, report in said.items() if report is not None}


def dump_drifts(drifts: Mapping[str, datetime]) -> str:
    """Return the annotation's value for what a guard has found: when, by binding."""
    return json.dumps({binding: _moment(at) for binding, at in drifts.items()}, separators=(",", ":"), sort_keys=True)


def read_drifts(annotations: Mapping[str, str], now: datetime) -> dict[str, datetime]:
    """Return when guards have found tools of a binding changed, the last time that any of them says.

    A name with `DROPPED_SUFFIX` says when they dropped many messages of the binding's server.

    Args:
        annotations: Those of the Lease.
        now: The time. Later ones by more than a minute are ignored: a guard with a wrong clock hides no other's report.
    """
    found: dict[str, datetime] = {}
    for key, text in annotations.items():
        if key.startswith(DRIFT_PREFIX):
            for binding, at in _drifts_in(text).items():
                if at - now <= _MAX_AHEAD:
                    found[binding] = max(at, found.get(binding, at))
    return found


@dataclass(frozen=True, slots=True)
class RepeatedDenials:
    """Many denials of one rule within a minute, or requests that it would have denied.

    Attributes:
        reason: The reason of the denials.
        source: The source that they were for; empty if the bundle has none of that name.
        rule: What would have to change; empty where nothing would help.
        count: How many there were.
        at: When the last of them was, by the guard's clock.
        is_audit: Whether they passed, since the source is in mode `Audit`.
    """

    reason: str
    source: str
    rule: str
    count: int
    at: datetime
    is_audit: bool = False


def dump_denials(denials: Iterable[RepeatedDenials]) -> str:
    """Return the annotation's value for repeated denials: `{"<reason> <source or -> <rule>": "<time> <count>"}`.

    For requests that passed in mode `Audit`, ` Audit` stands at the end. An earlier operator takes that for no report.
    """
    said = {
        f"{one.reason} {one.source or '-'} {one.rule[:_MAX_RULE]}": f"{_moment(one.at)} {one.count}"
        + (_AUDIT if one.is_audit else "")
        for one in denials
    }
    return json.dumps(said, separators=(",", ":"), sort_keys=True)


def read_denials(annotations: Mapping[str, str]) -> list[RepeatedDenials]:
    """Return the repeated denials that guards report. What is no such report is left out."""
    texts = [text for key, text in sorted(annotations.items()) if key.startswith(DENIALS_PREFIX)]
    read = (_read_denial(key, value) for text in texts for key, value in _read_object(text).items())
    return [one for one in read if one is not None]


def _read_denial(key: str, value: Any) -> RepeatedDenials | None:
    reason, _, rest = key.partition(" ")
    source, _, rule = rest.partition(" ")
    if not isinstance(value, str) or not all(_WORD.fullmatch(one) for one in (reason, source)):
        return None
    time, _, count = value.removesuffix(_AUDIT).partition(" ")
    at = read_time(time, _NEVER)
    if at.tzinfo is None or at == _NEVER or not (count.isascii() and count.isdecimal() and len(count) <= _MAX_DIGITS):
        return None
    source = "" if source == "-" else source
    return RepeatedDenials(reason, source, rule[:_MAX_RULE], int(count), at, is_audit=value.endswith(_AUDIT))


def find_surplus(annotations: Mapping[str, str], own: str, prefix: str = SELFTEST_PREFIX) -> list[str]:
    """Return the keys of the oldest annotations of a kind above the number that is kept, never the pod's own."""
    others = sorted((text, key) for key, text in annotations.items() if key.startswith(prefix) and key != own)
    return [key for _, key in others[: max(0, len(others) + 1 - MAX_REPORTS)]]


def _drifts_in(text: str) -> dict[str, datetime]:
    try:
        moments = {binding: datetime.fromisoformat(at) for binding, at in _read_object(text).items()}
    except (ValueError, TypeError):
        return {}
    return {binding: at for binding, at in moments.items() if at.tzinfo is not None}


def _read_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an annotation's value holds; empty where the value is none, too long or too deep."""
    if len(text) > _MAX_VALUE:
        return {}
    try:
        said = parse_json(text, max_depth=_MAX_DEPTH)
    except JsonInvalid:
        return {}
    return said if isinstance(said, dict) else {}


def _moment(at: datetime) -> str:
    return write_time(at, "milliseconds")
