"""The alerts, checked and evaluated by Prometheus' own promtool."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tools.alert_cases import CASES, NOW, QUIET_AT, QUIET_MINUTE
from tests.requirements import requirement
from tools.cluster import programs
from tools.machine.process import run
from tools.machine.settings import from_environment
from tools.reference.alerts import Alert, read_alerts, read_groups

pytestmark = [pytest.mark.api, pytest.mark.nightly, pytest.mark.timeout(1800)]  # promtool may have to be built

ALERTS = {alert.name: alert for alert in read_alerts()}


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules, as the Prometheus operator gives them to Prometheus."""
    path = tmp_path_factory.mktemp("rules") / "rules.json"
    path.write_text(json.dumps({"groups": read_groups()}))  # JSON is YAML
    return path


def promtool(*arguments: str | Path) -> str:
    return run([programs.ensure(from_environment(), ["promtool"])["promtool"], *arguments])


@requirement("alerts.rules")
def test_promtool_finds_nothing_wrong(rules: Path) -> None:
    assert f"SUCCESS: {len(ALERTS)} rules found" in promtool("check", "rules", "--lint=all", "--lint-fatal", rules)


@requirement("alerts.rules")
@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_when_it_should_and_only_then(name: str, rules: Path, tmp_path: Path) -> None:
    case, alert = CASES[name], ALERTS[name]
    moments = [(case.at, [firing(alert, case.labels)])]
    if case.not_yet is not None:
        moments.insert(0, (case.not_yet, []))
    groups = [group(name, case.fires, moments), group(name, case.quiet, [(QUIET_AT.get(name, QUIET_MINUTE), [])])]
    file = tmp_path / "tests.json"
    file.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": groups}))
    assert "SUCCESS" in promtool("test", "rules", file)


def firing(alert: Alert, labels: Mapping[str, str]) -> dict[str, Any]:
    """Return the alert as promtool must see it."""
    notes = {"summary": alert.summary, "description": alert.first_step, "runbook": alert.runbook}
    return {"exp_labels": {**labels, "severity": alert.severity}, "exp_annotations": notes}


def group(name: str, series: Mapping[str, str], moments: list[tuple[int, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Return a group of promtool's tests: samples, and the alerts that fire at moments."""
    return {
        "interval": "1m",
        "start_timestamp": str(NOW),
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": alerts} for minute, alerts in moments
        ],
    }
