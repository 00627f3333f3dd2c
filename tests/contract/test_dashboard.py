"""The dashboard of spend queries metrics that programs declare, by labels that these metrics have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.reference.metrics import DECLARING, metrics_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "manifests" / "components" / "grafana-dashboard"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "interlock-spend.json").read_text(encoding="utf-8"))
METRICS = {metric.name: set(metric.labels) for program in DECLARING for metric in metrics_of(program)}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]

NAME = re.compile(r"\binterlock_\w+")
MATCHERS = re.compile(r"\b(interlock_\w+)\{([^}]*)\}")
GROUPS = re.compile(r"\bby \(([^)]*)\)")


def unknown_labels(query: str) -> set[str]:
    """Return the labels of a query that one of its metrics lacks."""
    found = set()
    for name, matchers in MATCHERS.findall(query):
        found |= set(re.findall(r"(\w+)(?:=~|!=|=)", matchers)) - METRICS[name]
    for labels in GROUPS.findall(query):
        found |= {label.strip() for label in labels.split(",")} - set.union(
            *(METRICS[name] for name in NAME.findall(query))
        )
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_every_metric_and_label_of_a_query_is_declared(query: str) -> None:
    assert [name for name in NAME.findall(query) if name not in METRICS] == []
    assert unknown_labels(query) == set()


def test_every_panel_has_a_place_and_says_what_it_shows() -> None:
    panels = DASHBOARD["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len({panel["id"] for panel in panels}) == len(set(places)) == len(panels)
    assert all(panel["title"] and panel["description"] for panel in panels)


def test_the_component_has_the_dashboard() -> None:
    text = (FOLDER / "kustomization.yaml").read_text(encoding="utf-8")
    assert f"files: [{FOLDER.joinpath('interlock-spend.json').name}]" in text
    assert 'grafana_dashboard: "1"' in text


def test_a_label_that_no_metric_has_is_found() -> None:
    assert unknown_labels('sum by (owner) (interlock_agents{team="a"})') >= {"owner", "team"}
