"""The alerts read metrics that programs declare, and lead to pages that exist."""

import re

import pytest

from tests.contract.test_page_links import anchors_of
from tests.integration.tools.alert_cases import CASES
from tools.reference.alerts import ROOT, Alert, read_alerts
from tools.reference.metrics import DECLARING, metrics_of

ALERTS = list(read_alerts())
METRICS = {metric.name: set(metric.labels) for program in DECLARING for metric in metrics_of(program)}
OF_TARGETS = {"namespace"}
"""Labels that the scrape adds."""
BY_PROGRAM = re.compile(r"interlock_(?!guard_|notifier_|budget_)\w+|interlock_budget_holders_closed_total")
"""Metrics that only programs of the namespace interlock-system have, without the namespace of an agent."""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_an_alert_reads_declared_metrics_and_leads_to_a_page(alert: Alert) -> None:
    read = re.findall(r"\b(interlock_\w+)(?:\{([^}]*)\})?", alert.expression)
    assert read
    for name, matchers in read:
        assert set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) <= METRICS[name] | OF_TARGETS
    for names in re.findall(r"\bby \(([^)]*)\)", alert.expression):
        assert {name.strip() for name in names.split(",")} <= set.intersection(*(METRICS[name] for name, _ in read))
    assert alert.severity in {"critical", "warning"}
    assert re.fullmatch(r"[A-Z].*\.", alert.summary)
    assert re.fullmatch(r"[A-Z].*\.", alert.first_step)
    page, _, anchor = alert.runbook.partition("#")
    assert not anchor or anchor in anchors_of(ROOT / page)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_no_pod_of_another_namespace_raises_or_silences_an_alert_about_a_program(alert: Alert) -> None:
    read = re.findall(r"\b(interlock_\w+)(\{[^}]*\})?", alert.expression)
    of_programs = [matchers for name, matchers in read if BY_PROGRAM.fullmatch(name)]
    assert [matchers for matchers in of_programs if 'namespace="interlock-system"' not in matchers] == []


def test_every_alert_has_a_name_of_its_own_and_samples_for_promtool() -> None:
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    assert {alert.name for alert in ALERTS} == set(CASES)
