"""docs/reference/metrics.md has every metric that any program declares, and no other one."""

import re
from pathlib import Path

import pytest

from interlock_contract.exposition import Metric
from tools.reference.metrics import DECLARING, metrics_of
from tools.reference.pages import metrics_page

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
DECLARATION = re.compile(r"\b(?:Counter|Gauge|Histogram|Metric)\(\s*\"(interlock_\w+)\"")


def test_every_metric_of_the_code_is_on_the_page_and_every_metric_of_the_page_exists() -> None:
    code = {
        name
        for path in (ROOT / "operator").rglob("*.py")
        for name in DECLARATION.findall(path.read_text(encoding="utf-8"))
    }
    assert {"interlock_agents", "interlock_guard_open", "interlock_guard_tasks_total"} < code
    assert {metric.name for program in DECLARING for metric in metrics_of(program)} == code
    assert set(re.findall(r"\binterlock_\w+", PAGE)) == code


def test_labels_and_types_are_those_of_the_code() -> None:
    assert "| `interlock_reconciles_total` | counter | `kind`, `result` |" in PAGE
    assert "| `interlock_guard_task_duration_seconds` | histogram | `kind` |" in PAGE


def test_what_is_written_by_hand_stays() -> None:
    assert "## What to alert on" in metrics_page(PAGE)
    assert metrics_page("by hand\n\n").startswith("by hand\n\n<!-- Generated")


def test_a_sample_has_a_value_for_each_label_of_its_metric() -> None:
    metric = Metric("x_total", "counter", "Things.", ("kind", "result"))
    assert metric.render_by([(("a", "b"), 1)])[-1] == 'x_total{kind="a",result="b"} 1'
    with pytest.raises(ValueError, match="shorter"):
        metric.render_by([(("a",), 1)])
