"""Samples for each alert of manifests/components/prometheus-rules: some that fire it, and similar ones that do not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

SYSTEM: Final = 'namespace="interlock-system",pod="interlock-1"'
"""The labels of the operator's target."""
TENANT: Final = 'namespace="team-a",pod="web-1"'
"""The labels of a target that a tenant runs."""
GUARD: Final = 'namespace="agents",pod="triage-1"'
AGENT: Final = 'namespace="agents",policy="support",agent="triage",environment="production"'
TOTAL: Final = 'namespace="agents",policy="support",agent="",environment="production"'
BUDGET: Final = {"namespace": "agents", "policy": "support", "agent": "triage", "environment": "production"}
OPERATOR: Final = {"namespace": "interlock-system", "pod": "interlock-1"}
OF_GUARD: Final = {"namespace": "agents", "pod": "triage-1"}

DAY: Final = 86_400
NOW: Final = 1_790_000_000
"""The time of the first sample, in seconds since 1970."""


@dataclass(frozen=True)
class Case:
    """Samples, one a minute.

    Attributes:
        fires: Samples that fire the alert, by series, in the notation of promtool.
        quiet: Samples that do not.
        labels: The labels of the alert, next to its severity.
        at: The minute at which the alert fires.
        not_yet: A minute at which it does not fire yet, None if it fires at once.
    """

    fires: Mapping[str, str]
    quiet: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    at: int = 10
    not_yet: int | None = None


def _of_program(name: str, fires: str, quiet: str, *, at: int = 10, not_yet: int | None = None) -> Case:
    """Return the case of a metric of a program, which a tenant's pod cannot raise."""
    series = f"interlock_{name}"
    return Case(
        {f"{series}{{{SYSTEM}}}": fires},
        {f"{series}{{{SYSTEM}}}": quiet, f"{series}{{{TENANT}}}": fires},
        OPERATOR,
        at,
        not_yet,
    )


def _of_guard(name: str, fires: str, quiet: str, *, at: int = 10, not_yet: int | None = None) -> Case:
    series = f"interlock_guard_{name}{{{GUARD}}}"
    return Case({series: fires}, {series: quiet}, OF_GUARD, at, not_yet)


def _of_budget(name: str, fires: str, quiet: str) -> Case:
    """Return the case of a metric of budgets. A restart of the operator changes the pod, and not the alert."""
    first, second = (f'interlock_budget_{name}{{{AGENT},pod="{pod}"}}' for pod in ("interlock-1", "interlock-2"))
    return Case({first: f"{fires}x6 stale", second: f"_x6 {fires}x20"}, {first: f"{quiet}x30"}, BUDGET)


