"""docs/reference/metrics.md, and docs/explanation/tasks.md for tasks, name every metric of every program."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "reference" / "metrics.md", ROOT / "docs" / "explanation" / "tasks.md"]
CODE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "operator").rglob("*.py"))]
WHOLE = re.compile(r"(?:Counter|Gauge|Histogram|render_family)\(\s*\"(interlock_\w+)\"")
PREFIX = re.compile(r"^_PREFIX: Final = \"(interlock_\w+)\"", re.MULTILINE)
SUFFIX = re.compile(r"f\"\{_PREFIX\}(\w+)\"|_(?:gauge|counter)\(\s*\"(\w+)\"")
TABLE = re.compile(r"_METRICS_HELP: Final = \{(.*?)\n\}", re.DOTALL)


def metrics_of_the_code() -> set[str]:
    found = set()
    for text in CODE:
        found |= set(WHOLE.findall(text))
        for prefix in PREFIX.findall(text):
            found |= {f"{prefix}{one or other}" for one, other in SUFFIX.findall(text)}
        for table in TABLE.findall(text):
            found |= {f"interlock_audit_{name}" for name in re.findall(r"^    \"(\w+)\"", table, flags=re.MULTILINE)}
    return found


def test_every_metric_is_on_a_page_and_every_metric_of_the_pages_exists() -> None:
    named = set()
    for page in PAGES:
        named |= set(re.findall(r"\binterlock_\w+", page.read_text(encoding="utf-8")))
    code = metrics_of_the_code()
    assert {
        "interlock_agents",
        "interlock_guard_open",
        "interlock_guard_tasks_total",
        "interlock_audit_stored_total",
    } < code
    assert (code - named, named - code) == (set(), set())
