"""BudgetLedgers as the API server returns them."""

from datetime import UTC, datetime
from typing import Any

from interlock_notify.alerts import Alert, read_alerts

DAY, NEXT_DAY = "2026-03-02T00:00:00Z", "2026-03-03T00:00:00Z"
AT = "2026-03-02T14:05:00Z"
NOW = datetime(2026, 3, 2, 14, 5, 1, tzinfo=UTC)
UID = "5a0ef5f0-1c5e-4c53-9a0e-000000000001"


def an_entry(percent: Any = 50, **changed: Any) -> dict[str, Any]:
    return {"percent": percent, "period": "day", "windowStart": DAY, "at": AT, **changed}


def a_ledger(*alerts: Any, name: str = "triage.staging", uid: str = UID, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "agents",
            "uid": uid,
            "annotations": {"interlock.dev/owner": "Ada Example ada@example.com"},
        },
        "spec": {"policy": "support", "agent": "triage", "environment": "staging"},
        "status": {
            "day": {"start": DAY, "end": NEXT_DAY, "spent": 25_100_000_000},
            "month": {"start": "2026-03-01T00:00:00Z", "end": "2026-04-01T00:00:00Z", "spent": 30_000_000_000},
            "alerts": list(alerts),
            **status,
        },
    }


def an_alert(number: int = 1, ledger: str = "triage.staging") -> Alert:
    """Return one of many alerts."""
    (found,) = read_alerts(a_ledger(an_entry(), uid=f"{UID[:-4]}{number:04d}", name=ledger), "support")
    return found