CASES: Final[Mapping[str, Case]] = {
    "InterlockKillControllerAway": _of_program("kill_controller_away", "0 1x20", "0x20", at=3, not_yet=1),
    "InterlockOperatorAbsent": Case(
        {f"interlock_agents{{{SYSTEM}}}": "3x3 stale", f"interlock_agents{{{TENANT}}}": "3x30"},
        {f"interlock_agents{{{SYSTEM}}}": "0x30"},
        {"namespace": "interlock-system"},
        at=12,
        not_yet=6,
    ),
    "InterlockClockSkew": _of_program("clock_skew_seconds", "-6x20", "5x20", not_yet=4),
    "InterlockEnforcementLost": _of_program("agents_enforcement_lost", "1x20", "0x20", not_yet=0),
    "InterlockAdmissionPoliciesChanged": _of_program("admission_policies_changed", "-1x20", "0x20", not_yet=4),
    "InterlockGuardUpdatesStopped": Case(
        {f'interlock_guard_updates{{{SYSTEM},state="failed"}}': "1x20"},
        {
            f'interlock_guard_updates{{{SYSTEM},state="failed"}}': "0x30",
            f'interlock_guard_updates{{{SYSTEM},state="waiting"}}': "5x30",
            f'interlock_guard_updates{{{TENANT},state="failed"}}': "1x30",
        },
        OPERATOR | {"state": "failed"},
        not_yet=0,
    ),
    "InterlockReconcileDefect": Case(
        {f'interlock_reconcile_failures_total{{{SYSTEM},kind="Agent",cause="defect"}}': "_x5 1x20"},
        {
            f'interlock_reconcile_failures_total{{{SYSTEM},kind="Agent",cause="unreachable"}}': "0+1x30",
            f'interlock_reconcile_failures_total{{{TENANT},kind="Agent",cause="defect"}}': "0+1x30",
        },
        OPERATOR | {"kind": "Agent", "cause": "defect"},
        not_yet=4,
    ),
    "InterlockObjectsOverBudget": _of_program("objects_over_budget", "2x20", "0x20", not_yet=4),
    "InterlockPricesOld": _of_program(
        "price_book_timestamp_seconds", f"{NOW - 31 * DAY}x90", f"{NOW - 29 * DAY}x90", at=70, not_yet=50
    ),
    "InterlockBudgetExhausted": _of_budget("exhausted", "1", "0"),
    "InterlockBudgetVelocity": _of_budget("velocity_alert_timestamp_seconds", str(NOW - 1800), "0"),
    "InterlockTokensPerByte": _of_budget("tokens_alert_timestamp_seconds", str(NOW - 3600), str(NOW - 2 * DAY)),
    "InterlockBudgetForecast": Case(
        {
            f'interlock_budget_forecast_dollars{{{AGENT},pod="interlock-1"}}': "12x40",
            f'interlock_budget_forecast_dollars{{{TOTAL},pod="interlock-1"}}': "12x40",
            f'interlock_budget_limit_dollars{{{AGENT},period="day",pod="interlock-1"}}': "10x5 stale",
            f'interlock_budget_limit_dollars{{{AGENT},period="day",pod="interlock-2"}}': "_x4 10x40",
            f'interlock_budget_limit_dollars{{{TOTAL},period="day",pod="interlock-2"}}': "100x40",
            f'interlock_budget_limit_dollars{{{AGENT},period="month",pod="interlock-2"}}': "300x40",
        },
        {
            f"interlock_budget_forecast_dollars{{{AGENT}}}": "12x40",
            f'interlock_budget_limit_dollars{{{AGENT},period="day"}}': "12x40",
            f'interlock_budget_limit_dollars{{{AGENT},period="month"}}': "10x40",
        },
        BUDGET,
        at=20,
        not_yet=14,
    ),
    "InterlockBudgetHoldersClosed": _of_program("budget_holders_closed_total", "0x5 1x20", "7x30", not_yet=4),
    "InterlockWebhookFails": Case(
        {f'interlock_notifier_oldest_alert_seconds{{{GUARD},webhook="team"}}': "0+60x20"},
        {f'interlock_notifier_oldest_alert_seconds{{{GUARD},webhook="team"}}': "600x20"},
        OF_GUARD | {"webhook": "team"},
        at=13,
        not_yet=10,
    ),
    "InterlockGuardClosed": Case(
        {f"interlock_guard_open{{{GUARD}}}": "1 0x20", f"interlock_guard_killed{{{GUARD}}}": "0x20"},
        {f"interlock_guard_open{{{GUARD}}}": "0x20", f"interlock_guard_killed{{{GUARD}}}": "1x20"},
        OF_GUARD,
        not_yet=5,
    ),
    "InterlockGuardLedgerAway": _of_guard("budget_away", "1x20", "0x20", not_yet=4),
    "InterlockGuardCosts": Case(
        {f'interlock_guard_cost_alerts_total{{{GUARD},alert="UsageUnknown"}}': "_x5 1x20"},
        {f'interlock_guard_cost_alerts_total{{{GUARD},alert="UsageUnknown"}}': "3x200"},
        OF_GUARD | {"alert": "UsageUnknown"},
        not_yet=4,
    ),
    "InterlockAuditSpoolFills": _of_guard("audit_spool_bytes", "41000000x20", "40000000x20", not_yet=0),
    "InterlockAuditShippingStuck": _of_guard("audit_shipping_stuck", "1x20", "0x20", not_yet=0),
    "InterlockAuditFork": _of_program("audit_forks_total", "0x5 1x20", "7x30", not_yet=4),
    "InterlockAuditQuota": _of_program("audit_quota_alarms", "1x20", "0x20", not_yet=4),
    "InterlockAuditDiskFills": _of_program("audit_disk_free_ratio", "0.19x20", "0.2x20", not_yet=4),
    "InterlockAuditGap": _of_program("audit_declared_gaps_total", "0x5 1x20", "7x30", not_yet=4),
}
"""The samples, by alert."""
QUIET_AT: Final = {"InterlockGuardCosts": 120, "InterlockPricesOld": 80}
"""Minutes at which alerts with a longer memory must be quiet. Others: `QUIET_MINUTE`."""
QUIET_MINUTE: Final = 15
