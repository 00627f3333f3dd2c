"""The Events of repeated denials: a guard reports them in its Lease, since it has no right on Events."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from interlock.api.agent import Agent
from interlock.cluster.event_poster import EventPoster
from interlock.deployment.names import ChildKey
from interlock.deployment.plan import LiveChild
from interlock.reconcile.agent_events import EventNote, EventReason
from interlock.reconcile.conditions import printable
from interlock_contract.names import GUARD_LABEL
from interlock_contract.selftest_report import RepeatedDenials, read_denials
from interlock_kube.resource_types import Key

_OLDEST: Final = timedelta(minutes=5)
"""How old a report may be. The Lease keeps the last ones, also across a restart of the operator."""
_MAX_AHEAD: Final = timedelta(minutes=1)
_AGAIN: Final = timedelta(minutes=10)
"""How long the same rule of an Agent gets no other Event, whichever of its guards reports it."""
_MOST_RULES: Final = 64
"""Rules of one Agent that are remembered, and so Events of one Agent in that time. A guard's token can report any."""


class DenialEvents:
    """Posts one Event for each rule of an Agent that denies many requests.

    Args:
        events: Posts Events.
    """

    def __init__(self, events: EventPoster) -> None:
        self._events = events
        self._posted: dict[Key, dict[tuple[str, str, str, bool], datetime]] = {}

    def post(self, agent: Agent, children: Mapping[ChildKey, LiveChild], now: datetime) -> None:
        """Post the Events of the reports in an Agent's Leases that are new."""
        leases = (child.manifest for key, child in children.items() if key.kind == "Lease")
        reports = [one for lease in leases for one in read_denials(lease["metadata"].get("annotations") or {})]
        if not reports:
            return
        posted = self._posted.setdefault((agent.metadata.namespace, agent.metadata.name), {})
        for rule in [rule for rule, at in posted.items() if not timedelta() <= now - at < _AGAIN]:
            del posted[rule]
        for report in reports:
            rule = (report.reason, report.source, report.rule, report.is_audit)
            is_current = -_MAX_AHEAD <= now - report.at <= _OLDEST
            if is_current and rule not in posted and len(posted) < _MOST_RULES:
                posted[rule] = now
                self._events.post(agent, _note(agent, report))

    def forget(self, key: Key) -> None:
        """Forget an Agent that is gone."""
        self._posted.pop(key, None)


def _note(agent: Agent, report: RepeatedDenials) -> EventNote:
    about = [f"reason {report.reason}"]
    about += [f"source {report.source}"] if report.source else []
    about += [f"rule {printable(report.rule)}"] if report.rule else []
    reason = EventReason.REQUESTS_WOULD_BE_DENIED if report.is_audit else EventReason.REQUESTS_DENIED
    passed = "requests within a minute passed in mode Audit, which would have been denied"
    what = passed if report.is_audit else "requests denied within a minute"
    message = (
        f"{report.count} {what}: {', '.join(about)}; run: "
        f"kubectl -n {agent.metadata.namespace} logs -l {GUARD_LABEL}={agent.metadata.name} -c guard"
    )
    return EventNote("Warning", reason, message, key="/".join((*about, report.at.isoformat())))
