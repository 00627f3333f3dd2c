"""The alerts of manifests/components/prometheus-rules, as the table of docs/reference/metrics.md."""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "manifests" / "components" / "prometheus-rules" / "prometheus-rules.yaml"
_PAGE_FOLDER: Final = "docs/reference"


@dataclass(frozen=True)
class Alert:
    """One alert.

    Attributes:
        name: Its name.
        expression: The query that has results while something is wrong.
        wait: How long it must have them, such as `5m`, empty for no time.
        severity: `critical` or `warning`.
        summary: What is wrong.
        first_step: What to do first.
        runbook: The page that says more, by its path in the repository, with an anchor.
    """

    name: str
    expression: str
    wait: str
    severity: str
    summary: str
    first_step: str
    runbook: str


def read_groups() -> list[dict[str, Any]]:
    """Return the groups of rules, as Prometheus reads them."""
    found: dict[str, Any] = yaml.load(RULES.read_text(encoding="utf-8"), yaml.CSafeLoader)
    groups: list[dict[str, Any]] = found["spec"]["groups"]
    return groups


def read_alerts() -> Iterator[Alert]:
    """Yield every alert, in the order of the file."""
    for group in read_groups():
        for rule in group["rules"]:
            notes = rule["annotations"]
            yield Alert(
                name=rule["alert"],
                expression=rule["expr"],
                wait=rule.get("for", ""),
                severity=rule["labels"]["severity"],
                summary=notes["summary"],
                first_step=notes["description"],
                runbook=notes["runbook"],
            )


def alert_rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| alert | expression | means | first step |"
    yield "|---|---|---|---|"
    for alert in read_alerts():
        kind = f"{alert.severity}, after {alert.wait}" if alert.wait else alert.severity
        step = f"{alert.first_step} [{_title(alert.runbook)}]({_link(alert.runbook)})"
        yield f"| `{alert.name}` ({kind}) | `{_cell(alert.expression)}` | {_cell(alert.summary)} | {_cell(step)} |"


def _title(runbook: str) -> str:
    """Return the title of a page."""
    text = (ROOT / runbook.partition("#")[0]).read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")


def _link(runbook: str) -> str:
    return posixpath.relpath(runbook, _PAGE_FOLDER)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
